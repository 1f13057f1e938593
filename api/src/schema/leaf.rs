//! The leaves of objects: checking a scalar and bringing it into its canonical form.

use super::types::{Scalar, Type, TypeId, Types};
use crate::duration;
use crate::quantity::Quantity;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// What is wrong with a leaf.
pub(super) enum Problem {
    /// A text of its own.
    Text(String),
    /// A value described so isn't of the type.
    Type(String),
}

/// How Go's decoder names a value.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
    .to_owned()
}

/// How Go names a type.
pub(super) fn go_type(types: &Types, id: TypeId) -> String {
    match types.get(id) {
        Type::Struct(definition) => match definition.name.rsplit_once('.') {
            Some((package, name)) => format!("{}.{name}", package.rsplit('.').next().unwrap_or_default()),
            None => definition.name.to_string(),
        },
        Type::List(list) => match &list.wrapper {
            Some(name) => name.to_string(),
            None => format!("[]{}", go_type(types, list.element)),
        },
        Type::Map(map) => format!("map[string]{}", go_type(types, map.value)),
        Type::Scalar(_, name) if !name.is_empty() => name.to_string(),
        Type::Scalar(scalar, _) => match scalar {
            Scalar::Bool => "bool",
            Scalar::Int32 | Scalar::IntOrString => "int32",
            Scalar::Int64 => "int64",
            Scalar::Double => "float64",
            Scalar::Bytes => "[]uint8",
            Scalar::FieldsV1 => "map[string]interface {}",
            _ => "string",
        }
        .to_owned(),
    }
}

/// Checks a leaf that isn't null, and brings it into its canonical form.
pub(super) fn normalize(scalar: Scalar, value: &mut Value) -> Result<(), Problem> {
    match (scalar, &mut *value) {
        (Scalar::String, Value::String(_))
        | (Scalar::Bool, Value::Bool(_))
        | (Scalar::Double, Value::Number(_))
        | (Scalar::IntOrString, Value::String(_))
        | (Scalar::Json | Scalar::RawExtension, _)
        | (Scalar::FieldsV1, Value::Object(_)) => Ok(()),
        (Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString, Value::Number(number)) => {
            let whole = number
                .as_i64()
                .or_else(|| (number.as_f64() == Some(0.0)).then_some(0));
            let fits = whole.filter(|n| scalar == Scalar::Int64 || i32::try_from(*n).is_ok());
            match fits {
                Some(n) => {
                    if number.is_f64() {
                        *value = Value::from(n);
                    }
                    Ok(())
                }
                None => Err(Problem::Type(format!("number {number}"))),
            }
        }
        (Scalar::Bytes, Value::String(text)) => bytes(text),
        (Scalar::Time, Value::String(text)) => time(text, false),
        (Scalar::MicroTime, Value::String(text)) => time(text, true),
        (Scalar::Duration, Value::String(text)) => {
            let nanos = duration::parse_go(text).map_err(|e| Problem::Text(e.to_string()))?;
            *text = duration::format_go(nanos);
            Ok(())
        }
        (Scalar::Quantity, Value::String(_) | Value::Number(_) | Value::Bool(_)) => quantity(value),
        (Scalar::Quantity, _) => Err(Problem::Text(crate::quantity::QuantityError::Format.to_string())),
        (_, other) => Err(Problem::Type(describe(other))),
    }
}

fn quantity(value: &mut Value) -> Result<(), Problem> {
    if let Value::String(text) = &mut *value {
        let canonical = Quantity::canonical(text.trim()).map_err(|e| Problem::Text(e.to_string()))?;
        if canonical != text.as_str() {
            *text = canonical.into_owned();
        }
        return Ok(());
    }
    let canonical = value
        .to_string()
        .parse::<Quantity>()
        .map_err(|e| Problem::Text(e.to_string()))?
        .to_string();
    *value = Value::from(canonical);
    Ok(())
}

fn bytes(text: &mut String) -> Result<(), Problem> {
    if text.contains(['\r', '\n']) {
        text.retain(|c| c != '\r' && c != '\n');
    }
    match STANDARD.decode(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(Problem::Text(format!("illegal base64 data at input byte {at}")))
        }
        Err(_) => Err(Problem::Text(format!(
            "illegal base64 data at input byte {}",
            text.len() / 4 * 4
        ))),
    }
}

const RFC3339: &str = "2006-01-02T15:04:05Z07:00";
const RFC3339_MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Checks an RFC 3339 time as Go parses it, and rewrites it in UTC.
fn time(text: &mut String, micro: bool) -> Result<(), Problem> {
    let layout = if micro { RFC3339_MICRO } else { RFC3339 };
    let parsed = parse_time(text, micro).map_err(|(rest, part)| {
        Problem::Text(match part {
            Part::Layout(part) => {
                format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}")
            }
            Part::Range(what) => format!("parsing time {text:?}: {what} out of range"),
            Part::Extra => format!("parsing time {text:?}: extra text: {rest:?}"),
        })
    })?;
    let canonical_length = if micro { 27 } else { 20 };
    if text.len() != canonical_length || !text.ends_with('Z') {
        *text = crate::duration::format_time(parsed, micro);
    }
    Ok(())
}

enum Part {
    Layout(&'static str),
    Range(&'static str),
    Extra,
}

type TimeError<'t> = (&'t str, Part);

fn parse_time(text: &str, micro: bool) -> Result<jiff::Timestamp, TimeError<'_>> {
    let (year, rest) = digits(text, 4, "2006")?;
    let rest = literal(rest, "-")?;
    let (month, rest) = digits(rest, 2, "01")?;
    let rest = literal(rest, "-")?;
    let (day, rest) = digits(rest, 2, "02")?;
    let rest = literal(rest, "T")?;
    let (hour, rest) = digits(rest, 2, "15")?;
    let rest = literal(rest, ":")?;
    let (minute, rest) = digits(rest, 2, "04")?;
    let rest = literal(rest, ":")?;
    let (second, rest) = digits(rest, 2, "05")?;
    let (nanos, rest) = fraction(rest, micro)?;
    let (offset, rest) = zone(rest)?;
    if !rest.is_empty() {
        return Err((rest, Part::Extra));
    }
    for (value, low, high, what) in [
        (month, 1, 12, "month"),
        (hour, 0, 23, "hour"),
        (minute, 0, 59, "minute"),
        (second, 0, 59, "second"),
    ] {
        if !(low..=high).contains(&value) {
            return Err((text, Part::Range(what)));
        }
    }
    let range = || (text, Part::Range("day"));
    let date = jiff::civil::Date::new(year as i16, month as i8, day as i8).map_err(|_| range())?;
    let clock = jiff::civil::Time::new(hour as i8, minute as i8, second as i8, nanos).map_err(|_| range())?;
    let utc = jiff::tz::Offset::UTC
        .to_timestamp(date.to_datetime(clock))
        .map_err(|_| range())?;
    utc.checked_sub(jiff::SignedDuration::from_secs(i64::from(offset)))
        .map_err(|_| range())
}

fn digits<'t>(text: &'t str, count: usize, layout: &'static str) -> Result<(i32, &'t str), TimeError<'t>> {
    match text.get(..count) {
        Some(part) if part.bytes().all(|b| b.is_ascii_digit()) => {
            Ok((part.parse().unwrap_or_default(), &text[count..]))
        }
        _ => Err((text, Part::Layout(layout))),
    }
}

fn literal<'t>(text: &'t str, expected: &'static str) -> Result<&'t str, TimeError<'t>> {
    text.strip_prefix(expected).ok_or((text, Part::Layout(expected)))
}

/// Nanoseconds: six digits exactly with `micro`, otherwise any number of them or none.
fn fraction(text: &str, micro: bool) -> Result<(i32, &str), TimeError<'_>> {
    let Some(rest) = text.strip_prefix(['.', ',']) else {
        return if micro {
            Err((text, Part::Layout(".000000")))
        } else {
            Ok((0, text))
        };
    };
    let all = rest.bytes().take_while(u8::is_ascii_digit).count();
    let count = if micro { all.min(6) } else { all };
    if count == 0 || (micro && count < 6) {
        return Err((text, Part::Layout(if micro { ".000000" } else { "Z07:00" })));
    }
    let mut nanos = 0;
    for position in 0..9 {
        let digit = rest
            .as_bytes()
            .get(position)
            .filter(|_| position < count)
            .map_or(0, |b| i32::from(b - b'0'));
        nanos = nanos * 10 + digit;
    }
    Ok((nanos, &rest[count..]))
}

/// Seconds east of UTC.
fn zone(text: &str) -> Result<(i32, &str), TimeError<'_>> {
    if let Some(rest) = text.strip_prefix('Z') {
        return Ok((0, rest));
    }
    let bad = || (text, Part::Layout("Z07:00"));
    let sign = match text.as_bytes().first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Err(bad()),
    };
    let part = text
        .get(1..6)
        .filter(|p| p.as_bytes()[2] == b':')
        .ok_or_else(bad)?;
    let hours: i32 = part[..2].parse().map_err(|_| bad())?;
    let minutes: i32 = part[3..].parse().map_err(|_| bad())?;
    if !(0..=24).contains(&hours) || !(0..60).contains(&minutes) {
        return Err((text, Part::Range("time zone offset hour")));
    }
    Ok((sign * (hours * 3600 + minutes * 60), &text[6..]))
}
