//! NodePorts: two pods can't have the same port of a node.

use crate::framework::{ClusterEvent, Context, Interest, Plugin, Point, Points, PreFilter, Rejection, State};
use crate::model::Pod;
use crate::snapshot::NodeInfo;

/// See the module.
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter])
    }

    fn interests(&self) -> Interest {
        Interest::NODE_ADD.and(Interest::POD_DELETE)
    }

    fn hint(&self, _: Context<'_>, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::PodDeleted(gone) => {
                let theirs = &gone.template.wishes().ports;
                let ours = &pod.template.wishes().ports;
                gone.node.is_some() && ours.iter().any(|port| theirs.iter().any(|p| p.conflicts(port)))
            }
            _ => true,
        }
    }

    fn pre_filter(&self, _: Context<'_>, pod: &Pod) -> PreFilter {
        if pod.template.wishes().ports.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Run(None)
    }

    fn filter(
        &self,
        _: Context<'_>,
        _: Option<&dyn State>,
        pod: &Pod,
        node: &NodeInfo,
    ) -> Result<(), Rejection> {
        let wanted = &pod.template.wishes().ports;
        if wanted
            .iter()
            .any(|port| node.ports.iter().any(|p| p.conflicts(port)))
        {
            return Err(Rejection::unschedulable(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }
}
