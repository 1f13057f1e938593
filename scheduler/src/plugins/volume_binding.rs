//! VolumeBinding: a pod goes where its volumes can be. Bound ones say where they are; claims that wait for their first consumer are matched with
//! volumes of the node or given to their provisioner with the node's name, before the pod is bound.

use super::args::VolumeBindingArgs;
use crate::framework::{
    ClusterEvent, Context, Interest, Plugin, Point, Points, PreBindAction, PreFilter, Rejection, State, own,
};
use crate::model::volume::{Claim, Volume};
use crate::model::{Node, Pod, Str};
use crate::snapshot::{NodeInfo, Snapshot, Storage};
use smallvec::smallvec;
use std::sync::Arc;
use std::time::Duration;

const NOT_BINDABLE: &str = "node(s) didn't find available persistent volumes to bind";
const ELSEWHERE: &str = "node(s) didn't match PersistentVolume's node affinity";
const NO_ROOM: &str = "node(s) did not have enough free storage";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

/// See the module.
pub struct VolumeBinding {
    timeout: Duration,
}

impl VolumeBinding {
    /// From its arguments.
    pub fn new(args: VolumeBindingArgs) -> Self {
        Self {
            timeout: Duration::from_secs(args.bind_timeout_seconds),
        }
    }
}

/// A pod's claims.
#[derive(Clone, Default)]
struct Claims {
    bound: Vec<Arc<Claim>>,
    waiting: Vec<Arc<Claim>>,
}

/// What to do with the claims that wait, on one node.
#[derive(Default)]
struct Plan {
    bind: Vec<(Arc<Claim>, Arc<Volume>)>,
    provision: Vec<Arc<Claim>>,
}

fn claims(storage: &Storage, pod: &Pod) -> Result<Claims, Rejection> {
    let mut all = Claims::default();
    let mut immediate = false;
    for (name, ephemeral) in pod.claims() {
        let Some(claim) = storage.claim(pod.namespace(), &name) else {
            return Err(Rejection::unresolvable(if ephemeral {
                format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                )
            } else {
                format!("persistentvolumeclaim \"{name}\" not found")
            }));
        };
        if claim.lost {
            let volume = claim.volume.clone().unwrap_or_default();
            return Err(Rejection::unresolvable(format!(
                "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
            )));
        }
        if claim.terminating {
            return Err(Rejection::unresolvable(format!(
                "persistentvolumeclaim \"{name}\" is being deleted"
            )));
        }
        if ephemeral
            && claim
                .owner_pod
                .as_ref()
                .is_none_or(|uid| **uid != pod.uid.to_string())
        {
            return Err(Rejection::unresolvable(format!(
                "PVC {}/{name} was not created for pod {pod} (pod is not owner)",
                pod.namespace()
            )));
        }
        let waits = || storage.class(&claim.class).is_some_and(|c| c.waits);
        if claim.bound {
            all.bound.push(claim.clone());
        } else if claim.volume.is_none() && waits() {
            all.waiting.push(claim.clone());
        } else {
            immediate = true;
        }
    }
    if immediate {
        return Err(Rejection::unresolvable(
            "pod has unbound immediate PersistentVolumeClaims",
        ));
    }
    Ok(all)
}

fn reaches(volume: &Volume, node: &Node) -> bool {
    volume
        .node_affinity
        .as_ref()
        .is_none_or(|a| a.matches(&node.name, &node.labels))
}

/// The smallest volume on the node that will do for a claim; the one that is kept for it when there is one.
fn matching<'a>(
    storage: &'a Storage,
    claim: &'a Claim,
    node: &Node,
    taken: &[(Arc<Claim>, Arc<Volume>)],
) -> Option<&'a Arc<Volume>> {
    let mut best: Option<&Arc<Volume>> = None;
    for volume in storage.volumes_of(&claim.class) {
        let kept = volume.claim.as_ref().is_some_and(|(namespace, name, uid)| {
            *namespace == claim.namespace && *name == claim.name && (uid.is_empty() || *uid == claim.uid)
        });
        if (volume.claim.is_some() && !kept)
            || taken.iter().any(|(_, v)| v.name == volume.name)
            || volume.capacity < claim.request
            || volume.volume_mode != claim.volume_mode
            || volume.attributes_class != claim.attributes_class
            || volume.terminating
        {
            continue;
        }
        if kept {
            return reaches(volume, node).then_some(volume);
        }
        let fits = volume.phase == "Available"
            && claim.selector.as_ref().is_none_or(|s| s.matches(&volume.labels))
            && reaches(volume, node)
            && claim.access_modes.iter().all(|m| volume.access_modes.contains(m));
        if fits && best.is_none_or(|b| volume.capacity < b.capacity) {
            best = Some(volume);
        }
    }
    best
}

/// Whether the claim's class can make a volume for the node.
fn provisions(storage: &Storage, claim: &Claim, node: &Node) -> Result<(), &'static str> {
    let Some(class) = storage.class(&claim.class) else {
        return Err(NOT_BINDABLE);
    };
    let here = class.topologies.is_empty()
        || class.topologies.iter().any(|term| {
            term.iter()
                .all(|(key, values)| node.labels.get(key).is_some_and(|v| values.contains(v)))
        });
    if class.provisioner.is_empty() || class.provisioner == "kubernetes.io/no-provisioner" || !here {
        return Err(NOT_BINDABLE);
    }
    let tells = storage
        .driver(&class.provisioner)
        .is_some_and(|d| d.storage_capacity);
    let room = || {
        storage
            .capacities(&class.name)
            .any(|c| c.largest.is_some_and(|l| l >= claim.request) && c.nodes.matches(&node.labels))
    };
    if tells && !room() { Err(NO_ROOM) } else { Ok(()) }
}

fn plan(storage: &Storage, claims: &Claims, node: &Node) -> Result<Plan, Rejection> {
    let mut reasons = smallvec![];
    for claim in &claims.bound {
        let volume = claim.volume.as_ref().and_then(|name| storage.volume(name));
        let reason = match volume {
            None => NO_VOLUME,
            Some(volume) if !reaches(volume, node) => ELSEWHERE,
            Some(_) => continue,
        };
        if !reasons.contains(&reason.into()) {
            reasons.push(reason.into());
        }
        break;
    }
    let mut plan = Plan::default();
    for claim in &claims.waiting {
        let outcome = match &claim.selected_node {
            Some(selected) if *selected != node.name => Err(NOT_BINDABLE),
            Some(_) => provisions(storage, claim, node).map(|()| plan.provision.push(claim.clone())),
            None => match matching(storage, claim, node, &plan.bind) {
                Some(volume) => {
                    plan.bind.push((claim.clone(), volume.clone()));
                    Ok(())
                }
                None => provisions(storage, claim, node).map(|()| plan.provision.push(claim.clone())),
            },
        };
        if let Err(reason) = outcome {
            reasons.push(reason.into());
            break;
        }
    }
    if reasons.is_empty() {
        return Ok(plan);
    }
    Err(Rejection {
        reasons,
        ..Rejection::unresolvable("")
    })
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter, Point::Reserve, Point::PreBind])
    }

    fn interests(&self) -> Interest {
        Interest::CLASS
            .and(Interest::CLAIM)
            .and(Interest::VOLUME)
            .and(Interest::NODE_ADD)
            .and(Interest::NODE_LABEL)
            .and(Interest::CSI_NODE)
            .and(Interest::CSI_DRIVER)
            .and(Interest::CAPACITY)
    }

    fn hint(&self, cx: Context<'_>, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::Claim(_, claim) => {
                claim.namespace == *pod.namespace() && pod.claims().any(|(name, _)| name == claim.name)
            }
            ClusterEvent::Class(old, new) => {
                old.is_none_or(|old| old.topologies != new.topologies)
                    && pod.claims().any(|(name, _)| {
                        let claim = cx.snapshot.storage.claim(pod.namespace(), &name);
                        claim.is_none_or(|c| c.class == new.name)
                    })
            }
            ClusterEvent::CsiDriver(old, new) => {
                old.is_some_and(|old| old.storage_capacity) && !new.storage_capacity
            }
            ClusterEvent::Capacity(old, new) => old.is_none_or(|old| old.largest < new.largest),
            _ => true,
        }
    }

    fn pre_filter(&self, cx: Context<'_>, pod: &Pod) -> PreFilter {
        if pod.claims().next().is_none() {
            return PreFilter::Skip;
        }
        match claims(&cx.snapshot.storage, pod) {
            Ok(claims) => PreFilter::Run(Some(Box::new(claims))),
            Err(rejection) => PreFilter::Reject(rejection),
        }
    }

    fn filter(
        &self,
        cx: Context<'_>,
        state: Option<&dyn State>,
        _: &Pod,
        info: &NodeInfo,
    ) -> Result<(), Rejection> {
        match (own::<Claims>(state), &info.node) {
            (Some(claims), Some(node)) => plan(&cx.snapshot.storage, claims, node).map(drop),
            _ => Ok(()),
        }
    }

    fn reserve(
        &self,
        snapshot: &mut Snapshot,
        state: Option<&dyn State>,
        _: &Pod,
        name: &Str,
    ) -> Result<Vec<PreBindAction>, Rejection> {
        let node = snapshot.node(name).and_then(|info| info.node.clone());
        let (Some(claims), Some(node)) = (own::<Claims>(state), node) else {
            return Ok(Vec::new());
        };
        let Plan { bind, provision } = plan(&snapshot.storage, claims, &node)?;
        let mut actions = Vec::new();
        let mut awaited = Vec::new();
        for (claim, volume) in bind {
            snapshot.storage.assume_volume(Volume {
                claim: Some((claim.namespace.clone(), claim.name.clone(), claim.uid.clone())),
                ..volume.as_ref().clone()
            });
            awaited.push(claim.clone());
            actions.push(PreBindAction::BindVolume { volume, claim });
        }
        for claim in provision {
            awaited.push(claim.clone());
            if claim.selected_node.is_none() {
                snapshot.storage.assume_claim(Claim {
                    selected_node: Some(name.clone()),
                    ..claim.as_ref().clone()
                });
                actions.push(PreBindAction::SelectNode {
                    claim,
                    node: name.clone(),
                });
            }
        }
        if !awaited.is_empty() {
            actions.push(PreBindAction::AwaitBound {
                claims: awaited,
                node: name.clone(),
                timeout: self.timeout,
            });
        }
        Ok(actions)
    }

    fn unreserve(&self, snapshot: &mut Snapshot, actions: &[PreBindAction]) {
        for action in actions {
            match action {
                PreBindAction::BindVolume { volume, .. } => snapshot.storage.restore_volume(&volume.name),
                PreBindAction::SelectNode { claim, .. } => {
                    let key = (claim.namespace.clone(), claim.name.clone());
                    snapshot.storage.restore_claim(&key);
                }
                PreBindAction::AwaitBound { .. } => {}
            }
        }
    }
}
