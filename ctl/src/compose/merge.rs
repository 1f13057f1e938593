//! Several Compose files, and services that extend others, put together.

use super::value::{pairs, text};
use serde_json::{Map, Value};

/// Lists that replace the one before: a command isn't made longer by another file.
const REPLACED: &[&str] = &["command", "entrypoint", "test"];
/// What is written as a list of pairs or as a map, and is joined by key.
const PAIRS: &[&str] = &[
    "environment",
    "labels",
    "annotations",
    "extra_hosts",
    "sysctls",
    "args",
];
/// Lists joined by where they are mounted.
const MOUNTS: &[&str] = &["volumes", "configs", "secrets", "devices"];

/// Lays one model over another.
pub(super) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(old) => field(&key, old, value),
                    None => {
                        base.insert(key, value);
                    }
                }
            }
        }
        (base, over) => *base = over,
    }
}

fn field(key: &str, old: &mut Value, new: Value) {
    if PAIRS.contains(&key) && (old.is_array() || new.is_array()) {
        let mut map = as_map(old);
        map.extend(as_map(&new));
        *old = Value::Object(map);
        return;
    }
    match (&mut *old, new) {
        (Value::Array(_), new) if REPLACED.contains(&key) => *old = new,
        (Value::Array(list), Value::Array(new)) if MOUNTS.contains(&key) => {
            for item in new {
                let place = target(&item);
                list.retain(|i| target(i) != place);
                list.push(item);
            }
        }
        (Value::Array(list), Value::Array(new)) => {
            for item in new {
                if !list.contains(&item) {
                    list.push(item);
                }
            }
        }
        (Value::Object(_), new @ Value::Object(_)) => merge(old, new),
        // Lists of names and maps by name mean the same in `depends_on` and `networks`.
        (Value::Array(list), Value::Object(new)) => {
            let mut map: Map<String, Value> =
                list.iter().filter_map(text).map(|n| (n, Value::Null)).collect();
            map.extend(new);
            *old = Value::Object(map);
        }
        (Value::Object(map), Value::Array(new)) => {
            for name in new.iter().filter_map(text) {
                map.entry(name).or_insert(Value::Null);
            }
        }
        (_, new) => *old = new,
    }
}

fn as_map(value: &Value) -> Map<String, Value> {
    pairs(value)
        .into_iter()
        .map(|(key, value)| (key, value.map_or(Value::Null, Value::from)))
        .collect()
}

/// Where an item of `volumes`, `configs` or `secrets` is mounted.
fn target(item: &Value) -> String {
    match item {
        Value::String(short) => {
            let parts: Vec<&str> = short.split(':').collect();
            parts.get(1).or(parts.first()).copied().unwrap_or("").to_owned()
        }
        long => long["target"]
            .as_str()
            .or_else(|| long["source"].as_str())
            .unwrap_or("")
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn later_files_are_laid_over_earlier_ones() {
        for (base, over, want) in [
            (
                json!({"image": "a"}),
                json!({"image": "b"}),
                json!({"image": "b"}),
            ),
            (
                json!({"environment": ["A=1", "B=2"]}),
                json!({"environment": {"B": 3, "C": null}}),
                json!({"environment": {"A": "1", "B": "3", "C": null}}),
            ),
            (
                json!({"ports": ["80"]}),
                json!({"ports": ["80", "81"]}),
                json!({"ports": ["80", "81"]}),
            ),
            (
                json!({"command": ["a"]}),
                json!({"command": ["b"]}),
                json!({"command": ["b"]}),
            ),
            (
                json!({"volumes": ["./a:/x", "b:/y"]}),
                json!({"volumes": [{"type": "volume", "source": "c", "target": "/x"}]}),
                json!({"volumes": ["b:/y", {"type": "volume", "source": "c", "target": "/x"}]}),
            ),
            (
                json!({"depends_on": ["a"]}),
                json!({"depends_on": {"b": {"condition": "service_healthy"}}}),
                json!({"depends_on": {"a": null, "b": {"condition": "service_healthy"}}}),
            ),
        ] {
            let mut got = base;
            merge(&mut got, over);
            assert_eq!(got, want);
        }
    }
}
