//! Claims, volumes, classes and drivers.

use super::FastMap;
use crate::model::Str;
use crate::model::volume::{Capacity, Claim, Class, CsiDriver, CsiNode, Volume};
use std::sync::Arc;

/// Namespace and name.
pub type ClaimKey = (Str, Str);

/// What there is of storage. What a decision has chosen but the server doesn't show yet lies over what the server shows.
#[derive(Default)]
pub struct Storage {
    claims: FastMap<ClaimKey, Arc<Claim>>,
    volumes: FastMap<Str, Arc<Volume>>,
    assumed_claims: FastMap<ClaimKey, Arc<Claim>>,
    assumed_volumes: FastMap<Str, Arc<Volume>>,
    classes: FastMap<Str, Arc<Class>>,
    csi_nodes: FastMap<Str, Arc<CsiNode>>,
    drivers: FastMap<Str, Arc<CsiDriver>>,
    capacities: FastMap<Str, Arc<Capacity>>,
    attachments: FastMap<Str, (Str, Str)>,
    uses: FastMap<ClaimKey, u32>,
}

fn put<K: std::hash::Hash + Eq, V>(map: &mut FastMap<K, Arc<V>>, key: K, value: Option<V>) {
    match value {
        Some(value) => {
            map.insert(key, Arc::new(value));
        }
        None => {
            map.swap_remove(&key);
        }
    }
}

impl Storage {
    /// A claim, as assumed or as seen.
    pub fn claim(&self, namespace: &Str, name: &Str) -> Option<&Arc<Claim>> {
        let key = (namespace.clone(), name.clone());
        self.assumed_claims.get(&key).or_else(|| self.claims.get(&key))
    }

    /// A volume, as assumed or as seen.
    pub fn volume(&self, name: &Str) -> Option<&Arc<Volume>> {
        self.assumed_volumes.get(name).or_else(|| self.volumes.get(name))
    }

    /// All volumes of a class.
    pub fn volumes_of<'a>(&'a self, class: &'a Str) -> impl Iterator<Item = &'a Arc<Volume>> {
        self.volumes
            .keys()
            .filter_map(|name| self.volume(name))
            .filter(move |v| v.class == *class)
    }

    /// A class.
    pub fn class(&self, name: &Str) -> Option<&Arc<Class>> {
        self.classes.get(name)
    }

    /// A node's drivers.
    pub fn csi_node(&self, name: &Str) -> Option<&Arc<CsiNode>> {
        self.csi_nodes.get(name)
    }

    /// A driver.
    pub fn driver(&self, name: &Str) -> Option<&Arc<CsiDriver>> {
        self.drivers.get(name)
    }

    /// What is known of room for a class.
    pub fn capacities<'a>(&'a self, class: &'a Str) -> impl Iterator<Item = &'a Arc<Capacity>> {
        self.capacities.values().filter(move |c| c.class == *class)
    }

    /// The names of volumes attached to a node.
    pub fn attached<'a>(&'a self, node: &'a Str) -> impl Iterator<Item = &'a Str> {
        self.attachments
            .values()
            .filter(move |(n, _)| n == node)
            .map(|(_, volume)| volume)
    }

    /// Whether a pod that has a node uses a claim.
    pub fn in_use(&self, namespace: &Str, name: &Str) -> bool {
        self.uses.contains_key(&(namespace.clone(), name.clone()))
    }

    pub(super) fn use_claim(&mut self, namespace: &Str, name: &Str, change: i32) {
        let key = (namespace.clone(), name.clone());
        let count = self.uses.entry(key.clone()).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            self.uses.swap_remove(&key);
        }
    }

    /// Sets or drops a claim as the server shows it. What was assumed of it yields to anything newer.
    pub fn set_claim(&mut self, key: ClaimKey, claim: Option<Claim>) {
        let version = claim.as_ref().map(|c| c.resource_version);
        if let Some(assumed) = self.assumed_claims.get(&key)
            && version.is_none_or(|v| v > assumed.resource_version)
        {
            self.assumed_claims.swap_remove(&key);
        }
        put(&mut self.claims, key, claim);
    }

    /// Sets or drops a volume as the server shows it. What was assumed of it yields to anything newer.
    pub fn set_volume(&mut self, name: Str, volume: Option<Volume>) {
        let version = volume.as_ref().map(|v| v.resource_version);
        if let Some(assumed) = self.assumed_volumes.get(&name)
            && version.is_none_or(|v| v > assumed.resource_version)
        {
            self.assumed_volumes.swap_remove(&name);
        }
        put(&mut self.volumes, name, volume);
    }

    /// Takes a claim to be so until the server shows a newer one or [`Storage::restore_claim`].
    pub fn assume_claim(&mut self, claim: Claim) {
        let key = (claim.namespace.clone(), claim.name.clone());
        self.assumed_claims.insert(key, Arc::new(claim));
    }

    /// Takes a volume to be so until the server shows a newer one or [`Storage::restore_volume`].
    pub fn assume_volume(&mut self, volume: Volume) {
        self.assumed_volumes.insert(volume.name.clone(), Arc::new(volume));
    }

    /// Drops what was assumed of a claim.
    pub fn restore_claim(&mut self, key: &ClaimKey) {
        self.assumed_claims.swap_remove(key);
    }

    /// Drops what was assumed of a volume.
    pub fn restore_volume(&mut self, name: &Str) {
        self.assumed_volumes.swap_remove(name);
    }

    /// Sets or drops a class.
    pub fn set_class(&mut self, name: Str, class: Option<Class>) {
        put(&mut self.classes, name, class);
    }

    /// Sets or drops a node's drivers.
    pub fn set_csi_node(&mut self, name: Str, node: Option<CsiNode>) {
        put(&mut self.csi_nodes, name, node);
    }

    /// Sets or drops a driver.
    pub fn set_driver(&mut self, name: Str, driver: Option<CsiDriver>) {
        put(&mut self.drivers, name, driver);
    }

    /// Sets or drops what is known of room.
    pub fn set_capacity(&mut self, key: Str, capacity: Option<Capacity>) {
        put(&mut self.capacities, key, capacity);
    }

    /// Sets or drops an attachment: node and volume.
    pub fn set_attachment(&mut self, name: Str, attachment: Option<(Str, Str)>) {
        match attachment {
            Some(attachment) => self.attachments.insert(name, attachment),
            None => self.attachments.swap_remove(&name),
        };
    }
}
