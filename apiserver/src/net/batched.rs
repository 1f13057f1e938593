//! A stream under HTTP/2 that gathers what is written within one turn of the connection's task.
//!
//! The HTTP/2 library flushes after each frame: with many streams on a connection (watchers of one client, a burst of answers) that
//! is a TLS record and a system call for each. Here a flush is promised instead and kept at the task's next turn, before it reads, when
//! all that was ready has been written; or at once, when much has been gathered.
//!
//! It relies on its task reading in each turn, as HTTP/2 connections do. It is not for streams whose two halves go separate ways.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is gathered at most, give or take a frame.
const GATHERED: usize = 64 * 1024;
/// An empty buffer larger than this is given back: most connections are idle most of the time.
const KEPT: usize = 8 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Batched<S> {
    inner: S,
    buffer: Vec<u8>,
    /// How much of the buffer the inner stream has taken.
    taken: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Batched<S> {
    /// Over a stream.
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.buffer.len() - self.taken >= GATHERED
    }

    /// Hands all that was gathered to the inner stream and flushes it.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.buffer.get(self.taken..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.taken += count,
            }
        }
        self.taken = 0;
        self.buffer.clear();
        if self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn gather(&mut self, bytes: &[u8]) {
        if self.taken >= GATHERED / 2 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        if self.buffer.capacity() < self.buffer.len() + bytes.len() && self.buffer.len() >= KEPT {
            self.buffer
                .reserve_exact(GATHERED * 5 / 4 - self.buffer.len().min(GATHERED));
        }
        self.buffer.extend_from_slice(bytes);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Batched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.buffer.is_empty()
            && let Poll::Ready(Err(error)) = self.poll_drain(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Batched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_full() {
            ready!(self.poll_drain(cx))?;
        }
        self.gather(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_full() {
            ready!(self.poll_drain(cx))?;
        }
        slices.iter().for_each(|slice| self.gather(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() || self.is_full() {
            return self.poll_drain(cx);
        }
        // Kept at the next turn.
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Counts the writes that reach it.
    struct Counted<S>(S, Arc<AtomicUsize>);

    impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn frames_of_one_turn_are_one_write_that_goes_out_by_itself() {
        let (here, mut there) = tokio::io::duplex(1 << 20);
        let writes = Arc::new(AtomicUsize::new(0));
        let mut batched = Batched::new(Counted(here, writes.clone()));
        let task = tokio::spawn(async move {
            for n in 0..50u8 {
                batched.write_all(&[n; 100]).await.unwrap();
                batched.flush().await.unwrap();
            }
            // The task goes on reading, as a connection does.
            let mut end = [0];
            assert_eq!(batched.read(&mut end).await.unwrap(), 1);
        });
        let mut got = [0; 5000];
        there.read_exact(&mut got).await.unwrap();
        assert!(
            got.chunks(100)
                .enumerate()
                .all(|(n, chunk)| chunk == [n as u8; 100])
        );
        assert_eq!(writes.load(Ordering::Relaxed), 1);
        there.write_all(&[1]).await.unwrap();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_full_buffer_waits_for_a_slow_reader_and_loses_nothing() {
        let (here, mut there) = tokio::io::duplex(1000);
        let mut batched = Batched::new(here);
        let all: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
        let sent = all.clone();
        let task = tokio::spawn(async move {
            for piece in sent.chunks(10_000) {
                batched.write_all(piece).await.unwrap();
                batched.flush().await.unwrap();
                assert!(batched.buffer.len() <= GATHERED * 3 / 2 + 10_000);
            }
            batched.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        there.read_to_end(&mut got).await.unwrap();
        assert!(got == all);
        task.await.unwrap();
    }
}
