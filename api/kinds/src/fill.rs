//! Filling in defaults: the few moves that all kinds' defaulting is made of.
//!
//! None of them touches a field that holds something, so defaulting twice is defaulting once.

use rutter_api::{Map, Value};

/// An object's fields.
pub(crate) type Fields = Map<String, Value>;

/// Sets a field that is absent or null (a nil pointer in the reference).
pub(crate) fn absent(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    if fields.get(name).is_none_or(Value::is_null) {
        fields.insert(name.to_owned(), value.into());
    }
}

/// Sets a text that is absent, null or empty.
pub(crate) fn text(fields: &mut Fields, name: &str, value: &str) {
    if fields
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .is_empty()
    {
        fields.insert(name.to_owned(), Value::from(value));
    }
}

/// Sets a number that is absent, null or zero.
pub(crate) fn number(fields: &mut Fields, name: &str, value: i64) {
    if fields.get(name).and_then(Value::as_i64).unwrap_or_default() == 0 {
        fields.insert(name.to_owned(), Value::from(value));
    }
}

/// The object in a field, when there is one.
pub(crate) fn inside<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    fields.get_mut(name)?.as_object_mut()
}

/// The object in a field, made where it is absent.
pub(crate) fn made<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    if fields.get(name).is_none_or(Value::is_null) {
        fields.insert(name.to_owned(), Value::Object(Map::new()));
    }
    inside(fields, name)
}

/// The objects in a list field.
pub(crate) fn each<'a>(fields: &'a mut Fields, name: &str) -> impl Iterator<Item = &'a mut Fields> {
    fields
        .get_mut(name)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// A text field, empty when absent.
pub(crate) fn text_of<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a field is absent, null, or an empty text, list or map.
pub(crate) fn empty(fields: &Fields, name: &str) -> bool {
    match fields.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    }
}

/// The spec of an object, made where it is absent, as the reference's types always have one.
pub(crate) fn spec(object: &mut Value) -> Option<&mut Fields> {
    made(object.as_object_mut()?, "spec")
}
