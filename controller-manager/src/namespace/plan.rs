//! What a namespace's deletion looks like from outside: conditions, and how long to wait.

use crate::common::time::time;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{NamespaceCondition, NamespaceStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;

/// How long finalizers are given before the namespace is looked at again.
pub const FINALIZER_SECONDS: i64 = 15;

/// What was found while deleting.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    /// Discovery failed, wholly or for some groups.
    pub discovery: Option<String>,
    /// Deleting something failed.
    pub failures: Vec<String>,
    /// What is left, by `resource.group`.
    pub remaining: BTreeMap<String, usize>,
    /// How many objects wait for each finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// How long what is left is expected to stay, in seconds.
    pub estimate: i64,
}

/// How long pods may still take to end, from when the namespace was deleted; zero when that is over.
pub fn pod_estimate<'a>(pods: impl IntoIterator<Item = &'a Pod>, deleted_at: &Time, now: Timestamp) -> i64 {
    let grace = |pod: &Pod| {
        pod.spec
            .as_ref()
            .and_then(|s| s.termination_grace_period_seconds)
            .unwrap_or(0)
    };
    let longest = pods
        .into_iter()
        .filter(|p| !crate::common::pods::is_terminal(p))
        .map(grace)
        .max()
        .unwrap_or(0);
    if now.duration_since(deleted_at.0) >= SignedDuration::from_secs(longest) {
        0
    } else {
        longest
    }
}

/// Sets the five deletion conditions; says whether any changed.
pub fn set_conditions(status: &mut NamespaceStatus, findings: &Findings, now: Timestamp) -> bool {
    let list = |counts: &BTreeMap<String, usize>, text: &dyn Fn(&str, usize) -> String| -> Option<String> {
        let mut texts: Vec<String> = counts
            .iter()
            .filter(|(_, n)| **n > 0)
            .map(|(k, n)| text(k, *n))
            .collect();
        texts.sort();
        (!texts.is_empty()).then(|| texts.join(", "))
    };
    let remaining = list(&findings.remaining, &|resource, n| {
        let dotted = if resource.contains('.') {
            resource.to_owned()
        } else {
            format!("{resource}.")
        };
        format!("{dotted} has {n} resource instances")
    });
    let waiting = list(&findings.finalizers, &|finalizer, n| {
        format!("{finalizer} in {n} resource instances")
    });
    let mut failures = findings.failures.clone();
    failures.sort();
    let failed = (!failures.is_empty()).then(|| {
        format!(
            "Failed to delete all resource types, {} remaining: {}",
            failures.len(),
            failures.join(", ")
        )
    });
    let all = [
        (
            "NamespaceDeletionDiscoveryFailure",
            findings.discovery.clone().map(|m| ("DiscoveryFailed", m)),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            failed.map(|m| ("ContentDeletionFailed", m)),
            (
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        (
            "NamespaceContentRemaining",
            remaining.map(|m| {
                (
                    "SomeResourcesRemain",
                    format!("Some resources are remaining: {m}"),
                )
            }),
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            waiting.map(|m| {
                (
                    "SomeFinalizersRemain",
                    format!("Some content in the namespace has finalizers remaining: {m}"),
                )
            }),
            (
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        ),
    ];
    let mut changed = false;
    for (kind, problem, (ok_reason, ok_message)) in all {
        let (value, reason, message) = match problem {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", ok_reason, ok_message.to_owned()),
        };
        changed |= set_condition(status, kind, value, reason, message, now);
    }
    changed
}

fn set_condition(
    status: &mut NamespaceStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    let new = |transition: Option<Time>| NamespaceCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.clone()),
        last_transition_time: transition,
    };
    match conditions.iter_mut().find(|c| c.type_ == kind) {
        None => {
            conditions.push(new(Some(time(now))));
            true
        }
        Some(old)
            if old.status != value
                || old.reason.as_deref() != Some(reason)
                || old.message.as_deref() != Some(&message) =>
        {
            let transition = if old.status == value {
                old.last_transition_time.clone()
            } else {
                Some(time(now))
            };
            *old = new(transition);
            true
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_tell_what_is_left_and_change_only_when_that_does() {
        let now = Timestamp::UNIX_EPOCH;
        let mut status = NamespaceStatus::default();
        let findings = Findings {
            remaining: [("pods".to_owned(), 2), ("things.example.com".to_owned(), 1)].into(),
            finalizers: [("x/y".to_owned(), 3)].into(),
            failures: vec!["no".to_owned()],
            ..Findings::default()
        };
        assert!(set_conditions(&mut status, &findings, now));
        assert!(!set_conditions(&mut status, &findings, now));
        let message = |status: &NamespaceStatus, kind: &str| {
            let conditions = status.conditions.as_ref().unwrap();
            conditions
                .iter()
                .find(|c| c.type_ == kind)
                .and_then(|c| c.message.clone())
                .unwrap()
        };
        for (kind, want) in [
            (
                "NamespaceContentRemaining",
                "Some resources are remaining: pods. has 2 resource instances, things.example.com has 1 resource instances",
            ),
            (
                "NamespaceFinalizersRemaining",
                "Some content in the namespace has finalizers remaining: x/y in 3 resource instances",
            ),
            (
                "NamespaceDeletionContentFailure",
                "Failed to delete all resource types, 1 remaining: no",
            ),
            (
                "NamespaceDeletionDiscoveryFailure",
                "All resources successfully discovered",
            ),
        ] {
            assert_eq!(message(&status, kind), want);
        }
        assert!(set_conditions(&mut status, &Findings::default(), now));
        assert_eq!(
            message(&status, "NamespaceContentRemaining"),
            "All content successfully removed"
        );
    }

    #[test]
    fn the_longest_grace_period_counts_until_it_is_over() {
        let pod: Pod = serde_json::from_value(
            serde_json::json!({"spec": {"containers": [], "terminationGracePeriodSeconds": 30}}),
        )
        .unwrap();
        let deleted = Time(Timestamp::UNIX_EPOCH);
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(pod_estimate([&pod], &deleted, at(29)), 30);
        assert_eq!(pod_estimate([&pod], &deleted, at(30)), 0);
        assert_eq!(pod_estimate([], &deleted, at(0)), 0);
    }
}
