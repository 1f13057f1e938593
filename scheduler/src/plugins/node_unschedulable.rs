//! NodeUnschedulable: a cordoned node takes only pods that tolerate its cordon.

use crate::framework::{ClusterEvent, Context, Interest, Plugin, Point, Points, Rejection, State};
use crate::model::{Effect, Node, Pod, Str, Taint};
use crate::snapshot::NodeInfo;
use std::sync::LazyLock;

/// See the module.
pub struct NodeUnschedulable;

static CORDON: LazyLock<Taint> = LazyLock::new(|| Taint {
    key: Str::new("node.kubernetes.io/unschedulable"),
    value: Str::default(),
    effect: Effect::NoSchedule,
});

fn allows(node: &Node, pod: &Pod) -> bool {
    !node.unschedulable || pod.template.tolerations.iter().any(|t| t.tolerates(&CORDON))
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Filter])
    }

    fn interests(&self) -> Interest {
        Interest::NODE_ADD
            .and(Interest::NODE_TAINT)
            .and(Interest::TOLERATION)
    }

    fn hint(&self, _: Context<'_>, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => allows(node, pod),
            ClusterEvent::NodeUpdated(old, new) => !allows(old, pod) && allows(new, pod),
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
        match &node.node {
            Some(node) if allows(node, pod) => Ok(()),
            Some(_) => Err(Rejection::unresolvable("node(s) were unschedulable")),
            None => Err(Rejection::unresolvable("node(s) had unknown conditions")),
        }
    }
}
