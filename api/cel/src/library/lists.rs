//! Lists, and the maps that loops gather.

use super::{A, Authorizations, B, Functions, fail, int_of, list_of, map_of, wrong};
use crate::ast::op;
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::{Key, List, Map, Value, compare, equal};
use std::cmp::Ordering;
use std::sync::Arc;

/// The types of elements that have an order, and their names in ids.
const ORDERED: &[(&str, Type, &str, &str, &str, &str, &str)] = &[
    (
        "int",
        Type::Int,
        "list_int_is_sorted_bool",
        "list_int_max_int",
        "list_int_min_int",
        "list_int_sort",
        "list_int_sortByAssociatedKeys",
    ),
    (
        "uint",
        Type::Uint,
        "list_uint_is_sorted_bool",
        "list_uint_max_uint",
        "list_uint_min_uint",
        "list_uint_sort",
        "list_uint_sortByAssociatedKeys",
    ),
    (
        "double",
        Type::Double,
        "list_double_is_sorted_bool",
        "list_double_max_double",
        "list_double_min_double",
        "list_double_sort",
        "list_double_sortByAssociatedKeys",
    ),
    (
        "bool",
        Type::Bool,
        "list_bool_is_sorted_bool",
        "list_bool_max_bool",
        "list_bool_min_bool",
        "list_bool_sort",
        "list_bool_sortByAssociatedKeys",
    ),
    (
        "duration",
        Type::Duration,
        "list_duration_is_sorted_bool",
        "list_duration_max_duration",
        "list_duration_min_duration",
        "list_google.protobuf.Duration_sort",
        "list_google.protobuf.Duration_sortByAssociatedKeys",
    ),
    (
        "timestamp",
        Type::Timestamp,
        "list_timestamp_is_sorted_bool",
        "list_timestamp_max_timestamp",
        "list_timestamp_min_timestamp",
        "list_google.protobuf.Timestamp_sort",
        "list_google.protobuf.Timestamp_sortByAssociatedKeys",
    ),
    (
        "string",
        Type::String,
        "list_string_is_sorted_bool",
        "list_string_max_string",
        "list_string_min_string",
        "list_string_sort",
        "list_string_sortByAssociatedKeys",
    ),
    (
        "bytes",
        Type::Bytes,
        "list_bytes_is_sorted_bool",
        "list_bytes_max_bytes",
        "list_bytes_min_bytes",
        "list_bytes_sort",
        "list_bytes_sortByAssociatedKeys",
    ),
];

pub(super) fn declare(f: &mut Functions) {
    for (_, ty, sorted, max, min, sort, sort_by) in ORDERED {
        let list = || Type::list(ty.clone());
        f.member("isSorted", sorted, &[list()], Type::Bool, is_sorted);
        f.member("max", max, &[list()], ty.clone(), |_, args| {
            extreme(&args[0], "max", Ordering::Less)
        });
        f.member("min", min, &[list()], ty.clone(), |_, args| {
            extreme(&args[0], "min", Ordering::Greater)
        });
        f.member("sort", sort, &[list()], list(), |_, args| {
            sorted_by(&args[0], &args[0])
        });
        f.member(
            "@sortByAssociatedKeys",
            sort_by,
            &[Type::list(A), list()],
            Type::list(A),
            |_, args| sorted_by(&args[0], &args[1]),
        );
    }
    for (id, ty) in [
        ("list_int_sum_int", Type::Int),
        ("list_uint_sum_uint", Type::Uint),
        ("list_double_sum_double", Type::Double),
        ("list_duration_sum_duration", Type::Duration),
    ] {
        f.member("sum", id, &[Type::list(ty.clone())], ty, sum);
    }
    let list = || Type::list(A);
    f.member(
        "indexOf",
        "list_a_index_of_int",
        &[list(), A],
        Type::Int,
        |_, args| {
            let found = list_of(&args[0])?
                .to_vec()?
                .iter()
                .position(|item| equal(item, &args[1]));
            Ok(Value::Int(found.map_or(-1, |i| i as i64)))
        },
    );
    f.member(
        "lastIndexOf",
        "list_a_last_index_of_int",
        &[list(), A],
        Type::Int,
        |_, args| {
            let found = list_of(&args[0])?
                .to_vec()?
                .iter()
                .rposition(|item| equal(item, &args[1]));
            Ok(Value::Int(found.map_or(-1, |i| i as i64)))
        },
    );
    f.member(
        "slice",
        "list_slice",
        &[list(), Type::Int, Type::Int],
        list(),
        slice,
    );
    f.member("flatten", "list_flatten", &[Type::list(list())], list(), flatten);
    f.member(
        "flatten",
        "list_flatten_int",
        &[Type::list(Type::Dyn), Type::Int],
        Type::list(Type::Dyn),
        flatten,
    );
    f.global(
        "lists.range",
        "lists_range",
        &[Type::Int],
        Type::list(Type::Int),
        range,
    );
    f.member("reverse", "list_reverse", &[list()], list(), |_, args| {
        let mut items = list_of(&args[0])?.to_vec()?;
        items.reverse();
        Ok(Value::list(items))
    });
    f.member("distinct", "list_distinct", &[list()], list(), |_, args| {
        let mut unique: Vec<Value<'_>> = Vec::new();
        for item in list_of(&args[0])?.iter() {
            let item = item?;
            if !unique.iter().any(|known| equal(known, &item)) {
                unique.push(item);
            }
        }
        Ok(Value::list(unique))
    });
    f.member("first", "list_first", &[list()], Type::optional(A), |_, args| {
        end_of(list_of(&args[0])?, false)
    });
    f.member("last", "list_last", &[list()], Type::optional(A), |_, args| {
        end_of(list_of(&args[0])?, true)
    });
    let map = || Type::map(A, B);
    f.global(
        op::MAP_INSERT,
        "@mapInsert_map_key_value",
        &[map(), A, B],
        map(),
        |_, args| insert(map_of(&args[0])?, &args[1], args[2].clone()),
    );
    f.global(
        op::MAP_INSERT,
        "@mapInsert_map_map",
        &[map(), map()],
        map(),
        |_, args| {
            let entries = map_of(&args[1])?;
            let mut whole = args[0].clone();
            for key in entries.keys() {
                let value = entries.find(&key)?.unwrap_or(Value::Null);
                whole = insert(map_of(&whole)?, &key, value)?;
            }
            Ok(whole)
        },
    );
}

fn end_of<'a>(list: &List<'a>, last: bool) -> Result<Value<'a>> {
    let at = if last { list.len().wrapping_sub(1) } else { 0 };
    match list.get(at) {
        Some(item) => Ok(Value::some(item?)),
        None => Ok(Value::Optional(None)),
    }
}

/// A map with one entry more, which it must not have had.
fn insert<'a>(map: &Map<'a>, key: &Value<'a>, value: Value<'a>) -> Result<Value<'a>> {
    let mut entries = match map {
        Map::Made(entries) => entries.as_ref().clone(),
        other => other
            .keys()
            .into_iter()
            .filter_map(|key| Some((Key::of(&key)?, other.find(&key).ok()??)))
            .collect(),
    };
    let Some(name) = Key::of(key) else {
        return fail(format!("unsupported key type: {}", key.type_name()));
    };
    if entries.insert(name, value).is_some() {
        return fail(format!(
            "insert failed: key {} already exists",
            super::formatting::shown(key)
        ));
    }
    Ok(Value::Map(Map::Made(Arc::new(entries))))
}

fn order(a: &Value<'_>, b: &Value<'_>) -> Result<Ordering> {
    Ok(compare(a, b)?.unwrap_or(Ordering::Equal))
}

fn is_sorted<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let mut before: Option<Value<'a>> = None;
    for item in list_of(&args[0])?.iter() {
        let item = item?;
        if let Some(before) = &before
            && order(before, &item)? == Ordering::Greater
        {
            return Ok(Value::Bool(false));
        }
        before = Some(item);
    }
    Ok(Value::Bool(true))
}

/// The element that no other one replaces: another does when the best so far compares as `replaced` with it.
fn extreme<'a>(list: &Value<'a>, name: &str, replaced: Ordering) -> Result<Value<'a>> {
    let mut best: Option<Value<'a>> = None;
    for item in list_of(list)?.iter() {
        let item = item?;
        best = Some(match best {
            Some(best) if order(&best, &item)? != replaced => best,
            _ => item,
        });
    }
    best.ok_or_else(|| EvalError::new(format!("{name} called on empty list")))
}

fn sum<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let mut total: Option<Value<'a>> = None;
    for item in list_of(&args[0])?.iter() {
        let item = item?;
        total = Some(match total {
            Some(total) => super::add(&total, &item)?,
            None => item,
        });
    }
    // Of nothing, the sum is nothing.
    Ok(total.unwrap_or(Value::Int(0)))
}

fn sorted_by<'a>(list: &Value<'a>, keys: &Value<'a>) -> Result<Value<'a>> {
    let (items, keys) = (list_of(list)?.to_vec()?, list_of(keys)?.to_vec()?);
    if items.len() != keys.len() {
        return fail(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            items.len(),
            keys.len()
        ));
    }
    if let Some(first) = keys.first() {
        compare(first, first).map_err(|_| EvalError::new("list elements must be comparable"))?;
        if keys.iter().any(|key| key.type_name() != first.type_name()) {
            return fail("list elements must have the same type");
        }
    }
    let mut indices: Vec<usize> = (0..items.len()).collect();
    indices.sort_by(|a, b| {
        compare(&keys[*a], &keys[*b])
            .ok()
            .flatten()
            .unwrap_or(Ordering::Equal)
    });
    Ok(Value::list(
        indices.into_iter().map(|i| items[i].clone()).collect(),
    ))
}

fn slice<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (list, start, end) = (list_of(&args[0])?, int_of(&args[1])?, int_of(&args[2])?);
    let what = format!("cannot slice({start}, {end})");
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
        return fail(format!("{what}, negative indexes not supported"));
    };
    if from > to {
        return fail(format!(
            "{what}, start index must be less than or equal to end index"
        ));
    }
    if list.len() < to {
        return fail(format!("{what}, list is length {}", list.len()));
    }
    let items = (from..to).filter_map(|i| list.get(i)).collect::<Result<_>>()?;
    Ok(Value::list(items))
}

fn flatten<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let depth = args.get(1).map(int_of).transpose()?.unwrap_or(1);
    if depth < 0 {
        return fail("level must be non-negative");
    }
    let mut out = Vec::new();
    flatten_into(list_of(&args[0])?, depth, &mut out)?;
    Ok(Value::list(out))
}

fn flatten_into<'a>(list: &List<'a>, depth: i64, out: &mut Vec<Value<'a>>) -> Result<()> {
    for item in list.iter() {
        match item? {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, out)?,
            other => out.push(other),
        }
    }
    Ok(())
}

/// The longest list that is made of nothing but a number; what costs more is refused by its cost before.
const MAX_RANGE: i64 = 1_000_000;

fn range<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    match int_of(&args[0])? {
        n if n > MAX_RANGE => Err(EvalError::CostLimit),
        n if n >= 0 => Ok(Value::list((0..n).map(Value::Int).collect())),
        n if n < 0 => Ok(Value::list(Vec::new())),
        _ => wrong(),
    }
}
