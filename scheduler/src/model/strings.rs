//! Interned strings: every distinct text is held once, and comparing two is comparing pointers.
//!
//! Guarantee: two live [`Str`] are equal exactly when their texts are. Texts that nobody holds any more are dropped when the table
//! has doubled. Not promised: any order of hashes between processes.

use ahash::AHashSet;
use parking_lot::Mutex;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

/// A shared text. Cheap to clone and to compare.
#[derive(Clone)]
pub struct Str(Arc<str>);

struct Entry(Arc<str>);

impl Borrow<str> for Entry {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Entry {}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

struct Table {
    entries: AHashSet<Entry>,
    sweep_at: usize,
}

const SWEEP_MIN: usize = 4096;

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(|| {
    Mutex::new(Table {
        entries: AHashSet::new(),
        sweep_at: SWEEP_MIN,
    })
});

impl Str {
    /// The shared form of a text.
    pub fn new(text: &str) -> Self {
        let mut table = TABLE.lock();
        if let Some(entry) = table.entries.get(text) {
            return Self(entry.0.clone());
        }
        if table.entries.len() >= table.sweep_at {
            // New holders appear only under this lock, so a count of one means that nobody else holds it.
            table.entries.retain(|entry| Arc::strong_count(&entry.0) > 1);
            table.sweep_at = (table.entries.len() * 2).max(SWEEP_MIN);
            let next = table.sweep_at;
            table.entries.shrink_to(next);
        }
        let shared: Arc<str> = text.into();
        table.entries.insert(Entry(shared.clone()));
        Self(shared)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Str {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Str {}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Str {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).cast::<u8>().hash(state);
    }
}

impl Deref for Str {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<&String> for Str {
    fn from(text: &String) -> Self {
        Self::new(text)
    }
}

impl Default for Str {
    fn default() -> Self {
        Self::new("")
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_and_dropped_texts_leave_the_table() {
        let (a, b) = (Str::new("zone-a"), Str::new(&String::from("zone-a")));
        assert_eq!(a, b);
        assert_ne!(a, Str::new("zone-b"));
        for i in 0..3 * SWEEP_MIN {
            drop(Str::new(&format!("passing-{i}")));
        }
        assert!(TABLE.lock().entries.len() <= 2 * SWEEP_MIN);
        assert_eq!(a, Str::new("zone-a"));
    }
}
