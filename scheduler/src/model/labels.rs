//! Labels as a short list of pairs.

use super::Str;
use std::collections::BTreeMap;

/// Labels, ordered by key. Looking one up compares pointers along the list, which is the fastest for the few labels that objects have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(Str, Str)]>);

impl Labels {
    /// From an object's map.
    pub fn new(map: Option<&BTreeMap<String, String>>) -> Self {
        Self(
            map.into_iter()
                .flatten()
                .map(|(k, v)| (Str::new(k), Str::new(v)))
                .collect(),
        )
    }

    /// From pairs, for tests and simulations.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        let map: BTreeMap<String, String> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Self::new(Some(&map))
    }

    /// The value of a label.
    pub fn get(&self, key: &Str) -> Option<&Str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The pairs, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = &(Str, Str)> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
