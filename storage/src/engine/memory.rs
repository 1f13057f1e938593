//! The memory engine: for tests, and for a store that may die with its process.
//!
//! Guarantee: the whole contract but durability. History is kept until compacted, and at most 100,000 revisions of it.
//! Time to live runs on tokio's clock, so tests can pause it.

use crate::{
    Change, Commit, Effect, Engine, Guard, KeyValue, Outcome, RangeRequest, RangeResponse, Revision,
    StoreError, Watch, WatchEvent,
};
use async_trait::async_trait;
use parking_lot::RwLock;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How many revisions of history are kept.
const HISTORY: usize = 100_000;
/// etcd's default limit of a request.
const MAX_VALUE: usize = 3 << 19;
/// At most so many revisions in one event.
const BATCH: usize = 1000;

/// A store in memory. Clones are the same store.
#[derive(Clone)]
pub struct MemoryEngine {
    store: Arc<Store>,
}

struct Store {
    state: RwLock<State>,
    clock: watch::Sender<Revision>,
}

struct State {
    revision: Revision,
    oldest: Revision,
    objects: BTreeMap<String, KeyValue>,
    log: VecDeque<Record>,
}

/// What one revision changed, with what was there before.
struct Record {
    revision: Revision,
    changes: Vec<(Change, Option<KeyValue>)>,
}

struct MemoryWatch {
    store: Arc<Store>,
    prefix: String,
    next: Revision,
    clock: watch::Receiver<Revision>,
    first: bool,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryEngine {
    /// An empty store.
    pub fn new() -> Self {
        let start = Revision(1);
        let state = State {
            revision: start,
            oldest: start,
            objects: BTreeMap::new(),
            log: VecDeque::new(),
        };
        Self {
            store: Arc::new(Store {
                state: RwLock::new(state),
                clock: watch::Sender::new(start),
            }),
        }
    }

    /// Deletes the key after its time unless it was put again since.
    fn expire_later(&self, key: String, put: Revision, after: Duration) {
        let store = Arc::downgrade(&self.store);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let Some(store) = store.upgrade() else { return };
            let guards = vec![Guard::Unchanged(key.clone(), put)];
            store.commit(Commit {
                guards,
                effects: vec![Effect::Delete(key)],
            });
        });
    }
}

impl Store {
    fn commit(&self, commit: Commit) -> Outcome {
        let outcome = self.state.write().commit(commit);
        if let Outcome::Applied(revision) = outcome {
            self.clock.send_if_modified(|clock| {
                let ahead = revision > *clock;
                *clock = revision.max(*clock);
                ahead
            });
        }
        outcome
    }
}

impl State {
    fn commit(&mut self, commit: Commit) -> Outcome {
        let holds = |guard: &Guard| match guard {
            Guard::Unchanged(key, at) => self.objects.get(key).is_some_and(|found| found.modified == *at),
            Guard::Absent(key) => !self.objects.contains_key(key),
        };
        if !commit.guards.iter().all(holds) {
            let key = |guard: &Guard| match guard {
                Guard::Unchanged(key, _) | Guard::Absent(key) => self.objects.get(key).cloned(),
            };
            return Outcome::Refused(commit.guards.iter().map(key).collect());
        }
        let revision = Revision(self.revision.0 + 1);
        let changes: Vec<_> = commit
            .effects
            .into_iter()
            .filter_map(|effect| self.effect(effect, revision))
            .collect();
        if changes.is_empty() {
            return Outcome::Applied(self.revision);
        }
        self.revision = revision;
        self.log.push_back(Record { revision, changes });
        if self.log.len() > HISTORY {
            self.log.pop_front();
            self.oldest = self.log.front().map_or(revision, |record| record.revision);
        }
        Outcome::Applied(revision)
    }

    fn effect(&mut self, effect: Effect, revision: Revision) -> Option<(Change, Option<KeyValue>)> {
        match effect {
            Effect::Put(key, value, _) => {
                let before = self.objects.get(&key).cloned();
                let created = before.as_ref().map_or(revision, |before| before.created);
                let now = KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                    modified: revision,
                    created,
                };
                self.objects.insert(key.clone(), now);
                Some((
                    Change {
                        key,
                        value: Some(value),
                        revision,
                        created,
                    },
                    before,
                ))
            }
            Effect::Delete(key) => {
                let before = self.objects.remove(&key)?;
                let created = before.created;
                Some((
                    Change {
                        key,
                        value: None,
                        revision,
                        created,
                    },
                    Some(before),
                ))
            }
        }
    }

    fn check(&self, asked: Revision) -> Result<(), StoreError> {
        if asked < self.oldest {
            return Err(StoreError::Compacted {
                asked,
                oldest: self.oldest,
            });
        }
        Ok(())
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, StoreError> {
        let at = request.revision.unwrap_or(self.revision);
        if at > self.revision {
            return Err(StoreError::Future {
                asked: at,
                current: self.revision,
            });
        }
        self.check(at)?;
        let inside = |key: &str| {
            key.starts_with(&request.prefix) && request.after.as_deref().is_none_or(|after| key > after)
        };
        // What the keys changed since then held at that time: the first change after it knows.
        let mut then: BTreeMap<&str, Option<&KeyValue>> = BTreeMap::new();
        let first = self.log.partition_point(|record| record.revision <= at);
        for (change, before) in self.log.range(first..).flat_map(|record| &record.changes) {
            if inside(&change.key) {
                then.entry(&change.key).or_insert(before.as_ref());
            }
        }
        let low = match request.after.as_deref() {
            Some(after) if after >= request.prefix.as_str() => Bound::Excluded(after),
            _ => Bound::Included(request.prefix.as_str()),
        };
        let from = self.objects.range::<str, _>((low, Bound::Unbounded));
        for (key, found) in from.take_while(|(key, _)| key.starts_with(&request.prefix)) {
            then.entry(key).or_insert(Some(found));
        }
        let mut response = RangeResponse {
            revision: self.revision,
            ..Default::default()
        };
        for found in then.into_values().flatten() {
            response.count += 1;
            if request.count_only {
                continue;
            }
            if request.limit > 0 && response.items.len() == request.limit {
                response.more = true;
                continue;
            }
            response.items.push(found.clone());
        }
        Ok(response)
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        Ok(self.store.state.read().objects.get(key).cloned())
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.store.state.read().range(&request)
    }

    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        super::check_sizes(&commit, MAX_VALUE)?;
        let dying: Vec<_> = commit.effects.iter().filter_map(super::time_to_live).collect();
        let outcome = self.store.commit(commit);
        if let Outcome::Applied(revision) = &outcome {
            for (key, after) in dying {
                self.expire_later(key, *revision, after);
            }
        }
        Ok(outcome)
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.store.state.read().check(from)?;
        let clock = self.store.clock.subscribe();
        let store = self.store.clone();
        Ok(Box::new(MemoryWatch {
            store,
            prefix: prefix.to_owned(),
            next: from,
            clock,
            first: true,
        }))
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.store.state.read().revision)
    }

    fn known_revision(&self) -> Option<Revision> {
        Some(self.store.state.read().revision)
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        let mut state = self.store.state.write();
        if at > state.revision {
            return Err(StoreError::Future {
                asked: at,
                current: state.revision,
            });
        }
        state.oldest = state.oldest.max(at);
        let gone = state.log.partition_point(|record| record.revision < at);
        state.log.drain(..gone);
        Ok(())
    }
}

#[async_trait]
impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        loop {
            self.clock.borrow_and_update();
            if let Some(event) = self.read()? {
                self.first = false;
                return Ok(event);
            }
            if self.clock.changed().await.is_err() {
                return Err(StoreError::Unavailable("the store is gone".into()));
            }
        }
    }
}

impl MemoryWatch {
    fn read(&mut self) -> Result<Option<WatchEvent>, StoreError> {
        let state = self.store.state.read();
        state.check(self.next)?;
        let first = state.log.partition_point(|record| record.revision < self.next);
        let mut changes = Vec::new();
        let mut through = state.revision;
        for (count, record) in state.log.range(first..).enumerate() {
            if count == BATCH {
                through = Revision(record.revision.0 - 1);
                break;
            }
            let inside = record
                .changes
                .iter()
                .map(|(change, _)| change)
                .filter(|c| c.key.starts_with(&self.prefix));
            changes.extend(inside.cloned());
        }
        if through < self.next && !(self.first && through.0 + 1 == self.next.0) {
            return Ok(None);
        }
        self.next = self.next.max(Revision(through.0 + 1));
        Ok(Some(match changes.is_empty() {
            true => WatchEvent::Progress(through),
            false => WatchEvent::Changes { changes, through },
        }))
    }
}
