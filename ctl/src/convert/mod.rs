//! Manifests of older eras, rewritten for the versions that are served now.
//!
//! Pure: an object goes in; the rewritten object comes out, with a note for each thing that couldn't be carried over or
//! was decided on the way. Defaults that changed between the versions are written out, so that the object means what it
//! meant. What the versions are is said by [`rutter_api::removed`].

mod admission;
mod autoscaling;
mod definition;
mod fields;
mod misc;
mod network;
mod pod;
mod workload;

use fields::Edit;
use rutter_api::removed::{self, Removed};
use serde_json::{Value, json};

/// What became of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// The object in its new version.
    pub object: Value,
    /// What a person has to know about it.
    pub notes: Vec<Note>,
}

/// Something about one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where, such as `spec.rollbackTo`.
    pub path: String,
    /// What was done about it.
    pub text: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// Rewrites an object for the version that replaced its own, or for `wanted` if that is given.
///
/// An object in a version that is still served comes back as it is.
///
/// # Errors
///
/// What to do instead, where nothing replaced the kind or `wanted` isn't a version it can have.
pub fn convert(object: Value, wanted: Option<&str>) -> Result<Converted, String> {
    let (version, kind) = (text(&object, "apiVersion"), text(&object, "kind"));
    let Some(entry) = entry(&version, &kind) else {
        return current(object, &version, &kind, wanted);
    };
    if entry.replacement.is_empty() {
        return Err(entry.advice());
    }
    if wanted.is_some_and(|w| w != entry.replacement) {
        return Err(unsupported(&kind, &version, wanted, Some(entry.replacement)));
    }
    let mut edit = Edit::new(object, &version);
    rewrite(&mut edit, &kind);
    edit.object["apiVersion"] = json!(entry.replacement);
    Ok(Converted {
        object: edit.object,
        notes: edit.notes,
    })
}

/// What to say to someone who sends an object of a removed version: the replacement, and how to get there.
pub fn advice(api_version: &str, kind: &str, source: &str) -> Option<String> {
    let entry = entry(api_version, kind)?;
    let mut out = entry.advice();
    if !entry.replacement.is_empty() {
        let file = if source == "STDIN" || source.is_empty() {
            "FILE"
        } else {
            source
        };
        out.push_str(&format!(
            "\nto rewrite the manifest, run: {} convert -f {file}",
            crate::cli::PROGRAM
        ));
    }
    Some(out)
}

/// The version that replaced this one, for references from other objects.
fn replacement(api_version: &str, kind: &str) -> Option<&'static str> {
    entry(api_version, kind)
        .map(|e| e.replacement)
        .filter(|r| !r.is_empty())
}

fn entry(api_version: &str, kind: &str) -> Option<&'static Removed> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    removed::by_kind(group, version, kind)
}

fn current(object: Value, version: &str, kind: &str, wanted: Option<&str>) -> Result<Converted, String> {
    let Some(wanted) = wanted.filter(|w| *w != version) else {
        return Ok(Converted {
            object,
            notes: Vec::new(),
        });
    };
    if (version, kind, wanted) == ("autoscaling/v1", "HorizontalPodAutoscaler", "autoscaling/v2") {
        let mut edit = Edit::new(object, version);
        autoscaling::from_v1(&mut edit);
        edit.object["apiVersion"] = json!(wanted);
        return Ok(Converted {
            object: edit.object,
            notes: edit.notes,
        });
    }
    Err(unsupported(kind, version, Some(wanted), None))
}

fn unsupported(kind: &str, version: &str, wanted: Option<&str>, possible: Option<&str>) -> String {
    let hint = possible.map_or_else(
        || "only versions that are no longer served are converted".to_owned(),
        |p| format!("its version is now {p}"),
    );
    format!(
        "{kind} in {version} can't be converted to {}: {hint}",
        wanted.unwrap_or("")
    )
}

fn rewrite(edit: &mut Edit, kind: &str) {
    match kind {
        "Deployment" => workload::deployment(edit),
        "DaemonSet" => workload::daemon_set(edit),
        "ReplicaSet" => workload::replica_set(edit),
        "StatefulSet" => workload::stateful_set(edit),
        "CronJob" => workload::cron_job(edit),
        "Ingress" => network::ingress(edit),
        "EndpointSlice" => network::endpoint_slice(edit),
        "PodDisruptionBudget" => misc::disruption_budget(edit),
        "HorizontalPodAutoscaler" => autoscaling::from_beta(edit),
        "Role" | "ClusterRole" => misc::role(edit),
        "RoleBinding" | "ClusterRoleBinding" => misc::role_binding(edit),
        "CustomResourceDefinition" => definition::definition(edit),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => admission::webhooks(edit),
        "CertificateSigningRequest" => misc::signing_request(edit),
        "Event" => misc::event(edit),
        "RuntimeClass" => misc::runtime_class(edit),
        "PriorityLevelConfiguration" => misc::priority_level(edit),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => misc::access_review(edit),
        // The fields of the others are the same in both versions.
        _ => {}
    }
}

fn text(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests;
