//! The cluster as decisions see it: nodes with the pods on them, and what else placement asks about.
//!
//! There is one snapshot and it is changed in place, only between decisions, one object at a time; so a decision never waits for a copy and
//! never sees a half-made change. Whatever decisions count (pods that match a selector, places of a topology) is counted here as pods come and go.
//! It does no I/O and takes no clock.

mod node_info;
mod owners;
mod storage;
mod topology;

pub use node_info::NodeInfo;
pub use owners::{OwnerSelectors, Owners};
pub use storage::{ClaimKey, Storage};
pub use topology::{NO_PLACE, Topology};

use crate::model::{Labels, Node, Pod, Str, Template, Uid};
use ahash::{AHashMap, RandomState};
use indexmap::IndexMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::sync::Arc;

/// An [`IndexMap`] with a fast hash.
pub type FastMap<K, V> = IndexMap<K, V, RandomState>;

/// How many pods of a template are on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All.
    pub all: u32,
    /// Those that aren't being deleted.
    pub live: u32,
}

/// Where a template's pods are.
#[derive(Debug)]
pub struct TemplateUse {
    /// The template.
    pub template: Arc<Template>,
    /// How many are on which node (by slot).
    pub nodes: FastMap<u32, Count>,
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Its namespace.
    pub namespace: Str,
    /// The pods it protects.
    pub selector: crate::model::Selector,
    /// How many more may be disrupted now.
    pub allowed: i32,
    /// The names of pods whose disruption is already counted.
    pub disrupted: Vec<Str>,
}

impl Budget {
    /// From the API's parts; an absent or empty selector protects nothing here.
    pub fn new(namespace: &str, selector: Option<&LabelSelector>, allowed: i32, disrupted: Vec<Str>) -> Self {
        Self {
            namespace: Str::new(namespace),
            selector: crate::model::Selector::new(selector),
            allowed,
            disrupted,
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Snapshot {
    slots: Vec<Option<NodeInfo>>,
    free: Vec<u32>,
    by_name: AHashMap<Str, u32>,
    order: Vec<u32>,
    order_stale: bool,
    generation: u64,
    pods: AHashMap<Uid, Arc<Pod>>,
    uses: FastMap<Str, FastMap<u64, TemplateUse>>,
    affine: FastMap<u64, Str>,
    topologies: AHashMap<Str, Topology>,
    image_nodes: AHashMap<Str, u32>,
    namespaces: AHashMap<Str, Labels>,
    /// Volumes, claims, classes.
    pub storage: Storage,
    /// Services and controllers, for default spreading.
    pub owners: Owners,
    /// PodDisruptionBudgets by namespace and name.
    pub budgets: FastMap<(Str, Str), Budget>,
}

impl Snapshot {
    /// Puts a node in, or its new state.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let slot = self.slot(&node.name);
        let generation = self.tick();
        let Some(info) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else {
            return;
        };
        let old = info.node.replace(node.clone());
        info.generation = generation;
        if let Some(old) = &old {
            forget_images(&mut self.image_nodes, old);
        }
        for (image, _) in &node.images {
            *self.image_nodes.entry(image.clone()).or_default() += 1;
        }
        self.order_stale |= old.is_none_or(|old| topology::zone(&old.labels) != topology::zone(&node.labels));
        for topology in self.topologies.values_mut() {
            topology.set(slot, node.labels.get(&topology.key));
        }
    }

    /// Takes a node out. Its pods stay known until they are removed, too.
    pub fn remove_node(&mut self, name: &Str) {
        let Some(&slot) = self.by_name.get(name) else {
            return;
        };
        let generation = self.tick();
        self.order_stale = true;
        for topology in self.topologies.values_mut() {
            topology.set(slot, None);
        }
        if let Some(info) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) {
            if let Some(old) = info.node.take() {
                forget_images(&mut self.image_nodes, &old);
            }
            info.generation = generation;
            if info.pods.is_empty() {
                self.release(slot, name);
            }
        }
    }

    /// Puts a pod that has a node in; one of the same UID is replaced.
    pub fn add_pod(&mut self, pod: Arc<Pod>) {
        self.remove_pod(&pod.uid);
        let Some(name) = pod.node.clone() else { return };
        self.register_topologies(&pod.template);
        let slot = self.slot(&name);
        let generation = self.tick();
        if let Some(info) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) {
            info.add(pod.clone());
            info.generation = generation;
        }
        let template = &pod.template;
        let uses = self.uses.entry(template.namespace.clone()).or_default();
        let entry = uses.entry(template.id).or_insert_with(|| TemplateUse {
            template: template.clone(),
            nodes: FastMap::default(),
        });
        let count = entry.nodes.entry(slot).or_default();
        count.all += 1;
        count.live += u32::from(!pod.terminating);
        if template.has_pod_affinity() {
            self.affine.insert(template.id, template.namespace.clone());
        }
        for (claim, _) in pod.claims() {
            self.storage.use_claim(&template.namespace, &claim, 1);
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// Takes a pod out.
    pub fn remove_pod(&mut self, uid: &Uid) -> Option<Arc<Pod>> {
        let pod = self.pods.remove(uid)?;
        let name = pod.node.clone()?;
        let &slot = self.by_name.get(&name)?;
        let generation = self.tick();
        let info = self.slots.get_mut(slot as usize).and_then(Option::as_mut)?;
        info.remove(uid);
        info.generation = generation;
        if info.pods.is_empty() && info.node.is_none() {
            self.release(slot, &name);
        }
        let template = &pod.template;
        for (claim, _) in pod.claims() {
            self.storage.use_claim(&template.namespace, &claim, -1);
        }
        if let Some(uses) = self.uses.get_mut(&template.namespace)
            && let Some(entry) = uses.get_mut(&template.id)
        {
            if let Some(count) = entry.nodes.get_mut(&slot) {
                count.all -= 1;
                count.live -= u32::from(!pod.terminating);
                if count.all == 0 {
                    entry.nodes.swap_remove(&slot);
                }
            }
            if entry.nodes.is_empty() {
                uses.swap_remove(&template.id);
                self.affine.swap_remove(&template.id);
                if uses.is_empty() {
                    self.uses.swap_remove(&template.namespace);
                }
            }
        }
        Some(pod)
    }

    /// Makes what is derived current; call it before deciding about a pod of this template.
    pub fn refresh(&mut self, template: &Template) {
        self.register_topologies(template);
        if self.order_stale {
            self.order = topology::interleave(self.slots.iter().flatten());
            self.order_stale = false;
        }
    }

    /// Keeps places of this node label known.
    pub fn register_topology(&mut self, key: &Str) {
        if self.topologies.contains_key(key) {
            return;
        }
        let mut topology = Topology::new(key.clone());
        for info in self.slots.iter().flatten() {
            topology.set(info.slot, info.label(key));
        }
        self.topologies.insert(key.clone(), topology);
    }

    fn register_topologies(&mut self, template: &Template) {
        let Some(wishes) = template.wishes.as_deref() else {
            return;
        };
        let preferred = wishes
            .preferred_affinity
            .iter()
            .chain(&wishes.preferred_anti_affinity);
        let terms = wishes.affinity.iter().chain(&wishes.anti_affinity);
        let keys = preferred
            .map(|w| &w.term)
            .chain(terms)
            .map(|t| &t.topology_key)
            .chain(wishes.spread.iter().map(|s| &s.topology_key));
        for key in keys {
            self.register_topology(key);
        }
    }

    /// The places of a node label; empty ones when nobody asked for it before.
    pub fn topology(&self, key: &Str) -> &Topology {
        self.topologies.get(key).unwrap_or(topology::nowhere())
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many slots there are: every node's slot is less.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The node at a place in the order, in which zones take turns.
    pub fn at(&self, index: usize) -> Option<&NodeInfo> {
        self.order.get(index).and_then(|slot| self.by_slot(*slot))
    }

    /// All nodes, in that order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.order.iter().filter_map(|slot| self.by_slot(*slot))
    }

    /// The node in a slot.
    pub fn by_slot(&self, slot: u32) -> Option<&NodeInfo> {
        self.slots.get(slot as usize).and_then(Option::as_ref)
    }

    /// A node that exists, by its name.
    pub fn node(&self, name: &Str) -> Option<&NodeInfo> {
        let info = self.by_slot(*self.by_name.get(name)?)?;
        info.node.is_some().then_some(info)
    }

    /// A pod that has a node.
    pub fn pod(&self, uid: &Uid) -> Option<&Arc<Pod>> {
        self.pods.get(uid)
    }

    /// How many pods have a node.
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// The templates in use in a namespace, and where.
    pub fn templates_in(&self, namespace: &Str) -> impl Iterator<Item = &TemplateUse> {
        self.uses
            .get(namespace)
            .into_iter()
            .flat_map(|uses| uses.values())
    }

    /// All templates in use, and where.
    pub fn templates(&self) -> impl Iterator<Item = &TemplateUse> {
        self.uses.values().flat_map(|uses| uses.values())
    }

    /// The templates in use that have terms of pod affinity or anti-affinity.
    pub fn affine_templates(&self) -> impl Iterator<Item = &TemplateUse> {
        self.affine
            .iter()
            .filter_map(|(id, namespace)| self.uses.get(namespace)?.get(id))
    }

    /// On how many nodes an image is.
    pub fn image_nodes(&self, image: &Str) -> u32 {
        self.image_nodes.get(image).copied().unwrap_or(0)
    }

    /// A namespace's labels.
    pub fn namespace_labels(&self, namespace: &Str) -> Option<&Labels> {
        self.namespaces.get(namespace)
    }

    /// Sets or, with none, drops a namespace's labels.
    pub fn set_namespace(&mut self, name: Str, labels: Option<Labels>) {
        match labels {
            Some(labels) => self.namespaces.insert(name, labels),
            None => self.namespaces.remove(&name),
        };
    }

    /// Rises with every change of nodes and pods.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn tick(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    fn slot(&mut self, name: &Str) -> u32 {
        if let Some(&slot) = self.by_name.get(name) {
            return slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(NodeInfo::new(slot));
        }
        self.by_name.insert(name.clone(), slot);
        slot
    }

    fn release(&mut self, slot: u32, name: &Str) {
        self.by_name.remove(name);
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = None;
        }
        self.free.push(slot);
        self.order_stale = true;
    }
}

fn forget_images(counts: &mut AHashMap<Str, u32>, node: &Node) {
    for (image, _) in &node.images {
        if let Some(count) = counts.get_mut(image) {
            *count -= 1;
            if *count == 0 {
                counts.remove(image);
            }
        }
    }
}
