//! Arithmetic. What doesn't fit is an error, never wrapped around.

use super::{A, Authorizations, Functions, wrong};
use crate::ast::op;
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::Value;
use jiff::{SignedDuration, Timestamp};

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bytes, Double, Duration, Int, String, Timestamp as Time, Uint};
    for (id, a, b, result) in [
        ("add_bytes", Bytes, Bytes, Bytes),
        ("add_double", Double, Double, Double),
        ("add_duration_duration", Duration, Duration, Duration),
        ("add_duration_timestamp", Duration, Time, Time),
        ("add_timestamp_duration", Time, Duration, Time),
        ("add_int64", Int, Int, Int),
        ("add_list", Type::list(A), Type::list(A), Type::list(A)),
        ("add_string", String, String, String),
        ("add_uint64", Uint, Uint, Uint),
    ] {
        f.global(op::ADD, id, &[a, b], result, |_, args| add(&args[0], &args[1]));
    }
    for (id, ty) in [
        ("divide_double", Double),
        ("divide_int64", Int),
        ("divide_uint64", Uint),
    ] {
        f.global(op::DIVIDE, id, &[ty.clone(), ty.clone()], ty, divide);
    }
    for (id, ty) in [("modulo_int64", Int), ("modulo_uint64", Uint)] {
        f.global(op::MODULO, id, &[ty.clone(), ty.clone()], ty, modulo);
    }
    for (id, ty) in [
        ("multiply_double", Double),
        ("multiply_int64", Int),
        ("multiply_uint64", Uint),
    ] {
        f.global(op::MULTIPLY, id, &[ty.clone(), ty.clone()], ty, multiply);
    }
    for (id, ty) in [("negate_double", Double), ("negate_int64", Int)] {
        f.global(
            op::NEGATE,
            id,
            std::slice::from_ref(&ty),
            ty.clone(),
            |_, args| negate(&args[0]),
        );
    }
    for (id, a, b, result) in [
        ("subtract_double", Double, Double, Double),
        ("subtract_duration_duration", Duration, Duration, Duration),
        ("subtract_int64", Int, Int, Int),
        ("subtract_timestamp_duration", Time, Duration, Time),
        ("subtract_timestamp_timestamp", Time, Time, Duration),
        ("subtract_uint64", Uint, Uint, Uint),
    ] {
        f.global(op::SUBTRACT, id, &[a, b], result, subtract);
    }
}

fn overflow(what: &str) -> EvalError {
    EvalError::new(what)
}

const INT: &str = "integer overflow";
const UINT: &str = "unsigned integer overflow";
const DURATION: &str = "duration overflow";
const TIMESTAMP: &str = "timestamp overflow";

/// `a + b`
pub(crate) fn add<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<Value<'a>> {
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or_else(|| overflow(INT))?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_add(*b).ok_or_else(|| overflow(UINT))?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        (Value::String(a), Value::String(b)) => Value::text([&**a, &**b].concat()),
        (Value::Bytes(a), Value::Bytes(b)) => Value::Bytes([&**a, &**b].concat().into()),
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_add(*b).ok_or_else(|| overflow(DURATION))?)
        }
        (Value::Timestamp(time), Value::Duration(nanos))
        | (Value::Duration(nanos), Value::Timestamp(time)) => shifted(*time, *nanos)?,
        (Value::List(a), Value::List(b)) => Value::List(a.concat(b)?),
        _ => return wrong(),
    })
}

fn shifted<'a>(time: Timestamp, nanos: i64) -> Result<Value<'a>> {
    let moved = time.checked_add(SignedDuration::from_nanos(nanos));
    match moved {
        Ok(time) if in_range(time) => Ok(Value::Timestamp(time)),
        _ => Err(overflow(TIMESTAMP)),
    }
}

/// Whether a time lies in the years 1 to 9999.
pub(super) fn in_range(time: Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&time.as_second())
}

fn subtract<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_sub(*b).ok_or_else(|| overflow(INT))?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_sub(*b).ok_or_else(|| overflow(UINT))?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a - b),
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_sub(*b).ok_or_else(|| overflow(DURATION))?)
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            let nanos = i64::try_from(a.as_nanosecond() - b.as_nanosecond());
            Value::Duration(nanos.map_err(|_| overflow(DURATION))?)
        }
        (Value::Timestamp(time), Value::Duration(nanos)) => {
            shifted(*time, nanos.checked_neg().ok_or_else(|| overflow(DURATION))?)?
        }
        _ => return wrong(),
    })
}

fn multiply<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_mul(*b).ok_or_else(|| overflow(INT))?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_mul(*b).ok_or_else(|| overflow(UINT))?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a * b),
        _ => return wrong(),
    })
}

fn divide<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    const ZERO: &str = "division by zero";
    Ok(match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            return Err(EvalError::new(ZERO));
        }
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_div(*b).ok_or_else(|| overflow(INT))?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a / b),
        (Value::Double(a), Value::Double(b)) => Value::Double(a / b),
        _ => return wrong(),
    })
}

fn modulo<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    const ZERO: &str = "modulus by zero";
    Ok(match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => {
            return Err(EvalError::new(ZERO));
        }
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_rem(*b).ok_or_else(|| overflow(INT))?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a % b),
        _ => return wrong(),
    })
}

/// `-a`
fn negate<'a>(a: &Value<'a>) -> Result<Value<'a>> {
    Ok(match a {
        Value::Int(a) => Value::Int(a.checked_neg().ok_or_else(|| overflow(INT))?),
        Value::Double(a) => Value::Double(-a),
        Value::Duration(a) => Value::Duration(a.checked_neg().ok_or_else(|| overflow(DURATION))?),
        _ => return wrong(),
    })
}
