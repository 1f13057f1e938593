//! Tests of custom resources' schemas.

use super::*;
use crate::apply::{FieldSet, Manager, apply};
use crate::schema::{FieldValidation, decode};
use proptest::prelude::*;
use serde_json::json;

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 5, "format": "int32"},
                    "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
                    "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
                    "port": {"x-kubernetes-int-or-string": true},
                    "when": {"type": "string", "format": "date-time", "nullable": true},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "rules": {
                        "type": "array", "maxItems": 2, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "weight": {"type": "number", "default": 1}}},
                    },
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "one": {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}, "oneOf": [{"required": ["x"]}, {"required": ["y"]}]},
                    "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
                },
            },
        },
    })
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "x"}, "spec": spec})
}

#[test]
fn unknown_fields_are_pruned_and_reported() {
    let types = types("foo", &schema(), false);
    let value = object(
        json!({"size": 1, "foo": 1, "free": {"any": {"x": null}}, "rules": [{"name": "a", "bar": 1}], "when": null, "template": {"metadata": {"labels": {"a": "b"}, "zz": 1}, "data": 1}}),
    );
    let decoded = decode(&types, "foo", value.clone(), FieldValidation::Warn).unwrap();
    assert_eq!(
        decoded.warnings,
        [
            r#"unknown field "spec.foo""#,
            r#"unknown field "spec.rules[0].bar""#,
            r#"unknown field "spec.template.metadata.zz""#
        ]
    );
    assert_eq!(
        decoded.value,
        object(
            json!({"size": 1, "free": {"any": {"x": null}}, "rules": [{"name": "a"}], "when": null, "template": {"metadata": {"labels": {"a": "b"}}, "data": 1}})
        )
    );
    let types = super::types("foo", &json!({}), true);
    assert_eq!(
        decode(&types, "foo", value.clone(), FieldValidation::Strict)
            .unwrap()
            .value,
        value
    );
    let wrong = json!({"metadata": {"labels": 5}});
    assert_eq!(
        decode(&types, "foo", wrong, FieldValidation::Warn)
            .unwrap_err()
            .to_string(),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type map[string]string"
    );
}

#[test]
fn defaults_are_filled_in_where_there_is_nothing() {
    let mut value =
        object(json!({"size": 1, "mode": null, "rules": [{"name": "a"}, {"name": "b", "weight": 3}]}));
    apply_defaults(&schema(), &mut value);
    assert_eq!(
        value["spec"],
        json!({"size": 1, "mode": "a", "rules": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]})
    );
}

#[test]
fn wrong_values_are_told_as_upstream_tells_them() {
    for (spec, want) in [
        (json!({}), "spec.size: Required value"),
        (
            json!({"size": "x"}),
            r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#,
        ),
        (
            json!({"size": 1.5}),
            r#"[spec.size: Invalid value: "float64": spec.size in body must be of type int32: "float64", <nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.size]"#,
        ),
        (
            json!({"size": null}),
            r#"spec.size: Invalid value: "null": spec.size in body must be of type integer: "null""#,
        ),
        (
            json!({"size": 0}),
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (
            json!({"size": 9}),
            "spec.size: Invalid value: 9: spec.size in body should be less than or equal to 5",
        ),
        (
            json!({"size": 1, "mode": "c"}),
            r#"spec.mode: Unsupported value: "c": supported values: "a", "b""#,
        ),
        (
            json!({"size": 1, "name": "A"}),
            r#"spec.name: Invalid value: "A": spec.name in body should match '^[a-z]+$'"#,
        ),
        (
            json!({"size": 1, "name": "abcd"}),
            "spec.name: Too long: may not be more than 3 bytes",
        ),
        (
            json!({"size": 1, "port": true}),
            r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#,
        ),
        (
            json!({"size": 1, "when": "x"}),
            r#"spec.when: Invalid value: "x": spec.when in body must be of type date-time: "x""#,
        ),
        (
            json!({"size": 1, "labels": {"a": 1}}),
            r#"spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer""#,
        ),
        (
            json!({"size": 1, "rules": [{"name": "a"}, {"name": "a"}]}),
            r#"spec.rules[1]: Duplicate value: {"name":"a"}"#,
        ),
        (
            json!({"size": 1, "tags": ["a", "a"]}),
            r#"spec.tags[1]: Duplicate value: "a""#,
        ),
        (
            json!({"size": 1, "rules": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}),
            "spec.rules: Too many: 3: must have at most 2 items",
        ),
        (
            json!({"size": 1, "one": {}}),
            r#"[<nil>: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found none valid, spec.one.x: Required value]"#,
        ),
    ] {
        let errors = validate(&schema(), &object(spec.clone()), None);
        assert_eq!(crate::field::aggregate(&errors), want, "{spec}");
        let again = validate(&schema(), &object(spec.clone()), Some(&object(spec)));
        assert!(
            again.iter().all(|e| e.kind == crate::field::ErrorType::Duplicate),
            "what hasn't changed is let pass"
        );
    }
    let right = json!({"size": 5, "mode": "b", "name": "abc", "port": "http", "when": null, "labels": {"a": "b"}, "one": {"x": "1"}});
    assert!(validate(&schema(), &object(right), None).is_empty());
}

#[test]
fn custom_objects_are_applied_by_their_lists_and_maps() {
    let types = types("foo", &schema(), false);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let manager = |name| Manager {
        name,
        api_version: "example.com/v1",
        subresource: "",
        now,
    };
    let first = object(json!({"size": 1, "rules": [{"name": "a", "weight": 1}], "free": {"x": {"y": 1}}}));
    let second = object(json!({"rules": [{"name": "b", "weight": 2}], "free": {"x": {"z": 2}}}));
    let live = apply(
        &types,
        "foo",
        None,
        &first,
        &manager("m"),
        false,
        &FieldSet::default(),
    )
    .unwrap();
    let live = apply(
        &types,
        "foo",
        Some(&live),
        &second,
        &manager("n"),
        false,
        &FieldSet::default(),
    )
    .unwrap();
    assert_eq!(
        live["spec"],
        json!({"size": 1, "rules": [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}], "free": {"x": {"y": 1, "z": 2}}})
    );
    assert_eq!(
        live["metadata"]["managedFields"][1]["fieldsV1"],
        json!({"f:spec": {"f:free": {"f:x": {".": {}, "f:z": {}}}, "f:rules": {"k:{\"name\":\"b\"}": {".": {}, "f:name": {}, "f:weight": {}}}}})
    );
}

proptest! {
    #[test]
    fn no_object_makes_a_schema_panic(spec in crate::codec::json::tests::tree(), schema_part in crate::codec::json::tests::tree()) {
        let wild = json!({"type": "object", "properties": {"spec": schema_part}});
        for schema in [schema(), wild] {
            let types = types("foo", &schema, false);
            if let Ok(decoded) = decode(&types, "foo", object(spec.clone()), FieldValidation::Warn) {
                let mut value = decoded.value;
                apply_defaults(&schema, &mut value);
                let once = value.clone();
                apply_defaults(&schema, &mut value);
                prop_assert_eq!(&once, &value);
                validate(&schema, &value, None);
            }
        }
    }
}
