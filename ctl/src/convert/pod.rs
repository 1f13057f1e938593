//! Pod templates: what once was an annotation and is a field now, and volumes whose plugins are gone.

use super::fields::{Edit, get, put, take};
use serde_json::{Value, json};

/// Annotations that became fields of the pod's spec, and whether the text is JSON.
const FIELDS: &[(&str, &str, bool)] = &[
    ("scheduler.alpha.kubernetes.io/affinity", "affinity", true),
    ("scheduler.alpha.kubernetes.io/tolerations", "tolerations", true),
    ("scheduler.alpha.kubernetes.io/name", "schedulerName", false),
    ("pod.beta.kubernetes.io/init-containers", "initContainers", true),
    ("pod.alpha.kubernetes.io/init-containers", "initContainers", true),
    ("pod.beta.kubernetes.io/hostname", "hostname", false),
    ("pod.beta.kubernetes.io/subdomain", "subdomain", false),
];

/// Annotations that nothing reads any more.
const UNREAD: &[(&str, &str)] = &[
    (
        "pod.alpha.kubernetes.io/initialized",
        "pods of StatefulSets need no sign",
    ),
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "set spec.priorityClassName instead",
    ),
];

/// Volumes that no kubelet mounts any more, with the release that took the plugin away.
const VOLUMES: &[(&str, &str)] = &[
    ("glusterfs", "1.26"),
    ("quobyte", "1.25"),
    ("flocker", "1.25"),
    ("storageos", "1.25"),
    ("scaleIO", "1.22"),
    ("cephfs", "1.31"),
    ("rbd", "1.31"),
    ("gitRepo", "1.33"),
];

const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";

pub(super) fn template(edit: &mut Edit, at: &[&str]) {
    let place = at.join(".");
    let Some(mut template) = take(&mut edit.object, at) else {
        return;
    };
    annotations(edit, &mut template, &place);
    for volume in template["spec"]["volumes"].as_array().into_iter().flatten() {
        for (kind, since) in VOLUMES.iter().filter(|(kind, _)| volume[*kind].is_object()) {
            let name = volume["name"].as_str().unwrap_or("");
            edit.note(
                format!("{place}.spec.volumes[{name}].{kind}"),
                format!("is not mounted since Kubernetes {since}"),
            );
        }
    }
    put(&mut edit.object, at, template);
}

fn annotations(edit: &mut Edit, template: &mut Value, place: &str) {
    let Some(annotations) = template["metadata"]["annotations"].as_object().cloned() else {
        return;
    };
    for (key, value) in annotations {
        let value = value.as_str().unwrap_or("");
        let Some(did) = annotation(template, &key, value) else {
            continue;
        };
        if let Some(map) = template["metadata"]["annotations"].as_object_mut() {
            map.remove(&key);
        }
        edit.note(format!("{place}.metadata.annotations[{key}]"), did);
    }
    if template["metadata"]["annotations"]
        .as_object()
        .is_some_and(serde_json::Map::is_empty)
    {
        take(template, &["metadata", "annotations"]);
    }
}

/// Carries one annotation over; None if it may stay.
fn annotation(template: &mut Value, key: &str, value: &str) -> Option<String> {
    if let Some((_, why)) = UNREAD.iter().find(|(name, _)| *name == key) {
        return Some(format!("dropped: {why}"));
    }
    if let Some((_, field, is_json)) = FIELDS.iter().find(|(name, ..)| *name == key) {
        let parsed = if *is_json {
            serde_json::from_str(value).ok()
        } else {
            Some(json!(value))
        };
        return Some(match parsed {
            None => "dropped: it isn't JSON".to_owned(),
            Some(_) if !template["spec"][*field].is_null() => format!("dropped: spec.{field} is set"),
            Some(parsed) => {
                put(template, &["spec", field], parsed);
                format!("moved to spec.{field}")
            }
        });
    }
    if key == SECCOMP {
        let to = ["spec", "securityContext", "seccompProfile"];
        return Some(set_profile(template, &to, profile(value), "spec"));
    }
    for (prefix, field) in [
        (SECCOMP_CONTAINER, "seccompProfile"),
        (APPARMOR_CONTAINER, "appArmorProfile"),
    ] {
        if let Some(name) = key.strip_prefix(prefix) {
            let containers = ["containers", "initContainers"]
                .into_iter()
                .find(|list| at_name(&template["spec"][*list], name).is_some());
            let found = containers
                .and_then(|list| template["spec"][list].as_array_mut())
                .and_then(|list| list.iter_mut().find(|c| c["name"] == name));
            return Some(match found {
                None => format!("dropped: there is no container {name}"),
                Some(container) => set_profile(
                    container,
                    &["securityContext", field],
                    profile(value),
                    &format!("container {name}"),
                ),
            });
        }
    }
    None
}

fn at_name<'v>(list: &'v Value, name: &str) -> Option<&'v Value> {
    list.as_array()?.iter().find(|c| c["name"] == name)
}

fn set_profile(into: &mut Value, path: &[&str], profile: Option<Value>, of: &str) -> String {
    let Some(profile) = profile else {
        return "dropped: it names no profile".to_owned();
    };
    if !get(into, path).is_null() {
        return format!("dropped: {} of {of} is set", path.join("."));
    }
    put(into, path, profile);
    format!("moved to {} of {of}", path.join("."))
}

/// A seccomp or AppArmor profile by the name that annotations give it.
fn profile(name: &str) -> Option<Value> {
    Some(match name {
        "runtime/default" | "docker/default" => json!({"type": "RuntimeDefault"}),
        "unconfined" => json!({"type": "Unconfined"}),
        _ => json!({"type": "Localhost", "localhostProfile": name.strip_prefix("localhost/")?}),
    })
}
