//! What the cache keeps of one object: its served bytes and a small index, and the [`Decoder`] that makes them.
//!
//! Guarantee: what an [`Entry`] says never changes; whoever holds one holds a consistent object. Memory is kept small by boxed
//! slices and by [`Atom`]s shared through an [`Interner`]. This file parses nothing: the decoder is supplied.

use super::body::Body;
use crate::Revision;
use ahash::RandomState;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use thiserror::Error;

/// A shared string: label keys and values, namespaces, selectable fields. Clone is a counter.
pub type Atom = Arc<str>;

/// One object as the cache holds it.
#[derive(Debug)]
pub struct Entry {
    /// The whole key, such as `/registry/pods/default/web`.
    pub key: Box<str>,
    body: Body,
    /// What selectors and look-ups need, so that nothing is parsed to answer them.
    pub index: Index,
    /// The revision of the put that made this state; for the last state of a deleted object, the deletion's.
    pub revision: Revision,
}

impl Entry {
    /// An entry of the served JSON, with `metadata.resourceVersion` of `revision` in it.
    pub fn new(key: Box<str>, bytes: Bytes, index: Index, revision: Revision) -> Self {
        Self {
            key,
            body: Body::new(bytes),
            index,
            revision,
        }
    }

    /// The served JSON, with `metadata.resourceVersion` of the entry's revision in it.
    pub fn bytes(&self) -> Bytes {
        self.body.bytes()
    }

    /// How many bytes the served JSON has.
    pub fn size(&self) -> usize {
        self.body.len()
    }

    /// Makes it take less memory, for it is no longer the object's newest state; how many bytes its JSON takes then.
    pub(crate) fn pack(&self) -> usize {
        self.body.pack()
    }
}

/// The part of an object that lists, watches and selectors look at.
#[derive(Clone, Debug)]
pub struct Index {
    /// The namespace; empty for what is cluster-scoped.
    pub namespace: Atom,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// Labels, sorted by key.
    pub labels: Box<[(Atom, Atom)]>,
    /// Selectable fields by path (`spec.nodeName`), sorted by path. `metadata.name` and `metadata.namespace` need not
    /// be listed: [`Index::field`] answers them.
    pub fields: Box<[(Atom, Atom)]>,
    /// The uids of the owner references.
    pub owners: Box<[Box<str>]>,
}

/// Turns stored values into entries. Supplied by whoever knows the kinds; called from one task at a time while
/// following, from several while loading.
pub trait Decoder: Send + Sync + 'static {
    /// The entry for a stored value. [`super::splice_resource_version`] does the bytes.
    fn decode(&self, key: &str, value: &Bytes, revision: Revision) -> Result<Entry, DecodeError>;
}

/// Why a stored value can't be served. The object is counted, logged once and quarantined.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

impl Index {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        self.labels.get(at).map(|(_, v)| &**v)
    }

    /// The value of a selectable field, `metadata.name` and `metadata.namespace` included.
    pub fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.name),
            "metadata.namespace" => Some(&self.namespace),
            _ => {
                let at = self.fields.binary_search_by(|(k, _)| (**k).cmp(path)).ok()?;
                self.fields.get(at).map(|(_, v)| &**v)
            }
        }
    }
}

/// Makes equal strings one [`Atom`]. Strings nobody holds any more are forgotten as it grows.
#[derive(Debug)]
pub struct Interner {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Shard {
    atoms: HashSet<Atom, RandomState>,
    sweep_at: usize,
}

const SHARDS: usize = 16;
const FIRST_SWEEP: usize = 1024;

impl Default for Interner {
    fn default() -> Self {
        let shard = || {
            Mutex::new(Shard {
                atoms: HashSet::default(),
                sweep_at: FIRST_SWEEP,
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Interner {
    /// The atom of a string.
    pub fn atom(&self, text: &str) -> Atom {
        let at = self.hasher.hash_one(text) as usize % SHARDS;
        let Some(shard) = self.shards.get(at) else {
            return Atom::from(text);
        };
        let mut shard = shard.lock();
        if let Some(atom) = shard.atoms.get(text) {
            return atom.clone();
        }
        if shard.atoms.len() >= shard.sweep_at {
            shard.atoms.retain(|atom| Arc::strong_count(atom) > 1);
            shard.sweep_at = (shard.atoms.len() * 2).max(FIRST_SWEEP);
        }
        let atom = Atom::from(text);
        shard.atoms.insert(atom.clone());
        atom
    }

    /// Pairs as atoms, sorted by key: the shape of [`Index::labels`] and [`Index::fields`].
    pub fn pairs<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Box<[(Atom, Atom)]> {
        let mut pairs: Vec<_> = pairs
            .into_iter()
            .map(|(k, v)| (self.atom(k), self.atom(v)))
            .collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.into_boxed_slice()
    }

    /// How many atoms are held.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().atoms.len()).sum()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
