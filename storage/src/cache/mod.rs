//! The watch cache: every object below a root, kept as served bytes beside a small index, fed by one watch.
//!
//! **One clock.** One stream over the whole root feeds all resources, so a single revision says how far the cache has come.
//! [`WatchCache::consistent`] asks the engine where its clock stands (all who ask meanwhile share the next answer) and waits
//! for the cache to get there: no read goes to the store for data.
//!
//! **Snapshots are pointers.** A resource's objects live in a persistent ordered set, so [`WatchCache::snapshot`] costs a counter
//! and is exact at its revision. [`WatchCache::snapshot_at`] takes back later events from the history.
//!
//! **The history is the queue.** Watchers hold a position in a shared ring of events, nothing else: dispatch appends and wakes.
//! A watcher that falls behind the ring is cut off with an error; it delays nobody and loses nothing silently.
//!
//! The cache knows no kind: a [`Decoder`] makes entries of stored values. It deliberately never writes to the store.

mod body;
mod entry;
mod event;
mod feed;
mod metrics;
mod question;
mod resource;
mod signature;
mod snapshot;
mod splice;
mod subscription;
#[cfg(test)]
mod tests;
mod watch_cache;

pub use entry::{Atom, DecodeError, Decoder, Entry, Index, Interner};
pub use event::{Event, EventType, FRAME_SLOTS};
pub use metrics::CacheMetrics;
pub use signature::Signature;
pub use snapshot::Snapshot;
pub use splice::{SpliceError, splice_resource_version};
pub use subscription::{Delivery, Filter, From, Interest, Scope, Subscribe, Subscription};
pub use watch_cache::{CacheError, Options, Quarantined, WatchCache};
