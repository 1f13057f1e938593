//! The node lifecycle controller: notices nodes that have fallen silent, taints nodes by their conditions, and marks the pods of lost nodes as not
//! ready. The pods' eviction is the taint eviction controller's.

pub mod plan;

use crate::common::batch;
use crate::common::owners::{name, namespace};
use crate::common::pods::{self, condition, is_terminal};
use crate::common::time::time;
use crate::frame::{Context, Loop, Reconcile, ignore_not_found, is_conflict};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use plan::{Bucket, Look, Patience, Rates, Record};
use rutter_client::events::EventType;
use rutter_client::{Requeue, Store};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What is to be done: look at all nodes, or bring one node's taints and labels up to date.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Look at all nodes.
    Health,
    /// Follow one node's conditions.
    Node(String),
}

/// Watches over nodes.
pub struct NodeLifecycleController {
    context: Context,
    nodes: Store<Node>,
    leases: Store<Lease>,
    pods: Store<Pod>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: HashMap<String, Record>,
    buckets: HashMap<String, Bucket>,
    known: HashSet<String>,
}

const BY_NODE: &str = "node";

/// Lets pods be found by their node.
pub(crate) fn index_by_node(context: &Context) {
    let by_node = |pod: &Pod| {
        Some(pods::node_name(pod).to_owned())
            .filter(|n| !n.is_empty())
            .into_iter()
            .collect()
    };
    context.informers.of::<Pod>().add_index(BY_NODE, by_node);
}

/// The pods of a node; needs [`index_by_node`].
pub(crate) fn pods_on(store: &Store<Pod>, node: &str) -> Vec<Arc<Pod>> {
    store.by_index(BY_NODE, node)
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<Key>::new(&context);
    let nodes = frame.watch::<Node>(|change, queue| {
        if let Some(node) = &change.new {
            queue.add(Key::Node(name(&node.metadata).to_owned()));
        }
    });
    let leases = frame.read::<Lease>();
    index_by_node(&context);
    let pods = frame.read::<Pod>();
    frame.queue().add(Key::Health);
    frame
        .run(
            8,
            NodeLifecycleController {
                context,
                nodes,
                leases,
                pods,
                state: Mutex::default(),
            },
        )
        .await;
}

#[async_trait]
impl Reconcile for NodeLifecycleController {
    type Key = Key;

    async fn reconcile(&self, key: Key) -> anyhow::Result<Requeue> {
        match key {
            Key::Health => {
                if let Err(error) = self.look_at_all().await {
                    tracing::warn!("looking at the nodes' health: {error:#}");
                }
                Ok(Requeue::After(self.context.options.nodes.node_monitor_period))
            }
            Key::Node(name) => self.follow(&name).await,
        }
    }
}

impl NodeLifecycleController {
    fn api(&self) -> Api<Node> {
        Api::all(self.context.client.clone())
    }

    async fn follow(&self, name: &str) -> anyhow::Result<Requeue> {
        let Some(node) = self.nodes.get("", name) else {
            return Ok(Requeue::Done);
        };
        if let Some(taints) = plan::schedule_taints(&node, Timestamp::now()) {
            self.set_taints(&node, taints).await?;
            // The change wakes this node again, and then its labels are looked at.
            return Ok(Requeue::Done);
        }
        let labels = plan::label_changes(&node);
        if !labels.is_empty() {
            let patch = Patch::Strategic(json!({"metadata": {"labels": labels}}));
            ignore_not_found(self.api().patch(name, &PatchParams::default(), &patch).await)
                .context("labelling a node")?;
        }
        Ok(Requeue::Done)
    }

    async fn set_taints(&self, node: &Node, taints: Vec<Taint>) -> anyhow::Result<()> {
        let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints}});
        let result = self
            .api()
            .patch(plan::name_of(node), &PatchParams::default(), &Patch::Merge(patch))
            .await;
        ignore_not_found(result).context("tainting a node")?;
        Ok(())
    }

    async fn look_at_all(&self) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let options = &self.context.options.nodes;
        let signed = |d: std::time::Duration| SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX);
        let patience = Patience {
            starting: signed(options.node_startup_grace_period),
            running: signed(options.node_monitor_grace_period),
        };
        let nodes = self.nodes.list();
        let looks: Vec<(Arc<Node>, Look)> = {
            let mut state = self.state.lock();
            let current: HashSet<String> = nodes.iter().map(|n| name(&n.metadata).to_owned()).collect();
            self.tell_comings_and_goings(&state.known, &current, &nodes);
            state.records.retain(|n, _| current.contains(n));
            state.known = current;
            nodes
                .into_iter()
                .map(|node| {
                    let key = name(&node.metadata).to_owned();
                    let lease = self.leases.get("kube-node-lease", &key);
                    let look = plan::look(&node, lease.as_deref(), state.records.get(&key), patience, now);
                    state.records.insert(key, look.record.clone());
                    (node, look)
                })
                .collect()
        };
        let readiness: Vec<(Arc<Node>, String)> =
            looks.iter().map(|(n, l)| (n.clone(), l.ready.clone())).collect();
        let rates = plan::eviction_rates(
            &readiness,
            Rates {
                usual: options.node_eviction_rate,
                failing: options.secondary_node_eviction_rate,
                threshold: options.unhealthy_zone_threshold,
                large: options.large_cluster_size_threshold,
            },
        );
        batch::each(looks, |(node, look)| self.act(node, look, &rates, now)).await
    }

    fn tell_comings_and_goings(
        &self,
        known: &HashSet<String>,
        current: &HashSet<String>,
        nodes: &[Arc<Node>],
    ) {
        for node in nodes.iter().filter(|n| !known.contains(name(&n.metadata))) {
            let name = name(&node.metadata);
            let text = format!("Node {name} event: Registered Node {name} in Controller");
            self.context
                .recorder
                .event(&**node, EventType::Normal, "RegisteredNode", text);
        }
        for gone in known.difference(current) {
            tracing::info!(node = gone, "the node is gone");
        }
    }

    async fn act(
        &self,
        node: Arc<Node>,
        look: Look,
        rates: &HashMap<String, f32>,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        let node_name = name(&node.metadata);
        let mut latest = node.clone();
        if let Some(status) = look.status {
            match self
                .api()
                .replace_status(node_name, &PostParams::default(), &status)
                .await
            {
                Ok(written) => latest = Arc::new(written),
                // The node has spoken after all, or the next look tries again.
                Err(error) if is_conflict(&error) => return Ok(()),
                Err(error) => {
                    return Err(error).with_context(|| format!("marking the node {node_name} as unknown"));
                }
            }
        }
        if let Some(taints) = plan::execute_taints(&latest, &look.ready, now) {
            let taints_more = taints.len()
                > latest
                    .spec
                    .as_ref()
                    .and_then(|s| s.taints.as_ref())
                    .map_or(0, Vec::len);
            let zone = plan::zone(&latest);
            let passes = !taints_more || {
                let mut state = self.state.lock();
                let rate = rates.get(&zone).copied().unwrap_or(0.0);
                state
                    .buckets
                    .entry(zone)
                    .or_insert_with(|| Bucket::new(now))
                    .pass(rate, now)
            };
            if passes {
                self.set_taints(&latest, taints).await?;
            }
        }
        if look.fell {
            let text = format!("Node {node_name} status is now: NodeNotReady");
            self.context
                .recorder
                .event(&*node, EventType::Normal, "NodeNotReady", text);
        }
        if look.ready != "True" {
            let on_node = pods_on(&self.pods, node_name);
            batch::each(on_node, |pod| self.mark_not_ready(pod)).await?;
        }
        Ok(())
    }

    /// A pod of a lost node must get no more traffic, whatever its last status said.
    async fn mark_not_ready(&self, pod: Arc<Pod>) -> anyhow::Result<()> {
        if is_terminal(&pod) || !pods::is_ready(&pod) || condition(&pod, "Ready").is_none() {
            return Ok(());
        }
        let mut after = Pod::clone(&pod);
        for ready in after
            .status
            .iter_mut()
            .flat_map(|s| s.conditions.iter_mut().flatten())
            .filter(|c| c.type_ == "Ready")
        {
            ready.status = "False".to_owned();
            ready.last_transition_time = Some(time(Timestamp::now()));
        }
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace(&pod.metadata));
        match ignore_not_found(
            api.replace_status(name(&pod.metadata), &PostParams::default(), &after)
                .await,
        ) {
            Err(error) if !is_conflict(&error) => Err(error).context("marking a pod as not ready"),
            _ => {
                self.context
                    .recorder
                    .event(&*pod, EventType::Warning, "NodeNotReady", "Node is not ready");
                Ok(())
            }
        }
    }
}
