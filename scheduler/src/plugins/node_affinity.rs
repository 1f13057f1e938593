//! NodeAffinity: node selectors, and node affinity required and preferred.

use super::normalize;
use crate::framework::{
    ClusterEvent, Context, Interest, Plugin, Point, Points, PreFilter, PreScore, Rejection, State,
};
use crate::model::selector::NodeTerm;
use crate::model::{Node, NodeSelector, Pod, Str};
use crate::snapshot::NodeInfo;
use k8s_openapi::api::core::v1 as core;

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

/// See the module.
#[derive(Default)]
pub struct NodeAffinity {
    added_required: Option<NodeSelector>,
    added_preferred: Vec<(i32, NodeTerm)>,
}

impl NodeAffinity {
    /// With node affinity that counts for every pod of the profile, besides its own.
    pub fn new(added: Option<&core::NodeAffinity>) -> Self {
        let required = added.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred = added.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        Self {
            added_required: required.map(NodeSelector::new),
            added_preferred: preferred
                .into_iter()
                .flatten()
                .filter_map(|t| Some((t.weight, NodeTerm::new(&t.preference)?)))
                .collect(),
        }
    }

    fn allows(&self, pod: &Pod, node: &Node) -> bool {
        self.added_required
            .as_ref()
            .is_none_or(|a| a.matches(&node.name, &node.labels))
            && pod.template.allows_node(&node.name, &node.labels)
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score])
    }

    fn interests(&self) -> Interest {
        Interest::NODE_ADD.and(Interest::NODE_LABEL)
    }

    fn hint(&self, _: Context<'_>, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => self.allows(pod, node),
            ClusterEvent::NodeUpdated(old, new) => !self.allows(pod, old) && self.allows(pod, new),
            _ => true,
        }
    }

    fn pre_filter(&self, _: Context<'_>, pod: &Pod) -> PreFilter {
        let wishes = pod.template.wishes();
        if self.added_required.is_none()
            && wishes.node_affinity.is_none()
            && wishes.node_labels.is_everything()
        {
            return PreFilter::Skip;
        }
        let Some(names) = wishes.node_affinity.as_ref().and_then(NodeSelector::names) else {
            return PreFilter::Run(None);
        };
        let mut names: Vec<Str> = names.into_iter().cloned().collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return PreFilter::Reject(Rejection::unresolvable("pod affinity terms conflict"));
        }
        PreFilter::Only(names, None)
    }

    fn filter(
        &self,
        _: Context<'_>,
        _: Option<&dyn State>,
        pod: &Pod,
        node: &NodeInfo,
    ) -> Result<(), Rejection> {
        let Some(node) = &node.node else {
            return Err(Rejection::unresolvable(REASON));
        };
        if let Some(added) = &self.added_required
            && !added.matches(&node.name, &node.labels)
        {
            return Err(Rejection::unresolvable(
                "node(s) didn't match scheduler-enforced node affinity",
            ));
        }
        if !pod.template.allows_node(&node.name, &node.labels) {
            return Err(Rejection::unresolvable(REASON));
        }
        Ok(())
    }

    fn pre_score(&self, _: Context<'_>, pod: &Pod, _: &[&NodeInfo]) -> PreScore {
        if self.added_preferred.is_empty() && pod.template.wishes().preferred_nodes.is_empty() {
            return PreScore::Skip;
        }
        PreScore::Run(None)
    }

    fn score(&self, _: Context<'_>, _: Option<&dyn State>, pod: &Pod, node: &NodeInfo) -> i64 {
        let Some(node) = &node.node else { return 0 };
        self.added_preferred
            .iter()
            .chain(&pod.template.wishes().preferred_nodes)
            .filter(|(_, term)| term.matches(&node.name, &node.labels))
            .map(|(weight, _)| i64::from(*weight))
            .sum()
    }

    fn normalize(&self, _: Option<&dyn State>, _: &[&NodeInfo], scores: &mut [i64]) {
        normalize(false, scores);
    }
}
