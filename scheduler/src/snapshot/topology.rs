//! Places: which nodes have the same value of a label.

use super::NodeInfo;
use crate::model::{Labels, Str};
use ahash::AHashMap;
use std::sync::LazyLock;

/// The place of a node that lacks the label.
pub const NO_PLACE: u32 = u32::MAX;

/// The places of one node label. Places are numbered from 0; a number is used again after its last node has left.
#[derive(Debug)]
pub struct Topology {
    /// The label.
    pub key: Str,
    of_slot: Vec<u32>,
    places: AHashMap<Str, u32>,
    members: Vec<(Str, u32)>,
    free: Vec<u32>,
}

impl Topology {
    /// The places of a label, none yet.
    pub fn new(key: Str) -> Self {
        Self {
            key,
            of_slot: Vec::new(),
            places: AHashMap::new(),
            members: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The place of the node in a slot.
    pub fn of(&self, slot: u32) -> u32 {
        self.of_slot.get(slot as usize).copied().unwrap_or(NO_PLACE)
    }

    /// Every place's number is less.
    pub fn limit(&self) -> usize {
        self.members.len()
    }

    /// Puts the node in a slot where its label says.
    pub fn set(&mut self, slot: u32, value: Option<&Str>) {
        let slot = slot as usize;
        if self.of_slot.len() <= slot {
            self.of_slot.resize(slot + 1, NO_PLACE);
        }
        let before = self.of_slot[slot];
        let same = match (self.members.get(before as usize), value) {
            (Some((name, _)), Some(value)) => name == value,
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        if let Some((name, count)) = self.members.get_mut(before as usize) {
            *count -= 1;
            if *count == 0 {
                self.places.remove(name);
                self.free.push(before);
            }
        }
        self.of_slot[slot] = value.map_or(NO_PLACE, |value| self.join(value));
    }

    fn join(&mut self, value: &Str) -> u32 {
        let place = match self.places.get(value) {
            Some(&place) => place,
            None => {
                let place = self.free.pop().unwrap_or_else(|| {
                    self.members.push((value.clone(), 0));
                    u32::try_from(self.members.len() - 1).unwrap_or(NO_PLACE)
                });
                self.places.insert(value.clone(), place);
                place
            }
        };
        if let Some(member) = self.members.get_mut(place as usize) {
            if member.1 == 0 {
                member.0 = value.clone();
            }
            member.1 += 1;
        }
        place
    }
}

/// A topology that no node has.
pub(super) fn nowhere() -> &'static Topology {
    static NOWHERE: LazyLock<Topology> = LazyLock::new(|| Topology::new(Str::default()));
    &NOWHERE
}

/// Region and zone of a node, by the labels of today or of old.
pub(super) fn zone(labels: &Labels) -> (Option<Str>, Option<Str>) {
    static KEYS: LazyLock<[Str; 4]> = LazyLock::new(|| {
        [
            Str::new("topology.kubernetes.io/region"),
            Str::new("failure-domain.beta.kubernetes.io/region"),
            Str::new("topology.kubernetes.io/zone"),
            Str::new("failure-domain.beta.kubernetes.io/zone"),
        ]
    });
    let first = |a: &Str, b: &Str| labels.get(a).or_else(|| labels.get(b)).cloned();
    (first(&KEYS[0], &KEYS[1]), first(&KEYS[2], &KEYS[3]))
}

/// The order in which nodes are looked at: zones take turns, so that a part of the list has nodes of every zone.
pub(super) fn interleave<'a>(nodes: impl Iterator<Item = &'a NodeInfo>) -> Vec<u32> {
    let mut zones: indexmap::IndexMap<_, Vec<u32>> = indexmap::IndexMap::new();
    let mut total = 0;
    for info in nodes {
        if let Some(node) = &info.node {
            zones.entry(zone(&node.labels)).or_default().push(info.slot);
            total += 1;
        }
    }
    let mut order = Vec::with_capacity(total);
    for turn in 0.. {
        let before = order.len();
        order.extend(zones.values().filter_map(|slots| slots.get(turn)));
        if order.len() == before {
            break;
        }
    }
    order
}
