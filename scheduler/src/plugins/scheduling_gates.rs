//! SchedulingGates: a pod with gates isn't considered before they are gone.

use crate::framework::{ClusterEvent, Context, Interest, Plugin, Point, Points, Rejection};
use crate::model::Pod;

/// See the module.
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreEnqueue])
    }

    fn interests(&self) -> Interest {
        Interest::GATES
    }

    fn hint(&self, _: Context<'_>, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        matches!(event, ClusterEvent::Itself(_, new) if new.uid == pod.uid)
    }

    fn pre_enqueue(&self, pod: &Pod) -> Result<(), Rejection> {
        let gates = &pod.template.wishes().gates;
        if gates.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = gates.iter().map(|g| g.as_str()).collect();
        Err(Rejection::unresolvable(format!(
            "waiting for scheduling gates: [{}]",
            names.join(" ")
        )))
    }
}
