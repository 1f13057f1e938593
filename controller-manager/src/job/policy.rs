//! A Job's policies: which failures count, and which successes suffice.

use super::indexes;
use crate::common::owners::{name, namespace};
use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use std::collections::BTreeSet;

/// What the failure policy makes of a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It counts.
    Count,
    /// It doesn't.
    Ignore,
    /// Its index fails for good.
    FailIndex,
    /// The Job fails, with this message.
    FailJob(String),
}

/// Applies the first rule that fits.
pub fn failure(job: &Job, pod: &Pod) -> Failure {
    let rules = job
        .spec
        .as_ref()
        .and_then(|s| s.pod_failure_policy.as_ref())
        .map(|p| p.rules.as_slice())
        .unwrap_or_default();
    for (at, rule) in rules.iter().enumerate() {
        let Some(why) = fits(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Failure::Ignore,
            "FailIndex" => Failure::FailIndex,
            "FailJob" => Failure::FailJob(format!("{why} matching FailJob rule at index {at}")),
            _ => Failure::Count,
        };
    }
    Failure::Count
}

fn fits(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let (space, pod_name) = (namespace(&pod.metadata), name(&pod.metadata));
    if let Some(wanted) = &rule.on_exit_codes {
        let containers = status
            .container_statuses
            .iter()
            .chain(&status.init_container_statuses)
            .flatten();
        let (container, code) = containers
            .filter_map(|c| Some((c, exit_code(c)?)))
            .find(|(c, code)| exits(c, *code, wanted))?;
        return Some(format!(
            "Container {} for pod {space}/{pod_name} failed with exit code {code}",
            container.name
        ));
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    let conditions = || status.conditions.iter().flatten();
    let fits = |kind: &str, value: &str| {
        patterns
            .clone()
            .any(|p| p.type_ == kind && p.status.as_deref().unwrap_or("True") == value)
    };
    let condition = conditions().find(|c| fits(&c.type_, &c.status))?;
    Some(format!(
        "Pod {space}/{pod_name} has condition {}",
        condition.type_
    ))
}

fn exit_code(container: &ContainerStatus) -> Option<i32> {
    Some(container.state.as_ref()?.terminated.as_ref()?.exit_code).filter(|c| *c != 0)
}

fn exits(container: &ContainerStatus, code: i32, wanted: &PodFailurePolicyOnExitCodesRequirement) -> bool {
    if wanted
        .container_name
        .as_ref()
        .is_some_and(|n| *n != container.name)
    {
        return false;
    }
    match wanted.operator.as_str() {
        "In" => wanted.values.contains(&code),
        "NotIn" => !wanted.values.contains(&code),
        _ => false,
    }
}

/// The message of the first success rule that is met.
pub fn success(job: &Job, completions: i32, succeeded: &BTreeSet<i32>) -> Option<String> {
    let policy = job.spec.as_ref()?.success_policy.as_ref()?;
    if succeeded.is_empty() {
        return None;
    }
    let met = |rule: &k8s_openapi::api::batch::v1::SuccessPolicyRule| match &rule.succeeded_indexes {
        Some(text) => {
            let wanted = indexes::parse(text, completions);
            let have = wanted.intersection(succeeded).count();
            !wanted.is_empty()
                && (have == wanted.len() || rule.succeeded_count.is_some_and(|n| have as i32 >= n))
        }
        None => rule.succeeded_count.is_some_and(|n| succeeded.len() as i32 >= n),
    };
    let at = policy.rules.as_slice().iter().position(met)?;
    Some(format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_rule_that_fits_a_failed_pod_decides() {
        let job: Job =
            serde_json::from_value(json!({"spec": {"template": {}, "podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 42]}}]}}}))
            .unwrap();
        let pod = |code: i32, disrupted: bool| -> Pod {
            let conditions = if disrupted {
                json!([{"type": "DisruptionTarget", "status": "True"}])
            } else {
                json!([])
            };
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "default"}, "status": {"conditions": conditions,
                "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                                       "state": {"terminated": {"exitCode": code}}}]}}))
            .unwrap()
        };
        let message =
            "Container main for pod default/p failed with exit code 42 matching FailJob rule at index 1";
        for (code, disrupted, want) in [
            (1, false, Failure::Count),
            (42, true, Failure::Ignore),
            (42, false, Failure::FailJob(message.to_owned())),
            (7, false, Failure::FailIndex),
            (0, false, Failure::Count),
        ] {
            assert_eq!(failure(&job, &pod(code, disrupted)), want, "{code} {disrupted}");
        }
    }

    #[test]
    fn a_success_policy_is_met_by_indexes_or_a_number_of_them() {
        let job = |rule| -> Job {
            serde_json::from_value(json!({"spec": {"template": {}, "successPolicy": {"rules": [rule]}}}))
                .unwrap()
        };
        for (rule, succeeded, want) in [
            (json!({"succeededIndexes": "0-2"}), vec![0, 1], false),
            (json!({"succeededIndexes": "0-2"}), vec![0, 1, 2, 5], true),
            (
                json!({"succeededIndexes": "0-2", "succeededCount": 2}),
                vec![1, 2],
                true,
            ),
            (json!({"succeededCount": 2}), vec![7], false),
            (json!({"succeededCount": 2}), vec![7, 8], true),
        ] {
            let text = rule.to_string();
            assert_eq!(
                success(&job(rule), 10, &succeeded.into_iter().collect()).is_some(),
                want,
                "{text}"
            );
        }
    }
}
