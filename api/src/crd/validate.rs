//! What is wrong with a custom object by its schema.

use super::{flag, formats, text};
use crate::field::{ErrorList, FieldError, Path};
use serde_json::{Map, Value};

/// What is wrong with a custom object by its schema. Given the old object, what was wrong with a part that hasn't
/// changed is let pass.
pub fn validate(schema: &Value, object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    check(schema, object, old, &Path::root(), &mut errors);
    super::embedded::embedded(schema, object, &Path::root(), &mut errors);
    let repeated = |object: &Value| {
        let mut errors = ErrorList::new();
        lists(schema, object, &Path::root(), &mut errors);
        errors
    };
    let now = repeated(object);
    // Elements that were repeated before may stay so.
    if !now.is_empty() && old.is_none_or(|old| repeated(old).is_empty()) {
        errors.extend(now);
    }
    errors
}

pub(super) fn check(schema: &Value, value: &Value, old: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    if old == Some(value) {
        return;
    }
    if value.is_null() && (flag(schema, "nullable") || schema.get("type").is_none()) {
        return;
    }
    if !has_type(schema, value) {
        let wanted = match flag(schema, "x-kubernetes-int-or-string") {
            true => "integer,string",
            false => text(schema, "type"),
        };
        let format = text(schema, "format");
        if wanted == "integer" && value.is_number() && !format.is_empty() {
            let detail = format!("{} must be of type {format}: \"float64\"", in_body(path));
            errors.push(FieldError::type_invalid(path, "float64", detail));
            errors.push(unfit(path, format));
            return;
        }
        let found = type_name(value);
        errors.push(FieldError::type_invalid(
            path,
            found,
            format!("{} must be of type {wanted}: {found:?}", in_body(path)),
        ));
        choices(schema, value, path, errors);
        return;
    }
    choices(schema, value, path, errors);
    match value {
        Value::String(text) => texts(schema, text, path, errors),
        Value::Number(_) => numbers(schema, value, path, errors),
        Value::Array(items) => {
            sizes(
                schema,
                items.len(),
                ["minItems", "maxItems"],
                "items",
                path,
                errors,
            );
            if let Some(schema) = schema.get("items") {
                let old = old.and_then(Value::as_array);
                for (index, item) in items.iter().enumerate() {
                    let before = old.and_then(|old| correlated(schema, old, index, item));
                    check(schema, item, before, &path.index(index), errors);
                }
            }
        }
        Value::Object(map) => objects(schema, map, old.and_then(Value::as_object), path, errors),
        Value::Null | Value::Bool(_) => {}
    }
    combinations(schema, value, path, errors);
}

/// The element that an element was before, as far as that can be told.
fn correlated<'v>(_schema: &Value, old: &'v [Value], index: usize, item: &Value) -> Option<&'v Value> {
    old.get(index)
        .filter(|before| *before == item)
        .or_else(|| old.iter().find(|before| *before == item))
}

fn in_body(path: &Path) -> String {
    if path.as_str().is_empty() {
        "in body".to_owned()
    } else {
        format!("{path} in body")
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if is_whole(n) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_whole(number: &serde_json::Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|f| f.fract() == 0.0)
}

fn has_type(schema: &Value, value: &Value) -> bool {
    if flag(schema, "x-kubernetes-int-or-string") {
        return matches!(type_name(value), "integer" | "string");
    }
    match text(schema, "type") {
        "" => true,
        "number" => value.is_number(),
        wanted => type_name(value) == wanted,
    }
}

fn choices(schema: &Value, value: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(allowed) = schema.get("enum").and_then(Value::as_array) else {
        return;
    };
    if allowed.contains(value) {
        return;
    }
    let shown: Vec<String> = allowed
        .iter()
        .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
        .collect();
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    errors.push(FieldError::not_supported(path, value.clone(), &shown));
}

fn texts(schema: &Value, value: &str, path: &Path, errors: &mut ErrorList) {
    let length = value.chars().count() as u64;
    if let Some(max) = schema
        .get("maxLength")
        .and_then(Value::as_u64)
        .filter(|max| length > *max)
    {
        errors.push(FieldError::too_long(
            path,
            usize::try_from(max).unwrap_or(usize::MAX),
        ));
    }
    if let Some(min) = schema
        .get("minLength")
        .and_then(Value::as_u64)
        .filter(|min| length < *min)
    {
        let detail = format!("{} should be at least {min} chars long", in_body(path));
        errors.push(FieldError::invalid(path, value, detail));
    }
    let pattern = text(schema, "pattern");
    if !pattern.is_empty() && formats::matches(pattern, value) == Some(false) {
        errors.push(FieldError::invalid(
            path,
            value,
            format!("{} should match '{pattern}'", in_body(path)),
        ));
    }
    let format = text(schema, "format");
    if !format.is_empty() && !flag(schema, "x-kubernetes-int-or-string") && !formats::holds(format, value) {
        let detail = format!("{} must be of type {format}: {value:?}", in_body(path));
        errors.push(FieldError::type_invalid(path, value, detail));
    }
}

fn numbers(schema: &Value, value: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(number) = value.as_f64() else { return };
    let format = text(schema, "format");
    let fits = match format {
        "int32" => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        "int64" => value.as_i64().is_some() || value.is_f64(),
        _ => true,
    };
    if !fits {
        errors.push(unfit(path, format));
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let mut fail = |what: String| {
        errors.push(FieldError::invalid(
            path,
            value.clone(),
            format!("{} should be {what}", in_body(path)),
        ));
    };
    if let Some(max) = bound("maximum") {
        match flag(schema, "exclusiveMaximum") {
            true if number >= max => fail(format!("less than {max}")),
            false if number > max => fail(format!("less than or equal to {max}")),
            _ => {}
        }
    }
    if let Some(min) = bound("minimum") {
        match flag(schema, "exclusiveMinimum") {
            true if number <= min => fail(format!("greater than {min}")),
            false if number < min => fail(format!("greater than or equal to {min}")),
            _ => {}
        }
    }
    if let Some(factor) = bound("multipleOf").filter(|f| *f > 0.0)
        && (number / factor).fract() != 0.0
    {
        fail(format!("a multiple of {factor}"));
    }
}

/// A number that its format doesn't hold; upstream's error names no field.
fn unfit(path: &Path, format: &str) -> FieldError {
    let detail = format!("Checked value must be of type integer with format {format} in {path}");
    FieldError::invalid(&Path::new("<nil>"), "", detail)
}

fn sizes(schema: &Value, size: usize, names: [&str; 2], what: &str, path: &Path, errors: &mut ErrorList) {
    let bound = |name: &str| {
        schema
            .get(name)
            .and_then(Value::as_u64)
            .and_then(|n| usize::try_from(n).ok())
    };
    if let Some(min) = bound(names[0]).filter(|min| size < *min) {
        let detail = format!("{} should have at least {min} {what}", in_body(path));
        errors.push(FieldError::invalid(path, size, detail));
    }
    if let Some(max) = bound(names[1]).filter(|max| size > *max) {
        errors.push(FieldError::too_many(path, size, max));
    }
}

fn objects(
    schema: &Value,
    map: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
    path: &Path,
    errors: &mut ErrorList,
) {
    sizes(
        schema,
        map.len(),
        ["minProperties", "maxProperties"],
        "properties",
        path,
        errors,
    );
    for name in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !map.contains_key(name) {
            errors.push(FieldError::required(&path.child(name), ""));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let others = schema.get("additionalProperties");
    for (name, value) in map {
        let before = old.and_then(|old| old.get(name));
        if let Some(schema) = properties.and_then(|p| p.get(name)) {
            check(schema, value, before, &path.child(name), errors);
        } else if let Some(schema) = others.filter(|s| s.is_object()) {
            check(schema, value, before, &path.child(name), errors);
        }
    }
}

fn combinations(schema: &Value, value: &Value, path: &Path, errors: &mut ErrorList) {
    let list = |name: &str| schema.get(name).and_then(Value::as_array);
    let failures = |schema: &Value| {
        let mut errors = ErrorList::new();
        check(schema, value, None, path, &mut errors);
        errors
    };
    let passes = |schema: &&Value| failures(schema).is_empty();
    // Of several ways to fail, the nearest to right is told.
    let nearest = |all: &[Value]| all.iter().map(&failures).min_by_key(Vec::len).unwrap_or_default();
    let mut told = ErrorList::new();
    // These say nothing about one field, and upstream's errors name none.
    let mut fail = |what: String| {
        errors.push(FieldError::invalid(
            &Path::new("<nil>"),
            "",
            format!("{:?} must {what}", path.as_str()),
        ));
    };
    if let Some(all) = list("allOf")
        && !all.iter().all(|s| passes(&s))
    {
        fail("validate all the schemas (allOf)".to_owned());
    }
    if let Some(any) = list("anyOf")
        && !any.iter().any(|s| passes(&s))
    {
        fail("validate at least one schema (anyOf)".to_owned());
        told.extend(nearest(any));
    }
    if let Some(one) = list("oneOf") {
        match one.iter().filter(passes).count() {
            1 => {}
            0 => {
                fail("validate one and only one schema (oneOf). Found none valid".to_owned());
                told.extend(nearest(one));
            }
            n => fail(format!(
                "validate one and only one schema (oneOf). Found {n} valid alternatives"
            )),
        }
    }
    if let Some(not) = schema.get("not").filter(|s| s.is_object())
        && passes(&not)
    {
        fail("not validate the schema (not)".to_owned());
    }
    errors.extend(told);
}

/// Elements of sets and maps must differ.
fn lists(schema: &Value, value: &Value, path: &Path, errors: &mut ErrorList) {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let others = schema.get("additionalProperties").filter(|s| s.is_object());
            for (name, value) in map {
                match properties.and_then(|p| p.get(name)) {
                    Some(schema) => lists(schema, value, &path.child(name), errors),
                    None => {
                        if let Some(schema) = others {
                            lists(schema, value, &path.key(name), errors);
                        }
                    }
                }
            }
        }
        Value::Array(items) => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            let keys: Vec<&str> = keys.into_iter().flatten().filter_map(Value::as_str).collect();
            let identity = |item: &Value| -> Option<Value> {
                match text(schema, "x-kubernetes-list-type") {
                    "set" => Some(item.clone()),
                    "map" => {
                        let map = item.as_object()?;
                        let keys = keys
                            .iter()
                            .filter_map(|k| Some(((*k).to_owned(), map.get(*k)?.clone())));
                        Some(Value::Object(keys.collect()))
                    }
                    _ => None,
                }
            };
            let mut seen: Vec<Value> = Vec::new();
            let mut told: Vec<Value> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let Some(identity) = identity(item) else { continue };
                if seen.contains(&identity) {
                    if !told.contains(&identity) {
                        errors.push(FieldError::duplicate(&path.index(index), identity.clone()));
                        told.push(identity);
                    }
                } else {
                    seen.push(identity);
                }
            }
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    lists(schema, item, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}
