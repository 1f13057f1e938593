//! The taint eviction controller: takes pods off nodes whose taints they don't tolerate, or no longer.

pub mod plan;

use crate::common::disruption::{self, Reason};
use crate::common::owners::name;
use crate::common::pods;
use crate::frame::{Context, Loop, Reconcile, own_key};
use crate::node_lifecycle::{index_by_node, pods_on};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use plan::Verdict;
use rutter_client::events::EventType;
use rutter_client::informer::ObjectKey;
use rutter_client::{Requeue, Store};
use std::time::Duration;

const WHY: Reason = Reason {
    reason: "DeletionByTaintManager",
    message: "Taint manager: deleting due to NoExecute taint",
    fail: false,
    grace: None,
};

/// Evicts.
pub struct TaintEvictionController {
    context: Context,
    nodes: Store<Node>,
    pods: Store<Pod>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<ObjectKey>::new(&context);
    index_by_node(&context);
    let pods = frame.watch::<Pod>(|change, queue| {
        let node = |p: &Pod| pods::node_name(p).to_owned();
        let tolerations = |p: &Pod| p.spec.as_ref().and_then(|s| s.tolerations.clone());
        let Some(new) = &change.new else { return };
        let same = change
            .old
            .as_ref()
            .is_some_and(|old| node(old) == node(new) && tolerations(old) == tolerations(new));
        if !same && !node(new).is_empty() {
            own_key(change, queue);
        }
    });
    let known = pods.clone();
    let nodes = frame.watch::<Node>(move |change, queue| {
        let taints = |n: &Node| n.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
        let Some(new) = &change.new else { return };
        if change.old.as_ref().is_some_and(|old| taints(old) == taints(new)) {
            return;
        }
        for pod in pods_on(&known, name(&new.metadata)) {
            queue.add(ObjectKey::of(&*pod));
        }
    });
    frame
        .run(8, TaintEvictionController { context, nodes, pods })
        .await;
}

#[async_trait]
impl Reconcile for TaintEvictionController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(pod) = self
            .pods
            .get(&key.namespace, &key.name)
            .filter(|p| !pods::is_deleting(p))
        else {
            return Ok(Requeue::Done);
        };
        let Some(node) = self.nodes.get("", pods::node_name(&pod)) else {
            return Ok(Requeue::Done);
        };
        let taints = node
            .spec
            .as_ref()
            .and_then(|s| s.taints.clone())
            .unwrap_or_default();
        let now = Timestamp::now();
        match plan::plan(&pod, &taints, now) {
            Verdict::Stay => Ok(Requeue::Done),
            Verdict::LeaveAt(at) if at > now => Ok(Requeue::After(
                Duration::try_from(at.duration_since(now)).unwrap_or_default(),
            )),
            Verdict::LeaveAt(_) => {
                let text = format!("Marking for deletion Pod {key}");
                self.context
                    .recorder
                    .event(&*pod, EventType::Normal, "TaintManagerEviction", text);
                disruption::remove(&self.context.client, &pod, &WHY)
                    .await
                    .context("evicting a pod")?;
                Ok(Requeue::Done)
            }
        }
    }
}
