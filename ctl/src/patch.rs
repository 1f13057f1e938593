//! The patch that `apply` sends: what turns the live object into the manifest, minding what was applied before.
//!
//! With a schema, lists merge by the keys it names (strategic merge patch); without one, lists are replaced whole
//! (JSON merge patch). Pure: the three objects come in, the patch goes out.

use crate::openapi::Document;
use serde_json::{Map, Value, json};

/// How a field's list or map is patched.
#[derive(Clone, Copy)]
pub struct Schema<'a> {
    document: &'a Document,
    node: &'a Value,
}

impl<'a> Schema<'a> {
    /// The schema of a kind.
    pub fn new(document: &'a Document, node: &'a Value) -> Self {
        Self { document, node }
    }
    fn field(self, name: &str) -> Option<Self> {
        let resolved = self.document.resolve(self.node);
        let node = resolved["properties"].get(name).or_else(|| {
            let extra = &resolved["additionalProperties"];
            extra.is_object().then_some(extra)
        })?;
        Some(Self { node, ..self })
    }
    fn items(self) -> Option<Self> {
        let node = self.document.resolve(self.node).get("items")?;
        Some(Self { node, ..self })
    }
    fn strategy(self, which: &str) -> bool {
        self.node["x-kubernetes-patch-strategy"]
            .as_str()
            .is_some_and(|s| s.split(',').any(|p| p == which))
    }
    fn merge_key(self) -> Option<&'a str> {
        self.node["x-kubernetes-patch-merge-key"].as_str()
    }
}

/// The patch that brings `current` to `modified` and removes what `original` had and `modified` no longer has.
/// An empty object means that nothing is to be done.
pub fn three_way(original: &Value, modified: &Value, current: &Value, schema: Option<Schema<'_>>) -> Value {
    Value::Object(map_patch(original, modified, current, schema))
}

static NULL: Value = Value::Null;

fn map_patch(
    original: &Value,
    modified: &Value,
    current: &Value,
    schema: Option<Schema<'_>>,
) -> Map<String, Value> {
    let mut out = Map::new();
    let empty = Map::new();
    let was = original.as_object().unwrap_or(&empty);
    let wanted = modified.as_object().unwrap_or(&empty);
    let live = current.as_object().unwrap_or(&empty);
    for (key, value) in wanted {
        let field = schema.and_then(|s| s.field(key));
        let Some(now) = live.get(key) else {
            if !value.is_null() {
                out.insert(key.clone(), value.clone());
            }
            continue;
        };
        let before = was.get(key).unwrap_or(&NULL);
        match (value, now) {
            (Value::Object(_), Value::Object(_)) => {
                let mut inner = map_patch(before, value, now, field);
                let retain = field.is_some_and(|f| f.strategy("retainKeys"));
                if retain && (!inner.is_empty() || has_more(now, value)) {
                    inner.insert("$retainKeys".to_owned(), keys(value));
                }
                if !inner.is_empty() {
                    out.insert(key.clone(), Value::Object(inner));
                }
            }
            (Value::Array(wanted), Value::Array(now)) => {
                list_patch(key, before, wanted, now, field, &mut out)
            }
            _ => {
                if value != now {
                    out.insert(key.clone(), value.clone());
                }
            }
        }
    }
    for key in was.keys() {
        if !wanted.contains_key(key) && live.contains_key(key) {
            out.insert(key.clone(), Value::Null);
        }
    }
    out
}

/// Whether an object has a key that another one hasn't.
fn has_more(object: &Value, than: &Value) -> bool {
    let mut all = object.as_object().into_iter().flatten();
    all.any(|(key, value)| !value.is_null() && than.get(key).is_none())
}

fn keys(value: &Value) -> Value {
    Value::Array(
        value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, _)| Value::from(k.clone()))
            .collect(),
    )
}

fn list_patch(
    key: &str,
    before: &Value,
    wanted: &[Value],
    now: &[Value],
    field: Option<Schema<'_>>,
    out: &mut Map<String, Value>,
) {
    let merges = field.is_some_and(|f| f.strategy("merge"));
    let before: &[Value] = before.as_array().map_or(&[], Vec::as_slice);
    let all_maps = wanted.iter().chain(now).all(Value::is_object);
    let merge_key = field.and_then(Schema::merge_key);
    match merge_key {
        Some(merge_key) if merges && all_maps && wanted.iter().all(|i| i.get(merge_key).is_some()) => {
            merge_maps(
                key,
                merge_key,
                before,
                wanted,
                now,
                field.and_then(Schema::items),
                out,
            );
        }
        None if merges && !all_maps => merge_scalars(key, before, wanted, now, out),
        _ => {
            if wanted != now {
                out.insert(key.to_owned(), Value::Array(wanted.to_vec()));
            }
        }
    }
}

fn merge_maps(
    key: &str,
    merge_key: &str,
    before: &[Value],
    wanted: &[Value],
    now: &[Value],
    item: Option<Schema<'_>>,
    out: &mut Map<String, Value>,
) {
    let find = |list: &'_ [Value], id: &Value| -> Option<Value> {
        list.iter().find(|i| i[merge_key] == *id).cloned()
    };
    let mut patches: Vec<Value> = Vec::new();
    for value in wanted {
        let id = &value[merge_key];
        match find(now, id) {
            None => patches.push(value.clone()),
            Some(live) => {
                let was = find(before, id).unwrap_or(Value::Null);
                let mut inner = map_patch(&was, value, &live, item);
                // A union's member takes the place of the one before it.
                if !inner.is_empty() {
                    if item.is_some() && is_union(item) {
                        inner.insert("$retainKeys".to_owned(), keys(value));
                    }
                    inner.insert(merge_key.to_owned(), id.clone());
                    patches.push(Value::Object(inner));
                }
            }
        }
    }
    for value in before {
        let id = &value[merge_key];
        if find(wanted, id).is_none() && find(now, id).is_some() {
            patches.push(json!({"$patch": "delete", merge_key: id}));
        }
    }
    let order = |list: &[Value], among: &[Value]| -> Vec<Value> {
        list.iter()
            .map(|i| i[merge_key].clone())
            .filter(|id| find(among, id).is_some())
            .collect()
    };
    let moved = order(wanted, now) != order(now, wanted);
    if patches.is_empty() && !moved {
        return;
    }
    let order: Vec<Value> = wanted.iter().map(|i| json!({merge_key: i[merge_key]})).collect();
    out.insert(format!("$setElementOrder/{key}"), Value::Array(order));
    if !patches.is_empty() {
        out.insert(key.to_owned(), Value::Array(patches));
    }
}

/// Volumes are told apart by which source they have: setting another must clear the first.
fn is_union(item: Option<Schema<'_>>) -> bool {
    item.is_some_and(|s| {
        let properties = &s.document.resolve(s.node)["properties"];
        properties.get("emptyDir").is_some()
            && properties.get("hostPath").is_some()
            && properties.get("configMap").is_some()
    })
}

fn merge_scalars(key: &str, before: &[Value], wanted: &[Value], now: &[Value], out: &mut Map<String, Value>) {
    let added: Vec<Value> = wanted.iter().filter(|v| !now.contains(v)).cloned().collect();
    let gone: Vec<Value> = before
        .iter()
        .filter(|v| !wanted.contains(v) && now.contains(v))
        .cloned()
        .collect();
    if added.is_empty() && gone.is_empty() {
        return;
    }
    out.insert(format!("$setElementOrder/{key}"), Value::Array(wanted.to_vec()));
    if !added.is_empty() {
        out.insert(key.to_owned(), Value::Array(added));
    }
    if !gone.is_empty() {
        out.insert(format!("$deleteFromPrimitiveList/{key}"), Value::Array(gone));
    }
}

/// The merge patch that turns one object into another.
pub fn diff(from: &Value, to: &Value) -> Value {
    three_way(from, to, from, None)
}

/// Applies a merge patch.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    if let Some(map) = target.as_object_mut() {
        for (key, value) in patch {
            if value.is_null() {
                map.remove(key);
            } else {
                merge(map.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

/// Applies a strategic merge patch: lists merge by the keys that the schema names.
pub fn strategic(target: &mut Value, patch: &Value, schema: Option<Schema<'_>>) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if patch.get("$patch").is_some_and(|p| p == "replace") || !target.is_object() {
        *target = json!({});
    }
    let Some(map) = target.as_object_mut() else { return };
    if let Some(Value::Array(keep)) = patch.get("$retainKeys") {
        map.retain(|k, _| keep.iter().any(|x| x == k));
    }
    for (key, value) in patch {
        if key.starts_with('$') {
            if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/")
                && let (Some(list), Some(gone)) =
                    (map.get_mut(field).and_then(Value::as_array_mut), value.as_array())
            {
                list.retain(|v| !gone.contains(v));
            }
            continue;
        }
        let field = schema.and_then(|s| s.field(key));
        match value {
            Value::Null => {
                map.remove(key);
            }
            Value::Object(_) => strategic(map.entry(key.clone()).or_insert_with(|| json!({})), value, field),
            Value::Array(wanted) if field.is_some_and(|f| f.strategy("merge")) => {
                let list = map.entry(key.clone()).or_insert_with(|| json!([]));
                if let Some(list) = list.as_array_mut() {
                    merge_list(list, wanted, field);
                }
            }
            other => {
                map.insert(key.clone(), other.clone());
            }
        }
    }
}

fn merge_list(list: &mut Vec<Value>, wanted: &[Value], field: Option<Schema<'_>>) {
    if wanted.iter().any(|i| i["$patch"] == "replace") {
        *list = wanted
            .iter()
            .filter(|i| i["$patch"] != "replace")
            .cloned()
            .collect();
        return;
    }
    let Some(key) = field.and_then(Schema::merge_key) else {
        for item in wanted {
            if !list.contains(item) {
                list.push(item.clone());
            }
        }
        return;
    };
    let items = field.and_then(Schema::items);
    for item in wanted {
        let at = list.iter().position(|i| i[key] == item[key]);
        if item["$patch"] == "delete" {
            if let Some(at) = at {
                list.remove(at);
            }
            continue;
        }
        match at.and_then(|at| list.get_mut(at)) {
            Some(live) => strategic(live, item, items),
            None => list.push(item.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let schemas = json!({
            "Pod": {"properties": {
                "containers": {"type": "array", "items": {"$ref": "#/components/schemas/Container"},
                    "x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge"},
                "finalizers": {"type": "array", "items": {"type": "string"}, "x-kubernetes-patch-strategy": "merge"},
                "strategy": {"allOf": [{"$ref": "#/components/schemas/Strategy"}], "x-kubernetes-patch-strategy": "retainKeys"},
                "args": {"type": "array", "items": {"type": "string"}}}},
            "Container": {"properties": {"name": {}, "image": {}, "env": {"type": "array",
                "x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge", "items": {}}}},
            "Strategy": {"properties": {"type": {}, "rolling": {}}},
        });
        match schemas {
            Value::Object(map) => Document::new(map),
            _ => unreachable!(),
        }
    }

    fn patch(original: Value, modified: Value, current: Value) -> Value {
        let document = document();
        let node = json!({"$ref": "#/components/schemas/Pod"});
        three_way(
            &original,
            &modified,
            &current,
            Some(Schema::new(&document, &node)),
        )
    }

    #[test]
    fn what_was_never_applied_is_left_alone() {
        assert_eq!(
            patch(json!({"a": 1}), json!({"a": 1}), json!({"a": 1, "b": 2})),
            json!({})
        );
        assert_eq!(
            patch(json!({"a": 1, "b": 2}), json!({"a": 1}), json!({"a": 1, "b": 2})),
            json!({"b": null})
        );
        assert_eq!(patch(json!({"b": 2}), json!({}), json!({})), json!({}));
    }

    #[test]
    fn lists_merge_by_key() {
        let c = |name: &str, image: &str| json!({"name": name, "image": image});
        assert_eq!(
            patch(
                json!({"containers": [c("a", "1"), c("b", "1")]}),
                json!({"containers": [c("a", "2")]}),
                json!({"containers": [c("a", "1"), c("b", "1"), c("injected", "1")]}),
            ),
            json!({"containers": [{"name": "a", "image": "2"}, {"$patch": "delete", "name": "b"}],
                "$setElementOrder/containers": [{"name": "a"}]})
        );
        assert_eq!(
            patch(
                json!(null),
                json!({"containers": [c("a", "1")]}),
                json!({"containers": [c("a", "1"), c("x", "1")]})
            ),
            json!({})
        );
    }

    #[test]
    fn scalars_merge_and_plain_lists_are_replaced() {
        assert_eq!(
            patch(
                json!({"finalizers": ["x"]}),
                json!({"finalizers": ["y"]}),
                json!({"finalizers": ["x", "z"]})
            ),
            json!({"finalizers": ["y"], "$deleteFromPrimitiveList/finalizers": ["x"], "$setElementOrder/finalizers": ["y"]})
        );
        assert_eq!(
            patch(
                json!({"args": ["a"]}),
                json!({"args": ["b"]}),
                json!({"args": ["a"]})
            ),
            json!({"args": ["b"]})
        );
    }

    #[test]
    fn unions_retain_only_the_wanted_keys() {
        assert_eq!(
            patch(
                json!(null),
                json!({"strategy": {"type": "R"}}),
                json!({"strategy": {"type": "U", "rolling": {"x": 1}}})
            ),
            json!({"strategy": {"type": "R", "$retainKeys": ["type"]}})
        );
        // What the server added is asked to go, as kubectl does: `apply` of it says "configured" each time.
        assert_eq!(
            patch(
                json!(null),
                json!({"strategy": {"rolling": {"x": 1}}}),
                json!({"strategy": {"type": "U", "rolling": {"x": 1}}})
            ),
            json!({"strategy": {"$retainKeys": ["rolling"]}})
        );
    }

    #[test]
    fn strategic_patches_apply() {
        let document = document();
        let node = json!({"$ref": "#/components/schemas/Pod"});
        let mut target = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}], "finalizers": ["x"]});
        let body = json!({"containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}, {"name": "c"}], "finalizers": ["y"]});
        strategic(&mut target, &body, Some(Schema::new(&document, &node)));
        assert_eq!(
            target,
            json!({"containers": [{"name": "a", "image": "2"}, {"name": "c"}], "finalizers": ["x", "y"]})
        );
    }

    #[test]
    fn merge_patches_apply() {
        let mut target = json!({"a": {"b": 1, "c": 2}});
        merge(&mut target, &json!({"a": {"b": null, "d": 3}}));
        assert_eq!(target, json!({"a": {"c": 2, "d": 3}}));
    }
}
