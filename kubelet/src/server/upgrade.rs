//! Connections that change their protocol: asking the runtime's streaming server for one, and joining two.

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::upgrade::Upgraded;
use hyper::{HeaderMap, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Why the runtime's streaming server didn't do as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    /// The address isn't one that can be used.
    #[error(
        "the container runtime's streaming address {0:?} can't be used: only http addresses with a port are"
    )]
    Address(String),
    /// No connection.
    #[error("connecting to the container runtime's streaming server: {0}")]
    Connect(#[from] std::io::Error),
    /// No understanding.
    #[error("asking the container runtime's streaming server: {0}")]
    Http(#[from] hyper::Error),
    /// The request couldn't be made.
    #[error("making a request for the container runtime's streaming server: {0}")]
    Request(#[from] http::Error),
    /// A plain answer.
    #[error("the container runtime's streaming server answered {0}: {1}")]
    Refused(StatusCode, String),
}

/// An upgraded connection and the head of the answer.
pub(crate) struct Joined {
    pub(crate) head: http::response::Parts,
    pub(crate) io: TokioIo<Upgraded>,
}

/// Asks for another protocol with the given headers.
pub(crate) async fn connect(url: &str, headers: &HeaderMap) -> Result<Joined, UpgradeError> {
    let bad = || UpgradeError::Address(url.to_owned());
    let uri: http::Uri = url.parse().map_err(|_| bad())?;
    let authority = uri
        .authority()
        .filter(|_| uri.scheme_str() == Some("http"))
        .ok_or_else(bad)?;
    let stream = TcpStream::connect((
        authority.host().trim_matches(['[', ']']),
        authority.port_u16().unwrap_or(80),
    ))
    .await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::post(path)
        .header(header::HOST, authority.as_str())
        .body(Empty::<Bytes>::new())?;
    if headers.contains_key("sec-websocket-key") {
        *request.method_mut() = http::Method::GET;
    }
    for (name, value) in headers {
        request.headers_mut().append(name.clone(), value.clone());
    }
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map(|b| b.to_bytes())
            .unwrap_or_default();
        return Err(UpgradeError::Refused(
            status,
            String::from_utf8_lossy(&body).trim().to_owned(),
        ));
    }
    let (head, body) = response.into_parts();
    let io = hyper::upgrade::on(Response::from_parts(head.clone(), body)).await?;
    Ok(Joined {
        head,
        io: TokioIo::new(io),
    })
}

/// The headers of a caller's upgrade that go on to the runtime.
pub(crate) fn upgrade_headers(from: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in from {
        let name_text = name.as_str();
        if matches!(name_text, "connection" | "upgrade" | "x-stream-protocol-version")
            || name_text.starts_with("sec-websocket-")
        {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// Gives the caller the runtime's own answer, and joins the two connections byte by byte.
pub(crate) async fn splice(
    request: Request<Incoming>,
    url: &str,
) -> Result<Response<crate::server::api::Body>, UpgradeError> {
    let joined = connect(url, &upgrade_headers(request.headers())).await?;
    let mut response = Response::new(crate::server::api::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in upgrade_headers(&joined.head.headers).iter() {
        response.headers_mut().append(name.clone(), value.clone());
    }
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(caller) => rutter_client::splice::splice(TokioIo::new(caller), joined.io).await,
            Err(error) => tracing::debug!(%error, "a caller went before its connection changed protocol"),
        }
    });
    Ok(response)
}

/// Whether a request asks for a WebSocket.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers
        .get(header::UPGRADE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    upgrade.eq_ignore_ascii_case("websocket")
}

/// Whether a request asks for SPDY/3.1.
pub(crate) fn is_spdy(headers: &HeaderMap) -> bool {
    let upgrade = headers
        .get(header::UPGRADE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    upgrade.eq_ignore_ascii_case("SPDY/3.1")
}

/// The subprotocols that a WebSocket offers.
pub(crate) fn offered(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all("sec-websocket-protocol")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|v| v.trim().to_owned())
        .collect()
}
