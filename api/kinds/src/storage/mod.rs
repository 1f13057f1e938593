//! The kinds of `storage.k8s.io`.

mod csi;
mod volume;

pub(crate) use csi::{CsiDriver, CsiNode, CsiStorageCapacity};
pub(crate) use volume::{StorageClass, VolumeAttachment, VolumeAttributesClass};
