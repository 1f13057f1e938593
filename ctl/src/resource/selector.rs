//! Label selectors as text, and the selectors of workloads.

use serde_json::Value;

/// A `LabelSelector` object, or a plain map of labels, as text.
pub fn to_text(selector: &Value) -> String {
    let Some(map) = selector.as_object() else {
        return String::new();
    };
    if map.contains_key("matchLabels") || map.contains_key("matchExpressions") {
        let mut parts: Vec<String> = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            parts.push(format!("{key}={}", value.as_str().unwrap_or("")));
        }
        for e in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = e["key"].as_str().unwrap_or("");
            let mut values: Vec<&str> = e["values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            values.sort_unstable();
            let values = values.join(",");
            parts.push(match e["operator"].as_str().unwrap_or("") {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "Exists" => key.to_owned(),
                _ => format!("!{key}"),
            });
        }
        parts.sort();
        return parts.join(",");
    }
    let mut parts: Vec<String> = map
        .iter()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
        .collect();
    parts.sort();
    parts.join(",")
}

/// The selector of the pods that an object manages, as text; None if its kind has none.
pub fn of_pods(object: &Value) -> Option<String> {
    let selector = &object["spec"]["selector"];
    match object["kind"].as_str()? {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" => Some(to_text(selector)),
        "ReplicationController" | "Service" => {
            if selector.as_object().is_some_and(|m| !m.is_empty()) {
                Some(to_text(selector))
            } else {
                None
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_become_text() {
        for (selector, text) in [
            (json!({"matchLabels": {"b": "2", "a": "1"}}), "a=1,b=2"),
            (
                json!({"matchExpressions": [{"key": "k", "operator": "In", "values": ["y", "x"]}]}),
                "k in (x,y)",
            ),
            (
                json!({"matchExpressions": [{"key": "k", "operator": "DoesNotExist"}]}),
                "!k",
            ),
            (json!({"app": "web"}), "app=web"),
        ] {
            assert_eq!(to_text(&selector), text);
        }
    }
}
