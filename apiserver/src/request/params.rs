//! Query parameters and options of API calls, checked.

use crate::streaming::target::Query;
use rutter_api::object::ObjectExt;
use rutter_api::schema::FieldValidation;
use rutter_api::{FieldError, GroupKind, Path, StatusError, Value};
use serde_json::json;

/// `resourceVersionMatch`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Match {
    /// Not given.
    #[default]
    Unset,
    /// `Exact`
    Exact,
    /// `NotOlderThan`
    NotOlderThan,
}

/// What a list or watch asks for.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// `labelSelector`
    pub labels: String,
    /// `fieldSelector`
    pub fields: String,
    /// `resourceVersion`
    pub version: String,
    /// `resourceVersionMatch`
    pub matching: Match,
    /// `limit`
    pub limit: usize,
    /// `continue`
    pub token: String,
    /// `allowWatchBookmarks`
    pub bookmarks: bool,
    /// `sendInitialEvents`
    pub initial_events: Option<bool>,
    /// `timeoutSeconds`
    pub timeout_seconds: Option<u64>,
}

impl ListOptions {
    /// Reads and checks the parameters of a list, or of a watch.
    pub fn read(query: &Query, watch: bool) -> Result<Self, StatusError> {
        let text = |key: &str| query.first(key).unwrap_or_default().to_owned();
        let mut errors = Vec::new();
        let matching = match query.first("resourceVersionMatch").unwrap_or_default() {
            "" => Match::Unset,
            "Exact" => Match::Exact,
            "NotOlderThan" => Match::NotOlderThan,
            other => {
                let path = Path::new("resourceVersionMatch");
                errors.push(FieldError::not_supported(
                    &path,
                    other,
                    &["Exact", "NotOlderThan", ""],
                ));
                Match::Unset
            }
        };
        let options = Self {
            labels: text("labelSelector"),
            fields: text("fieldSelector"),
            version: text("resourceVersion"),
            matching,
            limit: number(query, "limit")?.unwrap_or(0).max(0) as usize,
            token: text("continue"),
            bookmarks: query.flag("allowWatchBookmarks"),
            initial_events: query
                .first("sendInitialEvents")
                .map(|_| query.flag("sendInitialEvents")),
            timeout_seconds: number(query, "timeoutSeconds")?.map(|n| n.max(0).unsigned_abs()),
        };
        options.check(watch, &mut errors);
        if errors.is_empty() {
            return Ok(options);
        }
        Err(StatusError::invalid(
            &GroupKind::new("meta.k8s.io", "ListOptions"),
            "",
            &errors,
        ))
    }

    fn check(&self, watch: bool, errors: &mut Vec<FieldError>) {
        let matching = Path::new("resourceVersionMatch");
        if watch {
            match (self.initial_events, self.matching) {
                (Some(_), Match::NotOlderThan) | (None, Match::Unset) => {}
                (None, _) => errors.push(FieldError::forbidden(
                    &matching,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                )),
                (Some(_), _) => errors.push(FieldError::forbidden(
                    &matching,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                )),
            }
            return;
        }
        if self.initial_events.is_some() {
            errors.push(FieldError::forbidden(
                &Path::new("sendInitialEvents"),
                "sendInitialEvents is forbidden for list",
            ));
        }
        if self.matching == Match::Unset {
            return;
        }
        if self.version.is_empty() {
            errors.push(FieldError::forbidden(
                &matching,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if !self.token.is_empty() {
            errors.push(FieldError::forbidden(
                &matching,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if self.matching == Match::Exact && self.version == "0" {
            errors.push(FieldError::forbidden(
                &matching,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
    }

    /// The resource version as a number; none when it isn't given.
    pub fn revision(&self) -> Result<Option<u64>, StatusError> {
        parse_version(&self.version)
    }
}

/// A resource version as a number.
pub fn parse_version(text: &str) -> Result<Option<u64>, StatusError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        StatusError::bad_request(format!(
            "Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

fn number(query: &Query, key: &str) -> Result<Option<i64>, StatusError> {
    match query.first(key) {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            StatusError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        }),
    }
}

/// What a create, update, patch or apply asks for besides its object.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// `dryRun=All`
    pub dry_run: bool,
    /// `fieldManager`
    pub manager: String,
    /// `fieldValidation`
    pub validation: FieldValidation,
    /// `force`, for apply.
    pub force: Option<bool>,
    /// The same as an options object, for admission.
    pub object: Value,
}

impl WriteOptions {
    /// Reads and checks the parameters; `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub fn read(query: &Query, kind: &str) -> Result<Self, StatusError> {
        let mut errors = Vec::new();
        let dry: Vec<&str> = query.all("dryRun").filter(|text| !text.is_empty()).collect();
        let path = Path::new("dryRun");
        for text in &dry {
            if *text != "All" {
                errors.push(FieldError::not_supported(&path, json!(dry), &["All"]));
                break;
            }
        }
        let manager = query.first("fieldManager").unwrap_or_default().to_owned();
        errors.extend(rutter_api::validation::field_manager(
            &Path::new("fieldManager"),
            &manager,
        ));
        let validation = match query.first("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            "Ignore" => FieldValidation::Ignore,
            other => {
                let supported = ["Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported(
                    &Path::new("fieldValidation"),
                    other,
                    &supported,
                ));
                FieldValidation::Warn
            }
        };
        if !errors.is_empty() {
            return Err(StatusError::invalid(
                &GroupKind::new("meta.k8s.io", kind),
                "",
                &errors,
            ));
        }
        let mut object = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if !manager.is_empty() {
            object.set("fieldManager", manager.as_str());
        }
        if !dry.is_empty() {
            object.set("dryRun", json!(["All"]));
        }
        if let Some(text) = query.first("fieldValidation").filter(|text| !text.is_empty()) {
            object.set("fieldValidation", text);
        }
        let force = query.first("force").map(|_| query.flag("force"));
        if let Some(force) = force {
            object.set("force", force);
        }
        Ok(Self {
            dry_run: !dry.is_empty(),
            manager,
            validation,
            force,
            object,
        })
    }
}

/// What happens to dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are left alone.
    Orphan,
    /// They are deleted later.
    Background,
    /// They are deleted first.
    Foreground,
}

/// `DeleteOptions`
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// `gracePeriodSeconds`
    pub grace: Option<i64>,
    /// `propagationPolicy` or the older `orphanDependents`.
    pub propagation: Option<Propagation>,
    /// `preconditions.uid`
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`
    pub version: Option<String>,
    /// `dryRun=All`
    pub dry_run: bool,
    /// As sent, for admission.
    pub object: Value,
}

impl DeleteOptions {
    /// Reads the body's `DeleteOptions` (null when there is no body), or else the query.
    pub fn read(query: &Query, body: Value) -> Result<Self, StatusError> {
        let mut object = body;
        if object.is_null() {
            object = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
            if let Some(seconds) = number(query, "gracePeriodSeconds")? {
                object.set("gracePeriodSeconds", seconds);
            }
            if let Some(policy) = query.first("propagationPolicy") {
                object.set("propagationPolicy", policy);
            }
            if query.first("orphanDependents").is_some() {
                object.set("orphanDependents", query.flag("orphanDependents"));
            }
            let dry: Vec<&str> = query.all("dryRun").filter(|text| !text.is_empty()).collect();
            if !dry.is_empty() {
                object.set("dryRun", json!(dry));
            }
        }
        let mut errors = Vec::new();
        let dry = object.list_at("dryRun");
        if dry.iter().any(|text| text != "All") {
            errors.push(FieldError::not_supported(
                &Path::new("dryRun"),
                json!(dry),
                &["All"],
            ));
        }
        let path = Path::new("propagationPolicy");
        let orphan = object.bool_at("orphanDependents");
        let propagation = match object.str_at("propagationPolicy") {
            "" => orphan.map(|orphan| {
                if orphan {
                    Propagation::Orphan
                } else {
                    Propagation::Background
                }
            }),
            _ if orphan.is_some() => {
                let value = object.at("propagationPolicy").clone();
                let why = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(FieldError::invalid(&path, value, why));
                None
            }
            "Orphan" => Some(Propagation::Orphan),
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            other => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported(&path, other, &supported));
                None
            }
        };
        if !errors.is_empty() {
            let kind = GroupKind::new("meta.k8s.io", "DeleteOptions");
            return Err(StatusError::invalid(&kind, "", &errors));
        }
        let text = |path: &str| object.at(path).as_str().map(str::to_owned);
        Ok(Self {
            grace: object.int_at("gracePeriodSeconds"),
            propagation,
            uid: text("preconditions.uid"),
            version: text("preconditions.resourceVersion"),
            dry_run: !dry.is_empty(),
            object,
        })
    }
}
