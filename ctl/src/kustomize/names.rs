//! Final names, and the fields that refer to them.

use super::Item;
use serde_json::{Value, json};
use sha2::Digest;

/// Adds hashes, then follows all changed names into what refers to them.
pub(super) fn finish(items: &mut [Item]) {
    for item in items.iter_mut().filter(|i| i.hash) {
        let hashed = hash(&item.value);
        let name = item.value["metadata"]["name"].as_str().unwrap_or("").to_owned();
        item.value["metadata"]["name"] = json!(format!("{name}-{hashed}"));
    }
    let renamed: Vec<(String, String, String)> = items
        .iter()
        .map(|i| {
            (
                i.original.0.clone(),
                i.original.2.clone(),
                i.value["metadata"]["name"].as_str().unwrap_or("").to_owned(),
            )
        })
        .filter(|(_, old, new)| old != new)
        .collect();
    let moved: Vec<(String, Value)> = items
        .iter()
        .filter(|i| i.original.0 == "ServiceAccount")
        .map(|i| (i.original.2.clone(), i.value["metadata"]["namespace"].clone()))
        .collect();
    let find = |kind: &str, name: &str| {
        renamed
            .iter()
            .find(|(k, old, _)| k == kind && old == name)
            .map(|(_, _, new)| new.clone())
    };
    for item in items {
        follow(&mut item.value, "", &find);
        for subject in item
            .value
            .get_mut("subjects")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if subject["kind"] == "ServiceAccount"
                && let Some((_, namespace)) = moved
                    .iter()
                    .find(|(n, ns)| subject["name"] == n.as_str() && ns.is_string())
            {
                subject["namespace"] = namespace.clone();
            }
            let kind = subject["kind"].as_str().unwrap_or("").to_owned();
            rename(subject, "name", &kind, &find);
        }
    }
}

fn rename(holder: &mut Value, field: &str, kind: &str, find: &impl Fn(&str, &str) -> Option<String>) {
    if let Some(new) = holder[field].as_str().and_then(|name| find(kind, name)) {
        holder[field] = json!(new);
    }
}

/// Follows names through an object by the fields' own names.
fn follow(value: &mut Value, parent: &str, find: &impl Fn(&str, &str) -> Option<String>) {
    match value {
        Value::Array(items) => {
            for item in items {
                if parent == "imagePullSecrets" || parent == "secrets" {
                    rename(item, "name", "Secret", find);
                }
                follow(item, parent, find);
            }
        }
        Value::Object(_) => {
            match parent {
                "configMapRef" | "configMapKeyRef" | "configMap" => rename(value, "name", "ConfigMap", find),
                "secretRef" | "secretKeyRef" => rename(value, "name", "Secret", find),
                "secret" => {
                    rename(value, "secretName", "Secret", find);
                    rename(value, "name", "Secret", find);
                }
                "persistentVolumeClaim" => rename(value, "claimName", "PersistentVolumeClaim", find),
                "service" => rename(value, "name", "Service", find),
                "roleRef" | "scaleTargetRef" => {
                    let kind = value["kind"].as_str().unwrap_or("").to_owned();
                    rename(value, "name", &kind, find);
                }
                "tls" => rename(value, "secretName", "Secret", find),
                "spec" => {
                    rename(value, "serviceAccountName", "ServiceAccount", find);
                    rename(value, "priorityClassName", "PriorityClass", find);
                    rename(value, "serviceName", "Service", find);
                    rename(value, "storageClassName", "StorageClass", find);
                    rename(value, "ingressClassName", "IngressClass", find);
                }
                _ => {}
            }
            if let Value::Object(map) = value {
                for (key, inner) in map.iter_mut() {
                    if key == "tls" {
                        for entry in inner.as_array_mut().into_iter().flatten() {
                            rename(entry, "secretName", "Secret", find);
                        }
                    }
                    follow(inner, key, find);
                }
            }
        }
        _ => {}
    }
}

/// The hash of a config map's or secret's content.
fn hash(value: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let mut object = json!({"kind": value["kind"], "name": "", "data": ""});
    if value["kind"] == "Secret" {
        object["type"] = json!(text(&value["type"]));
    }
    if value["data"].is_object() {
        object["data"] = value["data"].clone();
    }
    if value["binaryData"].is_object() {
        object["binaryData"] = value["binaryData"].clone();
    }
    let digest = sha2::Sha256::digest(crate::print::json::compact(&object).as_bytes());
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    hex.chars()
        .take(10)
        .map(|c| match c {
            '0' => 'g',
            '1' => 'h',
            '3' => 'k',
            'a' => 'm',
            'e' => 't',
            c => c,
        })
        .collect()
}

const FIRST: [&str; 17] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
];
const LAST: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// What others need comes first.
pub(super) fn sort_legacy(items: &mut [Item]) {
    items.sort_by_key(|i| {
        let kind = i.original.0.as_str();
        let rank = FIRST
            .iter()
            .position(|k| *k == kind)
            .or_else(|| LAST.iter().position(|k| *k == kind).map(|p| p + 1000))
            .unwrap_or(500);
        (rank, i.original.clone())
    });
}
