//! What ReplicaSets and ReplicationControllers have in common.

use crate::common::owners::labels;
use crate::common::selector::{Labels, Matcher};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// A condition of either kind.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Condition {
    pub type_: String,
    pub status: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub last_transition_time: Option<Time>,
}

/// The status of either kind.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Status {
    pub replicas: i32,
    pub fully_labeled: i32,
    pub ready: i32,
    pub available: i32,
    /// Pods on their way out; not known for ReplicationControllers.
    pub terminating: Option<i32>,
    pub observed_generation: i64,
    pub conditions: Vec<Condition>,
}

/// The parts of either kind that decide.
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    /// How many pods are wanted.
    pub replicas: i32,
    /// How long a pod must be ready to count as available.
    pub min_ready_seconds: i32,
    /// The labels of the template.
    pub template_labels: Labels,
    /// `metadata.generation`
    pub generation: i64,
    /// Whether deletion was asked for.
    pub deleting: bool,
    /// Whether the status counts pods on their way out.
    pub counts_terminating: bool,
    /// The status as it is.
    pub status: Status,
}

/// A kind that keeps a number of pods.
pub trait ReplicaOwner:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Serialize
    + DeserializeOwned
    + Debug
    + Send
    + Sync
    + 'static
{
    /// The parts that decide.
    fn replicas(&self) -> Replicas;
    /// The selector; `None` when it can't be understood or selects everything.
    fn selector(&self) -> Option<Matcher>;
    /// The pods' template.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// The object with another status.
    fn with_status(&self, status: Status) -> Self;
}

fn some(n: i32) -> Option<i32> {
    Some(n).filter(|n| *n != 0)
}

macro_rules! convert_conditions {
    ($conditions:expr, $to:ident) => {
        $conditions
            .into_iter()
            .map(|c| $to {
                type_: c.type_,
                status: c.status,
                reason: c.reason,
                message: c.message,
                last_transition_time: c.last_transition_time,
            })
            .collect::<Vec<_>>()
    };
}

impl ReplicaOwner for ReplicaSet {
    fn replicas(&self) -> Replicas {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        Replicas {
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            template_labels: spec
                .template
                .and_then(|t| t.metadata)
                .map(|m| labels(&m))
                .unwrap_or_default(),
            generation: self.metadata.generation.unwrap_or(0),
            deleting: self.metadata.deletion_timestamp.is_some(),
            counts_terminating: true,
            status: Status {
                replicas: status.replicas,
                fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
                ready: status.ready_replicas.unwrap_or(0),
                available: status.available_replicas.unwrap_or(0),
                terminating: status.terminating_replicas,
                observed_generation: status.observed_generation.unwrap_or(0),
                conditions: convert_conditions!(status.conditions.unwrap_or_default(), Condition),
            },
        }
    }

    fn selector(&self) -> Option<Matcher> {
        Matcher::of(&self.spec.as_ref()?.selector).filter(|s| !s.is_everything())
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn with_status(&self, status: Status) -> Self {
        let mut set = self.clone();
        set.status = Some(ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: some(status.fully_labeled),
            ready_replicas: some(status.ready),
            available_replicas: some(status.available),
            terminating_replicas: status.terminating,
            observed_generation: Some(status.observed_generation),
            conditions: Some(convert_conditions!(status.conditions, ReplicaSetCondition))
                .filter(|c| !c.is_empty()),
        });
        set
    }
}

impl ReplicaOwner for ReplicationController {
    fn replicas(&self) -> Replicas {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        Replicas {
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            template_labels: spec
                .template
                .and_then(|t| t.metadata)
                .map(|m| labels(&m))
                .unwrap_or_default(),
            generation: self.metadata.generation.unwrap_or(0),
            deleting: self.metadata.deletion_timestamp.is_some(),
            counts_terminating: false,
            status: Status {
                replicas: status.replicas,
                fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
                ready: status.ready_replicas.unwrap_or(0),
                available: status.available_replicas.unwrap_or(0),
                terminating: None,
                observed_generation: status.observed_generation.unwrap_or(0),
                conditions: convert_conditions!(status.conditions.unwrap_or_default(), Condition),
            },
        }
    }

    fn selector(&self) -> Option<Matcher> {
        let labels = self.spec.as_ref()?.selector.as_ref().filter(|s| !s.is_empty())?;
        Some(Matcher::of_map(labels))
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn with_status(&self, status: Status) -> Self {
        let mut controller = self.clone();
        controller.status = Some(ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: some(status.fully_labeled),
            ready_replicas: some(status.ready),
            available_replicas: some(status.available),
            observed_generation: Some(status.observed_generation),
            conditions: Some(convert_conditions!(
                status.conditions,
                ReplicationControllerCondition
            ))
            .filter(|c| !c.is_empty()),
        });
        controller
    }
}
