//! How many watch what: each of them makes a write dearer.

use ahash::RandomState;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// What is watched, or written. Empty parts are wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watched<'a> {
    pub(super) group: &'a str,
    pub(super) resource: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

/// Counts of watchers, by the hash of what they watch: two that collide only make an estimate a little higher.
#[derive(Default)]
pub(super) struct Watchers {
    hasher: RandomState,
    counts: Mutex<HashMap<u64, u32>>,
}

/// A watcher that is counted; until it is dropped.
pub struct Watching {
    of: Option<(Arc<Watchers>, u64)>,
}

impl Watchers {
    /// Counts a watcher. One of the pods of a single node isn't: few writes reach it.
    pub(super) fn enter(watchers: &Arc<Self>, what: &Watched<'_>, node: Option<&str>) -> Watching {
        if what.resource == "pods" && node.is_some_and(|node| !node.is_empty()) {
            return Watching { of: None };
        }
        let key = watchers.hasher.hash_one(what);
        *watchers.counts.lock().entry(key).or_default() += 1;
        Watching {
            of: Some((watchers.clone(), key)),
        }
    }

    /// How many are told of a write: those of the whole resource, of the namespace, of the object.
    pub(super) fn of(&self, what: &Watched<'_>) -> u32 {
        let all = Watched {
            namespace: "",
            name: "",
            ..*what
        };
        let space = Watched { name: "", ..*what };
        let counts = self.counts.lock();
        let count = |what: &Watched<'_>| counts.get(&self.hasher.hash_one(what)).copied().unwrap_or(0);
        let mut sum = count(&all);
        if !what.namespace.is_empty() {
            sum += count(&space);
        }
        if !what.name.is_empty() {
            sum += count(what);
        }
        sum
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let Some((watchers, key)) = self.of.take() else {
            return;
        };
        let mut counts = watchers.counts.lock();
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_told_to_those_who_watch_around_it() {
        let watchers = Arc::new(Watchers::default());
        let pods = |namespace, name| Watched {
            group: "",
            resource: "pods",
            namespace,
            name,
        };
        let all = Watchers::enter(&watchers, &pods("", ""), None);
        let _space = Watchers::enter(&watchers, &pods("a", ""), None);
        let _one = Watchers::enter(&watchers, &pods("a", "x"), None);
        let _node = Watchers::enter(&watchers, &pods("", ""), Some("n1"));
        let counts = [pods("a", "x"), pods("a", "y"), pods("b", "x")].map(|what| watchers.of(&what));
        assert_eq!(counts, [3, 2, 1]);
        drop(all);
        assert_eq!(watchers.of(&pods("b", "x")), 0);
    }
}
