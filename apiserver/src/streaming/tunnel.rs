//! SPDY through WebSocket: the subprotocol `SPDY/3.1+portforward.k8s.io` carries a SPDY connection in binary messages. Here
//! it is unwrapped, so that the kubelet sees the SPDY connection that it knows.

use super::forward::dialing;
use super::{Answer, StreamBody, empty, handshake};
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rutter_outbound::body::incoming;
use rutter_outbound::forward::{Connect, ask, headers};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
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
                carry(socket, TokioIo::new(server)).await;
            }
            Err(error) => tracing::debug!(%error, "upgrading a connection failed"),
        }
    });
    let protocol = HeaderValue::from_static(TUNNEL);
    Ok(handshake::switching(empty(), accept, Some(protocol)))
}

/// Carries bytes between the messages and the connection until either ends: SPDY has its own half-closes inside.
async fn carry<C, S>(socket: WebSocketStream<C>, server: S)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite,
{
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let inward = async {
        while let Some(message) = from_client.next().await {
            match message {
                Ok(Message::Binary(bytes)) => {
                    if to_server.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                // Pings are answered by the socket itself, on the way.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) | Err(_) => break,
            }
        }
        // The connection is ending either way; a failure to say so changes nothing.
        let _ = to_server.shutdown().await;
    };
    let outward = async {
        let mut buffer = BytesMut::with_capacity(32 * 1024);
        while let Ok(read) = from_server.read_buf(&mut buffer).await {
            if read == 0 {
                break;
            }
            let bytes: Bytes = buffer.split().freeze();
            if to_client.send(Message::Binary(bytes)).await.is_err() {
                break;
            }
            buffer.reserve(32 * 1024);
        }
        let _ = to_client.close().await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}
