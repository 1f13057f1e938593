//! What commands that change objects share: dry runs, parameters, messages.

use crate::cli::Call;
use crate::discovery::Mapping;
use crate::error::{Error, Result};
use crate::resource::Info;
use crate::rest::{Rest, with_query};
use serde_json::{Value, json};

/// `--dry-run`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    /// For real.
    #[default]
    None,
    /// Nothing is sent.
    Client,
    /// Sent, not stored.
    Server,
}

impl DryRun {
    /// From the flag.
    pub fn from_call(call: &Call) -> Result<Self> {
        match call.flags.opt("dry-run").unwrap_or("none") {
            "none" | "" => Ok(Self::None),
            "client" => Ok(Self::Client),
            "server" => Ok(Self::Server),
            "unchanged" => Err(Error::new(
                "--dry-run flag without a value was specified. A value must be set: \"none\", \"server\", or \"client\".",
            )),
            other => Err(Error::new(format!(
                "Invalid dry-run value ({other}). Must be \"none\", \"server\", or \"client\"."
            ))),
        }
    }
    /// What messages end with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

/// Parameters of a write.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// Dry run.
    pub dry: DryRun,
    /// `fieldManager`.
    pub manager: String,
    /// `fieldValidation`.
    pub validation: &'static str,
}

impl Write {
    /// From the flags that the command has.
    pub fn from_call(call: &Call, manager: &str) -> Result<Self> {
        Ok(Self {
            dry: DryRun::from_call(call)?,
            manager: call.flags.given("field-manager").unwrap_or(manager).to_owned(),
            validation: validation(call)?,
        })
    }

    /// As query parameters.
    pub fn params(&self) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        if self.dry == DryRun::Server {
            out.push(("dryRun", "All".to_owned()));
        }
        if !self.manager.is_empty() {
            out.push(("fieldManager", self.manager.clone()));
        }
        if !self.validation.is_empty() {
            out.push(("fieldValidation", self.validation.to_owned()));
        }
        out
    }

    /// Creates an object.
    pub async fn create(&self, rest: &Rest, info: &Info) -> Result<Value> {
        rest.post(&with_query(&info.collection(), &self.params()), &info.object)
            .await
    }

    /// Replaces an object.
    pub async fn update(&self, rest: &Rest, info: &Info, subresource: &str) -> Result<Value> {
        rest.put(
            &with_query(&info.sub_path(subresource), &self.params()),
            &info.object,
        )
        .await
    }

    /// Patches an object.
    pub async fn patch(
        &self,
        rest: &Rest,
        info: &Info,
        subresource: &str,
        kind: &str,
        patch: &Value,
    ) -> Result<Value> {
        let path = with_query(&info.sub_path(subresource), &self.params());
        rest.patch(&path, kind, serde_json::to_vec(patch)?).await
    }
}

/// `--validate`.
pub fn validation(call: &Call) -> Result<&'static str> {
    match call.flags.opt("validate") {
        None => Ok(""),
        Some("true" | "strict") => Ok("Strict"),
        Some("false" | "ignore") => Ok("Ignore"),
        Some("warn") => Ok("Warn"),
        Some(other) => Err(Error::new(format!(
            "invalid - validate option {}; must be one of: strict (or true), warn, ignore (or false)",
            crate::error::go_quote(other)
        ))),
    }
}

/// The annotation that `apply` keeps its manifest in.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The annotation that says why a rollout was made.
pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// The object as `apply` remembers it.
pub fn last_applied_text(object: &Value) -> String {
    let mut clean = object.clone();
    if clean["metadata"]["annotations"].is_null() {
        clean["metadata"]["annotations"] = json!({});
    }
    if let Some(annotations) = clean["metadata"]["annotations"].as_object_mut() {
        annotations.remove(LAST_APPLIED);
    }
    format!("{}\n", crate::print::json::compact(&clean))
}

/// Writes the object into its own annotation.
pub fn annotate_applied(object: &mut Value) {
    let text = last_applied_text(object);
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    object["metadata"]["annotations"][LAST_APPLIED] = Value::from(text);
}

/// Saves the object in its annotation if `--save-config` asks for it, or renews it where it is there already.
pub fn save_config(call: &Call, object: &mut Value) {
    let there = object["metadata"]["annotations"][LAST_APPLIED].is_string();
    if call.flags.opt_bool("save-config") || there {
        annotate_applied(object);
    }
}

/// What `--record` writes.
pub fn record(call: &Call, object: &mut Value) {
    if !call.flags.opt_bool("record") {
        return;
    }
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    object["metadata"]["annotations"][CHANGE_CAUSE] = Value::from(change_cause());
    crate::errln!("Flag --record has been deprecated, --record will be removed in the future");
}

/// The command line as it is recorded.
pub fn change_cause() -> String {
    let args: Vec<String> = std::env::args().skip(1).collect();
    format!("{} {}", crate::cli::PROGRAM, args.join(" "))
}

/// A kind's resource, or an error that names it.
pub fn mapping_of(
    discovery: &crate::discovery::Discovery,
    api_version: &str,
    kind: &str,
) -> Result<std::rc::Rc<Mapping>> {
    discovery.by_kind(api_version, kind).ok_or_else(|| {
        Error::new(format!(
            "no matches for kind \"{kind}\" in version \"{api_version}\""
        ))
    })
}
