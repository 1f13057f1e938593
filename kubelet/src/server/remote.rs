//! Commands and attachments over WebSockets, carried on to the runtime over SPDY/3.1, which alone can tell it that standard input has ended.
//!
//! A WebSocket message is `channel(8) bytes`: 0 standard input, 1 output, 2 error, 3 the final status, 4 window sizes, and in v5
//! 255 followed by the channel that the sender closes.

use super::api::{Body, empty};
use super::spdy;
use super::upgrade::{UpgradeError, connect, offered};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::sync::{Mutex, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};
use tokio_util::sync::CancellationToken;

const STDIN: u8 = 0;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// How long either end has to close its side once a command has ended.
const CLOSING: Duration = Duration::from_secs(5);

/// What a caller is told when nobody knows how its command ended.
const LOST: &str = "the container runtime's connection ended before it told how the command ended";

/// How streams are put into messages. All begin with the channel; the older ones have no way to end standard input alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Protocol {
    name: &'static str,
    /// The channel is a digit and the rest is base64, in text messages.
    base64: bool,
    /// The end is told as a text when it is a failure, and not at all otherwise.
    plain_status: bool,
}

/// In order of preference. A caller who names none gets the oldest.
const PROTOCOLS: [Protocol; 6] = [
    protocol("v5.channel.k8s.io", false, false),
    protocol("v4.channel.k8s.io", false, false),
    protocol("v4.base64.channel.k8s.io", true, false),
    protocol("channel.k8s.io", false, true),
    protocol("base64.channel.k8s.io", true, true),
    protocol("", false, true),
];

const fn protocol(name: &'static str, base64: bool, plain_status: bool) -> Protocol {
    Protocol {
        name,
        base64,
        plain_status,
    }
}

/// The names of all protocols, for those who offer none of them.
pub(crate) fn protocols() -> String {
    let names = PROTOCOLS.iter().map(|p| p.name).filter(|name| !name.is_empty());
    names.collect::<Vec<_>>().join(", ")
}

impl Protocol {
    /// The one that is spoken with a caller who offers these.
    fn choose(offers: &[String]) -> Option<Self> {
        let offered = |p: &Self| match p.name {
            "" => offers.is_empty(),
            name => offers.iter().any(|offer| offer == name),
        };
        PROTOCOLS.into_iter().find(|p| offered(p))
    }

    fn message(self, channel: u8, bytes: &[u8]) -> Message {
        if self.base64 {
            return Message::Text(format!("{channel}{}", STANDARD.encode(bytes)).into());
        }
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(channel);
        message.extend_from_slice(bytes);
        Message::Binary(message.into())
    }

    /// The channel and the bytes of a message; none when it has none.
    fn read(self, message: &[u8]) -> Option<(u8, Cow<'_, [u8]>)> {
        let (channel, rest) = message.split_first()?;
        if !self.base64 {
            return Some((*channel, Cow::Borrowed(rest)));
        }
        let bytes = STANDARD.decode(rest).ok()?;
        Some((channel.checked_sub(b'0')?, Cow::Owned(bytes)))
    }

    /// What is told at the end, given the runtime's status. It always gives one: an empty one means that its connection was lost, with an
    /// unknown part of the output.
    fn status(self, mut status: Vec<u8>) -> Option<Vec<u8>> {
        if status.is_empty() {
            let lost = serde_json::json!({
                "metadata": {},
                "status": "Failure",
                "reason": "InternalError",
                "message": LOST,
                "code": 500,
            });
            status = lost.to_string().into_bytes();
        }
        if !self.plain_status {
            return Some(status);
        }
        let parsed: Option<serde_json::Value> = serde_json::from_slice(&status).ok();
        match parsed {
            Some(status) if status["status"] == "Success" => None,
            Some(status) => Some(status["message"].as_str().unwrap_or_default().into()),
            None => Some(status),
        }
    }
}

/// Which streams a command has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// The head of the answer that makes a connection a WebSocket.
pub(crate) fn accept(headers: &HeaderMap, protocol: &str) -> Option<Response<Body>> {
    let key = headers.get("sec-websocket-key")?;
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = response.headers_mut();
    out.insert(header::CONNECTION, "Upgrade".parse().ok()?);
    out.insert(header::UPGRADE, "websocket".parse().ok()?);
    out.insert(
        "sec-websocket-accept",
        derive_accept_key(key.as_bytes()).parse().ok()?,
    );
    if !protocol.is_empty() {
        out.insert("sec-websocket-protocol", protocol.parse().ok()?);
    }
    Some(response)
}

/// Takes a caller's WebSocket and carries it to the runtime.
pub(crate) async fn serve(
    request: Request<Incoming>,
    url: &str,
    wanted: Wanted,
) -> Result<Option<Response<Body>>, UpgradeError> {
    let offers = offered(request.headers());
    let Some(protocol) = Protocol::choose(&offers) else {
        return Ok(None);
    };
    let Some(response) = accept(request.headers(), protocol.name) else {
        return Ok(None);
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("SPDY/3.1"));
    headers.insert(
        "x-stream-protocol-version",
        header::HeaderValue::from_static("v4.channel.k8s.io"),
    );
    let runtime = connect(url, &headers).await?;
    tokio::spawn(async move {
        let caller = match hyper::upgrade::on(request).await {
            Ok(caller) => caller,
            Err(error) => {
                tracing::debug!(%error, "a caller went before its connection became a WebSocket");
                return;
            }
        };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(caller), Role::Server, None).await;
        if let Err(error) = carry(socket, runtime.io, wanted, protocol).await {
            tracing::debug!(%error, "carrying a command's streams ended");
        }
    });
    Ok(Some(response))
}

type Runtime = TokioIo<hyper::upgrade::Upgraded>;

async fn carry<S>(
    socket: WebSocketStream<S>,
    runtime: Runtime,
    wanted: Wanted,
    protocol: Protocol,
) -> std::io::Result<()>
where
    S: tokio::io::AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (reader, writer) = tokio::io::split(runtime);
    let mut sender = spdy::Sender::new(writer);
    let mut inputs = HashMap::new();
    let mut outputs: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    let (to_caller, mut from_runtime) = mpsc::channel::<(u8, Bytes)>(16);
    let mut forwards = Vec::new();
    // The error stream comes first: the runtime reads it even of commands without any other.
    let streams = [
        ("error", 3, true),
        ("stdin", STDIN, wanted.stdin),
        ("stdout", 1, wanted.stdout),
        ("stderr", 2, wanted.stderr && !wanted.tty),
        ("resize", RESIZE, wanted.tty),
    ];
    for (name, channel, _) in streams.into_iter().filter(|s| s.2) {
        let id = sender.open(&[("streamType", name)]).await?;
        if channel == STDIN || channel == RESIZE {
            inputs.insert(channel, id);
            continue;
        }
        let (stream, mut receiver) = mpsc::channel::<Bytes>(4);
        outputs.insert(id, stream);
        let to_caller = to_caller.clone();
        forwards.push(tokio::spawn(async move {
            let mut status = Vec::new();
            while let Some(bytes) = receiver.recv().await {
                if channel == 3 {
                    // The final status is one message. It comes after the end of all output, and sometimes nothing comes after it: a
                    // runtime with input that nobody takes doesn't get to closing.
                    status.extend_from_slice(&bytes);
                    if serde_json::from_slice::<serde::de::IgnoredAny>(&status).is_ok() {
                        break;
                    }
                } else if to_caller.send((channel, bytes)).await.is_err() {
                    return None;
                }
            }
            (channel == 3).then_some(status)
        }));
    }
    drop(to_caller);
    let sender = Arc::new(Mutex::new(sender));
    let (pings, mut pinged) = mpsc::channel(4);
    let reading = tokio::spawn(spdy::dispatch(reader, outputs, pings));
    let (mut to_socket, mut from_socket) = socket.split();
    let answering = tokio::spawn({
        let sender = sender.clone();
        async move {
            while let Some(id) = pinged.recv().await {
                let _ = sender.lock().await.pong(id).await;
            }
        }
    });
    let ended = CancellationToken::new();
    let mut feeding = tokio::spawn({
        let sender = sender.clone();
        let ended = ended.clone();
        async move {
            // A command may end without reading its input: the caller is still to get the rest of its output.
            let mut deaf = false;
            while let Some(Ok(message)) = from_socket.next().await {
                let bytes = match message {
                    Message::Close(_) => break,
                    _ if deaf => continue,
                    Message::Binary(bytes) => bytes,
                    Message::Text(text) => Bytes::from(text.to_string()),
                    _ => continue,
                };
                let Some((channel, rest)) = protocol.read(&bytes) else {
                    continue;
                };
                let send = async {
                    let mut sender = sender.lock().await;
                    match (channel, inputs.get(&channel)) {
                        (CLOSE, _) => match rest.first().and_then(|c| inputs.get(c)) {
                            Some(stream) => sender.end(*stream).await,
                            None => Ok(()),
                        },
                        (_, Some(stream)) if !rest.is_empty() => sender.send(*stream, &rest).await,
                        _ => Ok(()),
                    }
                };
                tokio::select! {
                    done = send => deaf = done.is_err(),
                    // The runtime no longer takes what nobody is there to read.
                    () = ended.cancelled() => deaf = true,
                }
            }
        }
    });
    let mut gone = false;
    loop {
        tokio::select! {
            item = from_runtime.recv() => match item {
                Some((channel, bytes)) => {
                    if to_socket.send(protocol.message(channel, &bytes)).await.is_err() {
                        gone = true;
                        break;
                    }
                }
                None => break,
            },
            // A caller that has gone away takes its command's streams along.
            _ = &mut feeding => { gone = true; break; }
        }
    }
    if !gone {
        for forward in forwards {
            if let Ok(Some(status)) = forward.await
                && let Some(status) = protocol.status(status)
            {
                let _ = to_socket.send(protocol.message(3, &status)).await;
            }
        }
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = to_socket.send(Message::Close(Some(normal))).await;
        let _ = to_socket.close().await;
        // Input that is still under way is taken until the caller has closed, too: a connection that ends with bytes unread is reset, and
        // the reset can overtake the end of the output.
        ended.cancel();
        let _ = tokio::time::timeout(CLOSING, &mut feeding).await;
    }
    // The caller's connection ends here, whatever the runtime still does.
    feeding.abort();
    drop(to_socket);
    // A runtime that is done doesn't read any more.
    let _ = tokio::time::timeout(CLOSING, async { sender.lock().await.close().await }).await;
    answering.abort();
    reading.abort();
    Ok(())
}

/// Carries a protocol that is itself bytes in WebSocket messages (SPDY tunnelled for port forwarding) to the runtime.
pub(crate) async fn tunnel(
    request: Request<Incoming>,
    url: &str,
    protocol: &'static str,
) -> Result<Option<Response<Body>>, UpgradeError> {
    let Some(response) = accept(request.headers(), protocol) else {
        return Ok(None);
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("SPDY/3.1"));
    headers.insert(
        "x-stream-protocol-version",
        header::HeaderValue::from_static("portforward.k8s.io"),
    );
    let runtime = connect(url, &headers).await?;
    tokio::spawn(async move {
        let Ok(caller) = hyper::upgrade::on(request).await else {
            return;
        };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(caller), Role::Server, None).await;
        rutter_client::splice::tunnel(socket, runtime.io).await;
    });
    Ok(Some(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_protocol_offered_is_spoken_and_the_oldest_where_none_is_named() {
        for (offers, want) in [
            (
                vec!["v4.channel.k8s.io", "v5.channel.k8s.io"],
                Some("v5.channel.k8s.io"),
            ),
            (vec!["channel.k8s.io"], Some("channel.k8s.io")),
            (vec!["base64.channel.k8s.io", "x"], Some("base64.channel.k8s.io")),
            (vec![], Some("")),
            (vec!["x"], None),
        ] {
            let offers: Vec<String> = offers.into_iter().map(str::to_owned).collect();
            assert_eq!(Protocol::choose(&offers).map(|p| p.name), want, "{offers:?}");
        }
    }

    #[test]
    fn messages_carry_channel_and_bytes_in_both_encodings() {
        for (name, message) in [
            ("v4.channel.k8s.io", Message::Binary(b"\x01hi".to_vec().into())),
            ("base64.channel.k8s.io", Message::Text("1aGk=".into())),
        ] {
            let protocol = Protocol::choose(&[name.to_owned()]).unwrap();
            let made = protocol.message(1, b"hi");
            assert_eq!(made, message);
            let bytes = made.into_data();
            assert_eq!(protocol.read(&bytes), Some((1, Cow::Borrowed(&b"hi"[..]))));
        }
    }

    #[test]
    fn old_protocols_tell_failures_alone_and_as_text() {
        let failure = br#"{"status":"Failure","message":"exit code 1"}"#.to_vec();
        let success = br#"{"metadata":{},"status":"Success"}"#.to_vec();
        for (name, status, want) in [
            ("channel.k8s.io", vec![], Some(LOST.as_bytes())),
            ("channel.k8s.io", success.clone(), None),
            ("channel.k8s.io", failure.clone(), Some(&b"exit code 1"[..])),
            ("v4.channel.k8s.io", success.clone(), Some(&success[..])),
            ("v4.channel.k8s.io", failure.clone(), Some(&failure[..])),
        ] {
            let protocol = Protocol::choose(&[name.to_owned()]).unwrap();
            assert_eq!(protocol.status(status).as_deref(), want, "{name}");
        }
    }

    #[test]
    fn a_command_whose_end_is_not_known_has_not_succeeded() {
        let protocol = Protocol::choose(&["v5.channel.k8s.io".to_owned()]).unwrap();
        let told = protocol.status(Vec::new()).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(
            (&told["status"], &told["message"]),
            (&"Failure".into(), &LOST.into())
        );
    }
}
