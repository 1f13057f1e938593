//! Passing requests on: plain ones with their bodies streamed, upgraded ones spliced.

use super::dial::{Dialer, Security, Stream};
use super::{Answer, BoxError, StreamBody, boxed_body, empty};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rutter_api::{Reason, StatusError};

/// Where to dial.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    /// Hosts to try in order: they are the same machine.
    pub(super) hosts: Vec<String>,
    pub(super) port: u16,
    pub(super) security: Security,
}

impl Backend {
    /// `host:port`, for the `Host` header.
    pub(super) fn authority(&self) -> String {
        let host = self.hosts.first().map(String::as_str).unwrap_or_default();
        if host.contains(':') {
            format!("[{host}]:{}", self.port)
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// Headers about one connection, or about who is calling us.
const DROPPED: [HeaderName; 6] = [
    header::AUTHORIZATION,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
];
/// The subprotocol in which browsers send bearer tokens.
const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Whether the client asks for another protocol.
pub(super) fn is_upgrade<B>(request: &Request<B>) -> bool {
    let lists_upgrade = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| {
            text.split(',')
                .any(|part| part.trim().eq_ignore_ascii_case("upgrade"))
        })
    };
    request.headers().contains_key(header::UPGRADE)
        && request
            .headers()
            .get_all(header::CONNECTION)
            .iter()
            .any(lists_upgrade)
}

/// The headers that go on. Those of the upgrade are kept when `upgrade` says so.
pub(super) fn headers(from: &HeaderMap, backend: &Backend, upgrade: bool) -> HeaderMap {
    let mut out = from.clone();
    for name in DROPPED {
        out.remove(name);
    }
    let private: Vec<HeaderName> = out
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in private {
        out.remove(name);
    }
    if !upgrade {
        let named: Vec<String> = out
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
            .collect();
        for name in named {
            out.remove(name);
        }
        for name in [header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING] {
            out.remove(name);
        }
        out.remove("keep-alive");
        out.remove("proxy-connection");
    }
    let protocols: Vec<String> = out
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|protocol| protocol.trim().to_owned()))
        .collect();
    if protocols
        .iter()
        .any(|protocol| protocol.starts_with(BEARER_PROTOCOL))
    {
        let kept: Vec<String> = protocols
            .into_iter()
            .filter(|p| !p.starts_with(BEARER_PROTOCOL))
            .collect();
        out.remove(header::SEC_WEBSOCKET_PROTOCOL);
        if let (false, Ok(value)) = (kept.is_empty(), HeaderValue::from_str(&kept.join(", "))) {
            out.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
    if let Ok(host) = HeaderValue::from_str(&backend.authority()) {
        out.insert(header::HOST, host);
    }
    out
}

/// Adds what a proxied server wants to know about the original request.
pub(super) fn forwarded<B>(mut request: Request<B>, uri: &Uri) -> Request<B> {
    let host = uri.host().map(str::to_owned).or_else(|| {
        request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .map(str::to_owned)
    });
    let peer = request
        .extensions()
        .get::<std::net::SocketAddr>()
        .map(|peer| peer.ip().to_string());
    let values = [
        ("x-forwarded-uri", Some(uri.path().to_owned())),
        ("x-forwarded-host", host),
        ("x-forwarded-proto", Some("https".to_owned())),
        ("x-forwarded-for", peer),
    ];
    for (name, value) in values {
        if let Some(Ok(value)) = value.map(|value| HeaderValue::from_str(&value)) {
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    request
}

pub(super) fn dialing(error: BoxError) -> StatusError {
    StatusError::new(Reason::InternalError, format!("error dialing backend: {error}"))
}

async fn connect(dialer: &Dialer, backend: &Backend) -> Result<http1::SendRequest<StreamBody>, BoxError> {
    let stream: Box<dyn Stream> = dialer
        .dial(&backend.hosts, backend.port, backend.security)
        .await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a backend ended");
        }
    });
    Ok(sender)
}

/// Sends a request on and gives the response back as it comes.
pub(super) async fn request(
    dialer: &Dialer,
    backend: &Backend,
    request: Request<StreamBody>,
    path: &str,
) -> Result<Response<StreamBody>, BoxError> {
    let mut sender = connect(dialer, backend).await?;
    let (parts, body) = request.into_parts();
    let mut out = Request::new(body);
    *out.method_mut() = parts.method;
    *out.uri_mut() = path.parse()?;
    *out.headers_mut() = headers(&parts.headers, backend, false);
    let response = sender.send_request(out).await?;
    let (mut parts, body) = response.into_parts();
    // The version and the connection are between us and the backend.
    parts.version = Version::HTTP_11;
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        parts.headers.remove(name);
    }
    parts.headers.remove("keep-alive");
    Ok(Response::from_parts(parts, boxed_body(body)))
}

/// Passes an upgrade on; when the backend agrees, both connections are spliced until both directions have ended.
pub(super) async fn upgrade(
    dialer: &Dialer,
    backend: &Backend,
    mut request: Request<StreamBody>,
    path: &str,
) -> Answer {
    let client = hyper::upgrade::on(&mut request);
    let mut response = ask(
        dialer,
        backend,
        &request,
        path,
        headers(request.headers(), backend, true),
    )
    .await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut parts, body) = response.into_parts();
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
            parts.headers.remove(name);
        }
        return Ok(Response::from_parts(parts, boxed_body(body)));
    }
    let server = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        match tokio::try_join!(client, server) {
            Ok((client, server)) => splice(TokioIo::new(client), TokioIo::new(server)).await,
            Err(error) => tracing::debug!(%error, "upgrading a connection failed"),
        }
    });
    let mut answer = Response::new(empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = std::mem::take(response.headers_mut());
    Ok(answer)
}

/// Sends the request of an upgrade.
pub(super) async fn ask(
    dialer: &Dialer,
    backend: &Backend,
    request: &Request<StreamBody>,
    path: &str,
    headers: HeaderMap,
) -> Result<Response<hyper::body::Incoming>, StatusError> {
    let mut sender = connect(dialer, backend).await.map_err(dialing)?;
    let mut out = Request::new(empty());
    *out.method_mut() = request.method().clone();
    *out.uri_mut() = path.parse().map_err(StatusError::internal)?;
    *out.headers_mut() = headers;
    sender
        .send_request(out)
        .await
        .map_err(|error| dialing(error.into()))
}

/// Copies both ways. The end of one direction is passed on and leaves the other open.
pub(super) async fn splice(mut a: impl Stream, mut b: impl Stream) {
    const BUFFER: usize = 32 * 1024;
    if let Err(error) = tokio::io::copy_bidirectional_with_sizes(&mut a, &mut b, BUFFER, BUFFER).await {
        tracing::debug!(%error, "a spliced connection broke");
    }
}
