//! Why no node will do, told as Kubernetes tells it.

use super::{Code, Rejection};
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};

/// What came out of filtering.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    /// Nodes (by slot) that were looked at and turned down.
    pub nodes: Vec<(u32, Rejection)>,
    /// What is true of the nodes that weren't looked at.
    pub absent: Option<Rejection>,
    /// The plugins whose rejections something else may lift.
    pub plugins: BTreeSet<&'static str>,
    /// What pre-filter said, when it was that.
    pub pre_filter: Option<String>,
    /// What post-filter said.
    pub post_filter: String,
}

impl Diagnosis {
    /// Notes that a node was turned down.
    pub fn reject(&mut self, slot: u32, rejection: Rejection) {
        if !rejection.plugin.is_empty() {
            self.plugins.insert(rejection.plugin);
        }
        self.nodes.push((slot, rejection));
    }

    /// The nodes that removing pods might help, by slot.
    pub fn nodes_with(&self, snapshot: &Snapshot, code: Code) -> Vec<u32> {
        if self.absent.as_ref().is_some_and(|r| r.code == code) {
            let other: BTreeSet<u32> = self
                .nodes
                .iter()
                .filter(|(_, r)| r.code != code)
                .map(|(slot, _)| *slot)
                .collect();
            return snapshot
                .nodes()
                .map(|n| n.slot)
                .filter(|slot| !other.contains(slot))
                .collect();
        }
        self.nodes
            .iter()
            .filter(|(_, r)| r.code == code)
            .map(|(slot, _)| *slot)
            .collect()
    }

    /// What is true of a node.
    pub fn of(&self, slot: u32) -> Option<&Rejection> {
        let explicit = self.nodes.iter().find(|(s, _)| *s == slot).map(|(_, r)| r);
        explicit.or(self.absent.as_ref())
    }

    /// `0/N nodes are available: ...` as Kubernetes words it.
    pub fn message(&self, nodes: usize) -> String {
        let mut text = format!("0/{nodes} nodes are available:");
        match &self.pre_filter {
            Some(message) => text.push_str(&format!(" {message}.")),
            None => {
                let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                for (_, rejection) in &self.nodes {
                    for reason in &rejection.reasons {
                        *counts.entry(reason).or_default() += 1;
                    }
                }
                let rest = nodes.saturating_sub(self.nodes.len());
                if rest > 0 {
                    for reason in self.absent.iter().flat_map(|r| &r.reasons) {
                        *counts.entry(reason).or_default() += rest;
                    }
                }
                let mut reasons: Vec<String> = counts.iter().map(|(r, n)| format!("{n} {r}")).collect();
                reasons.sort();
                if !reasons.is_empty() {
                    text.push_str(&format!(" {}.", reasons.join(", ")));
                }
            }
        }
        if !self.post_filter.is_empty() {
            text.push(' ');
            text.push_str(&self.post_filter);
        }
        text
    }
}
