//! `PodSecurity`: the three levels of the Pod Security Standards, by labels of the namespace.
//!
//! `enforce` refuses pods; `warn` and `audit` speak about pods and about the templates that pods come from. A namespace whose
//! `enforce` is raised is told which of its pods would be refused.

mod checks;

use super::namespace_lifecycle::find;
use crate::{Attributes, LiveReader, Operation, Plugin, is};
use async_trait::async_trait;
use checks::{Finding, Pod};
use rutter_api::object::ObjectExt;
use rutter_api::{FieldError, GroupResource, ObjectReader, Path, Resource, StatusError, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The newest minor version whose checks are known.
const NEWEST: u32 = 36;
const PREFIX: &str = "pod-security.kubernetes.io/";
/// How many pods of a namespace are looked at when its level is raised.
const MAX_PODS: usize = 3000;

/// A level of the standards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything goes.
    #[default]
    Privileged,
    /// No known way to more privileges.
    Baseline,
    /// Hardened.
    Restricted,
}

impl Level {
    /// Reads a label's value.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// A level as of a minor version of Kubernetes; none for `latest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelVersion {
    /// The level.
    pub level: Level,
    /// The minor version, such as 36.
    pub minor: Option<u32>,
}

impl LevelVersion {
    fn minor(self) -> u32 {
        self.minor.unwrap_or(NEWEST).min(NEWEST)
    }
}

/// `baseline:latest`
impl std::fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.minor {
            None => write!(f, "{}:latest", self.level.as_str()),
            Some(minor) => write!(f, "{}:v1.{minor}", self.level.as_str()),
        }
    }
}

/// Reads `latest` or `v1.36`.
fn parse_version(text: &str) -> Option<Option<u32>> {
    match text {
        "latest" => Some(None),
        _ => {
            let minor = text.strip_prefix("v1.")?;
            let plain = minor == "0" || !minor.starts_with('0');
            (plain && minor.bytes().all(|b| b.is_ascii_digit()))
                .then(|| minor.parse().ok())
                .flatten()
                .map(Some)
        }
    }
}

/// What holds where a namespace has no labels, and whom no level holds for.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// `defaults.enforce` and `enforce-version`.
    pub enforce: LevelVersion,
    /// `defaults.audit` and `audit-version`.
    pub audit: LevelVersion,
    /// `defaults.warn` and `warn-version`.
    pub warn: LevelVersion,
    /// `exemptions.usernames`
    pub exempt_users: Vec<String>,
    /// `exemptions.namespaces`
    pub exempt_namespaces: Vec<String>,
    /// `exemptions.runtimeClasses`
    pub exempt_runtime_classes: Vec<String>,
}

impl Configuration {
    /// Reads a `PodSecurityConfiguration`; the error says which field is wrong.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let read =
            |mode: &str| -> Result<LevelVersion, String> {
                let (level, key) = (value.at("defaults").str_at(mode), format!("{mode}-version"));
                let version = value.at("defaults").str_at(&key);
                let level = match level {
                    "" => Level::Privileged,
                    text => Level::parse(text)
                        .ok_or_else(|| format!("defaults.{mode}: Invalid value: {text:?}"))?,
                };
                let minor = match version {
                    "" => None,
                    text => parse_version(text)
                        .ok_or_else(|| format!("defaults.{key}: Invalid value: {text:?}"))?,
                };
                Ok(LevelVersion { level, minor })
            };
        let list = |key: &str| -> Vec<String> {
            value
                .at("exemptions")
                .list_at(key)
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        Ok(Self {
            enforce: read("enforce")?,
            audit: read("audit")?,
            warn: read("warn")?,
            exempt_users: list("usernames"),
            exempt_namespaces: list("namespaces"),
            exempt_runtime_classes: list("runtimeClasses"),
        })
    }
}

/// The levels of one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    enforce: LevelVersion,
    audit: LevelVersion,
    warn: LevelVersion,
}

/// The plugin.
pub struct PodSecurity {
    reader: Arc<dyn ObjectReader>,
    live: Arc<dyn LiveReader>,
    configuration: Configuration,
}

impl PodSecurity {
    /// Reads namespaces and pods through `reader`.
    pub fn new(
        reader: Arc<dyn ObjectReader>,
        live: Arc<dyn LiveReader>,
        configuration: Configuration,
    ) -> Self {
        Self {
            reader,
            live,
            configuration,
        }
    }

    /// The levels that a namespace's labels set, and what is wrong with them. A label that cannot be read means restricted.
    fn policy(&self, namespace: &Value) -> (Policy, Vec<FieldError>) {
        let mut errors = Vec::new();
        let mut read = |mode: &str, default: LevelVersion| {
            let (level_key, version_key) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
            let path = |key: &str| Path::new("metadata").child("labels").key(key);
            let level = namespace.label(&level_key);
            let mut out = default;
            if let Some(text) = level {
                out.minor = None;
                out.level = Level::parse(text).unwrap_or_else(|| {
                    let why = "must be one of privileged, baseline, restricted";
                    errors.push(FieldError::invalid(&path(&level_key), text, why));
                    // What is only said may be too quiet, but what is enforced may not be too lax.
                    if mode == "enforce" {
                        Level::Restricted
                    } else {
                        Level::Privileged
                    }
                });
            }
            if let Some(text) = namespace.label(&version_key) {
                out.minor = parse_version(text).unwrap_or_else(|| {
                    let why = "must be \"latest\" or \"v1.x\"";
                    errors.push(FieldError::invalid(&path(&version_key), text, why));
                    None
                });
            }
            out
        };
        let enforce = read("enforce", self.configuration.enforce);
        let mut warn = read("warn", self.configuration.warn);
        let audit = read("audit", self.configuration.audit);
        // Who enforces more than the default warns about is warned about it too, for templates.
        if namespace.label("pod-security.kubernetes.io/warn").is_none() && enforce.level > warn.level {
            warn = enforce;
        }
        (Policy { enforce, audit, warn }, errors)
    }

    /// What exempts a write, if anything.
    fn exemption(&self, attributes: &Attributes<'_>, spec: &Value) -> Option<&'static str> {
        let has = |list: &[String], item: &str| list.iter().any(|entry| entry == item);
        let class = spec.str_at("runtimeClassName");
        if has(&self.configuration.exempt_namespaces, attributes.namespace) {
            Some("namespace")
        } else if has(&self.configuration.exempt_users, &attributes.user.name) {
            Some("user")
        } else if !class.is_empty() && has(&self.configuration.exempt_runtime_classes, class) {
            Some("runtimeClass")
        } else {
            None
        }
    }

    fn namespace_write(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let (new, errors) = self.policy(&attributes.object);
        let (old, old_errors) = self.policy(attributes.old);
        if errors
            .iter()
            .any(|error| attributes.operation == Operation::Create || !old_errors.contains(error))
        {
            let kind = attributes.resource.group_kind();
            return Err(StatusError::invalid(&kind, attributes.object.name(), &errors));
        }
        let update = attributes.operation == Operation::Update;
        let exempt = self
            .configuration
            .exempt_namespaces
            .iter()
            .any(|name| name == attributes.name);
        if update && !exempt && new.enforce != old.enforce && new.enforce.level > Level::Privileged {
            let warnings = self.survey(attributes.name, new.enforce);
            attributes.warnings.extend(warnings);
        }
        Ok(())
    }

    /// What in a namespace would be refused under another level.
    fn survey(&self, namespace: &str, level: LevelVersion) -> Vec<String> {
        let pods = self.reader.list(&GroupResource::new("", "pods"), Some(namespace));
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in pods.iter().take(MAX_PODS) {
            let findings = evaluate(pod.at("metadata"), pod.at("spec"), level);
            if !findings.is_empty() {
                let reasons: Vec<&str> = findings.iter().map(|f| f.reason.as_str()).collect();
                found
                    .entry(reasons.join(", "))
                    .or_default()
                    .push(pod.name().to_owned());
            }
        }
        if found.is_empty() {
            return Vec::new();
        }
        let mut warnings = vec![format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{level}\""
        )];
        let mut lines: Vec<(String, String)> = found
            .into_iter()
            .map(|(reasons, mut names)| {
                names.sort();
                let others = names.len() - 1;
                let first = names.swap_remove(0);
                let who = match others {
                    0 => first,
                    1 => format!("{first} (and 1 other pod)"),
                    more => format!("{first} (and {more} other pods)"),
                };
                (who, reasons)
            })
            .collect();
        lines.sort();
        warnings.extend(
            lines
                .into_iter()
                .map(|(who, reasons)| format!("{who}: {reasons}")),
        );
        warnings
    }
}

fn evaluate(metadata: &Value, spec: &Value, level: LevelVersion) -> Vec<Finding> {
    checks::evaluate(
        &Pod {
            metadata,
            spec,
            minor: level.minor(),
        },
        level.level,
    )
}

fn describe(findings: &[Finding]) -> String {
    let parts: Vec<String> = findings
        .iter()
        .map(|f| format!("{} ({})", f.reason, f.detail))
        .collect();
    parts.join(", ")
}

/// Where a kind keeps the pods it makes.
fn template(resource: &Resource) -> Option<&'static str> {
    match (resource.group_version.group.as_str(), &*resource.plural) {
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some("spec.template"),
        ("", "podtemplates") => Some("template"),
        ("batch", "cronjobs") => Some("spec.jobTemplate.spec.template"),
        _ => None,
    }
}

/// Whether an update changes anything that a check looks at; the image's name is nothing of that.
fn is_significant(pod: &Value, old: &Value) -> bool {
    let strip = |pod: &Value| {
        let mut spec = pod.at("spec").clone();
        for list in super::CONTAINERS {
            for container in spec.list_at_mut(list).into_iter().flatten() {
                container.take_at("image");
            }
        }
        for field in [
            "tolerations",
            "activeDeadlineSeconds",
            "terminationGracePeriodSeconds",
            "schedulingGates",
            "nodeSelector",
            "affinity",
        ] {
            spec.take_at(field);
        }
        spec
    };
    let marks = |pod: &Value| {
        let mut all = pod.map_at("metadata.annotations").cloned().unwrap_or_default();
        all.retain(|key, _| key.contains("seccomp.security.alpha") || key.contains("apparmor.security.beta"));
        all
    };
    strip(pod) != strip(old) || marks(pod) != marks(old)
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        let pods = is(resource, "", "pods") && matches!(subresource, "" | "ephemeralcontainers");
        let whole =
            subresource.is_empty() && (is(resource, "", "namespaces") || template(resource).is_some());
        matches!(operation, Operation::Create | Operation::Update) && (pods || whole)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        if attributes.is("", "namespaces") {
            return self.namespace_write(attributes);
        }
        let path = template(attributes.resource);
        let of = path.map_or(&attributes.object, |path| attributes.object.at(path));
        if let Some(why) = self.exemption(attributes, of.at("spec")) {
            attributes.annotate("pod-security.kubernetes.io/exempt", why);
            return Ok(());
        }
        if path.is_none()
            && attributes.operation == Operation::Update
            && !is_significant(&attributes.object, attributes.old)
        {
            return Ok(());
        }
        let namespace = find(&*self.reader, &*self.live, attributes.namespace).await?;
        let (policy, _) = self.policy(&namespace);
        let (metadata, spec) = (of.at("metadata"), of.at("spec"));
        let said = |level: LevelVersion, findings: &[Finding]| {
            format!("would violate PodSecurity \"{level}\": {}", describe(findings))
        };
        let findings = evaluate(metadata, spec, policy.audit);
        if !findings.is_empty() {
            let text = said(policy.audit, &findings);
            attributes
                .annotations
                .push(("pod-security.kubernetes.io/audit-violations".to_owned(), text));
        }
        if path.is_none() {
            let enforced = policy.enforce.to_string();
            attributes
                .annotations
                .push(("pod-security.kubernetes.io/enforce-policy".to_owned(), enforced));
            let findings = evaluate(metadata, spec, policy.enforce);
            if !findings.is_empty() {
                let why = format!(
                    "violates PodSecurity \"{}\": {}",
                    policy.enforce,
                    describe(&findings)
                );
                return Err(attributes.forbidden(why));
            }
        }
        let findings = evaluate(metadata, spec, policy.warn);
        if !findings.is_empty() {
            attributes.warnings.push(said(policy.warn, &findings));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
