//! Storage objects as placement sees them.

use super::{NodeSelector, Selector, Str};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1 as storage;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use rutter_api::quantity::Quantity;

fn bytes(quantity: Option<&Text>) -> i64 {
    quantity
        .and_then(|q| q.0.parse::<Quantity>().ok())
        .map_or(0, |q| q.value())
}

fn named(text: Option<&str>) -> Option<Str> {
    text.filter(|t| !t.is_empty()).map(Str::new)
}

/// The annotation that names a claim's node to its provisioner.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The annotation that says that a claim's binding is complete.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its namespace.
    pub namespace: Str,
    /// Its name.
    pub name: Str,
    /// Its UID.
    pub uid: Str,
    /// What version was seen.
    pub resource_version: u64,
    /// The volume it is bound or being bound to.
    pub volume: Option<Str>,
    /// Whether its binding is complete.
    pub bound: bool,
    /// Whether its volume is lost.
    pub lost: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// The class: absent when none is asked for at all, empty for none.
    pub class: Str,
    /// How many bytes it asks for.
    pub request: i64,
    /// The access modes it needs.
    pub access_modes: Vec<Str>,
    /// `Filesystem` or `Block`.
    pub volume_mode: Str,
    /// Which volumes will do.
    pub selector: Option<Selector>,
    /// The node chosen for its first consumer.
    pub selected_node: Option<Str>,
    /// The VolumeAttributesClass asked for.
    pub attributes_class: Option<Str>,
    /// The UID of the pod that owns it, for generic ephemeral volumes.
    pub owner_pod: Option<Str>,
}

impl Claim {
    /// From the API's object.
    pub fn new(claim: &core::PersistentVolumeClaim) -> Self {
        let meta = &claim.metadata;
        let spec = claim.spec.clone().unwrap_or_default();
        let annotation = |key: &str| meta.annotations.as_ref().and_then(|a| a.get(key));
        let volume = named(spec.volume_name.as_deref());
        let class = annotation("volume.beta.kubernetes.io/storage-class")
            .or(spec.storage_class_name.as_ref())
            .map(Str::from)
            .unwrap_or_default();
        let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
        let owners = meta.owner_references.iter().flatten();
        Self {
            namespace: Str::new(meta.namespace.as_deref().unwrap_or_default()),
            name: Str::new(meta.name.as_deref().unwrap_or_default()),
            uid: Str::new(meta.uid.as_deref().unwrap_or_default()),
            resource_version: version(meta.resource_version.as_deref()),
            bound: volume.is_some() && annotation(BIND_COMPLETED).is_some(),
            lost: phase == Some("Lost"),
            volume,
            terminating: meta.deletion_timestamp.is_some(),
            class,
            request: bytes(
                spec.resources
                    .as_ref()
                    .and_then(|r| r.requests.as_ref())
                    .and_then(|r| r.get("storage")),
            ),
            access_modes: spec.access_modes.iter().flatten().map(Str::from).collect(),
            volume_mode: Str::new(spec.volume_mode.as_deref().unwrap_or("Filesystem")),
            selector: spec.selector.as_ref().map(|s| Selector::new(Some(s))),
            selected_node: annotation(SELECTED_NODE).map(Str::from),
            attributes_class: named(spec.volume_attributes_class_name.as_deref()),
            owner_pod: owners
                .filter(|o| o.controller == Some(true) && o.kind == "Pod")
                .map(|o| Str::new(&o.uid))
                .next(),
        }
    }
}

fn version(text: Option<&str>) -> u64 {
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}

/// A PersistentVolume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: Str,
    /// What version was seen.
    pub resource_version: u64,
    /// Its labels.
    pub labels: super::Labels,
    /// Which nodes can use it.
    pub node_affinity: Option<NodeSelector>,
    /// Its class; empty for none.
    pub class: Str,
    /// Bytes.
    pub capacity: i64,
    /// The access modes it has.
    pub access_modes: Vec<Str>,
    /// `Filesystem` or `Block`.
    pub volume_mode: Str,
    /// The claim it is bound to or kept for: namespace, name and UID (empty when only kept by name).
    pub claim: Option<(Str, Str, Str)>,
    /// Its phase.
    pub phase: Str,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// The CSI driver and its handle there.
    pub csi: Option<(Str, Str)>,
    /// The VolumeAttributesClass it has.
    pub attributes_class: Option<Str>,
}

impl Volume {
    /// From the API's object.
    pub fn new(volume: &core::PersistentVolume) -> Self {
        let meta = &volume.metadata;
        let spec = volume.spec.clone().unwrap_or_default();
        let annotation = |key: &str| meta.annotations.as_ref().and_then(|a| a.get(key));
        let class =
            annotation("volume.beta.kubernetes.io/storage-class").or(spec.storage_class_name.as_ref());
        let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
        Self {
            name: Str::new(meta.name.as_deref().unwrap_or_default()),
            resource_version: version(meta.resource_version.as_deref()),
            labels: super::Labels::new(meta.labels.as_ref()),
            node_affinity: spec
                .node_affinity
                .as_ref()
                .and_then(|a| a.required.as_ref())
                .map(NodeSelector::new),
            class: class.map(Str::from).unwrap_or_default(),
            capacity: bytes(spec.capacity.as_ref().and_then(|c| c.get("storage"))),
            access_modes: spec.access_modes.iter().flatten().map(Str::from).collect(),
            volume_mode: Str::new(spec.volume_mode.as_deref().unwrap_or("Filesystem")),
            claim: spec.claim_ref.as_ref().map(|c| {
                let text = |t: &Option<String>| Str::new(t.as_deref().unwrap_or_default());
                (text(&c.namespace), text(&c.name), text(&c.uid))
            }),
            phase: Str::new(phase.unwrap_or_default()),
            terminating: meta.deletion_timestamp.is_some(),
            csi: spec
                .csi
                .as_ref()
                .map(|c| (Str::new(&c.driver), Str::new(&c.volume_handle))),
            attributes_class: named(spec.volume_attributes_class_name.as_deref()),
        }
    }
}

/// A StorageClass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// Its name.
    pub name: Str,
    /// Whether binding waits for the first consumer.
    pub waits: bool,
    /// Who provisions.
    pub provisioner: Str,
    /// The topologies it provisions in: any term of pairs (key, values) that all hold; none means anywhere.
    pub topologies: Vec<Vec<(Str, Vec<Str>)>>,
}

impl Class {
    /// From the API's object.
    pub fn new(class: &storage::StorageClass) -> Self {
        Self {
            name: Str::new(class.metadata.name.as_deref().unwrap_or_default()),
            waits: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            provisioner: Str::new(&class.provisioner),
            topologies: class
                .allowed_topologies
                .iter()
                .flatten()
                .map(|t| {
                    t.match_label_expressions
                        .iter()
                        .flatten()
                        .map(|e| (Str::new(&e.key), e.values.iter().map(Str::from).collect()))
                        .collect()
                })
                .collect(),
        }
    }
}

/// How many volumes of each driver a node takes, after its CSINode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsiNode {
    /// The node.
    pub name: Str,
    /// The drivers on it, and how many volumes each takes when it says.
    pub drivers: Vec<(Str, Option<i64>)>,
}

impl CsiNode {
    /// From the API's object.
    pub fn new(node: &storage::CSINode) -> Self {
        Self {
            name: Str::new(node.metadata.name.as_deref().unwrap_or_default()),
            drivers: node
                .spec
                .drivers
                .iter()
                .map(|d| {
                    let count = d.allocatable.as_ref().and_then(|a| a.count);
                    (Str::new(&d.name), count.map(i64::from))
                })
                .collect(),
        }
    }
}

/// A CSIDriver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsiDriver {
    /// Its name.
    pub name: Str,
    /// Whether it publishes how much room is left where.
    pub storage_capacity: bool,
}

impl CsiDriver {
    /// From the API's object.
    pub fn new(driver: &storage::CSIDriver) -> Self {
        Self {
            name: Str::new(driver.metadata.name.as_deref().unwrap_or_default()),
            storage_capacity: driver.spec.storage_capacity.unwrap_or(false),
        }
    }
}

/// How much room a class has in a part of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Namespace and name.
    pub key: Str,
    /// The class.
    pub class: Str,
    /// Which nodes; absent means none.
    pub nodes: Selector,
    /// The largest volume that can be made, in bytes; absent means unknown.
    pub largest: Option<i64>,
}

impl Capacity {
    /// From the API's object.
    pub fn new(capacity: &storage::CSIStorageCapacity) -> Self {
        let meta = &capacity.metadata;
        let size = capacity
            .maximum_volume_size
            .as_ref()
            .or(capacity.capacity.as_ref());
        Self {
            key: Str::new(&format!(
                "{}/{}",
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default()
            )),
            class: Str::new(&capacity.storage_class_name),
            nodes: Selector::new(capacity.node_topology.as_ref()),
            largest: size.map(|q| bytes(Some(q))),
        }
    }
}
