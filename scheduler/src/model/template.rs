//! All of a pod that placement depends on, shared by pods for which it is the same.
//!
//! Pods of one ReplicaSet share one [`Template`], so what is found out about one of them holds for all: selectors are matched once for each
//! template, not once for each pod.

use super::node::Effect;
use super::request::{Requests, requests};
use super::selector::NodeTerm;
use super::{AffinityTerm, Labels, NodeSelector, Selector, Str, Toleration, WeightedTerm};
use ahash::AHashSet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// A port of the host that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The address; `0.0.0.0` is all.
    pub ip: Str,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Str,
    /// The port.
    pub port: i32,
}

impl HostPort {
    /// Whether both can't be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        const ALL: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ALL || other.ip == ALL)
    }
}

/// A constraint on how evenly pods are spread over a topology.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spread {
    /// The greatest difference allowed or wished for.
    pub max_skew: i32,
    /// The node label.
    pub topology_key: Str,
    /// Whether nodes that break it are barred rather than avoided.
    pub hard: bool,
    /// The pods that count.
    pub selector: Selector,
    /// With fewer places than these the global minimum counts as 0.
    pub min_domains: i32,
    /// Whether only nodes count that the pod's node affinity and selector allow.
    pub honor_affinity: bool,
    /// Whether only nodes count whose taints the pod tolerates.
    pub honor_taints: bool,
}

/// What owns a pod, as far as default spreading asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnerKind {
    /// v1 ReplicationController
    ReplicationController,
    /// apps/v1 ReplicaSet
    ReplicaSet,
    /// apps/v1 StatefulSet
    StatefulSet,
}

/// A volume that constrains placement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PodVolume {
    /// A PersistentVolumeClaim.
    Claim(Str),
    /// A generic ephemeral volume; its claim is called `<pod>-<this>`.
    Ephemeral(Str),
    /// A GCE disk.
    Gce {
        /// The disk.
        disk: Str,
        /// Whether it is mounted read-only.
        read_only: bool,
    },
    /// An EBS volume.
    Ebs(Str),
    /// An iSCSI target.
    Iscsi {
        /// The target's name.
        iqn: Str,
        /// Whether it is mounted read-only.
        read_only: bool,
    },
    /// A Ceph image.
    Rbd {
        /// The monitors.
        monitors: Vec<Str>,
        /// The pool.
        pool: Str,
        /// The image.
        image: Str,
        /// Whether it is mounted read-only.
        read_only: bool,
    },
    /// A volume in line of a CSI driver.
    Csi(Str),
}

/// The rarer wishes of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wishes {
    /// spec.nodeSelector.
    pub node_labels: Selector,
    /// Required node affinity.
    pub node_affinity: Option<NodeSelector>,
    /// Preferred node affinity with weights.
    pub preferred_nodes: Vec<(i32, NodeTerm)>,
    /// Required pod affinity.
    pub affinity: Vec<AffinityTerm>,
    /// Required pod anti-affinity.
    pub anti_affinity: Vec<AffinityTerm>,
    /// Preferred pod affinity.
    pub preferred_affinity: Vec<WeightedTerm>,
    /// Preferred pod anti-affinity.
    pub preferred_anti_affinity: Vec<WeightedTerm>,
    /// Topology spread constraints.
    pub spread: Vec<Spread>,
    /// Ports of the host.
    pub ports: Vec<HostPort>,
    /// Volumes that constrain placement.
    pub volumes: Vec<PodVolume>,
    /// Scheduling gates.
    pub gates: Vec<Str>,
    /// ResourceClaims that the pod names.
    pub resource_claims: Vec<Str>,
}

/// What a [`Template`] is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TemplateSpec {
    /// The namespace.
    pub namespace: Str,
    /// The labels.
    pub labels: Labels,
    /// Which profile places it.
    pub scheduler_name: Str,
    /// The priority.
    pub priority: i32,
    /// Whether it may push others away.
    pub preempts: bool,
    /// What it asks for.
    pub requests: Requests,
    /// What it tolerates.
    pub tolerations: Vec<Toleration>,
    /// The controller, when it is of a kind that spreads pods by default.
    pub owner: Option<(OwnerKind, Str)>,
    /// The images of its init containers, containers and image volumes, with their tags.
    pub images: Vec<Str>,
    /// How many containers and init containers it has.
    pub containers: i64,
    /// The rarer wishes; absent when there are none.
    pub wishes: Option<Box<Wishes>>,
}

/// See the module.
#[derive(Debug)]
pub struct Template {
    /// Unique in the process, never used again.
    pub id: u64,
    spec: TemplateSpec,
}

impl Deref for Template {
    type Target = TemplateSpec;
    fn deref(&self) -> &TemplateSpec {
        &self.spec
    }
}

static NO_WISHES: LazyLock<Wishes> = LazyLock::new(Wishes::default);

impl TemplateSpec {
    /// The rarer wishes.
    pub fn wishes(&self) -> &Wishes {
        self.wishes.as_deref().unwrap_or(&NO_WISHES)
    }

    /// Whether it has terms of pod affinity or anti-affinity.
    pub fn has_pod_affinity(&self) -> bool {
        self.wishes.as_ref().is_some_and(|w| {
            !(w.affinity.is_empty()
                && w.anti_affinity.is_empty()
                && w.preferred_affinity.is_empty()
                && w.preferred_anti_affinity.is_empty())
        })
    }

    /// Whether it requires pod anti-affinity.
    pub fn has_required_anti_affinity(&self) -> bool {
        self.wishes.as_ref().is_some_and(|w| !w.anti_affinity.is_empty())
    }

    /// Whether its node selector and required node affinity allow a node.
    pub fn allows_node(&self, name: &Str, labels: &Labels) -> bool {
        self.wishes.as_ref().is_none_or(|w| {
            w.node_labels.matches(labels) && w.node_affinity.as_ref().is_none_or(|a| a.matches(name, labels))
        })
    }

    /// From the API's object.
    pub fn new(meta: &ObjectMeta, spec: &core::PodSpec, status: Option<&core::PodStatus>) -> Self {
        let namespace = Str::new(meta.namespace.as_deref().unwrap_or_default());
        let labels = Labels::new(meta.labels.as_ref());
        let wishes = wishes(&namespace, &labels, spec);
        let init = spec.init_containers.iter().flatten();
        let images = init
            .clone()
            .chain(&spec.containers)
            .filter_map(|c| c.image.as_deref());
        let volumes = spec.volumes.iter().flatten();
        let volume_images = volumes.filter_map(|v| v.image.as_ref().and_then(|i| i.reference.as_deref()));
        Self {
            scheduler_name: Str::new(spec.scheduler_name.as_deref().unwrap_or("default-scheduler")),
            priority: spec.priority.unwrap_or(0),
            preempts: spec.preemption_policy.as_deref() != Some("Never"),
            requests: requests(spec, status),
            tolerations: spec
                .tolerations
                .iter()
                .flatten()
                .filter_map(Toleration::new)
                .collect(),
            owner: owner(meta),
            images: images.chain(volume_images).map(tagged).collect(),
            containers: i64::try_from(spec.containers.len() + init.count()).unwrap_or(i64::MAX),
            wishes: (wishes != *NO_WISHES).then(|| Box::new(wishes)),
            namespace,
            labels,
        }
    }
}

/// An image's name with its tag: `latest` when it has none.
pub fn tagged(image: &str) -> Str {
    if image.rfind(':') <= image.rfind('/') {
        return Str::new(&format!("{image}:latest"));
    }
    Str::new(image)
}

fn owner(meta: &ObjectMeta) -> Option<(OwnerKind, Str)> {
    let owners = meta.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|o| o.controller == Some(true))?;
    let kind = match (owner.api_version.as_str(), owner.kind.as_str()) {
        ("v1", "ReplicationController") => OwnerKind::ReplicationController,
        ("apps/v1", "ReplicaSet") => OwnerKind::ReplicaSet,
        ("apps/v1", "StatefulSet") => OwnerKind::StatefulSet,
        _ => return None,
    };
    Some((kind, Str::new(&owner.name)))
}

fn wishes(namespace: &Str, labels: &Labels, spec: &core::PodSpec) -> Wishes {
    let affinity = spec.affinity.as_ref();
    let nodes = affinity.and_then(|a| a.node_affinity.as_ref());
    let near = affinity.and_then(|a| a.pod_affinity.as_ref());
    let apart = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
    let required = |terms: Option<&Vec<core::PodAffinityTerm>>| -> Vec<AffinityTerm> {
        terms
            .into_iter()
            .flatten()
            .map(|t| AffinityTerm::new(t, namespace, labels))
            .collect()
    };
    let preferred = |terms: Option<&Vec<core::WeightedPodAffinityTerm>>| -> Vec<WeightedTerm> {
        terms
            .into_iter()
            .flatten()
            .map(|t| WeightedTerm {
                weight: t.weight,
                term: AffinityTerm::new(&t.pod_affinity_term, namespace, labels),
            })
            .collect()
    };
    Wishes {
        node_labels: Selector::of_map(spec.node_selector.as_ref()),
        node_affinity: nodes
            .and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref())
            .map(NodeSelector::new),
        preferred_nodes: nodes
            .and_then(|n| n.preferred_during_scheduling_ignored_during_execution.as_ref())
            .into_iter()
            .flatten()
            .filter(|t| t.weight != 0)
            .filter_map(|t| Some((t.weight, NodeTerm::new(&t.preference)?)))
            .collect(),
        affinity: required(near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
        anti_affinity: required(
            apart.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
        ),
        preferred_affinity: preferred(
            near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
        ),
        preferred_anti_affinity: preferred(
            apart.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
        ),
        spread: spec
            .topology_spread_constraints
            .iter()
            .flatten()
            .map(|c| spread(c, labels))
            .collect(),
        ports: host_ports(spec),
        volumes: spec.volumes.iter().flatten().filter_map(volume).collect(),
        gates: spec
            .scheduling_gates
            .iter()
            .flatten()
            .map(|g| Str::new(&g.name))
            .collect(),
        resource_claims: spec
            .resource_claims
            .iter()
            .flatten()
            .map(|c| Str::new(&c.name))
            .collect(),
    }
}

/// From the API's form, for a pod of these labels.
pub fn spread(constraint: &core::TopologySpreadConstraint, labels: &Labels) -> Spread {
    let mut selector = Selector::new(constraint.label_selector.as_ref());
    for key in constraint.match_label_keys.iter().flatten().map(Str::from) {
        if let Some(value) = labels.get(&key) {
            selector.require(&key, value);
        }
    }
    Spread {
        max_skew: constraint.max_skew,
        topology_key: Str::new(&constraint.topology_key),
        hard: constraint.when_unsatisfiable == "DoNotSchedule",
        selector,
        min_domains: constraint.min_domains.unwrap_or(1),
        honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
    }
}

fn host_ports(spec: &core::PodSpec) -> Vec<HostPort> {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = sidecars
        .chain(&spec.containers)
        .flat_map(|c| c.ports.iter().flatten());
    ports
        .filter(|p| p.host_port.unwrap_or(0) > 0)
        .map(|p| HostPort {
            ip: Str::new(
                p.host_ip
                    .as_deref()
                    .filter(|ip| !ip.is_empty())
                    .unwrap_or("0.0.0.0"),
            ),
            protocol: Str::new(p.protocol.as_deref().unwrap_or("TCP")),
            port: p.host_port.unwrap_or(0),
        })
        .collect()
}

fn volume(volume: &core::Volume) -> Option<PodVolume> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some(PodVolume::Claim(Str::new(&claim.claim_name)));
    }
    if volume.ephemeral.is_some() {
        return Some(PodVolume::Ephemeral(Str::new(&volume.name)));
    }
    if let Some(gce) = &volume.gce_persistent_disk {
        return Some(PodVolume::Gce {
            disk: Str::new(&gce.pd_name),
            read_only: gce.read_only.unwrap_or(false),
        });
    }
    if let Some(ebs) = &volume.aws_elastic_block_store {
        return Some(PodVolume::Ebs(Str::new(&ebs.volume_id)));
    }
    if let Some(iscsi) = &volume.iscsi {
        return Some(PodVolume::Iscsi {
            iqn: Str::new(&iscsi.iqn),
            read_only: iscsi.read_only.unwrap_or(false),
        });
    }
    if let Some(rbd) = &volume.rbd {
        return Some(PodVolume::Rbd {
            monitors: rbd.monitors.iter().map(Str::from).collect(),
            pool: Str::new(rbd.pool.as_deref().unwrap_or("rbd")),
            image: Str::new(&rbd.image),
            read_only: rbd.read_only.unwrap_or(false),
        });
    }
    volume
        .csi
        .as_ref()
        .map(|csi| PodVolume::Csi(Str::new(&csi.driver)))
}

struct Entry(Arc<Template>);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.spec == other.0.spec
    }
}

impl Eq for Entry {}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.spec.hash(state);
    }
}

impl std::borrow::Borrow<TemplateSpec> for Entry {
    fn borrow(&self) -> &TemplateSpec {
        &self.0.spec
    }
}

const SWEEP_MIN: usize = 1024;

static TABLE: LazyLock<Mutex<(AHashSet<Entry>, usize)>> =
    LazyLock::new(|| Mutex::new((AHashSet::new(), SWEEP_MIN)));

impl Template {
    /// The shared template of this content.
    pub fn shared(spec: TemplateSpec) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut table = TABLE.lock();
        if let Some(entry) = table.0.get(&spec) {
            return entry.0.clone();
        }
        if table.0.len() >= table.1 {
            table.0.retain(|entry| Arc::strong_count(&entry.0) > 1);
            let next = (table.0.len() * 2).max(SWEEP_MIN);
            table.1 = next;
            table.0.shrink_to(next);
        }
        let template = Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            spec,
        });
        table.0.insert(Entry(template.clone()));
        template
    }
}

/// Whether any toleration tolerates a PreferNoSchedule taint.
pub fn tolerates_preferred(tolerations: &[Toleration], taint: &super::Taint) -> bool {
    tolerations
        .iter()
        .filter(|t| t.effect.is_none() || t.effect == Some(Effect::PreferNoSchedule))
        .any(|t| t.tolerates(taint))
}
