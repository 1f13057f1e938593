//! A bound on the memory that all requests hold together (`--max-requests-memory-mb`).
//!
//! Three shares: bodies that are read, answers that their clients have not taken yet, and objects that are worked on. A request takes
//! from the last one last and waits for nothing while it holds that, so what is held always comes back. Who waits is served in turn;
//! who waits too long is sent away with 429. A request that needs more than a whole share has the share to itself.
//!
//! Not counted, because bounded by themselves: what a connection sends unasked (256 KiB a request, 1 MiB a connection) and what of a small
//! answer waits to be sent.

use crate::answer::Body;
use crate::metrics::Metrics;
use crate::streaming::BoxError;
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use prometheus::IntGauge;
use rutter_api::{StatusError, codec};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// What is counted at once: 4 KiB.
const PLACE: u64 = 4096;
/// What a tree of an object takes for each of its values, names included.
const NODE: u64 = 128;
/// How many trees there are of an object that is written: as sent, as decoded, as admitted.
const TREES: u64 = 3;
/// How many texts there are of it: as sent, in the trees, as stored, as answered.
const TEXTS: u64 = 5;
/// What an object takes as trees for each of its bytes, where its values aren't counted: there are some ten bytes for each.
const TREE_OF_BYTE: u64 = 16;

/// The shares of all requests.
pub struct Memory {
    bodies: Share,
    answers: Share,
    work: Share,
    /// How long a request waits for a share, and how long a client may take nothing of a large answer.
    patience: Duration,
}

/// A part of a share that is held.
pub struct Hold {
    _permit: Option<OwnedSemaphorePermit>,
    gauge: IntGauge,
    bytes: i64,
}

struct Share {
    places: Option<Arc<Semaphore>>,
    most: u32,
    gauge: IntGauge,
}

impl Memory {
    /// A quarter of so many MiB for bodies, a quarter for answers, half for the work; 0 for no bound.
    pub fn new(mib: u32, patience: Duration, metrics: &Metrics) -> Self {
        let share = |name: &str, of: u64| Share::new(u64::from(mib) * 1024 * 1024 / of, metrics.held(name));
        Self {
            bodies: share("body", 4),
            answers: share("answer", 4),
            work: share("work", 2),
            patience,
        }
    }

    /// Room for a body that is going to be read.
    pub async fn body(&self, bytes: u64) -> Result<Hold, StatusError> {
        self.bodies.take(bytes, self.patience).await
    }

    /// Room for an answer until its client has taken it.
    pub async fn answer(&self, bytes: u64) -> Result<Hold, StatusError> {
        self.answers.take(bytes, self.patience).await
    }

    /// Room to work on objects. Whoever holds it must not wait for room.
    pub async fn work(&self, bytes: u64) -> Result<Hold, StatusError> {
        self.work.take(bytes, self.patience).await
    }

    /// The answer, which holds the room until it is taken or its connection ends. Of a client that takes nothing of it for the time
    /// that requests wait for room, `sever` ends the connection.
    pub fn hold(&self, response: Response<Body>, hold: Hold, sever: CancellationToken) -> Response<Body> {
        let taken = Arc::new(AtomicU64::new(0));
        let (seen, patience) = (taken.clone(), self.patience);
        let watch = async move {
            let mut before = u64::MAX;
            loop {
                let now = seen.load(Ordering::Relaxed);
                if now == before {
                    return sever.cancel();
                }
                before = now;
                tokio::time::sleep(patience).await;
            }
        };
        response.map(|body| {
            let watched = AbortOnDropHandle::new(tokio::spawn(watch));
            let held = Held {
                body,
                taken,
                _hold: (hold, watched),
            };
            held.boxed_unsync()
        })
    }
}

impl Share {
    fn new(bytes: u64, gauge: IntGauge) -> Self {
        let most = u32::try_from(bytes / PLACE).unwrap_or(u32::MAX);
        let places = (most > 0).then(|| Arc::new(Semaphore::new(most as usize)));
        Self { places, most, gauge }
    }

    async fn take(&self, bytes: u64, patience: Duration) -> Result<Hold, StatusError> {
        let places = u32::try_from(bytes.div_ceil(PLACE)).map_or(self.most, |n| n.min(self.most));
        let permit = match &self.places {
            None => None,
            Some(semaphore) => {
                let permit = semaphore.clone().acquire_many_owned(places);
                let permit = tokio::time::timeout(patience, permit).await;
                let permit = permit.ok().and_then(Result::ok);
                Some(permit.ok_or_else(|| StatusError::too_many_requests(FULL, 1))?)
            }
        };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.gauge.add(bytes);
        Ok(Hold {
            _permit: permit,
            gauge: self.gauge.clone(),
            bytes,
        })
    }
}

const FULL: &str = "Other requests hold all the memory that requests may hold (--max-requests-memory-mb), please try again later.";

impl Drop for Hold {
    fn drop(&mut self) {
        self.gauge.sub(self.bytes);
    }
}

/// What the objects of a body take while they are worked on.
pub fn of_written(media_type: &str, bytes: &[u8]) -> u64 {
    let size = bytes.len() as u64;
    if media_type == codec::protobuf::MEDIA_TYPE {
        return size * (TEXTS + TREE_OF_BYTE);
    }
    let values = bytes
        .iter()
        .filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{' | b'\n' | b'-'));
    size * TEXTS + values.count() as u64 * NODE * TREES
}

/// What stored objects of so many bytes take as trees.
pub fn of_trees(bytes: u64) -> u64 {
    bytes * TREE_OF_BYTE
}

/// A body that holds room.
struct Held {
    body: Body,
    /// How many pieces were taken.
    taken: Arc<AtomicU64>,
    _hold: (Hold, AbortOnDropHandle<()>),
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer;
    use http::StatusCode;

    const MIB: u64 = 1024 * 1024;

    fn memory(mib: u32) -> Memory {
        Memory::new(mib, Duration::from_secs(15), &Metrics::new().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_waits_for_it_and_not_for_ever() {
        let memory = memory(4);
        let first = memory.work(MIB).await.unwrap();
        let second = memory.work(MIB).await.unwrap();
        let error = memory.work(1).await.err().unwrap();
        assert_eq!((error.code, error.retry_after_seconds), (429, 1));
        assert!(error.message.contains("--max-requests-memory-mb"));
        // The other shares have room.
        memory.body(MIB).await.unwrap();
        memory.answer(MIB).await.unwrap();
        drop(first);
        memory.work(MIB).await.unwrap();
        drop(second);
        // What is too large for the share has it to itself.
        let all = memory.work(100 * MIB).await.unwrap();
        assert!(memory.work(1).await.is_err());
        drop(all);
        memory.work(1).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_bound_nobody_waits() {
        let memory = memory(0);
        let _first = memory.work(u64::MAX).await.unwrap();
        let _second = memory.work(u64::MAX).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_its_room_until_it_is_taken_and_who_takes_nothing_is_cut_off() {
        let memory = memory(4);
        let sever = CancellationToken::new();
        let body = || answer::text(StatusCode::OK, "a list");
        let all = memory.answer(MIB).await.unwrap();
        let response = memory.hold(body(), all, sever.clone());
        assert!(memory.answer(1).await.is_err());
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "a list");
        let all = memory.answer(MIB).await.unwrap();
        assert!(!sever.is_cancelled());
        let _never_taken = memory.hold(body(), all, sever.clone());
        sever.cancelled().await;
    }

    #[test]
    fn work_is_weighed_by_what_it_becomes() {
        let text = |value: String| of_written("application/json", value.as_bytes());
        let secret = text(format!("{{\"data\":{{\"a\":\"{}\"}}}}", "x".repeat(1 << 20)));
        let zeros = text(format!("[{}0]", "0,".repeat(1 << 19)));
        assert!(secret < 6 * MIB, "{secret}");
        assert!(zeros > 100 * MIB, "{zeros}");
        assert_eq!(of_written("application/json", b""), 0);
        assert!(of_written(codec::protobuf::MEDIA_TYPE, &[0; 4096]) > 64 * 1024);
    }
}
