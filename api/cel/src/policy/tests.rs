//! Policies over objects: what is denied, noted and changed.

use super::{Judged, MutatingPolicy, Mutation, ValidatingPolicy};
use crate::NoAuthorizations;
use crate::admission::Input;
use serde_json::{Value as Json, json};

fn input<'a>(object: &'a Json, params: &'a Json) -> Input<'a> {
    Input {
        object,
        old_object: &Json::Null,
        request: &Json::Null,
        namespace: &Json::Null,
        params,
    }
}

fn judge(spec: &Json, object: &Json, params: &Json) -> Judged {
    let policy = ValidatingPolicy::compile(spec);
    policy
        .judge(&input(object, params), &NoAuthorizations)
        .expect("no rights are asked for")
}

#[test]
fn a_validation_that_does_not_hold_denies_in_its_own_words() {
    let spec = |more: Json| {
        let mut validation = json!({"expression": "object.spec.replicas <= variables.most"});
        for (key, value) in more.as_object().unwrap() {
            validation[key] = value.clone();
        }
        json!({
            "variables": [{"name": "most", "expression": "2 + 3"}],
            "validations": [validation],
        })
    };
    let object = json!({"spec": {"replicas": 6}});
    for (more, message, reason) in [
        (
            json!({}),
            "failed expression: object.spec.replicas <= variables.most",
            "Invalid",
        ),
        (
            json!({"message": "too many", "reason": "Forbidden"}),
            "too many",
            "Forbidden",
        ),
        (
            json!({"message": "too many", "messageExpression": "'at most ' + string(variables.most)"}),
            "at most 5",
            "Invalid",
        ),
        // An expression that fails leaves the message.
        (
            json!({"message": "too many", "messageExpression": "object.nothing"}),
            "too many",
            "Invalid",
        ),
    ] {
        let judged = judge(&spec(more.clone()), &object, &Json::Null);
        let denied: Vec<_> = judged
            .denied
            .iter()
            .map(|d| (d.message.as_str(), d.reason.as_str()))
            .collect();
        assert_eq!(denied, [(message, reason)], "{more}");
    }
    let fits = judge(&spec(json!({})), &json!({"spec": {"replicas": 5}}), &Json::Null);
    assert_eq!(fits, Judged::default());
}

#[test]
fn conditions_and_the_failure_policy_decide_what_else_counts() {
    let spec = |condition: &str, check: &str, policy: &str| {
        json!({
            "failurePolicy": policy,
            "matchConditions": [{"name": "c", "expression": condition}],
            "validations": [{"expression": check}],
        })
    };
    let object = json!({"a": 1});
    for (condition, check, policy, denied) in [
        ("true", "object.a == 1", "Fail", 0),
        ("true", "object.a == 2", "Fail", 1),
        ("false", "object.a == 2", "Fail", 0),
        ("object.b == 1", "object.a == 2", "Fail", 1),
        ("object.b == 1", "object.a == 2", "Ignore", 0),
        ("true", "object.b == 1", "Fail", 1),
        ("true", "object.b == 1", "Ignore", 0),
    ] {
        let judged = judge(&spec(condition, check, policy), &object, &Json::Null);
        assert_eq!(
            judged.denied.len(),
            denied,
            "{condition}, {check}, {policy}: {judged:?}"
        );
    }
}

#[test]
fn parameters_and_annotations_are_evaluated() {
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.n < int(params.data.most)"}],
        "auditAnnotations": [{"key": "n", "valueExpression": "'n is ' + string(object.n)"}],
    });
    let judged = judge(&spec, &json!({"n": 9}), &json!({"data": {"most": "5"}}));
    assert_eq!(judged.denied.len(), 1);
    let notes: Vec<_> = judged
        .annotations
        .iter()
        .map(|a| (a.key.as_str(), a.value.as_str()))
        .collect();
    assert_eq!(notes, [("n", "n is 9")]);
}

#[test]
fn mutations_are_objects_to_merge_or_patches() {
    let policy = MutatingPolicy::compile(&json!({"mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{metadata: Object.metadata{labels: {'a': 'b'}}, spec: Object.spec{replicas: object.spec.replicas + 1}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression":
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('x/y'), value: 'z'}]"}},
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.status{}}"}},
    ]}));
    let object = json!({"spec": {"replicas": 1}});
    let input = input(&object, &Json::Null);
    let mutation = |index| policy.mutation(index, &input, &NoAuthorizations).unwrap();
    assert_eq!(policy.len(), 3);
    assert_eq!(
        mutation(0),
        Ok(Mutation::Apply(
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 2}})
        ))
    );
    assert_eq!(
        mutation(1),
        Ok(Mutation::Patch(
            json!([{"op": "add", "path": "/metadata/labels/x~1y", "value": "z"}])
        ))
    );
    assert!(mutation(2).unwrap_err().contains("unexpected type name"));
}
