//! A place in an object: a value and the way to it.
//!
//! The path is put together only when something is wrong there, so walking a valid object allocates nothing.

use crate::field::{FieldError, Path};
use crate::object::ObjectExt;
use serde_json::Value;

static NULL: Value = Value::Null;

#[derive(Clone, Copy, Debug)]
enum Step<'p> {
    Root,
    Field(&'p str),
    Index(usize),
    Key(&'p str),
}

/// A value within an object, and its path.
#[derive(Clone, Copy, Debug)]
pub struct At<'p, 'v> {
    /// The value; null where there is nothing.
    pub value: &'v Value,
    up: Option<&'p At<'p, 'v>>,
    step: Step<'p>,
}

impl<'v> At<'_, 'v> {
    /// The top of an object.
    pub fn root(value: &'v Value) -> Self {
        Self {
            value,
            up: None,
            step: Step::Root,
        }
    }

    /// A field, or several below each other, joined by dots.
    pub fn child<'a>(&'a self, name: &'a str) -> At<'a, 'v> {
        At {
            value: self.value.at(name),
            up: Some(self),
            step: Step::Field(name),
        }
    }

    /// A field, its dots being part of its name, with a value that stands elsewhere.
    pub fn field<'a>(&'a self, name: &'a str, value: &'v Value) -> At<'a, 'v> {
        At {
            value,
            up: Some(self),
            step: Step::Field(name),
        }
    }

    /// An entry of a map.
    pub fn key<'a>(&'a self, key: &'a str) -> At<'a, 'v> {
        At {
            value: self.value.get(key).unwrap_or(&NULL),
            up: Some(self),
            step: Step::Key(key),
        }
    }

    /// The elements of this list.
    pub fn items<'a>(&'a self) -> impl Iterator<Item = At<'a, 'v>> + 'a {
        self.value
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
            .map(move |(i, value)| At {
                value,
                up: Some(self),
                step: Step::Index(i),
            })
    }

    /// The entries of this map.
    pub fn entries(&self) -> impl Iterator<Item = (&'v str, &'v Value)> + use<'v> {
        let value: &'v Value = self.value;
        value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// How many elements or entries there are.
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        }
    }

    /// Whether there is nothing, or something without elements.
    pub fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        }
    }

    /// Whether there is nothing.
    pub fn is_null(&self) -> bool {
        self.value.is_null()
    }

    /// Whether there is something.
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// The text, empty when absent.
    pub fn text(&self) -> &'v str {
        self.value.as_str().unwrap_or_default()
    }

    /// The number, when there is one.
    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// The flag, false when absent.
    pub fn flag(&self) -> bool {
        self.value.as_bool().unwrap_or_default()
    }

    /// The path.
    pub fn path(&self) -> Path {
        let base = self.up.map(At::path).unwrap_or_default();
        match self.step {
            Step::Root => base,
            Step::Field(name) => base.child(name),
            Step::Index(i) => base.index(i),
            Step::Key(key) => base.key(key),
        }
    }

    /// The value here is required.
    pub fn required(&self, detail: impl Into<String>) -> FieldError {
        FieldError::required(&self.path(), detail)
    }

    /// The value here is invalid.
    pub fn invalid(&self, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(&self.path(), self.value.clone(), detail)
    }

    /// Something here is invalid, showing another value.
    pub fn invalid_as(&self, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(&self.path(), value, detail)
    }

    /// The value here may not be there.
    pub fn forbidden(&self, detail: impl Into<String>) -> FieldError {
        FieldError::forbidden(&self.path(), detail)
    }

    /// The value here is none of those that are supported.
    pub fn not_supported(&self, supported: &[&str]) -> FieldError {
        let shown = if self.value.is_null() {
            Value::from("")
        } else {
            self.value.clone()
        };
        FieldError::not_supported(&self.path(), shown, supported)
    }

    /// The value here was there before.
    pub fn duplicate(&self) -> FieldError {
        FieldError::duplicate(&self.path(), self.value.clone())
    }

    /// The value here refers to nothing.
    pub fn not_found(&self) -> FieldError {
        FieldError::not_found(&self.path(), self.value.clone())
    }

    /// Each text as an error of the value here.
    pub fn all(&self, errors: &mut Vec<FieldError>, texts: Vec<String>) {
        errors.extend(texts.into_iter().map(|text| self.invalid(text)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_know_their_paths() {
        let object = json!({"spec": {"ports": [{"name": "a"}], "map": {"k": 1}}});
        let root = At::root(&object);
        let spec = root.child("spec");
        let ports = spec.child("ports");
        for port in ports.items() {
            assert_eq!(port.child("name").path().as_str(), "spec.ports[0].name");
            assert_eq!(port.child("name").text(), "a");
            assert!(port.child("port").is_null());
        }
        assert_eq!(spec.child("map").key("k").path().as_str(), "spec.map[k]");
    }
}
