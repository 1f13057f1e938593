//! In-place resize: what a pod was given, whether the node can give what it asks for now, and what was applied. Pure but for `store`.
//!
//! Three amounts are told apart. *Desired* is what the object asks for. *Allocated* is what this node has promised: it changes only when
//! the desired amounts fit beside what the other pods were promised, and it is what a worker sees as its pod. *Actuated* is what was
//! last applied to running containers. A resize is pending while desired and allocated differ, in progress while allocated and actuated do.

pub(crate) mod plan;
pub(crate) mod store;

use crate::admission::shortage;
use crate::pods::PodExt;
use crate::resources::{ResourceList, amount, pod_requests};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The resources of a pod and of its containers, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Allocation {
    /// Those of the pod as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<ResourceRequirements>,
    /// Those of init and regular containers, by name.
    #[serde(default)]
    pub(crate) containers: BTreeMap<String, ResourceRequirements>,
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.init_containers().iter().chain(&pod.spec().containers)
}

impl Allocation {
    /// What a pod's object says.
    pub(crate) fn of(pod: &Pod) -> Self {
        Self {
            pod: pod.spec().resources.clone(),
            containers: containers(pod)
                .map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default()))
                .collect(),
        }
    }

    /// What a container was given.
    pub(crate) fn container(&self, name: &str) -> Option<&ResourceRequirements> {
        self.containers.get(name)
    }

    /// Whether a pod's object says the same. Containers that aren't known here count as the same.
    pub(crate) fn matches(&self, pod: &Pod) -> bool {
        same(self.pod.as_ref(), pod.spec().resources.as_ref())
            && containers(pod).all(|c| {
                self.containers
                    .get(&c.name)
                    .is_none_or(|own| same(Some(own), c.resources.as_ref()))
            })
    }

    /// The pod with these resources; the pod itself when it says the same.
    pub(crate) fn apply(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if self.matches(pod) {
            return pod.clone();
        }
        let mut changed = (**pod).clone();
        if let Some(spec) = &mut changed.spec {
            spec.resources.clone_from(&self.pod);
            let all = spec
                .init_containers
                .iter_mut()
                .flatten()
                .chain(&mut spec.containers);
            for container in all {
                if let Some(own) = self.containers.get(&container.name) {
                    container.resources = Some(own.clone());
                }
            }
        }
        Arc::new(changed)
    }
}

/// Whether two containers' resources are the same amounts, however they are written.
pub(crate) fn same(a: Option<&ResourceRequirements>, b: Option<&ResourceRequirements>) -> bool {
    let equal = |a: Option<&ResourceList>, b: Option<&ResourceList>| {
        let names = |l: Option<&ResourceList>| l.map_or(0, BTreeMap::len);
        names(a) == names(b)
            && a.into_iter().flatten().all(|(name, q)| {
                b.and_then(|b| b.get(name))
                    .is_some_and(|o| o == q || number(o) == number(q))
            })
    };
    if a == b {
        return true;
    }
    let empty = ResourceRequirements::default();
    let (a, b) = (a.unwrap_or(&empty), b.unwrap_or(&empty));
    equal(a.requests.as_ref(), b.requests.as_ref()) && equal(a.limits.as_ref(), b.limits.as_ref())
}

fn number(
    q: &k8s_openapi::apimachinery::pkg::api::resource::Quantity,
) -> Option<rutter_api::quantity::Quantity> {
    q.0.parse().ok()
}

/// A resize that the node can't do, now or ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Whether waiting can't help.
    pub(crate) infeasible: bool,
    pub(crate) message: String,
}

impl Pending {
    /// The reason of the condition `PodResizePending`.
    pub(crate) fn reason(&self) -> &'static str {
        if self.infeasible { "Infeasible" } else { "Deferred" }
    }
}

/// Judges whether a node has room for what a pod desires, beside what other pods were promised. What isn't asked for in a larger amount
/// than before is never refused.
pub(crate) fn judge(
    desired: &Pod,
    allocated: &Pod,
    others: &[Arc<Pod>],
    allocatable: &ResourceList,
) -> Result<(), Pending> {
    let before = pod_requests(allocated);
    let mut more = pod_requests(desired);
    more.retain(|name, wanted| *wanted > before.get(name).copied().unwrap_or(0));
    for (name, wanted) in &more {
        let capacity = amount(Some(allocatable), name).unwrap_or(0);
        if *wanted > capacity {
            return Err(Pending {
                infeasible: true,
                message: format!(
                    "Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}"
                ),
            });
        }
    }
    match shortage(&more, others, allocatable) {
        Some((_, message)) => Err(Pending {
            infeasible: false,
            message,
        }),
        None => Ok(()),
    }
}

/// What an event about a resize says: the desired amounts as JSON, after a headline.
pub(crate) fn summary(headline: &str, pod: &Pod, error: &str) -> String {
    let list = |containers: &[Container]| -> Vec<serde_json::Value> {
        containers
            .iter()
            .map(|c| json!({"name": c.name, "resources": c.resources.clone().unwrap_or_default()}))
            .collect()
    };
    let mut text = serde_json::Map::new();
    if !pod.init_containers().is_empty() {
        text.insert("initContainers".into(), list(pod.init_containers()).into());
    }
    text.insert("containers".into(), list(&pod.spec().containers).into());
    text.insert("generation".into(), pod.generation().into());
    if !error.is_empty() {
        text.insert("error".into(), error.into());
    }
    format!("{headline}: {}", serde_json::Value::Object(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn pod(uid: &str, requests: Value) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": uid, "uid": uid}, "spec": {"containers": [
                {"name": "a", "resources": {"requests": requests}}]}}),
            )
            .expect("a pod"),
        )
    }

    #[test]
    fn amounts_that_are_written_differently_are_the_same() {
        let of = |text: &str| ResourceRequirements {
            requests: Some(
                [(
                    "cpu".to_owned(),
                    serde_json::from_value(json!(text)).expect("a quantity"),
                )]
                .into(),
            ),
            ..ResourceRequirements::default()
        };
        assert!(same(Some(&of("1")), Some(&of("1000m"))));
        assert!(!same(Some(&of("1")), Some(&of("2"))));
        assert!(!same(Some(&of("1")), None));
        assert!(same(Some(&ResourceRequirements::default()), None));
    }

    #[test]
    fn a_pod_keeps_what_it_was_given_until_more_fits() {
        let allocatable: ResourceList =
            serde_json::from_value(json!({"cpu": "2", "memory": "1Gi", "pods": "9"})).expect("a list");
        let before = pod("p", json!({"cpu": "500m"}));
        let others = [pod("q", json!({"cpu": "1"}))];
        for (wanted, verdict) in [
            ("1", Ok(())),
            ("100m", Ok(())),
            ("1500m", Err("Deferred")),
            ("3", Err("Infeasible")),
        ] {
            let judged = judge(&pod("p", json!({"cpu": wanted})), &before, &others, &allocatable);
            assert_eq!(judged.map_err(|p| p.reason()), verdict, "{wanted}");
        }
        // A node that is full already lets a pod have less.
        let full = [pod("q", json!({"cpu": "2"}))];
        assert!(judge(&pod("p", json!({"cpu": "400m"})), &before, &full, &allocatable).is_ok());
        let kept = Allocation::of(&before).apply(&pod("p", json!({"cpu": "3"})));
        assert_eq!(kept.spec().containers, before.spec().containers);
    }

    #[test]
    fn events_show_the_desired_amounts() {
        let mut asked = (*pod("p", json!({"cpu": "1"}))).clone();
        asked.metadata.generation = Some(2);
        assert_eq!(
            summary("Pod resize Deferred", &asked, "full"),
            "Pod resize Deferred: {\"containers\":[{\"name\":\"a\",\"resources\":{\"requests\":{\"cpu\":\"1\"}}}],\"error\":\"full\",\"generation\":2}"
        );
    }
}
