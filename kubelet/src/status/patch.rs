//! The patch that turns the status the apiserver has into the one that is true. Pure.

use super::conditions::OWNED;
use serde_json::{Map, Value, json};

/// A strategic merge patch from one status to another, for the pod with this UID; none when nothing differs. Conditions of
/// others are never touched.
pub(crate) fn status_patch(uid: &str, old: &Value, new: &Value) -> Option<Value> {
    let empty = Map::new();
    let old = old.as_object().unwrap_or(&empty);
    let new = new.as_object().unwrap_or(&empty);
    let mut out = Map::new();
    for (key, value) in new {
        let before = old.get(key);
        if before == Some(value) {
            continue;
        }
        match key.as_str() {
            "conditions" => {
                let changed = conditions(before.unwrap_or(&Value::Null), value);
                if !changed.is_empty() {
                    out.insert(key.clone(), Value::Array(changed));
                }
            }
            // Lists merged by key: what is gone has to be said.
            "podIPs" | "hostIPs" => {
                let mut list = value.as_array().cloned().unwrap_or_default();
                let merged = before.and_then(Value::as_array).is_some_and(|b| !b.is_empty());
                if merged {
                    list.insert(0, json!({"$patch": "replace"}));
                }
                out.insert(key.clone(), Value::Array(list));
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    for key in [
        "reason",
        "message",
        "podIP",
        "podIPs",
        "resources",
        "allocatedResources",
        "containerStatuses",
        "initContainerStatuses",
    ] {
        if old.contains_key(key) && !new.contains_key(key) {
            out.insert(key.to_owned(), Value::Null);
        }
    }
    (!out.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": out}))
}

fn conditions(old: &Value, new: &Value) -> Vec<Value> {
    let kind = |c: &Value| {
        c.get("type")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let old = old.as_array().map(Vec::as_slice).unwrap_or_default();
    let new = new.as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = |name: &str| OWNED.contains(&name) || name == "DisruptionTarget";
    let gone = old
        .iter()
        .map(kind)
        .filter(|k| OWNED.contains(&k.as_str()) && !new.iter().any(|n| kind(n) == *k))
        .map(|k| json!({"$patch": "delete", "type": k}));
    new.iter()
        .filter(|c| ours(&kind(c)))
        .filter_map(|c| {
            let before = old.iter().find(|o| kind(o) == kind(c));
            if before == Some(c) {
                return None;
            }
            let mut c = c.clone();
            if let (Some(map), Some(before)) = (c.as_object_mut(), before.and_then(Value::as_object)) {
                for key in ["reason", "message"] {
                    if before.contains_key(key) && !map.contains_key(key) {
                        map.insert(key.to_owned(), Value::Null);
                    }
                }
            }
            Some(c)
        })
        .chain(gone)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_say_gives_no_patch() {
        let status = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(status_patch("u", &status, &status), None);
    }

    #[test]
    fn only_what_changed_is_sent() {
        let old = json!({"phase": "Pending", "reason": "x", "hostIP": "1", "podIPs": [{"ip": "a"}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "no"}, {"type": "PodResizePending", "status": "True"},
                {"type": "mine/gate", "status": "True"}]});
        let new = json!({"phase": "Running", "hostIP": "1", "podIPs": [{"ip": "b"}],
            "conditions": [{"type": "mine/gate", "status": "False"}, {"type": "Ready", "status": "True"}]});
        assert_eq!(
            status_patch("u", &old, &new),
            Some(json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running", "reason": null, "podIPs": [{"$patch": "replace"}, {"ip": "b"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null},
                    {"$patch": "delete", "type": "PodResizePending"}]}}))
        );
    }
}
