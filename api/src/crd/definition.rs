//! What is wrong with a schema as part of a CustomResourceDefinition: keywords that aren't supported, extensions that don't go
//! together, defaults that aren't valid. Rules in CEL are not looked at here.

use super::structural::{children, is_set, list, properties, structural, unsupported};
use super::{defaults, flag, text};
use crate::field::{ErrorList, FieldError, Path};
use serde_json::Value;

/// What is tolerated because it was stored before.
#[derive(Clone, Copy, Debug)]
pub struct SchemaRules {
    /// The schema must be structural.
    pub structural: bool,
    /// Types must be known ones.
    pub known_types: bool,
    /// Defaults must not have unknown fields.
    pub pruned_defaults: bool,
    /// Items of sets must be atomic.
    pub atomic_sets: bool,
    /// Keys of maps must be required or have a default, and nothing that tells items apart is nullable.
    pub strict_lists: bool,
}

impl SchemaRules {
    /// What a new definition must keep.
    pub const ALL: Self = Self {
        structural: true,
        known_types: true,
        pruned_defaults: true,
        atomic_sets: true,
        strict_lists: true,
    };

    /// What a changed definition must keep: what its schemas kept before.
    pub fn of_old<'s>(schemas: impl Iterator<Item = &'s Value> + Clone) -> Self {
        let none = |wrong: &dyn Fn(&Value) -> bool| !schemas.clone().any(wrong);
        let nowhere = |wrong: &dyn Fn(&Value) -> bool| none(&|schema| anywhere(schema, wrong));
        let path = Path::root();
        Self {
            structural: none(&|schema| {
                unsupported(schema).is_some() || !structural(schema, &path).is_empty()
            }),
            known_types: nowhere(&|schema| !is_known_type(text(schema, "type"))),
            pruned_defaults: none(&|schema| {
                anywhere(schema, &|schema| is_set(schema, "default")) && defaults::has_unpruned(schema)
            }),
            atomic_sets: nowhere(&|schema| non_atomic_item(schema).is_some()),
            strict_lists: nowhere(&|schema| {
                let mut errors = ErrorList::new();
                strict_lists(schema, &path, &mut errors);
                !errors.is_empty()
            }),
        }
    }
}

/// Whether something holds of a schema or any schema in it.
pub fn anywhere(schema: &Value, holds: &dyn Fn(&Value) -> bool) -> bool {
    holds(schema) || children(schema).any(|inner| anywhere(inner, holds))
}

/// Whether a schema has what only structural schemas may have.
pub fn has_extensions(schema: &Value) -> bool {
    anywhere(schema, &|schema| {
        let names = [
            "x-kubernetes-embedded-resource",
            "x-kubernetes-int-or-string",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-list-type",
            "x-kubernetes-validations",
        ];
        names.into_iter().any(|name| is_set(schema, name))
            || schema
                .get("x-kubernetes-preserve-unknown-fields")
                .is_some_and(|flag| !flag.is_null())
    })
}

/// What may stand at the root of a schema whose resource has a status of its own.
const ROOT: [(&str, &str); 22] = [
    ("Description", "description"),
    ("Type", "type"),
    ("Format", "format"),
    ("Title", "title"),
    ("Maximum", "maximum"),
    ("ExclusiveMaximum", "exclusiveMaximum"),
    ("Minimum", "minimum"),
    ("ExclusiveMinimum", "exclusiveMinimum"),
    ("MaxLength", "maxLength"),
    ("MinLength", "minLength"),
    ("Pattern", "pattern"),
    ("MaxItems", "maxItems"),
    ("MinItems", "minItems"),
    ("UniqueItems", "uniqueItems"),
    ("MultipleOf", "multipleOf"),
    ("Required", "required"),
    ("Items", "items"),
    ("Properties", "properties"),
    ("ExternalDocs", "externalDocs"),
    ("Example", "example"),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
    ("XValidations", "x-kubernetes-validations"),
];

/// What is wrong with the `openAPIV3Schema` at `path` of a version that has a status subresource or not.
pub fn check_schema(schema: &Value, has_status: bool, rules: SchemaRules, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if has_status {
        root_with_status(schema, path, &mut errors);
    }
    if flag(schema, "nullable") {
        let at = path.child("nullable");
        errors.push(FieldError::forbidden(&at, "nullable cannot be true at the root"));
    }
    let mut late = ErrorList::new();
    if rules.structural {
        if let Some(why) = unsupported(schema) {
            late.push(FieldError::invalid(path, "", why));
        } else {
            let found = structural(schema, path);
            if found.is_empty() {
                errors.extend(defaults::check(schema, rules.pruned_defaults, path));
            } else {
                errors.extend(found);
            }
        }
    }
    let check = Check {
        rules,
        root: true,
        inside_metadata: false,
        no_default: None,
    };
    check.schema(schema, path, &mut errors);
    if errors.is_empty() {
        return late;
    }
    errors
}

fn root_with_status(schema: &Value, path: &Path, errors: &mut ErrorList) {
    let set = schema.as_object().into_iter().flatten();
    for (name, _) in set.filter(|(name, _)| is_set(schema, name)) {
        if name == "type" {
            if text(schema, "type") != "object" {
                let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
                errors.push(FieldError::invalid(
                    &path.child("type"),
                    text(schema, "type"),
                    detail,
                ));
                return;
            }
        } else if !ROOT.iter().any(|(_, allowed)| allowed == name) {
            let allowed: Vec<&str> = ROOT.iter().map(|(name, _)| *name).collect();
            let detail = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                allowed.join(" ")
            );
            errors.push(FieldError::invalid(path, schema.clone(), detail));
            return;
        }
    }
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

fn is_known_type(name: &str) -> bool {
    name.is_empty() || TYPES.contains(&name)
}

/// A walk over a schema.
#[derive(Clone, Copy)]
struct Check {
    rules: SchemaRules,
    root: bool,
    inside_metadata: bool,
    /// Why there may be no default, if there may be none.
    no_default: Option<&'static str>,
}

impl Check {
    fn schema(self, schema: &Value, path: &Path, errors: &mut ErrorList) {
        self.keywords(schema, path, errors);
        if flag(schema, "uniqueItems") {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            errors.push(FieldError::forbidden(&path.child("uniqueItems"), detail));
        }
        let inner = Self { root: false, ..self };
        self.additional(schema, path, errors);
        for (name, property) in properties(schema) {
            let at = path.child("properties").key(name);
            let whole = self.root || flag(schema, "x-kubernetes-embedded-resource");
            let reason = match name {
                "metadata" => "in top-level metadata",
                "kind" => "in top-level kind",
                "apiVersion" => "in top-level apiVersion",
                _ => "",
            };
            if whole && !reason.is_empty() {
                let inside = Self {
                    inside_metadata: true,
                    no_default: if self.root { Some(reason) } else { self.no_default },
                    ..inner
                };
                inside.schema(property, &at, errors);
            } else {
                inner.schema(property, &at, errors);
            }
        }
        if let Some(not) = schema.get("not").filter(|not| not.is_object()) {
            inner.schema(not, &path.child("not"), errors);
        }
        for name in ["allOf", "oneOf", "anyOf"] {
            for (index, part) in list(schema, name).iter().enumerate() {
                inner.schema(part, &path.child(name).index(index), errors);
            }
        }
        for name in ["definitions", "dependencies"] {
            for (key, part) in schema.get(name).and_then(Value::as_object).into_iter().flatten() {
                if part.is_object() {
                    inner.schema(part, &path.child(name).key(key), errors);
                }
            }
        }
        match schema.get("items") {
            Some(items) if items.is_object() => inner.schema(items, &path.child("items"), errors),
            Some(Value::Array(items)) => {
                for (index, part) in items.iter().enumerate() {
                    inner.schema(part, &path.child("items").index(index), errors);
                }
            }
            _ => {}
        }
        if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let at = path.child("x-kubernetes-preserve-unknown-fields");
            errors.push(FieldError::invalid(&at, false, "must be true or undefined"));
        }
        self.merging(schema, path, errors);
        if self.rules.strict_lists {
            strict_lists(schema, path, errors);
        }
    }

    fn additional(self, schema: &Value, path: &Path, errors: &mut ErrorList) {
        let Some(additional) = schema.get("additionalProperties").filter(|a| !a.is_null()) else {
            return;
        };
        let at = path.child("additionalProperties");
        if is_set(schema, "properties") && *additional != Value::Bool(true) {
            let detail = "additionalProperties and properties are mutual exclusive";
            errors.push(FieldError::forbidden(&at, detail));
        }
        if additional.is_object() {
            let inner = Self {
                root: false,
                no_default: if self.inside_metadata {
                    Some("inside additionalProperties applying to object metadata")
                } else {
                    self.no_default
                },
                ..self
            };
            inner.schema(additional, &at, errors);
        }
    }

    /// Keywords that aren't supported.
    fn keywords(self, schema: &Value, path: &Path, errors: &mut ErrorList) {
        let kind = text(schema, "type");
        if self.rules.known_types && !is_known_type(kind) {
            errors.push(FieldError::not_supported(&path.child("type"), kind, &TYPES));
        }
        if let Some(reason) = self.no_default
            && is_set(schema, "default")
        {
            let detail = format!("must not be set {reason}");
            errors.push(FieldError::forbidden(&path.child("default"), detail));
        }
        for name in [
            "id",
            "additionalItems",
            "patternProperties",
            "definitions",
            "dependencies",
            "$ref",
        ] {
            if is_set(schema, name) {
                let detail = format!("{name} is not supported");
                errors.push(FieldError::forbidden(&path.child(name), detail));
            }
        }
        if kind == "null" {
            let detail = "type cannot be set to null, use nullable as an alternative";
            errors.push(FieldError::forbidden(&path.child("type"), detail));
        }
        if schema
            .get("items")
            .and_then(Value::as_array)
            .is_some_and(|items| !items.is_empty())
        {
            let detail = "items must be a schema object and not an array";
            errors.push(FieldError::forbidden(&path.child("items"), detail));
        }
        if self.inside_metadata && flag(schema, "x-kubernetes-embedded-resource") {
            let at = path.child("x-kubernetes-embedded-resource");
            errors.push(FieldError::forbidden(
                &at,
                "must not be used inside of resource meta",
            ));
        }
    }

    /// How lists and maps are merged.
    fn merging(self, schema: &Value, path: &Path, errors: &mut ErrorList) {
        let kind = text(schema, "type");
        let mut demands = |keyword: &str, wanted: &str, supported: &[&str]| {
            let Some(value) = schema.get(keyword).and_then(Value::as_str) else {
                return;
            };
            if kind != wanted {
                let detail = format!("must be {wanted} if {keyword} is specified");
                errors.push(match kind {
                    "" => FieldError::required(&path.child("type"), detail),
                    _ => FieldError::invalid(&path.child("type"), kind, detail),
                });
            }
            if !supported.contains(&value) {
                errors.push(FieldError::not_supported(&path.child(keyword), value, supported));
            }
        };
        demands("x-kubernetes-map-type", "object", &["atomic", "granular"]);
        demands("x-kubernetes-list-type", "array", &["atomic", "set", "map"]);
        if kind == "array"
            && self.rules.atomic_sets
            && let Some(keyword) = non_atomic_item(schema)
        {
            let items = schema.get("items").unwrap_or(&Value::Null);
            let value = items.get("x-kubernetes-list-type").cloned().unwrap_or_default();
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            errors.push(FieldError::invalid(
                &path.child("items").child(keyword),
                value,
                detail,
            ));
        }
        map_keys(schema, path, errors);
    }
}

/// The keyword of a set's items that should say `atomic`.
fn non_atomic_item(schema: &Value) -> Option<&'static str> {
    let items = schema.get("items").filter(|items| items.is_object())?;
    if text(schema, "x-kubernetes-list-type") != "set" {
        return None;
    }
    match text(items, "type") {
        "array" if !matches!(text(items, "x-kubernetes-list-type"), "" | "atomic") => {
            Some("x-kubernetes-list-type")
        }
        "object" if text(items, "x-kubernetes-map-type") != "atomic" => Some("x-kubernetes-map-type"),
        _ => None,
    }
}

fn map_keys(schema: &Value, path: &Path, errors: &mut ErrorList) {
    let (kind, keys) = (
        schema.get("x-kubernetes-list-type").and_then(Value::as_str),
        list(schema, "x-kubernetes-list-map-keys"),
    );
    let keys_at = path.child("x-kubernetes-list-map-keys");
    if !keys.is_empty() && kind != Some("map") {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        let at = path.child("x-kubernetes-list-type");
        errors.push(match kind {
            None => FieldError::required(&at, detail),
            Some(kind) => FieldError::invalid(&at, kind, detail),
        });
    }
    if kind != Some("map") {
        return;
    }
    if keys.is_empty() {
        errors.push(FieldError::required(
            &keys_at,
            "must not be empty if x-kubernetes-list-type is map",
        ));
    }
    let at = path.child("items");
    let items = match schema.get("items") {
        None | Some(Value::Null) => {
            let detail = "must have a schema if x-kubernetes-list-type is map";
            errors.push(FieldError::required(&at, detail));
            return;
        }
        Some(items) if items.is_object() => items,
        Some(other) => {
            let detail = "must only have a single schema if x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(&at, other.clone(), detail));
            return;
        }
    };
    if text(items, "type") != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(
            &at.child("type"),
            text(items, "type"),
            detail,
        ));
        return;
    }
    let shown = || Value::from(keys.to_vec());
    let mut seen: Vec<&Value> = Vec::new();
    for key in keys {
        let name = key.as_str().unwrap_or_default();
        match items.get("properties").and_then(|p| p.get(name)) {
            Some(property) if matches!(text(property, "type"), "array" | "object") => {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let at = at.child("properties").key(name).child("type");
                errors.push(FieldError::invalid(&at, text(items, "type"), detail));
            }
            Some(_) => {}
            None => {
                let detail = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&keys_at, shown(), detail));
            }
        }
        if seen.contains(&key) {
            errors.push(FieldError::invalid(
                &keys_at,
                shown(),
                "must not contain duplicate entries",
            ));
        }
        seen.push(key);
    }
}

/// What tells items of lists apart must be there.
fn strict_lists(schema: &Value, path: &Path, errors: &mut ErrorList) {
    let kind = text(schema, "x-kubernetes-list-type");
    let Some(items) = schema.get("items").filter(|items| items.is_object()) else {
        return;
    };
    if !matches!(kind, "set" | "map") {
        return;
    }
    let at = path.child("items");
    if flag(items, "nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.push(FieldError::forbidden(&at.child("nullable"), detail));
    }
    if kind != "map" {
        return;
    }
    for key in list(schema, "x-kubernetes-list-map-keys")
        .iter()
        .filter_map(Value::as_str)
    {
        let Some(property) = items.get("properties").and_then(|p| p.get(key)) else {
            continue;
        };
        let at = at.child("properties").key(key);
        if !list(items, "required").iter().any(|name| name == key) && !is_set_default(property) {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&at.child("default"), detail));
        }
        if flag(property, "nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&at.child("nullable"), detail));
        }
    }
}

fn is_set_default(schema: &Value) -> bool {
    schema.get("default").is_some_and(|default| !default.is_null())
}

/// The schema of the field at a simple path such as `.spec.host`, as selectable fields name it, and the path in its usual form.
pub fn field_at<'s>(schema: &'s Value, path: &str) -> Result<(Path, &'s Value), String> {
    if path.contains(['[', ']']) {
        return Err("array notation is not allowed".to_owned());
    }
    let Some(rest) = path.strip_prefix('.') else {
        return Err(format!(
            "expected [ or . but got: {}",
            path.split('.').next().unwrap_or_default()
        ));
    };
    let (mut at, mut found) = (Path::root(), schema);
    for name in rest.split('.') {
        if name.is_empty() {
            return Err("unexpected end of JSON path".to_owned());
        }
        let invalid = || "does not refer to a valid field".to_owned();
        if is_set(found, "properties") {
            found = found
                .get("properties")
                .and_then(|properties| properties.get(name))
                .ok_or_else(invalid)?;
            at = at.child(name);
        } else {
            let additional = found.get("additionalProperties").filter(|a| a.is_object());
            found = additional.ok_or_else(invalid)?;
            at = at.key(name);
        }
    }
    Ok((at, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(schema: &Value, has_status: bool) -> Vec<String> {
        let errors = check_schema(schema, has_status, SchemaRules::ALL, &Path::new("s"));
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn wrong_schemas_are_told_as_upstream_tells_them() {
        let with = |property: Value| json!({"type": "object", "properties": {"p": property}});
        for (schema, want) in [
            (with(json!({"type": "string", "default": "x"})), vec![]),
            (
                with(json!({"type": "bug"})),
                vec![
                    r#"s.properties[p].type: Unsupported value: "bug": supported values: "array", "boolean", "integer", "number", "object", "string""#,
                ],
            ),
            (
                with(json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}})),
                vec![
                    "s.properties[p].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
                ],
            ),
            (
                with(
                    json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
                ),
                vec![
                    "s.properties[p].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
                ],
            ),
            (
                with(json!({"type": "string", "x-kubernetes-list-type": "set"})),
                vec![
                    r#"s.properties[p].type: Invalid value: "string": must be array if x-kubernetes-list-type is specified"#,
                ],
            ),
            (
                with(
                    json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b", "b"],
                    "items": {"type": "object", "properties": {"b": {"type": "string"}}}}),
                ),
                vec![
                    r#"s.properties[p].x-kubernetes-list-map-keys: Invalid value: ["a","b","b"]: entries must all be names of item properties"#,
                    r#"s.properties[p].x-kubernetes-list-map-keys: Invalid value: ["a","b","b"]: must not contain duplicate entries"#,
                    "s.properties[p].items.properties[b].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                    "s.properties[p].items.properties[b].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                ],
            ),
            (
                with(json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}})),
                vec![
                    "s.properties[p].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
                ],
            ),
            (
                json!({"type": "object", "properties": {"kind": {"type": "string", "default": "x"}}}),
                vec!["s.properties[kind].default: Forbidden: must not be set in top-level kind"],
            ),
            (
                with(json!({"type": "integer", "default": "x"})),
                vec![
                    r#"s.properties[p].default: Invalid value: "string": s.properties[p].default in body must be of type integer: "string""#,
                ],
            ),
            (
                with(json!({"type": "object", "properties": {"a": {"type": "string"}}, "default": {"b": 1}})),
                vec![r#"s.properties[p].default: Invalid value: {"b":1}: must not have unknown fields"#],
            ),
            (
                with(json!({"$ref": "#/x", "type": "string"})),
                vec!["s.properties[p].$ref: Forbidden: $ref is not supported"],
            ),
        ] {
            assert_eq!(told(&schema, false), want, "{schema}");
        }
        let combined = json!({"type": "object", "anyOf": [{"required": ["a"]}]});
        assert!(told(&combined, false).is_empty());
        assert!(told(&combined, true)[0].contains("only [Description Type Format"));
    }

    #[test]
    fn a_changed_definition_may_stay_as_wrong_as_it_was() {
        let old = [json!({"properties": {"a": {"type": "bug"}}})];
        let rules = SchemaRules::of_old(old.iter());
        assert!(!rules.structural && !rules.known_types && rules.atomic_sets && rules.pruned_defaults);
        assert!(check_schema(&old[0], false, rules, &Path::new("s")).is_empty());
    }

    #[test]
    fn selectable_fields_are_found_in_the_schema() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"a": {"type": "string"}}},
            "labels": {"type": "object", "additionalProperties": {"type": "integer"}}}});
        let found = |path: &str| {
            field_at(&schema, path).map(|(path, schema)| (path.to_string(), text(schema, "type")))
        };
        assert_eq!(found(".spec.a"), Ok(("spec.a".to_owned(), "string")));
        assert_eq!(found(".labels.x"), Ok(("labels[x]".to_owned(), "integer")));
        assert_eq!(
            found(".spec.b"),
            Err("does not refer to a valid field".to_owned())
        );
        assert_eq!(found("spec"), Err("expected [ or . but got: spec".to_owned()));
        assert_eq!(found(".spec[0]"), Err("array notation is not allowed".to_owned()));
    }
}
