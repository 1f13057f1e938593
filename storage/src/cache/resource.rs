//! One resource's state: its objects, its indexes, its history and the rings watchers read from. Pure: no task, no clock.
//!
//! **Rings.** The main ring holds every recent event. A narrower ring (one key, one namespace, one value of an indexed field)
//! exists while someone watches just that, and holds the events that touch it; so the cost of a narrow watch follows its own events.
//! It is filled only as far back as its watchers asked, and further when one asks for more.
//! The front of the main ring is evicted by the feed; narrower rings lose the same event at the same time.
//!
//! **Floor.** Every event after `floor` is in the main ring. Nothing can be asked from before it.

use super::entry::{Atom, Entry};
use super::event::Event;
use super::signature::Signature;
use crate::Revision;
use ahash::{HashMap, HashMapExt};
use imbl::OrdSet;
use parking_lot::RwLock;
use std::borrow::Borrow;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// How many of the newest events keep their encoded frames.
const YOUNG: usize = 256;

/// A registered resource.
pub(crate) struct Resource {
    pub(crate) prefix: Box<str>,
    pub(crate) group: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) state: RwLock<State>,
}

/// What changes under the resource's lock.
pub(crate) struct State {
    prefix: Box<str>,
    indexed: Box<[Atom]>,
    /// Whether it is registered now; a resource taken out keeps following, unseen.
    pub(crate) served: bool,
    objects: OrdSet<ByKey>,
    /// The bytes of all objects together.
    bytes: usize,
    by_field: HashMap<Atom, HashMap<Atom, OrdSet<ByKey>>>,
    /// The revision of the newest change.
    last: Revision,
    floor: Revision,
    /// After a reload: the states between these two (exclusive) were never seen.
    gaps: Vec<(Revision, Revision)>,
    main: Ring,
    keys: HashMap<Box<str>, Ring>,
    folders: HashMap<Box<str>, Ring>,
    values: HashMap<Atom, HashMap<Box<str>, Ring>>,
    main_dirty: bool,
    dirty: Vec<watch::Sender<()>>,
}

/// An entry ordered by its key, with the signature of its labels.
#[derive(Clone, Debug)]
pub(crate) struct ByKey(pub(crate) Arc<Entry>, pub(crate) Signature);

impl ByKey {
    pub(crate) fn new(entry: Arc<Entry>) -> Self {
        let signature = Signature::of(&entry.index);
        Self(entry, signature)
    }
}

/// Events in order, with the position of the first.
pub(crate) struct Ring {
    base: u64,
    /// Every event after this that belongs here is here, or was.
    since: Revision,
    events: VecDeque<Arc<Event>>,
    wake: watch::Sender<()>,
    watchers: usize,
}

/// Names a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    All,
    Key(Box<str>),
    Folder(Box<str>),
    Field(Atom, Box<str>),
}

/// What a ring had for a reader.
pub(crate) enum Read {
    Events(Vec<Arc<Event>>),
    /// The reader has all there is.
    Drained,
    /// Events the reader hadn't had are gone.
    Overrun,
    /// The resource is no longer served.
    Closed,
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

impl Borrow<str> for ByKey {
    fn borrow(&self) -> &str {
        &self.0.key
    }
}

impl Resource {
    pub(crate) fn new(prefix: &str, group: &str, name: &str, indexed: &[Atom], floor: Revision) -> Self {
        let state = State {
            prefix: prefix.into(),
            indexed: indexed.into(),
            served: true,
            objects: OrdSet::new(),
            bytes: 0,
            by_field: HashMap::new(),
            last: Revision(0),
            floor,
            gaps: Vec::new(),
            main: Ring::new(0, floor),
            keys: HashMap::new(),
            folders: HashMap::new(),
            values: HashMap::new(),
            main_dirty: false,
            dirty: Vec::new(),
        };
        Self {
            prefix: prefix.into(),
            group: group.into(),
            name: name.into(),
            state: RwLock::new(state),
        }
    }
}

/// The position of a narrow ring's first event: there is room before it, for when somebody asks for older ones.
const MIDDLE: u64 = 1 << 40;

impl Ring {
    fn new(base: u64, since: Revision) -> Self {
        Self {
            base,
            since,
            events: VecDeque::new(),
            wake: watch::Sender::new(()),
            watchers: 0,
        }
    }

    fn pop(&mut self) -> Option<Arc<Event>> {
        let event = self.events.pop_front()?;
        self.base += 1;
        Some(event)
    }

    fn pop_if(&mut self, event: &Arc<Event>) {
        if self.events.front().is_some_and(|front| Arc::ptr_eq(front, event)) {
            self.pop();
        }
    }

    /// Takes in the events after `since` that belong here and that nobody needed so far.
    fn reach_back(&mut self, since: Revision, all: &VecDeque<Arc<Event>>, belongs: impl Fn(&Event) -> bool) {
        if since >= self.since {
            return;
        }
        let from = all.partition_point(|event| event.revision <= since);
        let to = all.partition_point(|event| event.revision <= self.since);
        for event in all.range(from..to.max(from)).rev().filter(|event| belongs(event)) {
            self.events.push_front(event.clone());
            self.base -= 1;
        }
        self.since = since;
    }

    /// A reader's position after a revision, or at the end.
    fn enter(&mut self, after: Option<Revision>) -> (u64, watch::Receiver<()>) {
        self.watchers += 1;
        let position = match after {
            Some(after) => self.position_after(after),
            None => self.base + self.events.len() as u64,
        };
        (position, self.wake.subscribe())
    }

    fn position_after(&self, revision: Revision) -> u64 {
        self.base + self.events.partition_point(|event| event.revision <= revision) as u64
    }

    fn read(&self, position: u64, most: usize) -> Read {
        let Some(skip) = position.checked_sub(self.base) else {
            return Read::Overrun;
        };
        let events: Vec<_> = self
            .events
            .iter()
            .skip(skip as usize)
            .take(most)
            .cloned()
            .collect();
        if events.is_empty() {
            Read::Drained
        } else {
            Read::Events(events)
        }
    }
}

impl State {
    pub(crate) fn objects(&self) -> &OrdSet<ByKey> {
        &self.objects
    }

    /// The bytes of all objects together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest revision this state is exact at, given the feed's clock.
    pub(crate) fn revision(&self, clock: Revision) -> Revision {
        self.last.max(clock)
    }

    /// The revision of the last change, or of the load.
    pub(crate) fn changed(&self) -> Revision {
        self.last.max(self.floor)
    }

    pub(crate) fn is_indexed(&self, field: &str) -> bool {
        self.indexed.iter().any(|indexed| &**indexed == field)
    }

    /// The objects whose indexed field has this value; none when the field isn't indexed.
    pub(crate) fn lookup(&self, field: &str, value: &str) -> Option<OrdSet<ByKey>> {
        if !self.is_indexed(field) {
            return None;
        }
        Some(
            self.by_field
                .get(field)
                .and_then(|values| values.get(value))
                .cloned()
                .unwrap_or_default(),
        )
    }

    /// Sets an object without an event: for loading.
    pub(crate) fn load(&mut self, entry: Arc<Entry>) {
        let previous = self.objects.insert(ByKey::new(entry.clone())).map(|old| old.0);
        self.weigh(previous.as_deref(), Some(&entry));
        self.reindex(previous.as_deref(), Some(&entry));
    }

    /// Ends loading: nothing from before `at` can be asked for.
    pub(crate) fn loaded(&mut self, at: Revision) {
        self.floor = self.floor.max(at);
    }

    /// Notes that states strictly between the two were never seen.
    pub(crate) fn gap(&mut self, after: Revision, before: Revision) {
        self.gaps.push((after, before));
    }

    /// Applies a change and appends its event; none when a key that isn't there is deleted. All changes of one revision must be
    /// applied under one hold of the lock.
    pub(crate) fn apply(
        &mut self,
        revision: Revision,
        key: &str,
        current: Option<Arc<Entry>>,
    ) -> Option<Arc<Event>> {
        let previous = match &current {
            Some(entry) => self.objects.insert(ByKey::new(entry.clone())),
            None => self.objects.remove(key),
        }
        .map(|old| old.0);
        if current.is_none() && previous.is_none() {
            return None;
        }
        self.weigh(previous.as_deref(), current.as_deref());
        self.reindex(previous.as_deref(), current.as_ref());
        self.last = self.last.max(revision);
        let event = Arc::new(Event::new(revision, current, previous));
        self.append(&event);
        Some(event)
    }

    fn weigh(&mut self, previous: Option<&Entry>, current: Option<&Entry>) {
        let size = |entry: Option<&Entry>| entry.map_or(0, |entry| entry.size());
        self.bytes = (self.bytes + size(current)).saturating_sub(size(previous));
    }

    /// The wakers of the rings that got events since last asked.
    pub(crate) fn take_dirty(&mut self) -> Vec<watch::Sender<()>> {
        if std::mem::take(&mut self.main_dirty) {
            self.dirty.push(self.main.wake.clone());
        }
        std::mem::take(&mut self.dirty)
    }

    /// How many events are kept.
    pub(crate) fn history_len(&self) -> usize {
        self.main.events.len()
    }

    /// The position the next event will have in the main ring.
    pub(crate) fn next_position(&self) -> u64 {
        self.main.base + self.main.events.len() as u64
    }

    /// Drops the oldest event when it is at or before this position.
    pub(crate) fn evict(&mut self, position: u64) {
        if self.main.base > position {
            return;
        }
        let Some(event) = self.main.pop() else { return };
        self.floor = self.floor.max(event.revision);
        self.gaps.retain(|(_, before)| *before > self.floor);
        let Self {
            prefix,
            keys,
            folders,
            values,
            ..
        } = self;
        each_narrow(prefix, keys, folders, values, &event, |ring| ring.pop_if(&event));
    }

    /// The objects as they were at a revision, by taking back later events; the oldest revision possible on failure.
    pub(crate) fn undo_to(&self, at: Revision) -> Result<(OrdSet<ByKey>, Vec<Arc<Event>>), Revision> {
        if at < self.floor {
            return Err(self.floor);
        }
        if let Some((_, before)) = self
            .gaps
            .iter()
            .find(|(after, before)| *after < at && at < *before)
        {
            return Err(*before);
        }
        let first = self.main.events.partition_point(|event| event.revision <= at);
        Ok((
            self.objects.clone(),
            self.main.events.iter().skip(first).cloned().collect(),
        ))
    }

    /// Joins a ring after a revision; the floor when that is too old.
    pub(crate) fn join(
        &mut self,
        topic: &Topic,
        after: Option<Revision>,
    ) -> Result<(u64, watch::Receiver<()>), Revision> {
        if let Some(after) = after
            && after < self.floor
        {
            return Err(self.floor);
        }
        let Self {
            prefix,
            main,
            keys,
            folders,
            values,
            ..
        } = self;
        let newest = self.last.max(self.floor);
        let fresh = || Ring::new(MIDDLE, newest);
        let ring = match topic {
            Topic::All => return Ok(main.enter(after)),
            Topic::Key(key) => keys.entry(key.clone()).or_insert_with(fresh),
            Topic::Folder(folder) => folders.entry(folder.clone()).or_insert_with(fresh),
            Topic::Field(field, value) => {
                let of_field = values.entry(field.clone()).or_default();
                of_field.entry(value.clone()).or_insert_with(fresh)
            }
        };
        // Who begins now needs nothing that was.
        if let Some(after) = after {
            ring.reach_back(after, &main.events, |event| touches(prefix, topic, event));
        }
        Ok(ring.enter(after))
    }

    /// Leaves a ring; the last to leave a narrow one ends it.
    pub(crate) fn leave(&mut self, topic: &Topic) {
        let Some(ring) = self.ring_mut(topic) else { return };
        ring.watchers = ring.watchers.saturating_sub(1);
        if ring.watchers > 0 {
            return;
        }
        match topic {
            Topic::All => {}
            Topic::Key(key) => drop(self.keys.remove(key)),
            Topic::Folder(folder) => drop(self.folders.remove(folder)),
            Topic::Field(field, value) => {
                if let Some(values) = self.values.get_mut(field) {
                    values.remove(value);
                }
                self.values.retain(|_, values| !values.is_empty());
            }
        }
    }

    /// At most so many events from a position on.
    pub(crate) fn read(&self, topic: &Topic, position: u64, most: usize) -> Read {
        if !self.served {
            return Read::Closed;
        }
        let ring = match topic {
            Topic::All => Some(&self.main),
            Topic::Key(key) => self.keys.get(key),
            Topic::Folder(folder) => self.folders.get(folder),
            Topic::Field(field, value) => self.values.get(field).and_then(|values| values.get(value)),
        };
        ring.map_or(Read::Closed, |ring| ring.read(position, most))
    }

    /// Begins or ends being served. Watchers of a resource that ends are woken to find out.
    pub(crate) fn serve(&mut self, served: bool, indexed: &[Atom]) {
        if served && *self.indexed != *indexed {
            self.indexed = indexed.into();
            self.by_field.clear();
            for ByKey(entry, _) in self.objects.clone() {
                self.reindex(None, Some(&entry));
            }
        }
        self.served = served;
        let narrow = self.keys.values().chain(self.folders.values());
        for ring in narrow
            .chain(self.values.values().flat_map(HashMap::values))
            .chain([&self.main])
        {
            ring.wake.send_replace(());
        }
    }

    fn ring_mut(&mut self, topic: &Topic) -> Option<&mut Ring> {
        match topic {
            Topic::All => Some(&mut self.main),
            Topic::Key(key) => self.keys.get_mut(key),
            Topic::Folder(folder) => self.folders.get_mut(folder),
            Topic::Field(field, value) => self.values.get_mut(field)?.get_mut(value),
        }
    }

    fn append(&mut self, event: &Arc<Event>) {
        let Self {
            prefix,
            main,
            main_dirty,
            keys,
            folders,
            values,
            dirty,
            ..
        } = self;
        main.events.push_back(event.clone());
        *main_dirty = true;
        if let Some(old) = main
            .events
            .len()
            .checked_sub(YOUNG + 1)
            .and_then(|at| main.events.get(at))
        {
            old.retire_frames();
        }
        each_narrow(prefix, keys, folders, values, event, |ring| {
            ring.events.push_back(event.clone());
            dirty.push(ring.wake.clone());
        });
    }

    fn reindex(&mut self, previous: Option<&Entry>, current: Option<&Arc<Entry>>) {
        for field in &self.indexed {
            let old = previous.and_then(|entry| entry.index.field(field).map(|value| (entry, value)));
            let new = current.and_then(|entry| entry.index.field(field).map(|value| (entry, value)));
            let values = self.by_field.entry(field.clone()).or_default();
            if let Some((entry, value)) = old
                && new.is_none_or(|(_, new)| new != value)
                && let Some(set) = values.get_mut(value)
            {
                set.remove(&*entry.key);
                if set.is_empty() {
                    values.remove(value);
                }
            }
            if let Some((entry, value)) = new {
                match values.get_mut(value) {
                    Some(set) => drop(set.insert(ByKey::new(entry.clone()))),
                    None => drop(values.insert(Atom::from(value), OrdSet::unit(ByKey::new(entry.clone())))),
                }
            }
        }
    }
}

/// Takes events back, newest first.
pub(crate) fn undo(mut objects: OrdSet<ByKey>, events: &[Arc<Event>]) -> OrdSet<ByKey> {
    for event in events.iter().rev() {
        match &event.previous {
            Some(entry) => drop(objects.insert(ByKey::new(entry.clone()))),
            None => drop(objects.remove(event.key())),
        }
    }
    objects
}

/// The event belongs into the topic's ring.
fn touches(prefix: &str, topic: &Topic, event: &Event) -> bool {
    match topic {
        Topic::All => true,
        Topic::Key(key) => event.key() == &**key,
        Topic::Folder(folder) => folders_of(prefix, event.key()).any(|of| of == &**folder),
        Topic::Field(field, value) => sides(event).any(|entry| entry.index.field(field) == Some(value)),
    }
}

fn sides(event: &Event) -> impl Iterator<Item = &Arc<Entry>> {
    event.current.iter().chain(event.previous.iter())
}

/// The folders below the prefix that the key lies in: for `/registry/pods/default/web` it is `/registry/pods/default/`.
fn folders_of<'a>(prefix: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let rest = key.get(prefix.len()..).unwrap_or_default();
    memchr::memchr_iter(b'/', rest.as_bytes()).filter_map(move |at| key.get(..prefix.len() + at + 1))
}

/// Each narrow ring the event belongs to, once.
fn each_narrow(
    prefix: &str,
    keys: &mut HashMap<Box<str>, Ring>,
    folders: &mut HashMap<Box<str>, Ring>,
    values: &mut HashMap<Atom, HashMap<Box<str>, Ring>>,
    event: &Event,
    mut visit: impl FnMut(&mut Ring),
) {
    let key = event.key();
    if let Some(ring) = keys.get_mut(key) {
        visit(ring);
    }
    if !folders.is_empty() {
        for folder in folders_of(prefix, key) {
            if let Some(ring) = folders.get_mut(folder) {
                visit(ring);
            }
        }
    }
    for (field, values) in values {
        let mut seen = None;
        for value in sides(event).filter_map(|entry| entry.index.field(field)) {
            if seen == Some(value) {
                continue;
            }
            seen = Some(value);
            if let Some(ring) = values.get_mut(value) {
                visit(ring);
            }
        }
    }
}
