//! The cache as its users see it: registering resources, reading, waiting, watching.

use super::entry::{Decoder, Entry};
use super::feed::Feed;
use super::metrics::CacheMetrics;
use super::question::Question;
use super::resource::{Resource, undo};
use super::snapshot::Snapshot;
use super::subscription::{From, Scope, Subscribe, Subscription};
use crate::{Engine, Revision, StoreError};
use ahash::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How the cache behaves. The default is what production uses.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a read waits for the cache to reach a revision.
    pub wait: Duration,
    /// How many bytes of superseded state, packed, the history may hold at least.
    pub history_bytes: usize,
    /// The history may hold this fraction (one in so many) of the live bytes when that is more; 0 for never.
    pub history_share: usize,
    /// How many events of one resource are kept at most.
    pub history_events: usize,
    /// How many keys are loaded at once.
    pub page: usize,
    /// The first and the longest pause after an engine's error.
    pub backoff: (Duration, Duration),
    /// Where metrics go.
    pub metrics: CacheMetrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(3),
            history_bytes: 6 << 20,
            history_share: 8,
            history_events: 20_000,
            page: 1000,
            backoff: (Duration::from_millis(50), Duration::from_secs(5)),
            metrics: CacheMetrics::default(),
        }
    }
}

/// Why the cache could not do as asked.
#[derive(Clone, Debug, Error)]
pub enum CacheError {
    /// No registered resource has this prefix.
    #[error("nothing is served at {0}")]
    NotServed(String),
    /// The revision asked for is older than the history kept.
    #[error("revision {asked} is too old; the oldest kept is {oldest}")]
    Expired {
        /// What was asked for.
        asked: Revision,
        /// The oldest that can be asked for.
        oldest: Revision,
    },
    /// The revision asked for is ahead of the cache.
    #[error("revision {asked} is ahead of the cache, which is at {current}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The cache's clock.
        current: Revision,
    },
    /// The watcher fell behind the history and was cut off.
    #[error("the watcher fell too far behind and was cut off")]
    TooSlow,
    /// The cache didn't reach a revision in time.
    #[error("timed out waiting for the cache to reach revision {wanted}; it is at {current}")]
    Timeout {
        /// The revision waited for.
        wanted: Revision,
        /// The cache's clock.
        current: Revision,
    },
    /// The store didn't say where its clock stands.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cache hasn't loaded yet.
    #[error("the cache is still loading")]
    Loading,
}

/// An object that can't be served because its stored value doesn't decode.
#[derive(Clone, Debug)]
pub struct Quarantined {
    /// Its key.
    pub key: String,
    /// The revision of the undecodable value.
    pub revision: Revision,
    /// What the decoder said.
    pub error: String,
}

/// The watch cache. Dropping it stops the feed.
pub struct WatchCache {
    shared: Arc<Shared>,
    question: Question,
    _stop: DropGuard,
}

/// What the feed and the readers share.
pub(crate) struct Shared {
    pub(crate) root: String,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) decoder: Arc<dyn Decoder>,
    pub(crate) options: Options,
    pub(crate) resources: RwLock<HashMap<Box<str>, Arc<Resource>>>,
    pub(crate) feed: Feed,
}

impl Shared {
    /// The resource a key belongs to: the longest registered folder it lies in.
    pub(crate) fn resource_of(&self, key: &str) -> Option<Arc<Resource>> {
        let resources = self.resources.read();
        let folders = memchr::memrchr_iter(b'/', key.as_bytes());
        folders
            .filter_map(|at| key.get(..=at))
            .find_map(|folder| resources.get(folder))
            .cloned()
    }
}

impl WatchCache {
    /// Starts to follow everything below `root` (`/registry/`). Returns at once; [`WatchCache::ready`] tells when it has loaded.
    /// Must be called within a tokio runtime.
    pub fn start(engine: Arc<dyn Engine>, root: &str, decoder: Arc<dyn Decoder>, options: Options) -> Self {
        let stop = CancellationToken::new();
        let question = Question::start(engine.clone(), stop.clone());
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            engine,
            decoder,
            options,
            resources: RwLock::default(),
            feed: Feed::default(),
        });
        tokio::spawn(super::feed::follow(shared.clone(), stop.clone()));
        Self {
            shared,
            question,
            _stop: stop.drop_guard(),
        }
    }

    /// Serves the resource whose keys lie below `prefix` (ending in `/`), now or again; `fields` are hash-indexed by value.
    /// Objects that arrived before are decoded now. Group and name label its metrics.
    pub fn register(&self, prefix: &str, group: &str, name: &str, fields: &[&str]) {
        super::feed::register(&self.shared, prefix, group, name, fields);
    }

    /// Serves the resource no longer; its watchers end with [`CacheError::NotServed`].
    pub fn deregister(&self, prefix: &str) {
        if let Some(resource) = self.shared.resources.read().get(prefix) {
            resource.state.write().serve(false, &[]);
        }
    }

    /// Makes the entries of a resource anew from what is stored, because the decoder sees it differently now. Watchers are told
    /// nothing: the objects did not change.
    pub async fn redecode(&self, prefix: &str) -> Result<(), StoreError> {
        super::feed::redecode(&self.shared, prefix).await
    }

    /// Whether it has loaded.
    pub fn is_ready(&self) -> bool {
        self.revision() > Revision(0)
    }

    /// Waits until it has loaded.
    pub async fn ready(&self) {
        self.shared.feed.clock().reach(Revision(1)).await;
    }

    /// How far it has come.
    pub fn revision(&self) -> Revision {
        self.shared.feed.now()
    }

    /// Waits until the cache has everything that was committed before the call. Concurrent callers share questions to the store.
    pub async fn consistent(&self) -> Result<Revision, CacheError> {
        let timer = std::time::Instant::now();
        if let Some(wanted) = self.shared.engine.known_revision() {
            let reached = self.wait_for(wanted).await;
            self.shared
                .options
                .metrics
                .consistent_read(reached.is_ok(), timer.elapsed());
            return reached;
        }
        let asked = tokio::time::timeout(self.shared.options.wait, self.question.ask()).await;
        let wanted = match asked {
            Ok(answer) => answer?,
            Err(_) => {
                let wait = format!(
                    "no answer about its revision within {:?}",
                    self.shared.options.wait
                );
                return Err(StoreError::Unavailable(wait).into());
            }
        };
        let reached = self.wait_for(wanted).await;
        self.shared
            .options
            .metrics
            .consistent_read(reached.is_ok(), timer.elapsed());
        reached
    }

    /// Waits until the cache has reached a revision.
    pub async fn wait_for(&self, wanted: Revision) -> Result<Revision, CacheError> {
        let now = self.revision();
        if now >= wanted.max(Revision(1)) {
            return Ok(now);
        }
        let mut clock = self.shared.feed.clock();
        match tokio::time::timeout(self.shared.options.wait, clock.reach(wanted.max(Revision(1)))).await {
            Ok(reached) => Ok(reached),
            Err(_) => Err(CacheError::Timeout {
                wanted,
                current: clock.now(),
            }),
        }
    }

    /// The object with this key, as of now.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        let resource = self.shared.resource_of(key)?;
        let state = resource.state.read();
        if !state.served {
            return None;
        }
        state.objects().get(key).map(|found| found.0.clone())
    }

    /// A resource's objects, as of now.
    pub fn snapshot(&self, prefix: &str) -> Result<Snapshot, CacheError> {
        let resource = self.resource(prefix)?;
        let state = resource.state.read();
        let revision = state.revision(self.revision());
        Ok(Snapshot::new(state.objects().clone(), revision))
    }

    /// A resource's objects as they were at a revision.
    pub fn snapshot_at(&self, prefix: &str, at: Revision) -> Result<Snapshot, CacheError> {
        let resource = self.resource(prefix)?;
        let (objects, later) = {
            let state = resource.state.read();
            let current = state.revision(self.revision());
            if at > current {
                return Err(CacheError::Future { asked: at, current });
            }
            state
                .undo_to(at)
                .map_err(|oldest| CacheError::Expired { asked: at, oldest })?
        };
        Ok(Snapshot::new(undo(objects, &later), at))
    }

    /// How many objects of a resource there are, and their bytes together. None while it isn't served. Costs no more than a lock.
    pub fn size(&self, prefix: &str) -> Option<(usize, usize)> {
        let resource = self.resource(prefix).ok()?;
        let state = resource.state.read();
        Some((state.objects().len(), state.bytes()))
    }

    /// The revision of the last change of a resource's objects (or of their load): what an index over them is valid for. None while
    /// the resource isn't served.
    pub fn changed(&self, prefix: &str) -> Option<Revision> {
        let resource = self.resource(prefix).ok()?;
        let state = resource.state.read();
        Some(state.changed())
    }

    /// The objects of a resource whose indexed field has this value, as of now. The cost follows the matches; for a field that isn't
    /// indexed, the resource's size.
    pub fn lookup(&self, prefix: &str, field: &str, value: &str) -> Result<Snapshot, CacheError> {
        if let Some(found) = self.lookup_indexed(prefix, field, value)? {
            return Ok(found);
        }
        let all = self.snapshot(prefix)?;
        let matching = all
            .entries()
            .filter(|found| found.0.index.field(field) == Some(value));
        Ok(Snapshot::new(matching.cloned().collect(), all.revision()))
    }

    /// As [`WatchCache::lookup`], or none when the field isn't indexed.
    pub fn lookup_indexed(
        &self,
        prefix: &str,
        field: &str,
        value: &str,
    ) -> Result<Option<Snapshot>, CacheError> {
        let resource = self.resource(prefix)?;
        let state = resource.state.read();
        let revision = state.revision(self.revision());
        Ok(state
            .lookup(field, value)
            .map(|objects| Snapshot::new(objects, revision)))
    }

    /// Watches.
    pub fn subscribe(&self, request: Subscribe) -> Result<Subscription, CacheError> {
        let (Scope::Prefix(place) | Scope::Key(place)) = &request.scope;
        let not_served = || CacheError::NotServed(place.clone());
        let resource = self.shared.resource_of(place).ok_or_else(not_served)?;
        let clock = self.shared.feed.clock();
        let current = clock.now();
        if current == Revision(0) {
            return Err(CacheError::Loading);
        }
        if let From::After(asked) = request.from
            && asked > resource.state.read().revision(current)
        {
            return Err(CacheError::Future { asked, current });
        }
        Subscription::open(resource, request, clock, self.shared.options.metrics.clone())
    }

    /// The objects that can't be served.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.shared.feed.quarantined()
    }

    fn resource(&self, prefix: &str) -> Result<Arc<Resource>, CacheError> {
        let found = self.shared.resources.read().get(prefix).cloned();
        match found {
            Some(_) if !self.is_ready() => Err(CacheError::Loading),
            Some(resource) if resource.state.read().served => Ok(resource),
            _ => Err(CacheError::NotServed(prefix.to_owned())),
        }
    }
}

impl std::fmt::Debug for WatchCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchCache")
            .field("root", &self.shared.root)
            .field("revision", &self.revision())
            .finish()
    }
}
