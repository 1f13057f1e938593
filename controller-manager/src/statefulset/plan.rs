//! Decides the next step of a StatefulSet: in order, or all at once.

use super::identity::{self, new_pod, ordinal, revision, stamp};
use crate::common::int_or_percent;
use crate::common::owners::name;
use crate::common::pods::{is_available, is_deleting, is_ready, is_terminal, next_availability, phase};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A revision: its name and its template.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The ControllerRevision's name.
    pub name: String,
    /// What it holds.
    pub template: PodTemplateSpec,
}

/// What a StatefulSet is decided from.
pub struct Snapshot<'a> {
    /// The StatefulSet.
    pub set: &'a StatefulSet,
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// The revision that a rollout comes from.
    pub current: &'a Revision,
    /// The revision that it goes to.
    pub update: &'a Revision,
    /// The collisions of hashes so far.
    pub collisions: Option<i32>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create the pod, its claims first.
    Create(Box<Pod>, i32),
    /// Delete the pod; `true` when it is to be made anew because it has ended.
    Delete(Arc<Pod>, bool),
    /// Write the pod's identity back.
    Update(Box<Pod>, i32),
}

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// The status.
    pub status: StatefulSetStatus,
    /// Look again after this time.
    pub again: Option<Duration>,
}

struct Work<'a> {
    snapshot: &'a Snapshot<'a>,
    replicas: BTreeMap<i32, Option<Arc<Pod>>>,
    condemned: Vec<Arc<Pod>>,
    start: i32,
    min_ready: i32,
    ordered: bool,
    now: Timestamp,
    actions: Vec<Action>,
}

/// The ordinals that the set is to have: the first, and how many.
pub fn range(set: &StatefulSet) -> (i32, i32) {
    let spec = set.spec.as_ref();
    let start = spec
        .and_then(|s| s.ordinals.as_ref())
        .and_then(|o| o.start)
        .unwrap_or(0);
    (start, spec.and_then(|s| s.replicas).unwrap_or(1))
}

/// Decides the next step.
pub fn plan(snapshot: &Snapshot<'_>, now: Timestamp) -> Plan {
    let spec = snapshot.set.spec.clone().unwrap_or_default();
    let (start, count) = range(snapshot.set);
    let mut work = Work {
        snapshot,
        replicas: (start..start + count).map(|o| (o, None)).collect(),
        condemned: Vec::new(),
        start,
        min_ready: spec.min_ready_seconds.unwrap_or(0),
        ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
        now,
        actions: Vec::new(),
    };
    for pod in snapshot.pods {
        let Some(at) = ordinal(name(&snapshot.set.metadata), name(&pod.metadata)) else {
            continue;
        };
        match work.replicas.get_mut(&at) {
            Some(slot) => *slot = Some(pod.clone()),
            None => work.condemned.push(pod.clone()),
        }
    }
    let set_name = name(&snapshot.set.metadata);
    work.condemned
        .sort_by_key(|p| std::cmp::Reverse(ordinal(set_name, name(&p.metadata))));
    let status = work.status();
    if snapshot.set.metadata.deletion_timestamp.is_none() {
        let on_delete = spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("OnDelete");
        if work.fill() && work.shrink() && !on_delete {
            work.roll();
        }
    }
    let pods: Vec<Arc<Pod>> = work.replicas.values().flatten().cloned().collect();
    Plan {
        actions: work.actions,
        status,
        again: next_availability(&pods, work.min_ready, now),
    }
}

impl Work<'_> {
    fn healthy(&self, pod: &Pod) -> bool {
        phase(pod) == "Running" && is_ready(pod) && !is_deleting(pod)
    }

    fn available(&self, pod: &Pod) -> bool {
        self.healthy(pod) && is_available(pod, self.min_ready, self.now)
    }

    fn partition(&self) -> Option<i32> {
        let rolling = self
            .snapshot
            .set
            .spec
            .as_ref()?
            .update_strategy
            .as_ref()?
            .rolling_update
            .as_ref()?;
        Some(rolling.partition.unwrap_or(0))
    }

    /// The revision that a new pod of an ordinal is of.
    fn revision_for(&self, ordinal: i32) -> &Revision {
        let from_current = match self.partition() {
            Some(partition) => ordinal < self.start + partition,
            None => {
                let current = self
                    .snapshot
                    .set
                    .status
                    .as_ref()
                    .and_then(|s| s.current_replicas)
                    .unwrap_or(0);
                ordinal < self.start + current
            }
        };
        if from_current {
            self.snapshot.current
        } else {
            self.snapshot.update
        }
    }

    /// Makes missing pods, remakes ended ones, and corrects identities; says whether all is well so far.
    fn fill(&mut self) -> bool {
        for (at, pod) in self.replicas.clone() {
            let Some(pod) = pod else {
                let revision = self.revision_for(at).clone();
                let pod = new_pod(self.snapshot.set, &revision.template, &revision.name, at);
                self.actions.push(Action::Create(Box::new(pod), at));
                if self.ordered {
                    return false;
                }
                continue;
            };
            if is_terminal(&pod) {
                if !is_deleting(&pod) {
                    self.actions.push(Action::Delete(pod, true));
                }
                if self.ordered {
                    return false;
                }
                continue;
            }
            if self.ordered && !self.available(&pod) {
                return false;
            }
            let mut stamped = Pod::clone(&pod);
            if !is_deleting(&pod) && stamp(self.snapshot.set, &mut stamped, at) {
                self.actions.push(Action::Update(Box::new(stamped), at));
            }
        }
        true
    }

    /// Removes pods beyond the range, the highest first; says whether all is well so far.
    fn shrink(&mut self) -> bool {
        let all = self.replicas.values().flatten().chain(&self.condemned);
        let first_unhealthy = all
            .filter(|p| !self.healthy(p))
            .min_by_key(|p| ordinal(name(&self.snapshot.set.metadata), name(&p.metadata)));
        let first_unhealthy = first_unhealthy.map(|p| p.metadata.uid.clone());
        for pod in self.condemned.clone() {
            if is_deleting(&pod) {
                if self.ordered {
                    return false;
                }
                continue;
            }
            if self.ordered && !self.healthy(&pod) && first_unhealthy.as_ref() != Some(&pod.metadata.uid) {
                return false;
            }
            self.actions.push(Action::Delete(pod, false));
            if self.ordered {
                return false;
            }
        }
        true
    }

    /// Takes pods of another revision, from the highest ordinal down to the partition, as many as may be missing.
    fn roll(&mut self) {
        let lowest = self.start + self.partition().unwrap_or(0);
        let total = self.replicas.len() as i32;
        let rolling = self
            .snapshot
            .set
            .spec
            .as_ref()
            .and_then(|s| s.update_strategy.as_ref())
            .and_then(|s| s.rolling_update.as_ref());
        let allowed = rolling
            .and_then(|r| r.max_unavailable.as_ref())
            .and_then(|v| int_or_percent::scaled(v, total, true));
        let allowed = allowed.unwrap_or(1).max(1);
        let mut missing = self
            .replicas
            .values()
            .filter(|p| !p.as_ref().is_some_and(|p| self.available(p)))
            .count() as i32;
        for (at, pod) in self.replicas.clone().into_iter().rev() {
            if at < lowest {
                return;
            }
            let Some(pod) = pod else { continue };
            let old = revision(&pod) != self.snapshot.update.name;
            let available = self.available(&pod);
            if old && !is_deleting(&pod) {
                // A pod that is missing anyway costs nothing.
                if available && missing >= allowed {
                    return;
                }
                missing += i32::from(available);
                self.actions.push(Action::Delete(pod, false));
                if missing >= allowed {
                    return;
                }
            } else if !available && missing >= allowed {
                return;
            }
        }
    }

    fn status(&self) -> StatefulSetStatus {
        let before = self.snapshot.set.status.clone().unwrap_or_default();
        let (current, update) = (&self.snapshot.current.name, &self.snapshot.update.name);
        let living = self
            .snapshot
            .pods
            .iter()
            .filter(|p| identity::is_member(self.snapshot.set, p) && !is_terminal(p));
        let living: Vec<&Arc<Pod>> = living.collect();
        let count = |f: &dyn Fn(&Pod) -> bool| living.iter().filter(|p| f(p)).count() as i32;
        let of = |name: &str| count(&|p| !is_deleting(p) && revision(p) == name);
        let some = |n: i32| Some(n).filter(|n| *n != 0);
        let ready = count(&|p| phase(p) == "Running" && is_ready(p));
        let mut status = StatefulSetStatus {
            observed_generation: self.snapshot.set.metadata.generation,
            replicas: living.len() as i32,
            ready_replicas: some(ready),
            available_replicas: Some(count(&|p| {
                phase(p) == "Running" && is_available(p, self.min_ready, self.now)
            })),
            current_replicas: some(of(current)),
            updated_replicas: some(of(update)),
            current_revision: Some(current.clone()),
            update_revision: Some(update.clone()),
            collision_count: self.snapshot.collisions.or(before.collision_count).or(Some(0)),
            conditions: before.conditions,
        };
        // A rollout that has reached every pod makes its revision the current one.
        let on_delete = self
            .snapshot
            .set
            .spec
            .as_ref()
            .and_then(|s| s.update_strategy.as_ref())
            .and_then(|s| s.type_.as_deref())
            == Some("OnDelete");
        let updated = status.updated_replicas.unwrap_or(0);
        if !on_delete && updated == status.replicas && ready == status.replicas {
            status.current_replicas = status.updated_replicas;
            status.current_revision.clone_from(&status.update_revision);
        }
        status
    }
}
