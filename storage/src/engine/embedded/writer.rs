//! The one writer: a thread that takes all queued commits, applies them in one transaction with one fsync, and answers all.
//!
//! Guarantee: a commit is answered `Applied` after its transaction is on disk and visible to readers and watchers. Each commit's guards
//! see the effects of the ones before it in the same transaction. Between batches it deletes what has expired and forgets
//! old history, a bounded piece at a time, so that commits never wait long.

use super::tables::{CLEARED, COMPACTED, EXPIRY, KEYS, LOG, META, Place, REVISION, Record, failed, read};
use super::{Core, EmbeddedOptions};
use crate::{Change, Commit, Effect, Guard, Outcome, Revision, StoreError};
use redb::{ReadableTable, Table, WriteTransaction};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// At most so many commits share a transaction.
const BATCH: usize = 1024;
/// At most so many bytes of values share a transaction.
const BATCH_BYTES: usize = 16 << 20;
/// At most so many log records are looked at in one piece of compaction, and keys deleted in one sweep.
const PIECE: usize = 2000;
/// How often expiry is looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// What the writer is asked.
pub(super) enum Order {
    Commit(Commit, oneshot::Sender<Result<Outcome, StoreError>>),
    Compact(Revision, oneshot::Sender<Result<(), StoreError>>),
    Stop,
}

pub(super) struct Writer {
    core: Arc<Core>,
    options: EmbeddedOptions,
    orders: Receiver<Order>,
    revision: u64,
    compacted: u64,
    cleared: u64,
    /// The revision at the last tick of automatic compaction: what the next tick compacts to.
    aged: (Instant, u64),
    swept: Instant,
}

/// The tables a commit changes.
struct Tables<'t> {
    keys: Table<'t, &'static str, (Place, u64)>,
    log: Table<'t, Place, &'static [u8]>,
    expiry: Table<'t, (u64, Place), ()>,
}

impl Writer {
    pub(super) fn new(
        core: Arc<Core>,
        options: EmbeddedOptions,
        orders: Receiver<Order>,
    ) -> Result<Self, StoreError> {
        let view = core.view()?;
        let (revision, compacted) = (view.revision.0, view.compacted.0);
        let transaction = core.database.begin_write().map_err(failed)?;
        let meta = transaction.open_table(META).map_err(failed)?;
        let cleared = meta
            .get(CLEARED)
            .map_err(failed)?
            .map_or(1, |found| found.value());
        drop(meta);
        transaction.abort().map_err(failed)?;
        let now = Instant::now();
        Ok(Self {
            core,
            options,
            orders,
            revision,
            compacted,
            cleared,
            aged: (now, revision),
            swept: now,
        })
    }

    /// Works until told to stop or until nobody can ask any more.
    pub(super) fn run(mut self) {
        loop {
            let wait = if self.cleared < self.compacted {
                Duration::ZERO
            } else {
                SWEEP
            };
            match self.orders.recv_timeout(wait) {
                Ok(first) => {
                    if !self.serve(first) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Err(error) = self.keep_house() {
                self.core.fail(&error);
            }
        }
    }

    /// Serves what is queued; false when told to stop.
    fn serve(&mut self, first: Order) -> bool {
        let mut commits = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        let mut on = true;
        while let Some(order) = next.take() {
            match order {
                Order::Commit(commit, answer) => {
                    bytes += commit.effects.iter().map(size).sum::<usize>();
                    commits.push((commit, answer));
                }
                Order::Compact(at, answer) => {
                    // What was asked before is applied before.
                    self.commit_all(std::mem::take(&mut commits));
                    // The asker may have gone; the work is done all the same.
                    let _ = answer.send(self.compact(at.0));
                }
                Order::Stop => {
                    on = false;
                    break;
                }
            }
            if commits.len() < BATCH && bytes < BATCH_BYTES {
                next = self.orders.try_recv().ok();
            }
        }
        self.commit_all(commits);
        on
    }

    fn commit_all(&mut self, commits: Vec<(Commit, oneshot::Sender<Result<Outcome, StoreError>>)>) {
        if commits.is_empty() {
            return;
        }
        let (commits, askers): (Vec<_>, Vec<_>) = commits.into_iter().unzip();
        let answers = match self.core.healthy().and_then(|()| self.transact(commits)) {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) => {
                self.core.fail(&error);
                vec![Err(error); askers.len()]
            }
        };
        for (asker, answer) in askers.into_iter().zip(answers) {
            // An asker that gave up learns nothing; its commit stands.
            let _ = asker.send(answer);
        }
    }

    fn transact(&mut self, commits: Vec<Commit>) -> Result<Vec<Outcome>, StoreError> {
        let transaction = self.core.database.begin_write().map_err(failed)?;
        let mut revision = self.revision;
        let mut changes = Vec::with_capacity(commits.len());
        let mut outcomes = Vec::with_capacity(commits.len());
        {
            let mut tables = Tables::open(&transaction)?;
            for commit in commits {
                outcomes.push(tables.apply(commit, &mut revision, &mut changes)?);
            }
        }
        if revision == self.revision {
            // Nothing to write: all were refused or empty.
            transaction.abort().map_err(failed)?;
            return Ok(outcomes);
        }
        self.finish(transaction, revision, changes)?;
        Ok(outcomes)
    }

    /// Makes a transaction durable and visible.
    fn finish(
        &mut self,
        transaction: WriteTransaction,
        revision: u64,
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        {
            let mut meta = transaction.open_table(META).map_err(failed)?;
            meta.insert(REVISION, revision).map_err(failed)?;
        }
        let unknown = |error: redb::CommitError| {
            StoreError::Unavailable(format!(
                "writing the store's file failed, the commit may or may not hold: {error}"
            ))
        };
        transaction.commit().map_err(unknown)?;
        if changes.is_empty() {
            return Ok(());
        }
        let first = self.revision + 1;
        self.revision = revision;
        self.core.publish(Revision(first), Revision(revision), changes);
        Ok(())
    }

    fn keep_house(&mut self) -> Result<(), StoreError> {
        self.core.healthy()?;
        if self.swept.elapsed() >= SWEEP {
            self.swept = Instant::now();
            self.expire()?;
            let most = self.options.history_revisions;
            if self.revision - self.compacted > most + most / 8 {
                self.compact(self.revision - most)?;
            }
            if self.aged.0.elapsed() >= self.options.history_age {
                let target = std::mem::replace(&mut self.aged, (Instant::now(), self.revision)).1;
                if target > self.compacted {
                    self.compact(target)?;
                }
            }
        }
        if self.cleared < self.compacted {
            self.clear_piece()?;
        }
        Ok(())
    }

    /// Deletes keys whose time is over, visibly.
    fn expire(&mut self) -> Result<(), StoreError> {
        let now = now_millis();
        let due = self.core.due(now, PIECE)?;
        if due.is_empty() {
            return Ok(());
        }
        let transaction = self.core.database.begin_write().map_err(failed)?;
        let mut revision = self.revision;
        let mut changes = Vec::new();
        {
            let mut tables = Tables::open(&transaction)?;
            let mut effects = Vec::new();
            for (millis, place) in &due {
                tables.expiry.remove((*millis, *place)).map_err(failed)?;
                // The record is gone when the key was put again or deleted and history has passed.
                let Some(bytes) = tables.log.get(*place).map_err(failed)? else {
                    continue;
                };
                let record = Record::decode(bytes.value())?;
                if tables
                    .keys
                    .get(record.key)
                    .map_err(failed)?
                    .is_some_and(|found| found.value().0 == *place)
                {
                    effects.push(Effect::Delete(record.key.to_owned()));
                }
            }
            tables.apply(
                Commit {
                    guards: Vec::new(),
                    effects,
                },
                &mut revision,
                &mut changes,
            )?;
        }
        self.finish(transaction, revision, changes)
    }

    /// From now on nothing before `at` can be asked for; what that frees is cleared piece by piece.
    fn compact(&mut self, at: u64) -> Result<(), StoreError> {
        if at > self.revision {
            return Err(StoreError::Future {
                asked: Revision(at),
                current: Revision(self.revision),
            });
        }
        if at <= self.compacted {
            return Ok(());
        }
        let transaction = self.core.database.begin_write().map_err(failed)?;
        {
            let mut meta = transaction.open_table(META).map_err(failed)?;
            meta.insert(COMPACTED, at).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        self.compacted = at;
        self.core.compacted(Revision(at));
        Ok(())
    }

    /// Clears a piece of the log between what was cleared before and the compacted revision: states that were superseded there, and deletes.
    fn clear_piece(&mut self) -> Result<(), StoreError> {
        let transaction = self.core.database.begin_write().map_err(failed)?;
        let mut reached = self.compacted;
        {
            let mut log = transaction.open_table(LOG).map_err(failed)?;
            let mut useless: Vec<Place> = Vec::new();
            for (count, row) in log
                .range((self.cleared, 0)..(self.compacted + 1, 0))
                .map_err(failed)?
                .enumerate()
            {
                let (place, bytes) = row.map_err(failed)?;
                let place = place.value();
                if count >= PIECE && place.0 > self.cleared {
                    reached = place.0;
                    break;
                }
                let record = Record::decode(bytes.value())?;
                useless.extend(record.before);
                if record.value.is_none() && place.0 < self.compacted {
                    useless.push(place);
                }
            }
            for place in useless {
                log.remove(place).map_err(failed)?;
            }
            let mut meta = transaction.open_table(META).map_err(failed)?;
            meta.insert(CLEARED, reached).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        self.cleared = reached;
        Ok(())
    }
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            keys: transaction.open_table(KEYS).map_err(failed)?,
            log: transaction.open_table(LOG).map_err(failed)?,
            expiry: transaction.open_table(EXPIRY).map_err(failed)?,
        })
    }

    fn apply(
        &mut self,
        commit: Commit,
        clock: &mut u64,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, StoreError> {
        if !self.holds(&commit.guards)? {
            let found = commit
                .guards
                .iter()
                .map(|guard| read(&self.keys, &self.log, key_of(guard)));
            return Ok(Outcome::Refused(found.collect::<Result<_, _>>()?));
        }
        let revision = *clock + 1;
        let mut number = 0;
        for effect in commit.effects {
            let Some(change) = self.effect(effect, (revision, number))? else {
                continue;
            };
            changes.push(change);
            number += 1;
        }
        if number > 0 {
            *clock = revision;
        }
        Ok(Outcome::Applied(Revision(*clock)))
    }

    fn holds(&self, guards: &[Guard]) -> Result<bool, StoreError> {
        for guard in guards {
            let found = self
                .keys
                .get(key_of(guard))
                .map_err(failed)?
                .map(|found| found.value().0.0);
            let holds = match guard {
                Guard::Unchanged(_, at) => found == Some(at.0),
                Guard::Absent(_) => found.is_none(),
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn effect(&mut self, effect: Effect, place: Place) -> Result<Option<Change>, StoreError> {
        let revision = Revision(place.0);
        match effect {
            Effect::Put(key, value, life) => {
                let before = self
                    .keys
                    .get(key.as_str())
                    .map_err(failed)?
                    .map(|found| found.value());
                let created = before.map_or(place.0, |(_, created)| created);
                let before = before.map(|(place, _)| place);
                let record = Record {
                    key: &key,
                    value: Some(&value),
                    before,
                    created,
                };
                self.log
                    .insert(place, record.encode().as_slice())
                    .map_err(failed)?;
                self.keys.insert(key.as_str(), (place, created)).map_err(failed)?;
                if let Some(life) = life {
                    let end = now_millis().saturating_add(life.as_millis() as u64);
                    self.expiry.insert((end, place), ()).map_err(failed)?;
                }
                Ok(Some(Change {
                    key,
                    value: Some(value),
                    revision,
                    created: Revision(created),
                }))
            }
            Effect::Delete(key) => {
                let before = self
                    .keys
                    .remove(key.as_str())
                    .map_err(failed)?
                    .map(|found| found.value());
                let Some((before, created)) = before else {
                    return Ok(None);
                };
                let record = Record {
                    key: &key,
                    value: None,
                    before: Some(before),
                    created,
                };
                self.log
                    .insert(place, record.encode().as_slice())
                    .map_err(failed)?;
                Ok(Some(Change {
                    key,
                    value: None,
                    revision,
                    created: Revision(created),
                }))
            }
        }
    }
}

fn key_of(guard: &Guard) -> &str {
    match guard {
        Guard::Unchanged(key, _) | Guard::Absent(key) => key,
    }
}

fn size(effect: &Effect) -> usize {
    match effect {
        Effect::Put(key, value, _) => key.len() + value.len(),
        Effect::Delete(key) => key.len(),
    }
}

fn now_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
