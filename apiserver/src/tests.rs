//! The whole corridor over memory storage: requests and what is answered.

mod custom;
mod encryption;
mod forms;
mod limits;

use crate::answer::Body;
use crate::corridor::{self, Connection};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::run;
use crate::server::Server;
use bytes::Bytes;
use clap::Parser as _;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rutter_api::object::ObjectExt;
use rutter_api::{ObjectReader as _, Value};
use rutter_storage::Engine;
use rutter_storage::engine::MemoryEngine;
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

mod protection;

pub(crate) struct World {
    pub(crate) server: Arc<Server>,
    admin: Arc<Connection>,
    pub(crate) nobody: Arc<Connection>,
    _folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

async fn world() -> World {
    world_with(&[]).await
}

/// A server with further flags.
pub(crate) async fn world_with(more: &[String]) -> World {
    world_over(Arc::new(MemoryEngine::new()), more).await
}

/// A server over a store.
async fn world_over(engine: Arc<dyn Engine>, more: &[String]) -> World {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, &ca_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "admin");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let admin = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(path("ca.crt"), ca.pem()).unwrap();
    std::fs::write(path("sa.key"), key.serialize_pem()).unwrap();
    let flags = [
        "rutter-apiserver",
        "--tls-cert-file=unused",
        "--tls-private-key-file=unused",
        "--service-account-issuer=https://kubernetes.default.svc",
        &format!("--service-account-signing-key-file={}", path("sa.key")),
        &format!("--client-ca-file={}", path("ca.crt")),
        "--advertise-address=192.0.2.1",
        "--disable-admission-plugins=ServiceAccount",
    ];
    let flags = flags.into_iter().map(str::to_owned).chain(more.iter().cloned());
    let options = Options::parse_from(flags);
    let built = run::build(&options, engine, Metrics::new().unwrap()).unwrap();
    let server = built.server;
    let stop = CancellationToken::new();
    tokio::spawn(crate::bootstrap::run(
        server.clone(),
        run::bootstrap_settings(&options),
        stop.clone(),
    ));
    tokio::spawn(crate::crd::follow(server.clone(), stop.clone()));
    if let Some(fairness) = server.fairness.clone() {
        tokio::spawn(crate::fairness::run(fairness, server.clone(), stop.clone()));
    }
    tokio::spawn(crate::aggregate::follow::follow(server.clone(), stop.clone()));
    for background in built.background {
        tokio::spawn(background(server.clone(), stop.clone()));
    }
    let peer = "192.0.2.9:1234".parse().unwrap();
    let connection = |certificates| {
        Arc::new(Connection {
            certificates,
            peer,
            leave: CancellationToken::new(),
            sever: CancellationToken::new(),
        })
    };
    let world = World {
        server,
        admin: connection(vec![admin.der().clone()]),
        nobody: connection(Vec::new()),
        _folder: folder,
        _stop: stop.drop_guard(),
    };
    while world.admin("GET", "/readyz", json!(null)).await.0 != 200 {
        tokio::task::yield_now().await;
    }
    world
}

impl World {
    async fn send(
        &self,
        connection: &Arc<Connection>,
        method: &str,
        path: &str,
        body: Value,
    ) -> Response<Body> {
        let (method, media) = match method.split_once(' ') {
            Some((method, media)) => (method, media),
            None => (method, "application/json"),
        };
        let bytes = if body.is_null() {
            Bytes::new()
        } else {
            body.to_string().into()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media)
            .header("user-agent", "test/1")
            .body(Full::new(bytes))
            .unwrap();
        corridor::handle(self.server.clone(), connection.clone(), request).await
    }

    /// A request with headers of its own, on a connection without a certificate.
    pub(crate) async fn anybody(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        self.get(&self.nobody, path, headers).await
    }

    /// A request on a connection with a certificate.
    pub(crate) async fn bearer_of(&self, certificate: CertificateDer<'static>, path: &str) -> (u16, Value) {
        let by = Connection {
            certificates: vec![certificate],
            ..(*self.nobody).clone()
        };
        self.get(&Arc::new(by), path, &[]).await
    }

    async fn get(&self, by: &Arc<Connection>, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        read(corridor::handle(self.server.clone(), by.clone(), request).await).await
    }

    /// The administrator's request with headers of its own.
    pub(crate) async fn admin_with(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        self.get(&self.admin, path, headers).await
    }

    pub(crate) async fn admin(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        read(self.send(&self.admin, method, path, body).await).await
    }
}

pub(crate) async fn read(response: Response<Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
    (status, value)
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MERGE: &str = "PATCH application/merge-patch+json";

fn map(name: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"k": "v"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_as_kubernetes_answers_them() {
    let world = world().await;
    let named = |name: &str| format!("{MAPS}/{name}");
    let bad_name = "Invalid value: \"A\"";
    let long = "x".repeat(1 << 20);
    let mut large = map("large");
    large.set("data", json!({"a": long, "b": long, "c": long, "d": long}));
    let stale =
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a", "resourceVersion": "1"}});
    // method, path, body, status, path of the answer, a part of what is there
    #[rustfmt::skip]
    let table: Vec<(&str, String, Value, u16, &str, &str)> = vec![
        ("GET", "/api/v1/namespaces/default".into(), Value::Null, 200, "status.phase", "Active"),
        ("GET", "/api/v1/namespaces/default/services/kubernetes".into(), Value::Null, 200, "spec.clusterIP", "10.96.0.1"),
        ("POST", MAPS.into(), map("a"), 201, "metadata.name", "a"),
        ("POST", MAPS.into(), map("a"), 409, "message", "configmaps \"a\" already exists"),
        ("POST", MAPS.into(), map("A"), 422, "message", bad_name),
        ("POST", MAPS.into(), json!({"kind": "Pod", "apiVersion": "v1"}), 400, "message", "cannot be handled as a ConfigMap"),
        ("POST", MAPS.into(), json!({"kind": "ConfigMap", "apiVersion": "v2"}), 400, "message", "does not match the expected API version (v1)"),
        ("POST", MAPS.into(), large, 413, "reason", "RequestEntityTooLarge"),
        ("POST", "/api/v1/namespaces/nope/configmaps".into(), map("a"), 404, "message", "namespaces \"nope\" not found"),
        ("POST", format!("{MAPS}?dryRun=All"), map("dry"), 201, "metadata.name", "dry"),
        ("GET", named("dry"), Value::Null, 404, "reason", "NotFound"),
        ("GET", named("a"), Value::Null, 200, "data.k", "v"),
        ("PUT", named("a"), stale, 409, "message", "the object has been modified"),
        (MERGE, named("a"), json!({"data": {"k": "w"}}), 200, "data.k", "w"),
        ("PATCH application/json-patch+json", named("a"), json!([{"op": "test", "path": "/data/k", "value": "x"}]), 422, "reason", "Invalid"),
        ("PATCH text/plain", named("a"), json!({}), 415, "reason", "UnsupportedMediaType"),
        ("PATCH application/apply-patch+yaml", format!("{}?fieldManager=m", named("b")), map("b"), 201, "metadata.managedFields", "Apply"),
        ("PATCH application/apply-patch+yaml", named("b"), map("b"), 422, "message", "is required for apply patch"),
        ("GET", format!("{MAPS}?fieldSelector=metadata.name%3Da"), Value::Null, 200, "items", "\"name\":\"a\""),
        ("GET", format!("{MAPS}?fieldSelector=x%3Da"), Value::Null, 400, "message", "\"x\" is not a known field selector"),
        ("GET", format!("{MAPS}?resourceVersion=99999999999"), Value::Null, 504, "message", "Too large resource version"),
        ("GET", format!("{MAPS}?continue=x"), Value::Null, 400, "reason", "BadRequest"),
        ("DELETE", named("b"), json!({"preconditions": {"uid": "x"}}), 409, "message", "Precondition failed: UID"),
        ("DELETE", named("b"), Value::Null, 200, "status", "Success"),
        ("GET", "/api/v1/nonsense".into(), Value::Null, 404, "message", "could not find the requested resource"),
        ("GET", "/apis/extensions/v1beta1/namespaces/default/ingresses".into(), Value::Null, 404, "message", "the server could not find the requested resource: extensions/v1beta1 Ingress is not served since Kubernetes 1.22; use apiVersion: networking.k8s.io/v1"),
        ("POST", "/apis/batch/v1beta1/namespaces/default/cronjobs".into(), json!({}), 404, "message", "use apiVersion: batch/v1"),
        ("GET", "/apis/policy/v1beta1/podsecuritypolicies/a".into(), Value::Null, 404, "message", "nothing replaces it"),
        ("GET", "/apis/apps".into(), Value::Null, 200, "preferredVersion.groupVersion", "apps/v1"),
        ("GET", "/version".into(), Value::Null, 200, "gitVersion", "v1.36."),
        ("GET", "/version".into(), Value::Null, 200, "buildDate", "Z"),
        ("GET", "/version".into(), Value::Null, 200, "goVersion", "none"),
    ];
    for (method, path, body, status, field, part) in table {
        let (got, value) = world.admin(method, &path, body).await;
        assert_eq!(got, status, "{method} {path}: {value}");
        let found = match value.at(field) {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert!(found.contains(part), "{method} {path}: {field} is {found}");
    }
    let (status, value) = read(
        world
            .send(&world.nobody, "GET", "/api/v1/pods", json!(null))
            .await,
    )
    .await;
    assert_eq!(status, 403, "{value}");
    let message = r#"pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" at the cluster scope"#;
    assert_eq!(value.str_at("message"), message);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_of_one_moment() {
    let world = world().await;
    for name in ["a", "b", "c"] {
        assert_eq!(world.admin("POST", MAPS, map(name)).await.0, 201);
    }
    let (_, first) = world.admin("GET", &format!("{MAPS}?limit=2"), json!(null)).await;
    assert_eq!(first.list_at("items").len(), 2);
    assert_eq!(first.int_at("metadata.remainingItemCount"), Some(1));
    world.admin("POST", MAPS, map("d")).await;
    let next = format!("{MAPS}?limit=2&continue={}", first.str_at("metadata.continue"));
    let (_, second) = world.admin("GET", &next, json!(null)).await;
    let names: Vec<_> = second.list_at("items").iter().map(ObjectExt::name).collect();
    assert_eq!(names, ["c"], "what came later isn't there");
    assert_eq!(
        second.at("metadata.resourceVersion"),
        first.at("metadata.resourceVersion")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_the_initial_state_and_then_what_happens() {
    let world = world().await;
    world.admin("POST", MAPS, map("a")).await;
    let path = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut stream = world
        .send(&world.admin, "GET", &path, json!(null))
        .await
        .into_body();
    let mut next = async || {
        let frame = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        serde_json::from_slice::<Value>(&frame).unwrap()
    };
    let first = next().await;
    assert_eq!((first.str_at("type"), first.at("object").name()), ("ADDED", "a"));
    let end = next().await;
    assert_eq!(
        end.at("object").annotation("k8s.io/initial-events-end"),
        Some("true")
    );
    world
        .admin(MERGE, &format!("{MAPS}/a"), json!({"data": {"k": "w"}}))
        .await;
    world.admin("DELETE", &format!("{MAPS}/a"), json!(null)).await;
    assert_eq!(next().await.str_at("type"), "MODIFIED");
    assert_eq!(next().await.str_at("type"), "DELETED");
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let world = world().await;
    let mut held = map("a");
    held.set("metadata.finalizers", json!(["example.com/x"]));
    world.admin("POST", MAPS, held).await;
    let path = format!("{MAPS}/a");
    let (_, marked) = world.admin("DELETE", &path, json!(null)).await;
    assert!(marked.is_deleting());
    assert_eq!(world.admin("GET", &path, json!(null)).await.0, 200);
    let (status, _) = world
        .admin(MERGE, &path, json!({"metadata": {"finalizers": null}}))
        .await;
    assert_eq!(status, 200);
    assert_eq!(world.admin("GET", &path, json!(null)).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_node_ports_are_given_once_and_given_back() {
    let world = world().await;
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, spec: Value| {
        let mut service =
            json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec});
        service.set("spec.ports", json!([{"port": 80, "nodePort": 30080}]));
        service.set("spec.type", "NodePort");
        service
    };
    let (status, a) = world.admin("POST", services, service("a", json!({}))).await;
    assert_eq!(status, 201, "{a}");
    let address = a.str_at("spec.clusterIP").to_owned();
    let (status, b) = world.admin("POST", services, service("b", json!({}))).await;
    assert_eq!((status, b.str_at("reason")), (422, "Invalid"));
    assert!(
        b.str_at("message").contains("provided port is already allocated"),
        "{b}"
    );
    let addresses = "/apis/networking.k8s.io/v1/ipaddresses";
    assert_eq!(
        world
            .admin("GET", &format!("{addresses}/{address}"), json!(null))
            .await
            .0,
        200
    );
    assert_eq!(
        world
            .admin("DELETE", &format!("{services}/a"), json!(null))
            .await
            .0,
        200
    );
    assert_eq!(
        world
            .admin("GET", &format!("{addresses}/{address}"), json!(null))
            .await
            .0,
        404
    );
    assert_eq!(
        world.admin("POST", services, service("b", json!({}))).await.0,
        201
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_come_from_the_ranges_that_are_open() {
    let world = world_with(&["--service-cluster-ip-range=10.9.0.0/29".to_owned()]).await;
    let services = "/api/v1/namespaces/default/services";
    let cidrs = "/apis/networking.k8s.io/v1/servicecidrs";
    let service = |name: &str, address: Option<&str>| {
        let mut spec = json!({"ports": [{"port": 80}]});
        if let Some(address) = address {
            spec.set("clusterIP", address);
        }
        json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec})
    };
    // Eight addresses, of which three are the network's, the broadcast one and the `kubernetes` Service's.
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(
            world.admin("POST", services, service(name, None)).await.0,
            201,
            "{name}"
        );
    }
    // Until the last address is seen as taken, the answer is to try again.
    let full = loop {
        let (status, answer) = world.admin("POST", services, service("f", None)).await;
        assert_eq!(status, 500, "{answer}");
        if answer.str_at("reason") != "ServerTimeout" {
            break answer;
        }
    };
    assert!(full.str_at("message").contains("range is full"), "{full}");
    let (status, refused) = world
        .admin("POST", services, service("f", Some("10.8.0.1")))
        .await;
    assert_eq!(status, 422);
    assert!(
        refused.str_at("message").contains("is not in the valid range"),
        "{refused}"
    );
    let more = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "more", "finalizers": ["example.com/hold"]}, "spec": {"cidrs": ["10.8.0.0/30"]}});
    assert_eq!(world.admin("POST", cidrs, more).await.0, 201);
    let made = loop {
        let (status, made) = world
            .admin("POST", services, service("f", Some("10.8.0.1")))
            .await;
        if status == 201 {
            break made;
        }
    };
    assert_eq!(made.str_at("spec.clusterIP"), "10.8.0.1");
    let (status, made) = world.admin("POST", services, service("g", None)).await;
    assert_eq!(
        (status, made.str_at("spec.clusterIP")),
        (201, "10.8.0.2"),
        "{made}"
    );
    let (_, address) = world
        .admin(
            "GET",
            "/apis/networking.k8s.io/v1/ipaddresses/10.8.0.2",
            json!(null),
        )
        .await;
    assert_eq!(
        address.at("spec.parentRef"),
        &json!({"resource": "services", "namespace": "default", "name": "g"})
    );
    world.admin("DELETE", &format!("{services}/g"), json!(null)).await;
    world.admin("DELETE", &format!("{cidrs}/more"), json!(null)).await;
    while world
        .server
        .reader
        .get(
            &rutter_api::GroupResource::new("networking.k8s.io", "servicecidrs"),
            "",
            "more",
        )
        .is_some_and(|cidr| !cidr.is_deleting())
    {
        tokio::task::yield_now().await;
    }
    let (status, _) = world.admin("POST", services, service("g", None)).await;
    assert_eq!(status, 500, "a range that is to go gives nothing out");
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_once_lose_nothing() {
    let world = Arc::new(world().await);
    world.admin("POST", MAPS, map("a")).await;
    let writes = (0..20).map(|n| {
        let world = world.clone();
        tokio::spawn(async move {
            let patch = json!({"data": {format!("k{n}"): "v"}});
            world.admin(MERGE, &format!("{MAPS}/a"), patch).await.0
        })
    });
    for write in writes.collect::<Vec<_>>() {
        assert_eq!(write.await.unwrap(), 200);
    }
    let (_, value) = world.admin("GET", &format!("{MAPS}/a"), json!(null)).await;
    assert_eq!(value.map_at("data").unwrap().len(), 21);
}
