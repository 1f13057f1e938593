//! The form in which objects are stored: as they are, but for the version they are stored in and the resource version, which is the
//! commit's to give. Written without a copy of the tree.

use bytes::Bytes;
use rutter_api::Value;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Map;

/// An object to be stored.
pub(crate) struct Stored<'a> {
    pub(crate) object: &'a Value,
    pub(crate) api_version: &'a str,
    pub(crate) kind: &'a str,
}

/// Its metadata.
struct Metadata<'a>(&'a Map<String, Value>);

impl Stored<'_> {
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(1024);
        // A tree of values has text keys and finite numbers, so writing it to memory doesn't fail.
        let _ = serde_json::to_writer(&mut bytes, self);
        bytes.into()
    }
}

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(object) = self.object else {
            return self.object.serialize(serializer);
        };
        let mut out = serializer.serialize_map(None)?;
        // Canonical order, as trees have it: apiVersion and kind stand where they would stand among the others.
        let (mut version, mut kind) = (Some(self.api_version), Some(self.kind));
        for (key, value) in object {
            if key.as_str() >= "apiVersion"
                && let Some(version) = version.take()
            {
                out.serialize_entry("apiVersion", version)?;
            }
            if key.as_str() >= "kind"
                && let Some(kind) = kind.take()
            {
                out.serialize_entry("kind", kind)?;
            }
            match (key.as_str(), value) {
                ("apiVersion" | "kind", _) => {}
                ("metadata", Value::Object(metadata)) => out.serialize_entry(key, &Metadata(metadata))?,
                _ => out.serialize_entry(key, value)?,
            }
        }
        if let Some(version) = version {
            out.serialize_entry("apiVersion", version)?;
        }
        if let Some(kind) = kind {
            out.serialize_entry("kind", kind)?;
        }
        out.end()
    }
}

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        for (key, value) in self.0 {
            if !matches!(key.as_str(), "resourceVersion" | "selfLink") {
                out.serialize_entry(key, value)?;
            }
        }
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stored_bytes_are_the_object_in_the_stored_version_without_a_resource_version() {
        for (object, want) in [
            (
                json!({"apiVersion": "v1beta1", "kind": "Old", "metadata": {"name": "a", "resourceVersion": "7", "selfLink": "x"}, "spec": {}}),
                r#"{"apiVersion":"v1","kind":"New","metadata":{"name":"a"},"spec":{}}"#,
            ),
            (
                json!({"data": {"resourceVersion": "kept"}, "zone": 1, "metadata": {}}),
                r#"{"apiVersion":"v1","data":{"resourceVersion":"kept"},"kind":"New","metadata":{},"zone":1}"#,
            ),
            (json!({}), r#"{"apiVersion":"v1","kind":"New"}"#),
        ] {
            let stored = Stored {
                object: &object,
                api_version: "v1",
                kind: "New",
            };
            assert_eq!(std::str::from_utf8(&stored.to_bytes()).unwrap(), want);
        }
    }
}
