//! PodTopologySpread: pods that a selector selects are spread evenly over places.
//!
//! Matching pods are counted by template: a selector is matched once for each template in the namespace, and the template's counts for each node are kept
//! by the snapshot.

use super::args::{Defaulting, TopologySpreadArgs};
use crate::framework::{
    ClusterEvent, Context, Interest, MAX_SCORE, Plugin, Point, Points, PreFilter, PreScore, Rejection, State,
    own,
};
use crate::model::node::untolerated;
use crate::model::template::{Spread, spread};
use crate::model::{Labels, Node, Pod, Selector, Str};
use crate::snapshot::{NO_PLACE, NodeInfo, Snapshot};
use ahash::AHashSet;
use std::borrow::Cow;
use std::sync::Arc;

const REASON: &str = "node(s) didn't match pod topology spread constraints";
const REASON_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

/// The node label that every node has a value of its own for.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// See the module.
pub struct PodTopologySpread {
    defaults: Vec<Spread>,
    system: bool,
    hostname: Str,
}

impl PodTopologySpread {
    /// From its arguments, which have been checked.
    pub fn new(args: &TopologySpreadArgs) -> Self {
        let system = args.defaulting_type == Defaulting::System;
        let wish = |key: &str, max_skew: i32| Spread {
            max_skew,
            topology_key: Str::new(key),
            hard: false,
            selector: Selector::default(),
            min_domains: 1,
            honor_affinity: true,
            honor_taints: false,
        };
        let defaults = if system {
            vec![wish(HOSTNAME, 3), wish(ZONE, 5)]
        } else {
            let none = Labels::default();
            args.default_constraints
                .iter()
                .map(|c| spread(c, &none))
                .collect()
        };
        Self {
            defaults,
            system,
            hostname: Str::new(HOSTNAME),
        }
    }

    fn constraints<'a>(&self, snapshot: &Snapshot, pod: &'a Pod, hard: bool) -> Vec<Cow<'a, Spread>> {
        let given = &pod.template.wishes().spread;
        if !given.is_empty() {
            return given
                .iter()
                .filter(|c| c.hard == hard)
                .map(Cow::Borrowed)
                .collect();
        }
        if !self.defaults.iter().any(|c| c.hard == hard) {
            return Vec::new();
        }
        let selector = snapshot.owners.selector(&pod.template);
        if selector.is_everything() {
            return Vec::new();
        }
        let wanted = self.defaults.iter().filter(|c| c.hard == hard);
        wanted
            .map(|c| {
                Cow::Owned(Spread {
                    selector: selector.clone(),
                    ..c.clone()
                })
            })
            .collect()
    }
}

/// Whether a node's pods count for a constraint of a pod.
fn counts(constraint: &Spread, pod: &Pod, node: &Node) -> bool {
    let template = &pod.template;
    (!constraint.honor_affinity || template.allows_node(&node.name, &node.labels))
        && (!constraint.honor_taints || untolerated(&node.taints, &template.tolerations).is_none())
}

fn has_all(labels: &Labels, constraints: &[Cow<'_, Spread>]) -> bool {
    constraints.iter().all(|c| labels.get(&c.topology_key).is_some())
}

/// How many live pods that the constraint selects are on each node (by slot).
fn matching<'a>(
    snapshot: &'a Snapshot,
    constraint: &'a Spread,
    namespace: &'a Str,
) -> impl Iterator<Item = (u32, i64)> {
    let everything = constraint.selector.is_everything();
    snapshot
        .templates_in(namespace)
        .filter(move |u| !everything && constraint.selector.matches(&u.template.labels))
        .flat_map(|u| u.nodes.iter().map(|(slot, count)| (*slot, i64::from(count.live))))
}

/// One hard constraint with what is at each place.
#[derive(Clone)]
struct Counted {
    constraint: Arc<Spread>,
    // By place; nothing where no node counts.
    at: Vec<Option<i64>>,
    own: bool,
}

impl Counted {
    fn least(&self) -> i64 {
        let known = self.at.iter().flatten();
        let places = known.clone().count();
        if i64::try_from(places).unwrap_or(i64::MAX) < i64::from(self.constraint.min_domains) {
            return 0;
        }
        known.copied().min().unwrap_or(i64::from(i32::MAX))
    }
}

#[derive(Clone)]
struct Hard {
    counted: Vec<Counted>,
    least: Vec<i64>,
}

impl PodTopologySpread {
    fn hard(&self, snapshot: &Snapshot, pod: &Pod, constraints: &[Cow<'_, Spread>]) -> Hard {
        let mut counted: Vec<Counted> = constraints
            .iter()
            .map(|c| Counted {
                own: c.selector.matches(&pod.template.labels),
                at: vec![None; snapshot.topology(&c.topology_key).limit()],
                constraint: Arc::new(c.as_ref().clone()),
            })
            .collect();
        let simple = constraints.len() == 1;
        let allowed = |info: &NodeInfo, constraint: &Spread| {
            info.node.as_ref().is_some_and(|node| {
                (simple || has_all(&node.labels, constraints)) && counts(constraint, pod, node)
            })
        };
        for entry in &mut counted {
            let constraint = entry.constraint.clone();
            let topology = snapshot.topology(&constraint.topology_key);
            for info in snapshot.nodes() {
                if let Some(place) = entry.at.get_mut(topology.of(info.slot) as usize)
                    && place.is_none()
                    && allowed(info, &constraint)
                {
                    *place = Some(0);
                }
            }
            for (slot, count) in matching(snapshot, &constraint, pod.namespace()) {
                if let Some(Some(sum)) = entry.at.get_mut(topology.of(slot) as usize)
                    && snapshot
                        .by_slot(slot)
                        .is_some_and(|info| allowed(info, &constraint))
                {
                    *sum += count;
                }
            }
        }
        let least = counted.iter().map(Counted::least).collect();
        Hard { counted, least }
    }

    fn shift(
        &self,
        cx: Context<'_>,
        state: &mut dyn State,
        pod: &Pod,
        other: &Pod,
        info: &NodeInfo,
        by: i64,
    ) {
        let Some(hard) = state.as_any_mut().downcast_mut::<Hard>() else {
            return;
        };
        let Some(node) = &info.node else { return };
        let all = hard
            .counted
            .iter()
            .all(|c| node.labels.get(&c.constraint.topology_key).is_some());
        if other.namespace() != pod.namespace() || !all {
            return;
        }
        for (entry, least) in hard.counted.iter_mut().zip(&mut hard.least) {
            let c = entry.constraint.clone();
            if c.selector.matches(&other.template.labels) && counts(&c, pod, node) {
                let place = cx.snapshot.topology(&c.topology_key).of(info.slot);
                if let Some(at) = entry.at.get_mut(place as usize) {
                    *at = Some(at.unwrap_or(0) + by);
                    *least = entry.least();
                }
            }
        }
    }
}

/// The soft constraints with what scoring needs.
#[derive(Clone)]
struct Soft {
    constraints: Vec<SoftCounted>,
    // Nodes (by slot) that lack a label which they must have to be scored.
    ignored: AHashSet<u32>,
}

#[derive(Clone)]
struct SoftCounted {
    topology_key: Str,
    max_skew: i32,
    weight: f64,
    hostname: bool,
    // By place, or by slot for the host name.
    at: Vec<i64>,
}

impl PodTopologySpread {
    fn soft(
        &self,
        snapshot: &Snapshot,
        pod: &Pod,
        constraints: &[Cow<'_, Spread>],
        nodes: &[&NodeInfo],
    ) -> Soft {
        let require_all = !pod.template.wishes().spread.is_empty() || !self.system;
        let eligible = |info: &NodeInfo| {
            !require_all
                || info
                    .node
                    .as_ref()
                    .is_some_and(|n| has_all(&n.labels, constraints))
        };
        let ignored: AHashSet<u32> = nodes.iter().filter(|n| !eligible(n)).map(|n| n.slot).collect();
        let prepared = constraints.iter().map(|c| {
            let topology = snapshot.topology(&c.topology_key);
            let hostname = c.topology_key == self.hostname;
            let (at, places) = if hostname {
                let mut at = vec![0; snapshot.slots()];
                for (slot, count) in matching(snapshot, c, pod.namespace()) {
                    if let Some(at) = at.get_mut(slot as usize) {
                        *at += count;
                    }
                }
                (at, nodes.len() - ignored.len())
            } else {
                let mut known = vec![false; topology.limit()];
                let mut without = false;
                for info in nodes.iter().filter(|n| eligible(n)) {
                    match known.get_mut(topology.of(info.slot) as usize) {
                        Some(known) => *known = true,
                        None => without = true,
                    }
                }
                let mut at = vec![0; topology.limit()];
                for (slot, count) in matching(snapshot, c, pod.namespace()) {
                    let place = topology.of(slot) as usize;
                    let counted = known.get(place) == Some(&true)
                        && snapshot.by_slot(slot).is_some_and(|info| {
                            eligible(info) && info.node.as_ref().is_some_and(|n| counts(c, pod, n))
                        });
                    if let (true, Some(at)) = (counted, at.get_mut(place)) {
                        *at += count;
                    }
                }
                (at, known.iter().filter(|k| **k).count() + usize::from(without))
            };
            SoftCounted {
                topology_key: c.topology_key.clone(),
                max_skew: c.max_skew,
                weight: ((places + 2) as f64).ln(),
                hostname,
                at,
            }
        });
        let constraints = prepared.collect();
        Soft { constraints, ignored }
    }
}

impl Soft {
    fn ignores(&self, info: &NodeInfo) -> bool {
        !self.ignored.is_empty() && self.ignored.contains(&info.slot)
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score])
    }

    fn topology_keys(&self) -> Vec<Str> {
        self.defaults.iter().map(|c| c.topology_key.clone()).collect()
    }

    fn interests(&self) -> Interest {
        Interest::POD_ADD
            .and(Interest::POD_LABEL)
            .and(Interest::POD_DELETE)
            .and(Interest::TOLERATION)
            .and(Interest::NODE_ADD)
            .and(Interest::NODE_DELETE)
            .and(Interest::NODE_LABEL)
            .and(Interest::NODE_TAINT)
    }

    fn hint(&self, cx: Context<'_>, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        let constraints = self.constraints(cx.snapshot, pod, true);
        let selects = |other: &Pod| {
            constraints
                .iter()
                .any(|c| c.selector.matches(&other.template.labels))
        };
        let near = |other: &Pod| {
            other.namespace() == pod.namespace() && (other.node.is_some() || other.nominated.is_some())
        };
        let has = |node: &Node| has_all(&node.labels, &constraints);
        match event {
            ClusterEvent::PodAdded(other) | ClusterEvent::PodDeleted(other) => near(other) && selects(other),
            ClusterEvent::PodUpdated(old, new) => {
                near(new)
                    && constraints.iter().any(|c| {
                        c.selector.matches(&old.template.labels) != c.selector.matches(&new.template.labels)
                    })
            }
            ClusterEvent::NodeAdded(node) | ClusterEvent::NodeDeleted(node) => has(node),
            ClusterEvent::NodeUpdated(old, new) => {
                has(old) != has(new)
                    || (has(new)
                        && (old.taints != new.taints
                            || constraints
                                .iter()
                                .any(|c| old.labels.get(&c.topology_key) != new.labels.get(&c.topology_key))))
            }
            _ => true,
        }
    }

    fn pre_filter(&self, cx: Context<'_>, pod: &Pod) -> PreFilter {
        let constraints = self.constraints(cx.snapshot, pod, true);
        if constraints.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Run(Some(Box::new(self.hard(cx.snapshot, pod, &constraints))))
    }

    fn add_pod(&self, cx: Context<'_>, state: &mut dyn State, pod: &Pod, added: &Pod, node: &NodeInfo) {
        self.shift(cx, state, pod, added, node, 1);
    }

    fn remove_pod(&self, cx: Context<'_>, state: &mut dyn State, pod: &Pod, removed: &Pod, node: &NodeInfo) {
        self.shift(cx, state, pod, removed, node, -1);
    }

    fn filter(
        &self,
        cx: Context<'_>,
        state: Option<&dyn State>,
        _: &Pod,
        info: &NodeInfo,
    ) -> Result<(), Rejection> {
        let Some(hard) = own::<Hard>(state) else {
            return Ok(());
        };
        for (entry, least) in hard.counted.iter().zip(&hard.least) {
            let place = cx.snapshot.topology(&entry.constraint.topology_key).of(info.slot);
            if place == NO_PLACE {
                return Err(Rejection::unresolvable(REASON_LABEL));
            }
            let here = entry.at.get(place as usize).copied().flatten().unwrap_or(0);
            if here + i64::from(entry.own) - least > i64::from(entry.constraint.max_skew) {
                return Err(Rejection::unschedulable(REASON));
            }
        }
        Ok(())
    }

    fn pre_score(&self, cx: Context<'_>, pod: &Pod, nodes: &[&NodeInfo]) -> PreScore {
        let constraints = self.constraints(cx.snapshot, pod, false);
        if constraints.is_empty() {
            return PreScore::Skip;
        }
        PreScore::Run(Some(Box::new(self.soft(cx.snapshot, pod, &constraints, nodes))))
    }

    fn score(&self, cx: Context<'_>, state: Option<&dyn State>, _: &Pod, info: &NodeInfo) -> i64 {
        let Some(soft) = own::<Soft>(state) else { return 0 };
        if soft.ignores(info) {
            return 0;
        }
        let mut score = 0.0;
        for c in &soft.constraints {
            let place = cx.snapshot.topology(&c.topology_key).of(info.slot);
            if place != NO_PLACE {
                let index = if c.hostname { info.slot } else { place };
                let here = c.at.get(index as usize).copied().unwrap_or(0);
                score += here as f64 * c.weight + f64::from(c.max_skew - 1);
            }
        }
        score.round() as i64
    }

    fn normalize(&self, state: Option<&dyn State>, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let Some(soft) = own::<Soft>(state) else { return };
        let counted = || {
            let both = nodes.iter().zip(scores.iter());
            both.filter(|(n, _)| !soft.ignores(n)).map(|(_, s)| *s)
        };
        let (lowest, highest) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
        for (node, score) in nodes.iter().zip(scores.iter_mut()) {
            *score = match highest {
                _ if soft.ignores(node) => 0,
                0 => MAX_SCORE,
                highest => MAX_SCORE * (highest + lowest - *score) / highest,
            };
        }
    }
}
