//! SPDY through WebSocket: the subprotocol `SPDY/3.1+portforward.k8s.io` carries a SPDY connection in binary messages. Here
//! it is unwrapped, so that the kubelet sees the SPDY connection that it knows.

use super::forward::dialing;
use super::{Answer, StreamBody, empty, handshake};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rutter_outbound::body::incoming;
use rutter_outbound::forward::{Connect, ask, headers};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const SPDY: HeaderValue = HeaderValue::from_static("SPDY/3.1");
const PORT_FORWARD: HeaderValue = HeaderValue::from_static("portforward.k8s.io");
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// Whether a client asks for the tunnel.
pub(super) fn is_tunnel(headers: &HeaderMap) -> bool {
    handshake::is_asked(headers) && handshake::offered(headers).any(|protocol| protocol == TUNNEL)
}

/// Opens SPDY to the kubelet and the tunnel to the client.
pub(super) async fn open(way: &dyn Connect, mut request: Request<StreamBody>, path: &str) -> Answer {
    let accept = handshake::accept(request.headers())?;
    let client = hyper::upgrade::on(&mut request);
    let mut headers = headers(request.headers(), &way.authority(), true);
    for name in handshake::HEADERS {
        headers.remove(name);
    }
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, SPDY);
    headers.insert(STREAM_PROTOCOL, PORT_FORWARD);
    *request.method_mut() = Method::POST;
    let mut response = ask(way, &request, path, headers).await.map_err(dialing)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(incoming));
    }
    let server = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        match tokio::try_join!(client, server) {
            Ok((client, server)) => {
                let socket = WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, None).await;
                rutter_client::splice::tunnel(socket, TokioIo::new(server)).await;
            }
            Err(error) => tracing::debug!(%error, "upgrading a connection failed"),
        }
    });
    let protocol = HeaderValue::from_static(TUNNEL);
    Ok(handshake::switching(empty(), accept, Some(protocol)))
}
