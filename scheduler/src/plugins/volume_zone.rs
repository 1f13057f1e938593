//! VolumeZone: a pod goes to the zone and region that its volumes' labels name.

use crate::framework::{
    ClusterEvent, Context, Interest, Plugin, Point, Points, PreFilter, Rejection, State, own,
};
use crate::model::template::PodVolume;
use crate::model::volume::Volume;
use crate::model::{Pod, Str};
use crate::snapshot::NodeInfo;

const BETA_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const BETA_REGION: &str = "failure-domain.beta.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const LABELS: [&str; 4] = [BETA_ZONE, BETA_REGION, ZONE, REGION];

/// See the module.
pub struct VolumeZone;

/// For each label of a volume: the label, its name today, and the values allowed.
#[derive(Clone)]
struct Zones(Vec<(Str, Str, Vec<Str>)>);

fn zones(volume: &Volume) -> Vec<(Str, Str, Vec<Str>)> {
    LABELS
        .iter()
        .filter_map(|label| {
            let key = Str::new(label);
            let today = match *label {
                BETA_ZONE => Str::new(ZONE),
                BETA_REGION => Str::new(REGION),
                other => Str::new(other),
            };
            let value = volume.labels.get(&key)?;
            // Several zones are joined by two underscores.
            let values: Vec<Str> = value.split("__").map(|v| Str::new(v.trim())).collect();
            values
                .iter()
                .all(|v| !v.is_empty())
                .then_some((key, today, values))
        })
        .collect()
}

fn pod_zones(cx: Context<'_>, pod: &Pod) -> Result<Vec<(Str, Str, Vec<Str>)>, Rejection> {
    let storage = &cx.snapshot.storage;
    let mut all = Vec::new();
    for volume in &pod.template.wishes().volumes {
        let PodVolume::Claim(name) = volume else { continue };
        let Some(claim) = storage.claim(pod.namespace(), name) else {
            return Err(Rejection::unresolvable(format!(
                "persistentvolumeclaim \"{name}\" not found"
            )));
        };
        match &claim.volume {
            Some(name) => match storage.volume(name) {
                Some(volume) => all.extend(zones(volume)),
                None => {
                    return Err(Rejection::unresolvable(format!(
                        "persistentvolume \"{name}\" not found"
                    )));
                }
            },
            None if claim.class.is_empty() => {
                return Err(Rejection::unresolvable(
                    "PersistentVolumeClaim had no pv name and storageClass name",
                ));
            }
            None => match storage.class(&claim.class) {
                Some(class) if class.waits => {}
                Some(_) => return Err(Rejection::unresolvable("PersistentVolume had no name")),
                None => {
                    return Err(Rejection::unresolvable(format!(
                        "storageclass.storage.k8s.io \"{}\" not found",
                        claim.class
                    )));
                }
            },
        }
    }
    Ok(all)
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter])
    }

    fn interests(&self) -> Interest {
        Interest::CLASS
            .and(Interest::NODE_ADD)
            .and(Interest::NODE_LABEL)
            .and(Interest::CLAIM)
            .and(Interest::VOLUME)
    }

    fn hint(&self, _: Context<'_>, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::Claim(_, claim) => {
                claim.namespace == *pod.namespace() && pod.claims().any(|(name, _)| name == claim.name)
            }
            ClusterEvent::Class(old, new) => old.is_none() && new.waits,
            ClusterEvent::Volume(old, new) => old.is_none_or(|old| zones(old) != zones(new)),
            _ => true,
        }
    }

    fn pre_filter(&self, cx: Context<'_>, pod: &Pod) -> PreFilter {
        match pod_zones(cx, pod) {
            Err(rejection) => PreFilter::Reject(rejection),
            Ok(zones) if zones.is_empty() => PreFilter::Skip,
            Ok(zones) => PreFilter::Run(Some(Box::new(Zones(zones)))),
        }
    }

    fn filter(
        &self,
        _: Context<'_>,
        state: Option<&dyn State>,
        _: &Pod,
        info: &NodeInfo,
    ) -> Result<(), Rejection> {
        let (Some(Zones(zones)), Some(node)) = (own(state), &info.node) else {
            return Ok(());
        };
        if !LABELS.iter().any(|l| node.labels.get(&Str::new(l)).is_some()) {
            return Ok(());
        }
        let fits = |(key, today, values): &(Str, Str, Vec<Str>)| {
            let value = node.labels.get(key).or_else(|| node.labels.get(today));
            value.is_some_and(|v| values.contains(v))
        };
        if zones.iter().all(fits) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) had no available volume zone"))
    }
}
