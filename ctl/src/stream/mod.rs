//! Streams to containers and pods through the apiserver, over WebSocket.

pub mod exec;
pub mod portforward;
pub mod terminal;

use crate::error::{Error, Result};
use crate::rest::{Rest, failure};
use base64::Engine;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// An open connection.
pub type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// The subprotocol that can close single channels.
pub const V5: &str = "v5.channel.k8s.io";
/// The one before it.
pub const V4: &str = "v4.channel.k8s.io";

/// Opens a WebSocket that speaks one of the subprotocols; gives the one that was chosen.
pub async fn connect(rest: &Rest, path: &str, protocols: &str) -> Result<(Socket, String)> {
    let mut key = [0u8; 16];
    rand::fill(&mut key);
    let request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(
            header::SEC_WEBSOCKET_KEY,
            base64::engine::general_purpose::STANDARD.encode(key),
        )
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocols)
        .body(Body::empty())
        .map_err(|e| Error::new(e.to_string()))?;
    let response = rest.send_any(request).await?;
    if response.status().as_u16() != 101 {
        let code = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .map(|b| b.to_bytes())
            .unwrap_or_default();
        if (200..300).contains(&code) {
            return Err(Error::new(format!(
                "unable to upgrade connection: the server answered {code}"
            )));
        }
        return Err(match failure(code, &body) {
            Error::Status(s) if s.reason == "BadRequest" => {
                Error::new(format!("unable to upgrade connection: {}", s.message))
            }
            other => other,
        });
    }
    let chosen = response
        .headers()
        .get(header::SEC_WEBSOCKET_PROTOCOL)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("")
        .to_owned();
    let upgraded = hyper::upgrade::on(response)
        .await
        .map_err(|e| Error::new(format!("unable to upgrade connection: {e}")))?;
    Ok((
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await,
        chosen,
    ))
}

/// A WebSocket's failure.
fn broken(e: &tokio_tungstenite::tungstenite::Error) -> Error {
    Error::new(format!("error reading from error stream: {e}"))
}
