//! An aggregated server on loopback: registered, found, asked in the caller's name, and gone again.

use crate::loopback::{Ca, Loopback, Seen};
use crate::tests::world_with;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rutter_api::Value;
use rutter_api::object::ObjectExt;
use serde_json::json;
use std::sync::Arc;

const NAME: &str = "v1alpha1.wardle.example.com";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";

/// The server's side: discovery in the old form, and who it was told is calling.
fn answer(seen: &Seen) -> (u16, Value) {
    match seen.path.split('?').next().unwrap_or_default() {
        "/apis/wardle.example.com/v1alpha1" => (
            200,
            json!({"kind": "APIResourceList", "groupVersion": "wardle.example.com/v1alpha1", "resources": [
                {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"]},
            ]}),
        ),
        "/openapi/v2" => (
            200,
            json!({"paths": {FLUNDERS: {"get": {"schema": {"$ref": "#/definitions/Flunder"}}}}, "definitions": {"Flunder": {"type": "object"}}}),
        ),
        FLUNDERS => {
            let header = |name: &str| -> Vec<&str> {
                seen.headers
                    .get_all(name)
                    .iter()
                    .map(|value| value.to_str().unwrap())
                    .collect()
            };
            (
                200,
                json!({"user": header("x-remote-user"), "groups": header("x-remote-group"), "token": header("authorization")}),
            )
        }
        _ => (404, json!({"kind": "Status", "code": 404})),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregated_server_is_found_asked_in_the_callers_name_and_missed() {
    let (serving, proxies) = (Ca::new(), Ca::new());
    let server = Loopback::serve(
        &serving,
        &["sample.default.svc"],
        Some(&proxies),
        Arc::new(answer),
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (certificate, key) = proxies.sign("front-proxy-client", &[]);
    let world = world_with(&[
        format!(
            "--proxy-client-cert-file={}",
            file("proxy.crt", &certificate.pem())
        ),
        format!(
            "--proxy-client-key-file={}",
            file("proxy.key", &key.serialize_pem())
        ),
    ])
    .await;
    // The Service is this machine by name: the port is the APIService's.
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "sample"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    });
    let registered = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME},
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
            "caBundle": STANDARD.encode(&serving.pem),
            "service": {"namespace": "default", "name": "sample", "port": server.port},
        },
    });
    let one = format!("{SERVICES}/{NAME}");
    let condition = async |reason: &str| -> Value {
        loop {
            let (_, service) = world.admin("GET", &one, Value::Null).await;
            let mut all = service.list_at("status.conditions").iter();
            match all.find(|condition| condition.str_at("reason") == reason) {
                Some(found) => return found.clone(),
                None => tokio::task::yield_now().await,
            }
        }
    };
    let (status, answer) = world.admin("POST", SERVICES, registered).await;
    assert_eq!(status, 201, "{answer}");
    let missing = condition("ServiceNotFound").await;
    assert_eq!(
        missing.str_at("message"),
        "service/sample in \"default\" is not present"
    );
    let (status, answer) = world.admin("GET", FLUNDERS, Value::Null).await;
    assert_eq!((status, answer.as_str()), (503, Some("service unavailable\n")));

    let services = "/api/v1/namespaces/default/services";
    let (status, answer) = world.admin("POST", services, service).await;
    assert_eq!(status, 201, "{answer}");
    let passed = condition("Passed").await;
    assert_eq!(
        (passed.str_at("status"), passed.str_at("message")),
        ("True", "all checks passed")
    );
    let (status, answer) = world.admin("GET", FLUNDERS, Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer.at("user"), &json!(["admin"]));
    assert_eq!(
        answer.at("groups"),
        &json!(["system:masters", "system:authenticated"])
    );

    let spoofed = [("x-remote-user", "admin"), ("x-remote-group", "system:masters")];
    let (status, answer) = world.anybody(FLUNDERS, &spoofed).await;
    assert_eq!(status, 403, "nobody in particular may not: {answer}");

    let accept = (
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    );
    let described = async |path: &str, part: &str| {
        loop {
            let (_, document) = world.admin_with(path, &[accept]).await;
            if document.to_string().contains(part) {
                return document;
            }
            tokio::task::yield_now().await;
        }
    };
    let groups = described("/apis", "\"flunders\"").await;
    let mut items = groups.list_at("items").iter();
    let group = items
        .find(|group| group.str_at("metadata.name") == "wardle.example.com")
        .unwrap();
    assert_eq!(group.list_at("versions")[0].str_at("freshness"), "Current");
    let (_, legacy) = world.admin("GET", "/apis/wardle.example.com", Value::Null).await;
    assert_eq!(legacy.str_at("preferredVersion.version"), "v1alpha1");
    let (_, openapi) = world.admin("GET", "/openapi/v2", Value::Null).await;
    assert!(openapi.to_string().contains(FLUNDERS));

    world
        .admin("DELETE", &format!("{services}/sample"), Value::Null)
        .await;
    condition("ServiceNotFound").await;
    let stale = described("/apis", "\"Stale\"").await;
    assert!(
        stale.to_string().contains("flunders"),
        "what was known is told as stale"
    );
    world.admin("DELETE", &one, Value::Null).await;
    while world.admin("GET", FLUNDERS, Value::Null).await.0 != 404 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_custom_resources_have_api_services_while_they_are_served() {
    let world = world_with(&[]).await;
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "as.b.example.com"},
        "spec": {
            "group": "b.example.com", "scope": "Namespaced", "names": {"plural": "as", "kind": "A"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (status, answer) = world.admin("POST", definitions, definition).await;
    assert_eq!(status, 201, "{answer}");
    let one = format!("{SERVICES}/v1.b.example.com");
    let until = async |status: u16| -> Value {
        loop {
            let (got, value) = world.admin("GET", &one, Value::Null).await;
            if got == status {
                return value;
            }
            tokio::task::yield_now().await;
        }
    };
    let made = until(200).await;
    assert_eq!(made.int_at("spec.groupPriorityMinimum"), Some(1000));
    assert_eq!(made.list_at("status.conditions")[0].str_at("reason"), "Local");
    world
        .admin("DELETE", &format!("{definitions}/as.b.example.com"), Value::Null)
        .await;
    until(404).await;
}
