//! Making strategic merge patches: the patch that turns one object into another.

use super::{
    DELETE_PRIMITIVES, DIRECTIVE, ELEMENT_ORDER, Meta, Object, PatchError, RETAIN_KEYS, element, lookup,
};
use crate::patch::merge::check_same_object;
use crate::schema::{TypeId, Types};
use serde_json::{Value, json};

/// The patch that turns `original` into `modified`.
pub fn create_two_way(
    types: &Types,
    type_name: &str,
    original: &Value,
    modified: &Value,
) -> Result<Value, PatchError> {
    create_three_way(types, type_name, original, modified, original, true)
}

/// The patch that brings `current` to `modified`, removing what was in `original` and is no longer in `modified`; what
/// others added to `current` stays. Without `overwrite`, a field that was changed in both is a conflict.
pub fn create_three_way(
    types: &Types,
    type_name: &str,
    original: &Value,
    modified: &Value,
    current: &Value,
    overwrite: bool,
) -> Result<Value, PatchError> {
    check_same_object(modified, current)?;
    let id = types
        .find(type_name)
        .ok_or_else(|| PatchError::Mismatch(format!("no type {type_name:?} in the schema")))?;
    let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let diff = Diff { types, overwrite };
    let patch = diff.map(
        &map(original),
        &map(modified),
        &map(current),
        Meta {
            ty: Some(id),
            ..Meta::default()
        },
    )?;
    Ok(Value::Object(patch))
}

struct Diff<'a> {
    types: &'a Types,
    overwrite: bool,
}

impl Diff<'_> {
    fn map(
        &self,
        original: &Object,
        modified: &Object,
        current: &Object,
        meta: Meta<'_>,
    ) -> Result<Object, PatchError> {
        let mut patch = Object::new();
        for (key, wanted) in modified {
            let before = original.get(key);
            match (wanted, current.get(key)) {
                (wanted, Some(now)) if now == wanted => {}
                (Value::Null, None) => {}
                (Value::Object(wanted), Some(Value::Object(now))) => {
                    let inner = self.inner(meta.ty, key)?;
                    let empty = Object::new();
                    let before = before.and_then(Value::as_object).unwrap_or(&empty);
                    let change = self.map(before, wanted, now, inner)?;
                    if !change.is_empty() {
                        patch.insert(key.clone(), Value::Object(change));
                    }
                }
                (Value::Array(wanted), Some(Value::Array(now))) => {
                    let inner = self.inner(meta.ty, key)?;
                    let before = before
                        .and_then(Value::as_array)
                        .map(Vec::as_slice)
                        .unwrap_or_default();
                    if inner.merge {
                        self.list(key, before, wanted, now, inner, &mut patch)?;
                    } else {
                        self.check(
                            key,
                            Some(&Value::from(before)),
                            Some(&Value::from(now.as_slice())),
                        )?;
                        patch.insert(key.clone(), Value::from(wanted.as_slice()));
                    }
                }
                (wanted, now) => {
                    self.check(key, before, now)?;
                    patch.insert(key.clone(), wanted.clone());
                }
            }
        }
        for (key, before) in original {
            if !modified.contains_key(key)
                && let Some(now) = current.get(key)
            {
                self.check(key, Some(before), Some(now))?;
                patch.insert(key.clone(), Value::Null);
            }
        }
        if meta.retain_keys && !patch.is_empty() {
            let keys: Vec<&str> = modified
                .iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, _)| k.as_str())
                .collect();
            patch.insert(RETAIN_KEYS.to_owned(), Value::from(keys));
        }
        Ok(patch)
    }

    fn inner(&self, ty: Option<TypeId>, key: &str) -> Result<Meta<'_>, PatchError> {
        lookup(self.types, ty, key)
    }

    /// A change on top of somebody else's change is a conflict, unless overwriting is allowed.
    fn check(&self, key: &str, before: Option<&Value>, now: Option<&Value>) -> Result<(), PatchError> {
        if self.overwrite || before.is_none() || before == now {
            return Ok(());
        }
        Err(PatchError::Conflict(format!(
            "{key} was changed since it was applied, and the new configuration changes it too"
        )))
    }

    fn list(
        &self,
        name: &str,
        before: &[Value],
        wanted: &[Value],
        now: &[Value],
        meta: Meta<'_>,
        patch: &mut Object,
    ) -> Result<(), PatchError> {
        let key = meta.key;
        let objects = wanted.iter().chain(now).chain(before).any(Value::is_object);
        let mut order: Vec<Value> = Vec::new();
        let mut changes = Vec::new();
        if objects {
            if key.is_empty() {
                patch.insert(name.to_owned(), Value::from(wanted));
                return Ok(());
            }
            let find = |list: &[Value], item: &Value| {
                list.iter()
                    .find(|other| item.get(key).is_some() && other.get(key) == item.get(key))
                    .cloned()
            };
            let element = Meta {
                ty: element(self.types, meta.ty),
                retain_keys: meta.retain_keys,
                ..Meta::default()
            };
            for item in wanted {
                super::lists::key_of(item, key)?;
                order.push(json!({key: item[key]}));
                let Some(current) = find(now, item) else {
                    changes.push(item.clone());
                    continue;
                };
                let map = |v: Option<Value>| v.and_then(|v| v.as_object().cloned()).unwrap_or_default();
                let mut change = self.map(
                    &map(find(before, item)),
                    &map(Some(item.clone())),
                    &map(Some(current)),
                    element,
                )?;
                if !change.is_empty() {
                    change.insert(key.to_owned(), item[key].clone());
                    changes.push(Value::Object(change));
                }
            }
            for gone in before {
                if find(wanted, gone).is_none() && find(now, gone).is_some() {
                    changes.push(json!({DIRECTIVE: "delete", key: gone[key]}));
                }
            }
        } else {
            order.extend(wanted.iter().cloned());
            changes.extend(wanted.iter().filter(|item| !now.contains(item)).cloned());
            let gone: Vec<Value> = before
                .iter()
                .filter(|item| !wanted.contains(item) && now.contains(item))
                .cloned()
                .collect();
            if !gone.is_empty() {
                patch.insert(format!("{DELETE_PRIMITIVES}{name}"), Value::from(gone));
                patch.insert(format!("{ELEMENT_ORDER}{name}"), Value::from(order.clone()));
            }
        }
        if !changes.is_empty() || !in_order(&order, now, key) {
            patch.insert(format!("{ELEMENT_ORDER}{name}"), Value::from(order));
        }
        if !changes.is_empty() {
            patch.insert(name.to_owned(), Value::from(changes));
        }
        Ok(())
    }
}

/// Whether the elements of `order` are in `now` in that order.
fn in_order(order: &[Value], now: &[Value], key: &str) -> bool {
    let same = |a: &Value, b: &Value| {
        if key.is_empty() {
            a == b
        } else {
            a.get(key) == b.get(key)
        }
    };
    let places: Vec<_> = order
        .iter()
        .map(|item| now.iter().position(|other| same(item, other)))
        .collect();
    places.is_sorted()
}
