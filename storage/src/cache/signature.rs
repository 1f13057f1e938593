//! Which labels an object may have, in 64 bits: a list by label looks at these, which lie side by side in the map's nodes, and at
//! the objects themselves, which lie all over memory, only where they say maybe.

use super::entry::Index;
use ahash::RandomState;

/// Two bits for each label. A superset of what is wanted doesn't mean that it is there; anything less means that it isn't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signature(u64);

// Equal labels have equal bits in one process: that is all they need.
const SEEDS: RandomState = RandomState::with_seeds(0x51, 0x1f, 0xa7, 0x0e);

impl Signature {
    /// That of an object's labels.
    pub(crate) fn of(index: &Index) -> Self {
        let mut all = Self::default();
        for (key, value) in &index.labels {
            all = all.and(key, value);
        }
        all
    }

    /// With one more label.
    #[must_use]
    pub fn and(self, key: &str, value: &str) -> Self {
        let hash = SEEDS.hash_one((key, value));
        Self(self.0 | 1 << (hash & 63) | 1 << (hash >> 6 & 63))
    }

    /// Whether an object with this signature may have all labels of the wanted one.
    pub(crate) fn may_have(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_never_denied_and_most_that_is_not_is() {
        let label = |n: usize| (format!("key-{}", n % 7), format!("value-{n}"));
        let holder = (0..4).fold(Signature::default(), |all, n| {
            let (key, value) = label(n);
            all.and(&key, &value)
        });
        for n in 0..4 {
            let (key, value) = label(n);
            assert!(holder.may_have(Signature::default().and(&key, &value)));
        }
        assert!(holder.may_have(Signature::default()));
        let wrong = (4..1004).filter(|n| {
            let (key, value) = label(*n);
            holder.may_have(Signature::default().and(&key, &value))
        });
        assert!(wrong.count() < 100, "one in ten at most");
    }
}
