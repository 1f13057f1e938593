//! A resource's objects at one revision.

use super::entry::Entry;
use super::resource::ByKey;
use crate::Revision;
use imbl::OrdSet;
use std::ops::Bound;
use std::sync::Arc;

/// Objects in key order, exact at [`Snapshot::revision`] and never changing. Clone is a counter.
#[derive(Clone)]
pub struct Snapshot {
    objects: OrdSet<ByKey>,
    revision: Revision,
}

impl Snapshot {
    pub(crate) fn new(objects: OrdSet<ByKey>, revision: Revision) -> Self {
        Self { objects, revision }
    }

    /// The revision these objects are the state of.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How many objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The object with this key.
    pub fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        self.objects.get(key).map(|ByKey(entry)| entry)
    }

    /// All, in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.objects.iter().map(|ByKey(entry)| entry)
    }

    /// Those whose keys start with `prefix` (a namespace's, or the resource's own), in key order, strictly after `after`.
    pub fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Entry>> {
        let low = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let from = self.objects.range::<_, str>((low, Bound::Unbounded));
        from.map(|ByKey(entry)| entry)
            .take_while(move |entry| entry.key.starts_with(prefix))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.revision)
            .field("len", &self.len())
            .finish()
    }
}
