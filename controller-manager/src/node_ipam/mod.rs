//! The node IPAM controller: gives each node its part of the pods' address ranges.

pub mod plan;

use crate::common::owners::name;
use crate::frame::{Context, Loop, Reconcile, ignore_not_found};
use anyhow::Context as _;
use async_trait::async_trait;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use plan::Pool;
use rutter_client::events::EventType;
use rutter_client::{Requeue, Store};
use serde_json::json;
use std::sync::Arc;

/// Allocates parts.
pub struct NodeIpamController {
    context: Context,
    nodes: Store<Node>,
    pools: Arc<Mutex<Pools>>,
}

struct Pools {
    pools: Vec<Pool>,
    // Whether all nodes of the first list have been counted in.
    primed: bool,
}

/// Runs the controller until stopped; it does nothing unless told to allocate.
pub async fn run(context: Context) {
    if !context.options.network.allocate_node_cidrs {
        return;
    }
    let pools = match pools(&context) {
        Ok(pools) => Arc::new(Mutex::new(Pools { pools, primed: false })),
        Err(error) => return tracing::error!("node IPAM can't start: {error:#}"),
    };
    let mut frame = Loop::<String>::new(&context);
    let given_back = pools.clone();
    let nodes = frame.watch::<Node>(move |change, queue| match (&change.old, &change.new) {
        (Some(old), None) => {
            let mut pools = given_back.lock();
            for cidr in cidrs(old) {
                pools.pools.iter_mut().for_each(|p| p.release(&cidr));
            }
        }
        (_, Some(new)) => queue.add(name(&new.metadata).to_owned()),
        _ => {}
    });
    // One worker: allocation is in order, and quick.
    frame
        .run(
            1,
            NodeIpamController {
                context,
                nodes,
                pools,
            },
        )
        .await;
}

fn pools(context: &Context) -> anyhow::Result<Vec<Pool>> {
    let options = &context.options.network;
    anyhow::ensure!(
        !options.cluster_cidr.is_empty(),
        "--allocate-node-cidrs needs --cluster-cidr"
    );
    let dual = options.cluster_cidr.len() > 1;
    let mut pools = Vec::new();
    for range in &options.cluster_cidr {
        let (own, usual) = match range {
            IpNet::V4(_) => (options.node_cidr_mask_size_ipv4, 24),
            IpNet::V6(_) => (options.node_cidr_mask_size_ipv6, 64),
        };
        let bits = own
            .or(options.node_cidr_mask_size.filter(|_| !dual))
            .unwrap_or(usual);
        let mut pool = Pool::new(*range, bits)?;
        for services in &options.service_cluster_ip_range {
            pool.occupy(services);
        }
        pools.push(pool);
    }
    Ok(pools)
}

fn cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    all.filter_map(|c| c.parse().ok()).collect()
}

#[async_trait]
impl Reconcile for NodeIpamController {
    type Key = String;

    async fn reconcile(&self, key: String) -> anyhow::Result<Requeue> {
        let Some(node) = self.nodes.get("", &key) else {
            return Ok(Requeue::Done);
        };
        let parts = {
            let mut pools = self.pools.lock();
            if !pools.primed {
                for cidr in self.nodes.list().iter().flat_map(|n| cidrs(n)) {
                    pools.pools.iter_mut().for_each(|p| {
                        p.occupy(&cidr);
                    });
                }
                pools.primed = true;
            }
            let has = cidrs(&node);
            if !has.is_empty() {
                for cidr in has {
                    pools.pools.iter_mut().for_each(|p| {
                        p.occupy(&cidr);
                    });
                }
                return Ok(Requeue::Done);
            }
            let taken: Vec<IpNet> = pools.pools.iter_mut().filter_map(Pool::take).collect();
            if taken.len() < pools.pools.len() {
                give_back(&mut pools, &taken);
                None
            } else {
                Some(taken)
            }
        };
        let Some(parts) = parts else {
            let text = format!("Node {key} status is now: CIDRNotAvailable");
            self.context
                .recorder
                .event(&*node, EventType::Normal, "CIDRNotAvailable", text);
            anyhow::bail!("no part of the cluster's range is left for the node {key}");
        };
        let texts: Vec<String> = parts.iter().map(ToString::to_string).collect();
        let patch = json!({"metadata": {"uid": node.metadata.uid}, "spec": {"podCIDR": texts.first(), "podCIDRs": texts}});
        let api: Api<Node> = Api::all(self.context.client.clone());
        let Err(error) = ignore_not_found(
            api.patch(&key, &PatchParams::default(), &Patch::Strategic(patch))
                .await,
        ) else {
            tracing::info!(node = key, cidrs = ?texts, "gave the node its addresses");
            return Ok(Requeue::Done);
        };
        // A refusal means that nothing was stored; after any other failure the part may be in use, and rests until a restart.
        if matches!(error, kube::Error::Api(_)) {
            give_back(&mut self.pools.lock(), &parts);
            // What a node has can't be changed. It may have got it just before, unseen yet by the cache.
            let now = ignore_not_found(api.get(&key).await)?;
            if now.is_none_or(|node| !cidrs(&node).is_empty()) {
                return Ok(Requeue::Done);
            }
        }
        let text = format!("Node {key} status is now: CIDRAssignmentFailed");
        self.context
            .recorder
            .event(&*node, EventType::Normal, "CIDRAssignmentFailed", text);
        Err(error).with_context(|| format!("giving the node {key} its addresses"))
    }
}

fn give_back(pools: &mut Pools, parts: &[IpNet]) {
    for part in parts {
        pools.pools.iter_mut().for_each(|p| p.release(part));
    }
}
