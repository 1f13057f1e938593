//! Keeps the node's object and lease current.

use super::object::{Facts, Health, new_node, same, standard_labels, status};
use crate::eviction::Pressure;
use crate::pleg::PlegHealth;
use crate::shared::Shared;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use rutter_client::Informer;
use rutter_client::events::EventType;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often things are reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rhythm {
    /// How often the status is looked at.
    pub(crate) update: Duration,
    /// How often it is written when nothing changed.
    pub(crate) report: Duration,
    /// How long the lease lasts.
    pub(crate) lease_seconds: i32,
    /// How many images are listed.
    pub(crate) max_images: usize,
    /// Whether the node makes its own object.
    pub(crate) register: bool,
}

/// The agent of one node.
pub(crate) struct Agent {
    pub(crate) shared: Arc<Shared>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) rhythm: Rhythm,
    pub(crate) pleg: PlegHealth,
    pub(crate) pressure: Arc<ArcSwap<Pressure>>,
    /// Set to the object as it is known, for everybody who wants it.
    pub(crate) node: Arc<ArcSwap<Node>>,
    /// Set once the node's object is known.
    pub(crate) registered: tokio::sync::watch::Sender<bool>,
    /// Asks for an update out of turn.
    pub(crate) wake: Arc<Notify>,
}

impl Agent {
    /// Registers the node and reports until stopped.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let lease = keep_lease(self.shared.clone(), self.rhythm.lease_seconds, self.node.clone());
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.report() => {}
            () = self.follow() => {}
            () = lease => {}
        }
    }

    /// Keeps the node's object current once it is registered: pods are let in by the labels and taints that it has now.
    async fn follow(&self) {
        let mut registered = self.registered.subscribe();
        // The agent holds the other end, so the wait only ends with a registration.
        let _ = registered.wait_for(|r| *r).await;
        let own = watcher::Config::default().fields(&format!("metadata.name={}", self.facts.name));
        let informer = Informer::start(Api::<Node>::all(self.shared.client.clone()), own);
        let mut changes = informer.subscribe();
        while let Some(change) = changes.recv().await {
            let newer = |node: &Node| {
                let known = self.node.load();
                node.metadata.uid != known.metadata.uid || version(node) > version(&known)
            };
            if let Some(node) = change.new.filter(|node| newer(node)) {
                self.take_pod_cidr(&node).await;
                self.node.store(node);
            }
        }
    }

    async fn report(&self) {
        let api: Api<Node> = Api::all(self.shared.client.clone());
        let mut delay = Duration::from_millis(100);
        while let Err(error) = self.register(&api).await {
            tracing::warn!(node = %self.facts.name, error = %crate::objects::describe(&error), "registering the node failed; trying again");
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(7));
        }
        self.registered.send_replace(true);
        tracing::info!(node = %self.facts.name, "the node is registered");
        self.shared.recorder.event(
            &self.event_node(),
            EventType::Normal,
            "Starting",
            "Starting kubelet.",
        );
        let mut written = Instant::now() - self.rhythm.report;
        let mut last_ready = None;
        loop {
            match self.update(&api, &mut written).await {
                Ok(ready) => {
                    if last_ready.is_some_and(|l| l != ready) {
                        let reason = if ready { "NodeReady" } else { "NodeNotReady" };
                        let message = format!("Node {} status is now: {reason}", self.facts.name);
                        self.shared
                            .recorder
                            .event(&self.event_node(), EventType::Normal, reason, message);
                    }
                    last_ready = Some(ready);
                }
                Err(kube::Error::Api(answer)) if answer.code == 404 && self.rhythm.register => {
                    tracing::warn!(node = %self.facts.name, "the node's object is gone; registering again");
                    if let Err(error) = self.register(&api).await {
                        tracing::warn!(%error, "registering the node failed");
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %crate::objects::describe(&error), "updating the node's status failed")
                }
            }
            // A node that isn't ready yet looks more often, so that it becomes ready without delay.
            let pause = if last_ready == Some(true) {
                self.rhythm.update
            } else {
                Duration::from_millis(500)
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// The node as events name it: by its name in place of a UID, as upstream does.
    fn event_node(&self) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some(self.facts.name.clone());
        node.metadata.uid = Some(self.facts.name.clone());
        node
    }

    async fn register(&self, api: &Api<Node>) -> Result<(), kube::Error> {
        if let Some(existing) = api.get_opt(&self.facts.name).await? {
            let labels = standard_labels(&self.facts);
            let now = existing.metadata.labels.clone().unwrap_or_default();
            let known = if labels.iter().all(|(k, v)| now.get(k) == Some(v)) {
                existing
            } else {
                let patch = json!({"metadata": {"labels": labels}});
                api.patch(
                    &self.facts.name,
                    &PatchParams::default(),
                    &Patch::Strategic(&patch),
                )
                .await?
            };
            self.node.store(Arc::new(known));
            return Ok(());
        }
        if !self.rhythm.register {
            return Err(kube::Error::Api(Box::new(kube::core::Status::failure(
                "the node's object isn't there, and --register-node=false",
                "NotFound",
            ))));
        }
        let node = new_node(&self.facts, &self.health().await, Timestamp::now());
        match api.create(&PostParams::default(), &node).await {
            Ok(made) => {
                self.node.store(Arc::new(made));
                Ok(())
            }
            Err(kube::Error::Api(answer)) if answer.code == 409 => {
                self.node.store(Arc::new(api.get(&self.facts.name).await?));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the status when it has changed or is due; returns whether the node is ready.
    async fn update(&self, api: &Api<Node>, written: &mut Instant) -> Result<bool, kube::Error> {
        let health = self.health().await;
        let mut node = self.node.load_full();
        for _ in 0..3 {
            let old = node.status.clone().unwrap_or_default();
            let new = status(&self.facts, &health, &old, Timestamp::now());
            let ready = super::object::is_ready(&new);
            if same(&old, &new) && written.elapsed() < self.rhythm.report {
                return Ok(ready);
            }
            let patch = status_patch(&old, &new);
            match api
                .patch_status(
                    &self.facts.name,
                    &PatchParams::default(),
                    &Patch::Strategic(&patch),
                )
                .await
            {
                Ok(known) => {
                    self.take_pod_cidr(&known).await;
                    self.node.store(Arc::new(known));
                    *written = Instant::now();
                    return Ok(ready);
                }
                Err(kube::Error::Api(answer)) if answer.code == 409 => {
                    node = Arc::new(api.get(&self.facts.name).await?);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Hands the node's range of pod addresses to the runtime when it has become known.
    async fn take_pod_cidr(&self, node: &Node) {
        let cidr = |n: &Node| n.spec.as_ref().and_then(|s| s.pod_cidr.clone());
        let (old, new) = (cidr(&self.node.load()), cidr(node));
        if let Some(new) = new.filter(|n| old.as_ref() != Some(n))
            && let Err(error) = self.shared.cri.update_pod_cidr(new).await
        {
            tracing::debug!(%error, "telling the runtime the pod CIDR failed");
        }
    }

    async fn health(&self) -> Health {
        let mut problems = Vec::new();
        match self.shared.cri.status().await {
            Ok(answer) => {
                let conditions = answer.status.map(|s| s.conditions).unwrap_or_default();
                let failing = |kind: &str| {
                    conditions
                        .iter()
                        .find(|c| c.r#type == kind)
                        .filter(|c| !c.status)
                        .map(|c| format!("{kind} reason:{} message:{}", c.reason, c.message))
                };
                if let Some(problem) = failing("RuntimeReady") {
                    problems.push(format!("container runtime not ready: {problem}"));
                }
                let network =
                    failing("NetworkReady").map(|n| format!("container runtime network not ready: {n}"));
                let before = self.shared.network_ready.swap(Arc::new(network.clone()));
                if before.is_some() && network.is_none() {
                    self.shared.network_changed.notify_one();
                }
                problems.extend(network);
            }
            Err(error) => problems.push(format!("container runtime is down: {}", error.status.message())),
        }
        problems.extend(self.pleg.problem());
        let pressure = self.pressure.load();
        Health {
            problems,
            memory_pressure: pressure.memory,
            disk_pressure: pressure.disk,
            pid_pressure: pressure.pids,
            images: self.images().await,
            volumes_in_use: Vec::new(),
            devices: self.shared.devices.amounts(),
        }
    }

    async fn images(&self) -> Vec<ContainerImage> {
        let mut list = self.shared.cri.list_images().await.unwrap_or_default();
        list.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        list.truncate(self.rhythm.max_images);
        list.into_iter()
            .map(|i| ContainerImage {
                names: Some(i.repo_digests.into_iter().chain(i.repo_tags).take(5).collect()),
                size_bytes: i64::try_from(i.size).ok(),
            })
            .collect()
    }
}

/// How new a view of an object is (KEP-5504).
fn version(node: &Node) -> u64 {
    let version = node.metadata.resource_version.as_deref();
    version.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// A strategic merge patch from one status to another.
fn status_patch(old: &NodeStatus, new: &NodeStatus) -> Value {
    let old = serde_json::to_value(old).unwrap_or_default();
    let new = serde_json::to_value(new).unwrap_or_default();
    let mut out = serde_json::Map::new();
    for (key, value) in new.as_object().into_iter().flatten() {
        if old.get(key) == Some(value) {
            continue;
        }
        if key == "addresses" && old.get(key).is_some() {
            let mut list = value.as_array().cloned().unwrap_or_default();
            list.insert(0, json!({"$patch": "replace"}));
            out.insert(key.clone(), Value::Array(list));
        } else {
            out.insert(key.clone(), value.clone());
        }
    }
    json!({"status": out})
}

/// Renews the node's lease at a quarter of its duration.
async fn keep_lease(shared: Arc<Shared>, seconds: i32, node: Arc<ArcSwap<Node>>) {
    let name = shared.settings.node_name.clone();
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), "kube-node-lease");
    let period = Duration::from_secs(u64::try_from(seconds).unwrap_or(40)) / 4;
    let mut known: Option<Lease> = None;
    loop {
        let renewed = renew(&api, &name, seconds, known.take(), &node.load()).await;
        let pause = match renewed {
            Ok(lease) => {
                known = Some(lease);
                period
            }
            Err(error) => {
                tracing::warn!(error = %crate::objects::describe(&error), "renewing the node's lease failed");
                Duration::from_secs(1)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn renew(
    api: &Api<Lease>,
    name: &str,
    seconds: i32,
    known: Option<Lease>,
    node: &Node,
) -> Result<Lease, kube::Error> {
    let owner = node.metadata.uid.clone().map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.to_owned(),
        uid,
        ..OwnerReference::default()
    });
    let fill = |lease: &mut Lease| {
        lease.metadata.name = Some(name.to_owned());
        if let Some(owner) = &owner {
            lease.metadata.owner_references = Some(vec![owner.clone()]);
        }
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(name.to_owned()),
            lease_duration_seconds: Some(seconds),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..lease.spec.clone().unwrap_or_default()
        });
    };
    let existing = match known {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    match existing {
        Some(mut lease) => {
            fill(&mut lease);
            api.replace(name, &PostParams::default(), &lease).await
        }
        None => {
            let mut lease = Lease::default();
            fill(&mut lease);
            api.create(&PostParams::default(), &lease).await
        }
    }
}
