use super::target::{Place, Query, container, proxy_id, service_places};
use super::*;
use futures::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::collections::BTreeMap;
use std::convert::Infallible;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

struct Objects(BTreeMap<(String, String, String), Arc<Value>>);

impl Objects {
    fn new(objects: &[(&str, Value)]) -> Self {
        let key =
            |plural: &str, o: &Value| (plural.to_owned(), o.namespace().to_owned(), o.name().to_owned());
        Self(
            objects
                .iter()
                .map(|(plural, o)| (key(plural, o), Arc::new(o.clone())))
                .collect(),
        )
    }
}

impl ObjectReader for Objects {
    fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0
            .get(&(resource.resource.clone(), namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let of = |key: &(String, String, String)| {
            key.0 == resource.resource && namespace.is_none_or(|n| n == key.1)
        };
        self.0
            .iter()
            .filter(|(key, _)| of(key))
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn generation(&self, _: &GroupResource) -> u64 {
        0
    }
}

/// A kubelet whose exec sends back what it is sent, and says `bye` when the client has ended its side.
async fn kubelet(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request
        .uri()
        .path_and_query()
        .map(|p| p.to_string())
        .unwrap_or_default();
    assert!(
        !request.headers().contains_key("authorization"),
        "credentials leave the server"
    );
    if path.contains("/refused") {
        return Ok(Response::builder()
            .status(400)
            .body(Full::from(
                "container \"refused\" in pod \"p\" is waiting to start: ContainerCreating",
            ))
            .unwrap());
    }
    if path.starts_with("/containerLogs") {
        return Ok(Response::new(Full::from(path)));
    }
    let protocol = request.headers()["upgrade"].clone();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.write_all(b"bye").await.unwrap();
        write.shutdown().await.unwrap();
    });
    Ok(Response::builder()
        .status(101)
        .header("connection", "Upgrade")
        .header("upgrade", protocol)
        .header("x-path", path)
        .body(Full::default())
        .unwrap())
}

async fn serve<F, S>(make: F) -> std::net::SocketAddr
where
    F: Fn() -> S + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<StreamBody>, Error = Infallible>
        + Send
        + 'static,
    S::Future: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), make())
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    address
}

/// A fake kubelet over TLS, and an apiserver that has nothing but the entry points.
async fn start() -> std::net::SocketAddr {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                let service = service_fn(kubelet);
                let connection = hyper::server::conn::http1::Builder::new().serve_connection(stream, service);
                connection.with_upgrades().await.ok();
            });
        }
    });
    let config = KubeletConfig {
        address_types: AddressType::DEFAULT.to_vec(),
        authorities: Some(certified.cert.pem().into_bytes()),
        client: None,
    };
    let node = json!({"metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": "no.such.host.invalid"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    let pod = json!({"metadata": {"name": "p", "namespace": "a"},
                     "spec": {"nodeName": "n", "containers": [{"name": "c"}, {"name": "refused"}]}});
    let reader = Arc::new(Objects::new(&[("nodes", node), ("pods", pod)]));
    let streaming = Arc::new(Streaming::new(reader, &config).unwrap());
    serve(move || {
        let streaming = streaming.clone();
        service_fn(move |request: Request<Incoming>| {
            let streaming = streaming.clone();
            async move {
                let answer = match request.uri().path() {
                    "/exec" => streaming.exec(request, "a", "p").await,
                    "/portforward" => streaming.port_forward(request, "a", "p").await,
                    _ => streaming.log(request, "a", "p").await,
                };
                let refused = |error: StatusError| {
                    let body = Full::from(error.message.clone())
                        .map_err(|never| match never {})
                        .boxed();
                    Response::builder().status(error.code).body(body).unwrap()
                };
                Ok::<_, Infallible>(answer.unwrap_or_else(refused))
            }
        })
    })
    .await
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn an_upgraded_connection_is_passed_through_and_half_closed() {
    let mut stream = TcpStream::connect(start().await).await.unwrap();
    let request = "POST /exec?command=cat&command=a%20b&container=c&stdin=true&stdout=true HTTP/1.1\r\nHost: x\r\n\
                   Authorization: Bearer secret\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(
        head.contains("x-path: /exec/a/p/c?input=1&output=1&command=cat&command=a%20b"),
        "{head}"
    );
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let (mut read, mut write) = stream.into_split();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
        write
    });
    let mut got = Vec::new();
    read.read_to_end(&mut got).await.unwrap();
    writer.await.unwrap();
    assert_eq!(got.len(), expected.len() + 3);
    assert!(got.starts_with(&expected) && got.ends_with(b"bye"));
}

#[tokio::test]
async fn logs_are_streamed_and_refusals_are_statuses() {
    let address = start().await;
    let get = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let logs = get("/log?container=c&follow=true&tailLines=5&sinceSeconds=7&previous=false").await;
    assert!(
        logs.starts_with("HTTP/1.1 200") && logs.contains("content-type: text/plain"),
        "{logs}"
    );
    assert!(
        logs.contains("/containerLogs/a/p/c?follow=true&sinceSeconds=7&tailLines=5"),
        "{logs}"
    );
    let refused = get("/log?container=refused").await;
    assert!(
        refused.starts_with("HTTP/1.1 400") && refused.contains("waiting to start"),
        "{refused}"
    );
    assert!(
        get("/log?container=c&tailLines=-1")
            .await
            .starts_with("HTTP/1.1 422")
    );
    let ambiguous = get("/log").await;
    assert!(ambiguous.contains("a container name must be specified for pod p, choose one of: [c refused]"));
}

#[tokio::test]
async fn a_tunnel_is_unwrapped_for_the_kubelet() {
    let address = start().await;
    let stream = TcpStream::connect(address).await.unwrap();
    let request = Request::builder()
        .uri("ws://x/portforward")
        .header("host", "x")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io")
        .body(())
        .unwrap();
    let (mut socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(
        response.headers()["sec-websocket-protocol"],
        "SPDY/3.1+portforward.k8s.io"
    );
    socket
        .send(Message::Binary(Bytes::from_static(b"spdy frames")))
        .await
        .unwrap();
    let mut got = Vec::new();
    while got.len() < 11 {
        if let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() {
            got.extend_from_slice(&bytes);
        }
    }
    assert_eq!(got, b"spdy frames");
}

#[test]
fn names_of_proxied_things_are_read() {
    let id = |scheme: &str, name: &str, port: &str| {
        Some(target::ProxyId {
            scheme: scheme.into(),
            name: name.into(),
            port: port.into(),
        })
    };
    for (text, want) in [
        ("web", id("", "web", "")),
        ("web:http", id("", "web", "http")),
        ("https:web:443", id("https", "web", "443")),
        ("https:web:", id("https", "web", "")),
        ("ftp:web:1", None),
        (":", None),
        ("a:b:c:d", None),
    ] {
        assert_eq!(proxy_id(text), want, "{text}");
    }
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
    assert_eq!(container(&pod, "", "log").unwrap(), "c");
    assert!(
        container(&pod, "x", "log")
            .unwrap_err()
            .message
            .contains("container x is not valid for pod p")
    );
    assert_eq!(
        Query::parse("a=b%20c+d&a=2&t").all("a").collect::<Vec<_>>(),
        ["b c d", "2"]
    );
}

#[test]
fn a_service_is_reached_at_its_ready_endpoints() {
    let service = json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "", "port": 81}]}});
    let slice = Arc::new(json!({
        "metadata": {"labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                      {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                      {"addresses": ["127.0.0.1"]}]}));
    let places = |id: &str| {
        service_places(
            &service,
            std::slice::from_ref(&slice),
            None,
            &proxy_id(id).unwrap(),
        )
    };
    let place = Place {
        scheme: "https".into(),
        host: "10.0.0.1".into(),
        port: 8080,
    };
    assert_eq!(places("https:web:80").unwrap(), std::slice::from_ref(&place));
    assert_eq!(places("https:web:http").unwrap(), [place]);
    assert_eq!(
        places("web:82").unwrap_err().message,
        r#"no service port 82 found for service "web""#
    );
    assert_eq!(
        places("web").unwrap_err().message,
        r#"no endpoints available for service "web""#
    );
}
