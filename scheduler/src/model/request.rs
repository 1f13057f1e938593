//! What a pod asks of a node: the sum over its containers, the peak of its init containers, its overhead, and what is set for the
//! pod as a whole, after KEP 753 (sidecars), 1287 (resize in place) and 2837 (pod-level resources).

use super::Resources;
use super::resources::{DEFAULT_CPU, DEFAULT_MEMORY};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// What a pod asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requests {
    /// What must fit.
    pub total: Resources,
    /// CPU (thousandths) and memory (bytes) as scoring counts them: with a default for containers that ask for none.
    pub scored: (i64, i64),
}

/// Sums up a pod's requests. `status` tells what a resize has reached; without one the spec alone counts.
pub fn requests(spec: &PodSpec, status: Option<&PodStatus>) -> Requests {
    let total = pod_requests(spec, status, false);
    let scored = pod_requests(spec, status, true);
    Requests {
        total,
        scored: (scored.cpu, scored.memory),
    }
}

fn pod_requests(spec: &PodSpec, status: Option<&PodStatus>, fill: bool) -> Resources {
    let statuses = status
        .and_then(|s| s.container_statuses.as_deref())
        .unwrap_or_default();
    let init_statuses = status
        .and_then(|s| s.init_container_statuses.as_deref())
        .unwrap_or_default();
    let infeasible = status.is_some_and(resize_infeasible);
    let mut sum = Resources::default();
    for container in &spec.containers {
        sum.add(&container_requests(container, statuses, infeasible, fill));
    }
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            let own = container_requests(container, init_statuses, infeasible, fill);
            sum.add(&own);
            sidecars.add(&own);
            peak.at_least(&sidecars);
        } else {
            let mut own = container_requests(container, &[], false, fill);
            own.add(&sidecars);
            peak.at_least(&own);
        }
    }
    sum.at_least(&peak);
    if let Some(level) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        pod_level(&mut sum, level);
    }
    sum.add(&Resources::new(spec.overhead.as_ref()));
    sum
}

/// Requests of the pod as a whole replace the containers' sum for the resources that may be set so.
fn pod_level(sum: &mut Resources, level: &BTreeMap<String, Quantity>) {
    let parsed = Resources::new(Some(level));
    for name in level.keys() {
        match name.as_str() {
            "cpu" => sum.cpu = parsed.cpu,
            "memory" => sum.memory = parsed.memory,
            name if name.starts_with("hugepages-") => {
                let name = name.into();
                sum.scalars.retain(|(n, _)| *n != name);
                let value = parsed.scalar(&name);
                sum.scalars.push((name, value));
                sum.scalars.sort();
            }
            _ => {}
        }
    }
}

fn resize_infeasible(status: &PodStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "PodResizePending" && c.reason.as_deref() == Some("Infeasible"))
}

fn container_requests(
    container: &Container,
    statuses: &[ContainerStatus],
    infeasible: bool,
    fill: bool,
) -> Resources {
    let asked = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let mut own = Resources::new(asked);
    let status = statuses.iter().find(|s| s.name == container.name);
    let mut names: Vec<&String> = asked.into_iter().flat_map(|r| r.keys()).collect();
    if let Some(status) = status
        && let Some(actual) = &status.resources
    {
        // While a resize is under way the larger of what is wanted, given and promised is taken.
        if infeasible {
            own = Resources::default();
        }
        own.at_least(&Resources::new(actual.requests.as_ref()));
        own.at_least(&Resources::new(status.allocated_resources.as_ref()));
        names.extend(actual.requests.iter().flat_map(|r| r.keys()));
    }
    if fill {
        if !names.iter().any(|n| *n == "cpu") {
            own.cpu = DEFAULT_CPU;
        }
        if !names.iter().any(|n| *n == "memory") {
            own.memory = DEFAULT_MEMORY;
        }
    }
    own
}
