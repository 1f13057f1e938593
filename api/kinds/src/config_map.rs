//! ConfigMap.

use crate::print::{self, AGE, NAME};
use rutter_api::FieldError;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{At, config_map_key};
use rutter_api::{Context, ErrorList, Strategy, Value};

/// ConfigMap.
pub(crate) struct ConfigMap;

impl Strategy for ConfigMap {
    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        let mut errors = kept_when_immutable(object, old, &["data", "binaryData"]);
        errors.extend(validate(object));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, print::text("Data", "How many entries it has."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let entries = ["data", "binaryData"].map(|field| object.map_at(field).map_or(0, |map| map.len()));
        vec![
            print::name(object),
            Value::from(entries.iter().sum::<usize>()),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

/// The largest size of a ConfigMap's or a Secret's entries together.
pub(crate) const MAX_SIZE: usize = 1024 * 1024;

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let mut size = 0;
    for field in ["data", "binaryData"] {
        let map = root.child(field);
        for (key, value) in map.entries() {
            errors.extend(
                config_map_key(key)
                    .into_iter()
                    .map(|e| map.key(key).invalid_as(key, e)),
            );
            let text = value.as_str().unwrap_or_default();
            size += if field == "data" {
                text.len()
            } else {
                text.len() / 4 * 3
            };
            if field == "data" && object.at("binaryData").get(key).is_some() {
                errors.push(
                    map.key(key)
                        .invalid_as(key, "duplicate of key present in binaryData"),
                );
            }
        }
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long(&"[]".into(), MAX_SIZE));
    }
    errors
}

/// What is immutable stays so, and as it is.
pub(crate) fn kept_when_immutable(object: &Value, old: &Value, fields: &[&str]) -> ErrorList {
    let mut errors = ErrorList::new();
    if old.bool_at("immutable") != Some(true) {
        return errors;
    }
    let detail = "field is immutable when `immutable` is set";
    let root = At::root(object);
    if !root.child("immutable").flag() {
        errors.push(root.child("immutable").forbidden(detail));
    }
    for field in fields {
        let now = root.child(field);
        if now.value != old.at(field) && !(now.is_empty() && At::root(old).child(field).is_empty()) {
            errors.push(now.forbidden(detail));
        }
    }
    errors
}
