//! Writing messages.

use crate::duration;
use crate::schema::{Field, List, Scalar, Struct, Type, TypeId, Types};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;

pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u32) {
    varint(out, u64::from(number << 3 | wire));
}

pub(super) fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    tag(out, number, DELIMITED);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// The tag and the length of a nested message that follows.
pub(super) fn begin(out: &mut Vec<u8>, number: u32, length: usize) {
    tag(out, number, DELIMITED);
    varint(out, length as u64);
}

pub(crate) fn text(out: &mut Vec<u8>, number: u32, value: &str) {
    bytes(out, number, value.as_bytes());
}

pub(crate) fn integer(out: &mut Vec<u8>, number: u32, value: i64) {
    tag(out, number, VARINT);
    varint(out, value as u64);
}

pub(crate) fn double(out: &mut Vec<u8>, number: u32, value: f64) {
    tag(out, number, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A nested message, whose length is known once it is written.
pub(crate) fn delimited(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    tag(out, number, DELIMITED);
    let start = out.len();
    // Most messages are shorter than 128 bytes: one byte for the length.
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        let mut prefix = Vec::with_capacity(5);
        varint(&mut prefix, length as u64);
        out.splice(start..=start, prefix);
    }
}

/// The body of an object of a type.
pub(super) fn message(types: &Types, type_name: &str, object: &Value, out: &mut Vec<u8>) {
    if let (Some(definition), Value::Object(map)) = (types.struct_named(type_name), object) {
        structure(types, definition, map, out);
    }
}

fn structure(types: &Types, definition: &Struct, map: &Map<String, Value>, out: &mut Vec<u8>) {
    let fields: Vec<(&Field, &Value)> = definition
        .fields
        .iter()
        .filter(|field| field.number > 0)
        .filter_map(|field| {
            map.get(&*field.name)
                .filter(|v| !v.is_null())
                .map(|value| (field, value))
        })
        .collect();
    level(types, &fields, 0, out);
}

/// The fields of a message; those that protobuf puts into a message of their own at this depth are gathered there.
fn level(types: &Types, fields: &[(&Field, &Value)], depth: usize, out: &mut Vec<u8>) {
    let mut groups: Vec<u16> = Vec::new();
    for (field, value) in fields {
        match field.inline.get(depth) {
            None => {
                member(types, field.ty, u32::from(field.number), value, out);
            }
            Some((number, _)) if groups.contains(number) => {}
            Some((number, _)) => {
                groups.push(*number);
                let inner: Vec<_> = fields
                    .iter()
                    .filter(|(f, _)| f.inline.get(depth).is_some_and(|(n, _)| n == number))
                    .copied()
                    .collect();
                delimited(out, u32::from(*number), |out| {
                    level(types, &inner, depth + 1, out)
                });
            }
        }
    }
}

fn member(types: &Types, id: TypeId, number: u32, value: &Value, out: &mut Vec<u8>) {
    match (types.get(id), value) {
        (Type::Struct(definition), Value::Object(map)) => {
            delimited(out, number, |out| structure(types, definition, map, out));
        }
        (Type::List(list), Value::Array(items)) => repeated(types, list, number, items, out),
        (Type::Map(map_type), Value::Object(map)) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                delimited(out, number, |out| {
                    text(out, 1, key);
                    if !value.is_null() {
                        member(types, map_type.value, 2, value, out);
                    }
                });
            }
        }
        (Type::Scalar(kind, _), value) => scalar(types, *kind, number, value, out),
        _ => {}
    }
}

fn repeated(types: &Types, list: &List, number: u32, items: &[Value], out: &mut Vec<u8>) {
    if list.wrapper.is_some() {
        delimited(out, number, |out| {
            for item in items {
                member(types, list.element, 1, item, out);
            }
        });
        return;
    }
    for item in items {
        member(types, list.element, number, item, out);
    }
}

fn scalar(types: &Types, kind: Scalar, number: u32, value: &Value, out: &mut Vec<u8>) {
    match (kind, value) {
        (Scalar::String, Value::String(s)) => text(out, number, s),
        (Scalar::Bool, Value::Bool(b)) => integer(out, number, i64::from(*b)),
        (Scalar::Int32 | Scalar::Int64, Value::Number(n)) => {
            integer(out, number, n.as_i64().unwrap_or_default())
        }
        (Scalar::Double, Value::Number(n)) => {
            double(out, number, n.as_f64().unwrap_or_default());
        }
        (Scalar::Bytes, Value::String(s)) => bytes(out, number, &STANDARD.decode(s).unwrap_or_default()),
        (Scalar::Time | Scalar::MicroTime, Value::String(s)) => delimited(out, number, |out| {
            if let Ok(time) = s.parse::<Timestamp>() {
                integer(out, 1, time.as_second());
                integer(out, 2, i64::from(time.subsec_nanosecond()));
            }
        }),
        (Scalar::Duration, Value::String(s)) => delimited(out, number, |out| {
            integer(out, 1, duration::parse_go(s).unwrap_or_default());
        }),
        (Scalar::Quantity, Value::String(s)) => delimited(out, number, |out| text(out, 1, s)),
        (Scalar::IntOrString, Value::Number(n)) => delimited(out, number, |out| {
            integer(out, 1, 0);
            integer(out, 2, n.as_i64().unwrap_or_default());
            text(out, 3, "");
        }),
        (Scalar::IntOrString, Value::String(s)) => delimited(out, number, |out| {
            integer(out, 1, 1);
            integer(out, 2, 0);
            text(out, 3, s);
        }),
        (Scalar::RawExtension | Scalar::FieldsV1 | Scalar::Json, value) => {
            delimited(out, number, |out| {
                bytes(out, 1, &super::super::json::to_vec(value))
            });
        }
        (Scalar::SchemaOrBool, Value::Bool(b)) => {
            delimited(out, number, |out| integer(out, 1, i64::from(*b)))
        }
        (Scalar::SchemaOrBool, Value::Object(map)) => delimited(out, number, |out| {
            integer(out, 1, 1);
            schema(types, 2, map, out);
        }),
        (Scalar::SchemaOrArray | Scalar::SchemaOrStringArray, Value::Object(map)) => {
            delimited(out, number, |out| schema(types, 1, map, out));
        }
        (Scalar::SchemaOrArray, Value::Array(items)) => delimited(out, number, |out| {
            for map in items.iter().filter_map(Value::as_object) {
                schema(types, 2, map, out);
            }
        }),
        (Scalar::SchemaOrStringArray, Value::Array(items)) => delimited(out, number, |out| {
            for item in items.iter().filter_map(Value::as_str) {
                text(out, 2, item);
            }
        }),
        _ => {}
    }
}

fn schema(types: &Types, number: u32, map: &Map<String, Value>, out: &mut Vec<u8>) {
    if let Some(definition) = types.struct_named(crate::schema::SCHEMA_PROPS) {
        delimited(out, number, |out| structure(types, definition, map, out));
    }
}
