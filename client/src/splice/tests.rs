use super::*;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{DuplexStream, ReadBuf, duplex};
use tokio_tungstenite::tungstenite::protocol::Role;

/// A side that takes nothing and still has something to say.
struct Deaf(DuplexStream);

impl AsyncRead for Deaf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()))
    }
}

const MEGABYTE: usize = 1 << 20;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n / 251) as u8).collect()
}

/// Sends this and then nothing more, in small portions that leave others time.
async fn say(mut far: DuplexStream, what: Vec<u8>) {
    for part in what.chunks(1000) {
        far.write_all(part).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn ends_are_passed_on_and_leave_the_other_direction_open() {
    let (client, a) = duplex(4096);
    let (server, b) = duplex(4096);
    let spliced = tokio::spawn(splice(a, b));
    let (mut from_server, mut to_server) = tokio::io::split(client);
    let (mut from_client, mut to_client) = tokio::io::split(server);
    to_server.write_all(b"question").await.unwrap();
    to_server.shutdown().await.unwrap();
    let mut heard = String::new();
    from_client.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "question");
    let answer = bytes(MEGABYTE);
    let expected = answer.clone();
    tokio::spawn(async move {
        to_client.write_all(&answer).await.unwrap();
        to_client.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    from_server.read_to_end(&mut got).await.unwrap();
    assert!(got == expected);
    spliced.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn all_bytes_come_from_a_side_that_takes_none() {
    let (client, a) = duplex(4096);
    let (server, b) = duplex(4096);
    let spliced = tokio::spawn(splice(a, Deaf(b)));
    let (mut from_server, mut to_server) = tokio::io::split(client);
    // Input without end, which nobody reads.
    let feeding = tokio::spawn(async move {
        while to_server.write_all(&[0; 1000]).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    });
    let sent = bytes(MEGABYTE);
    tokio::spawn(say(server, sent.clone()));
    let mut got = Vec::new();
    from_server.read_to_end(&mut got).await.unwrap();
    assert!(got == sent, "{} of {} bytes came", got.len(), sent.len());
    drop(from_server);
    // The input goes nowhere, and the connection ends though it doesn't.
    spliced.await.unwrap();
    feeding.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_broken_connection_ends_when_nothing_moves() {
    let (mut client, a) = duplex(4096);
    let (server, b) = duplex(4096);
    let spliced = tokio::spawn(splice(a, Deaf(b)));
    client.write_all(b"x").await.unwrap();
    spliced.await.unwrap();
    drop(server);
}

#[tokio::test]
async fn a_tunnel_gives_all_bytes_of_a_server_that_takes_none() {
    let (client, near) = duplex(4096);
    let (server, far) = duplex(4096);
    let near = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
    let tunnelled = tokio::spawn(tunnel(near, Deaf(far)));
    let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    let (mut to_server, mut from_server) = client.split();
    tokio::spawn(async move {
        let nothing = || Message::Binary(vec![0; 1000].into());
        while to_server.send(nothing()).await.is_ok() {}
    });
    let sent = bytes(MEGABYTE);
    tokio::spawn(say(server, sent.clone()));
    let mut got = Vec::new();
    loop {
        match from_server.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => got.extend_from_slice(&bytes),
            message => {
                assert!(message.is_close(), "{message:?}");
                break;
            }
        }
    }
    assert!(got == sent, "{} of {} bytes came", got.len(), sent.len());
    // Reading on answers the close.
    while from_server.next().await.is_some() {}
    tunnelled.await.unwrap();
}
