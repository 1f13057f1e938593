//! Ingresses and EndpointSlices.

use super::fields::{Edit, items_mut, put, take};
use serde_json::{Value, json};

pub(super) fn ingress(edit: &mut Edit) {
    if let Some(mut default) = take(&mut edit.object, &["spec", "backend"]) {
        backend(&mut default);
        put(&mut edit.object, &["spec", "defaultBackend"], default);
    }
    let mut kinds = Vec::new();
    for (r, rule) in items_mut(&mut edit.object, &["spec", "rules"]).enumerate() {
        for (p, path) in items_mut(rule, &["http", "paths"]).enumerate() {
            if let Some(inner) = path.get_mut("backend") {
                backend(inner);
            }
            if path["pathType"].is_null() {
                put(path, &["pathType"], json!("ImplementationSpecific"));
                kinds.push(format!("spec.rules[{r}].http.paths[{p}].pathType"));
            }
        }
    }
    for path in kinds {
        edit.note(
            path,
            "written as ImplementationSpecific: Prefix or Exact say better what is meant",
        );
    }
    edit.drop(&["status"], "the server says it");
}

/// `serviceName` and `servicePort` became a service of its own.
fn backend(backend: &mut Value) {
    let name = take(backend, &["serviceName"]);
    let port = take(backend, &["servicePort"]);
    if let Some(name) = name {
        put(backend, &["service", "name"], name);
    }
    if let Some(port) = port {
        // A text of digits was meant as a number, too.
        let number = port
            .as_u64()
            .or_else(|| port.as_str().and_then(|text| text.parse().ok()));
        match number {
            Some(number) => put(backend, &["service", "port", "number"], json!(number)),
            None => put(backend, &["service", "port", "name"], port),
        }
    }
}

pub(super) fn endpoint_slice(edit: &mut Edit) {
    let mut notes = Vec::new();
    for (at, endpoint) in items_mut(&mut edit.object, &["endpoints"]).enumerate() {
        let Some(Value::Object(mut topology)) = take(endpoint, &["topology"]) else {
            continue;
        };
        for (key, field) in [
            ("kubernetes.io/hostname", "nodeName"),
            ("topology.kubernetes.io/zone", "zone"),
        ] {
            if let Some(value) = topology.remove(key)
                && endpoint[field].is_null()
            {
                put(endpoint, &[field], value);
            }
        }
        if !topology.is_empty() {
            notes.push(format!("endpoints[{at}].topology"));
            put(endpoint, &["deprecatedTopology"], Value::Object(topology));
        }
    }
    if edit.object["addressType"].is_null() || edit.object["addressType"] == "IP" {
        edit.object["addressType"] = json!("IPv4");
        edit.note("addressType", "written as IPv4");
    }
    for path in notes {
        edit.note(path, "moved to deprecatedTopology, which nothing reads");
    }
}
