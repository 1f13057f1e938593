//! Moving, filling in and dropping fields of an object under conversion, each with its note.

use super::Note;
use serde_json::{Map, Value, json};

/// An object under conversion.
pub(super) struct Edit {
    /// The object.
    pub(super) object: Value,
    /// The version it came in.
    pub(super) from: String,
    /// What there is to say.
    pub(super) notes: Vec<Note>,
}

impl Edit {
    pub(super) fn new(object: Value, from: &str) -> Self {
        Self {
            object,
            from: from.to_owned(),
            notes: Vec::new(),
        }
    }

    /// Says something about a field.
    pub(super) fn note(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.notes.push(Note {
            path: path.into(),
            text: text.into(),
        });
    }

    /// Takes a field away, with a note if it was there.
    pub(super) fn drop(&mut self, path: &[&str], why: &str) {
        if take(&mut self.object, path).is_some() {
            self.note(path.join("."), format!("dropped: {why}"));
        }
    }

    /// Writes out a default that changed, where the field isn't set.
    pub(super) fn keep_default(&mut self, path: &[&str], value: Value) {
        if get(&self.object, path).is_null() {
            self.note(
                path.join("."),
                format!("written as {value}, which was the default of {}", self.from),
            );
            put(&mut self.object, path, value);
        }
    }
}

/// The value at a path; null if there is none.
pub(super) fn get<'v>(value: &'v Value, path: &[&str]) -> &'v Value {
    path.iter().fold(value, |here, key| &here[*key])
}

/// Takes the value at a path out of its map.
pub(super) fn take(value: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, before) = path.split_last()?;
    let mut here = value;
    for key in before {
        here = here.get_mut(*key)?;
    }
    here.as_object_mut()?.remove(*last)
}

/// Sets the value at a path, making the maps on the way; what is no map on the way stays and nothing is set.
pub(super) fn put(value: &mut Value, path: &[&str], new: Value) {
    let Some((last, before)) = path.split_last() else {
        return;
    };
    let mut here = value;
    for key in before {
        let Some(map) = map_of(here) else { return };
        here = map.entry(*key).or_insert_with(|| json!({}));
    }
    if let Some(map) = map_of(here) {
        map.insert((*last).to_owned(), new);
    }
}

fn map_of(value: &mut Value) -> Option<&mut Map<String, Value>> {
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

/// Renames a field of a map.
pub(super) fn rename(value: &mut Value, from: &str, to: &str) {
    if let Some(map) = value.as_object_mut()
        && let Some(moved) = map.remove(from)
    {
        map.insert(to.to_owned(), moved);
    }
}

/// The items of the list at a path; nothing if there is none.
pub(super) fn items_mut<'v>(value: &'v mut Value, path: &[&str]) -> impl Iterator<Item = &'v mut Value> {
    let list = path.iter().try_fold(value, |here, key| here.get_mut(*key));
    list.and_then(Value::as_array_mut).into_iter().flatten()
}
