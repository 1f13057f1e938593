//! Patches, names, namespaces, labels, annotations, images and replicas.

use super::{Item, list, object_at};
use crate::error::{Error, Result};
use crate::resource::files;
use rutter_api::codec::yaml::parse_text;
use serde_json::{Map, Value, json};
use std::path::Path;

pub(super) fn all(k: &Value, directory: &Path, items: &mut Vec<Item>) -> Result<()> {
    patches(k, directory, items)?;
    if let Some(namespace) = k["namespace"].as_str() {
        for item in items.iter_mut().filter(|i| !cluster_scoped(&i.original.0)) {
            object_at(&mut item.value, "metadata")["namespace"] = json!(namespace);
        }
        for item in items.iter_mut() {
            for subject in item
                .value
                .get_mut("subjects")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                if subject["kind"] == "ServiceAccount" && subject["name"] == "default" {
                    subject["namespace"] = json!(namespace);
                }
            }
            if item.original.0 == "Namespace" && item.value["metadata"]["name"].is_string() {
                item.value["metadata"]["name"] = json!(namespace);
            }
        }
    }
    let (prefix, suffix) = (
        k["namePrefix"].as_str().unwrap_or(""),
        k["nameSuffix"].as_str().unwrap_or(""),
    );
    if !prefix.is_empty() || !suffix.is_empty() {
        for item in items.iter_mut().filter(|i| {
            !matches!(
                i.original.0.as_str(),
                "CustomResourceDefinition" | "APIService" | "Namespace"
            )
        }) {
            let name = item.value["metadata"]["name"].as_str().unwrap_or("").to_owned();
            item.value["metadata"]["name"] = json!(format!("{prefix}{name}{suffix}"));
        }
    }
    if let Some(labels) = k["commonLabels"].as_object() {
        items
            .iter_mut()
            .for_each(|i| label(&mut i.value, labels, true, true));
    }
    for entry in k["labels"].as_array().into_iter().flatten() {
        if let Some(pairs) = entry["pairs"].as_object() {
            let selectors = entry["includeSelectors"] == true;
            let templates = selectors || entry["includeTemplates"] == true;
            items
                .iter_mut()
                .for_each(|i| label(&mut i.value, pairs, selectors, templates));
        }
    }
    if let Some(annotations) = k["commonAnnotations"].as_object() {
        for item in items.iter_mut() {
            set(object_at(&mut item.value, "metadata"), "annotations", annotations);
            for pointer in TEMPLATES {
                if let Some(template) = item.value.pointer_mut(pointer).filter(|t| t.is_object()) {
                    set(object_at(template, "metadata"), "annotations", annotations);
                }
            }
        }
    }
    for image in k["images"].as_array().into_iter().flatten() {
        items.iter_mut().for_each(|i| images(&mut i.value, image));
    }
    for entry in k["replicas"].as_array().into_iter().flatten() {
        let mut found = false;
        for item in items.iter_mut().filter(|i| {
            entry["name"] == i.original.2.as_str()
                && matches!(
                    i.original.0.as_str(),
                    "Deployment" | "ReplicationController" | "ReplicaSet" | "StatefulSet"
                )
        }) {
            item.value["spec"]["replicas"] = entry["count"].clone();
            found = true;
        }
        if !found {
            return Err(Error::new(format!(
                "resource with name {} does not match a config with the following GVK [Deployment ReplicationController ReplicaSet StatefulSet]",
                entry["name"].as_str().unwrap_or("")
            )));
        }
    }
    Ok(())
}

const TEMPLATES: [&str; 2] = ["/spec/template", "/spec/jobTemplate/spec/template"];

fn cluster_scoped(kind: &str) -> bool {
    kind.starts_with("Cluster")
        || matches!(
            kind,
            "Namespace"
                | "Node"
                | "PersistentVolume"
                | "StorageClass"
                | "CSIDriver"
                | "CSINode"
                | "VolumeAttachment"
                | "PriorityClass"
                | "RuntimeClass"
                | "IngressClass"
                | "CustomResourceDefinition"
                | "APIService"
                | "MutatingWebhookConfiguration"
                | "ValidatingWebhookConfiguration"
                | "ValidatingAdmissionPolicy"
                | "ValidatingAdmissionPolicyBinding"
                | "CertificateSigningRequest"
                | "FlowSchema"
                | "PriorityLevelConfiguration"
        )
}

fn set(holder: &mut Value, key: &str, pairs: &Map<String, Value>) {
    let map = object_at(holder, key);
    for (k, v) in pairs {
        map[k] = v.clone();
    }
}

fn label(value: &mut Value, pairs: &Map<String, Value>, selectors: bool, templates: bool) {
    set(object_at(value, "metadata"), "labels", pairs);
    if templates {
        for pointer in TEMPLATES {
            if let Some(t) = value.pointer_mut(pointer).filter(|t| t.is_object()) {
                set(object_at(t, "metadata"), "labels", pairs);
            }
        }
    }
    if !selectors {
        return;
    }
    let kind = value["kind"].as_str().unwrap_or("").to_owned();
    match kind.as_str() {
        "Service" | "ReplicationController" if value["spec"]["selector"].is_object() => {
            set(&mut value["spec"], "selector", pairs)
        }
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" => {
            let selector = object_at(object_at(value, "spec"), "selector");
            set(selector, "matchLabels", pairs);
        }
        "PodDisruptionBudget" | "Job" if value["spec"]["selector"].is_object() => {
            set(&mut value["spec"]["selector"], "matchLabels", pairs)
        }
        "NetworkPolicy" if value["spec"]["podSelector"].is_object() => {
            set(&mut value["spec"]["podSelector"], "matchLabels", pairs)
        }
        _ => {}
    }
}

/// `name:tag@digest` taken apart.
fn split_image(image: &str) -> (String, String, String) {
    let (rest, digest) = image.split_once('@').unwrap_or((image, ""));
    let slash = rest.rfind('/').map_or(0, |i| i + 1);
    match rest.get(slash..).and_then(|t| t.find(':')) {
        Some(at) => (
            rest.get(..slash + at).unwrap_or("").to_owned(),
            rest.get(slash + at + 1..).unwrap_or("").to_owned(),
            digest.to_owned(),
        ),
        None => (rest.to_owned(), String::new(), digest.to_owned()),
    }
}

fn images(value: &mut Value, wanted: &Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|i| images(i, wanted)),
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                if key == "containers" || key == "initContainers" {
                    for c in inner.as_array_mut().into_iter().flatten() {
                        let Some(image) = c["image"].as_str().map(split_image) else {
                            continue;
                        };
                        if wanted["name"] == image.0.as_str() {
                            c["image"] = json!(new_image(image, wanted));
                        }
                    }
                } else {
                    images(inner, wanted);
                }
            }
        }
        _ => {}
    }
}

fn new_image((name, tag, digest): (String, String, String), wanted: &Value) -> String {
    let name = wanted["newName"].as_str().map_or(name, str::to_owned);
    if let Some(d) = wanted["digest"].as_str().filter(|d| !d.is_empty()) {
        return format!("{name}@{d}");
    }
    if let Some(t) = wanted["newTag"].as_str().filter(|t| !t.is_empty()) {
        return format!("{name}:{t}");
    }
    let tag = if tag.is_empty() {
        String::new()
    } else {
        format!(":{tag}")
    };
    let digest = if digest.is_empty() {
        String::new()
    } else {
        format!("@{digest}")
    };
    format!("{name}{tag}{digest}")
}

fn patches(k: &Value, directory: &Path, items: &mut Vec<Item>) -> Result<()> {
    let read = |path: &str| {
        std::fs::read_to_string(directory.join(path))
            .map_err(|e| Error::new(format!("open {path}: {}", crate::error::io_text(&e))))
    };
    for entry in list(&k["patchesStrategicMerge"]) {
        // An entry is a file's name or the patch itself.
        let text = if entry.contains('\n') {
            entry
        } else {
            read(&entry)?
        };
        strategic(&text, None, items)?;
    }
    let mut all: Vec<Value> = k["patches"].as_array().cloned().unwrap_or_default();
    all.extend(k["patchesJson6902"].as_array().cloned().unwrap_or_default());
    for entry in all {
        let text = match (entry["patch"].as_str(), entry["path"].as_str()) {
            (Some(t), None) => t.to_owned(),
            (None, Some(p)) => read(p)?,
            _ => return Err(Error::new("must specify one of patch and path in a patch")),
        };
        let body = parse_text(&text).map_err(|e| Error::new(format!("invalid patch: {e}")))?;
        let target = &entry["target"];
        if body.is_array() {
            if !target.is_object() {
                return Err(Error::new("must specify a target for a JSON patch"));
            }
            for item in items.iter_mut().filter(|i| selects(target, i)) {
                item.value = rutter_api::patch::json_patch(&item.value, &body)
                    .map_err(|e| Error::new(e.to_string()))?;
            }
        } else {
            strategic(&text, target.is_object().then_some(target), items)?;
        }
    }
    Ok(())
}

/// Whether a patch's target means the object; its texts are expressions.
fn selects(target: &Value, item: &Item) -> bool {
    let matches = |key: &str, text: &str| {
        target[key]
            .as_str()
            .is_none_or(|e| regex::Regex::new(&format!("^(?:{e})$")).is_ok_and(|r| r.is_match(text)))
    };
    let version = item.value["apiVersion"].as_str().unwrap_or("");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let labels = target["labelSelector"]
        .as_str()
        .is_none_or(|s| rutter_api::LabelSelector::parse(s).is_ok_and(|s| s.matches_object(&item.value)));
    matches("kind", &item.original.0)
        && matches("namespace", &item.original.1)
        && (matches("name", &item.original.2)
            || matches("name", item.value["metadata"]["name"].as_str().unwrap_or("")))
        && matches("group", group)
        && matches("version", version)
        && labels
}

fn strategic(text: &str, target: Option<&Value>, items: &mut Vec<Item>) -> Result<()> {
    let mut documents = Vec::new();
    files::documents(text, "patch", &mut documents)?;
    for d in documents {
        let patch = d.value;
        let name = patch["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let wanted = |i: &Item| match target {
            Some(t) => selects(t, i),
            None => {
                patch["kind"] == i.original.0.as_str()
                    && (i.original.2 == name || i.value["metadata"]["name"] == name.as_str())
                    && patch["metadata"]["namespace"]
                        .as_str()
                        .is_none_or(|ns| i.value["metadata"]["namespace"] == ns)
            }
        };
        if !items.iter().any(&wanted) {
            return Err(Error::new(format!(
                "no matches for Id {}.{}; failed to find unique target for patch",
                patch["kind"].as_str().unwrap_or(""),
                name
            )));
        }
        if patch["$patch"] == "delete" {
            items.retain(|i| !wanted(i));
            continue;
        }
        for item in items.iter_mut().filter(|i| wanted(i)) {
            let mut body = patch.clone();
            if let Some(meta) = body["metadata"].as_object_mut() {
                meta.remove("name");
                meta.remove("namespace");
            }
            if target.is_some()
                && let Some(map) = body.as_object_mut()
            {
                map.remove("kind");
                map.remove("apiVersion");
            }
            merge(&mut item.value, &body, "");
        }
    }
    Ok(())
}

/// Lists whose items are told apart by a key, and the key.
fn merge_key(field: &str, sample: &Value) -> Option<&'static str> {
    Some(match field {
        "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "env" | "imagePullSecrets" => {
            "name"
        }
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "ports" if sample["containerPort"].is_number() => "containerPort",
        "ports" => "port",
        "hostAliases" => "ip",
        "topologySpreadConstraints" => "topologyKey",
        "ownerReferences" => "uid",
        "conditions" => "type",
        _ => return None,
    })
}

/// A strategic merge without a server's schema: by the well-known keys.
fn merge(target: &mut Value, patch: &Value, field: &str) {
    match patch {
        Value::Object(map) => {
            if map.get("$patch").is_some_and(|p| p == "replace") || !target.is_object() {
                *target = json!({});
            }
            for (key, value) in map.iter().filter(|(k, _)| !k.starts_with('$')) {
                if value.is_null() {
                    if let Some(t) = target.as_object_mut() {
                        t.remove(key);
                    }
                } else {
                    merge(&mut target[key], value, key);
                }
            }
        }
        Value::Array(wanted) => {
            let key = wanted.first().and_then(|s| merge_key(field, s));
            match (key, target.as_array_mut()) {
                (Some(key), Some(list)) if !wanted.iter().any(|w| w["$patch"] == "replace") => {
                    for w in wanted {
                        let at = list.iter().position(|i| i[key] == w[key]);
                        if w["$patch"] == "delete" {
                            if let Some(at) = at {
                                list.remove(at);
                            }
                            continue;
                        }
                        match at.and_then(|at| list.get_mut(at)) {
                            Some(live) => merge(live, w, ""),
                            // What a patch adds goes before what was there.
                            None => list.insert(0, w.clone()),
                        }
                    }
                }
                _ => {
                    *target = Value::Array(
                        wanted
                            .iter()
                            .filter(|w| w["$patch"] != "replace")
                            .cloned()
                            .collect(),
                    )
                }
            }
        }
        other => *target = other.clone(),
    }
}
