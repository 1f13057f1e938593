//! NodeVolumeLimits: a node takes as many volumes of a CSI driver as the driver says.

use crate::framework::{ClusterEvent, Context, Interest, Plugin, Point, Points, PreFilter, Rejection, State};
use crate::model::{Pod, Str};
use crate::snapshot::{NodeInfo, Storage};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
pub struct NodeVolumeLimits;

type Attached = BTreeSet<(Str, Str)>;

/// Driver and handle of the volumes that a pod's claims mean. A claim that has none yet counts under its own name.
fn volumes(storage: &Storage, pod: &Pod, all: &mut Attached) -> Result<(), Str> {
    for (name, _) in pod.claims() {
        let Some(claim) = storage.claim(pod.namespace(), &name) else {
            return Err(name);
        };
        match claim.volume.as_ref().map(|v| storage.volume(v)) {
            Some(Some(volume)) => all.extend(volume.csi.clone()),
            _ => {
                if let Some(class) = storage.class(&claim.class) {
                    let handle = Str::new(&format!("{}/{}", claim.namespace, claim.name));
                    all.insert((class.provisioner.clone(), handle));
                }
            }
        }
    }
    Ok(())
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter])
    }

    fn interests(&self) -> Interest {
        Interest::CSI_NODE
            .and(Interest::POD_DELETE)
            .and(Interest::CLAIM)
            .and(Interest::DETACHED)
    }

    fn hint(&self, _: Context<'_>, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::PodDeleted(gone) => gone.node.is_some() && gone.claims().next().is_some(),
            ClusterEvent::Claim(_, claim) => {
                claim.namespace == *pod.namespace() && pod.claims().any(|(name, _)| name == claim.name)
            }
            ClusterEvent::CsiNode(old, new) => {
                let limit = |node: &crate::model::volume::CsiNode, driver: &Str| {
                    node.drivers
                        .iter()
                        .find(|(d, _)| d == driver)
                        .and_then(|(_, n)| *n)
                };
                old.is_none_or(|old| {
                    new.drivers
                        .iter()
                        .any(|(driver, count)| *count != limit(old, driver))
                })
            }
            _ => true,
        }
    }

    fn pre_filter(&self, _: Context<'_>, pod: &Pod) -> PreFilter {
        if pod.claims().next().is_none() {
            PreFilter::Skip
        } else {
            PreFilter::Run(None)
        }
    }

    fn filter(
        &self,
        cx: Context<'_>,
        _: Option<&dyn State>,
        pod: &Pod,
        info: &NodeInfo,
    ) -> Result<(), Rejection> {
        let storage = &cx.snapshot.storage;
        let Some(node) = &info.node else { return Ok(()) };
        let mut new = Attached::new();
        if let Err(name) = volumes(storage, pod, &mut new) {
            return Err(Rejection::unresolvable(format!(
                "looking up PVC {}/{name}: persistentvolumeclaim \"{name}\" not found",
                pod.namespace()
            )));
        }
        let limits = storage
            .csi_node(&node.name)
            .map(|n| n.drivers.as_slice())
            .unwrap_or_default();
        if new.is_empty() || limits.iter().all(|(_, count)| count.is_none()) {
            return Ok(());
        }
        let mut attached = Attached::new();
        for other in &info.pods {
            // A claim that is gone holds nothing.
            let _ = volumes(storage, other, &mut attached);
        }
        for name in storage.attached(&node.name) {
            attached.extend(storage.volume(name).and_then(|v| v.csi.clone()));
        }
        let mut counts: BTreeMap<&Str, i64> = BTreeMap::new();
        for (driver, _) in attached.iter().chain(new.difference(&attached)) {
            *counts.entry(driver).or_default() += 1;
        }
        let exceeds = new.difference(&attached).any(|(driver, _)| {
            let limit = limits
                .iter()
                .find(|(d, _)| d == driver)
                .and_then(|(_, count)| *count);
            limit.is_some_and(|limit| counts.get(driver).is_some_and(|count| *count > limit))
        });
        if exceeds {
            return Err(Rejection::unschedulable("node(s) exceed max volume count"));
        }
        Ok(())
    }
}
