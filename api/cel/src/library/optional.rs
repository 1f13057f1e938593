//! Values that may be absent.

use super::{A, Authorizations, B, Functions, list_of, wrong};
use crate::ast::op;
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::{Native, Value};

pub(super) fn declare(f: &mut Functions) {
    let optional = || Type::optional(A);
    let list = || Type::list(A);
    let map = || Type::map(A, B);
    f.global("optional.of", "optional_of", &[A], optional(), |_, args| {
        Ok(Value::some(args[0].clone()))
    });
    f.global(
        "optional.ofNonZeroValue",
        "optional_ofNonZeroValue",
        &[A],
        optional(),
        |_, args| {
            Ok(if is_zero(&args[0]) {
                Value::Optional(None)
            } else {
                Value::some(args[0].clone())
            })
        },
    );
    f.global("optional.none", "optional_none", &[], optional(), |_, _| {
        Ok(Value::Optional(None))
    });
    f.member(
        "value",
        "optional_value",
        &[optional()],
        A,
        |_, args| match &args[0] {
            Value::Optional(Some(value)) => Ok(value.as_ref().clone()),
            Value::Optional(None) => Err(EvalError::new("optional.none() dereference")),
            _ => wrong(),
        },
    );
    f.member(
        "hasValue",
        "optional_hasValue",
        &[optional()],
        Type::Bool,
        |_, args| match &args[0] {
            Value::Optional(value) => Ok(Value::Bool(value.is_some())),
            _ => wrong(),
        },
    );
    // The evaluator does these itself: the other side is evaluated only when it is needed.
    f.member(
        "or",
        "optional_or_optional",
        &[optional(), optional()],
        optional(),
        |_, _| wrong(),
    );
    f.member(
        "orValue",
        "optional_orValue_value",
        &[optional(), A],
        A,
        |_, _| wrong(),
    );
    f.global(
        op::OPT_SELECT,
        "select_optional_field",
        &[Type::Dyn, Type::String],
        optional(),
        |_, _| wrong(),
    );
    f.global(
        op::OPT_INDEX,
        "list_optindex_optional_int",
        &[list(), Type::Int],
        optional(),
        |_, _| wrong(),
    );
    f.global(
        op::OPT_INDEX,
        "optional_list_optindex_optional_int",
        &[Type::optional(list()), Type::Int],
        optional(),
        |_, _| wrong(),
    );
    f.global(
        op::OPT_INDEX,
        "map_optindex_optional_value",
        &[map(), A],
        Type::optional(B),
        |_, _| wrong(),
    );
    f.global(
        op::OPT_INDEX,
        "optional_map_optindex_optional_value",
        &[Type::optional(map()), A],
        Type::optional(B),
        |_, _| wrong(),
    );
    f.global(
        op::INDEX,
        "optional_list_index_int",
        &[Type::optional(list()), Type::Int],
        optional(),
        |_, _| wrong(),
    );
    f.global(
        op::INDEX,
        "optional_map_index_value",
        &[Type::optional(map()), A],
        Type::optional(B),
        |_, _| wrong(),
    );
    f.global(
        "optional.unwrap",
        "optional_unwrap",
        &[Type::list(optional())],
        list(),
        unwrap,
    );
    f.member(
        "unwrapOpt",
        "optional_unwrapOpt",
        &[Type::list(optional())],
        list(),
        unwrap,
    );
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Int(n) => *n == 0,
        Value::Uint(n) => *n == 0,
        Value::Double(d) => *d == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::Duration(nanos) => *nanos == 0,
        Value::Timestamp(time) => time.as_second() == -62_135_596_800 && time.subsec_nanosecond() == 0,
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Object(_, fields) => fields.is_empty(),
        Value::Optional(value) => value.is_none(),
        Value::Native(Native::Quantity(_)) | Value::Native(_) | Value::Type(_) | Value::Opaque(_) => false,
    }
}

fn unwrap<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let mut out = Vec::new();
    for item in list_of(&args[0])?.iter() {
        match item? {
            Value::Optional(Some(value)) => out.push(value.as_ref().clone()),
            Value::Optional(None) => {}
            other => {
                let shown = super::formatting::shown(&other);
                return Err(EvalError::new(format!("value {shown} is not optional")));
            }
        }
    }
    Ok(Value::list(out))
}
