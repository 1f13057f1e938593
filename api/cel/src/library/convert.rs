//! From one type to another, and sizes.

use super::time::{in_unix_range, parse_timestamp};
use super::{A, Authorizations, B, Functions, fail, wrong};
use crate::error::Result;
use crate::types::Type;
use crate::value::{Native, Text, Value, duration_text};
use std::sync::Arc;

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, Bytes, Double, Duration, Int, String, Timestamp, Uint};
    for (global, member, ty) in [
        ("size_bytes", "bytes_size", Bytes),
        ("size_list", "list_size", Type::list(A)),
        ("size_map", "map_size", Type::map(A, B)),
        ("size_string", "string_size", String),
    ] {
        f.global("size", global, std::slice::from_ref(&ty), Int, size);
        f.member("size", member, &[ty], Int, size);
    }
    f.global("type", "type", &[A], Type::Type(Some(Arc::new(A))), |_, args| {
        Ok(Value::Type(Text::Shared(args[0].type_name().into())))
    });
    f.global("dyn", "to_dyn", &[A], Type::Dyn, |_, args| Ok(args[0].clone()));
    for (id, from) in [("bool_to_bool", Bool), ("string_to_bool", String)] {
        f.global("bool", id, &[from], Bool, to_bool);
    }
    for (id, from) in [("bytes_to_bytes", Bytes), ("string_to_bytes", String)] {
        f.global("bytes", id, &[from], Bytes, to_bytes);
    }
    for (id, from) in [
        ("double_to_double", Double),
        ("int64_to_double", Int),
        ("string_to_double", String),
        ("uint64_to_double", Uint),
    ] {
        f.global("double", id, &[from], Double, to_double);
    }
    for (id, from) in [
        ("duration_to_duration", Duration),
        ("int64_to_duration", Int),
        ("string_to_duration", String),
    ] {
        f.global("duration", id, &[from], Duration, to_duration);
    }
    for (id, from) in [
        ("int64_to_int64", Int),
        ("double_to_int64", Double),
        ("duration_to_int64", Duration),
        ("string_to_int64", String),
        ("timestamp_to_int64", Timestamp),
        ("uint64_to_int64", Uint),
    ] {
        f.global("int", id, &[from], Int, to_int);
    }
    for (id, from) in [
        ("string_to_string", String),
        ("bool_to_string", Bool),
        ("bytes_to_string", Bytes),
        ("double_to_string", Double),
        ("duration_to_string", Duration),
        ("int64_to_string", Int),
        ("timestamp_to_string", Timestamp),
        ("uint64_to_string", Uint),
        ("ip_to_string", Type::Opaque(Native::IP)),
        ("cidr_to_string", Type::Opaque(Native::CIDR)),
    ] {
        f.global("string", id, &[from], String, |_, args| to_string(&args[0]));
    }
    for (id, from) in [
        ("timestamp_to_timestamp", Timestamp),
        ("int64_to_timestamp", Int),
        ("string_to_timestamp", String),
    ] {
        f.global("timestamp", id, &[from], Timestamp, to_timestamp);
    }
    for (id, from) in [
        ("uint64_to_uint64", Uint),
        ("double_to_uint64", Double),
        ("int64_to_uint64", Int),
        ("string_to_uint64", String),
    ] {
        f.global("uint", id, &[from], Uint, to_uint);
    }
}

fn size<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_)) => {
            Ok(Value::Int(value.size() as i64))
        }
        _ => wrong(),
    }
}

fn to_bool<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Bool(b) => Ok(Value::Bool(*b)),
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => unconvertible("bool"),
        },
        _ => wrong(),
    }
}

fn to_bytes<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Bytes(bytes) => Ok(Value::Bytes(bytes.clone())),
        Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
        _ => wrong(),
    }
}

fn to_double<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(Value::Double(match &args[0] {
        Value::Double(d) => *d,
        Value::Int(n) => *n as f64,
        Value::Uint(n) => *n as f64,
        Value::String(text) => match text.parse() {
            Ok(d) => d,
            Err(_) => return unconvertible("double"),
        },
        _ => return wrong(),
    }))
}

fn to_duration<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Duration(nanos) | Value::Int(nanos) => Ok(Value::Duration(*nanos)),
        Value::String(text) => match rutter_api::duration::parse_go(text) {
            Ok(nanos) => Ok(Value::Duration(nanos)),
            Err(e) => fail(e.to_string()),
        },
        _ => wrong(),
    }
}

const INT: &str = "integer overflow";
const UINT: &str = "unsigned integer overflow";

fn to_int<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Int(n) => Ok(Value::Int(*n)),
        Value::Uint(n) => match i64::try_from(*n) {
            Ok(n) => Ok(Value::Int(n)),
            Err(_) => fail(INT),
        },
        Value::Double(d) if d.abs() < 9_223_372_036_854_775_808.0 => Ok(Value::Int(*d as i64)),
        Value::Double(_) => fail(INT),
        Value::Duration(nanos) => Ok(Value::Int(*nanos)),
        Value::Timestamp(time) => Ok(Value::Int(time.as_second())),
        Value::String(text) => match text.parse() {
            Ok(n) => Ok(Value::Int(n)),
            Err(_) => unconvertible("int"),
        },
        _ => wrong(),
    }
}

fn to_uint<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Uint(n) => Ok(Value::Uint(*n)),
        Value::Int(n) => match u64::try_from(*n) {
            Ok(n) => Ok(Value::Uint(n)),
            Err(_) => fail(UINT),
        },
        Value::Double(d) if (0.0..18_446_744_073_709_551_616.0).contains(d) => Ok(Value::Uint(*d as u64)),
        Value::Double(_) => fail(UINT),
        Value::String(text) => match text.parse() {
            Ok(n) => Ok(Value::Uint(n)),
            Err(_) => unconvertible("uint"),
        },
        _ => wrong(),
    }
}

fn unconvertible<'a>(to: &str) -> Result<Value<'a>> {
    fail(format!("type conversion error from 'string' to '{to}'"))
}

/// A value as text.
pub(super) fn to_string<'a>(value: &Value<'a>) -> Result<Value<'a>> {
    Ok(match value {
        Value::String(text) => Value::String(text.clone()),
        Value::Bool(b) => Value::text(b.to_string()),
        Value::Int(n) => Value::text(n.to_string()),
        Value::Uint(n) => Value::text(n.to_string()),
        Value::Double(d) => Value::text(double_text(*d)),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::text(text.to_owned()),
            Err(_) => return fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        Value::Duration(nanos) => Value::text(duration_text(*nanos)),
        Value::Timestamp(time) => Value::text(time.to_string()),
        Value::Type(name) => Value::String(name.clone()),
        Value::Native(native) => match native {
            Native::Ip(_) | Native::Cidr(_) => Value::text(native.text().unwrap_or_default()),
            _ => return wrong(),
        },
        _ => return wrong(),
    })
}

/// A float as Go's `%g` without a limit prints it.
pub(super) fn double_text(d: f64) -> String {
    if d.is_nan() {
        return "NaN".to_owned();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let exponent = if d == 0.0 {
        0
    } else {
        d.abs().log10().floor() as i32
    };
    if (-4..21).contains(&exponent) {
        return format!("{d}");
    }
    let text = format!("{d:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

fn to_timestamp<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Timestamp(time) => Ok(Value::Timestamp(*time)),
        Value::Int(seconds) => in_unix_range(*seconds).map(Value::Timestamp),
        Value::String(text) => parse_timestamp(text).map(Value::Timestamp),
        _ => wrong(),
    }
}
