//! Two connections joined, and a connection joined with the messages of a WebSocket.
//!
//! Each direction goes on until its own end. What ends or breaks one of them never takes bytes away from the other, and what
//! arrives for a side that takes nothing any more is read all the same: a connection that is closed with bytes unread is reset, and
//! the reset can overtake what was sent before it.

use bytes::BytesMut;
use futures::{SinkExt as _, StreamExt as _};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

const BUFFER: usize = 32 * 1024;
/// How long nothing may move in one direction once the other has broken.
const IDLE: Duration = Duration::from_secs(60);
/// How long a side has to close once nothing more is taken from it and nothing more comes to it.
const CLOSING: Duration = Duration::from_secs(5);

/// What both directions know of each other.
#[derive(Default)]
struct Joint {
    /// One has broken.
    broken: CancellationToken,
    /// One has come to its end.
    ended: CancellationToken,
}

impl Joint {
    /// What an operation gives; none when nothing moves any more.
    async fn moves<T>(&self, operation: impl Future<Output = std::io::Result<T>>) -> Option<T> {
        let idle = async {
            self.broken.cancelled().await;
            sleep(IDLE).await;
        };
        tokio::select! {
            done = operation => done.inspect_err(|error| {
                tracing::debug!(%error, "one direction of a joined connection broke");
                self.broken.cancel();
            }).ok(),
            () = idle => None,
        }
    }

    /// Carries one direction to its end and passes the end on.
    async fn pass(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut buffer = vec![0; BUFFER];
        while let Some(read) = self.moves(from.read(&mut buffer)).await {
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            let carried = async {
                to.write_all(bytes).await?;
                to.flush().await
            };
            if self.moves(carried).await.is_none() {
                self.pass_over(from).await;
                break;
            }
        }
        // A side that is gone already needn't be told.
        let _ = self.moves(to.shutdown()).await;
        self.ended.cancel();
    }

    /// Reads what nobody takes until its end, or until nothing goes the other way either.
    async fn pass_over(&self, mut from: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; BUFFER];
        let over = async {
            self.ended.cancelled().await;
            sleep(CLOSING).await;
        };
        let reading = async { while from.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
        tokio::select! {
            () = over => {}
            () = reading => {}
        }
    }
}

/// Copies both ways until both directions have ended. The end of one is passed on and leaves the other open.
pub async fn splice(a: impl AsyncRead + AsyncWrite, b: impl AsyncRead + AsyncWrite) {
    let (from_a, to_a) = tokio::io::split(a);
    let (from_b, to_b) = tokio::io::split(b);
    let joint = Joint::default();
    tokio::join!(joint.pass(from_a, to_b), joint.pass(from_b, to_a));
}

/// Carries the bytes of a connection in a client's binary messages until either ends: what is inside has its own half-closes.
///
/// Once the server has ended, the client is told and has a while to close.
pub async fn tunnel<C>(client: WebSocketStream<C>, server: impl AsyncRead + AsyncWrite)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (mut to_client, mut from_client) = client.split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let inward = async {
        let mut taken = true;
        // Pings are answered by the socket itself, on the way.
        while let Some(Ok(message)) = from_client.next().await {
            match message {
                Message::Binary(bytes) if taken => taken = to_server.write_all(&bytes).await.is_ok(),
                Message::Close(_) => break,
                _ => {}
            }
        }
        // The connection is ending either way; a failure to say so changes nothing.
        let _ = to_server.shutdown().await;
    };
    let outward = async {
        let mut buffer = BytesMut::with_capacity(BUFFER);
        while from_server.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
            let bytes = buffer.split().freeze();
            if to_client.send(Message::Binary(bytes)).await.is_err() {
                break;
            }
            buffer.reserve(BUFFER);
        }
        let _ = to_client.close().await;
    };
    tokio::pin!(inward);
    tokio::select! {
        // A client that has closed takes nothing any more.
        () = &mut inward => {}
        () = outward => {
            let _ = timeout(CLOSING, inward).await;
        }
    }
}

#[cfg(test)]
mod tests;
