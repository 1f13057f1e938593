//! Whether a schema is structural: every field has its type outside of `allOf`, `anyOf`, `oneOf` and `not`, which may only say more
//! about fields that are there already.

use super::{flag, formats, text};
use crate::field::{ErrorList, FieldError, Path};
use serde_json::{Map, Value};

/// Where a schema stands in another one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What a structural schema can't have at all, in the order in which it is looked for.
const UNSUPPORTED: [(&str, &str); 7] = [
    ("id", "id"),
    ("$schema", "schema"),
    ("$ref", "$ref"),
    ("patternProperties", "patternProperties"),
    ("dependencies", "dependencies"),
    ("additionalItems", "additionalItems"),
    ("definitions", "definitions"),
];

/// What is not structural in the schema at `path`, ordered by text.
pub fn structural(schema: &Value, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    invariants(schema, Level::Root, path, &mut errors);
    value_completeness(schema, Some(schema), path, path, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

/// Why a schema can't even be looked at as a structural one.
pub fn unsupported(schema: &Value) -> Option<String> {
    let own = UNSUPPORTED.iter().find(|(keyword, _)| is_set(schema, keyword));
    if let Some((_, name)) = own {
        return Some(format!("OpenAPIV3Schema '{name}' is not supported"));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        return Some(
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned(),
        );
    }
    children(schema).find_map(unsupported)
}

/// The schemas directly in a schema.
pub(super) fn children(schema: &Value) -> impl Iterator<Item = &Value> {
    let one = ["not", "items", "additionalProperties"]
        .into_iter()
        .filter_map(|name| schema.get(name))
        .filter(|schema| schema.is_object());
    let lists = ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .flat_map(|name| list(schema, name));
    let maps = properties(schema).map(|(_, schema)| schema);
    one.chain(lists).chain(maps)
}

pub(super) fn list<'s>(schema: &'s Value, name: &str) -> &'s [Value] {
    schema
        .get(name)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

pub(super) fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let map: Option<&Map<String, Value>> = schema.get("properties").and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(name, schema)| (name.as_str(), schema))
}

/// Whether a keyword says anything.
pub(super) fn is_set(schema: &Value, name: &str) -> bool {
    match schema.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::Object(map)) => {
            !map.is_empty() || !matches!(name, "properties" | "patternProperties" | "definitions")
        }
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Bool(flag)) => *flag || name == "additionalProperties",
        Some(Value::Number(_)) => true,
    }
}

fn invariants(schema: &Value, level: Level, path: &Path, errors: &mut ErrorList) {
    let kind = text(schema, "type");
    match schema.get("items") {
        Some(items) if items.is_object() => invariants(items, Level::Item, &path.child("items"), errors),
        _ if kind == "array" => errors.push(FieldError::required(&path.child("items"), "must be specified")),
        _ => {}
    }
    for (name, schema) in properties(schema) {
        invariants(schema, Level::Field, &path.child("properties").key(name), errors);
    }
    if let Some(additional) = schema.get("additionalProperties").filter(|a| !a.is_null()) {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if additional.is_object() {
            invariants(additional, Level::Field, &path, errors);
        }
    }
    extensions(schema, path, errors);
    let skip_any = is_int_or_string(schema);
    let skip_first = list(schema, "allOf").first().is_some_and(is_int_or_string);
    value_validation(schema, skip_any, skip_first, path, errors);
    types(schema, level, path, errors);
    metadata(schema, level, path, errors);
}

fn extensions(schema: &Value, path: &Path, errors: &mut ErrorList) {
    if !flag(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for name in [
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ] {
        if flag(schema, name) {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&path.child(name), true, detail));
        }
    }
}

fn types(schema: &Value, level: Level, path: &Path, errors: &mut ErrorList) {
    let (kind, at) = (text(schema, "type"), path.child("type"));
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let preserving = flag(schema, "x-kubernetes-preserve-unknown-fields");
    if embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => FieldError::required(&at, detail),
            _ => FieldError::invalid(&at, kind, detail),
        });
    } else if kind.is_empty() && !flag(schema, "x-kubernetes-int-or-string") && !preserving {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&at, detail));
    }
    if embedded && schema.get("additionalProperties").is_some_and(|a| !a.is_null()) {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&path.child("additionalProperties"), detail));
    }
    if level == Level::Root && !matches!(kind, "" | "object") {
        errors.push(FieldError::invalid(&at, kind, "must be object at the root"));
    }
    if embedded && !preserving && !is_set(schema, "properties") {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), detail));
    }
}

/// What may be said of `apiVersion`, `kind` and `metadata`.
fn metadata(schema: &Value, level: Level, path: &Path, errors: &mut ErrorList) {
    let whole = level == Level::Root || flag(schema, "x-kubernetes-embedded-resource");
    let property = |name: &str| schema.get("properties").and_then(|p| p.get(name));
    let at = |name: &str| path.child("properties").key(name);
    for name in ["kind", "apiVersion"] {
        if let Some(found) = property(name)
            && whole
            && text(found, "type") != "string"
        {
            let at = at(name).child("type");
            errors.push(FieldError::invalid(&at, text(found, "type"), "must be string"));
        }
    }
    let Some(found) = property("metadata") else {
        return;
    };
    if whole && text(found, "type") != "object" {
        let at = at("metadata").child("type");
        errors.push(FieldError::invalid(&at, text(found, "type"), "must be object"));
    }
    let named = |name: &str| matches!(name, "name" | "generateName");
    let only_names = found
        .as_object()
        .into_iter()
        .flatten()
        .all(|(key, value)| match key.as_str() {
            "type" | "default" => true,
            "properties" => value
                .as_object()
                .is_some_and(|map| map.keys().all(|name| named(name))),
            key => !is_set(found, key),
        });
    if level == Level::Root && !only_names {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&at("metadata"), detail));
    }
}

/// `anyOf` an integer and a text, which `x-kubernetes-int-or-string` may be accompanied by.
fn is_int_or_string(schema: &Value) -> bool {
    let is = |schema: &Value, kind: &str| {
        schema
            .as_object()
            .is_some_and(|map| map.len() == 1 && map.get("type").and_then(Value::as_str) == Some(kind))
    };
    matches!(list(schema, "anyOf"), [a, b] if is(a, "integer") && is(b, "string"))
}

fn value_validation(schema: &Value, skip_any: bool, skip_first: bool, path: &Path, errors: &mut ErrorList) {
    if !skip_any {
        for (index, inner) in list(schema, "anyOf").iter().enumerate() {
            nested(inner, false, &path.child("anyOf").index(index), errors);
        }
    }
    for (index, inner) in list(schema, "allOf").iter().enumerate() {
        nested(
            inner,
            skip_first && index == 0,
            &path.child("allOf").index(index),
            errors,
        );
    }
    for (index, inner) in list(schema, "oneOf").iter().enumerate() {
        nested(inner, false, &path.child("oneOf").index(index), errors);
    }
    if let Some(inner) = schema.get("not").filter(|not| not.is_object()) {
        nested(inner, false, &path.child("not"), errors);
    }
    let pattern = text(schema, "pattern");
    if let Some(why) = formats::pattern_error(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, detail));
    }
}

/// A schema inside a combination may speak of values, but not of structure.
fn nested(schema: &Value, skip_any: bool, path: &Path, errors: &mut ErrorList) {
    value_validation(schema, skip_any, false, path, errors);
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        nested(items, false, &path.child("items"), errors);
    }
    for (name, inner) in properties(schema) {
        nested(inner, false, &path.child("properties").key(name), errors);
    }
    const FORBIDDEN: [(&str, &str); 12] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        (
            "x-kubernetes-preserve-unknown-fields",
            "must be false to be structural",
        ),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
    ];
    for (name, detail) in FORBIDDEN {
        let set = match name {
            "default" => schema.get(name).is_some_and(|default| !default.is_null()),
            "additionalProperties" => schema
                .get(name)
                .is_some_and(|additional| additional.is_object() || *additional == Value::Bool(true)),
            _ => is_set(schema, name),
        };
        if set {
            errors.push(FieldError::forbidden(&path.child(name), detail));
        }
    }
    if is_set(schema, "x-kubernetes-validations") {
        let at = path.child("x-kubernetes-validations");
        errors.push(FieldError::forbidden(&at, "must be empty to be structural"));
    }
    if properties(schema).any(|(name, _)| name == "metadata") {
        let at = path.child("properties").key("metadata");
        errors.push(FieldError::forbidden(
            &at,
            "must not be specified in a nested context",
        ));
    }
}

/// Whatever combinations speak of is specified outside of them, where `there` is.
fn value_completeness(
    schema: &Value,
    there: Option<&Value>,
    outside: &Path,
    inside: &Path,
    errors: &mut ErrorList,
) {
    if let Some(not) = schema.get("not").filter(|not| not.is_object()) {
        completeness(not, there, outside, &inside.child("not"), errors);
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in list(schema, name).iter().enumerate() {
            completeness(inner, there, outside, &inside.child(name).index(index), errors);
        }
    }
}

fn completeness(
    schema: &Value,
    there: Option<&Value>,
    outside: &Path,
    inside: &Path,
    errors: &mut ErrorList,
) {
    let Some(found) = there else {
        let detail = format!("because it is defined in {inside}");
        errors.push(FieldError::required(outside, detail));
        return;
    };
    value_completeness(schema, there, outside, inside, errors);
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        let there = found.get("items").filter(|items| items.is_object());
        completeness(
            items,
            there,
            &outside.child("items"),
            &inside.child("items"),
            errors,
        );
    }
    for (name, inner) in properties(schema) {
        let there = found.get("properties").and_then(|p| p.get(name));
        let at = |path: &Path| path.child("properties").key(name);
        completeness(inner, there, &at(outside), &at(inside), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(schema: &Value) -> Vec<String> {
        let errors = structural(schema, &Path::new("s"));
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_not_structural_is_told_with_its_place() {
        for (schema, want) in [
            (json!({"type": "object"}), vec![]),
            (
                json!({}),
                vec!["s.type: Required value: must not be empty at the root"],
            ),
            (
                json!({"type": "string"}),
                vec![r#"s.type: Invalid value: "string": must be object at the root"#],
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                vec!["s.additionalProperties: Forbidden: must not be used at the root"],
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "array"}, "b": {}}}),
                vec![
                    "s.properties[a].items: Required value: must be specified",
                    "s.properties[b].type: Required value: must not be empty for specified object fields",
                ],
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "array", "items": {}}}}),
                vec![
                    "s.properties[a].items.type: Required value: must not be empty for specified array items",
                ],
            ),
            (
                json!({"type": "object", "properties": {"p": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}}}),
                vec![],
            ),
            (
                json!({"type": "object", "properties": {"p": {"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "x"}]}}}),
                vec![],
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"properties": {"a": {"type": "string"}, "b": {"minLength": 1}}}]}),
                vec![
                    "s.anyOf[0].properties[a].type: Forbidden: must be empty to be structural",
                    "s.properties[b]: Required value: because it is defined in s.anyOf[0].properties[b]",
                ],
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "pattern": "a"}}}}}),
                vec![],
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
                vec![
                    "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
                ],
            ),
            (
                json!({"type": "object", "properties": {"e": {"type": "object", "x-kubernetes-embedded-resource": true}}}),
                vec![
                    "s.properties[e].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
                ],
            ),
            (
                json!({"type": "object", "properties": {"p": {"type": "string", "pattern": "("}}}),
                vec![
                    "s.properties[p].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: unclosed group",
                ],
            ),
        ] {
            assert_eq!(told(&schema), want, "{schema}");
        }
    }

    #[test]
    fn what_no_structural_schema_has_is_found_anywhere() {
        for (schema, want) in [
            (json!({"type": "object"}), None),
            (
                json!({"properties": {"a": {"$ref": "#/x"}}}),
                Some("OpenAPIV3Schema '$ref' is not supported"),
            ),
            (
                json!({"allOf": [{"$schema": "x"}]}),
                Some("OpenAPIV3Schema 'schema' is not supported"),
            ),
            (
                json!({"items": [{}]}),
                Some("OpenAPIV3Schema 'items' must be a schema, but is an array"),
            ),
        ] {
            assert_eq!(unsupported(&schema).as_deref(), want, "{schema}");
        }
    }
}
