//! JSON: strict UTF-8, bounded depth, duplicate fields found.

use super::ParseError;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Parses one JSON value, and gives the paths of fields that appear twice (the last one wins). Nesting deeper than
/// [`MAX_DEPTH`](super::MAX_DEPTH) is an error.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), ParseError> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed {
        duplicates: &mut duplicates,
    }
    .deserialize(&mut deserializer)
    .and_then(|value| deserializer.end().map(|()| value))
    .map_err(|e| ParseError(e.to_string()))?;
    let paths = duplicates.into_iter().map(render).collect();
    Ok((value, paths))
}

/// The canonical bytes.
pub fn to_vec(value: &Value) -> Vec<u8> {
    // A tree of values has text keys and finite numbers, so writing it to memory doesn't fail.
    serde_json::to_vec(value).unwrap_or_default()
}

/// One step of a duplicate's path; paths are built from the inside out.
enum Step {
    Field(String),
    Index(usize),
}

type Duplicates = Vec<Vec<Step>>;

fn render(steps: Vec<Step>) -> String {
    let mut path = String::new();
    for step in steps.into_iter().rev() {
        match step {
            Step::Field(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&name);
            }
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

struct Seed<'d> {
    duplicates: &'d mut Duplicates,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let known = self.duplicates.len();
            let Some(item) = access.next_element_seed(Seed {
                duplicates: self.duplicates,
            })?
            else {
                break;
            };
            for path in &mut self.duplicates[known..] {
                path.push(Step::Index(items.len()));
            }
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let known = self.duplicates.len();
            let value = access.next_value_seed(Seed {
                duplicates: self.duplicates,
            })?;
            for path in &mut self.duplicates[known..] {
                path.push(Step::Field(key.clone()));
            }
            match map.entry(key) {
                serde_json::map::Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                serde_json::map::Entry::Occupied(mut entry) => {
                    self.duplicates.push(vec![Step::Field(entry.key().clone())]);
                    entry.insert(value);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn duplicate_fields_are_found_with_their_paths() {
        let text = br#"{"a":{"b":[{"c":1,"c":2},{"d":1}],"b":[]},"a":1,"e":{"f":1,"f":1}}"#;
        let (value, duplicates) = parse(text).unwrap();
        assert_eq!(value, json!({"a": 1, "e": {"f": 1}}));
        assert_eq!(duplicates, ["a.b[0].c", "a.b", "a", "e.f"]);
    }

    #[test]
    fn numbers_come_back_as_they_went() {
        for text in [
            "5.555555555555555e+43",
            "0.1",
            "1.7976931348623157e+308",
            "9223372036854775807",
        ] {
            let (value, _) = parse(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(to_vec(&value)).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{} x", "{\"a\":}", "[1,]", "nul", "\"\u{1}\"", "1e999"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"\"\xff\"").is_err(), "invalid UTF-8");
        let deep = "[".repeat(1_000_000);
        assert!(parse(deep.as_bytes()).is_err());
    }

    /// Any JSON tree.
    pub(crate) fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-z.]{0,4}", inner, 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in tree()) {
            prop_assert_eq!(parse(&to_vec(&value)), Ok((value, Vec::new())));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&bytes);
        }
    }
}
