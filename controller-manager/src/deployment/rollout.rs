//! The sizes of a Deployment's ReplicaSets: rolling, recreating, scaling in proportion, and going back.

use super::plan::{
    Action, MAX_REPLICAS, POD_TEMPLATE_HASH, Plan, ROLLBACK_TO, Work, available, desired, is_kept, recreates,
    revision, same_template, size, surge_and_unavailable,
};
use super::status;
use crate::common::owners::{annotation, name, uid};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use rutter_client::events::EventType;
use std::cmp::Ordering;

/// A Deployment's ReplicaSets: the one with its template, and the others from old to new.
#[derive(Debug)]
pub(super) struct Sets {
    pub(super) new: Option<ReplicaSet>,
    pub(super) old: Vec<ReplicaSet>,
}

/// Older first; by name when of one second.
pub(super) fn by_age(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    a.metadata
        .creation_timestamp
        .cmp(&b.metadata.creation_timestamp)
        .then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

impl Sets {
    pub(super) fn sort(deployment: &Deployment, mut sets: Vec<ReplicaSet>) -> Self {
        sets.sort_by(by_age);
        let template = deployment.spec.as_ref().map(|s| &s.template);
        let is_new = |set: &ReplicaSet| match (template, set.spec.as_ref().and_then(|s| s.template.as_ref()))
        {
            (Some(a), Some(b)) => same_template(a, b),
            _ => false,
        };
        let new = sets.iter().position(is_new).map(|at| sets.remove(at));
        Self { new, old: sets }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    /// The sum of all sizes.
    pub(super) fn total(&self) -> i32 {
        self.iter().map(size).sum()
    }
}

fn resize(set: &mut ReplicaSet, replicas: i32) {
    if let Some(spec) = &mut set.spec {
        spec.replicas = Some(replicas);
    }
}

impl Work<'_> {
    fn scale_new(&mut self, replicas: i32) -> bool {
        let Some(mut new) = self.sets.new.take() else {
            return false;
        };
        let changed = size(&new) != replicas;
        if changed {
            resize(&mut new, replicas);
            self.stamp(&mut new);
        }
        self.sets.new = Some(new);
        changed
    }

    fn scale_old(&mut self, at: usize, replicas: i32, force: bool) -> bool {
        let Some(set) = self.sets.old.get(at) else {
            return false;
        };
        let changed = size(set) != replicas;
        if changed || force {
            let mut set = set.clone();
            resize(&mut set, replicas);
            self.stamp(&mut set);
            if let Some(slot) = self.sets.old.get_mut(at) {
                *slot = set;
            }
        }
        changed
    }

    /// One step of a rolling update.
    pub(super) fn roll(&mut self, now: Timestamp) {
        self.ensure_new_set(now);
        let current = self.sets.new.as_ref().map_or(0, size);
        let wanted = desired(self.deployment);
        let next = if current > wanted { wanted } else { self.new_size() };
        if self.scale_new(next) {
            return;
        }
        if self.shrink_old() {
            return;
        }
        if status::is_complete(self.deployment, &self.status) {
            self.clean_up();
        }
    }

    /// Takes pods from old ReplicaSets: unhealthy ones first, then as many as availability allows.
    fn shrink_old(&mut self) -> bool {
        let minimum = desired(self.deployment) - surge_and_unavailable(self.deployment).1;
        let (new_size, new_available) = self.sets.new.as_ref().map_or((0, 0), |s| (size(s), available(s)));
        let room = self.sets.total() - minimum - (new_size - new_available);
        if self.sets.old.iter().map(size).sum::<i32>() == 0 || room <= 0 {
            return false;
        }
        let mut cleaned = 0;
        for at in 0..self.sets.old.len() {
            let Some((current, healthy)) = self.sets.old.get(at).map(|s| (size(s), available(s))) else {
                break;
            };
            if cleaned >= room || current == 0 || current == healthy {
                continue;
            }
            let fewer = (room - cleaned).min(current - healthy);
            if fewer > 0 {
                self.scale_old(at, current - fewer, false);
                cleaned += fewer;
            }
        }
        let spare = self.sets.iter().map(available).sum::<i32>() - minimum;
        let mut removed = 0;
        for at in 0..self.sets.old.len() {
            let current = self.sets.old.get(at).map_or(0, size);
            if removed >= spare || current == 0 {
                continue;
            }
            let fewer = current.min(spare - removed);
            self.scale_old(at, current - fewer, false);
            removed += fewer;
        }
        cleaned + removed > 0
    }

    /// One step of recreating: everything old ends before anything new starts.
    pub(super) fn recreate(&mut self, old_pods_running: &dyn Fn(Option<&str>) -> bool, now: Timestamp) {
        let mut shrunk = false;
        for at in 0..self.sets.old.len() {
            shrunk |= self.scale_old(at, 0, false);
        }
        let still_there = self
            .sets
            .old
            .iter()
            .any(|s| s.status.as_ref().is_some_and(|s| s.replicas > 0));
        if shrunk || still_there || old_pods_running(self.sets.new.as_ref().map(|s| uid(&s.metadata))) {
            return;
        }
        self.ensure_new_set(now);
        self.scale_new(desired(self.deployment));
        if status::is_complete(self.deployment, &self.status) {
            self.clean_up();
        }
    }

    /// Follows a change of size without driving a rollout on: one ReplicaSet takes all of it, several share it in proportion.
    pub(super) fn scale(&mut self) {
        let wanted = desired(self.deployment);
        let active: Vec<usize> = (0..self.sets.old.len())
            .filter(|at| self.sets.old.get(*at).is_some_and(|s| size(s) > 0))
            .collect();
        let new_active = self.sets.new.as_ref().is_some_and(|s| size(s) > 0);
        match (active.as_slice(), new_active, self.sets.new.is_some()) {
            ([], _, true) => {
                self.scale_new(wanted);
                return;
            }
            ([], false, false) => {
                let newest = self.sets.old.len().checked_sub(1);
                if let Some(at) = newest {
                    self.scale_old(at, wanted, false);
                }
                return;
            }
            ([only], false, _) => {
                self.scale_old(*only, wanted, false);
                return;
            }
            _ => {}
        }
        let saturated = self.sets.new.as_ref().is_some_and(|new| {
            let noted =
                annotation(&new.metadata, super::plan::DESIRED_REPLICAS).and_then(|d| d.parse::<i32>().ok());
            size(new) == wanted && noted == Some(wanted) && available(new) == wanted
        });
        if saturated {
            for at in active {
                self.scale_old(at, 0, false);
            }
        } else if !recreates(self.deployment) {
            self.scale_in_proportion(active, new_active);
        }
    }

    fn scale_in_proportion(&mut self, active: Vec<usize>, new_active: bool) {
        let wanted = desired(self.deployment);
        let allowed = if wanted > 0 {
            wanted + surge_and_unavailable(self.deployment).0
        } else {
            0
        };
        let add = allowed - self.sets.total();
        // `None` stands for the new ReplicaSet, which is the youngest.
        let mut order: Vec<(Option<usize>, ReplicaSet)> = active
            .into_iter()
            .filter_map(|at| Some((Some(at), self.sets.old.get(at)?.clone())))
            .collect();
        if new_active && let Some(new) = &self.sets.new {
            order.push((None, new.clone()));
        }
        order.sort_by(|(_, a), (_, b)| {
            let age = if add > 0 { by_age(b, a) } else { by_age(a, b) };
            size(b).cmp(&size(a)).then(age)
        });
        let mut added = 0;
        let mut sizes: Vec<i32> = Vec::new();
        for (_, set) in &order {
            let share = if add == 0 || add == added {
                0
            } else {
                self.share(set, add - added)
            };
            added += share;
            sizes.push(size(set) + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + add - added).max(0);
        }
        for ((at, set), replicas) in order.into_iter().zip(sizes) {
            match at {
                Some(at) => {
                    self.scale_old(at, replicas, true);
                }
                None => {
                    let mut set = set;
                    resize(&mut set, replicas);
                    self.stamp(&mut set);
                    self.sets.new = Some(set);
                }
            }
        }
    }

    /// A ReplicaSet's share of a change, never more than what is left of it.
    fn share(&self, set: &ReplicaSet, left: i32) -> i32 {
        let current = size(set);
        let wanted = desired(self.deployment);
        let fraction = if wanted == 0 {
            -current
        } else {
            let largest = wanted + surge_and_unavailable(self.deployment).0;
            let noted = annotation(&set.metadata, MAX_REPLICAS)
                .and_then(|m| m.parse::<i32>().ok())
                .filter(|m| *m > 0);
            let before = noted.unwrap_or_else(|| {
                self.deployment
                    .status
                    .as_ref()
                    .and_then(|s| s.replicas)
                    .unwrap_or(0)
            });
            if before == 0 {
                0
            } else {
                let exact = f64::from(current) * f64::from(largest) / f64::from(before);
                exact.round() as i32 - current
            }
        };
        if left > 0 {
            fraction.min(left)
        } else {
            fraction.max(left)
        }
    }
}

/// Puts the template of an earlier revision (0: the last one) back into the Deployment, and takes the request away.
pub(super) fn roll_back(deployment: &Deployment, sets: &Sets, target: i64, plan: &mut Plan) {
    let mut after = deployment.clone();
    if let Some(annotations) = &mut after.metadata.annotations {
        annotations.remove(ROLLBACK_TO);
    }
    let mut revisions: Vec<i64> = sets.iter().filter_map(|s| revision(&s.metadata)).collect();
    revisions.sort_unstable_by(|a, b| b.cmp(a));
    let target = if target == 0 {
        revisions.get(1).copied().unwrap_or(0)
    } else {
        target
    };
    let found = sets
        .iter()
        .find(|s| target != 0 && revision(&s.metadata) == Some(target));
    let template = found
        .and_then(|s| s.spec.as_ref())
        .and_then(|s| s.template.clone());
    let event = match (found, template, &mut after.spec) {
        (Some(set), Some(mut template), Some(spec)) if !same_template(&template, &spec.template) => {
            if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
                labels.remove(POD_TEMPLATE_HASH);
            }
            spec.template = template;
            let annotations = after.metadata.annotations.get_or_insert_default();
            annotations.retain(|key, _| is_kept(key));
            let copied = set
                .metadata
                .annotations
                .iter()
                .flatten()
                .filter(|(k, _)| !is_kept(k));
            annotations.extend(copied.map(|(k, v)| (k.clone(), v.clone())));
            let text = format!(
                "Rolled back deployment {:?} to revision {target}",
                name(&deployment.metadata)
            );
            (EventType::Normal, "DeploymentRollback", text)
        }
        (Some(_), _, _) => {
            let text = format!(
                "The rollback revision contains the same template as current deployment {:?}",
                name(&deployment.metadata)
            );
            (EventType::Warning, "DeploymentRollbackTemplateUnchanged", text)
        }
        (None, _, _) => {
            let text = if target == 0 {
                "Unable to find last revision."
            } else {
                "Unable to find the revision to rollback to."
            };
            (
                EventType::Warning,
                "DeploymentRollbackRevisionNotFound",
                text.to_owned(),
            )
        }
    };
    plan.actions.push(Action::UpdateDeployment(Box::new(after)));
    plan.actions.push(Action::Event(event.0, event.1, event.2));
}
