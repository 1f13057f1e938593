//! TaintToleration: taints keep pods away that don't tolerate them.

use super::normalize;
use crate::framework::{ClusterEvent, Context, Interest, Plugin, Point, Points, PreScore, Rejection, State};
use crate::model::node::untolerated;
use crate::model::template::tolerates_preferred;
use crate::model::{Effect, Pod};
use crate::snapshot::NodeInfo;

/// See the module.
pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Filter, Point::PreScore, Point::Score])
    }

    fn interests(&self) -> Interest {
        Interest::NODE_ADD
            .and(Interest::NODE_TAINT)
            .and(Interest::TOLERATION)
    }

    fn hint(&self, _: Context<'_>, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        let bars = |node: &crate::model::Node| untolerated(&node.taints, &pod.template.tolerations).is_some();
        match event {
            ClusterEvent::NodeAdded(node) => !bars(node),
            ClusterEvent::NodeUpdated(old, new) => bars(old) && !bars(new),
            ClusterEvent::PodUpdated(..) => false,
            _ => true,
        }
    }

    fn filter(
        &self,
        _: Context<'_>,
        _: Option<&dyn State>,
        pod: &Pod,
        node: &NodeInfo,
    ) -> Result<(), Rejection> {
        let taints = node
            .node
            .as_ref()
            .map(|n| n.taints.as_slice())
            .unwrap_or_default();
        match untolerated(taints, &pod.template.tolerations) {
            None => Ok(()),
            Some(_) => Err(Rejection::unresolvable("node(s) had untolerated taint(s)")),
        }
    }

    fn pre_score(&self, _: Context<'_>, _: &Pod, nodes: &[&NodeInfo]) -> PreScore {
        let prefers = |node: &&NodeInfo| {
            let taints = node
                .node
                .as_ref()
                .map(|n| n.taints.as_slice())
                .unwrap_or_default();
            taints.iter().any(|t| t.effect == Effect::PreferNoSchedule)
        };
        // Without such taints all nodes score alike.
        if nodes.iter().any(prefers) {
            PreScore::Run(None)
        } else {
            PreScore::Skip
        }
    }

    fn score(&self, _: Context<'_>, _: Option<&dyn State>, pod: &Pod, node: &NodeInfo) -> i64 {
        let taints = node
            .node
            .as_ref()
            .map(|n| n.taints.as_slice())
            .unwrap_or_default();
        let bad = taints
            .iter()
            .filter(|t| t.effect == Effect::PreferNoSchedule)
            .filter(|t| !tolerates_preferred(&pod.template.tolerations, t))
            .count();
        i64::try_from(bad).unwrap_or(i64::MAX)
    }

    fn normalize(&self, _: Option<&dyn State>, _: &[&NodeInfo], scores: &mut [i64]) {
        normalize(true, scores);
    }
}
