//! Which part of an object was which part before.

use super::{list_at, part_of, text_at};
use serde_json::Value as Json;

/// The element of the old list that has the same keys as an element of the new one; only lists of type map tell.
pub(super) fn element<'v>(schema: &Json, old: Option<&'v [Json]>, item: &Json) -> Option<&'v Json> {
    if text_at(schema, "x-kubernetes-list-type") != "map" {
        return None;
    }
    let keys = list_at(schema, "x-kubernetes-list-map-keys");
    let wanted = composite(schema, keys, item)?;
    old?.iter()
        .find(|known| composite(schema, keys, known).as_ref() == Some(&wanted))
}

/// What tells an element apart.
fn composite<'v>(schema: &'v Json, keys: &[Json], item: &'v Json) -> Option<Vec<&'v Json>> {
    let values = keys.iter().map(|key| {
        let name = key.as_str()?;
        let properties = schema.get("items").and_then(|items| items.get("properties"));
        let default = || properties?.get(name)?.get("default");
        let value = item.get(name).or_else(default)?;
        (value.is_string() || value.is_number() || value.is_boolean()).then_some(value)
    });
    values.collect()
}

/// Whether a part is as it was before, as far as its parts can be told apart.
pub(super) fn unchanged(schema: &Json, new: &Json, old: &Json) -> bool {
    match (new, old) {
        (Json::Array(new), Json::Array(old)) => {
            if text_at(schema, "x-kubernetes-list-type") != "map" {
                return new == old;
            }
            let items = part_of(schema, "items").unwrap_or(&Json::Null);
            new.len() == old.len()
                && new.iter().all(|item| {
                    element(schema, Some(old), item).is_some_and(|was| unchanged(items, item, was))
                })
        }
        (Json::Object(new), Json::Object(old)) => {
            new.len() == old.len()
                && new.iter().all(|(key, value)| {
                    let part = property(schema, key).unwrap_or(&Json::Null);
                    old.get(key).is_some_and(|was| unchanged(part, value, was))
                })
        }
        _ => new == old,
    }
}

/// The schema of a property.
pub(super) fn property<'j>(schema: &'j Json, name: &str) -> Option<&'j Json> {
    let declared = schema
        .get("properties")
        .and_then(|properties| properties.get(name));
    declared.or_else(|| part_of(schema, "additionalProperties"))
}
