//! A node with the pods on it and their sums.

use crate::model::{HostPort, Node, Pod, Resources, Str, Uid};
use std::sync::Arc;

/// A node with the pods on it. Cheap enough to clone for trying out what would be if.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its number in the snapshot; another node may get it when this one is gone.
    pub slot: u32,
    /// The node; absent while only pods on it are known.
    pub node: Option<Arc<Node>>,
    /// The pods.
    pub pods: Vec<Arc<Pod>>,
    /// The sum of their requests.
    pub requested: Resources,
    /// The sum of their CPU and memory as scoring counts them.
    pub scored: (i64, i64),
    /// The ports of the host that they take.
    pub ports: Vec<HostPort>,
    /// The snapshot's generation when this last changed.
    pub generation: u64,
}

impl NodeInfo {
    /// An empty place.
    pub fn new(slot: u32) -> Self {
        Self {
            slot,
            node: None,
            pods: Vec::new(),
            requested: Resources::default(),
            scored: (0, 0),
            ports: Vec::new(),
            generation: 0,
        }
    }

    /// Its name; empty while only pods on it are known.
    pub fn name(&self) -> Str {
        self.node.as_ref().map(|n| n.name.clone()).unwrap_or_default()
    }

    /// The value of one of its labels.
    pub fn label(&self, key: &Str) -> Option<&Str> {
        self.node.as_ref().and_then(|n| n.labels.get(key))
    }

    /// Adds a pod.
    pub fn add(&mut self, pod: Arc<Pod>) {
        let requests = &pod.template.requests;
        self.requested.add(&requests.total);
        self.scored.0 += requests.scored.0;
        self.scored.1 += requests.scored.1;
        if let Some(wishes) = &pod.template.wishes {
            self.ports.extend(wishes.ports.iter().cloned());
        }
        self.pods.push(pod);
    }

    /// Removes a pod.
    pub fn remove(&mut self, uid: &Uid) -> Option<Arc<Pod>> {
        let at = self.pods.iter().position(|p| p.uid == *uid)?;
        let pod = self.pods.swap_remove(at);
        let requests = &pod.template.requests;
        self.requested.subtract(&requests.total);
        self.scored.0 -= requests.scored.0;
        self.scored.1 -= requests.scored.1;
        if let Some(wishes) = &pod.template.wishes {
            for port in &wishes.ports {
                if let Some(at) = self.ports.iter().position(|p| p == port) {
                    self.ports.swap_remove(at);
                }
            }
        }
        Some(pod)
    }
}
