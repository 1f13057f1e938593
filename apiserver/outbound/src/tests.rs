//! Calls to a server on the loopback.

use crate::body::{self, StreamBody};
use crate::tls::Trust;
use crate::*;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::PrivateKeyDer;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Value};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

struct Objects(Vec<(&'static str, Arc<Value>)>);

impl ObjectReader for Objects {
    fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let mut all = self.0.iter();
        all.find(|(plural, o)| *plural == resource.resource && o.namespace() == namespace && o.name() == name)
            .map(|(_, object)| object.clone())
    }

    fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let of = self.0.iter().filter(|(plural, o)| {
            *plural == resource.resource && namespace.is_none_or(|n| n == o.namespace())
        });
        of.map(|(_, object)| object.clone()).collect()
    }

    fn generation(&self, _: &GroupResource) -> u64 {
        0
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let version = format!("{:?}", request.version());
    let authorization = request.headers().get("authorization").cloned();
    let refuse = |code: u16, text: &str| {
        let body = Full::from(text.to_owned());
        Ok(Response::builder().status(code).body(body).unwrap_or_default())
    };
    match path.as_str() {
        "/echo" => {
            let sent = body::read(request.into_body(), 1 << 20).await.unwrap_or_default();
            Ok(Response::new(Full::from(sent)))
        }
        "/silent" => std::future::pending().await,
        "/broken" => refuse(500, "it broke"),
        "/status" => refuse(403, r#"{"kind":"Status","message":"no such luck"}"#),
        "/upgrade" => {
            tokio::spawn(async move {
                let Ok(upgraded) = hyper::upgrade::on(request).await else {
                    return;
                };
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
            let response = Response::builder()
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header("connection", "Upgrade")
                .header("upgrade", "echo");
            Ok(response.body(Full::default()).unwrap_or_default())
        }
        _ => {
            let mut response = Response::new(Full::from(path));
            for (name, value) in [
                ("x-version", version.parse().ok()),
                ("x-authorization", authorization),
            ] {
                if let Some(value) = value {
                    response.headers_mut().insert(name, value);
                }
            }
            Ok(response)
        }
    }
}

/// A server that is known as `web.a.svc`; its port and its certificate.
async fn server() -> (u16, String) {
    let certified = rcgen::generate_simple_self_signed(vec!["web.a.svc".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
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
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let service = service_fn(answer);
                let _ = builder
                    .serve_connection_with_upgrades(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (port, certified.cert.pem())
}

fn outbound(port: u16) -> Outbound {
    let service = json!({"metadata": {"namespace": "a", "name": "web"},
        "spec": {"type": "ClusterIP", "clusterIP": "127.0.0.1", "ports": [{"port": port}]}});
    let objects = Objects(vec![("services", Arc::new(service))]);
    Outbound::new(Arc::new(ClusterAddresses(Arc::new(objects))))
}

fn endpoint(port: u16, path: &str, authority: &str) -> Endpoint {
    let service = ServiceReference {
        namespace: "a".to_owned(),
        name: "web".to_owned(),
        port,
    };
    Endpoint::service(service, path, Trust::Authorities(Arc::from(authority.as_bytes()))).unwrap()
}

const LONG: Duration = Duration::from_secs(20);

async fn post(port: u16, endpoint: Endpoint, timeout: Duration) -> Result<Bytes, CallError> {
    let caller = outbound(port).caller(endpoint).unwrap();
    caller
        .post_json("timeout=1s", Bytes::from_static(b"[1,2,3]"), timeout, 1024)
        .await
}

#[tokio::test]
async fn a_service_is_called_under_its_name_and_every_failure_says_what_it_is() {
    let (port, authority) = server().await;
    let other = rcgen::generate_simple_self_signed(vec!["web.a.svc".to_owned()]).unwrap();
    let echoed = post(port, endpoint(port, "/echo", &authority), LONG).await;
    assert_eq!(echoed.unwrap(), Bytes::from_static(b"[1,2,3]"));
    let free = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let text = |result: Result<Bytes, CallError>| result.unwrap_err().to_string();
    let url = |port: u16, path: &str| format!("Post \"https://web.a.svc:{port}{path}?timeout=1s\": ");
    assert_eq!(
        text(
            post(
                port,
                endpoint(port, "/silent", &authority),
                Duration::from_millis(200)
            )
            .await
        ),
        url(port, "/silent") + "context deadline exceeded"
    );
    assert_eq!(
        text(post(free, endpoint(free, "/echo", &authority), LONG).await),
        url(free, "/echo") + &format!("dial tcp 127.0.0.1:{free}: connect: connection refused")
    );
    assert_eq!(
        text(post(port, endpoint(port, "/echo", &other.cert.pem()), LONG).await),
        url(port, "/echo")
            + "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    assert_eq!(
        text(post(free, endpoint(port, "/echo", &authority), LONG).await),
        url(port, "/echo") + &format!("no service port {port} found for service \"web\"")
    );
    assert_eq!(
        text(post(port, endpoint(port, "/broken", &authority), LONG).await),
        "an error on the server (\"it broke\") has prevented the request from succeeding"
    );
    assert_eq!(
        text(post(port, endpoint(port, "/status", &authority), LONG).await),
        "no such luck"
    );
    let caller = outbound(port)
        .caller(endpoint(port, "/echo", &authority))
        .unwrap();
    let long = caller
        .post_json("", Bytes::from(vec![b' '; 2000]), LONG, 1024)
        .await;
    assert_eq!(long.unwrap_err().failure, Failure::TooLarge(1024));
}

#[tokio::test]
async fn a_request_is_passed_on_over_the_protocol_that_the_endpoint_allows() {
    let (port, authority) = server().await;
    for (http2, version) in [(true, "HTTP/2.0"), (false, "HTTP/1.1")] {
        let mut endpoint = endpoint(port, "", &authority);
        endpoint.http2 = http2;
        endpoint.authorization = Some(Authorization::Bearer("secret".to_owned()));
        let caller = outbound(port).caller(endpoint).unwrap();
        let request = Request::builder()
            .uri("/ignored")
            .header("authorization", "Bearer client")
            .header("connection", "keep-alive, x-hop")
            .header("x-hop", "1")
            .body(body::empty())
            .unwrap();
        let response = caller.forward(request, "/apis/x?y=z").await.unwrap();
        assert_eq!(response.headers()["x-version"], version);
        assert_eq!(response.headers()["x-authorization"], "Bearer secret");
        let path = body::read(response.into_body(), 100).await.unwrap();
        assert_eq!(path, Bytes::from_static(b"/apis/x"));
    }
}

#[tokio::test]
async fn an_upgrade_is_spliced_through() {
    let (port, authority) = server().await;
    let mut endpoint = endpoint(port, "", &authority);
    endpoint.http2 = true;
    let caller = outbound(port).caller(endpoint).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request: Request<Incoming>| {
            let caller = caller.clone();
            async move {
                let request: Request<StreamBody> = request.map(body::incoming);
                caller.forward(request, "/upgrade").await
            }
        });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connection.with_upgrades().await.unwrap();
    });
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\nhello")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 101") && text.ends_with("\r\n\r\nhello"),
        "{text}"
    );
}

#[test]
fn the_parts_of_a_url_are_joined() {
    let of = |url: &str| Endpoint::url(url, Trust::System).unwrap();
    for (url, path, query, want) in [
        ("https://h/p", "", "a=b", "https://h/p?a=b"),
        ("https://h", "", "", "https://h/"),
        ("https://h:1/p/?c=d", "/q", "a=b", "https://h:1/p/q?c=d&a=b"),
    ] {
        assert_eq!(of(url).join(path, query).unwrap().to_string(), want);
    }
    for url in ["", "/x", "ftp://x", "https://", "h:1"] {
        assert!(Endpoint::url(url, Trust::System).is_err(), "{url}");
    }
    let service = json!({"service": {"namespace": "n", "name": "s", "path": "p"}});
    let endpoint = Endpoint::of_client_config(&service).unwrap();
    assert_eq!(endpoint.url.to_string(), "https://s.n.svc:443/p");
}

#[test]
fn services_are_resolved_to_their_address_or_to_what_is_ready_behind_them() {
    let service = |name: &str, spec: Value| {
        Arc::new(json!({"metadata": {"namespace": "a", "name": name}, "spec": spec}))
    };
    let slice = json!({
        "metadata": {"namespace": "a", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "https", "port": 8443}, {"name": "other", "port": 1}],
        "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": false}}, {"addresses": ["10.1.0.2"]}]});
    let ports = json!([{"name": "https", "port": 443}]);
    let reader = Arc::new(Objects(vec![
        (
            "services",
            service(
                "web",
                json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": ports}),
            ),
        ),
        (
            "services",
            service(
                "bare",
                json!({"type": "ClusterIP", "clusterIP": "None", "ports": ports}),
            ),
        ),
        (
            "services",
            service("far", json!({"type": "ExternalName", "externalName": "x.io"})),
        ),
        ("endpointslices", Arc::new(slice)),
    ]));
    let place = |host: &str, port| {
        Ok(vec![Place {
            host: host.to_owned(),
            port,
        }])
    };
    let (cluster, endpoints) = (ClusterAddresses(reader.clone()), EndpointAddresses(reader));
    assert_eq!(cluster.resolve("a", "web", 443), place("10.0.0.1", 443));
    assert_eq!(cluster.resolve("a", "far", 1), place("x.io", 1));
    assert_eq!(cluster.resolve("a", "bare", 443), Err(ResolveError::Headless));
    assert_eq!(
        cluster.resolve("a", "web", 80),
        Err(ResolveError::NoPort("web".to_owned(), 80))
    );
    assert_eq!(
        cluster.resolve("b", "web", 443),
        Err(ResolveError::NotFound("web".to_owned()))
    );
    assert_eq!(endpoints.resolve("a", "web", 443), place("10.1.0.2", 8443));
    assert_eq!(
        endpoints.resolve("a", "bare", 443),
        Err(ResolveError::NoEndpoints("bare".to_owned()))
    );
}

#[tokio::test]
async fn a_kubeconfig_names_the_server_and_the_credentials() {
    let folder = std::env::temp_dir().join(format!("outbound-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("token"), "from-file\n").unwrap();
    let file = folder.join("config");
    let (port, authority) = server().await;
    std::fs::write(folder.join("ca.pem"), authority).unwrap();
    let text = format!(
        "clusters:\n- name: c\n  cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: ca.pem, tls-server-name: web.a.svc}}\n\
         users:\n- name: u\n  user: {{tokenFile: token}}\n\
         contexts:\n- name: x\n  context: {{cluster: c, user: u}}\ncurrent-context: x\n"
    );
    std::fs::write(&file, &text).unwrap();
    let caller = outbound(port)
        .caller(endpoint_of_kubeconfig(&file).unwrap())
        .unwrap();
    let request = Request::builder()
        .method(Method::GET)
        .uri("/x")
        .body(body::empty())
        .unwrap();
    let response = caller.request(request).await.unwrap();
    assert_eq!(response.headers()["x-authorization"], "Bearer from-file");
    std::fs::write(&file, text.replace("current-context: x", "current-context: y")).unwrap();
    let error = endpoint_of_kubeconfig(&file).unwrap_err().to_string();
    assert!(error.contains("context \"y\" does not exist"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}
