//! Equality and order of values.

use super::{Key, List, Map, Text, Value};
use crate::error::{EvalError, Result};
use crate::schema::ListKind;
use std::cmp::Ordering;

/// Whether two values are equal. Values of different types are not; numbers are compared by what they are worth.
pub fn equal(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::List(a), Value::List(b)) => lists(a, b),
        (Value::Map(a), Value::Map(b)) => maps(a, b),
        (Value::Object(n, a), Value::Object(m, b)) => {
            n == m && a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| equal(v, w)))
        }
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Optional(Some(a)), Value::Optional(Some(b))) => equal(a, b),
        (Value::Native(a), Value::Native(b)) => a == b,
        (Value::Opaque(a), Value::Opaque(b)) => a == b,
        _ => numbers(a, b) == Some(Ordering::Equal),
    }
}

/// The order of two numbers of any types; none when one is not a number.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    let whole = |v: &Value<'_>| match v {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Uint(n) => Some(i128::from(*n)),
        _ => None,
    };
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => float_and_whole(*a, whole(b)?),
        (a, Value::Double(b)) => float_and_whole(*b, whole(a)?).map(Ordering::reverse),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

fn float_and_whole(float: f64, whole: i128) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float.abs() >= 1e30 {
        return Some(if float > 0.0 {
            Ordering::Greater
        } else {
            Ordering::Less
        });
    }
    let floor = float.floor();
    Some((floor as i128).cmp(&whole).then(if float > floor {
        Ordering::Greater
    } else {
        Ordering::Equal
    }))
}

/// The order of two values that have one.
pub fn compare(a: &Value<'_>, b: &Value<'_>) -> Result<Option<Ordering>> {
    Ok(Some(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
        ) => return Ok(numbers(a, b)),
        _ => return Err(EvalError::no_such_overload()),
    }))
}

fn lists(a: &List<'_>, b: &List<'_>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (Ok(left), Ok(right)) = (a.to_vec(), b.to_vec()) else {
        return false;
    };
    match a.schema().map(|schema| &schema.kind) {
        None | Some(ListKind::Atomic) => left.iter().zip(&right).all(|(a, b)| equal(a, b)),
        Some(ListKind::Set) => right.iter().all(|item| contains(&left, item)),
        Some(ListKind::Map(keys)) => right.iter().all(|item| {
            let same = left.iter().find(|known| same_keys(known, item, keys));
            same.is_some_and(|known| equal(known, item))
        }),
    }
}

/// Whether a value is among others.
pub(crate) fn contains(items: &[Value<'_>], item: &Value<'_>) -> bool {
    items.iter().any(|known| equal(known, item))
}

/// Whether two elements of a list of type map have the same keys.
pub(super) fn same_keys(a: &Value<'_>, b: &Value<'_>, keys: &[Box<str>]) -> bool {
    let key = |value: &Value<'_>, name: &str| match value {
        Value::Map(Map::Json(map) | Map::Object(map, _) | Map::Values(map, _)) => map.get(name).cloned(),
        other => other
            .member(name)
            .ok()
            .flatten()
            .and_then(|value| value.to_json().ok()),
    };
    keys.iter().all(|name| key(a, name) == key(b, name))
}

fn maps(a: &Map<'_>, b: &Map<'_>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a, b) {
        (Map::Json(a), Map::Json(b)) => a.iter().all(|(key, value)| {
            b.get(key)
                .is_some_and(|other| equal(&Value::json(value), &Value::json(other)))
        }),
        (Map::Object(a, schema), Map::Object(b, _)) => {
            let known = schema.fields.values().all(|field| {
                let (left, right) = (a.get(field.name.as_ref()), b.get(field.name.as_ref()));
                match (left, right) {
                    (Some(left), Some(right)) if left.is_null() || right.is_null() => left == right,
                    (Some(left), Some(right)) => match (
                        Value::typed(left, &field.schema),
                        Value::typed(right, &field.schema),
                    ) {
                        (Ok(left), Ok(right)) => equal(&left, &right),
                        _ => false,
                    },
                    (None, None) => true,
                    _ => false,
                }
            });
            let is_known = |key: &str| schema.fields.values().any(|field| field.name.as_ref() == key);
            known
                && a.iter()
                    .filter(|(key, _)| !is_known(key))
                    .all(|(key, value)| b.get(key) == Some(value))
        }
        _ => a
            .keys()
            .into_iter()
            .all(|key| match (a.find(&key), b.find(&key)) {
                (Ok(Some(left)), Ok(Some(right))) => equal(&left, &right),
                _ => false,
            }),
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }
}
