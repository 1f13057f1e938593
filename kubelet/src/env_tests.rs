//! Tables over environments.

use super::*;
use serde_json::{Value, json};

fn sources() -> Sources {
    let mut out = Sources {
        node_name: "n1".into(),
        host_ips: vec!["192.168.0.1".into()],
        pod_ips: vec!["10.0.0.5".into(), "fd00::5".into()],
        ..Sources::default()
    };
    let map: ConfigMap = serde_json::from_value(json!({"data": {"k": "v", "other": "o"}})).expect("a map");
    let secret: Secret = serde_json::from_value(json!({"data": {"token": "c2VjcmV0"}})).expect("a secret");
    out.config_maps.insert("map".into(), Arc::new(map));
    out.secrets.insert("sec".into(), Arc::new(secret));
    out.services
        .insert("KUBERNETES_SERVICE_HOST".into(), "10.96.0.1".into());
    out.allocatable = serde_json::from_value(json!({"cpu": "2", "memory": "4Gi"})).expect("a list");
    out.files
        .insert(("vol".into(), "app.env".into()), "# c\nA='x y'\nB=2\n".into());
    out
}

fn run(container: Value) -> Result<Vec<(String, String)>, String> {
    let mut container = container;
    container["name"] = json!("c");
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u",
        "labels": {"app": "web"}, "annotations": {"a": "1", "b": "q\"x"}}, "spec": {"serviceAccountName": "sa", "containers": [container]}}))
    .expect("a pod");
    let container = pod.spec().containers[0].clone();
    environment(&pod, &container, &sources()).map_err(|e| e.to_string())
}

fn value(container: Value, name: &str) -> String {
    let all = run(container).expect("an environment");
    all.into_iter()
        .find(|(n, _)| n == name)
        .map(|(_, v)| v)
        .unwrap_or_else(|| "(none)".to_owned())
}

#[test]
fn references_are_expanded_as_kubernetes_does() {
    let known = |name: &str| (name == "A").then(|| "1".to_owned());
    for (text, want) in [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$$(A)", "$(A)"),
        ("$(B)", "$(B)"),
        ("$A", "$A"),
        ("$", "$"),
        ("$(A", "$(A"),
        ("$$$(A)", "$1"),
        ("", ""),
    ] {
        assert_eq!(expand(text, &known), want, "{text:?}");
    }
}

#[test]
fn later_variables_see_earlier_ones() {
    let env = json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(C)"}, {"name": "C", "value": "3"}]});
    assert_eq!(value(env, "B"), "1$(C)");
    let host = json!({"env": [{"name": "URL", "value": "https://$(KUBERNETES_SERVICE_HOST)"}]});
    assert_eq!(value(host, "URL"), "https://10.96.0.1");
}

#[test]
fn values_come_from_objects_fields_resources_and_files() {
    let from = |source: Value| {
        json!({"env": [{"name": "X", "valueFrom": source}],
        "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "10Mi"}}})
    };
    for (source, want) in [
        (json!({"configMapKeyRef": {"name": "map", "key": "k"}}), "v"),
        (
            json!({"configMapKeyRef": {"name": "none", "key": "k", "optional": true}}),
            "(none)",
        ),
        (json!({"secretKeyRef": {"name": "sec", "key": "token"}}), "secret"),
        (json!({"fieldRef": {"fieldPath": "metadata.name"}}), "p"),
        (
            json!({"fieldRef": {"fieldPath": "metadata.labels['app']"}}),
            "web",
        ),
        (
            json!({"fieldRef": {"fieldPath": "metadata.annotations['none']"}}),
            "",
        ),
        (json!({"fieldRef": {"fieldPath": "status.podIP"}}), "10.0.0.5"),
        (
            json!({"fieldRef": {"fieldPath": "status.podIPs"}}),
            "10.0.0.5,fd00::5",
        ),
        (json!({"fieldRef": {"fieldPath": "spec.nodeName"}}), "n1"),
        (
            json!({"fieldRef": {"fieldPath": "spec.serviceAccountName"}}),
            "sa",
        ),
        (json!({"fieldRef": {"fieldPath": "status.hostIP"}}), "192.168.0.1"),
        (json!({"resourceFieldRef": {"resource": "limits.cpu"}}), "2"),
        (
            json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}),
            "1500",
        ),
        (
            json!({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Gi"}}),
            "4",
        ),
        (
            json!({"resourceFieldRef": {"resource": "requests.memory"}}),
            "10485760",
        ),
        (
            json!({"fileKeyRef": {"volumeName": "vol", "path": "app.env", "key": "A"}}),
            "x y",
        ),
        (
            json!({"fileKeyRef": {"volumeName": "vol", "path": "app.env", "key": "Z", "optional": true}}),
            "(none)",
        ),
    ] {
        assert_eq!(value(from(source.clone()), "X"), want, "{source}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for (container, want) in [
        (
            json!({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k"}}}]}),
            "configmap \"none\" not found",
        ),
        (
            json!({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "z"}}}]}),
            "couldn't find key z in Secret ns/sec",
        ),
        (
            json!({"envFrom": [{"secretRef": {"name": "none"}}]}),
            "secret \"none\" not found",
        ),
    ] {
        assert_eq!(run(container), Err(want.to_owned()));
    }
}

#[test]
fn whole_objects_come_with_a_prefix_and_lose_to_single_variables() {
    let env = json!({"envFrom": [{"prefix": "M_", "configMapRef": {"name": "map"}}, {"configMapRef": {"name": "no", "optional": true}}],
        "env": [{"name": "M_k", "value": "mine"}]});
    assert_eq!(value(env.clone(), "M_k"), "mine");
    assert_eq!(value(env, "M_other"), "o");
}

#[test]
fn services_are_told_by_variables() {
    let service = |ns: &str, name: &str, ip: &str| -> Arc<Service> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": ns},
                "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}]}}))
            .expect("a service"),
        )
    };
    let all = [
        service("ns", "my-db", "10.1.1.1"),
        service("ns", "headless", "None"),
        service("default", "kubernetes", "10.96.0.1"),
        service("else", "x", "10.1.1.9"),
    ];
    let vars = service_variables(&all, "ns", true);
    assert_eq!(
        vars.get("MY_DB_SERVICE_HOST").map(String::as_str),
        Some("10.1.1.1")
    );
    assert_eq!(
        vars.get("MY_DB_SERVICE_PORT_DNS_UDP").map(String::as_str),
        Some("53")
    );
    assert_eq!(
        vars.get("MY_DB_PORT_53_UDP").map(String::as_str),
        Some("udp://10.1.1.1:53")
    );
    assert_eq!(
        vars.get("MY_DB_PORT").map(String::as_str),
        Some("tcp://10.1.1.1:80")
    );
    assert!(vars.contains_key("KUBERNETES_SERVICE_HOST"));
    assert!(
        !vars
            .keys()
            .any(|k| k.starts_with("HEADLESS") || k.starts_with("X_"))
    );
    let few = service_variables(&all, "ns", false);
    assert!(few.keys().all(|k| k.starts_with("KUBERNETES_")));
}

#[test]
fn lists_of_labels_and_annotations_are_quoted() {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"annotations": {"b": "q\"x\n", "a": "1"}}}))
        .expect("a pod");
    let text = pod_field(&pod, "metadata.annotations", &Sources::default()).expect("text");
    assert_eq!(text, "a=\"1\"\nb=\"q\\\"x\\n\"");
    assert!(pod_field(&pod, "spec.secret", &Sources::default()).is_err());
}
