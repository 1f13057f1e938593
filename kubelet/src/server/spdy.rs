//! The client's side of SPDY/3.1, as far as container runtimes use it for streams: open streams, send and receive data, half-close.
//!
//! Frames are `flags(8) length(24)` behind either `1 version(15) type(16)` (control) or `0 stream(31)` (data). Headers go out as
//! stored blocks of one zlib stream, which any reader takes; what the peer says in its headers isn't needed and not read.
//! Peers of this protocol don't use its flow control: a connection that isn't read holds its sender back.

use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
const MAX_DATA: usize = 32 << 10;

/// A stream's number.
pub(crate) type StreamId = u32;

/// What arrives on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Bytes.
    Data(Bytes),
    /// The peer sends no more.
    End,
}

/// The sending half of a connection.
pub(crate) struct Sender<W> {
    writer: W,
    next: StreamId,
    started: bool,
}

/// A control frame.
fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + payload.len());
    out.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    let length = u32::try_from(payload.len()).unwrap_or(0);
    out.extend_from_slice(&(u32::from(flags) << 24 | length).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// The head of a data frame.
fn data_head(stream: StreamId, flags: u8, length: usize) -> [u8; 8] {
    let mut out = [0; 8];
    let length = u32::try_from(length).unwrap_or(0);
    out[..4].copy_from_slice(&(stream & 0x7fff_ffff).to_be_bytes());
    out[4..].copy_from_slice(&(u32::from(flags) << 24 | length).to_be_bytes());
    out
}

/// A header block as part of the connection's zlib stream: one stored block with the data, and an empty one that flushes it.
fn header_block(headers: &[(&str, &str)], first: bool) -> Vec<u8> {
    let mut plain = Vec::new();
    let count = u32::try_from(headers.len()).unwrap_or(0);
    plain.extend_from_slice(&count.to_be_bytes());
    for (name, value) in headers {
        for text in [name.to_ascii_lowercase().as_str(), value] {
            plain.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
    }
    let mut out = Vec::new();
    if first {
        out.extend_from_slice(&[0x78, 0x01]);
    }
    for block in [plain.as_slice(), &[]] {
        let length = u16::try_from(block.len()).unwrap_or(0);
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    /// The sending half over a writer.
    pub(crate) fn new(writer: W) -> Self {
        Self {
            writer,
            next: 1,
            started: false,
        }
    }

    /// Opens a stream.
    pub(crate) async fn open(&mut self, headers: &[(&str, &str)]) -> io::Result<StreamId> {
        let stream = self.next;
        self.next += 2;
        let mut payload = Vec::new();
        payload.extend_from_slice(&stream.to_be_bytes());
        payload.extend_from_slice(&[0; 6]);
        payload.extend_from_slice(&header_block(headers, !self.started));
        self.started = true;
        self.writer.write_all(&control(SYN_STREAM, 0, &payload)).await?;
        self.writer.flush().await?;
        Ok(stream)
    }

    /// Sends bytes on a stream.
    pub(crate) async fn send(&mut self, stream: StreamId, data: &[u8]) -> io::Result<()> {
        for part in data.chunks(MAX_DATA) {
            self.writer.write_all(&data_head(stream, 0, part.len())).await?;
            self.writer.write_all(part).await?;
        }
        self.writer.flush().await
    }

    /// Says that no more bytes follow on a stream.
    pub(crate) async fn end(&mut self, stream: StreamId) -> io::Result<()> {
        self.writer.write_all(&data_head(stream, FIN, 0)).await?;
        self.writer.flush().await
    }

    /// Answers a ping.
    pub(crate) async fn pong(&mut self, id: u32) -> io::Result<()> {
        self.writer
            .write_all(&control(PING, 0, &id.to_be_bytes()))
            .await?;
        self.writer.flush().await
    }

    /// Closes the connection.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        let mut payload = [0; 8];
        payload[..4].copy_from_slice(&0u32.to_be_bytes());
        self.writer.write_all(&control(GOAWAY, 0, &payload)).await?;
        self.writer.shutdown().await
    }
}

/// One thing read from the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Something on a stream.
    Stream(StreamId, Event),
    /// A stream was broken off.
    Reset(StreamId),
    /// A ping to answer.
    Ping(u32),
    /// The peer is going.
    GoAway,
    /// Something that asks for nothing.
    Other,
}

/// Reads one frame; none at the end of the connection.
pub(crate) async fn read_frame<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Vec<Frame>> {
    let mut head = [0; 8];
    match reader.read_exact(&mut head).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Vec::new()),
        other => other?,
    };
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (first, second) = (word(0), word(4));
    let flags = (second >> 24) as u8;
    let length = (second & 0x00ff_ffff) as usize;
    let mut payload = BytesMut::zeroed(length);
    reader.read_exact(&mut payload).await?;
    let payload = payload.freeze();
    let number = |at: usize| {
        payload
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_be_bytes)
            .unwrap_or(0)
    };
    if first & 0x8000_0000 == 0 {
        let mut out = Vec::new();
        if !payload.is_empty() {
            out.push(Frame::Stream(first, Event::Data(payload)));
        }
        if flags & FIN != 0 {
            out.push(Frame::Stream(first, Event::End));
        }
        if out.is_empty() {
            out.push(Frame::Other);
        }
        return Ok(out);
    }
    let frame = match (first & 0xffff) as u16 {
        RST_STREAM => Frame::Reset(number(0) & 0x7fff_ffff),
        PING => Frame::Ping(number(0)),
        GOAWAY => Frame::GoAway,
        // A reply that closes its stream at once.
        2 if flags & FIN != 0 => Frame::Stream(number(0) & 0x7fff_ffff, Event::End),
        _ => Frame::Other,
    };
    Ok(vec![frame])
}

/// Hands what arrives to the streams' receivers until the connection ends.
pub(crate) async fn dispatch<R: AsyncRead + Unpin>(
    mut reader: R,
    mut streams: HashMap<StreamId, mpsc::Sender<Bytes>>,
    pings: mpsc::Sender<u32>,
) -> io::Result<()> {
    loop {
        let frames = read_frame(&mut reader).await?;
        if frames.is_empty() {
            return Ok(());
        }
        for frame in frames {
            match frame {
                Frame::Stream(id, Event::Data(bytes)) => {
                    if let Some(stream) = streams.get(&id)
                        && stream.send(bytes).await.is_err()
                    {
                        streams.remove(&id);
                    }
                }
                Frame::Stream(id, Event::End) | Frame::Reset(id) => {
                    streams.remove(&id);
                }
                Frame::Ping(id) => {
                    // An answer that can't be sent for now is left out: waiting would hold up the streams.
                    let _ = pings.try_send(id);
                }
                Frame::GoAway => return Ok(()),
                Frame::Other => {}
            }
        }
        if streams.is_empty() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_protocols_layout() {
        assert_eq!(
            control(PING, 0, &7u32.to_be_bytes()),
            [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]
        );
        assert_eq!(data_head(5, FIN, 0x0102), [0, 0, 0, 5, 1, 0, 1, 2]);
    }

    #[test]
    fn header_blocks_are_one_zlib_stream() {
        let first = header_block(&[("streamType", "stdin")], true);
        assert_eq!(&first[..3], &[0x78, 0x01, 0x00]);
        assert!(first.ends_with(&[0, 0, 0, 0xff, 0xff]));
        let text = String::from_utf8_lossy(&first).into_owned();
        assert!(text.contains("streamtype") && text.contains("stdin"));
        assert_eq!(header_block(&[], false).first(), Some(&0));
    }

    #[tokio::test]
    async fn data_and_its_end_are_read_back() {
        let mut wire = Vec::new();
        let mut sender = Sender::new(&mut wire);
        let stream = sender.open(&[("streamType", "stdin")]).await.expect("open");
        sender.send(stream, b"abc").await.expect("send");
        sender.end(stream).await.expect("end");
        let mut reader = wire.as_slice();
        let mut frames = Vec::new();
        loop {
            let more = read_frame(&mut reader).await.expect("a frame");
            if more.is_empty() {
                break;
            }
            frames.extend(more);
        }
        assert_eq!(
            frames,
            [
                Frame::Other,
                Frame::Stream(1, Event::Data(Bytes::from_static(b"abc"))),
                Frame::Stream(1, Event::End)
            ]
        );
    }
}
