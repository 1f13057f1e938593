//! Values that upstream's server stored, as clients see them, and what becomes of them.

use super::{MERGE, World, world_over};
use crate::forms::Forms;
use crate::metrics::Metrics;
use bytes::Bytes;
use rutter_api::codec::protobuf;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupVersion, GroupVersionKind, Value, schema};
use rutter_encryption::Encryption;
use rutter_storage::engine::{MemoryEngine, TransformingEngine};
use rutter_storage::{Commit, Effect, Engine};
use serde_json::json;
use std::sync::Arc;

async fn world_of(store: &Arc<MemoryEngine>) -> World {
    let metrics = rutter_encryption::metrics::Metrics::register(&Metrics::new().unwrap().registry);
    let encryption = Encryption::none(Default::default(), metrics.unwrap());
    let forms = Forms::new(Arc::new(encryption));
    let engine = TransformingEngine::new(store.clone(), Arc::new(forms));
    world_over(Arc::new(engine), &[]).await
}

async fn put(store: &MemoryEngine, key: &str, value: impl Into<Bytes>) {
    let commit = Commit {
        guards: Vec::new(),
        effects: vec![Effect::Put(key.to_owned(), value.into(), None)],
    };
    store.commit(commit).await.unwrap();
}

/// An object as upstream stores it, with the message of the type called `name`.
fn message(object: &Value, name: &str) -> Vec<u8> {
    let version = GroupVersion::parse(object.str_at("apiVersion")).unwrap();
    let kind = GroupVersionKind::new(version.group, version.version, object.str_at("kind"));
    protobuf::encode(schema::builtin(), &kind, name, object)
}

/// The object without what its version is called and when it was written.
fn content(mut object: Value) -> Value {
    for path in ["apiVersion", "kind", "metadata.resourceVersion"] {
        object.take_at(path);
    }
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_stored_as_protobuf_is_served_and_written_as_json() {
    let store = Arc::new(MemoryEngine::new());
    let metadata =
        json!({"name": "a", "namespace": "default", "uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z"});
    let cluster = json!({"name": "a", "uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z"});
    let rules = json!([{"apiGroups": ["x"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["y"], "scope": "*"}]);
    let policy = json!({"matchConstraints": {"resourceRules": rules, "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}},
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: \"add\", path: \"/a\", value: 1}]"}}],
        "failurePolicy": "Fail", "reinvocationPolicy": "Never"});
    let scaled = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    // key, object as stored, its message, path, and the object as served where that differs
    #[rustfmt::skip]
    let table = [
        ("/registry/configmaps/default/a",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": "v"}, "binaryData": {"b": "AAEC"}}),
            "io.k8s.api.core.v1.ConfigMap", "/api/v1/namespaces/default/configmaps/a", None),
        ("/registry/minions/a",
            json!({"apiVersion": "v1", "kind": "Node", "metadata": cluster, "spec": {"unschedulable": true},
                "status": {"capacity": {"memory": "1Gi"}, "allocatable": {"memory": "1Gi"}, "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
                    "nodeInfo": {"architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                        "kubeletVersion": "v1", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""}}}),
            "io.k8s.api.core.v1.Node", "/api/v1/nodes/a", None),
        ("/registry/leases/default/a",
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
                "spec": {"holderIdentity": "me", "leaseTransitions": 0, "renewTime": "2026-01-02T03:04:05.000006Z"}}),
            "io.k8s.api.coordination.v1.Lease", "/apis/coordination.k8s.io/v1/namespaces/default/leases/a", None),
        ("/registry/mutatingadmissionpolicies/a",
            json!({"apiVersion": "admissionregistration.k8s.io/v1beta1", "kind": "MutatingAdmissionPolicy", "metadata": cluster, "spec": policy}),
            "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
            "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies/a", None),
        ("/registry/events/default/a",
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": metadata, "note": "seen", "regarding": {"name": "n"},
                "reason": "R", "type": "Normal"}),
            "io.k8s.api.events.v1.Event", "/api/v1/namespaces/default/events/a",
            Some(("message", json!("seen")))),
        ("/registry/horizontalpodautoscalers/default/a",
            json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": metadata,
                "spec": {"maxReplicas": 3, "scaleTargetRef": scaled, "targetCPUUtilizationPercentage": 70}}),
            "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/a",
            Some(("spec.metrics", json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}])))),
    ];
    for (key, object, name, ..) in &table {
        put(&store, key, message(object, name)).await;
    }
    let world = world_of(&store).await;
    for (key, object, _, path, differs) in table {
        let (code, served) = world.admin("GET", path, json!(null)).await;
        assert_eq!(code, 200, "{path}: {served}");
        match differs {
            None => assert_eq!(content(served.clone()), content(object), "{path}"),
            Some((at, value)) => assert_eq!(served.at(at), &value, "{path}"),
        }
        let (code, why) = world
            .admin(MERGE, path, json!({"metadata": {"labels": {"a": "b"}}}))
            .await;
        assert_eq!(code, 200, "{path}: {why}");
        let stored = store.get(key).await.unwrap().unwrap().value;
        assert!(stored.starts_with(b"{\"apiVersion\":"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_stores_are_listed_whole_and_rewritten_by_updates_that_change_nothing() {
    let store = Arc::new(MemoryEngine::new());
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "uid": name}});
    let folder = "/registry/configmaps/default/";
    let proto = message(&map("proto"), "io.k8s.api.core.v1.ConfigMap");
    put(&store, &format!("{folder}proto"), proto.clone()).await;
    let other = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"json","namespace":"default","uid":"json","creationTimestamp":null}}"#;
    put(&store, &format!("{folder}json"), other).await;
    put(&store, &format!("{folder}ours"), map("ours").to_string()).await;
    let world = world_of(&store).await;
    let path = "/api/v1/namespaces/default/configmaps";
    let (_, list) = world.admin("GET", path, json!(null)).await;
    let names: Vec<&str> = list.list_at("items").iter().map(|item| item.name()).collect();
    assert_eq!(names, ["json", "ours", "proto"]);
    let (_, read) = world.admin("GET", &format!("{path}/proto"), json!(null)).await;
    let (code, _) = world.admin("PUT", &format!("{path}/proto"), read).await;
    assert_eq!(code, 200);
    let stored = store.get(&format!("{folder}proto")).await.unwrap().unwrap().value;
    assert!(stored.starts_with(b"{\"apiVersion\":"));
    // Another server writes while this one watches.
    let mut changed = map("proto");
    changed.set("data.k", "v");
    put(
        &store,
        &format!("{folder}proto"),
        message(&changed, "io.k8s.api.core.v1.ConfigMap"),
    )
    .await;
    let (_, read) = world.admin("GET", &format!("{path}/proto"), json!(null)).await;
    assert_eq!(read.str_at("data.k"), "v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_cannot_be_read_is_told_by_its_key_and_stops_nothing_else() {
    let store = Arc::new(MemoryEngine::new());
    put(
        &store,
        "/registry/configmaps/default/bad",
        &b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x09\x0a"[..],
    )
    .await;
    put(&store, "/registry/limitranges/default/bad", "what?").await;
    put(&store, "/registry/ranges/servicenodeports", &b"k8s\0\x01"[..]).await;
    let world = world_of(&store).await;
    for (path, folder) in [
        ("/api/v1/configmaps", "configmaps"),
        ("/api/v1/namespaces/default/configmaps/bad", "configmaps"),
        ("/api/v1/limitranges", "limitranges"),
    ] {
        let (code, status) = world.admin("GET", path, json!(null)).await;
        assert_eq!((code, status.str_at("reason")), (500, "InternalError"), "{path}");
        let message = status.str_at("message");
        let key = format!("/registry/{folder}/default/bad");
        assert!(message.contains(&key), "{message}");
    }
    let (code, _) = world.admin("GET", "/api/v1/secrets", json!(null)).await;
    assert_eq!(code, 200);
    let path = "/api/v1/namespaces/default/configmaps";
    let (code, _) = world
        .admin(
            "POST",
            path,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "good"}}),
        )
        .await;
    assert_eq!(code, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_that_upstream_stored_in_v1beta1_serve_their_objects() {
    let store = Arc::new(MemoryEngine::new());
    let names =
        json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"});
    // As upstream writes it: the kind first.
    let definition = format!(
        r#"{{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1beta1","metadata":{{"name":"widgets.example.com","uid":"u"}},"spec":{{"group":"example.com","version":"v1","names":{names},"scope":"Namespaced","validation":{{"openAPIV3Schema":{{"type":"object","properties":{{"spec":{{"type":"object","properties":{{"n":{{"type":"integer","default":2}}}}}}}}}}}},"versions":[{{"name":"v1","served":true,"storage":true}}],"conversion":{{"strategy":"None"}},"preserveUnknownFields":false}},"status":{{"acceptedNames":{names},"storedVersions":["v1"],"conditions":[{{"type":"NamesAccepted","status":"True"}},{{"type":"Established","status":"True"}}]}}}}"#
    );
    put(
        &store,
        "/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.example.com",
        definition,
    )
    .await;
    let widget = r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"a","namespace":"default","uid":"w"},"spec":{}}"#;
    put(&store, "/registry/example.com/widgets/default/a", widget).await;
    let world = world_of(&store).await;
    let path = "/apis/example.com/v1/namespaces/default/widgets/a";
    let read = loop {
        match world.admin("GET", path, json!(null)).await {
            (200, read) => break read,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(read.int_at("spec.n"), Some(2));
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";
    let (_, read) = world.admin("GET", path, json!(null)).await;
    assert_eq!(read.str_at("apiVersion"), "apiextensions.k8s.io/v1");
    let version = &read.list_at("spec.versions")[0];
    assert_eq!(version.str_at("schema.openAPIV3Schema.type"), "object");
}
