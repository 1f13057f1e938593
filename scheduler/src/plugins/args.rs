//! The plugins' arguments, in the form of kubescheduler.config.k8s.io/v1.

use k8s_openapi::api::core::v1 as core;
use serde::Deserialize;

/// A resource and how much it weighs.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ResourceSpec {
    /// The resource.
    pub name: String,
    /// 1 to 100; 0 means 1.
    #[serde(default)]
    pub weight: i64,
}

/// CPU and memory, weighing the same.
pub fn default_resources() -> Vec<ResourceSpec> {
    ["cpu", "memory"]
        .map(|name| ResourceSpec {
            name: name.to_owned(),
            weight: 1,
        })
        .to_vec()
}

/// A point of a scoring curve.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ShapePoint {
    /// 0 to 100 percent.
    pub utilization: i64,
    /// 0 to 10.
    pub score: i64,
}

/// The curve of RequestedToCapacityRatio.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RequestedToCapacityRatio {
    /// Its points.
    #[serde(default)]
    pub shape: Vec<ShapePoint>,
}

/// How nodes are scored by their resources.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum StrategyType {
    /// More for emptier nodes.
    #[default]
    LeastAllocated,
    /// More for fuller nodes.
    MostAllocated,
    /// By a curve.
    RequestedToCapacityRatio,
}

/// How nodes are scored by their resources.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ScoringStrategy {
    /// The kind.
    #[serde(default, rename = "type")]
    pub kind: StrategyType,
    /// The resources.
    #[serde(default)]
    pub resources: Vec<ResourceSpec>,
    /// The curve.
    #[serde(default)]
    pub requested_to_capacity_ratio: Option<RequestedToCapacityRatio>,
}

/// NodeResourcesFitArgs
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ResourcesFitArgs {
    /// Extended resources that aren't checked.
    #[serde(default)]
    pub ignored_resources: Vec<String>,
    /// Domains of extended resources that aren't checked.
    #[serde(default)]
    pub ignored_resource_groups: Vec<String>,
    /// How nodes are scored.
    #[serde(default)]
    pub scoring_strategy: Option<ScoringStrategy>,
}

/// NodeResourcesBalancedAllocationArgs
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BalancedAllocationArgs {
    /// The resources.
    #[serde(default)]
    pub resources: Vec<ResourceSpec>,
}

/// InterPodAffinityArgs
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InterPodAffinityArgs {
    /// What required affinity of pods that are there weighs for one that comes, 0 to 100.
    #[serde(default = "one")]
    pub hard_pod_affinity_weight: i64,
    /// Whether preferences of pods that are there count only when the one that comes has some, too.
    #[serde(default)]
    pub ignore_preferred_terms_of_existing_pods: bool,
}

fn one() -> i64 {
    1
}

impl Default for InterPodAffinityArgs {
    fn default() -> Self {
        Self {
            hard_pod_affinity_weight: 1,
            ignore_preferred_terms_of_existing_pods: false,
        }
    }
}

/// Where default spread constraints come from.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum Defaulting {
    /// Kubernetes' own: evenly over nodes and zones, as a wish.
    #[default]
    System,
    /// The list.
    List,
}

/// PodTopologySpreadArgs
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TopologySpreadArgs {
    /// For pods that have none of their own.
    #[serde(default)]
    pub default_constraints: Vec<core::TopologySpreadConstraint>,
    /// Whether that list counts.
    #[serde(default)]
    pub defaulting_type: Defaulting,
}

/// NodeAffinityArgs
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeAffinityArgs {
    /// Counts for every pod.
    #[serde(default)]
    pub added_affinity: Option<core::NodeAffinity>,
}

/// DefaultPreemptionArgs
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PreemptionArgs {
    /// How many percent of the nodes are candidates at least.
    #[serde(default = "ten")]
    pub min_candidate_nodes_percentage: usize,
    /// How many nodes are candidates at least.
    #[serde(default = "hundred")]
    pub min_candidate_nodes_absolute: usize,
}

fn ten() -> usize {
    10
}

fn hundred() -> usize {
    100
}

impl Default for PreemptionArgs {
    fn default() -> Self {
        Self {
            min_candidate_nodes_percentage: 10,
            min_candidate_nodes_absolute: 100,
        }
    }
}

/// VolumeBindingArgs
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct VolumeBindingArgs {
    /// How long to wait for volumes to be bound before the pod is tried again.
    #[serde(default = "ten_minutes")]
    pub bind_timeout_seconds: u64,
}

fn ten_minutes() -> u64 {
    600
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        Self {
            bind_timeout_seconds: 600,
        }
    }
}
