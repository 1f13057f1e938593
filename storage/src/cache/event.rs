//! A change as watchers see it, shared by all of them, with room for its encoded frames.

use super::entry::Entry;
use super::splice::splice_resource_version;
use crate::Revision;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// How many encodings of one event can be kept. What a slot means is the caller's choice.
pub const FRAME_SLOTS: usize = 8;

/// What happened to an object, from one watcher's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// It appeared, or began to match the watcher's filter.
    Added,
    /// It changed and matches as before.
    Modified,
    /// It is gone, or ceased to match.
    Deleted,
}

/// A change of one object. One instance serves all watchers.
#[derive(Debug)]
pub struct Event {
    /// The revision of the change.
    pub revision: Revision,
    /// The object after it; none when deleted.
    pub current: Option<Arc<Entry>>,
    /// The object before it; none when created.
    pub previous: Option<Arc<Entry>>,
    gone: OnceLock<Arc<Entry>>,
    frames: ArcSwapOption<Frames>,
    retired: AtomicBool,
}

#[derive(Debug, Default)]
struct Frames {
    slots: [OnceLock<Bytes>; FRAME_SLOTS],
}

impl Event {
    pub(crate) fn new(revision: Revision, current: Option<Arc<Entry>>, previous: Option<Arc<Entry>>) -> Self {
        Self {
            revision,
            current,
            previous,
            gone: OnceLock::new(),
            frames: ArcSwapOption::empty(),
            retired: AtomicBool::new(false),
        }
    }

    /// The object's key.
    pub fn key(&self) -> &str {
        self.current
            .as_ref()
            .or(self.previous.as_ref())
            .map_or("", |entry| &entry.key)
    }

    /// What a watcher with this filter is told; none when nothing.
    pub fn seen_by(&self, matches: impl Fn(&Entry) -> bool) -> Option<EventType> {
        let now = self.current.as_deref().is_some_and(&matches);
        let before = self.previous.as_deref().is_some_and(&matches);
        match (before, now) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }

    /// The object to send with an event of this type: for `Deleted` the last state with this change's resource version in it.
    pub fn entry(&self, kind: EventType) -> Option<&Arc<Entry>> {
        match kind {
            EventType::Added | EventType::Modified => self.current.as_ref(),
            EventType::Deleted => {
                let last = self.previous.as_ref()?;
                Some(self.gone.get_or_init(|| {
                    let bytes = last.bytes();
                    let bytes = splice_resource_version(&bytes, self.revision).unwrap_or(bytes);
                    let (key, index) = (last.key.clone(), last.index.clone());
                    Arc::new(Entry::new(key, bytes, index, self.revision))
                }))
            }
        }
    }

    /// The encoded frame in a slot, made by the first who asks. Kept while the event is young; an old event, or a slot out
    /// of range, is encoded anew for each caller.
    pub fn frame(&self, slot: usize, make: impl FnOnce() -> Bytes) -> Bytes {
        if slot >= FRAME_SLOTS || self.retired.load(Ordering::Acquire) {
            return make();
        }
        let frames = match self.frames.load_full() {
            Some(frames) => frames,
            None => {
                let fresh = Some(Arc::new(Frames::default()));
                let before = self.frames.compare_and_swap(&None::<Arc<Frames>>, fresh.clone());
                match (arc_swap::Guard::into_inner(before), fresh) {
                    (Some(theirs), _) | (None, Some(theirs)) => theirs,
                    (None, None) => return make(),
                }
            }
        };
        match frames.slots.get(slot) {
            Some(cell) => cell.get_or_init(make).clone(),
            None => make(),
        }
    }

    /// Forgets the frames, and packs what only few will ask for: most watchers have had them.
    pub(crate) fn retire_frames(&self) {
        self.retired.store(true, Ordering::Release);
        self.frames.store(None);
        if let Some(gone) = self.gone.get() {
            gone.pack();
        }
    }
}
