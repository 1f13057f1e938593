//! Strategic merge patch: lists merge by the keys that the schema names, steered by `$` directives.
//!
//! The directives: `$patch: replace | delete | merge` in an object, `$retainKeys`, `$setElementOrder/<list>` and
//! `$deleteFromPrimitiveList/<list>` (Kubernetes' documentation "Strategic Merge Patch").

mod diff;
mod lists;

use super::PatchError;
use crate::schema::{Field, Type, TypeId, Types};
use serde_json::{Map, Value};

pub use diff::{create_three_way, create_two_way};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch to an object of the type called `type_name`.
pub fn merge(types: &Types, type_name: &str, original: Value, patch: Value) -> Result<Value, PatchError> {
    let id = types
        .find(type_name)
        .ok_or_else(|| PatchError::Mismatch(format!("no type {type_name:?} in the schema")))?;
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(PatchError::Malformed("Invalid JSON document".to_owned()));
    };
    Merger { types }.map(original, patch, Some(id)).map(Value::Object)
}

/// What the schema says of a field for strategic merge.
#[derive(Clone, Copy, Default)]
struct Meta<'a> {
    ty: Option<TypeId>,
    merge: bool,
    replace: bool,
    retain_keys: bool,
    key: &'a str,
}

impl<'a> Meta<'a> {
    fn of_field(field: &'a Field) -> Self {
        Self {
            ty: Some(field.ty),
            merge: field.patch_merge,
            replace: false,
            retain_keys: field.patch_retain_keys,
            key: field.patch_merge_key.as_deref().unwrap_or_default(),
        }
    }
}

/// Looks up what is known of the field `name` of a type; nothing below free-form JSON.
fn lookup<'a>(types: &'a Types, id: Option<TypeId>, name: &str) -> Result<Meta<'a>, PatchError> {
    let Some(id) = id else { return Ok(Meta::default()) };
    match types.get(id) {
        Type::Struct(definition) => match definition.field(name) {
            Some(field) => Ok(Meta::of_field(field)),
            None => Err(PatchError::Mismatch(format!(
                "unable to find api field in struct {} for the json field {name:?}",
                definition.short_name()
            ))),
        },
        Type::Map(map) => Ok(Meta {
            ty: Some(map.value),
            ..Meta::default()
        }),
        Type::List(_) | Type::Scalar(..) => Ok(Meta::default()),
    }
}

/// The type of a list's elements.
fn element(types: &Types, id: Option<TypeId>) -> Option<TypeId> {
    match types.get(id?) {
        Type::List(list) => Some(list.element),
        _ => None,
    }
}

struct Merger<'a> {
    types: &'a Types,
}

type Object = Map<String, Value>;

impl Merger<'_> {
    fn map(&self, mut original: Object, mut patch: Object, id: Option<TypeId>) -> Result<Object, PatchError> {
        match patch
            .get(DIRECTIVE)
            .map(|d| d.as_str().unwrap_or_default().to_owned())
            .as_deref()
        {
            None => {}
            Some("replace") => {
                patch.remove(DIRECTIVE);
                return Ok(patch);
            }
            Some("delete") => return Ok(Object::new()),
            Some("merge") => {
                patch.remove(DIRECTIVE);
            }
            Some(other) => return Err(unknown_directive(other, &patch)),
        }
        retain_keys(&mut original, &mut patch)?;
        self.element_orders(&mut original, &mut patch, id)?;
        for (key, change) in patch {
            if let Some(list) = key.strip_prefix(DELETE_PRIMITIVES) {
                if let (Some(Value::Array(items)), Value::Array(gone)) = (original.get_mut(list), &change) {
                    items.retain(|item| !gone.contains(item));
                }
                continue;
            }
            if change.is_null() {
                original.remove(&key);
                continue;
            }
            let merged = match (original.remove(&key), change) {
                (Some(Value::Object(old)), Value::Object(change)) => {
                    let meta = lookup(self.types, id, &key)?;
                    if meta.replace {
                        Value::Object(change)
                    } else {
                        Value::Object(self.map(old, change, meta.ty)?)
                    }
                }
                (Some(Value::Array(old)), Value::Array(change)) => {
                    let meta = lookup(self.types, id, &key)?;
                    if meta.merge {
                        Value::Array(self.list(old, change, &meta)?)
                    } else {
                        Value::Array(change)
                    }
                }
                (_, change) => match drop_directives(change) {
                    Some(value) => value,
                    None => continue,
                },
            };
            original.insert(key, merged);
        }
        Ok(original)
    }

    /// Handles the lists that the patch gives an order for, and takes them out of the patch.
    fn element_orders(
        &self,
        original: &mut Object,
        patch: &mut Object,
        id: Option<TypeId>,
    ) -> Result<(), PatchError> {
        let ordered: Vec<String> = patch
            .keys()
            .filter(|k| k.starts_with(ELEMENT_ORDER))
            .cloned()
            .collect();
        for directive in ordered {
            let name = &directive[ELEMENT_ORDER.len()..];
            let Some(Value::Array(order)) = patch.remove(&directive) else {
                return Err(PatchError::Malformed(format!(
                    "invalid patch format of setElementOrder list: {directive:?} must be a list"
                )));
            };
            let meta = lookup(self.types, id, name)?;
            let change = match patch.remove(name) {
                Some(Value::Array(change)) => Some(change),
                // A null deletes the list; anything else replaces it.
                Some(other) => {
                    patch.insert(name.to_owned(), other);
                    continue;
                }
                None => None,
            };
            let old = match original.remove(name) {
                Some(Value::Array(old)) => Some(old),
                Some(other) => {
                    original.insert(name.to_owned(), other);
                    continue;
                }
                None => None,
            };
            if let Some(change) = &change {
                lists::check_order(change, &order, meta.key)?;
            }
            let server_order = old.clone().unwrap_or_default();
            let merged = match (old, change) {
                (None, None) => continue,
                (Some(old), None) => old,
                (None, Some(change)) => change.into_iter().filter_map(drop_directives).collect(),
                (Some(old), Some(change)) if meta.merge => self.list(old, change, &meta)?,
                (Some(_), Some(change)) => change,
            };
            let (ordered, server_only) = lists::partition(merged, &order, meta.key);
            let items = lists::weave(ordered, server_only, &order, &server_order, meta.key);
            original.insert(name.to_owned(), Value::Array(items));
        }
        Ok(())
    }

    /// Merges a list whose elements are told apart by themselves or by a key.
    fn list(
        &self,
        original: Vec<Value>,
        patch: Vec<Value>,
        meta: &Meta<'_>,
    ) -> Result<Vec<Value>, PatchError> {
        if original.iter().chain(&patch).any(Value::is_array) {
            return Err(PatchError::Mismatch(
                "lists of lists are not supported".to_owned(),
            ));
        }
        if !original.iter().chain(&patch).any(Value::is_object) {
            let mut merged = Vec::with_capacity(original.len() + patch.len());
            for item in original.iter().chain(&patch) {
                if !merged.contains(item) {
                    merged.push(item.clone());
                }
            }
            let (ordered, server_only) = lists::partition(merged, &patch, "");
            return Ok(lists::weave(ordered, server_only, &patch, &original, ""));
        }
        if meta.key.is_empty() {
            return Err(PatchError::Mismatch(
                "cannot merge lists without merge key".to_owned(),
            ));
        }
        let server_order = original.clone();
        let (mut merged, patch) = lists::special_elements(original, patch, meta.key)?;
        let patch_order = patch.clone();
        for change in patch {
            let wanted = lists::key_of(&change, meta.key)?.clone();
            match merged.iter_mut().find(|old| old.get(meta.key) == Some(&wanted)) {
                Some(slot) => {
                    let (Value::Object(old), Value::Object(change)) = (slot.take(), change) else {
                        continue;
                    };
                    *slot = Value::Object(self.map(old, change, element(self.types, meta.ty))?);
                }
                None => merged.extend(drop_directives(change)),
            }
        }
        let (ordered, server_only) = lists::partition(merged, &patch_order, meta.key);
        Ok(lists::weave(
            ordered,
            server_only,
            &patch_order,
            &server_order,
            meta.key,
        ))
    }
}

fn unknown_directive(directive: &str, patch: &Object) -> PatchError {
    PatchError::Malformed(format!(
        "Unknown patch type: {directive} in map: {}",
        Value::Object(patch.clone())
    ))
}

/// Clears the fields of the original that `$retainKeys` doesn't name.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let bad = || PatchError::Malformed("invalid patch format of retainKeys".to_owned());
    let kept: Vec<&str> = directive
        .as_array()
        .ok_or_else(bad)?
        .iter()
        .map(|k| k.as_str().ok_or_else(bad))
        .collect::<Result<_, _>>()?;
    for (key, change) in patch.iter() {
        let directive = key.starts_with(DELETE_PRIMITIVES) || key.starts_with(ELEMENT_ORDER);
        if !change.is_null() && !directive && !kept.contains(&key.as_str()) {
            return Err(bad());
        }
    }
    original.retain(|key, _| kept.contains(&key.as_str()));
    Ok(())
}

/// What a patch's value is where the original has nothing to merge it with: without nulls and directives. An object
/// with a `$patch` directive is about something that isn't there, and so is nothing.
fn drop_directives(patch: Value) -> Option<Value> {
    match patch {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => {
            let directive = |key: &str| {
                key == RETAIN_KEYS || key.starts_with(ELEMENT_ORDER) || key.starts_with(DELETE_PRIMITIVES)
            };
            let kept = map
                .into_iter()
                .filter(|(key, value)| !directive(key) && !value.is_null());
            Some(Value::Object(
                kept.filter_map(|(key, value)| Some((key, drop_directives(value)?)))
                    .collect(),
            ))
        }
        Value::Array(items) => Some(Value::Array(
            items.into_iter().filter_map(drop_directives).collect(),
        )),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests;
