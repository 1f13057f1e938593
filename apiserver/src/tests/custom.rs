//! Custom resources through the whole corridor.

use super::{MERGE, World, world};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rutter_api::Value;
use rutter_api::object::ObjectExt;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const APPLY: &str = "PATCH application/apply-patch+yaml";

fn version(name: &str, storage: bool, schema: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema}, "selectableFields": [{"jsonPath": ".spec.host"}]})
}

fn schema(host: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"host": host, "size": {"type": "integer"}}}}})
}

fn definition(versions: Value, conversion: Value) -> Value {
    json!({
        "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"name": "foos.x.io"},
        "spec": {"group": "x.io", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"}, "versions": versions, "conversion": conversion},
    })
}

fn foo(version: &str, name: &str, spec: Value) -> Value {
    json!({"kind": "Foo", "apiVersion": format!("x.io/{version}"), "metadata": {"name": name}, "spec": spec})
}

fn at(version: &str, rest: &str) -> String {
    format!("/apis/x.io/{version}/namespaces/default/foos{rest}")
}

impl World {
    /// Makes a definition and waits until it is served.
    async fn define(&self, definition: Value) {
        let (status, made) = self.admin("POST", DEFINITIONS, definition).await;
        assert_eq!(status, 201, "{made}");
        self.until(
            &format!("{DEFINITIONS}/foos.x.io"),
            "status.conditions",
            "Established\"",
        )
        .await;
    }

    /// Asks again until a field has a part.
    async fn until(&self, path: &str, field: &str, part: &str) {
        loop {
            let (_, value) = self.admin("GET", path, json!(null)).await;
            if value.at(field).to_string().contains(part) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_that_comes_later_is_there_when_older_objects_are_read() {
    let world = world().await;
    world
        .define(definition(
            json!([version("v1", true, schema(json!({"type": "string"})))]),
            json!({"strategy": "None"}),
        ))
        .await;
    for name in ["a", "b"] {
        let (status, made) = world
            .admin("POST", &at("v1", ""), foo("v1", name, json!({"size": 1, "x": 1})))
            .await;
        assert_eq!((status, made.at("spec")), (201, &json!({"size": 1})));
    }
    let changed = json!([version(
        "v1",
        true,
        schema(json!({"type": "string", "default": "here"}))
    )]);
    let path = format!("{DEFINITIONS}/foos.x.io");
    let (status, _) = world
        .admin(MERGE, &path, json!({"spec": {"versions": changed}}))
        .await;
    assert_eq!(status, 200);
    world.until(&at("v1", "/a"), "spec.host", "here").await;
    let (_, list) = world
        .admin("GET", &at("v1", "?fieldSelector=spec.host%3Dhere"), json!(null))
        .await;
    assert_eq!(list.list_at("items").len(), 2, "{list}");
    let (status, patched) = world
        .admin(MERGE, &at("v1", "/a"), json!({"spec": {"size": 2}}))
        .await;
    assert_eq!(
        (status, patched.at("spec")),
        (200, &json!({"host": "here", "size": 2}))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_apply_says_too_much_is_refused_in_the_words_that_clients_know() {
    let world = world().await;
    world
        .define(definition(
            json!([version("v1", true, schema(json!({"type": "string"})))]),
            json!({"strategy": "None"}),
        ))
        .await;
    let path = at("v1", "/a?fieldManager=m&fieldValidation=Strict");
    let mut unknown = foo("v1", "a", json!({}));
    unknown.set("nonsense", "x");
    let (status, refused) = world.admin(APPLY, &path, unknown).await;
    assert_eq!(status, 500);
    assert!(
        refused
            .str_at("message")
            .contains(".nonsense: field not declared in schema"),
        "{refused}"
    );
    let text = "apiVersion: x.io/v1\nkind: Foo\nmetadata:\n  name: a\nspec:\n  host: one\n  host: two\n";
    let request = Request::builder()
        .method("PATCH")
        .uri(&path)
        .header("content-type", "application/apply-patch+yaml")
        .body(Full::new(Bytes::from(text)))
        .unwrap();
    let answer = crate::corridor::handle(world.server.clone(), world.admin.clone(), request).await;
    let (status, refused) = super::read(answer).await;
    assert_eq!(status, 400);
    assert_eq!(
        refused.str_at("message"),
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 7: key \"host\" already set in map"
    );
    assert_eq!(
        world
            .admin(APPLY, &path, foo("v1", "a", json!({"host": "x"})))
            .await
            .0,
        201
    );
}

/// A conversion webhook that moves `spec.host` to `spec.hosts[0]` and back; its `clientConfig`.
async fn converter() -> Value {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let tls =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http
                    .serve_connection(TokioIo::new(stream), service_fn(convert))
                    .await;
            });
        }
    });
    json!({"url": format!("https://127.0.0.1:{port}/convert"), "caBundle": STANDARD.encode(certified.cert.pem())})
}

async fn convert(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let wanted = review.str_at("request.desiredAPIVersion");
    let objects = review.list_at("request.objects").iter().map(|object| {
        let mut object = object.clone();
        object.set("apiVersion", wanted);
        if wanted.ends_with("v2") {
            let host = object.take_at("spec.host").unwrap_or_default();
            object.set("spec.hosts", json!([host]));
        } else {
            let hosts = object.take_at("spec.hosts").unwrap_or_default();
            object.set("spec.host", hosts[0].clone());
        }
        object
    });
    let objects: Vec<Value> = objects.collect();
    let answer = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": {
        "uid": review.at("request.uid"), "result": {"status": "Success"}, "convertedObjects": objects}});
    Ok(Response::new(Full::new(Bytes::from(answer.to_string()))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_converts_whatever_version_is_stored() {
    let world = world().await;
    let second = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"hosts": {"type": "array", "items": {"type": "string"}}}}}});
    let versions = |storage: &str| {
        let mut older = version("v2", storage == "v2", second.clone());
        older.take_at("selectableFields");
        json!([
            version("v1", storage == "v1", schema(json!({"type": "string"}))),
            older
        ])
    };
    let conversion = json!({"strategy": "Webhook", "webhook": {"clientConfig": converter().await, "conversionReviewVersions": ["v1"]}});
    world.define(definition(versions("v1"), conversion)).await;
    assert_eq!(
        world
            .admin("POST", &at("v1", ""), foo("v1", "a", json!({"host": "x"})))
            .await
            .0,
        201
    );
    let (_, seen) = world.admin("GET", &at("v2", "/a"), json!(null)).await;
    assert_eq!(seen.at("spec"), &json!({"hosts": ["x"]}), "{seen}");
    let path = format!("{DEFINITIONS}/foos.x.io");
    assert_eq!(
        world
            .admin(MERGE, &path, json!({"spec": {"versions": versions("v2")}}))
            .await
            .0,
        200
    );
    world.until(&path, "status.storedVersions", "v2").await;
    assert_eq!(
        world
            .admin("POST", &at("v2", ""), foo("v2", "b", json!({"hosts": ["y"]})))
            .await
            .0,
        201
    );
    for (version, want) in [
        ("v1", [json!({"host": "x"}), json!({"host": "y"})]),
        ("v2", [json!({"hosts": ["x"]}), json!({"hosts": ["y"]})]),
    ] {
        let (_, list) = world.admin("GET", &at(version, ""), json!(null)).await;
        let specs: Vec<Value> = list
            .list_at("items")
            .iter()
            .map(|item| item.at("spec").clone())
            .collect();
        assert_eq!(specs, want, "{list}");
    }
    let selected = world
        .admin("GET", &at("v1", "?fieldSelector=spec.host%3Dy"), json!(null))
        .await
        .1;
    assert_eq!(selected.list_at("items").len(), 1, "{selected}");
    let (status, changed) = world
        .admin(MERGE, &at("v1", "/a"), json!({"spec": {"host": "z"}}))
        .await;
    assert_eq!((status, changed.at("spec.host")), (200, &json!("z")), "{changed}");
    assert_eq!(
        world
            .admin("GET", &at("v2", "/a"), json!(null))
            .await
            .1
            .at("spec.hosts"),
        &json!(["z"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_goes_takes_its_objects_with_it() {
    let world = world().await;
    world
        .define(definition(
            json!([version("v1", true, schema(json!({"type": "string"})))]),
            json!({"strategy": "None"}),
        ))
        .await;
    let mut held = foo("v1", "a", json!({}));
    held.set("metadata.finalizers", json!(["x.io/held"]));
    assert_eq!(world.admin("POST", &at("v1", ""), held).await.0, 201);
    let path = format!("{DEFINITIONS}/foos.x.io");
    assert_eq!(world.admin("DELETE", &path, json!(null)).await.0, 200);
    world
        .until(&path, "status.conditions", "InstanceDeletionInProgress")
        .await;
    let (status, refused) = world
        .admin("POST", &at("v1", ""), foo("v1", "b", json!({})))
        .await;
    assert_eq!(status, 405);
    assert_eq!(
        refused.str_at("message"),
        "create not allowed while custom resource definition is terminating"
    );
    let free = json!({"metadata": {"finalizers": null}});
    assert_eq!(world.admin(MERGE, &at("v1", "/a"), free).await.0, 200);
    world.until(&path, "reason", "NotFound").await;
    world.until(&at("v1", ""), "reason", "NotFound").await;
}
