//! The embedded engine: a store in one file, for one machine.
//!
//! Guarantee: the whole contract. One writer thread puts concurrent commits into one fsync ([`writer`]); the file survives
//! `kill -9` and power loss at any point. History is on disk too, so a watch can resume across a restart; it is forgotten by age and count.
//! A damaged or foreign file, or one that another process holds, is refused at start. It deliberately has no network and no replica.

mod tables;
mod writer;

use crate::{
    Change, Commit, Engine, KeyValue, Outcome, RangeRequest, RangeResponse, Revision, StoreError, Watch,
    WatchEvent,
};
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use redb::{Database, DatabaseError, ReadableDatabase, TableHandle};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;
use tables::{COMPACTED, EXPIRY, FORMAT, KEYS, LOG, META, Place, REVISION, View, failed};
use tokio::sync::{oneshot, watch};
use writer::{Order, Writer};

/// How many changes a watch reads from the file at once.
const READ: usize = 1000;
/// How many bytes of the newest changes are kept in memory for watches.
const RECENT_BYTES: usize = 1 << 20;

/// How the engine behaves.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The largest value taken, in bytes. Default: etcd's 1.5 MiB.
    pub max_value: usize,
    /// How long history is kept at least; twice as long at most. Default: 5 minutes.
    pub history_age: Duration,
    /// How many revisions of history are kept at most, give or take an eighth. Default: 200,000.
    pub history_revisions: u64,
    /// How many bytes of the file are cached in memory. Default: 2 MiB.
    pub cache_bytes: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            max_value: 3 << 19,
            history_age: Duration::from_secs(300),
            history_revisions: 200_000,
            cache_bytes: 2 << 20,
        }
    }
}

/// A store in one file. Dropping it waits for the writer to finish what is queued.
pub struct EmbeddedEngine {
    core: Arc<Core>,
    orders: Sender<Order>,
    writer: Mutex<Option<JoinHandle<()>>>,
    max_value: usize,
}

/// What the writer, the readers and the watches share.
struct Core {
    database: Database,
    clock: watch::Sender<Revision>,
    recent: RwLock<Recent>,
    /// Set when writing failed: a person must act, so nothing more is accepted.
    failure: RwLock<Option<StoreError>>,
}

/// The newest changes. Everything after `floor` is here.
struct Recent {
    floor: Revision,
    compacted: Revision,
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
}

/// The changes of one transaction.
struct Batch {
    first: Revision,
    last: Revision,
    changes: Vec<Change>,
    bytes: usize,
}

struct EmbeddedWatch {
    core: Arc<Core>,
    prefix: String,
    next: Revision,
    clock: watch::Receiver<Revision>,
    first: bool,
}

impl EmbeddedEngine {
    /// Opens the file, or makes it. Blocks while a file that wasn't closed properly is checked.
    pub fn open(path: &Path, options: EmbeddedOptions) -> Result<Self, StoreError> {
        let database = open(path, &options)?;
        let core = Core {
            database,
            clock: watch::Sender::new(Revision(1)),
            recent: RwLock::new(Recent {
                floor: Revision(1),
                compacted: Revision(1),
                batches: VecDeque::new(),
                bytes: 0,
            }),
            failure: RwLock::new(None),
        };
        let view = core.view()?;
        core.clock.send_replace(view.revision);
        {
            let mut recent = core.recent.write();
            (recent.floor, recent.compacted) = (view.revision, view.compacted);
        }
        drop(view);
        let core = Arc::new(core);
        let max_value = options.max_value;
        let (orders, inbox) = std::sync::mpsc::channel();
        let writer = Writer::new(core.clone(), options, inbox)?;
        let thread = std::thread::Builder::new()
            .name("storage-writer".into())
            .spawn(move || writer.run());
        let thread =
            thread.map_err(|error| StoreError::Fatal(format!("no thread for the writer: {error}")))?;
        Ok(Self {
            core,
            orders,
            writer: Mutex::new(Some(thread)),
            max_value,
        })
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Order,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Unavailable("the store's writer has stopped".into());
        let (asker, answer) = oneshot::channel();
        self.orders.send(order(asker)).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        // A writer that has ended already needs no order.
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.writer.lock().take() {
            // A panicked writer has nothing more to say.
            let _ = thread.join();
        }
    }
}

fn open(path: &Path, options: &EmbeddedOptions) -> Result<Database, StoreError> {
    let shown = path.display();
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    let database = builder.create(path).map_err(|error| {
        StoreError::Fatal(match error {
            DatabaseError::DatabaseAlreadyOpen => {
                format!("{shown} is held by another process; end that first")
            }
            DatabaseError::UpgradeRequired(version) => format!("{shown} has the old file format {version}"),
            DatabaseError::Storage(redb::StorageError::Io(error))
                if error.kind() == std::io::ErrorKind::InvalidData =>
            {
                format!("{shown} is not a store of ours: {error}")
            }
            DatabaseError::Storage(redb::StorageError::Corrupted(why)) => {
                format!("{shown} is damaged ({why}); restore it from a backup")
            }
            error => format!("{shown} does not open: {error}"),
        })
    })?;
    let transaction = database.begin_write().map_err(failed)?;
    let ours = {
        let tables: Vec<_> = transaction
            .list_tables()
            .map_err(failed)?
            .map(|table| table.name().to_owned())
            .collect();
        let fresh = tables.is_empty();
        if !fresh && !tables.iter().any(|name| name == META.name()) {
            false
        } else {
            let foreign = |error| StoreError::Fatal(format!("{shown} is not a store of ours: {error}"));
            let mut meta = transaction.open_table(META).map_err(foreign)?;
            if fresh {
                meta.insert(FORMAT.0, FORMAT.1).map_err(failed)?;
                meta.insert(REVISION, 1).map_err(failed)?;
                meta.insert(COMPACTED, 1).map_err(failed)?;
            }
            let format = redb::ReadableTable::get(&meta, FORMAT.0)
                .map_err(failed)?
                .map(|found| found.value());
            drop(meta);
            transaction.open_table(KEYS).map_err(foreign)?;
            transaction.open_table(LOG).map_err(foreign)?;
            transaction.open_table(EXPIRY).map_err(foreign)?;
            format == Some(FORMAT.1)
        }
    };
    if !ours {
        transaction.abort().map_err(failed)?;
        return Err(StoreError::Fatal(format!(
            "{shown} is a database, but not a store of ours of a format we know"
        )));
    }
    transaction.commit().map_err(failed)?;
    Ok(database)
}

impl Core {
    fn view(&self) -> Result<View, StoreError> {
        View::new(self.database.begin_read().map_err(failed)?)
    }

    fn healthy(&self) -> Result<(), StoreError> {
        self.failure.read().clone().map_or(Ok(()), Err)
    }

    /// Stops accepting commits: after a failed write the file's state is known again only after opening it anew.
    fn fail(&self, error: &StoreError) {
        let mut failure = self.failure.write();
        if failure.is_none() {
            tracing::error!(%error, "the store has failed; it accepts no more writes until restarted");
            *failure = Some(StoreError::Fatal(format!(
                "an earlier write failed; restart after mending its cause: {error}"
            )));
        }
    }

    fn publish(&self, first: Revision, last: Revision, changes: Vec<Change>) {
        let bytes = changes
            .iter()
            .map(|change| 64 + change.key.len() + change.value.as_ref().map_or(0, |v| v.len()))
            .sum();
        let mut recent = self.recent.write();
        recent.bytes += bytes;
        recent.batches.push_back(Arc::new(Batch {
            first,
            last,
            changes,
            bytes,
        }));
        while recent.bytes > RECENT_BYTES && recent.batches.len() > 1 {
            let Some(old) = recent.batches.pop_front() else {
                break;
            };
            recent.bytes -= old.bytes;
            recent.floor = old.last;
        }
        drop(recent);
        self.clock.send_replace(last);
    }

    fn compacted(&self, at: Revision) {
        self.recent.write().compacted = at;
    }

    /// Puts whose life is over.
    fn due(&self, now: u64, most: usize) -> Result<Vec<(u64, Place)>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let expiry = transaction.open_table(EXPIRY).map_err(failed)?;
        let due = redb::ReadableTable::range(&expiry, ..(now.saturating_add(1), (0, 0))).map_err(failed)?;
        due.take(most)
            .map(|row| row.map(|(key, _)| key.value()).map_err(failed))
            .collect()
    }
}

impl Recent {
    /// The newest changes below a prefix from a revision on; none when some of them are only in the file.
    fn changes(&self, prefix: &str, from: Revision) -> Option<(Vec<Change>, Revision)> {
        if from <= self.floor {
            return None;
        }
        let mut through = Revision(from.0.saturating_sub(1));
        let mut changes = Vec::new();
        let first = self.batches.partition_point(|batch| batch.last < from);
        for batch in self.batches.range(first..) {
            let inside = |change: &&Change| change.revision >= from && change.key.starts_with(prefix);
            changes.extend(batch.changes.iter().filter(inside).cloned());
            through = through.max(batch.last);
            if changes.len() >= READ {
                break;
            }
        }
        debug_assert!(self.batches.iter().all(|batch| batch.first <= batch.last));
        Some((changes, through))
    }
}

#[async_trait]
impl Engine for EmbeddedEngine {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.core.view()?.get(key)
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let core = self.core.clone();
        let read = tokio::task::spawn_blocking(move || core.view()?.range(&request));
        read.await
            .map_err(|error| StoreError::Fatal(format!("reading stopped: {error}")))?
    }

    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        super::check_sizes(&commit, self.max_value)?;
        self.order(|asker| Order::Commit(commit, asker)).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.core.view()?.check(from)?;
        let clock = self.core.clock.subscribe();
        let core = self.core.clone();
        Ok(Box::new(EmbeddedWatch {
            core,
            prefix: prefix.to_owned(),
            next: from,
            clock,
            first: true,
        }))
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(*self.core.clock.borrow())
    }

    fn known_revision(&self) -> Option<Revision> {
        Some(*self.core.clock.borrow())
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        self.order(|asker| Order::Compact(at, asker)).await
    }
}

#[async_trait]
impl Watch for EmbeddedWatch {
    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        loop {
            let now = *self.clock.borrow_and_update();
            if self.next <= now || (self.first && self.next.0 == now.0 + 1) {
                let (changes, through) = self.read().await?;
                self.first = false;
                self.next = self.next.max(Revision(through.0 + 1));
                return Ok(match changes.is_empty() {
                    true => WatchEvent::Progress(through),
                    false => WatchEvent::Changes { changes, through },
                });
            }
            self.core.healthy()?;
            if self.clock.changed().await.is_err() {
                return Err(StoreError::Unavailable("the store is closed".into()));
            }
        }
    }
}

impl EmbeddedWatch {
    async fn read(&self) -> Result<(Vec<Change>, Revision), StoreError> {
        {
            let recent = self.core.recent.read();
            if self.next < recent.compacted {
                return Err(StoreError::Compacted {
                    asked: self.next,
                    oldest: recent.compacted,
                });
            }
            if let Some(found) = recent.changes(&self.prefix, self.next) {
                return Ok(found);
            }
        }
        let (core, prefix, next) = (self.core.clone(), self.prefix.clone(), self.next);
        let read = tokio::task::spawn_blocking(move || core.view()?.changes(&prefix, next, READ));
        read.await
            .map_err(|error| StoreError::Fatal(format!("reading stopped: {error}")))?
    }
}
