//! Decides how many pods of a PodDisruptionBudget may be disrupted.

use crate::common::int_or_percent::scaled;
use crate::common::owners::{controller_of, name};
use crate::common::pods::{is_deleting, is_ready};
use crate::common::time::time;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How long an evicted pod may take until its deletion is seen; after that it counts as healthy again.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);

/// What to write and to tell.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The status.
    pub status: PodDisruptionBudgetStatus,
    /// Pods without a controller, where one is needed for the count.
    pub unmanaged: Vec<String>,
    /// Pods that were evicted but are still there.
    pub not_deleted: Vec<Arc<Pod>>,
    /// Look again after this time.
    pub again: Option<Duration>,
}

/// How many pods there should be, how many of them healthy, and which have no controller.
fn expected(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: &HashMap<String, i32>,
) -> Result<(i32, i32, Vec<String>), String> {
    let spec = budget.spec.clone().unwrap_or_default();
    let total = || -> Result<(i32, Vec<String>), String> {
        let (mut seen, mut unmanaged, mut sum) = (Vec::new(), Vec::new(), 0);
        for pod in pods {
            let Some(owner) = controller_of(&pod.metadata) else {
                unmanaged.push(name(&pod.metadata).to_owned());
                continue;
            };
            if seen.contains(&owner.uid) {
                continue;
            }
            let size = scale
                .get(&owner.uid)
                .ok_or_else(|| format!("found no controllers for pod {:?}", name(&pod.metadata)))?;
            seen.push(owner.uid.clone());
            sum += size;
        }
        Ok((sum, unmanaged))
    };
    let percent = |value: &IntOrString, of: i32| {
        scaled(value, of, true).ok_or_else(|| format!("invalid value {value:?}"))
    };
    match (spec.max_unavailable, spec.min_available) {
        (Some(most), _) => {
            let (count, unmanaged) = total()?;
            Ok((count, (count - percent(&most, count)?).max(0), unmanaged))
        }
        (None, Some(IntOrString::Int(least))) => {
            Ok((i32::try_from(pods.len()).unwrap_or(i32::MAX), least, Vec::new()))
        }
        (None, Some(least)) => {
            let (count, unmanaged) = total()?;
            Ok((count, percent(&least, count)?, unmanaged))
        }
        (None, None) => Ok((0, 0, Vec::new())),
    }
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    allowed: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let value = if allowed { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions
        .iter()
        .find(|c| c.type_ == "DisruptionAllowed")
        .cloned();
    let transition = old
        .filter(|c| c.status == value)
        .map_or_else(|| time(now), |c| c.last_transition_time);
    conditions.retain(|c| c.type_ != "DisruptionAllowed");
    conditions.push(Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: status.observed_generation,
        last_transition_time: transition,
    });
}

/// Decides the status. `scale` are the sizes of the pods' controllers, by UID.
pub fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: &HashMap<String, i32>,
    now: Timestamp,
) -> Plan {
    let before = budget.status.clone().unwrap_or_default();
    let (count, wanted, unmanaged) = match expected(budget, pods, scale) {
        Ok(found) => found,
        Err(message) => {
            // What can't be counted must not be disrupted.
            let mut status = PodDisruptionBudgetStatus {
                disruptions_allowed: Some(0),
                ..before
            };
            set_condition(&mut status, false, "SyncFailed", &message, now);
            return Plan {
                status,
                ..Plan::default()
            };
        }
    };
    let mut plan = Plan {
        unmanaged,
        ..Plan::default()
    };
    let mut disrupted: BTreeMap<String, Time> = BTreeMap::new();
    for pod in pods.iter().filter(|p| !is_deleting(p)) {
        let Some(at) = before
            .disrupted_pods
            .as_ref()
            .and_then(|d| d.get(name(&pod.metadata)))
        else {
            continue;
        };
        let left = DELETION_TIMEOUT - now.duration_since(at.0);
        if left < SignedDuration::ZERO {
            plan.not_deleted.push(pod.clone());
            continue;
        }
        let left = Duration::try_from(left).unwrap_or_default();
        plan.again = Some(plan.again.map_or(left, |a: Duration| a.min(left)));
        disrupted.insert(name(&pod.metadata).to_owned(), at.clone());
    }
    let healthy = pods
        .iter()
        .filter(|p| !is_deleting(p) && is_ready(p) && !disrupted.contains_key(name(&p.metadata)))
        .count();
    let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
    let allowed = if count > 0 { (healthy - wanted).max(0) } else { 0 };
    plan.status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(wanted),
        expected_pods: Some(count),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|d| !d.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: before.conditions,
    };
    let reason = if allowed > 0 {
        "SufficientPods"
    } else {
        "InsufficientPods"
    };
    set_condition(&mut plan.status, allowed > 0, reason, "", now);
    plan
}

/// The controllers of these pods, each once.
pub fn controllers(pods: &[Arc<Pod>]) -> Vec<OwnerReference> {
    let mut seen: BTreeMap<&str, &OwnerReference> = BTreeMap::new();
    for owner in pods.iter().filter_map(|p| controller_of(&p.metadata)) {
        seen.insert(&owner.uid, owner);
    }
    seen.into_values().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, ready: bool) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]},
                "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .unwrap(),
        )
    }

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"generation": 1}, "spec": spec, "status": status}))
            .unwrap()
    }

    #[test]
    fn the_healthy_pods_beyond_the_wanted_ones_may_be_disrupted() {
        let scale = HashMap::from([("r".to_owned(), 4)]);
        let status =
            || json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
        for (spec, ready, want) in [
            (json!({"minAvailable": 2}), 3, (3, 2, 4, 1)),
            (json!({"minAvailable": 3}), 3, (3, 3, 4, 0)),
            (json!({"minAvailable": "50%"}), 4, (4, 2, 4, 2)),
            (json!({"maxUnavailable": 1}), 4, (4, 3, 4, 1)),
            (json!({"maxUnavailable": "30%"}), 2, (2, 2, 4, 0)),
        ] {
            let pods: Vec<_> = (0..4).map(|i| pod(&i.to_string(), i < ready)).collect();
            let text = spec.to_string();
            let got = plan(&budget(spec, status()), &pods, &scale, Timestamp::UNIX_EPOCH).status;
            let counts = [
                got.current_healthy,
                got.desired_healthy,
                got.expected_pods,
                got.disruptions_allowed,
            ];
            assert_eq!(counts.map(|n| n.unwrap_or(-1)), <[i32; 4]>::from(want), "{text}");
        }
        let unknown = plan(
            &budget(json!({"maxUnavailable": 1}), status()),
            &[pod("a", true)],
            &HashMap::new(),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(unknown.status.disruptions_allowed, Some(0));
        assert_eq!(unknown.status.conditions.unwrap()[0].reason, "SyncFailed");
    }

    #[test]
    fn an_evicted_pod_does_not_count_until_it_has_had_its_time_to_go() {
        let status = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
            "disruptedPods": {"a": "2026-01-01T00:00:00Z"}});
        let at = |text: &str| {
            plan(
                &budget(json!({"minAvailable": 1}), status.clone()),
                &[pod("a", true), pod("b", true)],
                &HashMap::new(),
                text.parse().unwrap(),
            )
        };
        let early = at("2026-01-01T00:01:00Z");
        assert_eq!(
            (early.status.current_healthy, early.again.map(|d| d.as_secs())),
            (Some(1), Some(60))
        );
        let late = at("2026-01-01T00:02:01Z");
        assert_eq!(
            (late.status.current_healthy, late.not_deleted.len()),
            (Some(2), 1)
        );
    }
}
