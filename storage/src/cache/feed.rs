//! The feed: loads everything below the root, follows the engine's watch, and comes back after any error.
//!
//! Guarantee: the clock says R only when every change up to R has been applied to every resource. After a compaction it loads again
//! and turns the difference into events, so that no watcher misses an object's last state. It never ends but on request.

use super::entry::{Atom, Entry};
use super::resource::Resource;
use super::watch_cache::{Quarantined, Shared};
use crate::{Change, KeyValue, RangeRequest, Revision, StoreError, WatchEvent};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many pages are decoded at once while loading.
const DECODING: usize = 4;
/// What an event weighs, beside the state it superseded.
const EVENT_WEIGHT: usize = 256;
/// What a superseded state weighs, beside its bytes.
const STATE_WEIGHT: usize = 768;

/// The cache's clock as its readers hold it.
#[derive(Clone, Debug)]
pub(crate) struct Clock(watch::Receiver<Revision>);

/// The feed's own state.
pub(crate) struct Feed {
    clock: watch::Sender<Revision>,
    state: Mutex<FeedState>,
}

/// Held while a batch is applied and while a resource is registered, never across an await.
#[derive(Default)]
struct FeedState {
    /// Values below no registered prefix, as stored.
    unclaimed: BTreeMap<Box<str>, (Bytes, Revision)>,
    quarantined: BTreeMap<Box<str>, (Revision, String)>,
    /// Every event kept by any resource, oldest first: whose it is, its position there, its weight.
    history: VecDeque<(Arc<Resource>, u64, usize)>,
    history_bytes: usize,
    live_bytes: usize,
}

/// A key as loading found it.
enum Loaded {
    Entry(Arc<Entry>),
    /// The cache has this very state already.
    Same,
    Raw(Bytes, Revision),
    Bad(Revision, String),
}

/// A change ready to apply: the entry, or none for a delete.
type Step = (Revision, Box<str>, Option<Arc<Entry>>);
/// The steps of one revision on one resource.
type Group = Vec<(Box<str>, Option<Arc<Entry>>)>;

impl Clock {
    pub(crate) fn now(&self) -> Revision {
        *self.0.borrow()
    }

    /// Waits for a revision; forever once the cache is gone.
    pub(crate) async fn reach(&mut self, wanted: Revision) -> Revision {
        // The borrow ends here: a future that held it across the wait below couldn't move between threads.
        let reached = self.0.wait_for(|now| *now >= wanted).await.map(|now| *now);
        match reached {
            Ok(now) => now,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            clock: watch::Sender::new(Revision(0)),
            state: Mutex::default(),
        }
    }
}

impl Feed {
    pub(crate) fn clock(&self) -> Clock {
        Clock(self.clock.subscribe())
    }

    pub(crate) fn now(&self) -> Revision {
        *self.clock.borrow()
    }

    pub(crate) fn quarantined(&self) -> Vec<Quarantined> {
        let state = self.state.lock();
        let all = state.quarantined.iter();
        all.map(|(key, (revision, error))| Quarantined {
            key: key.to_string(),
            revision: *revision,
            error: error.clone(),
        })
        .collect()
    }
}

/// Follows the engine until told to stop.
pub(crate) async fn follow(shared: Arc<Shared>, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        let (first, longest) = shared.options.backoff;
        let mut pause = first;
        let mut load = true;
        loop {
            let before = shared.feed.clock().now();
            let ended = follow_once(&shared, load).await;
            if shared.feed.clock().now() > before {
                pause = first;
            }
            load = shared.feed.clock().now() == Revision(0)
                || matches!(ended, StoreError::Compacted { .. } | StoreError::Future { .. });
            tracing::warn!(error = %ended, load, "the watch on the store ended; trying again in {pause:?}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    })
    .await;
}

/// Loads if asked to, then follows the watch to its end.
async fn follow_once(shared: &Arc<Shared>, load: bool) -> StoreError {
    if load && let Err(error) = self::load(shared).await {
        return error;
    }
    let from = Revision(shared.feed.clock().now().0 + 1);
    let mut watch = match shared.engine.watch(&shared.root, from).await {
        Ok(watch) => watch,
        Err(error) => return error,
    };
    loop {
        match watch.next().await {
            Ok(WatchEvent::Changes { changes, through }) => apply(shared, changes, through),
            Ok(WatchEvent::Progress(revision)) => advance(shared, revision),
            Err(error) => return error,
        }
    }
}

/// Reads everything at one revision, decoding pages while later ones are read.
async fn load(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let mut request = RangeRequest {
        prefix: shared.root.clone(),
        limit: shared.options.page,
        uncounted: true,
        ..Default::default()
    };
    let mut decoding = FuturesOrdered::new();
    let mut loaded = Vec::new();
    let at = loop {
        let page = shared.engine.range(request.clone()).await?;
        let at = *request.revision.get_or_insert(page.revision);
        request.after = page.items.last().map(|item| item.key.clone());
        let more = page.more && request.after.is_some();
        let decoder = shared.clone();
        decoding.push_back(tokio::task::spawn_blocking(move || {
            decode_page(&decoder, page.items)
        }));
        while decoding.len() > if more { DECODING } else { 0 } {
            match decoding.next().await {
                Some(Ok(page)) => loaded.extend(page),
                Some(Err(panic)) => return Err(StoreError::Fatal(format!("decoding stopped: {panic}"))),
                None => break,
            }
        }
        if !more {
            break at;
        }
    };
    settle(shared, loaded, at);
    Ok(())
}

fn decode_page(shared: &Shared, items: Vec<KeyValue>) -> Vec<(Box<str>, Loaded)> {
    let decode = |item: KeyValue| {
        let key: Box<str> = item.key.into();
        let Some(resource) = shared.resource_of(&key) else {
            // The page's values may share one buffer; what is kept for long gets its own.
            return (
                key,
                Loaded::Raw(Bytes::copy_from_slice(&item.value), item.modified),
            );
        };
        let known = resource
            .state
            .read()
            .objects()
            .get(&*key)
            .map(|known| known.0.revision);
        if known == Some(item.modified) {
            return (key, Loaded::Same);
        }
        let loaded = match shared.decoder.decode(&key, &item.value, item.modified) {
            Ok(entry) => Loaded::Entry(Arc::new(entry)),
            Err(error) => Loaded::Bad(item.modified, error.0),
        };
        (key, loaded)
    };
    items.into_iter().map(decode).collect()
}

/// Makes what was loaded the state: silently the first time, as events of the difference later.
fn settle(shared: &Shared, loaded: Vec<(Box<str>, Loaded)>, at: Revision) {
    let mut state = shared.feed.state.lock();
    let before = *shared.feed.clock.borrow();
    let first = before == Revision(0);
    state.unclaimed.clear();
    let mut bad = BTreeMap::new();
    let mut present = BTreeSet::new();
    let mut steps: Vec<Step> = Vec::new();
    for (key, loaded) in loaded {
        let entry = match loaded {
            Loaded::Same => None,
            Loaded::Entry(entry) => Some(entry),
            Loaded::Bad(revision, error) => {
                bad.insert(key.clone(), (revision, error));
                None
            }
            Loaded::Raw(value, revision) => match shared.resource_of(&key) {
                // Registered while it was loading.
                Some(_) => match shared.decoder.decode(&key, &value, revision) {
                    Ok(entry) => Some(Arc::new(entry)),
                    Err(error) => {
                        bad.insert(key.clone(), (revision, error.0));
                        None
                    }
                },
                None => {
                    state.unclaimed.insert(key, (value, revision));
                    continue;
                }
            },
        };
        if let Some(entry) = entry {
            steps.push((entry.revision, key.clone(), Some(entry)));
        }
        if !first {
            present.insert(key);
        }
    }
    for (key, (revision, error)) in &bad {
        report_bad(&state.quarantined, key, *revision, error);
    }
    state.quarantined = bad;
    shared.options.metrics.quarantined(state.quarantined.len());
    let resources: Vec<_> = shared.resources.read().values().cloned().collect();
    if first {
        for (_, key, entry) in steps {
            if let (Some(resource), Some(entry)) = (shared.resource_of(&key), entry) {
                state.live_bytes += entry.size();
                resource.state.write().load(entry);
            }
        }
        for resource in &resources {
            resource.state.write().loaded(at);
        }
    } else {
        steps = difference(&resources, &present, steps, at);
        for resource in &resources {
            resource.state.write().gap(before, at);
        }
        apply_steps(shared, &mut state, steps);
    }
    for resource in &resources {
        let objects = resource.state.read().objects().len();
        shared
            .options
            .metrics
            .initialized(&resource.group, &resource.name, objects);
    }
    finish(shared, &resources, at);
}

/// Adds the deletes to the puts found by loading again, in an order a watcher can follow.
fn difference(
    resources: &[Arc<Resource>],
    present: &BTreeSet<Box<str>>,
    puts: Vec<Step>,
    at: Revision,
) -> Vec<Step> {
    let mut steps = Vec::with_capacity(puts.len());
    for resource in resources {
        let state = resource.state.read();
        for found in state
            .objects()
            .iter()
            .filter(|found| !present.contains(&found.0.key))
        {
            steps.push((at, found.0.key.clone(), None));
        }
        for (revision, key, entry) in &puts {
            let known = state.objects().get(&**key);
            let replaced = known
                .zip(entry.as_ref())
                .is_some_and(|(old, new)| old.0.index.uid != new.index.uid);
            if replaced {
                // The old object was deleted some time before this one was made.
                steps.push((Revision(revision.0.saturating_sub(1)), key.clone(), None));
            }
        }
    }
    steps.extend(puts);
    steps.sort_by_key(|(revision, _, _)| *revision);
    steps
}

/// Applies what the watch delivered.
fn apply(shared: &Shared, changes: Vec<Change>, through: Revision) {
    let mut state = shared.feed.state.lock();
    let known = *shared.feed.clock.borrow();
    let mut steps: Vec<Step> = Vec::with_capacity(changes.len());
    for change in changes.into_iter().filter(|change| change.revision > known) {
        let key: Box<str> = change.key.into();
        if shared.resource_of(&key).is_none() {
            match change.value {
                Some(value) => state
                    .unclaimed
                    .insert(key, (Bytes::copy_from_slice(&value), change.revision)),
                None => state.unclaimed.remove(&key),
            };
            continue;
        }
        let entry = match change.value {
            None => None,
            Some(value) => match shared.decoder.decode(&key, &value, change.revision) {
                Ok(entry) => Some(Arc::new(entry)),
                Err(error) => {
                    // The last good state stays: a state nobody can read is no reason to tell anyone the object is gone.
                    report_bad(&state.quarantined, &key, change.revision, &error.0);
                    state.quarantined.insert(key, (change.revision, error.0));
                    shared.options.metrics.quarantined(state.quarantined.len());
                    continue;
                }
            },
        };
        if state.quarantined.remove(&key).is_some() {
            shared.options.metrics.quarantined(state.quarantined.len());
        }
        steps.push((change.revision, key, entry));
    }
    let touched = apply_steps(shared, &mut state, steps);
    finish(shared, &touched, through);
}

/// Applies steps in order; the changes of one revision to one resource become visible together.
fn apply_steps(shared: &Shared, state: &mut FeedState, steps: Vec<Step>) -> Vec<Arc<Resource>> {
    let mut touched: Vec<Arc<Resource>> = Vec::new();
    let mut steps = steps.into_iter().peekable();
    while let Some((revision, key, entry)) = steps.next() {
        let Some(resource) = shared.resource_of(&key) else {
            continue;
        };
        let mut group = vec![(key, entry)];
        let mut others: Vec<(Arc<Resource>, Group)> = Vec::new();
        while let Some((_, key, entry)) = steps.next_if(|next| next.0 == revision) {
            match shared.resource_of(&key) {
                Some(of) if Arc::ptr_eq(&of, &resource) => group.push((key, entry)),
                Some(of) => match others.iter_mut().find(|other| Arc::ptr_eq(&other.0, &of)) {
                    Some(other) => other.1.push((key, entry)),
                    None => others.push((of, vec![(key, entry)])),
                },
                None => {}
            }
        }
        others.insert(0, (resource, group));
        for (resource, group) in others {
            apply_group(shared, state, &resource, revision, group);
            if !touched.iter().any(|known| Arc::ptr_eq(known, &resource)) {
                touched.push(resource);
            }
        }
    }
    trim(shared, state);
    touched
}

fn apply_group(
    shared: &Shared,
    feed: &mut FeedState,
    resource: &Arc<Resource>,
    revision: Revision,
    group: Group,
) {
    let count = group.len();
    let mut superseded = Vec::with_capacity(count);
    let mut state = resource.state.write();
    for (key, entry) in group {
        let position = state.next_position();
        feed.live_bytes += entry.as_ref().map_or(0, |entry| entry.size());
        if let Some(event) = state.apply(revision, &key, entry) {
            superseded.push((position, event.previous.clone()));
        }
        if state.history_len() > shared.options.history_events {
            let oldest = state.next_position() - state.history_len() as u64;
            state.evict(oldest);
        }
    }
    let objects = state.objects().len();
    // Packing takes its time: readers needn't wait for it.
    drop(state);
    for (position, previous) in superseded {
        let size = previous.as_ref().map_or(0, |entry| entry.size());
        feed.live_bytes = feed.live_bytes.saturating_sub(size);
        let state = previous.map_or(0, |entry| entry.pack() + STATE_WEIGHT);
        let weight = state + EVENT_WEIGHT;
        feed.history_bytes += weight;
        feed.history.push_back((resource.clone(), position, weight));
    }
    shared
        .options
        .metrics
        .received(&resource.group, &resource.name, count, objects);
}

/// Keeps the history within its budget, the oldest events going first.
fn trim(shared: &Shared, feed: &mut FeedState) {
    let options = &shared.options;
    let share = feed.live_bytes.checked_div(options.history_share).unwrap_or(0);
    let budget = options.history_bytes.max(share);
    while feed.history_bytes > budget {
        let Some((resource, position, weight)) = feed.history.pop_front() else {
            break;
        };
        feed.history_bytes = feed.history_bytes.saturating_sub(weight);
        resource.state.write().evict(position);
    }
}

/// Moves the clock, then wakes who waits for events.
fn finish(shared: &Shared, touched: &[Arc<Resource>], through: Revision) {
    advance(shared, through);
    for resource in touched {
        let wakers = resource.state.write().take_dirty();
        for waker in wakers {
            waker.send_replace(());
        }
    }
}

fn advance(shared: &Shared, through: Revision) {
    shared.feed.clock.send_if_modified(|now| {
        let ahead = through > *now;
        *now = through.max(*now);
        ahead
    });
}

fn report_bad(known: &BTreeMap<Box<str>, (Revision, String)>, key: &str, revision: Revision, error: &str) {
    if !known.contains_key(key) {
        tracing::error!(key, %revision, error, "a stored object does not decode and is not served");
    }
}

/// Serves a resource; see [`super::WatchCache::register`].
pub(crate) fn register(shared: &Shared, prefix: &str, group: &str, name: &str, fields: &[&str]) {
    let fields: Vec<Atom> = fields.iter().map(|field| Atom::from(*field)).collect();
    let mut feed = shared.feed.state.lock();
    let known = shared.resources.read().get(prefix).cloned();
    if let Some(resource) = known {
        resource.state.write().serve(true, &fields);
        return;
    }
    let now = *shared.feed.clock.borrow();
    let resource = Arc::new(Resource::new(prefix, group, name, &fields, now));
    let later = feed.unclaimed.split_off(prefix);
    let mut objects = 0;
    for (key, (value, revision)) in later {
        if !key.starts_with(prefix) {
            feed.unclaimed.insert(key, (value, revision));
            continue;
        }
        match shared.decoder.decode(&key, &value, revision) {
            Ok(entry) => {
                feed.live_bytes += entry.size();
                objects += 1;
                resource.state.write().load(Arc::new(entry));
            }
            Err(error) => {
                report_bad(&feed.quarantined, &key, revision, &error.0);
                feed.quarantined.insert(key, (revision, error.0));
                shared.options.metrics.quarantined(feed.quarantined.len());
            }
        }
    }
    shared.options.metrics.initialized(group, name, objects);
    shared.resources.write().insert(prefix.into(), resource);
}

/// Replaces the entries of a resource; see [`super::WatchCache::redecode`]. An object that changes meanwhile has been decoded anew by
/// that change.
pub(crate) async fn redecode(shared: &Shared, prefix: &str) -> Result<(), StoreError> {
    let mut request = RangeRequest {
        prefix: prefix.to_owned(),
        limit: shared.options.page,
        ..Default::default()
    };
    loop {
        let page = shared.engine.range(request.clone()).await?;
        request.revision.get_or_insert(page.revision);
        request.after = page.items.last().map(|item| item.key.clone());
        for item in &page.items {
            let Some(resource) = shared.resource_of(&item.key) else {
                continue;
            };
            let Ok(entry) = shared.decoder.decode(&item.key, &item.value, item.modified) else {
                continue;
            };
            let mut feed = shared.feed.state.lock();
            let mut state = resource.state.write();
            let known = state.objects().get(&*item.key).map(|known| known.0.clone());
            if let Some(known) = known.filter(|known| known.revision == item.modified) {
                feed.live_bytes += entry.size();
                feed.live_bytes = feed.live_bytes.saturating_sub(known.size());
                state.load(Arc::new(entry));
            }
        }
        if !page.more || request.after.is_none() {
            return Ok(());
        }
    }
}
