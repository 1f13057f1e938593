//! Spans of time and their parts.

use super::{Authorizations, Functions, wrong};
use crate::error::Result;
use crate::types::Type;
use crate::value::Value;

pub(super) fn declare(f: &mut Functions) {
    f.member(
        "getHours",
        "duration_to_hours",
        &[Type::Duration],
        Type::Int,
        |_: &dyn Authorizations, args| in_units(&args[0], 3_600_000_000_000),
    );
    f.member(
        "getMinutes",
        "duration_to_minutes",
        &[Type::Duration],
        Type::Int,
        |_, args| in_units(&args[0], 60_000_000_000),
    );
    f.member(
        "getSeconds",
        "duration_to_seconds",
        &[Type::Duration],
        Type::Int,
        |_, args| in_units(&args[0], 1_000_000_000),
    );
    f.member(
        "getMilliseconds",
        "duration_to_milliseconds",
        &[Type::Duration],
        Type::Int,
        |_, args| in_units(&args[0], 1_000_000),
    );
}

fn in_units<'a>(value: &Value<'a>, nanos: i64) -> Result<Value<'a>> {
    match value {
        Value::Duration(duration) => Ok(Value::Int(duration / nanos)),
        _ => wrong(),
    }
}
