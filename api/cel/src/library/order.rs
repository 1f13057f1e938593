//! Logic, equality, order and membership.

use super::{A, B, Functions, list_of, map_of, wrong};
use crate::ast::op;
use crate::error::Result;
use crate::types::Type;
use crate::value::{Value, compare, equal};
use std::cmp::Ordering;

pub(super) fn declare(f: &mut Functions) {
    // The evaluator does these itself, in its own order.
    f.global(op::CONDITIONAL, "conditional", &[Type::Bool, A, A], A, |_, _| {
        wrong()
    });
    f.global(
        op::AND,
        "logical_and",
        &[Type::Bool, Type::Bool],
        Type::Bool,
        |_, _| wrong(),
    );
    f.global(
        op::OR,
        "logical_or",
        &[Type::Bool, Type::Bool],
        Type::Bool,
        |_, _| wrong(),
    );
    f.global(
        op::NOT_STRICTLY_FALSE,
        "not_strictly_false",
        &[Type::Bool],
        Type::Bool,
        |_, _| wrong(),
    );
    f.global(
        op::NOT,
        "logical_not",
        &[Type::Bool],
        Type::Bool,
        |_, args| match args {
            [Value::Bool(b)] => Ok(Value::Bool(!b)),
            _ => wrong(),
        },
    );
    f.global(op::EQUALS, "equals", &[A, A], Type::Bool, |_, args| {
        Ok(Value::Bool(equal(&args[0], &args[1])))
    });
    f.global(op::NOT_EQUALS, "not_equals", &[A, A], Type::Bool, |_, args| {
        Ok(Value::Bool(!equal(&args[0], &args[1])))
    });
    let list = || Type::list(A);
    let map = || Type::map(A, B);
    f.global(op::INDEX, "index_list", &[list(), Type::Int], A, |_, _| wrong());
    f.global(op::INDEX, "index_map", &[map(), A], B, |_, _| wrong());
    f.global(op::IN, "in_list", &[A, list()], Type::Bool, |_, args| {
        for item in list_of(&args[1])?.iter() {
            if equal(&item?, &args[0]) {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    });
    f.global(op::IN, "in_map", &[A, map()], Type::Bool, |_, args| {
        Ok(Value::Bool(map_of(&args[1])?.find(&args[0])?.is_some()))
    });
    for (name, ids, call) in [
        (op::LESS, LESS, less as super::Implementation),
        (op::LESS_EQUALS, LESS_EQUALS, less_equals),
        (op::GREATER, GREATER, greater),
        (op::GREATER_EQUALS, GREATER_EQUALS, greater_equals),
    ] {
        for (id, [a, b]) in ids.iter().zip(PAIRS) {
            f.global(name, id, &[a.clone(), b.clone()], Type::Bool, call);
        }
    }
}

const PAIRS: &[[Type; 2]] = &[
    [Type::Bool, Type::Bool],
    [Type::Int, Type::Int],
    [Type::Int, Type::Double],
    [Type::Int, Type::Uint],
    [Type::Uint, Type::Uint],
    [Type::Uint, Type::Double],
    [Type::Uint, Type::Int],
    [Type::Double, Type::Double],
    [Type::Double, Type::Int],
    [Type::Double, Type::Uint],
    [Type::String, Type::String],
    [Type::Bytes, Type::Bytes],
    [Type::Timestamp, Type::Timestamp],
    [Type::Duration, Type::Duration],
];

macro_rules! ids {
    ($name:literal) => {
        &[
            concat!($name, "_bool"),
            concat!($name, "_int64"),
            concat!($name, "_int64_double"),
            concat!($name, "_int64_uint64"),
            concat!($name, "_uint64"),
            concat!($name, "_uint64_double"),
            concat!($name, "_uint64_int64"),
            concat!($name, "_double"),
            concat!($name, "_double_int64"),
            concat!($name, "_double_uint64"),
            concat!($name, "_string"),
            concat!($name, "_bytes"),
            concat!($name, "_timestamp"),
            concat!($name, "_duration"),
        ]
    };
}

const LESS: &[&str] = ids!("less");
const LESS_EQUALS: &[&str] = ids!("less_equals");
const GREATER: &[&str] = ids!("greater");
const GREATER_EQUALS: &[&str] = ids!("greater_equals");

fn ordered<'a>(args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Result<Value<'a>> {
    Ok(Value::Bool(compare(&args[0], &args[1])?.is_some_and(holds)))
}

fn less<'a>(_: &dyn super::Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    ordered(args, Ordering::is_lt)
}

fn less_equals<'a>(_: &dyn super::Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    ordered(args, Ordering::is_le)
}

fn greater<'a>(_: &dyn super::Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    ordered(args, Ordering::is_gt)
}

fn greater_equals<'a>(_: &dyn super::Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    ordered(args, Ordering::is_ge)
}
