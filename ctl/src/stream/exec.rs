//! Running in a container: standard streams, the terminal's size and the exit code over one WebSocket.

use super::terminal::{self, Raw};
use super::{Socket, V4, V5, broken, connect};
use crate::error::{Error, Result};
use crate::rest::Rest;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::io::{Read, Write};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Where bytes for the container's standard input come from.
pub enum Input {
    /// Nowhere.
    None,
    /// This process's standard input.
    Stdin,
    /// From a channel; its end is the input's end.
    Channel(mpsc::Receiver<Bytes>),
}

/// Where the container's standard output goes.
pub enum Output {
    /// This process's.
    Stdout,
    /// Into a channel; what the command says on standard error goes to this process's standard output, as with kubectl.
    Channel(mpsc::Sender<Bytes>),
    /// Nowhere, and its standard error neither.
    Nothing,
}

/// One session.
pub struct Session {
    /// Input.
    pub input: Input,
    /// Output.
    pub output: Output,
    /// A terminal on the other side.
    pub tty: bool,
}

impl Session {
    /// With this process's streams.
    pub fn local(stdin: bool, tty: bool) -> Self {
        Self {
            input: if stdin { Input::Stdin } else { Input::None },
            output: Output::Stdout,
            tty,
        }
    }

    /// Runs to the end; a command's failure is an error with its exit code.
    pub async fn run(self, rest: &Rest, path: &str) -> Result<()> {
        let (socket, protocol) = connect(rest, path, &format!("{V5},{V4}")).await?;
        let raw = if self.tty && matches!(self.input, Input::Stdin) {
            Raw::enter()
        } else {
            None
        };
        let outcome = self.streams(socket, protocol == V5).await;
        drop(raw);
        outcome
    }

    async fn streams(self, socket: Socket, can_close: bool) -> Result<()> {
        let (sink, mut stream) = socket.split();
        let (to_sink, queue) = mpsc::channel::<Message>(8);
        let writer = tokio::task::spawn_local(write(sink, queue));
        let mut helpers = Vec::new();
        match self.input {
            Input::None => {}
            Input::Stdin => helpers.push(tokio::task::spawn_local(pump(
                stdin(),
                to_sink.clone(),
                can_close,
            ))),
            Input::Channel(from) => {
                helpers.push(tokio::task::spawn_local(pump(from, to_sink.clone(), can_close)))
            }
        }
        if self.tty {
            helpers.push(tokio::task::spawn_local(sizes(to_sink.clone())));
        }
        let mut status: Option<Value> = None;
        let outcome = loop {
            match stream.next().await {
                Some(Ok(Message::Binary(data))) => {
                    match (data.first().copied(), data.slice(data.len().min(1)..)) {
                        (Some(STDOUT), rest) if !rest.is_empty() => match &self.output {
                            Output::Stdout => crate::out::bytes(&rest),
                            Output::Channel(to) => {
                                if to.send(rest).await.is_err() {
                                    break Ok(());
                                }
                            }
                            Output::Nothing => {}
                        },
                        (Some(STDERR), rest) => {
                            match self.output {
                                Output::Stdout => {}
                                Output::Channel(_) => {
                                    crate::out::bytes(&rest);
                                    continue;
                                }
                                Output::Nothing => continue,
                            }
                            let mut err = std::io::stderr().lock();
                            // There is nobody left to tell about it.
                            let _ = err.write_all(&rest).and_then(|()| err.flush());
                        }
                        (Some(ERROR), rest) if !rest.is_empty() => {
                            status = Some(serde_json::from_slice(&rest).unwrap_or_else(
                                |_| json!({"status": "Failure", "message": String::from_utf8_lossy(&rest)}),
                            ));
                        }
                        _ => {}
                    }
                }
                Some(Ok(Message::Ping(data))) => {
                    // The writer being gone ends the loop by itself.
                    let _ = to_sink.send(Message::Pong(data)).await;
                }
                Some(Ok(Message::Close(_))) | None => break Ok(()),
                Some(Ok(_)) => {}
                // The status is the last word: what breaks after it doesn't matter.
                Some(Err(_)) if status.is_some() => break Ok(()),
                Some(Err(e)) => break Err(broken(&e)),
            }
        };
        for helper in helpers {
            helper.abort();
        }
        writer.abort();
        outcome?;
        status.map_or(Ok(()), |s| result(&s))
    }
}

/// What the final status means.
fn result(status: &Value) -> Result<()> {
    if status["status"] == "Success" {
        return Ok(());
    }
    let message = status["message"].as_str().unwrap_or("").to_owned();
    if status["reason"] == "NonZeroExitCode" {
        for cause in status["details"]["causes"].as_array().into_iter().flatten() {
            if cause["reason"] == "ExitCode"
                && let Some(code) = cause["message"].as_str().and_then(|m| m.parse::<i32>().ok())
            {
                return Err(Error::Code(
                    code,
                    format!("command terminated with exit code {code}"),
                ));
            }
        }
    }
    Err(Error::new(message))
}

async fn write(mut sink: SplitSink<Socket, Message>, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

fn frame(channel: u8, data: &[u8]) -> Message {
    let mut out = BytesMut::with_capacity(data.len() + 1);
    out.put_u8(channel);
    out.put_slice(data);
    Message::Binary(out.freeze())
}

/// Passes input on; its end closes the channel where the protocol can.
async fn pump(mut from: mpsc::Receiver<Bytes>, to: mpsc::Sender<Message>, can_close: bool) {
    while let Some(data) = from.recv().await {
        if to.send(frame(STDIN, &data)).await.is_err() {
            return;
        }
    }
    if can_close {
        // If the other side is gone already, there is nothing to close.
        let _ = to.send(frame(CLOSE, &[STDIN])).await;
    }
}

/// Standard input, read by a thread of its own as it can't be awaited.
fn stdin() -> mpsc::Receiver<Bytes> {
    let (to, from) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut buffer = vec![0u8; 32 * 1024];
        let mut input = std::io::stdin().lock();
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => {
                    let data = Bytes::copy_from_slice(buffer.get(..n).unwrap_or(&[]));
                    if to.blocking_send(data).is_err() {
                        return;
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    from
}

/// Tells the terminal's size now and whenever it changes.
async fn sizes(to: mpsc::Sender<Message>) {
    let Ok(mut changes) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change())
    else {
        return;
    };
    loop {
        if let Some((width, height)) = terminal::size() {
            let text = json!({"Width": width, "Height": height}).to_string();
            if to.send(frame(RESIZE, text.as_bytes())).await.is_err() {
                return;
            }
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeconfig::Effective;
    use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

    /// A server that sends standard input back, and the status when the input is closed.
    async fn echo(listener: tokio::net::TcpListener, protocol: &'static str) {
        let (stream, _) = listener.accept().await.unwrap();
        #[allow(clippy::result_large_err)]
        let choose = |_: &Request, mut response: Response| {
            response
                .headers_mut()
                .insert("sec-websocket-protocol", protocol.parse().unwrap());
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(stream, choose).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            let Message::Binary(data) = message else { continue };
            match data.first().copied() {
                Some(STDIN) => socket.send(frame(STDOUT, &data[1..])).await.unwrap(),
                Some(CLOSE) => {
                    assert_eq!(&data[1..], [STDIN]);
                    let status = json!({"status": "Failure", "reason": "NonZeroExitCode",
                        "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}});
                    socket
                        .send(frame(ERROR, status.to_string().as_bytes()))
                        .await
                        .unwrap();
                    socket.close(None).await.unwrap();
                }
                _ => {}
            }
        }
    }

    #[test]
    fn standard_input_arrives_whole_and_its_end_is_told() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let effective = Effective {
                cluster: json!({"server": format!("http://{}", listener.local_addr().unwrap())}),
                user: json!({}),
                ..Effective::default()
            };
            tokio::task::spawn_local(echo(listener, V5));
            let rest = Rest::connect(&effective, None, false, Default::default())
                .await
                .unwrap();
            let (to, input) = mpsc::channel(4);
            let (output, mut from) = mpsc::channel::<Bytes>(4);
            let sent = 8 * 1024 * 1024;
            tokio::task::spawn_local(async move {
                for _ in 0..sent / 32_768 {
                    to.send(Bytes::from(vec![b'x'; 32_768])).await.unwrap();
                }
            });
            let reader = tokio::task::spawn_local(async move {
                let mut got = 0;
                while let Some(data) = from.recv().await {
                    got += data.len();
                }
                got
            });
            let session = Session {
                input: Input::Channel(input),
                output: Output::Channel(output),
                tty: false,
            };
            let outcome = session.run(&rest, "/exec").await;
            assert_eq!(outcome.unwrap_err().code(), 7);
            assert_eq!(reader.await.unwrap(), sent);
        });
    }

    #[test]
    fn the_exit_code_comes_from_the_status() {
        assert!(result(&json!({"status": "Success"})).is_ok());
        let failed = json!({"status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with non-zero exit code",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
        let e = result(&failed).unwrap_err();
        assert_eq!(
            (e.code(), e.report()),
            (3, "command terminated with exit code 3".to_owned())
        );
        let e = result(&json!({"status": "Failure", "message": "boom"})).unwrap_err();
        assert_eq!((e.code(), e.report()), (1, "error: boom".to_owned()));
    }
}
