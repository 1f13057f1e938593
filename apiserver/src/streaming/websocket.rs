//! Answers over a WebSocket that only the server speaks on: watches, a message per event, and logs, a message per piece.
//!
//! What a client sends is passed over; its close ends the answer. Browsers can't set headers, so their token comes as a subprotocol
//! (which is never answered); programs that can't read bytes ask for `base64.binary.k8s.io`.

use super::{StreamBody, handshake};
use crate::answer::{self, Body};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rutter_api::StatusError;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";
const TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// A client that waits for its socket.
pub struct Socket {
    upgrade: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<String>,
}

/// Whether a request asks for a WebSocket.
pub fn is_wanted<B>(request: &Request<B>) -> bool {
    handshake::is_asked(request.headers()) && rutter_outbound::forward::is_upgrade(request)
}

/// The protocols that a client offers, without its token.
fn offered(headers: &HeaderMap) -> Vec<String> {
    handshake::offered(headers)
        .filter(|name| !name.is_empty() && !name.starts_with(TOKEN))
        .map(str::to_owned)
        .collect()
}

impl Socket {
    /// Takes the socket of a request for a watch; one protocol that is offered alone is spoken, whatever it is.
    pub fn of_watch<B>(request: &mut Request<B>) -> Result<Self, StatusError> {
        let mut offered = offered(request.headers());
        let protocol = offered.pop().filter(|_| offered.is_empty());
        Self::take(request, protocol)
    }

    /// Takes the socket of a request for logs.
    pub fn of_log<B>(request: &mut Request<B>) -> Result<Self, StatusError> {
        let offered = offered(request.headers());
        let known = offered
            .iter()
            .find(|name| matches!(name.as_str(), BINARY | BASE64));
        if known.is_none() && !offered.is_empty() {
            return Err(StatusError::bad_request(format!(
                "unable to negotiate protocol: client supports {offered:?}, server supports [{BINARY:?}, {BASE64:?}]"
            )));
        }
        let known = known.cloned();
        Self::take(request, known)
    }

    fn take<B>(request: &mut Request<B>, protocol: Option<String>) -> Result<Self, StatusError> {
        let accept = handshake::accept(request.headers())?;
        let upgrade = hyper::upgrade::on(&mut *request);
        let headers = request.headers_mut();
        headers.remove(header::UPGRADE);
        headers.remove(header::CONNECTION);
        for name in handshake::HEADERS {
            headers.remove(name);
        }
        Ok(Self {
            upgrade,
            accept,
            protocol,
        })
    }

    /// Sends these messages, once the client has the answer that this gives.
    pub fn send(
        self,
        messages: impl Stream<Item = Message> + Send + 'static,
    ) -> Result<Response<Body>, StatusError> {
        let protocol = self.protocol.as_deref().map(HeaderValue::from_str);
        let protocol = protocol.transpose().map_err(StatusError::internal)?;
        let response = handshake::switching(answer::full(""), self.accept, protocol);
        tokio::spawn(async move {
            match self.upgrade.await {
                Ok(client) => speak(TokioIo::new(client), messages).await,
                Err(error) => tracing::debug!(%error, "upgrading a connection failed"),
            }
        });
        Ok(response)
    }

    /// Sends the pieces of a body, an empty one first.
    pub fn send_body(self, body: StreamBody) -> Result<Response<Body>, StatusError> {
        let text = self.protocol.as_deref() == Some(BASE64);
        let message = move |piece: Bytes| {
            if text {
                Message::text(STANDARD.encode(&piece))
            } else {
                Message::Binary(piece)
            }
        };
        let pieces = body.into_data_stream();
        let pieces = pieces.take_while(|piece| std::future::ready(piece.is_ok()));
        let pieces = pieces.filter_map(|piece| std::future::ready(piece.ok()));
        let first = futures::stream::once(std::future::ready(Bytes::new()));
        self.send(first.chain(pieces).map(message))
    }
}

/// Sends the messages until they end or the client does.
async fn speak<C>(client: C, messages: impl Stream<Item = Message>)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let socket = WebSocketStream::from_raw_socket(client, Role::Server, None).await;
    let (mut to_client, mut from_client) = socket.split();
    let outward = async {
        let mut messages = pin!(messages);
        while let Some(message) = messages.next().await {
            if to_client.send(message).await.is_err() {
                return;
            }
        }
        // The client may be gone by now.
        let _ = to_client.close().await;
    };
    let inward = async {
        // Pings are answered by the socket itself, on the way.
        while let Some(Ok(message)) = from_client.next().await {
            if message.is_close() {
                return;
            }
        }
    };
    tokio::select! {
        () = outward => {}
        () = inward => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    fn request(protocols: &str) -> Request<()> {
        Request::builder()
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", protocols)
            .body(())
            .unwrap()
    }

    #[test]
    fn protocols_are_negotiated_and_tokens_are_not_told_again() {
        let token = format!("{TOKEN}abc");
        for (offered, watch, log) in [
            ("", Ok(None), Ok(None)),
            (BASE64, Ok(Some(BASE64)), Ok(Some(BASE64))),
            ("x, binary.k8s.io", Ok(None), Ok(Some(BINARY))),
            ("x", Ok(Some("x")), Err(())),
            (&token, Ok(None), Ok(None)),
            (&format!("{token}, {BINARY}"), Ok(Some(BINARY)), Ok(Some(BINARY))),
        ] {
            assert!(is_wanted(&request(offered)));
            let got = |socket: Result<Socket, StatusError>| socket.map(|s| s.protocol).map_err(|_| ());
            let owned = |want: Result<Option<&str>, ()>| want.map(|name| name.map(str::to_owned));
            assert_eq!(
                got(Socket::of_watch(&mut request(offered))),
                owned(watch),
                "{offered}"
            );
            assert_eq!(
                got(Socket::of_log(&mut request(offered))),
                owned(log),
                "{offered}"
            );
        }
        let mut keyless = request("");
        keyless.headers_mut().remove("sec-websocket-key");
        assert!(Socket::of_watch(&mut keyless).is_err());
    }

    #[tokio::test]
    async fn pieces_are_messages_and_the_end_is_said() {
        let (client, server) = tokio::io::duplex(1024);
        let body = Full::new(Bytes::from("line\n")).into_data_stream();
        let messages = body.map(|piece| Message::Binary(piece.unwrap()));
        let speaking = tokio::spawn(async move { speak(server, messages).await });
        let mut socket = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::Binary(Bytes::from("line\n"))
        );
        assert!(socket.next().await.unwrap().unwrap().is_close());
        drop(socket);
        speaking.await.unwrap();
    }
}
