//! JSON merge patch (RFC 7386), and the three-way patch of `apply` for kinds without a schema.

use super::PatchError;
use crate::object::ObjectExt;
use serde_json::{Map, Value};

/// Applies a merge patch.
pub fn merge_patch(document: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut map = match document {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    for (key, change) in patch {
        if change.is_null() {
            map.remove(key);
        } else {
            let old = map.remove(key).unwrap_or(Value::Null);
            map.insert(key.clone(), merge_patch(old, change));
        }
    }
    Value::Object(map)
}

/// The merge patch that brings `current` to `modified`, removing what was in `original` and is no longer in `modified`.
/// What others added to `current` stays. It is an error when they are different objects.
pub fn merge_three_way(original: &Value, modified: &Value, current: &Value) -> Result<Value, PatchError> {
    check_same_object(modified, current)?;
    let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
    Ok(Value::Object(diff(&map(original), &map(modified), &map(current))))
}

/// A patch can't change what an object is.
pub(super) fn check_same_object(modified: &Value, current: &Value) -> Result<(), PatchError> {
    let differs = ["apiVersion", "kind", "metadata.name"].iter().any(|path| {
        let (wanted, now) = (modified.at(path), current.at(path));
        !now.is_null() && !wanted.is_null() && wanted != now
    });
    match differs {
        true => Err(PatchError::Mismatch(
            "at least one of apiVersion, kind and name was changed: that would be another object".to_owned(),
        )),
        false => Ok(()),
    }
}

fn diff(
    original: &Map<String, Value>,
    modified: &Map<String, Value>,
    current: &Map<String, Value>,
) -> Map<String, Value> {
    let empty = Map::new();
    let mut patch = Map::new();
    for (key, wanted) in modified {
        match (wanted, current.get(key)) {
            (Value::Object(wanted), Some(Value::Object(now))) => {
                let before = original.get(key).and_then(Value::as_object).unwrap_or(&empty);
                let inner = diff(before, wanted, now);
                if !inner.is_empty() {
                    patch.insert(key.clone(), Value::Object(inner));
                }
            }
            (Value::Null, None) => {}
            (wanted, now) if now == Some(wanted) => {}
            (wanted, _) => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    for key in original.keys() {
        if !modified.contains_key(key) && current.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::tests::tree;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_examples_of_the_rfc_hold() {
        for (document, patch, want) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            assert_eq!(merge_patch(document, &patch), want);
        }
    }

    #[test]
    fn three_ways_keep_what_others_added() {
        let original = json!({"a": 1, "gone": 1, "m": {"x": 1, "y": 2}});
        let modified = json!({"a": 2, "m": {"x": 1}, "new": [1]});
        let current = json!({"a": 1, "gone": 1, "m": {"x": 1, "y": 2, "others": 3}, "others": 4});
        let patch = merge_three_way(&original, &modified, &current).unwrap();
        assert_eq!(patch, json!({"a": 2, "gone": null, "m": {"y": null}, "new": [1]}));
        let merged = merge_patch(current, &patch);
        assert_eq!(
            merged,
            json!({"a": 2, "m": {"x": 1, "others": 3}, "new": [1], "others": 4})
        );
    }

    proptest! {
        #[test]
        fn a_merge_patch_is_idempotent(document in tree(), patch in tree()) {
            let once = merge_patch(document, &patch);
            prop_assert_eq!(merge_patch(once.clone(), &patch), once);
        }

        #[test]
        fn a_three_way_patch_brings_what_was_modified(original in tree(), modified in tree(), current in tree()) {
            let patch = merge_three_way(&original, &modified, &current).unwrap();
            let merged = merge_patch(current, &patch);
            // A second patch from the same document has nothing left to do.
            let again = merge_three_way(&original, &modified, &merged).unwrap();
            prop_assert_eq!(merge_patch(merged.clone(), &again), merged);
        }
    }
}
