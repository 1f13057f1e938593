//! Hands fields that were applied in the client over to server-side apply.
//!
//! An object that carries the annotation of the client's apply also has its fields owned under that manager's name;
//! the first server-side apply must own them instead, or fields that leave the manifest would never be removed.

use super::common::{DryRun, LAST_APPLIED};
use crate::error::Result;
use crate::resource::Info;
use crate::rest::{Rest, patch};
use serde_json::{Map, Value, json};

const CLIENT: &str = "kubectl-client-side-apply";

/// Migrates the object's ownership if there is anything to migrate.
pub async fn run(rest: &Rest, info: &Info, manager: &str, dry: DryRun) -> Result<()> {
    if dry != DryRun::None || manager != "kubectl" {
        return Ok(());
    }
    let live = match rest.get(&info.path()).await {
        Ok(live) => live,
        Err(e) if e.is_not_found() => return Ok(()),
        Err(e) => return Err(e),
    };
    let Some(fields) = migrated(&live, manager) else {
        return Ok(());
    };
    let body = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": fields},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
    ]);
    match rest
        .patch(&info.path(), patch::JSON, serde_json::to_vec(&body)?)
        .await
    {
        Err(e) if !e.is_conflict() => Err(e),
        _ => Ok(()),
    }
}

/// The managed fields after migration; None if nothing changes.
fn migrated(live: &Value, manager: &str) -> Option<Value> {
    live["metadata"]["annotations"][LAST_APPLIED].as_str()?;
    let entries = live["metadata"]["managedFields"].as_array()?;
    let is_client = |e: &Value| {
        e["manager"] == CLIENT
            && e["operation"] == "Update"
            && e["subresource"].as_str().unwrap_or("").is_empty()
    };
    let is_target = |e: &Value| {
        e["manager"] == manager
            && e["operation"] == "Apply"
            && e["subresource"].as_str().unwrap_or("").is_empty()
    };
    if !entries.iter().any(is_client) {
        return None;
    }
    let mut union = Value::Object(Map::new());
    let mut version = Value::Null;
    for entry in entries.iter().filter(|e| is_target(e) || is_client(e)) {
        merge(&mut union, &entry["fieldsV1"]);
        if version.is_null() || is_target(entry) {
            version = entry["apiVersion"].clone();
        }
    }
    // The annotation itself leaves with the client's apply.
    if let Some(annotations) = union["f:metadata"]["f:annotations"].as_object_mut() {
        annotations.remove(&format!("f:{LAST_APPLIED}"));
    }
    let mut out: Vec<Value> = entries
        .iter()
        .filter(|e| !is_target(e) && !is_client(e))
        .cloned()
        .collect();
    out.insert(0, json!({
        "manager": manager, "operation": "Apply", "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": union,
        "time": entries.iter().find(|e| is_client(e)).map_or(Value::Null, |e| e["time"].clone()),
    }));
    Some(Value::Array(out))
}

/// The union of two sets of fields.
fn merge(into: &mut Value, from: &Value) {
    let Some(from) = from.as_object() else { return };
    if let Some(map) = into.as_object_mut() {
        for (key, value) in from {
            merge(map.entry(key.clone()).or_insert_with(|| json!({})), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_fields_become_the_appliers() {
        let live = json!({"metadata": {"annotations": {LAST_APPLIED: "{}"}, "managedFields": [
            {"manager": CLIENT, "operation": "Update", "apiVersion": "v1", "time": "t", "fieldsV1":
                {"f:metadata": {"f:annotations": {".": {}, format!("f:{LAST_APPLIED}"): {}}}, "f:data": {"f:a": {}}}},
            {"manager": "other", "operation": "Update", "fieldsV1": {"f:data": {"f:b": {}}}}]}});
        let out = migrated(&live, "kubectl").unwrap();
        assert_eq!(out[0]["manager"], "kubectl");
        assert_eq!(out[0]["operation"], "Apply");
        assert_eq!(
            out[0]["fieldsV1"],
            json!({"f:metadata": {"f:annotations": {".": {}}}, "f:data": {"f:a": {}}})
        );
        assert_eq!(out[1]["manager"], "other");
        assert_eq!(migrated(&json!({"metadata": {}}), "kubectl"), None);
    }
}
