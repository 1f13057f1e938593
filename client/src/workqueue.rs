//! A work queue of keys: a key waits at most once, is never handed to two workers at once, and comes back with growing delay when its
//! work failed.

use parking_lot::Mutex;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The delay after the first failure; it doubles with each further one.
pub const BASE_DELAY: Duration = Duration::from_millis(5);
/// The longest delay.
pub const MAX_DELAY: Duration = Duration::from_secs(1000);

struct State<K> {
    ready: VecDeque<(K, Instant)>,
    // Keys that wait in `ready`, or came again while being worked on.
    dirty: HashSet<K>,
    working: HashSet<K>,
    later: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    sequence: u64,
    failures: HashMap<K, u32>,
}

struct Inner<K> {
    name: String,
    state: Mutex<State<K>>,
    changed: Notify,
    metrics: Metrics,
}

/// A work queue. Cheap to clone; all clones are the same queue.
pub struct WorkQueue<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

/// What is to become of a key after its work succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requeue {
    /// Nothing until it is added again.
    #[default]
    Done,
    /// It comes again after this time.
    After(Duration),
    /// It comes again with the delay of a failure, without being logged as one.
    Backoff,
}

impl<K: Hash + Eq + Clone + Debug + Send + 'static> WorkQueue<K> {
    /// A queue whose metrics carry `name`.
    pub fn new(name: &str) -> Self {
        Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                state: Mutex::new(State {
                    ready: VecDeque::new(),
                    dirty: HashSet::new(),
                    working: HashSet::new(),
                    later: BTreeMap::new(),
                    due: HashMap::new(),
                    sequence: 0,
                    failures: HashMap::new(),
                }),
                changed: Notify::new(),
                metrics: metrics().clone(),
            }),
        }
    }

    /// Adds a key now; nothing happens when it waits already. One that is being worked on comes again afterwards.
    pub fn add(&self, key: K) {
        self.add_locked(&mut self.inner.state.lock(), key);
    }

    /// Adds a key after a delay; the earlier of two delays counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.inner.state.lock();
        let at = Instant::now() + delay;
        if let Some(slot) = state.due.get(&key).copied() {
            if slot.0 <= at {
                return;
            }
            state.later.remove(&slot);
        }
        state.sequence += 1;
        let slot = (at, state.sequence);
        state.later.insert(slot, key.clone());
        state.due.insert(key, slot);
        drop(state);
        self.inner.changed.notify_one();
    }

    /// Adds a key after a delay that doubles with each call until [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, key: K) {
        let delay = {
            let mut state = self.inner.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let delay = BASE_DELAY.saturating_mul(1 << (*failures).min(20)).min(MAX_DELAY);
            *failures += 1;
            delay
        };
        self.inner
            .metrics
            .retries
            .with_label_values(&[&self.inner.name])
            .inc();
        self.add_after(key, delay);
    }

    /// Ends a key's growing delays.
    pub fn forget(&self, key: &K) {
        self.inner.state.lock().failures.remove(key);
    }

    /// How often in a row the key's work has failed.
    pub fn failures(&self, key: &K) -> u32 {
        self.inner.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// How many keys are ready.
    pub fn len(&self) -> usize {
        self.inner.state.lock().ready.len()
    }

    /// Whether no key is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next key. It must be given back by [`WorkQueue::done`].
    pub async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.inner.state.lock();
                let now = Instant::now();
                while let Some(slot) = state.later.keys().next().copied().filter(|slot| slot.0 <= now) {
                    if let Some(key) = state.later.remove(&slot) {
                        state.due.remove(&key);
                        self.add_locked(&mut state, key);
                    }
                }
                if let Some((key, since)) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    if !state.ready.is_empty() {
                        self.inner.changed.notify_one();
                    }
                    let name = [self.inner.name.as_str()];
                    self.inner
                        .metrics
                        .depth
                        .with_label_values(&name)
                        .set(state.ready.len() as i64);
                    self.inner
                        .metrics
                        .waited
                        .with_label_values(&name)
                        .observe((now - since).as_secs_f64());
                    return key;
                }
                state.later.keys().next().map(|slot| slot.0)
            };
            match due {
                None => self.inner.changed.notified().await,
                Some(at) => tokio::select! {
                    () = self.inner.changed.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }

    /// Gives a key back after its work.
    pub fn done(&self, key: &K) {
        let mut state = self.inner.state.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back((key.clone(), Instant::now()));
            self.inner.changed.notify_one();
        }
    }

    fn add_locked(&self, state: &mut State<K>, key: K) {
        if !state.dirty.insert(key.clone()) {
            return;
        }
        let name = [self.inner.name.as_str()];
        self.inner.metrics.adds.with_label_values(&name).inc();
        if !state.working.contains(&key) {
            state.ready.push_back((key, Instant::now()));
            self.inner
                .metrics
                .depth
                .with_label_values(&name)
                .set(state.ready.len() as i64);
            self.inner.changed.notify_one();
        }
    }
}

/// Works through a queue with `workers` at once until `stop`. A handler's error is logged and its key comes back with growing delay; a panic
/// in a handler counts as an error.
pub async fn run_workers<K, F, Fut>(queue: WorkQueue<K>, workers: usize, stop: CancellationToken, handler: F)
where
    K: Hash + Eq + Clone + Debug + Send + Sync + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<Requeue>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let tasks: Vec<_> = (0..workers.max(1))
        .map(|_| {
            let (queue, stop, handler) = (queue.clone(), stop.clone(), handler.clone());
            tokio::spawn(async move {
                loop {
                    let key = tokio::select! {
                        () = stop.cancelled() => return,
                        key = queue.next() => key,
                    };
                    work(&queue, key, &*handler).await;
                }
            })
        })
        .collect();
    for task in tasks {
        let _ = task.await;
    }
}

async fn work<K, F, Fut>(queue: &WorkQueue<K>, key: K, handler: &F)
where
    K: Hash + Eq + Clone + Debug + Send + 'static,
    F: Fn(K) -> Fut,
    Fut: Future<Output = anyhow::Result<Requeue>> + Send + 'static,
{
    let began = Instant::now();
    // A task of its own, so that a panic is an error of one key and not the end of the worker.
    let result = match tokio::spawn(handler(key.clone())).await {
        Ok(result) => result,
        Err(error) => Err(anyhow::anyhow!("the handler failed: {error}")),
    };
    queue
        .inner
        .metrics
        .worked
        .with_label_values(&[&queue.inner.name])
        .observe(began.elapsed().as_secs_f64());
    match result {
        Ok(Requeue::Done) => queue.forget(&key),
        Ok(Requeue::After(delay)) => {
            queue.forget(&key);
            queue.add_after(key.clone(), delay);
        }
        Ok(Requeue::Backoff) => queue.add_rate_limited(key.clone()),
        Err(error) => {
            tracing::warn!(queue = queue.inner.name, key = ?key, "{error:#}");
            queue.add_rate_limited(key.clone());
        }
    }
    queue.done(&key);
}

#[derive(Clone)]
struct Metrics {
    depth: IntGaugeVec,
    adds: IntCounterVec,
    retries: IntCounterVec,
    waited: HistogramVec,
    worked: HistogramVec,
}

fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics::new(prometheus::default_registry()))
}

impl Metrics {
    // The names and options below are constants that prometheus accepts; a clash of names would be ours and shows in any test.
    #[allow(clippy::unwrap_used)]
    fn new(registry: &Registry) -> Self {
        let name = ["name"];
        let metrics = Self {
            depth: IntGaugeVec::new(Opts::new("workqueue_depth", "Keys that are ready"), &name).unwrap(),
            adds: IntCounterVec::new(Opts::new("workqueue_adds_total", "Keys added"), &name).unwrap(),
            retries: IntCounterVec::new(Opts::new("workqueue_retries_total", "Keys that came back"), &name)
                .unwrap(),
            waited: HistogramVec::new(
                HistogramOpts::new("workqueue_queue_duration_seconds", "Time that keys were ready"),
                &name,
            )
            .unwrap(),
            worked: HistogramVec::new(
                HistogramOpts::new("workqueue_work_duration_seconds", "Time of work on a key"),
                &name,
            )
            .unwrap(),
        };
        for collector in [
            Box::new(metrics.depth.clone()) as Box<dyn prometheus::core::Collector>,
            Box::new(metrics.adds.clone()),
            Box::new(metrics.retries.clone()),
            Box::new(metrics.waited.clone()),
            Box::new(metrics.worked.clone()),
        ] {
            let _ = registry.register(collector);
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_comes_again_when_added_during_its_work() {
        let queue = WorkQueue::new("test-once");
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.len(), 1);
        let key = queue.next().await;
        queue.add("a");
        assert!(queue.is_empty(), "not handed out while worked on");
        queue.done(&key);
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn delays_double_and_end_when_forgotten() {
        let queue = WorkQueue::new("test-delay");
        let mut waits = Vec::new();
        for _ in 0..3 {
            let began = Instant::now();
            queue.add_rate_limited(1);
            let key = queue.next().await;
            waits.push((Instant::now() - began).as_millis());
            queue.done(&key);
        }
        assert_eq!(waits, [5, 10, 20]);
        queue.forget(&1);
        assert_eq!(queue.failures(&1), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_delays_counts() {
        let queue = WorkQueue::new("test-earlier");
        let began = Instant::now();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(2));
        queue.add_after("a", Duration::from_secs(5));
        queue.next().await;
        assert_eq!(began.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_panics_come_back_and_workers_live_on() {
        let queue = WorkQueue::new("test-panic");
        let stop = CancellationToken::new();
        let calls = Arc::new(AtomicUsize::new(0));
        queue.add("k");
        let (seen, end) = (calls.clone(), stop.clone());
        run_workers(queue, 2, stop, move |_| {
            let (seen, end) = (seen.clone(), end.clone());
            async move {
                match seen.fetch_add(1, Ordering::SeqCst) {
                    0 => anyhow::bail!("not now"),
                    1 => panic!("worse"),
                    _ => end.cancel(),
                }
                Ok(Requeue::Done)
            }
        })
        .await;
        assert_eq!(calls.load(Ordering::SeqCst), 3);
    }
}
