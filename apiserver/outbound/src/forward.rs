//! Passing requests on: plain ones with their bodies streamed, upgraded ones spliced.

use crate::body::{BoxError, Stream, StreamBody, empty, incoming};
use futures::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rutter_client::splice::splice;

/// A way to the place that a request is passed on to.
pub trait Connect: Sync {
    /// A fresh connection that speaks HTTP/1.1.
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, BoxError>>;

    /// `host:port`, for the `Host` header.
    fn authority(&self) -> String;
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
pub fn is_upgrade<B>(request: &Request<B>) -> bool {
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
pub fn headers(from: &HeaderMap, authority: &str, upgrade: bool) -> HeaderMap {
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
    if let Ok(host) = HeaderValue::from_str(authority) {
        out.insert(header::HOST, host);
    }
    out
}

/// Adds what a proxied server wants to know about the original request.
pub fn forwarded<B>(mut request: Request<B>, uri: &Uri) -> Request<B> {
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

async fn connect(to: &dyn Connect) -> Result<http1::SendRequest<StreamBody>, BoxError> {
    let stream = to.connect().await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a backend ended");
        }
    });
    Ok(sender)
}

/// Sends a request on over a connection of its own and gives the answer back as it comes.
pub async fn request(
    to: &dyn Connect,
    request: Request<StreamBody>,
    path: &str,
) -> Result<Response<StreamBody>, BoxError> {
    let mut sender = connect(to).await?;
    let (parts, body) = request.into_parts();
    let mut out = Request::new(body);
    *out.method_mut() = parts.method;
    *out.uri_mut() = path.parse()?;
    *out.headers_mut() = headers(&parts.headers, &to.authority(), false);
    let response = sender.send_request(out).await?;
    Ok(answer(response.map(incoming)))
}

/// The answer as it goes on: the version and the connection are between us and who answered.
pub fn answer<B>(response: Response<B>) -> Response<B> {
    let (mut parts, body) = response.into_parts();
    parts.version = Version::HTTP_11;
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        parts.headers.remove(name);
    }
    parts.headers.remove("keep-alive");
    Response::from_parts(parts, body)
}

/// Passes an upgrade on; when the other side agrees, both connections are spliced until both directions have ended.
pub async fn upgrade(
    to: &dyn Connect,
    mut request: Request<StreamBody>,
    path: &str,
) -> Result<Response<StreamBody>, BoxError> {
    let client = hyper::upgrade::on(&mut request);
    let sent = headers(request.headers(), &to.authority(), true);
    let mut response = ask(to, &request, path, sent).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer(response.map(incoming)));
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

/// Sends the request of an upgrade, without a body and with exactly these headers.
pub async fn ask<B>(
    to: &dyn Connect,
    request: &Request<B>,
    path: &str,
    headers: HeaderMap,
) -> Result<Response<hyper::body::Incoming>, BoxError> {
    let mut sender = connect(to).await?;
    let mut out = Request::new(empty());
    *out.method_mut() = request.method().clone();
    *out.uri_mut() = path.parse()?;
    *out.headers_mut() = headers;
    Ok(sender.send_request(out).await?)
}
