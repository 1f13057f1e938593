//! NodeName: a pod that names a node goes there and nowhere else.

use crate::framework::{Context, Interest, Plugin, Point, Points, Rejection, State};
use crate::model::Pod;
use crate::snapshot::NodeInfo;

/// See the module.
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Filter])
    }

    fn interests(&self) -> Interest {
        Interest::NODE_ADD
    }

    fn filter(
        &self,
        _: Context<'_>,
        _: Option<&dyn State>,
        pod: &Pod,
        node: &NodeInfo,
    ) -> Result<(), Rejection> {
        match &pod.node {
            Some(name) if node.node.as_ref().is_none_or(|n| n.name != *name) => Err(Rejection::unresolvable(
                "node(s) didn't match the requested node name",
            )),
            _ => Ok(()),
        }
    }
}
