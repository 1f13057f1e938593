//! Tests of decoding against the built-in schema.

use super::*;
use crate::schema::builtin;
use serde_json::json;

const POD: &str = "io.k8s.api.core.v1.Pod";

fn pod(container: Value) -> Value {
    let mut c = json!({"name": "a", "image": "b"});
    if let (Some(c), Value::Object(more)) = (c.as_object_mut(), container) {
        c.extend(more);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [c]}})
}

fn error(name: &str, value: Value) -> String {
    decode(builtin(), name, value, FieldValidation::Strict)
        .unwrap_err()
        .to_string()
}

#[test]
fn wrong_types_are_refused_in_the_words_clients_know() {
    for (container, want) in [
        (
            json!({"ports": "x"}),
            "json: cannot unmarshal string into Go struct field Container.spec.containers.ports of type []v1.ContainerPort",
        ),
        (
            json!({"ports": ["x"]}),
            "json: cannot unmarshal string into Go struct field Container.spec.containers.ports of type v1.ContainerPort",
        ),
        (
            json!({"ports": [{"containerPort": "80"}]}),
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            json!({"ports": [{"containerPort": 1.5}]}),
            "json: cannot unmarshal number 1.5 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            json!({"ports": [{"containerPort": 99999999999i64}]}),
            "json: cannot unmarshal number 99999999999 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            json!({"image": 5}),
            "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string",
        ),
        (
            json!({"resources": {"limits": {"cpu": "abc"}}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            json!({"resources": {"limits": {"cpu": true}}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            json!({"livenessProbe": {"httpGet": {"port": true}}}),
            "json: cannot unmarshal bool into Go struct field HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
        ),
        (
            json!({"livenessProbe": {"httpGet": 5}}),
            "json: cannot unmarshal number into Go struct field Probe.spec.containers.livenessProbe.ProbeHandler.httpGet of type v1.HTTPGetAction",
        ),
        (
            json!({"stdin": "true"}),
            "json: cannot unmarshal string into Go struct field Container.spec.containers.stdin of type bool",
        ),
        (
            json!({"securityContext": []}),
            "json: cannot unmarshal array into Go struct field Container.spec.containers.securityContext of type v1.SecurityContext",
        ),
        (
            json!({"imagePullPolicy": 5}),
            "json: cannot unmarshal number into Go struct field Container.spec.containers.imagePullPolicy of type v1.PullPolicy",
        ),
        (
            json!({"command": [1]}),
            "json: cannot unmarshal number into Go struct field Container.spec.containers.command of type string",
        ),
        (
            json!({"command": {"a": 1}}),
            "json: cannot unmarshal object into Go struct field Container.spec.containers.command of type []string",
        ),
        (
            json!({"foo": 1, "ports": [{"bar": 1}]}),
            r#"strict decoding error: unknown field "spec.containers[0].foo", unknown field "spec.containers[0].ports[0].bar""#,
        ),
    ] {
        assert_eq!(error(POD, pod(container)), want);
    }
}

#[test]
fn wrong_metadata_and_leaves_are_refused_in_the_words_clients_know() {
    for (value, want) in [
        (
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            json!({"metadata": {"labels": ["a"]}}),
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            json!({"metadata": {"creationTimestamp": "foo"}}),
            r#"parsing time "foo" as "2006-01-02T15:04:05Z07:00": cannot parse "foo" as "2006""#,
        ),
        (
            json!({"metadata": {"creationTimestamp": 5}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            json!({"metadata": 5}),
            "json: cannot unmarshal number into Go struct field Pod.metadata of type v1.ObjectMeta",
        ),
    ] {
        assert_eq!(error(POD, value), want);
    }
    for (name, value, want) in [
        (
            "io.k8s.api.core.v1.Secret",
            json!({"data": {"a": "!!"}}),
            "illegal base64 data at input byte 0",
        ),
        (
            "io.k8s.api.core.v1.Secret",
            json!({"data": {"a": 5}}),
            "json: cannot unmarshal number into Go struct field Secret.data of type []uint8",
        ),
        (
            "io.k8s.api.coordination.v1.Lease",
            json!({"spec": {"acquireTime": "2020-01-01T00:00:00Z"}}),
            r#"parsing time "2020-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#,
        ),
        (
            "io.k8s.api.coordination.v1.Lease",
            json!({"spec": {"acquireTime": "2020-01-01T00:00:00.1234567+01:00"}}),
            r#"parsing time "2020-01-01T00:00:00.1234567+01:00" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "7+01:00" as "Z07:00""#,
        ),
        (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
            json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {"foo": 1, "properties": {"a": {"bar": 1, "items": {"baz": 1}}}}}}]}}),
            r#"strict decoding error: unknown field "spec.versions[0].schema.openAPIV3Schema.foo", unknown field "spec.versions[0].schema.openAPIV3Schema.properties.a.bar""#,
        ),
    ] {
        assert_eq!(error(name, value), want);
    }
}

#[test]
fn a_decoded_object_is_what_go_would_print() {
    let value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "x", "labels": {"a": null}, "annotations": {}, "generateName": "", "creationTimestamp": null},
        "spec": {"containers": [{
            "name": "a", "command": [], "stdin": false, "env": [{"name": "e", "value": ""}],
            "resources": {"limits": {"cpu": "1000m", "memory": 1024}},
            "ports": [{"containerPort": 80, "hostPort": 0}],
            "securityContext": {}, "livenessProbe": {"httpGet": {"port": "web"}, "periodSeconds": 0},
        }], "terminationGracePeriodSeconds": 0, "nodeSelector": null},
        "extra": 1,
    });
    let decoded = decode(builtin(), POD, value, FieldValidation::Warn).unwrap();
    assert_eq!(decoded.warnings, [r#"unknown field "extra""#]);
    let want = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "x", "labels": {"a": ""}},
        "spec": {"containers": [{
            "name": "a", "env": [{"name": "e"}],
            "resources": {"limits": {"cpu": "1", "memory": "1024"}},
            "ports": [{"containerPort": 80}],
            "securityContext": {}, "livenessProbe": {"httpGet": {"port": "web"}},
        }], "terminationGracePeriodSeconds": 0},
        "status": {},
    });
    assert_eq!(decoded.value, want);
    let again = decode(builtin(), POD, decoded.value.clone(), FieldValidation::Strict).unwrap();
    assert_eq!(again.value, decoded.value);
}

#[test]
fn duplicates_are_errors_under_strict_and_warnings_otherwise() {
    let value = json!({"spec": {}, "foo": 1});
    let duplicates = ["spec.volumes".to_owned()];
    let error = decode_with_duplicates(
        builtin(),
        POD,
        value.clone(),
        FieldValidation::Strict,
        &duplicates,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"strict decoding error: unknown field "foo", duplicate field "spec.volumes""#
    );
    let decoded =
        decode_with_duplicates(builtin(), POD, value.clone(), FieldValidation::Warn, &duplicates).unwrap();
    assert_eq!(decoded.warnings.len(), 2);
    let decoded =
        decode_with_duplicates(builtin(), POD, value, FieldValidation::Ignore, &duplicates).unwrap();
    assert!(decoded.warnings.is_empty());
}

#[test]
fn times_are_rewritten_in_utc() {
    for (text, want) in [
        ("2020-01-02T03:04:05Z", "2020-01-02T03:04:05Z"),
        ("2020-01-02T03:04:05+01:30", "2020-01-02T01:34:05Z"),
        ("2020-01-02T03:04:05.999Z", "2020-01-02T03:04:05Z"),
    ] {
        let value = json!({"metadata": {"creationTimestamp": text}});
        let decoded = decode(builtin(), POD, value, FieldValidation::Strict)
            .unwrap()
            .value;
        assert_eq!(decoded["metadata"]["creationTimestamp"], want);
    }
}
