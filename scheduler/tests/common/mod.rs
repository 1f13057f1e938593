//! Clusters in a few words.

// Each test program uses a part of this; and a wrong object in a test may stop it.
#![allow(dead_code, clippy::unwrap_used)]

use k8s_openapi::api::core::v1 as core;
use rutter_scheduler::config::{Configuration, default_profile, profiles};
use rutter_scheduler::model::volume::{Capacity, Claim, Class, CsiDriver, CsiNode, Volume};
use rutter_scheduler::model::{Node, Pod, Str};
use rutter_scheduler::scheduler::{Bound, Decision, Failure, Scheduler, Settings};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A node of 4 CPUs, 8Gi and 10 pods, changed by a merge patch.
pub(crate) fn node(name: &str, patch: Value) -> Arc<Node> {
    let mut object = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "100Gi"}},
    });
    merge(&mut object, patch);
    let node: core::Node = serde_json::from_value(object).unwrap();
    Arc::new(Node::new(&node))
}

/// A pod of one container in `default`, changed by a merge patch.
pub(crate) fn pod(name: &str, patch: Value) -> Arc<Pod> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut object = json!({
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": format!("9f0b3c9a-0a7e-4c59-bb2c-{:012x}", NEXT.fetch_add(1, Ordering::Relaxed)),
        },
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c", "image": "web"}]},
    });
    merge(&mut object, patch);
    let pod: core::Pod = serde_json::from_value(object).unwrap();
    Arc::new(Pod::new(&pod))
}

/// The patch of a pod that asks for CPU.
pub(crate) fn cpu(amount: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "image": "web", "resources": {"requests": {"cpu": amount}}}]}})
}

/// The patch of a pod that is on a node.
pub(crate) fn on(node: &str) -> Value {
    json!({"spec": {"nodeName": node}})
}

/// Both patches, the second over the first.
pub(crate) fn both(mut a: Value, b: Value) -> Value {
    merge(&mut a, b);
    a
}

fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

/// A scheduler and its cluster.
pub(crate) struct Cluster(pub(crate) Scheduler);

impl Cluster {
    /// With the default profile.
    pub(crate) fn new() -> Self {
        Self(Scheduler::new(
            vec![default_profile().unwrap()],
            Settings::default(),
            7,
        ))
    }

    /// With a configuration's profiles, given as the profiles' YAML.
    pub(crate) fn configured(rest: &str) -> Self {
        let text =
            format!("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n{rest}");
        let config = Configuration::parse(&text).unwrap();
        Self(Scheduler::new(profiles(&config).unwrap(), config.settings(), 7))
    }

    pub(crate) fn node(mut self, name: &str, patch: Value) -> Self {
        self.0.node_changed(None, Some(node(name, patch)), 0);
        self
    }

    pub(crate) fn nodes(self, names: &[&str]) -> Self {
        names.iter().fold(self, |all, name| all.node(name, json!({})))
    }

    pub(crate) fn pod(mut self, name: &str, patch: Value) -> Self {
        let pod = pod(name, patch);
        self.add(&pod, 0);
        self
    }

    pub(crate) fn add(&mut self, pod: &Arc<Pod>, now: u64) {
        self.0.pod_changed(pod, Some(pod.clone()), now);
    }

    pub(crate) fn remove(&mut self, pod: &Arc<Pod>, now: u64) {
        self.0.pod_changed(pod, None, now);
    }

    pub(crate) fn namespace(mut self, name: &str, labels: &[(&str, &str)]) -> Self {
        let labels = rutter_scheduler::model::Labels::of(labels);
        self.0.snapshot_mut().set_namespace(Str::new(name), Some(labels));
        self
    }

    pub(crate) fn claim(mut self, object: Value) -> Self {
        let claim = Claim::new(&serde_json::from_value(with_namespace(object)).unwrap());
        let key = (claim.namespace.clone(), claim.name.clone());
        self.0.snapshot_mut().storage.set_claim(key, Some(claim));
        self
    }

    pub(crate) fn volume(mut self, object: Value) -> Self {
        let volume = Volume::new(&serde_json::from_value(object).unwrap());
        self.0
            .snapshot_mut()
            .storage
            .set_volume(volume.name.clone(), Some(volume));
        self
    }

    pub(crate) fn class(mut self, object: Value) -> Self {
        let class = Class::new(&serde_json::from_value(object).unwrap());
        self.0
            .snapshot_mut()
            .storage
            .set_class(class.name.clone(), Some(class));
        self
    }

    pub(crate) fn csi_node(mut self, object: Value) -> Self {
        let node = CsiNode::new(&serde_json::from_value(object).unwrap());
        self.0
            .snapshot_mut()
            .storage
            .set_csi_node(node.name.clone(), Some(node));
        self
    }

    pub(crate) fn csi_driver(mut self, object: Value) -> Self {
        let driver = CsiDriver::new(&serde_json::from_value(object).unwrap());
        self.0
            .snapshot_mut()
            .storage
            .set_driver(driver.name.clone(), Some(driver));
        self
    }

    pub(crate) fn capacity(mut self, object: Value) -> Self {
        let capacity = Capacity::new(&serde_json::from_value(with_namespace(object)).unwrap());
        self.0
            .snapshot_mut()
            .storage
            .set_capacity(capacity.key.clone(), Some(capacity));
        self
    }

    /// Adds a pod and decides about it.
    pub(crate) fn decide(&mut self, pod: &Arc<Pod>) -> Decision {
        self.add(pod, 0);
        self.0.decide(0).expect("the pod is to be decided about")
    }

    /// The node that a pod of this patch gets, or the message that says why none.
    pub(crate) fn place(&mut self, name: &str, patch: Value) -> Result<String, String> {
        match self.decide(&pod(name, patch)) {
            Decision::Bind(binding) => {
                self.0.bound(&binding.pod.uid, Bound::Done, 0);
                Ok(binding.node.as_str().to_owned())
            }
            Decision::Fail(failure) => Err(failure.message),
        }
    }

    /// The decision that a pod of this patch can't be placed.
    pub(crate) fn fail(&mut self, pod: &Arc<Pod>) -> Failure {
        match self.decide(pod) {
            Decision::Fail(failure) => *failure,
            Decision::Bind(binding) => panic!("{pod} was placed on {}", binding.node),
        }
    }
}

fn with_namespace(mut object: Value) -> Value {
    merge(&mut object, json!({"metadata": {"namespace": "default"}}));
    object
}

/// What is said when nothing would help.
pub(crate) const UNHELPFUL: &str =
    "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
