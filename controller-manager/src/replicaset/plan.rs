//! Decides which pods a ReplicaSet (or ReplicationController) creates and deletes, and its status.

use super::kind::{Condition, Replicas, Status};
use crate::common::pods::{
    is_active, is_available, is_ready, is_terminating, next_availability, sort_for_deletion,
};
use crate::common::selector::Matcher;
use crate::common::time::time;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::time::Duration;

/// How many pods one step creates or deletes at most; the next step follows at once.
pub const BURST: usize = 500;

/// What to do about the number of pods.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create this many pods from the template.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Pod>>),
}

/// Decides from the owned pods. `related` are the pods of all sets with the same owner; `trusted` says whether the pods are known to be current.
pub fn plan(
    set: &Replicas,
    owned: &[Arc<Pod>],
    related: &[Arc<Pod>],
    trusted: bool,
    now: Timestamp,
) -> Option<Action> {
    if !trusted || set.deleting {
        return None;
    }
    let mut active: Vec<Arc<Pod>> = owned.iter().filter(|p| is_active(p)).cloned().collect();
    let wanted = usize::try_from(set.replicas).unwrap_or(0);
    if active.len() < wanted {
        return Some(Action::Create((wanted - active.len()).min(BURST)));
    }
    let excess = (active.len() - wanted).min(BURST);
    if excess == 0 {
        return None;
    }
    if excess < active.len() {
        sort_for_deletion(&mut active, related, now);
        active.truncate(excess);
    }
    Some(Action::Delete(active))
}

/// The status after the step; `failure` is what went wrong in it.
pub fn status(set: &Replicas, owned: &[Arc<Pod>], failure: Option<&str>, now: Timestamp) -> Status {
    let active: Vec<&Arc<Pod>> = owned.iter().filter(|p| is_active(p)).collect();
    let template = Matcher::of_map(&set.template_labels);
    let count = |f: &dyn Fn(&Pod) -> bool| active.iter().filter(|p| f(p)).count() as i32;
    let replicas = active.len() as i32;
    let mut conditions = set.status.conditions.clone();
    let failing = conditions.iter().any(|c| c.type_ == "ReplicaFailure");
    match failure {
        None => conditions.retain(|c| c.type_ != "ReplicaFailure"),
        Some(message) if !failing => conditions.push(Condition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(
                if replicas < set.replicas {
                    "FailedCreate"
                } else {
                    "FailedDelete"
                }
                .to_owned(),
            ),
            message: Some(message.to_owned()),
            last_transition_time: Some(time(now)),
        }),
        Some(_) => {}
    }
    Status {
        replicas,
        fully_labeled: count(&|p| template.matches(p.metadata.labels.as_ref())),
        ready: count(&is_ready),
        available: count(&|p| is_available(p, set.min_ready_seconds, now)),
        terminating: set
            .counts_terminating
            .then(|| owned.iter().filter(|p| is_terminating(p)).count() as i32),
        observed_generation: set.generation,
        conditions,
    }
}

/// When to look again because a ready pod becomes available by the passing of time alone.
pub fn again(set: &Replicas, owned: &[Arc<Pod>], status: &Status, now: Timestamp) -> Option<Duration> {
    if set.min_ready_seconds <= 0 || status.ready == status.available {
        return None;
    }
    Some(
        next_availability(owned, set.min_ready_seconds, now)
            .unwrap_or(Duration::from_secs(set.min_ready_seconds.unsigned_abs().into())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(replicas: i32) -> Replicas {
        Replicas {
            replicas,
            min_ready_seconds: 5,
            counts_terminating: true,
            generation: 3,
            ..Replicas::default()
        }
    }

    fn pod(name: &str, phase: &str, ready_at: Option<&str>, deleting: bool) -> Arc<Pod> {
        let deleted = deleting.then_some("2026-01-01T00:00:00Z");
        let conditions =
            ready_at.map(|t| json!([{"type": "Ready", "status": "True", "lastTransitionTime": t}]));
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name, "deletionTimestamp": deleted},
                "status": {"phase": phase, "conditions": conditions},
            }))
            .unwrap(),
        )
    }

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().unwrap()
    }

    #[test]
    fn missing_pods_are_created_and_surplus_ones_deleted() {
        let running = |n: usize| {
            (0..n)
                .map(|i| pod(&i.to_string(), "Running", None, false))
                .collect::<Vec<_>>()
        };
        for (what, replicas, pods, trusted, want) in [
            ("none yet", 3, running(0), true, Some((3, 0))),
            ("enough", 3, running(3), true, None),
            ("too many", 1, running(3), true, Some((0, 2))),
            ("all gone", 0, running(2), true, Some((0, 2))),
            ("more than a burst", 2000, running(0), true, Some((500, 0))),
            ("not trusted", 3, running(0), false, None),
        ] {
            let got = plan(&set(replicas), &pods, &pods, trusted, now()).map(|a| match a {
                Action::Create(n) => (n, 0),
                Action::Delete(pods) => (0, pods.len()),
            });
            assert_eq!(got, want, "{what}");
        }
        let ended = [
            pod("failed", "Failed", None, false),
            pod("going", "Running", None, true),
        ];
        assert_eq!(
            plan(&set(1), &ended, &ended, true, now()),
            Some(Action::Create(1)),
            "ended and leaving pods don't count"
        );
        let dying = Replicas {
            deleting: true,
            ..set(3)
        };
        assert_eq!(
            plan(&dying, &[], &[], true, now()),
            None,
            "a set on its way out does nothing"
        );
    }

    #[test]
    fn the_status_counts_what_is_ready_and_for_how_long() {
        let pods = [
            pod("ready", "Running", Some("2026-01-01T00:00:00Z"), false),
            pod("fresh", "Running", Some("2026-01-01T00:00:58Z"), false),
            pod("starting", "Pending", None, false),
            pod("leaving", "Running", None, true),
            pod("failed", "Failed", None, false),
        ];
        let got = status(&set(3), &pods, None, now());
        let counts = (
            got.replicas,
            got.ready,
            got.available,
            got.terminating,
            got.observed_generation,
        );
        assert_eq!(counts, (3, 2, 1, Some(1), 3));
        assert_eq!(again(&set(3), &pods, &got, now()), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_failure_shows_as_a_condition_until_it_is_over() {
        let mut set = set(3);
        let failed = status(&set, &[], Some("exceeded quota"), now());
        assert_eq!(
            failed.conditions.first().and_then(|c| c.reason.as_deref()),
            Some("FailedCreate")
        );
        set.status = failed;
        assert_eq!(
            status(&set, &[], Some("another text"), now()).conditions,
            set.status.conditions,
            "kept as it was first seen"
        );
        assert!(status(&set, &[], None, now()).conditions.is_empty());
    }
}
