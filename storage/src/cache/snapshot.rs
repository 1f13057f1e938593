//! A resource's objects at one revision.

use super::entry::Entry;
use super::resource::ByKey;
use super::signature::Signature;
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
        self.objects.get(key).map(|ByKey(entry, _)| entry)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &ByKey> {
        self.objects.iter()
    }

    /// All, in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.objects.iter().map(|ByKey(entry, _)| entry)
    }

    /// Those whose keys start with `prefix` (a namespace's, or the resource's own), in key order, strictly after `after`.
    pub fn range<'a>(&'a self, prefix: &str, after: Option<&str>) -> impl Iterator<Item = &'a Arc<Entry>> {
        self.range_with(prefix, after, Signature::default())
    }

    /// As [`Snapshot::range`], without most of those that haven't all labels of a signature.
    pub fn range_with<'a>(
        &'a self,
        prefix: &str,
        after: Option<&str>,
        wanted: Signature,
    ) -> impl Iterator<Item = &'a Arc<Entry>> {
        let low = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let high = end_of(prefix);
        let high = high.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let is_empty = matches!((low, high), (Bound::Excluded(low), Bound::Excluded(high)) if low >= high);
        let found = (!is_empty).then(|| self.objects.range::<_, str>((low, high)));
        found
            .into_iter()
            .flatten()
            .filter(move |ByKey(_, signature)| signature.may_have(wanted))
            .map(|ByKey(entry, _)| entry)
    }
}

/// The least text that is after all that start with a prefix; none when there is none.
fn end_of(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        if let Some(next) = (last as u32 + 1..=char::MAX as u32).find_map(char::from_u32) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.revision)
            .field("len", &self.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::end_of;

    #[test]
    fn the_end_of_a_prefix_lies_after_all_that_start_with_it() {
        for (prefix, want) in [
            ("/registry/pods/", Some("/registry/pods0")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("", None),
        ] {
            assert_eq!(end_of(prefix).as_deref(), want, "{prefix:?}");
        }
    }
}
