//! Watches: a fan-out, a crowd, and a storm of informers.

use super::lists::share;
use super::{Bench, Progress, ask, leases_path, plain, pods_path};
use crate::objects::{self, Counter, MARK, NAMESPACE, node_name, resource_version};
use crate::options::Format;
use crate::record::Record;
use crate::report::say;
use crate::wire::{Broken, Call, PATIENCE, Wire, read};
use http::Method;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Barrier;

/// How long after the last change its event may come.
const GRACE: Duration = Duration::from_secs(30);

/// A fan-out: who watches what, and how it changes.
pub(super) struct Fan {
    /// The watch's path with its query, but for the resource version.
    pub(super) path: String,
    pub(super) watchers: usize,
    pub(super) changes: usize,
    /// Between two changes; none for one as soon as the one before is answered.
    pub(super) pause: Duration,
}

/// What the watchers of a fan-out share.
struct Shared {
    sent: Vec<OnceLock<Instant>>,
    begun: Barrier,
    seen: AtomicUsize,
    /// How many watchers haven't ended.
    watching: AtomicUsize,
    bytes: AtomicU64,
}

pub(super) async fn fan_out(bench: &Arc<Bench>) -> Record {
    let sizes = &bench.sizes;
    let rate = sizes.change_rate;
    let fan = Fan {
        path: format!("{}?watch=true", pods_path("")),
        watchers: sizes.watchers,
        changes: sizes.changes,
        pause: if rate == 0 {
            Duration::ZERO
        } else {
            Duration::from_secs(1) / rate
        },
    };
    self::fan(bench, &fan, plain::merge_patch_of).await
}

pub(super) async fn crowd(bench: &Arc<Bench>) -> Record {
    let sizes = &bench.sizes;
    let fan = Fan {
        path: format!("{}?watch=true", leases_path("")),
        watchers: sizes.crowd,
        changes: sizes.crowd_changes,
        pause: Duration::from_millis(20),
    };
    self::fan(bench, &fan, |bench, n| {
        let patch = format!("{{\"spec\":{{\"leaseTransitions\":{n}}}}}");
        let mut call = bench.call(Method::PATCH, leases_path(&objects::lease_name(0)), patch.into());
        call.content = "application/merge-patch+json";
        call
    })
    .await
}

/// Opens the watches, makes the changes one after the other, and waits until everybody has seen all of them.
pub(super) async fn fan(bench: &Arc<Bench>, fan: &Fan, change: impl Fn(&Bench, usize) -> Call) -> Record {
    let mut record = Record::default();
    let wires = match watch_wires(bench, fan.watchers).await {
        Ok(wires) => wires,
        Err(why) => {
            record.failed(why, 1);
            return record;
        }
    };
    let Some(writer) = bench.wires().into_iter().next() else {
        return record;
    };
    let version = match newest(bench, &writer, &fan.path).await {
        Ok(version) => version,
        Err(why) => {
            record.failed(why, 1);
            return record;
        }
    };
    let shared = Arc::new(Shared {
        sent: (0..fan.changes).map(|_| OnceLock::new()).collect(),
        begun: Barrier::new(fan.watchers + 1),
        seen: AtomicUsize::new(0),
        watching: AtomicUsize::new(fan.watchers),
        bytes: AtomicU64::new(0),
    });
    let call = bench.get(format!("{}&resourceVersion={version}", fan.path));
    let watchers: Vec<_> = (0..fan.watchers)
        .filter_map(|n| wires.get(n % wires.len().max(1)).cloned())
        .map(|wire| {
            let (call, shared, format) = (call.clone(), shared.clone(), bench.sizes.format);
            tokio::spawn(async move {
                let record = watcher(&wire, &call, format, &shared).await;
                shared.watching.fetch_sub(1, Ordering::Relaxed);
                record
            })
        })
        .collect();
    shared.begun.wait().await;
    say(&format!("  {} watches are open", fan.watchers));
    let mut progress = Progress::begin();
    let began = Instant::now();
    for n in 0..fan.changes {
        progress.tell(|| {
            let seen = shared.seen.load(Ordering::Relaxed);
            format!("{n} of {} changes, {seen} events seen", fan.changes)
        });
        if !fan.pause.is_zero() {
            let at = began + fan.pause * u32::try_from(n).unwrap_or(u32::MAX);
            tokio::time::sleep_until(at.into()).await;
        }
        if let Some(sent) = shared.sent.get(n) {
            let _ = sent.set(Instant::now());
        }
        if let Err(why) = ask(&writer, &change(bench, n), 200, None).await {
            record.failed(format!("a change: {why}"), 1);
        }
    }
    let changed = began.elapsed();
    settle(&shared, fan.watchers * fan.changes).await;
    let all = began.elapsed();
    for watcher in watchers {
        // One that has its all has ended by itself; what another one has seen is counted, and its latencies are lost.
        if !watcher.is_finished() {
            watcher.abort();
        }
        if let Ok(part) = watcher.await {
            record.merge(part);
        }
    }
    let lost = (fan.watchers * fan.changes).saturating_sub(shared.seen.load(Ordering::Relaxed));
    record.failed("lost watch events", lost as u64);
    record.bytes = shared.bytes.load(Ordering::Relaxed);
    record.note = format!(
        "{} watchers, {} changes in {:.2} s, events until {:.2} s; latency is from the change's sending to its event",
        fan.watchers,
        fan.changes,
        changed.as_secs_f64(),
        all.as_secs_f64()
    );
    record
}

/// Waits until all events were seen, or until none has come for long.
async fn settle(shared: &Shared, wanted: usize) {
    let (mut last, mut since) = (0, Instant::now());
    let mut progress = Progress::begin();
    loop {
        let seen = shared.seen.load(Ordering::Relaxed);
        progress.tell(|| format!("{seen} of {wanted} events"));
        if seen >= wanted || since.elapsed() > GRACE {
            return;
        }
        if seen > last {
            (last, since) = (seen, Instant::now());
        }
        // Nobody is left to see more.
        if shared.watching.load(Ordering::Relaxed) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One watcher: sees events until all have come or the stream ends.
async fn watcher(wire: &Wire, call: &Call, format: Format, shared: &Shared) -> Record {
    let mut record = Record::default();
    let opened = wire.open(call).await;
    shared.begun.wait().await;
    let mut body = match opened {
        Ok((200, body)) => body,
        Ok((status, _)) => {
            record.failed(format!("a watch: status {status}"), 1);
            return record;
        }
        Err(broken) => {
            record.failed(format!("a watch: {broken}"), 1);
            return record;
        }
    };
    let (mut frames, mut objects) = (Frames::new(format), Counter::new(MARK));
    let mut seen = 0;
    while seen < shared.sent.len() {
        let piece = match read(&mut body).await {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                record.failed("a watch ended early", 1);
                break;
            }
            Err(broken) => {
                record.failed(format!("a watch: {broken}"), 1);
                break;
            }
        };
        shared.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        let new = frames.see(&piece);
        if new == 0 {
            continue;
        }
        let now = Instant::now();
        for n in seen..seen + new {
            match shared.sent.get(n).and_then(OnceLock::get) {
                Some(sent) => record.answered(now.duration_since(*sent), 0),
                None => record.failed("a watch event that nobody caused", 1),
            }
        }
        seen += new;
        shared.seen.fetch_add(new, Ordering::Relaxed);
        objects.see(&piece);
    }
    let without = (seen as u64).saturating_sub(objects.count);
    record.failed("a watch event without what was changed", without);
    record
}

async fn watch_wires(bench: &Bench, watchers: usize) -> Result<Vec<Wire>, String> {
    let count = watchers.div_ceil(bench.sizes.watches_per_connection.max(1));
    // Where no connection can be made the first one is shared: a test has just that.
    match bench.dialer.dial_many(count).await {
        Ok(wires) => Ok(wires),
        Err(error) => match bench.wires().into_iter().next() {
            Some(wire) if cfg!(test) => Ok(vec![wire]),
            _ => Err(format!("{error:#}")),
        },
    }
}

/// The resource version of a list of what the path names.
async fn newest(bench: &Bench, wire: &Wire, path: &str) -> Result<String, String> {
    let path = path.split('?').next().unwrap_or_default();
    let mut call = bench.get(format!("{path}?limit=1"));
    call.accept = "application/json";
    let (status, body) = wire.fetch(&call).await.map_err(|broken| broken.to_string())?;
    if status != 200 {
        return Err(format!("a list before the watch: status {status}"));
    }
    resource_version(&body)
        .map(str::to_owned)
        .ok_or_else(|| "a list without resourceVersion".to_owned())
}

/// Counts the frames of a watch stream: lines of JSON, or messages with their length before them.
pub(super) struct Frames {
    format: Format,
    /// Of protobuf: bytes of the length read so far, and what is still to come of the message.
    header: Vec<u8>,
    rest: usize,
}

impl Frames {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            header: Vec::new(),
            rest: 0,
        }
    }

    /// How many frames end in this piece.
    pub(super) fn see(&mut self, mut piece: &[u8]) -> usize {
        if self.format == Format::Json {
            return memchr::memchr_iter(b'\n', piece).count();
        }
        let mut ended = 0;
        while !piece.is_empty() {
            if self.rest == 0 {
                let take = piece.len().min(4 - self.header.len());
                let (head, tail) = piece.split_at(take);
                self.header.extend_from_slice(head);
                piece = tail;
                if let Ok(length) = <[u8; 4]>::try_from(self.header.as_slice()) {
                    self.header.clear();
                    self.rest = u32::from_be_bytes(length) as usize;
                    ended += usize::from(self.rest == 0);
                }
                continue;
            }
            let take = piece.len().min(self.rest);
            piece = piece.get(take..).unwrap_or_default();
            self.rest -= take;
            ended += usize::from(self.rest == 0);
        }
        ended
    }
}

/// Makes the storm's secrets.
pub(super) async fn make_secrets(bench: &Arc<Bench>) -> anyhow::Result<()> {
    let sizes = &bench.sizes;
    let record = bench
        .drive(sizes.clients.min(8), sizes.secrets, |bench, wire, n| async move {
            let body = objects::encode(bench.sizes.format, &objects::secret(n, bench.sizes.secret_bytes));
            let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
            match ask(&wire, &bench.call(Method::POST, path, body), 201, None).await {
                Err(why) if why.starts_with("status 409") => Ok(0),
                other => other,
            }
        })
        .await;
    anyhow::ensure!(
        record.errors() == 0,
        "cannot make secrets: {:?}",
        record.reasons()
    );
    Ok(())
}

/// Informers that begin at once: each gets all secrets as events, and the bookmark that ends them.
pub(super) async fn watch_list(bench: &Arc<Bench>) -> Record {
    let sizes = &bench.sizes;
    bench
        .drive(sizes.informers, sizes.informers, |bench, wire, _| async move {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets?{INITIAL}");
            initial_state(&bench, &wire, path, bench.sizes.secrets as u64).await
        })
        .await
}

/// Informers of one node's pods each, among the pods of all.
pub(super) async fn node_informers(bench: &Arc<Bench>) -> Record {
    let sizes = &bench.sizes;
    bench
        .drive(sizes.clients, sizes.node_informers, |bench, wire, n| async move {
            let (pods, each) = (bench.sizes.pods, bench.sizes.pods_per_node.max(1));
            let node = n * 31 % pods.div_ceil(each).max(1);
            let path = format!(
                "/api/v1/pods?{INITIAL}&fieldSelector=spec.nodeName%3D{}",
                node_name(node)
            );
            initial_state(&bench, &wire, path, share(pods, each, node)).await
        })
        .await
}

/// What makes a watch begin with all there is.
const INITIAL: &str =
    "watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";

/// A watch until its initial state has come: so many objects, and the bookmark that ends them.
async fn initial_state(bench: &Bench, wire: &Wire, path: String, wanted: u64) -> Result<u64, String> {
    let broken = |broken: Broken| broken.to_string();
    let (status, mut body) = wire.open(&bench.get(path)).await.map_err(broken)?;
    if status != 200 {
        return Err(format!("status {status} where 200 was expected"));
    }
    let (mut objects, mut end, mut bytes) = (Counter::new(MARK), Counter::new(END), 0u64);
    while end.count == 0 {
        let piece = tokio::time::timeout(PATIENCE, read(&mut body))
            .await
            .map_err(|_| "no event in time")?
            .map_err(broken)?
            .ok_or("the stream ended before the initial state did")?;
        bytes += piece.len() as u64;
        objects.see(&piece);
        end.see(&piece);
    }
    if objects.count != wanted {
        return Err(format!(
            "{} objects where {wanted} were expected, when the initial state ended",
            objects.count
        ));
    }
    Ok(bytes)
}

/// The annotation of the bookmark that ends an initial state.
const END: &str = "initial-events-end";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_wherever_pieces_end() {
        let json = b"{\"type\":\"ADDED\"}\n{\"type\":\"ADDED\"}\n";
        let mut protobuf = Vec::new();
        for length in [3u32, 0, 300] {
            protobuf.extend_from_slice(&length.to_be_bytes());
            protobuf.extend(std::iter::repeat_n(b'\n', length as usize));
        }
        for (format, bytes, want) in [(Format::Json, &json[..], 2), (Format::Protobuf, &protobuf, 3)] {
            for size in [1, 2, 3, 5, 7, 1000] {
                let mut frames = Frames::new(format);
                let count: usize = bytes.chunks(size).map(|piece| frames.see(piece)).sum();
                assert_eq!(count, want, "{format:?} in pieces of {size}");
            }
        }
    }
}
