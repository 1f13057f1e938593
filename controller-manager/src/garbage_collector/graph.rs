//! Who owns whom in the cluster: the garbage collector's view, free of I/O.
//!
//! Objects are found by UID. An owner that was never seen is no node, but its dependents are known, so that they can be looked at when it
//! turns out to be gone. Changes give the work that follows from them; [`Graph::decide`] says what becomes of one object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Asks for dependents to be deleted before their owner.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Asks for dependents to be kept without their owner.
pub const ORPHAN: &str = "orphan";

/// A UID.
pub type Uid = Arc<str>;

/// Where an object is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `resource.group`
    pub resource: Arc<str>,
    /// The kind.
    pub kind: Arc<str>,
    /// The namespace; empty when cluster-scoped.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Identity {
    /// The API group.
    pub fn group(&self) -> &str {
        self.resource.split_once('.').map_or("", |(_, group)| group)
    }
}

/// What the graph keeps of an owner reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The owner's API group.
    pub group: Arc<str>,
    /// The owner's kind.
    pub kind: Arc<str>,
    /// The owner's name.
    pub name: Arc<str>,
    /// The owner's UID.
    pub uid: Uid,
    /// Whether the owner's foreground deletion waits for this dependent.
    pub blocks: bool,
}

/// An object as it was last seen.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it is found.
    pub identity: Identity,
    /// Its owners.
    pub owners: Vec<Owner>,
    /// Its version when last seen.
    pub version: Arc<str>,
    /// Whether deletion was asked for.
    pub deleting: bool,
    /// Whether it has the finalizer [`FOREGROUND`].
    pub foreground: bool,
    /// Whether it has the finalizer [`ORPHAN`].
    pub orphan: bool,
}

impl Node {
    /// Whether it waits for its dependents to be deleted.
    pub fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }
}

/// Work that follows from a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// See whether the object is to be deleted, or its deletion to be finished.
    Delete(Uid),
    /// Take the object's reference out of its dependents.
    Orphan(Uid),
}

/// An owner as far as the graph, or a look at the server, knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// It is there.
    Solid,
    /// It is being deleted in the foreground.
    Waiting,
    /// It is gone.
    Absent,
    /// The graph can't tell; the server must be asked.
    Unknown,
}

/// What to do with one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing.
    Nothing,
    /// Nothing blocks its foreground deletion any more: take the finalizer away.
    FinishForeground,
    /// Look at these dependents, which block its foreground deletion.
    LookAt(Vec<Uid>),
    /// Ask the server about the owner at this position, and decide again.
    Ask(usize),
    /// It keeps a solid owner: take the references to these owners away.
    DropReferences(Vec<Uid>),
    /// Delete it.
    Delete {
        /// How its own dependents are treated.
        propagation: Propagation,
        /// Whether its references must stop blocking first, because its owner waits for it and it for its owner.
        unblock: bool,
    },
}

/// `propagationPolicy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents follow.
    Background,
    /// Dependents go first.
    Foreground,
    /// Dependents stay.
    Orphan,
}

const REMEMBERED: usize = 5000;

/// The graph.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    dependents: HashMap<Uid, HashSet<Uid>>,
    gone: HashSet<Uid>,
    gone_order: VecDeque<Uid>,
}

impl Graph {
    /// An object, when it was seen.
    pub fn node(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The objects that name this UID as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<Uid> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// The UIDs of all objects of a resource.
    pub fn of_resource(&self, resource: &str) -> Vec<Uid> {
        self.nodes
            .iter()
            .filter(|(_, n)| &*n.identity.resource == resource)
            .map(|(uid, _)| uid.clone())
            .collect()
    }

    /// Notes that an object is there in this state.
    pub fn observe(&mut self, identity: Identity, meta: &ObjectMeta) -> Vec<Work> {
        let Some(uid) = meta.uid.as_deref().map(Uid::from) else {
            return Vec::new();
        };
        let finalizer = |name: &str| meta.finalizers.iter().flatten().any(|f| f == name);
        let new = Node {
            owners: meta
                .owner_references
                .iter()
                .flatten()
                .map(|r| self.owner(r))
                .collect(),
            version: meta.resource_version.as_deref().unwrap_or_default().into(),
            deleting: meta.deletion_timestamp.is_some(),
            foreground: finalizer(FOREGROUND),
            orphan: finalizer(ORPHAN),
            identity,
        };
        let mut work = Vec::new();
        let old = self.nodes.insert(uid.clone(), new.clone());
        self.relink(
            &uid,
            old.as_ref().map(|o| o.owners.as_slice()).unwrap_or_default(),
            &new.owners,
            &mut work,
        );
        let starts = |before: bool, after: bool| after && !before;
        let was = |f: &dyn Fn(&Node) -> bool| old.as_ref().is_some_and(f);
        let orphaning = |n: &Node| n.deleting && n.orphan;
        if starts(was(&orphaning), orphaning(&new)) {
            work.push(Work::Orphan(uid.clone()));
        }
        if starts(was(&Node::waits_for_dependents), new.waits_for_dependents()) {
            work.extend(self.dependents(&uid).into_iter().map(Work::Delete));
            work.push(Work::Delete(uid.clone()));
        }
        let owners_changed = old.as_ref().is_none_or(|o| o.owners != new.owners);
        if owners_changed
            && !new.owners.is_empty()
            && new
                .owners
                .iter()
                .any(|o| self.owner_state(&new, o) != OwnerState::Solid)
        {
            work.push(Work::Delete(uid));
        }
        work
    }

    // The strings of an owner's reference are those of the owner, once for all its dependents.
    fn owner(&self, reference: &OwnerReference) -> Owner {
        let group = crate::common::owners::group_of(&reference.api_version);
        let blocks = reference.block_owner_deletion == Some(true);
        let known = self.nodes.get_key_value(reference.uid.as_str());
        let shared = |text: &str, candidate: Option<&Arc<str>>| {
            candidate
                .filter(|c| ***c == *text)
                .cloned()
                .unwrap_or_else(|| text.into())
        };
        Owner {
            group: group.into(),
            kind: shared(&reference.kind, known.map(|(_, n)| &n.identity.kind)),
            name: shared(&reference.name, known.map(|(_, n)| &n.identity.name)),
            uid: shared(&reference.uid, known.map(|(uid, _)| uid)),
            blocks,
        }
    }

    fn relink(&mut self, uid: &Uid, old: &[Owner], new: &[Owner], work: &mut Vec<Work>) {
        for owner in old {
            let still = new.iter().find(|o| o.uid == owner.uid);
            if still.is_none() {
                self.unlink(uid, &owner.uid);
            }
            // An owner that waited for this dependent may have nothing left to wait for.
            if owner.blocks
                && still.is_none_or(|o| !o.blocks)
                && self.nodes.get(&owner.uid).is_some_and(Node::waits_for_dependents)
            {
                work.push(Work::Delete(owner.uid.clone()));
            }
        }
        for owner in new {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
    }

    fn unlink(&mut self, dependent: &Uid, owner: &Uid) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    /// Notes that an object is gone.
    pub fn forget(&mut self, uid: &str) -> Vec<Work> {
        let Some((uid, node)) = self.nodes.remove_entry(uid) else {
            return Vec::new();
        };
        self.remember_gone(uid.clone());
        let mut work: Vec<Work> = self.dependents(&uid).into_iter().map(Work::Delete).collect();
        for owner in &node.owners {
            self.unlink(&uid, &owner.uid);
            if self.nodes.get(&owner.uid).is_some_and(Node::waits_for_dependents) {
                work.push(Work::Delete(owner.uid.clone()));
            }
        }
        work
    }

    /// Notes that there is no object of this UID, as the server said.
    pub fn remember_gone(&mut self, uid: Uid) {
        if self.gone.insert(uid.clone()) {
            self.gone_order.push_back(uid);
        }
        if self.gone_order.len() > REMEMBERED
            && let Some(oldest) = self.gone_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }

    /// What is known of an owner. A reference whose names don't fit the object of that UID must be looked up as it is written.
    pub fn owner_state(&self, dependent: &Node, owner: &Owner) -> OwnerState {
        match self.nodes.get(&owner.uid) {
            Some(node) => {
                let identity = &node.identity;
                let reachable =
                    identity.namespace.is_empty() || identity.namespace == dependent.identity.namespace;
                if identity.kind != owner.kind
                    || identity.name != owner.name
                    || identity.group() != &*owner.group
                    || !reachable
                {
                    OwnerState::Unknown
                } else if node.waits_for_dependents() {
                    OwnerState::Waiting
                } else {
                    OwnerState::Solid
                }
            }
            None if self.gone.contains(&owner.uid) => OwnerState::Absent,
            None => OwnerState::Unknown,
        }
    }

    /// Decides about an object. `answers` are what the server said about owners, by UID.
    pub fn decide(&self, uid: &str, answers: &HashMap<Uid, OwnerState>) -> Decision {
        let Some(node) = self.nodes.get(uid) else {
            return Decision::Nothing;
        };
        if node.waits_for_dependents() {
            return self.decide_foreground(uid);
        }
        if node.deleting || node.owners.is_empty() {
            return Decision::Nothing;
        }
        let (mut solid, mut waiting, mut absent) = (false, Vec::new(), Vec::new());
        for (at, owner) in node.owners.iter().enumerate() {
            let known = answers
                .get(&owner.uid)
                .copied()
                .unwrap_or_else(|| self.owner_state(node, owner));
            match known {
                OwnerState::Solid => solid = true,
                OwnerState::Waiting => waiting.push(owner.uid.clone()),
                OwnerState::Absent => absent.push(owner.uid.clone()),
                OwnerState::Unknown => return Decision::Ask(at),
            }
        }
        if solid {
            absent.append(&mut waiting);
            return if absent.is_empty() {
                Decision::Nothing
            } else {
                Decision::DropReferences(absent)
            };
        }
        let dependents = self.dependents(uid);
        if !waiting.is_empty() && !dependents.is_empty() {
            let circle = dependents
                .iter()
                .any(|d| self.nodes.get(d).is_some_and(Node::waits_for_dependents));
            return Decision::Delete {
                propagation: Propagation::Foreground,
                unblock: circle,
            };
        }
        let propagation = match (node.orphan, node.foreground) {
            (true, _) => Propagation::Orphan,
            (false, true) => Propagation::Foreground,
            (false, false) => Propagation::Background,
        };
        Decision::Delete {
            propagation,
            unblock: false,
        }
    }

    fn decide_foreground(&self, uid: &str) -> Decision {
        let blocks = |d: &Uid| {
            self.nodes
                .get(d)
                .is_some_and(|n| n.owners.iter().any(|o| &*o.uid == uid && o.blocks))
        };
        let blocking: Vec<Uid> = self.dependents(uid).into_iter().filter(blocks).collect();
        if blocking.is_empty() {
            return Decision::FinishForeground;
        }
        let idle = |d: &Uid| self.nodes.get(d).is_some_and(|n| !n.waits_for_dependents());
        Decision::LookAt(blocking.into_iter().filter(idle).collect())
    }
}
