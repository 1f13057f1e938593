//! Decides how a Deployment's ReplicaSets change next.
//!
//! One call makes the whole step that can be made from one view of the world: revisions, scaling, clean-up and status. ReplicaSets that
//! have the Deployment's template are its new ones whoever made them, so another implementation's rollouts are carried on.

use super::rollout::{self, Sets};
use super::status;
use crate::common::owners::{annotation, controller_reference, labels, name};
use crate::common::{hash, int_or_percent};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rutter_client::events::EventType;
use std::collections::BTreeMap;
use std::time::Duration;

/// The rollout's number, on Deployments and ReplicaSets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier numbers of a ReplicaSet that was rolled back to.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's size when the ReplicaSet was last scaled; tells a change of size from a rollout.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The Deployment's size with surge when the ReplicaSet was last scaled.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Asks for a rollback, as the first Deployment API did.
pub const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
/// The label that tells one ReplicaSet's pods from another's.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const NOT_COPIED: [&str; 6] = [
    LAST_APPLIED,
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    ROLLBACK_TO,
];
const HISTORY_MAX_CHARS: usize = 2000;

/// What the Deployment is decided from.
pub struct Snapshot<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// All ReplicaSets that it owns.
    pub replica_sets: Vec<ReplicaSet>,
    /// Whether a pod of a ReplicaSet other than the new one (by UID) still runs.
    pub old_pods_running: &'a dyn Fn(Option<&str>) -> bool,
}

/// One write, or one thing to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create the ReplicaSet for the current template.
    Create(Box<ReplicaSet>),
    /// Write a ReplicaSet back.
    Update(Box<ReplicaSet>),
    /// Delete a ReplicaSet beyond the history limit.
    Delete(Box<ReplicaSet>),
    /// Write the Deployment itself back, for a rollback.
    UpdateDeployment(Box<Deployment>),
    /// Write the Deployment's status and revision back.
    UpdateStatus(Box<Deployment>),
    /// Tell people about the Deployment.
    Event(EventType, &'static str, String),
}

/// What to do, in order, and when to look again.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The writes in order; after a failed one the rest is not done.
    pub actions: Vec<Action>,
    /// Look again after this time even if nothing changes.
    pub again: Option<Duration>,
}

/// `spec.replicas`
pub(super) fn desired(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// A ReplicaSet's `spec.replicas`.
pub(super) fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// A ReplicaSet's `status.availableReplicas`.
pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|s| s.available_replicas)
        .unwrap_or(0)
}

/// Whether the strategy is Recreate.
pub(super) fn recreates(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref());
    strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

/// How many pods may be there beyond the desired ones, and how many of the desired ones may be missing.
pub(super) fn surge_and_unavailable(deployment: &Deployment) -> (i32, i32) {
    if recreates(deployment) {
        return (0, 0);
    }
    let rolling = deployment
        .spec
        .as_ref()
        .and_then(|s| s.strategy.as_ref())
        .and_then(|s| s.rolling_update.as_ref());
    let desired = desired(deployment);
    let value = |v: Option<&IntOrString>, up| {
        v.and_then(|v| int_or_percent::scaled(v, desired, up))
            .unwrap_or(0)
    };
    let surge = value(rolling.and_then(|r| r.max_surge.as_ref()), true);
    let unavailable = value(rolling.and_then(|r| r.max_unavailable.as_ref()), false);
    match (surge, unavailable) {
        // Percentages rounded to nothing would stop the rollout: give way by one.
        (0, 0) => (0, 1.min(desired)),
        (surge, unavailable) => (surge, unavailable.min(desired)),
    }
}

/// Whether two templates make the same pods, the hash label aside.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let clean = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
            labels.remove(POD_TEMPLATE_HASH);
        }
        template
    };
    let (a, b) = (clean(a), clean(b));
    a == b || hash::canonical(&a) == hash::canonical(&b)
}

/// The revision of a ReplicaSet; 0 when it has none.
pub(super) fn revision(meta: &ObjectMeta) -> Option<i64> {
    annotation(meta, REVISION).map_or(Some(0), |r| r.parse().ok())
}

/// Decides the next step.
pub fn plan(snapshot: Snapshot<'_>, now: Timestamp) -> Plan {
    let deployment = snapshot.deployment;
    let mut plan = Plan::default();
    let Some(spec) = &deployment.spec else { return plan };
    if spec.selector.match_labels.is_none() && spec.selector.match_expressions.is_none() {
        let text = "This deployment is selecting all pods. A non-empty selector is required.";
        plan.actions
            .push(Action::Event(EventType::Warning, "SelectingAll", text.to_owned()));
        status::observe_generation(deployment, &mut plan);
        return plan;
    }
    let sets = Sets::sort(deployment, snapshot.replica_sets);
    if deployment.metadata.deletion_timestamp.is_some() {
        let mut work = Work::new(deployment, sets);
        work.status.status.get_or_insert_default();
        work.finish_counts(now, &mut plan);
        return plan;
    }
    if let Some(target) = annotation(&deployment.metadata, ROLLBACK_TO).and_then(|t| t.parse().ok())
        && spec.paused != Some(true)
    {
        rollout::roll_back(deployment, &sets, target, &mut plan);
        return plan;
    }
    let mut work = Work::new(deployment, sets);
    status::note_pause(&mut work.status, now);
    work.sync_new_set(now);
    let scaled = work.sets.iter().filter(|s| size(s) > 0).any(|s| {
        annotation(&s.metadata, DESIRED_REPLICAS)
            .and_then(|d| d.parse::<i32>().ok())
            .is_some_and(|d| d != desired(deployment))
    });
    if spec.paused == Some(true) || scaled {
        work.scale();
        if spec.paused == Some(true) {
            work.clean_up();
        }
        work.finish_counts(now, &mut plan);
    } else if recreates(deployment) {
        work.recreate(snapshot.old_pods_running, now);
        work.finish_rollout(now, &mut plan);
    } else {
        work.roll(now);
        work.finish_rollout(now, &mut plan);
    }
    plan
}

/// The state of one decision: working copies of all objects, compared with the originals at the end.
pub(super) struct Work<'a> {
    pub(super) deployment: &'a Deployment,
    /// The Deployment as it is to be written.
    pub(super) status: Deployment,
    pub(super) sets: Sets,
    original: BTreeMap<String, ReplicaSet>,
    pub(super) created: bool,
    doomed: Vec<ReplicaSet>,
}

impl<'a> Work<'a> {
    fn new(deployment: &'a Deployment, sets: Sets) -> Self {
        let original = sets
            .iter()
            .map(|s| (name(&s.metadata).to_owned(), s.clone()))
            .collect();
        Self {
            deployment,
            status: deployment.clone(),
            sets,
            original,
            created: false,
            doomed: Vec::new(),
        }
    }

    /// Brings the new ReplicaSet's revision and annotations, and the Deployment's revision, up to date.
    fn sync_new_set(&mut self, now: Timestamp) {
        let next = self
            .sets
            .old
            .iter()
            .filter_map(|s| revision(&s.metadata))
            .max()
            .unwrap_or(0)
            + 1;
        let Some(new) = &mut self.sets.new else { return };
        annotate(self.deployment, new, next);
        if let Some(spec) = &mut new.spec {
            spec.min_ready_seconds = self.deployment.spec.as_ref().and_then(|s| s.min_ready_seconds);
        }
        let current = annotation(&new.metadata, REVISION).unwrap_or_default().to_owned();
        let found = format!("Found new replica set {:?}", name(&new.metadata));
        self.set_revision(current);
        if status::has_deadline(self.deployment) && status::condition(&self.status, "Progressing").is_none() {
            status::set_condition(
                &mut self.status,
                "Progressing",
                "True",
                "FoundNewReplicaSet",
                &found,
                now,
            );
        }
    }

    fn set_revision(&mut self, revision: String) {
        self.status
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(REVISION.to_owned(), revision);
    }

    /// Makes the new ReplicaSet when there is none.
    pub(super) fn ensure_new_set(&mut self, now: Timestamp) {
        if self.sets.new.is_some() {
            return;
        }
        let next = self
            .sets
            .old
            .iter()
            .filter_map(|s| revision(&s.metadata))
            .max()
            .unwrap_or(0)
            + 1;
        let mut new = new_set(self.deployment);
        self.sets.new = Some(new.clone());
        let replicas = self.new_size();
        if let Some(spec) = &mut new.spec {
            spec.replicas = Some(replicas);
        }
        annotate(self.deployment, &mut new, next);
        self.stamp(&mut new);
        let created = format!("Created new replica set {:?}", name(&new.metadata));
        self.sets.new = Some(new);
        self.created = true;
        self.set_revision(next.to_string());
        if status::has_deadline(self.deployment) {
            status::set_condition(
                &mut self.status,
                "Progressing",
                "True",
                "NewReplicaSetCreated",
                &created,
                now,
            );
        }
    }

    /// How large the new ReplicaSet may be now.
    pub(super) fn new_size(&self) -> i32 {
        let (desired, current) = (desired(self.deployment), self.sets.new.as_ref().map_or(0, size));
        if recreates(self.deployment) {
            return desired;
        }
        let room = desired + surge_and_unavailable(self.deployment).0 - self.sets.total();
        if room <= 0 {
            current
        } else {
            current + room.min(desired - current)
        }
    }

    /// Notes the Deployment's size on a ReplicaSet.
    pub(super) fn stamp(&self, set: &mut ReplicaSet) {
        let annotations = set.metadata.annotations.get_or_insert_default();
        let (desired, surge) = (desired(self.deployment), surge_and_unavailable(self.deployment).0);
        annotations.insert(DESIRED_REPLICAS.to_owned(), desired.to_string());
        annotations.insert(MAX_REPLICAS.to_owned(), (desired + surge).to_string());
    }

    /// Marks old, empty ReplicaSets beyond the history limit for deletion.
    pub(super) fn clean_up(&mut self) {
        let limit = self
            .deployment
            .spec
            .as_ref()
            .and_then(|s| s.revision_history_limit)
            .unwrap_or(i32::MAX);
        if limit == i32::MAX {
            return;
        }
        let mut cleanable: Vec<&ReplicaSet> = self
            .sets
            .old
            .iter()
            .filter(|s| s.metadata.deletion_timestamp.is_none())
            .collect();
        cleanable.sort_by(|a, b| {
            let by_revision = match (revision(&a.metadata), revision(&b.metadata)) {
                (Some(x), Some(y)) => x.cmp(&y),
                _ => std::cmp::Ordering::Equal,
            };
            by_revision.then_with(|| rollout::by_age(a, b))
        });
        let excess = cleanable
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(0));
        self.doomed = cleanable
            .into_iter()
            .take(excess)
            .filter(|s| {
                let observed = s.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
                size(s) == 0
                    && s.status.as_ref().is_none_or(|s| s.replicas == 0)
                    && s.metadata.generation.unwrap_or(0) <= observed
            })
            .cloned()
            .collect();
    }

    /// Turns the changed working copies into writes.
    pub(super) fn writes(&mut self, plan: &mut Plan) {
        for set in self.sets.iter() {
            let key = name(&set.metadata);
            match self.original.get(key) {
                None => {
                    plan.actions.push(Action::Create(Box::new(set.clone())));
                    if size(set) > 0 {
                        plan.actions.push(scaling_event(key, 0, size(set)));
                    }
                }
                Some(before) if before != set => {
                    plan.actions.push(Action::Update(Box::new(set.clone())));
                    if size(before) != size(set) {
                        plan.actions.push(scaling_event(key, size(before), size(set)));
                    }
                }
                Some(_) => {}
            }
        }
        plan.actions
            .extend(self.doomed.drain(..).map(|s| Action::Delete(Box::new(s))));
    }
}

fn scaling_event(name: &str, from: i32, to: i32) -> Action {
    let way = if to > from { "up" } else { "down" };
    Action::Event(
        EventType::Normal,
        "ScalingReplicaSet",
        format!("Scaled {way} replica set {name} from {from} to {to}"),
    )
}

/// The ReplicaSet for the Deployment's template, of size zero.
fn new_set(deployment: &Deployment) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let hash = hash::of(
        &spec.template,
        deployment.status.as_ref().and_then(|s| s.collision_count),
    );
    let mut template = spec.template;
    let meta = template.metadata.get_or_insert_default();
    meta.labels
        .get_or_insert_default()
        .insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    let set_labels = labels(meta);
    let mut selector = spec.selector;
    selector
        .match_labels
        .get_or_insert_default()
        .insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    let room = 253 - 1 - hash.len();
    let base: String = name(&deployment.metadata).chars().take(room).collect();
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{base}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(deployment)]),
            labels: Some(set_labels),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// Copies the Deployment's annotations to its new ReplicaSet and raises its revision to `next`, keeping the ones it had.
fn annotate(deployment: &Deployment, set: &mut ReplicaSet, next: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment
        .metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(k, _)| !NOT_COPIED.contains(&k.as_str()))
    {
        annotations.insert(key.clone(), value.clone());
    }
    let before = annotations.get(REVISION).cloned();
    let Ok(number) = before
        .as_deref()
        .filter(|b| !b.is_empty())
        .map_or(Ok(0), str::parse::<i64>)
    else {
        return;
    };
    if number >= next {
        return;
    }
    annotations.insert(REVISION.to_owned(), next.to_string());
    let Some(before) = before else { return };
    let mut history: Vec<String> = match annotations.get(REVISION_HISTORY).map(String::as_str) {
        None | Some("") => Vec::new(),
        Some(text) => text.split(',').map(str::to_owned).collect(),
    };
    history.push(before);
    while history.len() > 1 && history.iter().map(|h| h.len() + 1).sum::<usize>() - 1 > HISTORY_MAX_CHARS {
        history.remove(0);
    }
    annotations.insert(REVISION_HISTORY.to_owned(), history.join(","));
}

/// Whether an annotation stays with its object when a Deployment and a ReplicaSet exchange theirs.
pub(super) fn is_kept(key: &str) -> bool {
    NOT_COPIED.contains(&key)
}
