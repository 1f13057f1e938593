//! Annotations that mean something to pods.

use super::volume::local_descending_path;
use rutter_api::ErrorList;
use rutter_api::validation::At;

pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
pub(super) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub(super) const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub(super) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What is wrong with them.
pub(super) fn pod_annotations(at: &At<'_, '_>, spec: &At<'_, '_>, errors: &mut ErrorList) {
    for (key, value) in at.entries() {
        let text = value.as_str().unwrap_or_default();
        if key == MIRROR && spec.child("nodeName").is_empty() {
            errors.push(
                at.key(key)
                    .invalid("must set spec.nodeName if mirror pod annotation is set"),
            );
        } else if key == DELETION_COST {
            let plain = text.parse::<i32>().is_ok_and(|cost| cost.to_string() == text);
            if !plain {
                errors.push(at.key(key).invalid("must be a 32bit integer"));
            }
        } else if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            seccomp(&at.field(key, value), text, errors);
        } else if let Some(container) = key.strip_prefix(APP_ARMOR) {
            let lists = ["initContainers", "containers", "ephemeralContainers"];
            let known = lists.iter().any(|list| {
                spec.child(list)
                    .items()
                    .any(|c| c.child("name").text() == container)
            });
            if !known {
                errors.push(at.key(key).invalid_as(container, "container not found"));
            }
            if !matches!(text, "" | "runtime/default" | "unconfined") && !text.starts_with("localhost/") {
                errors.push(
                    at.key(key)
                        .invalid(format!("invalid AppArmor profile name: {text:?}")),
                );
            }
        }
    }
}

fn seccomp(at: &At<'_, '_>, profile: &str, errors: &mut ErrorList) {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(path) => local_descending_path(at, path, errors),
        None => errors.push(at.invalid_as(profile, "must be a valid seccomp profile")),
    }
}
