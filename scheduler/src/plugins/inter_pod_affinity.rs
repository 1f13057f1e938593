//! InterPodAffinity: pods near to or apart from other pods.
//!
//! Terms are matched once for each template and not for each pod; how many pods of a template are where is kept by the snapshot.

use super::args::InterPodAffinityArgs;
use crate::framework::{
    ClusterEvent, Context, Interest, MAX_SCORE, Plugin, Point, Points, PreFilter, PreScore, Rejection, State,
    own,
};
use crate::model::{AffinityTerm, Labels, Node, Pod, Str, Template};
use crate::snapshot::{FastMap, NO_PLACE, NodeInfo, Snapshot, TemplateUse};

/// See the module.
pub struct InterPodAffinity {
    args: InterPodAffinityArgs,
}

impl InterPodAffinity {
    /// From its arguments, which have been checked.
    pub fn new(args: InterPodAffinityArgs) -> Self {
        Self { args }
    }
}

/// How many at each place of a topology.
#[derive(Clone)]
struct Places {
    key: Str,
    at: Vec<i64>,
}

impl Places {
    fn new(snapshot: &Snapshot, key: &Str) -> Self {
        Self {
            key: key.clone(),
            at: vec![0; snapshot.topology(key).limit()],
        }
    }

    fn add(&mut self, snapshot: &Snapshot, slot: u32, by: i64) {
        let place = snapshot.topology(&self.key).of(slot);
        if let Some(at) = self.at.get_mut(place as usize) {
            *at += by;
        }
    }

    fn get(&self, snapshot: &Snapshot, slot: u32) -> i64 {
        let place = snapshot.topology(&self.key).of(slot);
        self.at.get(place as usize).copied().unwrap_or(0)
    }
}

#[derive(Clone)]
struct Required {
    // For each of the pod's terms: pods that match all of its affinity terms, or that anti-affinity term.
    affinity: Vec<Places>,
    anti_affinity: Vec<Places>,
    // For each topology key: pods there whose anti-affinity bars the pod.
    existing: FastMap<Str, Places>,
    // Whether the pod matches all of its own affinity terms.
    first: bool,
}

fn matches(term: &AffinityTerm, template: &Template, labels: Option<&Labels>) -> bool {
    term.matches(&template.namespace, labels, &template.labels)
}

/// Whether there are terms and a template matches all of them.
fn matches_all(terms: &[AffinityTerm], snapshot: &Snapshot, template: &Template) -> bool {
    let labels = snapshot.namespace_labels(&template.namespace);
    !terms.is_empty() && terms.iter().all(|t| matches(t, template, labels))
}

/// The templates that terms may mean: those of the namespaces named, or all when a term chooses namespaces by labels.
fn candidates<'a>(
    snapshot: &'a Snapshot,
    terms: impl Iterator<Item = &'a AffinityTerm>,
) -> Vec<&'a TemplateUse> {
    let nothing = crate::model::Selector::nothing();
    let mut namespaces: Vec<&Str> = Vec::new();
    for term in terms {
        if term.namespace_selector != nothing {
            return snapshot.templates().collect();
        }
        for namespace in &term.namespaces {
            if !namespaces.contains(&namespace) {
                namespaces.push(namespace);
            }
        }
    }
    namespaces
        .into_iter()
        .flat_map(|n| snapshot.templates_in(n))
        .collect()
}

fn required(snapshot: &Snapshot, pod: &Pod) -> Required {
    let template = &*pod.template;
    let wishes = template.wishes();
    let own_labels = snapshot.namespace_labels(&template.namespace);
    let places = |terms: &[AffinityTerm]| -> Vec<Places> {
        terms
            .iter()
            .map(|t| Places::new(snapshot, &t.topology_key))
            .collect()
    };
    let mut state = Required {
        affinity: places(&wishes.affinity),
        anti_affinity: places(&wishes.anti_affinity),
        existing: FastMap::default(),
        first: matches_all(&wishes.affinity, snapshot, template),
    };
    for other in snapshot.affine_templates() {
        for term in &other.template.wishes().anti_affinity {
            if matches(term, template, own_labels) {
                let places = state
                    .existing
                    .entry(term.topology_key.clone())
                    .or_insert_with(|| Places::new(snapshot, &term.topology_key));
                for (slot, count) in &other.nodes {
                    places.add(snapshot, *slot, count.all.into());
                }
            }
        }
    }
    for other in candidates(snapshot, wishes.affinity.iter().chain(&wishes.anti_affinity)) {
        let labels = snapshot.namespace_labels(&other.template.namespace);
        let near = matches_all(&wishes.affinity, snapshot, &other.template);
        for places in state.affinity.iter_mut().filter(|_| near) {
            for (slot, count) in &other.nodes {
                places.add(snapshot, *slot, count.all.into());
            }
        }
        for (term, places) in wishes.anti_affinity.iter().zip(&mut state.anti_affinity) {
            if matches(term, &other.template, labels) {
                for (slot, count) in &other.nodes {
                    places.add(snapshot, *slot, count.all.into());
                }
            }
        }
    }
    state
}

fn shift(cx: Context<'_>, state: &mut dyn State, pod: &Pod, other: &Pod, slot: u32, by: i64) {
    let Some(state) = state.as_any_mut().downcast_mut::<Required>() else {
        return;
    };
    let (snapshot, wishes) = (cx.snapshot, pod.template.wishes());
    let own_labels = snapshot.namespace_labels(pod.namespace());
    for term in &other.template.wishes().anti_affinity {
        if matches(term, &pod.template, own_labels) {
            let places = state.existing.entry(term.topology_key.clone());
            places
                .or_insert_with(|| Places::new(snapshot, &term.topology_key))
                .add(snapshot, slot, by);
        }
    }
    if matches_all(&wishes.affinity, snapshot, &other.template) {
        for places in &mut state.affinity {
            places.add(snapshot, slot, by);
        }
    }
    let labels = snapshot.namespace_labels(other.namespace());
    for (term, places) in wishes.anti_affinity.iter().zip(&mut state.anti_affinity) {
        if matches(term, &other.template, labels) {
            places.add(snapshot, slot, by);
        }
    }
}

/// What each place of each topology is worth to the pod.
#[derive(Clone)]
struct Preferred(Vec<Places>);

impl InterPodAffinity {
    fn preferred(&self, snapshot: &Snapshot, pod: &Pod) -> Preferred {
        let template = &*pod.template;
        let wishes = template.wishes();
        let own_labels = snapshot.namespace_labels(&template.namespace);
        let mut worth: FastMap<Str, Places> = FastMap::default();
        let mut add = |term: &AffinityTerm, other: &TemplateUse, weight: i64| {
            let places = worth
                .entry(term.topology_key.clone())
                .or_insert_with(|| Places::new(snapshot, &term.topology_key));
            for (slot, count) in &other.nodes {
                places.add(snapshot, *slot, weight * i64::from(count.all));
            }
        };
        let (near, apart) = (&wishes.preferred_affinity, &wishes.preferred_anti_affinity);
        for other in candidates(snapshot, near.iter().chain(apart).map(|w| &w.term)) {
            let labels = snapshot.namespace_labels(&other.template.namespace);
            let signed = near.iter().map(|w| (w, 1)).chain(apart.iter().map(|w| (w, -1)));
            for (wish, sign) in signed {
                if matches(&wish.term, &other.template, labels) {
                    add(&wish.term, other, sign * i64::from(wish.weight));
                }
            }
        }
        if self.args.ignore_preferred_terms_of_existing_pods && near.is_empty() && apart.is_empty() {
            return Preferred(Vec::new());
        }
        let hard = self.args.hard_pod_affinity_weight;
        for other in snapshot.affine_templates() {
            let theirs = other.template.wishes();
            let required = theirs.affinity.iter().map(|t| (t, hard)).filter(|_| hard > 0);
            let preferred = theirs
                .preferred_affinity
                .iter()
                .map(|w| (&w.term, i64::from(w.weight)));
            let avoided = theirs
                .preferred_anti_affinity
                .iter()
                .map(|w| (&w.term, -i64::from(w.weight)));
            for (term, weight) in required.chain(preferred).chain(avoided) {
                if matches(term, template, own_labels) {
                    add(term, other, weight);
                }
            }
        }
        Preferred(worth.into_values().collect())
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score])
    }

    fn interests(&self) -> Interest {
        Interest::POD_ADD
            .and(Interest::POD_LABEL)
            .and(Interest::POD_DELETE)
            .and(Interest::NODE_ADD)
            .and(Interest::NODE_LABEL)
    }

    fn hint(&self, cx: Context<'_>, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        let wishes = pod.template.wishes();
        let (near, apart) = (&wishes.affinity, &wishes.anti_affinity);
        let all = |terms: &[AffinityTerm], other: &Pod| matches_all(terms, cx.snapshot, &other.template);
        let label = |node: &Node, term: &AffinityTerm| node.labels.get(&term.topology_key).cloned();
        match event {
            ClusterEvent::PodAdded(other) => all(near, other),
            ClusterEvent::PodUpdated(old, new) => {
                (!all(near, old) && all(near, new)) || (all(apart, old) && !all(apart, new))
            }
            ClusterEvent::PodDeleted(gone) => {
                all(apart, gone)
                    || matches_all(&gone.template.wishes().anti_affinity, cx.snapshot, &pod.template)
            }
            ClusterEvent::NodeAdded(node) => {
                !apart.is_empty() || near.iter().any(|t| label(node, t).is_some())
            }
            ClusterEvent::NodeUpdated(old, new) => {
                let moved = |t: &AffinityTerm| (label(old, t), label(new, t));
                near.iter().map(moved).any(|(a, b)| b.is_some() && a != b)
                    || apart.iter().map(moved).any(|(a, b)| a.is_some() && a != b)
            }
            _ => true,
        }
    }

    fn pre_filter(&self, cx: Context<'_>, pod: &Pod) -> PreFilter {
        let state = required(cx.snapshot, pod);
        if state.existing.is_empty() && state.affinity.is_empty() && state.anti_affinity.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Run(Some(Box::new(state)))
    }

    fn add_pod(&self, cx: Context<'_>, state: &mut dyn State, pod: &Pod, added: &Pod, node: &NodeInfo) {
        shift(cx, state, pod, added, node.slot, 1);
    }

    fn remove_pod(&self, cx: Context<'_>, state: &mut dyn State, pod: &Pod, removed: &Pod, node: &NodeInfo) {
        shift(cx, state, pod, removed, node.slot, -1);
    }

    fn filter(
        &self,
        cx: Context<'_>,
        state: Option<&dyn State>,
        _: &Pod,
        info: &NodeInfo,
    ) -> Result<(), Rejection> {
        let Some(state) = own::<Required>(state) else {
            return Ok(());
        };
        let (snapshot, slot) = (cx.snapshot, info.slot);
        let placed = |p: &Places| snapshot.topology(&p.key).of(slot) != NO_PLACE;
        let near = state.affinity.iter().all(|p| placed(p) && p.get(snapshot, slot) > 0)
            // The first of a group of pods that want to be near each other goes anywhere with the labels.
            || (state.first
                && state.affinity.iter().all(placed)
                && state.affinity.iter().all(|p| p.at.iter().all(|n| *n == 0)));
        if !near {
            return Err(Rejection::unresolvable("node(s) didn't match pod affinity rules"));
        }
        if state.anti_affinity.iter().any(|p| p.get(snapshot, slot) > 0) {
            return Err(Rejection::unschedulable(
                "node(s) didn't match pod anti-affinity rules",
            ));
        }
        if state.existing.values().any(|p| p.get(snapshot, slot) > 0) {
            return Err(Rejection::unschedulable(
                "node(s) didn't satisfy existing pods anti-affinity rules",
            ));
        }
        Ok(())
    }

    fn pre_score(&self, cx: Context<'_>, pod: &Pod, _: &[&NodeInfo]) -> PreScore {
        let worth = self.preferred(cx.snapshot, pod);
        if worth.0.is_empty() {
            return PreScore::Skip;
        }
        PreScore::Run(Some(Box::new(worth)))
    }

    fn score(&self, cx: Context<'_>, state: Option<&dyn State>, _: &Pod, info: &NodeInfo) -> i64 {
        let Some(Preferred(worth)) = own(state) else {
            return 0;
        };
        worth.iter().map(|p| p.get(cx.snapshot, info.slot)).sum()
    }

    fn normalize(&self, _: Option<&dyn State>, _: &[&NodeInfo], scores: &mut [i64]) {
        let lowest = scores.iter().copied().min().unwrap_or(0);
        let range = scores.iter().copied().max().unwrap_or(0) - lowest;
        for score in scores {
            *score = match range {
                0 => 0,
                range => (MAX_SCORE as f64 * ((*score - lowest) as f64 / range as f64)) as i64,
            };
        }
    }
}
