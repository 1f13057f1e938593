//! The store's contract: what every engine promises, and the types it speaks in.
//!
//! **Revisions.** A store has one clock. Every applied [`Commit`] with at least one effect advances it; all effects of one
//! commit share the revision. Revisions start at 1 in an empty store and never go back, across restarts too.
//!
//! **Durability.** When [`Engine::commit`] returns `Applied`, the effect survives power loss (for the memory engine: the process).
//!
//! **Order.** A watch delivers every effect on keys below its prefix, from the revision asked for, in revision order, each
//! exactly once, or ends with an error. It never skips.

use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;
use thiserror::Error;

/// A point on the store's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The whole key, such as `/registry/pods/default/web`.
    pub key: String,
    /// What was put.
    pub value: Bytes,
    /// The revision of the put that made this value.
    pub modified: Revision,
    /// The revision of the put that made the key.
    pub created: Revision,
}

/// A request for keys in order.
#[derive(Clone, Debug, Default)]
pub struct RangeRequest {
    /// Keys that start with this.
    pub prefix: String,
    /// Only keys strictly after this one: where the page before ended.
    pub after: Option<String>,
    /// As of this revision; now when none.
    pub revision: Option<Revision>,
    /// At most so many; 0 for all.
    pub limit: usize,
    /// Only the count.
    pub count_only: bool,
    /// The count is of no interest, and may be that of the items alone: an engine needn't look beyond the page.
    pub uncounted: bool,
}

/// A page of keys.
#[derive(Clone, Debug, Default)]
pub struct RangeResponse {
    /// The keys and values, ordered by key.
    pub items: Vec<KeyValue>,
    /// Whether keys follow after the last.
    pub more: bool,
    /// How many keys lie in the range after `after`, these included.
    pub count: u64,
    /// The store's revision when it answered (not the one asked for).
    pub revision: Revision,
}

/// A condition of a commit on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The key's last put is of this revision.
    Unchanged(String, Revision),
    /// The key doesn't exist.
    Absent(String),
}

/// An effect of a commit on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Puts a value; with a time to live, the key is deleted (visibly to watchers) that much later.
    Put(String, Bytes, Option<Duration>),
    /// Deletes the key; nothing happens when it is absent.
    Delete(String),
}

/// A transaction: when all guards hold, all effects apply, at one revision.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// All must hold.
    pub guards: Vec<Guard>,
    /// No two on one key.
    pub effects: Vec<Effect>,
}

/// What came of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Applied and durable.
    Applied(Revision),
    /// A guard failed. What the guarded keys hold now, in the guards' order.
    Refused(Vec<Option<KeyValue>>),
}

/// A change seen by a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The new value; none for a delete.
    pub value: Option<Bytes>,
    /// When.
    pub revision: Revision,
    /// The revision of the put that made the key; of the delete's victim for a delete where the engine knows it.
    pub created: Revision,
}

/// What a watch delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// All effects of one or more revisions, complete up to and including `through`.
    Changes {
        /// In revision order.
        changes: Vec<Change>,
        /// Every change at or before this revision has been delivered.
        through: Revision,
    },
    /// Nothing changed up to and including this revision.
    Progress(Revision),
}

/// A running watch. Dropping it ends it.
#[async_trait]
pub trait Watch: Send {
    /// The next event. After an error the watch is over.
    async fn next(&mut self) -> Result<WatchEvent, StoreError>;
}

/// Why the store could not do as asked.
#[derive(Debug, Error, Clone)]
pub enum StoreError {
    /// The revision asked for has been compacted away.
    #[error("revision {asked} has been compacted; the oldest kept is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest that can be asked for.
        oldest: Revision,
    },
    /// The revision asked for lies ahead of the store's clock.
    #[error("revision {asked} is ahead of the store, which is at {current}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// The clock.
        current: Revision,
    },
    /// The store can't be reached or didn't answer in time; the effect of a commit is unknown.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The value is larger than the store takes.
    #[error("the value of {key} has {size} bytes; the store takes {max}")]
    TooLarge {
        /// The key.
        key: String,
        /// Its value's size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The value is stored in a form that can't be read, such as encrypted with a key that is missing.
    #[error("unable to transform key {key:?}: {why}")]
    Unreadable {
        /// The key.
        key: String,
        /// Why it can't be read.
        why: String,
    },
    /// The value can't be brought into the form in which it is to be stored. Nothing was written.
    #[error("{key:?} cannot be stored: {why}")]
    Unwritable {
        /// The key.
        key: String,
        /// Why.
        why: String,
    },
    /// The store is broken, full or misconfigured: a person must act.
    #[error("the store failed: {0}")]
    Fatal(String),
}

/// A store engine. Cheap to call from many tasks at once.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// One key, now.
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError>;

    /// Keys in order.
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError>;

    /// Applies a transaction. Linearizable.
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError>;

    /// Watches keys below `prefix` from `from` inclusive; [`StoreError::Compacted`] when that is gone.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Box<dyn Watch>, StoreError>;

    /// The clock, linearizable: every commit acknowledged before the call is at or before it.
    async fn revision(&self) -> Result<Revision, StoreError>;

    /// The clock as [`Engine::revision`] gives it, where the engine knows it without asking anybody.
    fn known_revision(&self) -> Option<Revision> {
        None
    }

    /// Forgets history before `at`: later reads and watches from before it fail with [`StoreError::Compacted`].
    async fn compact(&self, at: Revision) -> Result<(), StoreError>;

    /// Whether a key's value should be written again though it stays the same: it isn't stored as it would be now.
    async fn is_stale(&self, _key: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// The first key with this prefix whose value was found but cannot be read, and why; as of what watches and ranges have come by.
    fn unreadable(&self, _prefix: &str) -> Option<(String, String)> {
        None
    }
}
