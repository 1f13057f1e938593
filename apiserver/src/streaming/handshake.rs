//! The server's side of a WebSocket's opening handshake (RFC 6455, 4.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use rutter_api::StatusError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The headers of the handshake alone, which nobody behind this server is to see.
pub(super) const HEADERS: [HeaderName; 4] = [
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
];

/// Whether a client wants its connection to become a WebSocket.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The subprotocols that a client offers.
pub(super) fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    lists
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(',').map(str::trim))
}

/// What answers the client's key.
///
/// # Errors
/// When there is no key, or one that isn't 16 bytes in Base64.
pub(super) fn accept(headers: &HeaderMap) -> Result<HeaderValue, StatusError> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.filter(|key| STANDARD.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16));
    let Some(key) = key else {
        return Err(StatusError::bad_request(
            "websocket: 'Sec-WebSocket-Key' header must be Base64 encoded value of 16-byte in length",
        ));
    };
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(StatusError::internal)
}

/// The answer with which the connection becomes a WebSocket.
pub(super) fn switching<B>(body: B, accept: HeaderValue, protocol: Option<HeaderValue>) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}
