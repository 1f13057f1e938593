//! Ports of a pod on this machine: each local connection is carried by a WebSocket of its own.
//!
//! The protocol has two channels for a port: data and errors; each begins with the port's number. It can't close
//! one direction alone, so a connection lasts until the pod's side ends it or the local side is gone.

use super::{Socket, V4, connect};
use crate::error::{Error, Result};
use crate::rest::{Rest, with_query};
use bytes::{BufMut, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// Carries one local connection to a port of the pod.
pub async fn carry(rest: &Rest, pod_path: &str, port: u16, local: TcpStream) -> Result<()> {
    let path = with_query(
        &format!("{pod_path}/portforward"),
        &[("ports", port.to_string()), ("port", port.to_string())],
    );
    let (socket, _) = connect(rest, &path, V4).await?;
    shovel(socket, port, local).await
}

async fn shovel(socket: Socket, port: u16, local: TcpStream) -> Result<()> {
    let (mut sink, mut stream) = socket.split();
    let (mut read, mut write) = local.into_split();
    let up = async {
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            match read.read(&mut buffer).await {
                Ok(0) => {
                    // The local side has said everything; what comes back is still wanted.
                    std::future::pending::<()>().await;
                }
                Ok(n) => {
                    let mut out = BytesMut::with_capacity(n + 1);
                    out.put_u8(0);
                    out.put_slice(buffer.get(..n).unwrap_or(&[]));
                    if sink.send(Message::Binary(out.freeze())).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    };
    let down = async {
        let mut greeted = [false; 2];
        let mut trouble = String::new();
        while let Some(message) = stream.next().await {
            let data = match message {
                Ok(Message::Binary(data)) => data,
                Ok(Message::Close(_)) | Err(_) => break,
                Ok(_) => continue,
            };
            let Some(channel) = data.first().copied() else {
                continue;
            };
            let Some(seen) = greeted.get_mut(usize::from(channel)) else {
                continue;
            };
            let mut rest = data.slice(1..);
            if !*seen {
                // Each channel begins with the port's number.
                *seen = true;
                rest = rest.slice(rest.len().min(2)..);
            }
            if rest.is_empty() {
                continue;
            }
            if channel == 1 {
                trouble.push_str(&String::from_utf8_lossy(&rest));
            } else if write.write_all(&rest).await.is_err() {
                break;
            }
        }
        // Whoever reads sees the end; a failure to say so means that nobody reads.
        let _ = write.shutdown().await;
        trouble
    };
    let trouble = tokio::select! {
        () = up => String::new(),
        trouble = down => trouble,
    };
    if trouble.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "an error occurred forwarding {port}: {trouble}"
    )))
}
