//! HTTP requests of probes and hooks. Certificates aren't checked: a probe asks whether somebody is there, not who.

use super::tracker::Verdict;
use crate::hooks::port;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Pod};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::net::TcpStream;

const MAX_BODY: usize = 10 << 10;
const MAX_REDIRECTS: usize = 10;

/// A request to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpRequest {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
}

/// The request that an action asks for.
pub(crate) fn request(
    _pod: &Pod,
    container: &Container,
    get: &HTTPGetAction,
    pod_ip: Option<&str>,
) -> Result<HttpRequest, String> {
    let host = get
        .host
        .as_deref()
        .filter(|h| !h.is_empty())
        .or(pod_ip)
        .ok_or("the pod has no address yet")?;
    let path = get.path.as_deref().unwrap_or("/");
    Ok(HttpRequest {
        tls: get
            .scheme
            .as_deref()
            .is_some_and(|s| s.eq_ignore_ascii_case("https")),
        host: host.to_owned(),
        port: port(container, &get.port)?,
        path: if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        },
        headers: get
            .http_headers
            .iter()
            .flatten()
            .map(|h| (h.name.clone(), h.value.clone()))
            .collect(),
    })
}

impl HttpRequest {
    fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        format!("{host}:{}", self.port)
    }

    fn url(&self) -> String {
        format!(
            "{}://{}{}",
            if self.tls { "https" } else { "http" },
            self.authority(),
            self.path
        )
    }
}

/// Asks, and judges the answer by its status: below 400 is good; a redirect to elsewhere is worth a warning.
pub(crate) async fn probe(request: &HttpRequest, limit: Duration) -> Verdict {
    let asking = async {
        let mut request = request.clone();
        for _ in 0..=MAX_REDIRECTS {
            let (status, location, body) = send(&request).await?;
            if !(200..400).contains(&status) {
                return Ok(Verdict::Failure(format!(
                    "HTTP probe failed with statuscode: {status}"
                )));
            }
            let Some(location) = location.filter(|_| (300..400).contains(&status)) else {
                return Ok(Verdict::Success);
            };
            match follow(&request, &location) {
                Some(next) => request = next,
                None => {
                    return Ok(Verdict::Warning(format!(
                        "Probe terminated redirects, Response body: {body}"
                    )));
                }
            }
        }
        Err("stopped after 10 redirects".to_owned())
    };
    match tokio::time::timeout(limit, asking).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => Verdict::Failure(format!("Get {:?}: {error}", request.url())),
        Err(_) => Verdict::Failure(format!(
            "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            request.url()
        )),
    }
}

/// Makes a hook's request. Any answer but an HTTP failure status is good.
pub(crate) async fn hook(request: &HttpRequest) -> Result<(), String> {
    let answer = match send(request).await {
        Err(_) if request.tls => {
            // Hooks that name HTTPS by habit for a plain server are forgiven, as they always were.
            send(&HttpRequest {
                tls: false,
                ..request.clone()
            })
            .await
        }
        other => other,
    };
    let (status, ..) = answer.map_err(|e| format!("Get {:?}: {e}", request.url()))?;
    if (200..400).contains(&status) {
        Ok(())
    } else {
        Err(format!("HTTP hook failed with statuscode: {status}"))
    }
}

/// Where a redirect leads, as long as it stays on the host.
fn follow(from: &HttpRequest, location: &str) -> Option<HttpRequest> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(HttpRequest {
            path: location.to_owned(),
            ..from.clone()
        });
    }
    let uri: http::Uri = location.parse().ok()?;
    let Some(host) = uri.host() else {
        return Some(HttpRequest {
            path: format!("/{location}"),
            ..from.clone()
        });
    };
    let tls = uri.scheme_str() == Some("https");
    (host.trim_matches(['[', ']']) == from.host).then(|| HttpRequest {
        tls,
        port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        path: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        ..from.clone()
    })
}

async fn send(request: &HttpRequest) -> Result<(u16, Option<String>, String), String> {
    let stream = TcpStream::connect((request.host.as_str(), request.port))
        .await
        .map_err(|e| format!("dial tcp {}: connect: {}", request.authority(), plain(&e)))?;
    if request.tls {
        let name = ServerName::try_from(request.host.clone()).map_err(|e| e.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(TLS.clone());
        let stream = connector.connect(name, stream).await.map_err(|e| e.to_string())?;
        exchange(request, stream).await
    } else {
        exchange(request, stream).await
    }
}

fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        _ => error.to_string(),
    }
}

async fn exchange<S>(request: &HttpRequest, stream: S) -> Result<(u16, Option<String>, String), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let task = tokio::spawn(connection);
    let mut builder = http::Request::get(request.path.as_str());
    let own = |name: &str| request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !own("host") {
        builder = builder.header("Host", request.authority());
    }
    if !own("user-agent") {
        builder = builder.header("User-Agent", "kube-probe/1.36");
    }
    if !own("accept") {
        builder = builder.header("Accept", "*/*");
    }
    for (name, value) in request.headers.iter().filter(|(_, value)| !value.is_empty()) {
        builder = builder.header(name, value);
    }
    let built = builder
        .header("Connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(built).await.map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    let location = response
        .headers()
        .get(http::header::LOCATION)
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        if bytes.len() >= MAX_BODY {
            bytes.truncate(MAX_BODY);
            break;
        }
    }
    task.abort();
    Ok((status, location, String::from_utf8_lossy(&bytes).into_owned()))
}

static TLS: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    rutter_client::connect::install_crypto_provider();
    let config = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    Arc::new(config)
});

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
