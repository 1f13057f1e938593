//! The pod garbage collector: deletes pods of nodes that are gone, unscheduled pods that wait for a kubelet to end them, pods of nodes that
//! were declared out of service, and the oldest ended pods when there are too many.

pub mod plan;

use crate::common::disruption;
use crate::common::{batch, pods};
use crate::frame::{Context, Loop, Reconcile, ignore_not_found};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use parking_lot::Mutex;
use plan::Doomed;
use rutter_client::{Requeue, Store};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

const PERIOD: Duration = Duration::from_secs(20);
/// How long a pod's node must be missing before the apiserver is asked.
const QUARANTINE_SECONDS: i64 = 40;

/// Collects pods.
pub struct PodGarbageCollector {
    context: Context,
    nodes: Store<Node>,
    pods: Store<Pod>,
    missing: Mutex<HashMap<String, Timestamp>>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<()>::new(&context);
    let nodes = frame.read::<Node>();
    let pods = frame.read::<Pod>();
    frame.queue().add(());
    frame
        .run(
            1,
            PodGarbageCollector {
                context,
                nodes,
                pods,
                missing: Mutex::default(),
            },
        )
        .await;
}

#[async_trait]
impl Reconcile for PodGarbageCollector {
    type Key = ();

    async fn reconcile(&self, (): ()) -> anyhow::Result<Requeue> {
        if let Err(error) = self.collect().await {
            tracing::warn!("collecting pods: {error:#}");
        }
        Ok(Requeue::After(PERIOD))
    }
}

impl PodGarbageCollector {
    async fn collect(&self) -> anyhow::Result<()> {
        let pods = self.pods.list();
        let gone = self.gone_nodes(&pods).await?;
        let threshold = self.context.options.terminated_pod_gc_threshold;
        let nodes = self.nodes.list();
        let doomed = plan::plan(&pods, &nodes, &gone, threshold);
        batch::each(doomed, |Doomed { pod, why }| async move {
            tracing::info!(
                pod = pod.metadata.name,
                namespace = pod.metadata.namespace,
                reason = why.message,
                "collecting a pod"
            );
            disruption::remove(&self.context.client, &pod, why).await
        })
        .await
        .context("deleting a pod")
    }

    /// The nodes that pods name and that are surely gone.
    async fn gone_nodes(&self, pods: &[std::sync::Arc<Pod>]) -> anyhow::Result<HashSet<String>> {
        let now = Timestamp::now();
        let unknown: HashSet<String> = pods
            .iter()
            .map(|p| pods::node_name(p).to_owned())
            .filter(|n| !n.is_empty() && self.nodes.get("", n).is_none())
            .collect();
        let ripe: Vec<String> = {
            let mut missing = self.missing.lock();
            missing.retain(|n, _| unknown.contains(n));
            for node in unknown {
                missing.entry(node).or_insert(now);
            }
            missing
                .iter()
                .filter(|(_, since)| now.duration_since(**since).as_secs() >= QUARANTINE_SECONDS)
                .map(|(n, _)| n.clone())
                .collect()
        };
        let api: Api<Node> = Api::all(self.context.client.clone());
        let mut gone = HashSet::new();
        for node in ripe {
            if ignore_not_found(api.get(&node).await)
                .context("asking for a node")?
                .is_none()
            {
                gone.insert(node);
            }
        }
        Ok(gone)
    }
}
