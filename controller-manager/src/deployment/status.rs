//! A Deployment's status: counts, availability and progress.

use super::plan::{Action, Plan, Work, available, desired, surge_and_unavailable};
use crate::common::owners::name;
use crate::common::time::{time, until};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use std::time::Duration;

/// Whether lack of progress is to be reported.
pub(super) fn has_deadline(deployment: &Deployment) -> bool {
    deadline(deployment).is_some()
}

fn deadline(deployment: &Deployment) -> Option<i32> {
    deployment
        .spec
        .as_ref()
        .and_then(|s| s.progress_deadline_seconds)
        .filter(|d| *d != i32::MAX)
}

/// A condition by type.
pub(super) fn condition<'a>(deployment: &'a Deployment, kind: &str) -> Option<&'a DeploymentCondition> {
    deployment
        .status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind)
}

fn remove_condition(deployment: &mut Deployment, kind: &str) {
    if let Some(status) = &mut deployment.status
        && let Some(conditions) = &mut status.conditions
    {
        conditions.retain(|c| c.type_ != kind);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

/// Sets a condition, unless one of the same status and reason is there.
pub(super) fn set_condition(
    deployment: &mut Deployment,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let current = condition(deployment, kind).cloned();
    if current
        .as_ref()
        .is_some_and(|c| c.status == value && c.reason.as_deref() == Some(reason))
    {
        return;
    }
    let transition = current
        .filter(|c| c.status == value)
        .and_then(|c| c.last_transition_time);
    remove_condition(deployment, kind);
    deployment
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default()
        .push(DeploymentCondition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(time(now)),
            last_transition_time: Some(transition.unwrap_or_else(|| time(now))),
        });
}

/// Notes when a Deployment was paused or resumed, so that the time in between doesn't count as lack of progress.
pub(super) fn note_pause(deployment: &mut Deployment, now: Timestamp) {
    let reason = condition(deployment, "Progressing").and_then(|c| c.reason.clone());
    if !has_deadline(deployment) || reason.as_deref() == Some("ProgressDeadlineExceeded") {
        return;
    }
    let paused = deployment.spec.as_ref().and_then(|s| s.paused) == Some(true);
    let noted = reason.as_deref() == Some("DeploymentPaused");
    if paused && !noted {
        set_condition(
            deployment,
            "Progressing",
            "Unknown",
            "DeploymentPaused",
            "Deployment is paused",
            now,
        );
    } else if !paused && noted {
        set_condition(
            deployment,
            "Progressing",
            "Unknown",
            "DeploymentResumed",
            "Deployment is resumed",
            now,
        );
    }
}

/// Writes the generation back without touching anything else.
pub(super) fn observe_generation(deployment: &Deployment, plan: &mut Plan) {
    let generation = deployment.metadata.generation;
    if deployment.status.as_ref().and_then(|s| s.observed_generation) < generation {
        let mut after = deployment.clone();
        after.status.get_or_insert_default().observed_generation = generation;
        plan.actions.push(Action::UpdateStatus(Box::new(after)));
    }
}

/// Whether all desired replicas are of the current template and available, and no others run.
pub(super) fn is_complete(deployment: &Deployment, state: &Deployment) -> bool {
    let (wanted, status) = (desired(deployment), state.status.clone().unwrap_or_default());
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

fn count(sets: impl Iterator<Item = i32>) -> Option<i32> {
    Some(sets.sum::<i32>()).filter(|n| *n != 0)
}

fn terminating<'a>(sets: impl Iterator<Item = &'a ReplicaSet>) -> Option<i32> {
    let mut total = 0;
    for set in sets {
        let status = set.status.clone().unwrap_or_default();
        match status.terminating_replicas {
            Some(n) => total += n,
            None if status.observed_generation.unwrap_or(0) == 0 => {}
            None => return None,
        }
    }
    Some(total)
}

impl Work<'_> {
    /// Counts the replicas as the ReplicaSets report them, and judges availability.
    fn count(&mut self, now: Timestamp) {
        let old = self.status.status.clone().unwrap_or_default();
        let status = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
        let total = self.sets.total();
        let available_now: i32 = self.sets.iter().map(available).sum();
        self.status.status = Some(DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: count(self.sets.iter().map(|s| status(s).replicas)),
            updated_replicas: count(self.sets.new.iter().map(|s| status(s).replicas)),
            ready_replicas: count(self.sets.iter().map(|s| status(s).ready_replicas.unwrap_or(0))),
            available_replicas: count(self.sets.iter().map(available)),
            unavailable_replicas: count(std::iter::once((total - available_now).max(0))),
            terminating_replicas: terminating(self.sets.iter()),
            collision_count: old.collision_count,
            conditions: old.conditions,
        });
        let enough = available_now >= desired(self.deployment) - surge_and_unavailable(self.deployment).1;
        let (value, reason, message) = if enough {
            (
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        set_condition(&mut self.status, "Available", value, reason, message, now);
    }

    /// Ends a step that estimates no progress.
    pub(super) fn finish_counts(mut self, now: Timestamp, plan: &mut Plan) {
        self.writes(plan);
        self.count(now);
        self.write_status(plan);
    }

    /// Ends a step of a rollout.
    pub(super) fn finish_rollout(mut self, now: Timestamp, plan: &mut Plan) {
        self.writes(plan);
        self.count(now);
        self.judge_progress(now);
        self.show_failures();
        plan.again = self.next_progress_check(now);
        self.write_status(plan);
    }

    fn write_status(self, plan: &mut Plan) {
        if self.status != *self.deployment {
            plan.actions.push(Action::UpdateStatus(Box::new(self.status)));
        }
    }

    fn judge_progress(&mut self, now: Timestamp) {
        let Some(deadline) = deadline(self.deployment) else {
            return remove_condition(&mut self.status, "Progressing");
        };
        let current = condition(&self.status, "Progressing").cloned();
        let reason = current
            .as_ref()
            .and_then(|c| c.reason.clone())
            .unwrap_or_default();
        let status = self.status.status.clone().unwrap_or_default();
        if status.replicas == status.updated_replicas && reason == "NewReplicaSetAvailable" {
            return;
        }
        let subject = match &self.sets.new {
            Some(new) => format!("ReplicaSet {:?}", name(&new.metadata)),
            None => format!("Deployment {:?}", name(&self.deployment.metadata)),
        };
        if is_complete(self.deployment, &self.status) {
            let message = format!("{subject} has successfully progressed.");
            set_condition(
                &mut self.status,
                "Progressing",
                "True",
                "NewReplicaSetAvailable",
                &message,
                now,
            );
        } else if self.has_progressed(&status) {
            let message = format!("{subject} is progressing.");
            let transition = current
                .filter(|c| c.status == "True")
                .and_then(|c| c.last_transition_time);
            remove_condition(&mut self.status, "Progressing");
            set_condition(
                &mut self.status,
                "Progressing",
                "True",
                "ReplicaSetUpdated",
                &message,
                now,
            );
            let conditions = self
                .status
                .status
                .iter_mut()
                .filter_map(|s| s.conditions.as_mut())
                .flatten();
            if let (Some(transition), Some(new)) = (transition, conditions.last()) {
                new.last_transition_time = Some(transition);
            }
        } else if let Some(current) = current
            && reason != "NewReplicaSetAvailable"
            && (reason == "ProgressDeadlineExceeded"
                || current
                    .last_update_time
                    .is_some_and(|t| now.duration_since(t.0) > SignedDuration::from_secs(deadline.into())))
        {
            let message = format!("{subject} has timed out progressing.");
            set_condition(
                &mut self.status,
                "Progressing",
                "False",
                "ProgressDeadlineExceeded",
                &message,
                now,
            );
        }
    }

    fn has_progressed(&self, new: &DeploymentStatus) -> bool {
        let old = self.deployment.status.clone().unwrap_or_default();
        let n = |value: Option<i32>| value.unwrap_or(0);
        let outdated = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
        n(new.updated_replicas) > n(old.updated_replicas)
            || outdated(new) < outdated(&old)
            || n(new.ready_replicas) > n(old.ready_replicas)
            || n(new.available_replicas) > n(old.available_replicas)
    }

    /// Shows the ReplicaSets' failure on the Deployment; the new one's before the others'.
    fn show_failures(&mut self) {
        let failures = |set: &ReplicaSet| {
            set.status
                .as_ref()?
                .conditions
                .as_ref()?
                .iter()
                .find(|c| c.type_ == "ReplicaFailure")
                .cloned()
        };
        match self.sets.new.iter().chain(&self.sets.old).find_map(failures) {
            None => remove_condition(&mut self.status, "ReplicaFailure"),
            Some(failure) => {
                let same = condition(&self.status, "ReplicaFailure")
                    .is_some_and(|c| c.status == failure.status && c.reason == failure.reason);
                if same {
                    return;
                }
                remove_condition(&mut self.status, "ReplicaFailure");
                self.status
                    .status
                    .get_or_insert_default()
                    .conditions
                    .get_or_insert_default()
                    .push(DeploymentCondition {
                        type_: failure.type_,
                        status: failure.status,
                        reason: failure.reason,
                        message: failure.message,
                        last_update_time: failure.last_transition_time.clone(),
                        last_transition_time: failure.last_transition_time,
                    });
            }
        }
    }

    fn next_progress_check(&self, now: Timestamp) -> Option<Duration> {
        let deadline = deadline(self.deployment)?;
        let current = condition(&self.status, "Progressing")?;
        if is_complete(self.deployment, &self.status)
            || matches!(
                current.reason.as_deref(),
                Some("ProgressDeadlineExceeded" | "NewReplicaSetAvailable")
            )
        {
            return None;
        }
        // A second more, so that the deadline has passed for sure by then.
        Some(until(current.last_update_time.as_ref()?, deadline.into(), now) + Duration::from_secs(1))
    }
}

/// The status after the new ReplicaSet could not be made.
pub(super) fn creation_failed(deployment: &Deployment, message: &str, now: Timestamp) -> Option<Deployment> {
    if !has_deadline(deployment) {
        return None;
    }
    let mut after = deployment.clone();
    set_condition(
        &mut after,
        "Progressing",
        "False",
        "ReplicaSetCreateError",
        message,
        now,
    );
    (after != *deployment).then_some(after)
}

/// The status after the new ReplicaSet's name turned out to be taken by something else: the next hash differs.
pub(super) fn collided(deployment: &Deployment) -> Deployment {
    let mut after = deployment.clone();
    let status = after.status.get_or_insert_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    after
}
