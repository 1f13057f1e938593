//! Tables of rules: what is wrong with them, and what they say about objects.

use super::*;
use rutter_api::field::{Path, aggregate};
use serde_json::json;

fn with_rule(properties: Json, rule: Json) -> Json {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties, "x-kubernetes-validations": [rule]}}})
}

fn path() -> Path {
    Path::new("spec.validation.openAPIV3Schema")
}

#[test]
fn what_is_wrong_with_rules_is_told_in_upstreams_words() {
    let x = || json!({"x": {"type": "integer"}, "s": {"type": "string"}, "l": {"type": "array", "items": {"type": "string"}}});
    let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
    let shown = |rule: &str| {
        format!(
            r#"{{"FieldPath":"","Message":"","MessageExpression":"","OptionalOldSelf":null,"Reason":null,"Rule":"{rule}"}}"#
        )
    };
    for (rule, want) in [
        (json!({"rule": "self.x > 0"}), String::new()),
        (
            json!({"rule": " "}),
            format!("{at}.rule: Required value: rule is not specified"),
        ),
        (
            json!({"rule": "self.x\n > 0"}),
            format!("{at}.message: Required value: message must be specified if rule contains line breaks"),
        ),
        (
            json!({"rule": "self.x > 0", "reason": "Nope"}),
            format!(
                r#"{at}.reason: Unsupported value: "Nope": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired""#
            ),
        ),
        (
            json!({"rule": "self.x > 0", "fieldPath": ".y"}),
            format!(r#"{at}.fieldPath: Invalid value: ".y": must be a valid path"#),
        ),
        (
            json!({"rule": "self.y"}),
            format!(
                "{at}.rule: Invalid value: {}: compilation failed: ERROR: <input>:1:5: undefined field 'y'\n | self.y\n | ....^",
                shown("self.y")
            ),
        ),
        (
            json!({"rule": "self.x"}),
            format!(
                "{at}.rule: Invalid value: {}: cel expression must evaluate to a bool",
                shown("self.x")
            ),
        ),
        (
            json!({"rule": "self.x > 0", "optionalOldSelf": true}),
            format!(
                "{at}.optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"
            ),
        ),
        (
            json!({"rule": "self.l.all(a, self.l.all(b, a == b))"}),
            format!(
                "[{at}.rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared), {at}.rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema, spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)]"
            ),
        ),
    ] {
        let errors = check(&with_rule(x(), rule.clone()), &path(), false);
        let found = if errors.is_empty() {
            String::new()
        } else {
            aggregate(&errors)
        };
        assert_eq!(found, want, "{rule}");
    }
}

#[test]
fn old_values_of_elements_that_cannot_be_told_apart_are_out_of_reach() {
    let list = |kind: &str| {
        json!({"type": "object", "properties": {"l": {
            "type": "array", "maxItems": 5, "x-kubernetes-list-type": kind, "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string", "maxLength": 5}}, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]},
        }}})
    };
    assert_eq!(check(&list("map"), &path(), false), Vec::new());
    let errors = check(&list("atomic"), &path(), false);
    assert_eq!(errors.len(), 1);
    assert_eq!(
        errors[0].detail,
        "oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[l]"
    );
}

/// What rules say about objects: schema of `spec`'s properties, rule, new, old, errors.
#[test]
fn rules_judge_objects() {
    let properties = json!({
        "x": {"type": "integer"}, "y": {"type": "string"}, "n": {"x-kubernetes-int-or-string": true},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}},
    });
    for (rule, new, old, want) in [
        (json!({"rule": "self.x > 1"}), json!({"x": 2}), None, ""),
        (
            json!({"rule": "self.x > 1"}),
            json!({"x": 1}),
            None,
            "spec: Invalid value: failed rule: self.x > 1",
        ),
        (
            json!({"rule": "self.x > 1", "message": "too small"}),
            json!({"x": 1}),
            None,
            "spec: Invalid value: too small",
        ),
        (
            json!({"rule": "self.x > 1", "messageExpression": "'x is ' + string(self.x)"}),
            json!({"x": 1}),
            None,
            "spec: Invalid value: x is 1",
        ),
        (
            json!({"rule": "self.x > 1", "message": "m", "messageExpression": "self.y"}),
            json!({"x": 1}),
            None,
            "spec: Invalid value: m",
        ),
        (
            json!({"rule": "self.x > 1", "reason": "FieldValueForbidden", "fieldPath": ".x"}),
            json!({"x": 1}),
            None,
            "spec.x: Forbidden: failed rule: self.x > 1",
        ),
        (
            json!({"rule": "self.x > 1"}),
            json!({}),
            None,
            r#"spec: Invalid value: "object": no such key: x evaluating rule: self.x > 1"#,
        ),
        (
            json!({"rule": "self.n.size() > 1"}),
            json!({"n": 1}),
            None,
            r#"spec: Invalid value: "object": 'no such overload: size(int)': call arguments did not match a supported operator, function or macro signature for rule: self.n.size() > 1"#,
        ),
        (json!({"rule": "self.x >= oldSelf.x"}), json!({"x": 1}), None, ""),
        (
            json!({"rule": "self.x >= oldSelf.x"}),
            json!({"x": 1}),
            Some(json!({"x": 2})),
            "spec: Invalid value: failed rule: self.x >= oldSelf.x",
        ),
        (
            json!({"rule": "oldSelf.hasValue() || self.x > 1", "optionalOldSelf": true}),
            json!({"x": 1}),
            None,
            "spec: Invalid value: failed rule: oldSelf.hasValue() || self.x > 1",
        ),
        (
            json!({"rule": "oldSelf.hasValue() || self.x > 1", "optionalOldSelf": true}),
            json!({"x": 1}),
            Some(json!({"x": 0})),
            "",
        ),
        (
            json!({"rule": "self.m.all(k, self.m[k] > 0)"}),
            json!({"m": {"a": 1, "b": 0}}),
            None,
            "spec: Invalid value: failed rule: self.m.all(k, self.m[k] > 0)",
        ),
    ] {
        let rules = Rules::compile(&with_rule(properties.clone(), rule.clone())).unwrap();
        let wrap =
            |spec: Json| json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n"}, "spec": spec});
        let old = old.map(wrap);
        let judged = rules.judge(&wrap(new.clone()), old.as_ref());
        let found = if judged.errors.is_empty() {
            String::new()
        } else {
            aggregate(&judged.errors)
        };
        assert_eq!(found, want, "{rule} {new}");
    }
}

#[test]
fn what_was_wrong_before_and_has_not_changed_is_a_warning() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "x-kubernetes-validations": [{"rule": "self == 'right'"}]},
        "b": {"type": "string"},
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {
            "k": {"type": "string"}, "v": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}}}},
    }});
    let rules = Rules::compile(&schema).unwrap();
    let old = json!({"a": "wrong", "l": [{"k": "x", "v": 0}, {"k": "y", "v": 1}]});
    let new = json!({"a": "wrong", "b": "c", "l": [{"k": "y", "v": 1}, {"k": "x", "v": 0}]});
    let judged = rules.judge(&new, Some(&old));
    assert_eq!(judged.errors, Vec::new());
    assert_eq!(
        judged.warnings,
        [
            r#"a: Invalid value: "wrong": failed rule: self == 'right'"#,
            "l[1].v: Invalid value: 0: failed rule: self > 0"
        ]
    );
    let changed = json!({"a": "worse", "l": [{"k": "x", "v": -1}]});
    assert_eq!(rules.judge(&changed, Some(&old)).errors.len(), 2);
}

#[test]
fn an_object_that_costs_too_much_ends_its_judgement() {
    let list: Vec<usize> = (0..4000).collect();
    let schema = with_rule(
        json!({"l": {"type": "array", "items": {"type": "integer"}}}),
        json!({"rule": "self.l.all(a, self.l.all(b, a == b || a != b))"}),
    );
    let judged = Rules::compile(&schema)
        .unwrap()
        .judge(&json!({"spec": {"l": list}}), None);
    assert_eq!(judged.errors.len(), 1);
    assert!(
        judged.errors[0]
            .detail
            .starts_with("'operation cancelled: actual cost limit exceeded'")
    );
}

#[test]
fn whole_objects_have_a_name_and_no_more_of_metadata() {
    let rule = |rule: &str| json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}]});
    assert_eq!(
        check(&rule("self.metadata.name.startsWith('a')"), &path(), false),
        Vec::new()
    );
    assert_eq!(
        check(&rule("self.metadata.labels['a'] == 'b'"), &path(), false).len(),
        1
    );
    let rules = Rules::compile(&rule("self.metadata.name == 'a' && self.kind == 'K'")).unwrap();
    assert_eq!(
        rules.judge(&json!({"kind": "K", "metadata": {"name": "a"}}), None),
        Judgement::default()
    );
}
