//! Policies asked about writes of pods.

use super::{MutatingAdmissionPolicy, ValidatingAdmissionPolicy};
use crate::testing::{Objects, admit, create, pods};
use crate::{LiveReader, Operation};
use rutter_api::object::ObjectExt;
use rutter_api::{ObjectReader, Reason, Resource, StatusError, Value};
use rutter_auth::authorize::AlwaysDeny;
use serde_json::json;
use std::sync::Arc;

fn pod_resource() -> Resource {
    Resource {
        schema: "io.k8s.api.core.v1.Pod".into(),
        ..pods()
    }
}

fn pod(image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [{"name": "c", "image": image}]},
    })
}

/// Objects with a policy of this spec, bound with this spec.
fn cluster(plural: &str, bindings: &str, mut spec: Value, mut bound: Value) -> Objects {
    let objects = Objects::default();
    objects.put(
        "namespaces",
        json!({"metadata": {"name": "n", "labels": {"env": "test"}}}),
    );
    let rules =
        json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
    spec.set("matchConstraints", json!({"resourceRules": rules}));
    objects.put(plural, json!({"metadata": {"name": "p"}, "spec": spec}));
    bound.set("policyName", "p");
    objects.put(bindings, json!({"metadata": {"name": "b"}, "spec": bound}));
    objects
}

async fn validated(spec: Value, bound: Value, image: &str) -> Result<Vec<String>, StatusError> {
    let objects = cluster(
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        spec,
        bound,
    );
    let (reader, live): (Arc<dyn ObjectReader>, Arc<dyn LiveReader>) =
        (Arc::new(objects.clone()), Arc::new(objects));
    let plugin = ValidatingAdmissionPolicy::new(reader, live, Arc::new(AlwaysDeny));
    let answer = admit(
        &plugin,
        Operation::Create,
        &pod_resource(),
        "",
        pod(image),
        Value::Null,
    )
    .await;
    answer.map(|(_, warnings)| warnings)
}

fn not_latest() -> Value {
    json!({"validations": [{"expression": "object.spec.containers.all(c, !c.image.endsWith(':latest'))", "message": "no latest"}]})
}

#[tokio::test]
async fn a_write_that_does_not_hold_is_refused_warned_of_or_let_pass_as_the_binding_says() {
    let words = "'p' with binding 'b' denied request: no latest";
    for (bound, refused, warned) in [
        (json!({"validationActions": ["Deny"]}), true, 0),
        (json!({"validationActions": ["Warn"]}), false, 1),
        (json!({"validationActions": ["Audit"]}), false, 0),
        (
            json!({"validationActions": ["Deny"], "matchResources": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}}),
            false,
            0,
        ),
        (
            json!({"validationActions": ["Deny"], "matchResources": {"namespaceSelector": {"matchLabels": {"env": "test"}}}}),
            true,
            0,
        ),
    ] {
        let got = validated(not_latest(), bound.clone(), "x:latest").await;
        match got {
            Err(error) => {
                assert!(refused, "{bound}");
                assert_eq!((error.reason, error.code), (Reason::Invalid, 422));
                let message = format!("pods \"p\" is forbidden: ValidatingAdmissionPolicy {words}");
                assert_eq!(error.message, message);
            }
            Ok(warnings) => {
                assert!(!refused, "{bound}");
                assert_eq!(warnings.len(), warned, "{bound}");
            }
        }
        assert_eq!(validated(not_latest(), bound, "x:1").await, Ok(vec![]));
    }
}

#[tokio::test]
async fn namespaces_and_rights_are_known_and_what_is_not_there_fails() {
    let deny = || json!({"validationActions": ["Deny"]});
    let check = |expression: &str| json!({"validations": [{"expression": expression}]});
    for (expression, passes) in [
        ("namespaceObject.metadata.labels['env'] == 'test'", true),
        (
            "request.operation == 'CREATE' && request.resource.resource == 'pods'",
            true,
        ),
        (
            "authorizer.group('').resource('pods').check('create').allowed()",
            false,
        ),
        ("object.spec.nothing == 1", false),
    ] {
        let got = validated(check(expression), deny(), "x:1").await;
        assert_eq!(got.is_ok(), passes, "{expression}: {got:?}");
    }
    let mut lenient = check("object.spec.nothing == 1");
    lenient.set("failurePolicy", "Ignore");
    assert_eq!(validated(lenient, deny(), "x:1").await, Ok(vec![]));
    let mut missing = check("params.x == 1");
    missing.set("paramKind", json!({"apiVersion": "v1", "kind": "Nothing"}));
    let bound =
        json!({"validationActions": ["Deny"], "paramRef": {"name": "x", "parameterNotFoundAction": "Deny"}});
    let error = validated(missing, bound, "x:1").await.unwrap_err();
    assert!(
        error.message.contains("failed to configure binding"),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn mutations_are_made_one_after_the_other_by_the_schema() {
    let spec = json!({"mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{metadata: Object.metadata{labels: {'a': object.metadata.name}}, spec: Object.spec{containers: [Object.spec.containers{name: 'side', image: 's:1'}]}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression":
            "[JSONPatch{op: 'add', path: '/metadata/labels/b', value: object.metadata.labels['a']}]"}},
    ]});
    let objects = cluster(
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        spec,
        json!({}),
    );
    let plugin =
        MutatingAdmissionPolicy::new(Arc::new(objects.clone()), Arc::new(objects), Arc::new(AlwaysDeny));
    let made = create(&plugin, &pod_resource(), pod("x:1")).await.unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"a": "p", "b": "p"}));
    let names: Vec<_> = made
        .list_at("spec.containers")
        .iter()
        .map(|container| container.str_at("name"))
        .collect();
    assert_eq!(names, ["c", "side"], "lists are merged by their keys");
}

#[tokio::test]
async fn a_mutation_that_fails_is_told_with_its_policy_and_binding() {
    let spec = json!({"failurePolicy": "Fail", "mutations": [
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/spec/none'}]"}}]});
    let objects = cluster(
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        spec,
        json!({}),
    );
    let plugin =
        MutatingAdmissionPolicy::new(Arc::new(objects.clone()), Arc::new(objects), Arc::new(AlwaysDeny));
    let error = create(&plugin, &pod_resource(), pod("x:1")).await.unwrap_err();
    assert!(
        error
            .message
            .contains("policy 'p' with binding 'b' denied request"),
        "{}",
        error.message
    );
}

/// A pod as one mutating policy leaves it.
async fn mutated(spec: Value) -> Result<Value, StatusError> {
    let objects = cluster(
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        spec,
        json!({}),
    );
    let plugin =
        MutatingAdmissionPolicy::new(Arc::new(objects.clone()), Arc::new(objects), Arc::new(AlwaysDeny));
    create(&plugin, &pod_resource(), pod("x:1")).await
}

fn patches(expressions: &[&str]) -> Value {
    let one = |text: &&str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": text}});
    json!({"mutations": expressions.iter().map(one).collect::<Vec<_>>()})
}

#[tokio::test]
async fn a_patch_whose_test_does_not_hold_does_nothing() {
    let untouched = mutated(patches(&[
        "[JSONPatch{op: 'test', path: '/spec/nodeName', value: 'a'}, JSONPatch{op: 'add', path: '/spec/hostname', value: 'h'}]",
    ]));
    assert_eq!(untouched.await.unwrap().str_at("spec.hostname"), "");
}

#[tokio::test]
async fn of_mutations_whose_failure_is_ignored_the_others_count() {
    let mut spec = patches(&[
        "[JSONPatch{op: 'add', path: '/spec/hostname', value: 'h'}]",
        "[JSONPatch{op: 'remove', path: '/spec/none'}]",
        "[JSONPatch{op: 'add', path: '/spec/subdomain', value: object.spec.hostname + 's'}]",
    ]);
    let refused = mutated(spec.clone()).await.unwrap_err();
    assert_eq!((refused.reason, refused.code), (Reason::Invalid, 403));
    assert!(
        refused
            .message
            .starts_with("policy 'p' with binding 'b' denied request: JSON Patch: ")
    );
    spec.set("failurePolicy", "Ignore");
    let made = mutated(spec).await.unwrap();
    assert_eq!(made.str_at("spec.subdomain"), "hs");
}

#[tokio::test]
async fn lists_that_are_replaced_as_a_whole_are_not_applied() {
    let refused = mutated(
        json!({"mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
        "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'c', args: ['a']}]}}"}}]}),
    );
    let message = refused.await.unwrap_err().message;
    let why = "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers";
    assert!(message.contains(why), "{message}");
}

#[test]
fn questions_are_no_business_of_policies() {
    let mut review = pods();
    review.group_version = rutter_api::GroupVersion::new("authorization.k8s.io", "v1");
    review.plural = "subjectaccessreviews".into();
    assert!(!super::may_be_asked(&review) && super::may_be_asked(&pods()));
}
