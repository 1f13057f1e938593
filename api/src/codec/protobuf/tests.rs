//! Tests of the protobuf codec.

use super::*;
use crate::schema::builtin;
use proptest::prelude::*;
use serde_json::json;

fn round_trip(object: &Value) -> Value {
    let types = builtin();
    let version = GroupVersion::parse(object["apiVersion"].as_str().unwrap()).unwrap();
    let gvk = GroupVersionKind::new(version.group, version.version, object["kind"].as_str().unwrap());
    let resolve = |gvk: &GroupVersionKind| {
        types
            .name_of_kind(&gvk.group, &gvk.version, &gvk.kind)
            .map(str::to_owned)
    };
    let name = resolve(&gvk).unwrap();
    let bytes = encode(types, &gvk, &name, object);
    let (read, object) = decode(types, &bytes, resolve).unwrap();
    assert_eq!(read, gvk);
    object
}

#[test]
fn objects_with_every_peculiarity_survive() {
    for object in [
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
                "name": "x", "creationTimestamp": "2026-01-02T03:04:05Z", "deletionGracePeriodSeconds": -1, "labels": {"b": "1", "a": ""},
                "managedFields": [{"manager": "m", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}}]},
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"port": "web", "path": "/"}, "periodSeconds": 5},
                "readinessProbe": {"tcpSocket": {"port": 80}},
                "env": [{"name": "e", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": false}}}]}],
                "volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 0,
                "ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "a", "resources": {}}]},
            "status": {"startTime": "2026-01-02T03:04:05Z"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": {"a": "AAEC", "empty": ""}, "type": "Opaque"}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {}, "spec": {"renewTime": "2026-01-02T03:04:05.123456Z"}}),
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {}, "data": {"spec": [1, null]}, "revision": 3}),
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {"user": "u", "extra": {"k": ["a", "b"]}}, "status": {"allowed": true}}),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {},
            "spec": {"matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"]}]}}, "status": {}}),
        json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": "x"}, "spec": {}, "status": {}}]}),
        json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "details": {"causes": [{"reason": "r"}]}, "code": 404}),
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"}, "spec": {
            "group": "g", "scope": "Namespaced", "names": {"plural": "xs", "kind": "X"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "maximum": 1.5, "default": {"a": 1},
                "additionalProperties": false, "properties": {"a": {"items": {"type": "string"}, "additionalProperties": {"type": "integer"}},
                "b": {"items": [{"type": "string"}]}}, "dependencies": {"d": ["x"], "e": {"type": "object"}}}}}]},
            "status": {}}),
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "x"}}),
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}}),
    ] {
        let decoded = decode_object(
            builtin(),
            builtin()
                .name_of_kind(
                    object["apiVersion"]
                        .as_str()
                        .unwrap()
                        .split_once('/')
                        .map_or("", |p| p.0),
                    object["apiVersion"].as_str().unwrap().rsplit('/').next().unwrap(),
                    object["kind"].as_str().unwrap(),
                )
                .unwrap(),
            object,
            FieldValidation::Strict,
        )
        .unwrap()
        .value;
        assert_eq!(round_trip(&decoded), decoded);
    }
}

#[test]
fn bytes_are_those_of_the_wire_format() {
    let types = builtin();
    let gvk = GroupVersionKind::new("", "v1", "ConfigMap");
    let object = json!({"data": {"k": "v"}});
    let bytes = encode(types, &gvk, "io.k8s.api.core.v1.ConfigMap", &object);
    let body = b"\x12\x06\x0a\x01k\x12\x01v";
    let mut want = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x08".to_vec();
    want.extend_from_slice(body);
    want.extend_from_slice(b"\x1a\0\x22\0");
    assert_eq!(bytes, want);
    let frame = watch_frame(types, "ADDED", &gvk, "io.k8s.api.core.v1.ConfigMap", &object);
    assert_eq!(
        u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize,
        frame.len() - 4
    );
    assert_eq!(&frame[4..11], b"\x0a\x05ADDED");
}

#[test]
fn what_is_no_protobuf_is_refused() {
    let resolve = |_: &GroupVersionKind| Some("io.k8s.api.core.v1.ConfigMap".to_owned());
    for bytes in [
        &b"{}"[..],
        b"k8s\0",
        b"k8s\0\x0a",
        b"k8s\0\x0a\x04\x0a\x02v1\x12\x05\x0a\x09abc",
        b"k8s\0\x0a\x04\x0a\x02v1\x12\x02\x08\x01",
    ] {
        assert!(decode(builtin(), bytes, resolve).is_err(), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..80), kind in "Pod|Secret|CustomResourceDefinition|Lease") {
        let mut bytes = b"k8s\0\x0a\x04\x0a\x02v1".to_vec();
        write::bytes(&mut bytes, 2, &body);
        let name = builtin().names().find(|n| n.ends_with(&format!(".v1.{kind}"))).unwrap().to_owned();
        let _ = decode(builtin(), &bytes, |_| Some(name.clone()));
    }
}

#[test]
fn a_list_in_parts_is_the_list_as_a_whole() {
    let types = builtin();
    let items: Vec<Value> = (0..3)
        .map(|n| json!({"metadata": {"name": format!("p{n}"), "uid": "u".repeat(n * 100)}, "spec": {"nodeName": "n"}}))
        .collect();
    let metadata = json!({"resourceVersion": "7", "continue": "x"});
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items});
    let gvk = GroupVersionKind::new("", "v1", "PodList");
    let encoded: Vec<u8> = items
        .iter()
        .flat_map(|item| encode_item(types, "io.k8s.api.core.v1.Pod", item))
        .collect();
    let (head, tail) = list_envelope(types, &gvk, &metadata, encoded.len());
    let whole = encode(types, &gvk, "io.k8s.api.core.v1.PodList", &list);
    assert_eq!([head, encoded, tail].concat(), whole);
}
