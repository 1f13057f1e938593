//! An object's outline: what an index over objects needs, read without making a tree of the rest.
//!
//! Kept are name, namespace, uid, labels and owner references of the metadata; texts, numbers and booleans at the top and one level
//! below it; and `podIPs`. All else is checked to be JSON and left out. Built-in kinds' selectable fields all lie within.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;

/// Reads the outline of an object. With `metadata_only`, of its metadata alone.
pub fn outline(bytes: &[u8], metadata_only: bool) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let place = Place::Object { metadata_only };
    let value = place.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value.unwrap_or_default())
}

/// Where in the object a value stands, which decides what is kept of it.
#[derive(Clone, Copy)]
enum Place {
    /// The object itself.
    Object { metadata_only: bool },
    /// `metadata`
    Metadata,
    /// Another member of the object: its scalars count.
    Part,
    /// Kept with all that is in it.
    Whole,
    /// Kept if it is a scalar.
    Scalar,
}

/// Members that hold payload and that nothing selects by.
const PAYLOAD: &[&str] = &["data", "binaryData", "stringData"];

impl Place {
    /// Where a member stands; none when it is left out.
    fn of(self, name: &str) -> Option<Self> {
        match self {
            Self::Object { .. } if name == "metadata" => Some(Self::Metadata),
            Self::Object { metadata_only: true } => None,
            Self::Object { .. } if PAYLOAD.contains(&name) => None,
            Self::Object { .. } => Some(Self::Part),
            Self::Metadata => match name {
                "name" | "namespace" | "uid" | "labels" | "ownerReferences" => Some(Self::Whole),
                _ => None,
            },
            Self::Part if name == "podIPs" => Some(Self::Whole),
            Self::Part => Some(Self::Scalar),
            Self::Whole => Some(Self::Whole),
            Self::Scalar => None,
        }
    }

    fn keeps_maps(self) -> bool {
        !matches!(self, Self::Scalar)
    }

    fn keeps_lists(self) -> bool {
        matches!(self, Self::Whole)
    }
}

impl<'de> DeserializeSeed<'de> for Place {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Option<Value>, E> {
        Ok(Some(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Option<Value>, E> {
        Ok(Some(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Option<Value>, E> {
        Ok(Some(Value::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Option<Value>, E> {
        Ok(Some(Value::from(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Option<Value>, E> {
        Ok(Some(Value::from(value)))
    }

    fn visit_unit<E>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<Value>, A::Error> {
        if !self.keeps_lists() {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        }
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self)? {
            items.push(item.unwrap_or_default());
        }
        Ok(Some(Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Value>, A::Error> {
        if !self.keeps_maps() {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(None);
        }
        let mut kept = Map::new();
        while let Some(Name(name)) = map.next_key()? {
            let Some(place) = self.of(&name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if let Some(value) = map.next_value_seed(place)? {
                kept.insert(name.into_owned(), value);
            }
        }
        Ok(Some(Value::Object(kept)))
    }
}

/// A member's name, borrowed where it has no escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_indexes_need_is_kept_and_the_rest_is_not() {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "type": "Opaque", "data": {"key": "value"},
            "metadata": {"name": "a", "namespace": "b", "uid": "c", "labels": {"x/y": "z", "q\"": "w"},
                "annotations": {"long": "text"}, "managedFields": [{"fieldsV1": {}}],
                "ownerReferences": [{"uid": "d", "controller": true}]},
            "spec": {"nodeName": "n", "hostNetwork": true, "containers": [{"name": "c"}], "securityContext": {"a": 1}},
            "status": {"phase": "Running", "podIPs": [{"ip": "1.2.3.4"}], "conditions": [{}], "succeeded": 3},
        });
        let kept = outline(object.to_string().as_bytes(), false).unwrap();
        let want = json!({
            "apiVersion": "v1", "kind": "Pod", "type": "Opaque",
            "metadata": {"name": "a", "namespace": "b", "uid": "c", "labels": {"x/y": "z", "q\"": "w"},
                "ownerReferences": [{"uid": "d", "controller": true}]},
            "spec": {"nodeName": "n", "hostNetwork": true},
            "status": {"phase": "Running", "podIPs": [{"ip": "1.2.3.4"}], "succeeded": 3},
        });
        assert_eq!(kept, want);
        let metadata = outline(object.to_string().as_bytes(), true).unwrap();
        assert_eq!(metadata, json!({"metadata": want["metadata"]}));
    }

    #[test]
    fn what_is_left_out_must_be_json_all_the_same() {
        for text in [
            "",
            "{",
            r#"{"spec": {"containers": [}]}}"#,
            r#"{"data": {"a": 1,}}"#,
            "{} x",
        ] {
            assert!(outline(text.as_bytes(), false).is_err(), "{text}");
        }
    }
}
