//! The TTL controller: tells kubelets, by an annotation, how long they may keep Secrets and ConfigMaps, longer in larger clusters.

use crate::common::owners::{annotation, name};
use crate::frame::{Context, Loop, Reconcile, ignore_not_found};
use anyhow::Context as _;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use rutter_client::{Requeue, Store};
use serde_json::json;

const TTL: &str = "node.alpha.kubernetes.io/ttl";
// From and to how many nodes a TTL in seconds holds; the steps overlap, so that a cluster on an edge doesn't flap.
const STEPS: [(usize, usize, u32); 5] = [
    (0, 100, 0),
    (90, 500, 15),
    (450, 1000, 30),
    (900, 2000, 60),
    (1800, usize::MAX, 300),
];

/// Annotates nodes.
pub struct TtlController {
    client: kube::Client,
    nodes: Store<Node>,
    step: Mutex<usize>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<String>::new(&context);
    let known = context.informers.of::<Node>().store();
    let nodes = frame.watch::<Node>(move |change, queue| match &change.new {
        Some(node) if change.old.is_some() => queue.add(name(&node.metadata).to_owned()),
        // Another number of nodes may mean another time for all.
        _ => known
            .list()
            .iter()
            .for_each(|n| queue.add(name(&n.metadata).to_owned())),
    });
    frame
        .run(
            5,
            TtlController {
                client: context.client,
                nodes,
                step: Mutex::new(0),
            },
        )
        .await;
}

fn next_step(mut step: usize, nodes: usize) -> usize {
    while STEPS.get(step).is_some_and(|s| nodes > s.1) {
        step += 1;
    }
    while step > 0 && STEPS.get(step).is_some_and(|s| nodes < s.0) {
        step -= 1;
    }
    step
}

#[async_trait]
impl Reconcile for TtlController {
    type Key = String;

    async fn reconcile(&self, key: String) -> anyhow::Result<Requeue> {
        let Some(node) = self.nodes.get("", &key) else {
            return Ok(Requeue::Done);
        };
        let seconds = {
            let mut step = self.step.lock();
            *step = next_step(*step, self.nodes.len());
            STEPS.get(*step).map_or(0, |s| s.2).to_string()
        };
        if annotation(&node.metadata, TTL) == Some(&seconds) {
            return Ok(Requeue::Done);
        }
        let patch = Patch::Strategic(json!({"metadata": {"annotations": {TTL: seconds}}}));
        let api: Api<Node> = Api::all(self.client.clone());
        ignore_not_found(api.patch(&key, &PatchParams::default(), &patch).await)
            .context("annotating a node")?;
        Ok(Requeue::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_grows_with_the_cluster_and_does_not_flap_on_an_edge() {
        for (from, nodes, want) in [
            (0, 3, 0),
            (0, 101, 1),
            (1, 95, 1),
            (1, 89, 0),
            (0, 5000, 4),
            (4, 1799, 3),
        ] {
            assert_eq!(next_step(from, nodes), want, "{nodes} nodes from step {from}");
        }
    }
}
