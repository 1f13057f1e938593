//! The disruption controller: says how many pods of each PodDisruptionBudget may be evicted, and takes back announced disruptions that never came.

pub mod plan;

use crate::common::discovery;
use crate::common::owners::{group_of, name, namespace, uid};
use crate::common::pods::{self, condition};
use crate::common::selector::Matcher;
use crate::common::time::{time, until};
use crate::frame::{Context, Loop, Reconcile, ignore_not_found};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use rutter_client::events::EventType;
use rutter_client::informer::ObjectKey;
use rutter_client::{Change, Requeue, Store, WorkQueue};
use std::collections::HashMap;

const STALE_SECONDS: i64 = 120;

/// What the queue holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A budget.
    Budget(ObjectKey),
    /// A pod whose disruption was announced.
    Announced(ObjectKey),
}

/// Keeps budgets.
pub struct DisruptionController {
    context: Context,
    budgets: Store<PodDisruptionBudget>,
    pods: Store<Pod>,
    deployments: Store<Deployment>,
    replica_sets: Store<ReplicaSet>,
    stateful_sets: Store<StatefulSet>,
    replication_controllers: Store<ReplicationController>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<Key>::new(&context);
    let budgets = frame.watch::<PodDisruptionBudget>(|change, queue| {
        if let Some(budget) = &change.new {
            queue.add(Key::Budget(ObjectKey::of(&**budget)));
        }
    });
    let known = budgets.clone();
    let pods = frame.watch::<Pod>(move |change, queue| pod_changed(change, queue, &known));
    let controller = DisruptionController {
        deployments: frame.read(),
        replica_sets: frame.read(),
        stateful_sets: frame.read(),
        replication_controllers: frame.read(),
        context,
        budgets,
        pods,
    };
    frame.run(1, controller).await;
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget
        .spec
        .as_ref()
        .and_then(|s| Matcher::of_option(s.selector.as_ref()));
    selector.is_some_and(|s| s.matches(pod.metadata.labels.as_ref()))
}

fn pod_changed(change: &Change<Pod>, queue: &WorkQueue<Key>, budgets: &Store<PodDisruptionBudget>) {
    let Some(pod) = change.object() else { return };
    for budget in budgets.list_in(namespace(&pod.metadata)) {
        if change.old.iter().chain(&change.new).any(|p| selects(&budget, p)) {
            queue.add(Key::Budget(ObjectKey::of(&*budget)));
        }
    }
    if is_announced(pod) {
        queue.add(Key::Announced(ObjectKey::of(&**pod)));
    }
}

fn is_announced(pod: &Pod) -> bool {
    let announced = condition(pod, "DisruptionTarget");
    !pods::is_deleting(pod)
        && !pods::is_terminal(pod)
        && announced
            .is_some_and(|c| c.status == "True" && c.reason.as_deref() != Some("TerminationByKubelet"))
}

#[async_trait]
impl Reconcile for DisruptionController {
    type Key = Key;

    async fn reconcile(&self, key: Key) -> anyhow::Result<Requeue> {
        match key {
            Key::Budget(key) => self.budget(&key).await,
            Key::Announced(key) => self.announced(&key).await,
        }
    }
}

impl DisruptionController {
    async fn budget(&self, key: &ObjectKey) -> anyhow::Result<Requeue> {
        let Some(budget) = self.budgets.get(&key.namespace, &key.name) else {
            return Ok(Requeue::Done);
        };
        let mut pods = self.pods.list_in(&key.namespace);
        pods.retain(|p| selects(&budget, p));
        if pods.is_empty() {
            self.context
                .recorder
                .event(&*budget, EventType::Normal, "NoPods", "No matching pods found");
        }
        let mut scale = HashMap::new();
        for owner in plan::controllers(&pods) {
            if let Some((id, size)) = self.scale(&key.namespace, &owner).await? {
                // Pods know their ReplicaSet, but its Deployment's size counts; either way it is found by the pods' owner.
                scale.insert(owner.uid.clone(), (id, size));
            }
        }
        // Several ReplicaSets of one Deployment count once.
        let mut counted: Vec<String> = Vec::new();
        let scale: HashMap<String, i32> = scale
            .into_iter()
            .map(|(owner, (id, size))| {
                let first = !counted.contains(&id);
                counted.push(id);
                (owner, if first { size } else { 0 })
            })
            .collect();
        let plan = plan::plan(&budget, &pods, &scale, Timestamp::now());
        if !plan.unmanaged.is_empty() {
            let text = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the PDB cannot be calculated \
                correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an \
                integer value.";
            self.context
                .recorder
                .event(&*budget, EventType::Warning, "UnmanagedPods", text);
        }
        for pod in &plan.not_deleted {
            let text = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
            self.context
                .recorder
                .event(&**pod, EventType::Warning, "NotDeleted", text);
        }
        if budget.status.as_ref() != Some(&plan.status) {
            let mut after = PodDisruptionBudget::clone(&budget);
            after.status = Some(plan.status);
            let api: Api<PodDisruptionBudget> = Api::namespaced(self.context.client.clone(), &key.namespace);
            let written = api
                .replace_status(&key.name, &PostParams::default(), &after)
                .await;
            ignore_not_found(written).context("updating the budget's status")?;
        }
        Ok(plan.again.map_or(Requeue::Done, Requeue::After))
    }

    /// The UID and the size of what keeps the number of an owner's pods.
    async fn scale(&self, space: &str, owner: &OwnerReference) -> anyhow::Result<Option<(String, i32)>> {
        let group = group_of(&owner.api_version);
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => {
                let Some(set) = self
                    .replica_sets
                    .get(space, &owner.name)
                    .filter(|s| uid(&s.metadata) == owner.uid)
                else {
                    return Ok(None);
                };
                let parent = crate::common::owners::controller_of_kind::<Deployment>(&set.metadata);
                let parent = parent.and_then(|p| self.deployments.get(space, &p.name));
                Ok(Some(match parent {
                    Some(d) => (
                        uid(&d.metadata).to_owned(),
                        d.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
                    ),
                    None => (
                        owner.uid.clone(),
                        set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
                    ),
                }))
            }
            ("apps", "StatefulSet") => {
                let set = self
                    .stateful_sets
                    .get(space, &owner.name)
                    .filter(|s| uid(&s.metadata) == owner.uid);
                Ok(set.map(|s| {
                    (
                        owner.uid.clone(),
                        s.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
                    )
                }))
            }
            ("", "ReplicationController") => {
                let controller = self
                    .replication_controllers
                    .get(space, &owner.name)
                    .filter(|s| uid(&s.metadata) == owner.uid);
                Ok(controller.map(|c| {
                    (
                        owner.uid.clone(),
                        c.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
                    )
                }))
            }
            _ => self.scale_of_any(space, owner).await,
        }
    }

    async fn scale_of_any(
        &self,
        space: &str,
        owner: &OwnerReference,
    ) -> anyhow::Result<Option<(String, i32)>> {
        let found = discovery::discover(&self.context.client).await?;
        let Some(served) = found.of_kind(group_of(&owner.api_version), &owner.kind) else {
            return Ok(None);
        };
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.context.client.clone(), space, &served.resource);
        let scale =
            ignore_not_found(api.get_scale(&owner.name).await).context("asking for a controller's scale")?;
        Ok(scale
            .and_then(|s| s.spec)
            .map(|s| (owner.uid.clone(), s.replicas.unwrap_or(0))))
    }

    /// A disruption that was announced and has not come for two minutes is taken back.
    async fn announced(&self, key: &ObjectKey) -> anyhow::Result<Requeue> {
        let Some(pod) = self
            .pods
            .get(&key.namespace, &key.name)
            .filter(|p| is_announced(p))
        else {
            return Ok(Requeue::Done);
        };
        let since = condition(&pod, "DisruptionTarget").and_then(|c| c.last_transition_time.clone());
        let now = Timestamp::now();
        let left = since.map(|s| until(&s, STALE_SECONDS, now)).unwrap_or_default();
        if !left.is_zero() {
            return Ok(Requeue::After(left));
        }
        let mut after = Pod::clone(&pod);
        for target in after
            .status
            .iter_mut()
            .flat_map(|s| s.conditions.iter_mut().flatten())
            .filter(|c| c.type_ == "DisruptionTarget")
        {
            target.status = "False".to_owned();
            target.reason = None;
            target.message = None;
            target.last_transition_time = Some(time(now));
        }
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        ignore_not_found(
            api.replace_status(name(&pod.metadata), &PostParams::default(), &after)
                .await,
        )
        .context("taking back an announced disruption")?;
        Ok(Requeue::Done)
    }
}
