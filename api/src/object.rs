//! Reading and writing the parts that all objects have, on a tree of values.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// Short access to fields of an object tree. Absent, null and wrong-typed all read as "nothing there"; decoding has
/// checked the types against the schema before anything here runs.
pub trait ObjectExt {
    /// The value at a dotted path, such as `spec.template.metadata`; null when any part is absent.
    fn at(&self, path: &str) -> &Value;
    /// The text at a dotted path; empty when absent.
    fn str_at(&self, path: &str) -> &str;
    /// The integer at a dotted path.
    fn int_at(&self, path: &str) -> Option<i64>;
    /// The boolean at a dotted path.
    fn bool_at(&self, path: &str) -> Option<bool>;
    /// The elements of the list at a dotted path; empty when absent.
    fn list_at(&self, path: &str) -> &[Value];
    /// The entries of the map at a dotted path.
    fn map_at(&self, path: &str) -> Option<&Map<String, Value>>;
    /// The value at a dotted path, made on the way (as objects) where absent.
    fn at_mut(&mut self, path: &str) -> &mut Value;
    /// The list at a dotted path, for change, when it is there.
    fn list_at_mut(&mut self, path: &str) -> Option<&mut Vec<Value>>;
    /// Sets the value at a dotted path, making parents as needed.
    fn set(&mut self, path: &str, value: impl Into<Value>);
    /// Sets the value at a dotted path unless something other than null is there.
    fn set_default(&mut self, path: &str, value: impl Into<Value>);
    /// Removes and returns what is at a dotted path.
    fn take_at(&mut self, path: &str) -> Option<Value>;
    /// `metadata.name`
    fn name(&self) -> &str;
    /// `metadata.namespace`; empty when cluster-scoped.
    fn namespace(&self) -> &str;
    /// `metadata.uid`
    fn uid(&self) -> &str;
    /// `metadata.resourceVersion`
    fn resource_version(&self) -> &str;
    /// Whether `metadata.deletionTimestamp` is set.
    fn is_deleting(&self) -> bool;
    /// `metadata.labels[key]`
    fn label(&self, key: &str) -> Option<&str>;
    /// `metadata.annotations[key]`
    fn annotation(&self, key: &str) -> Option<&str>;
}

impl ObjectExt for Value {
    fn at(&self, path: &str) -> &Value {
        let mut value = self;
        for part in path.split('.') {
            match value.get(part) {
                Some(inner) => value = inner,
                None => return &NULL,
            }
        }
        value
    }

    fn str_at(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or_default()
    }

    fn int_at(&self, path: &str) -> Option<i64> {
        self.at(path).as_i64()
    }

    fn bool_at(&self, path: &str) -> Option<bool> {
        self.at(path).as_bool()
    }

    fn list_at(&self, path: &str) -> &[Value] {
        self.at(path).as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn map_at(&self, path: &str) -> Option<&Map<String, Value>> {
        self.at(path).as_object()
    }

    fn at_mut(&mut self, path: &str) -> &mut Value {
        let mut value = self;
        for part in path.split('.') {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            value = match value {
                Value::Object(map) => map.entry(part).or_insert(Value::Null),
                other => other,
            };
        }
        value
    }

    fn list_at_mut(&mut self, path: &str) -> Option<&mut Vec<Value>> {
        let mut value = self;
        for part in path.split('.') {
            value = value.get_mut(part)?;
        }
        value.as_array_mut()
    }

    fn set(&mut self, path: &str, value: impl Into<Value>) {
        *self.at_mut(path) = value.into();
    }

    fn set_default(&mut self, path: &str, value: impl Into<Value>) {
        if self.at(path).is_null() {
            self.set(path, value);
        }
    }

    fn take_at(&mut self, path: &str) -> Option<Value> {
        let (parent, last) = match path.rsplit_once('.') {
            None => (self, path),
            Some((parents, last)) => {
                let mut value = self;
                for part in parents.split('.') {
                    value = value.get_mut(part)?;
                }
                (value, last)
            }
        };
        parent.as_object_mut()?.remove(last)
    }

    fn name(&self) -> &str {
        self.str_at("metadata.name")
    }

    fn namespace(&self) -> &str {
        self.str_at("metadata.namespace")
    }

    fn uid(&self) -> &str {
        self.str_at("metadata.uid")
    }

    fn resource_version(&self) -> &str {
        self.str_at("metadata.resourceVersion")
    }

    fn is_deleting(&self) -> bool {
        !self.at("metadata.deletionTimestamp").is_null()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.at("metadata.labels").get(key)?.as_str()
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.at("metadata.annotations").get(key)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_read_make_and_remove_fields() {
        let mut object = json!({"metadata": {"name": "a", "labels": {"x.y/z": "1"}}});
        assert_eq!(object.name(), "a");
        assert_eq!(object.label("x.y/z"), Some("1"));
        assert!(object.at("spec.replicas").is_null());
        object.set_default("spec.replicas", 1);
        object.set_default("spec.replicas", 2);
        assert_eq!(object.int_at("spec.replicas"), Some(1));
        assert_eq!(object.take_at("spec.replicas"), Some(json!(1)));
        assert_eq!(object.take_at("status.phase"), None);
    }
}
