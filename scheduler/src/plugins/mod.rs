//! The plugins, one to a file, under Kubernetes' names.

pub mod args;
pub mod balanced_allocation;
pub mod default_binder;
pub mod default_preemption;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_unschedulable;
pub mod node_volume_limits;
pub mod pod_topology_spread;
pub mod priority_sort;
pub mod resources_fit;
pub mod scheduling_gates;
pub mod taint_toleration;
pub mod volume_binding;
pub mod volume_restrictions;
pub mod volume_zone;

use crate::framework::MAX_SCORE;

/// Brings scores to 0 to [`MAX_SCORE`] by the highest one, turned around when `reverse`.
pub fn normalize(reverse: bool, scores: &mut [i64]) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if highest == 0 {
            0
        } else {
            MAX_SCORE * *score / highest
        };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}
