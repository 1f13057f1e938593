//! What happens in the cluster, as far as it may help pods that found no node.

use crate::model::volume::{Capacity, Claim, Class, CsiDriver, CsiNode, Volume};
use crate::model::{Node, Pod, Str};

/// An event, with what it is about.
#[derive(Clone, Debug)]
pub enum ClusterEvent<'a> {
    /// A node appeared.
    NodeAdded(&'a Node),
    /// A node changed.
    NodeUpdated(&'a Node, &'a Node),
    /// A node went.
    NodeDeleted(&'a Node),
    /// A pod got a node.
    PodAdded(&'a Pod),
    /// A pod that has a node changed.
    PodUpdated(&'a Pod, &'a Pod),
    /// A pod that had a node, or a nomination, went.
    PodDeleted(&'a Pod),
    /// The waiting pod itself changed.
    Itself(&'a Pod, &'a Pod),
    /// A claim appeared or changed.
    Claim(Option<&'a Claim>, &'a Claim),
    /// A volume appeared or changed.
    Volume(Option<&'a Volume>, &'a Volume),
    /// A class appeared or changed.
    Class(Option<&'a Class>, &'a Class),
    /// A node's drivers appeared or changed.
    CsiNode(Option<&'a CsiNode>, &'a CsiNode),
    /// A driver appeared or changed.
    CsiDriver(Option<&'a CsiDriver>, &'a CsiDriver),
    /// Room for volumes appeared or changed.
    Capacity(Option<&'a Capacity>, &'a Capacity),
    /// A volume was detached from this node.
    Detached(&'a Str),
}

/// A set of kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(u32);

impl Interest {
    /// None.
    pub const NONE: Self = Self(0);
    /// Nodes that appear.
    pub const NODE_ADD: Self = Self(1);
    /// Nodes whose allocatable resources change.
    pub const NODE_ALLOCATABLE: Self = Self(1 << 1);
    /// Nodes whose labels change.
    pub const NODE_LABEL: Self = Self(1 << 2);
    /// Nodes whose taints, or cordon, change.
    pub const NODE_TAINT: Self = Self(1 << 3);
    /// Nodes that go.
    pub const NODE_DELETE: Self = Self(1 << 4);
    /// Pods that get a node.
    pub const POD_ADD: Self = Self(1 << 5);
    /// Pods whose labels change.
    pub const POD_LABEL: Self = Self(1 << 6);
    /// Pods that ask for less than before.
    pub const POD_SCALE_DOWN: Self = Self(1 << 7);
    /// Pods that go.
    pub const POD_DELETE: Self = Self(1 << 8);
    /// The pod's own tolerations.
    pub const TOLERATION: Self = Self(1 << 9);
    /// The pod's own gates, when the last is gone.
    pub const GATES: Self = Self(1 << 10);
    /// Claims.
    pub const CLAIM: Self = Self(1 << 11);
    /// Volumes.
    pub const VOLUME: Self = Self(1 << 12);
    /// Classes.
    pub const CLASS: Self = Self(1 << 13);
    /// Nodes' drivers.
    pub const CSI_NODE: Self = Self(1 << 14);
    /// Drivers.
    pub const CSI_DRIVER: Self = Self(1 << 15);
    /// Room.
    pub const CAPACITY: Self = Self(1 << 16);
    /// Detached volumes.
    pub const DETACHED: Self = Self(1 << 17);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether they share a kind.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl ClusterEvent<'_> {
    /// Of which kinds it is.
    pub fn kinds(&self) -> Interest {
        let when = |changed: bool, kind: Interest| if changed { kind } else { Interest::NONE };
        match self {
            Self::NodeAdded(_) => Interest::NODE_ADD,
            Self::NodeDeleted(_) => Interest::NODE_DELETE,
            Self::NodeUpdated(old, new) => when(
                old.allocatable != new.allocatable || old.max_pods != new.max_pods,
                Interest::NODE_ALLOCATABLE,
            )
            .and(when(old.labels != new.labels, Interest::NODE_LABEL))
            .and(when(
                old.taints != new.taints || old.unschedulable != new.unschedulable,
                Interest::NODE_TAINT,
            )),
            Self::PodAdded(_) => Interest::POD_ADD,
            Self::PodDeleted(_) => Interest::POD_DELETE,
            Self::PodUpdated(old, new) | Self::Itself(old, new) => {
                let (a, b) = (&old.template, &new.template);
                let less = {
                    let (x, y) = (&a.requests.total, &b.requests.total);
                    x.cpu > y.cpu
                        || x.memory > y.memory
                        || x.ephemeral > y.ephemeral
                        || x.scalars.iter().any(|(name, v)| *v > y.scalar(name))
                };
                when(a.labels != b.labels, Interest::POD_LABEL)
                    .and(when(less, Interest::POD_SCALE_DOWN))
                    .and(when(a.tolerations != b.tolerations, Interest::TOLERATION))
                    .and(when(
                        !a.wishes().gates.is_empty() && b.wishes().gates.is_empty(),
                        Interest::GATES,
                    ))
            }
            Self::Claim(..) => Interest::CLAIM,
            Self::Volume(..) => Interest::VOLUME,
            Self::Class(..) => Interest::CLASS,
            Self::CsiNode(..) => Interest::CSI_NODE,
            Self::CsiDriver(..) => Interest::CSI_DRIVER,
            Self::Capacity(..) => Interest::CAPACITY,
            Self::Detached(_) => Interest::DETACHED,
        }
    }

    /// The name that `scheduler_queue_incoming_pods_total` gives it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NodeAdded(_) => "NodeAdd",
            Self::NodeDeleted(_) => "NodeDelete",
            Self::NodeUpdated(old, new) => {
                if old.allocatable != new.allocatable || old.max_pods != new.max_pods {
                    "NodeUpdateNodeAllocatable"
                } else if old.labels != new.labels {
                    "NodeUpdateNodeLabel"
                } else if old.taints != new.taints || old.unschedulable != new.unschedulable {
                    "NodeUpdateNodeTaint"
                } else {
                    "NodeUpdate"
                }
            }
            Self::PodAdded(_) => "AssignedPodAdd",
            Self::PodUpdated(..) => "AssignedPodUpdate",
            Self::PodDeleted(_) => "AssignedPodDelete",
            Self::Itself(..) => "UnschedulablePodUpdate",
            Self::Claim(None, _) => "PersistentVolumeClaimAdd",
            Self::Claim(..) => "PersistentVolumeClaimUpdate",
            Self::Volume(None, _) => "PersistentVolumeAdd",
            Self::Volume(..) => "PersistentVolumeUpdate",
            Self::Class(None, _) => "StorageClassAdd",
            Self::Class(..) => "StorageClassUpdate",
            Self::CsiNode(None, _) => "CSINodeAdd",
            Self::CsiNode(..) => "CSINodeUpdate",
            Self::CsiDriver(None, _) => "CSIDriverAdd",
            Self::CsiDriver(..) => "CSIDriverUpdate",
            Self::Capacity(None, _) => "CSIStorageCapacityAdd",
            Self::Capacity(..) => "CSIStorageCapacityUpdate",
            Self::Detached(_) => "VolumeAttachmentDelete",
        }
    }
}
