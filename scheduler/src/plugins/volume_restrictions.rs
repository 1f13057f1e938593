//! VolumeRestrictions: disks that only one pod on a node may have, and claims that only one pod may use at all.

use crate::framework::{
    ClusterEvent, Context, Interest, Plugin, Point, Points, PreFilter, Rejection, State, own,
};
use crate::model::template::{PodVolume, Template};
use crate::model::{Pod, Str};
use crate::snapshot::NodeInfo;

/// See the module.
pub struct VolumeRestrictions;

#[derive(Clone)]
struct Exclusive {
    claims: Vec<Str>,
    others: i64,
}

fn conflict(a: &PodVolume, b: &PodVolume) -> bool {
    use PodVolume::{Ebs, Gce, Iscsi, Rbd};
    match (a, b) {
        (
            Gce { disk, read_only },
            Gce {
                disk: other,
                read_only: too,
            },
        ) => disk == other && !(*read_only && *too),
        (Ebs(a), Ebs(b)) => a == b,
        (
            Iscsi { iqn, read_only },
            Iscsi {
                iqn: other,
                read_only: too,
            },
        ) => iqn == other && !(*read_only && *too),
        (
            Rbd {
                monitors,
                pool,
                image,
                read_only,
            },
            Rbd {
                monitors: m,
                pool: p,
                image: i,
                read_only: too,
            },
        ) => monitors.iter().any(|x| m.contains(x)) && pool == p && image == i && !(*read_only && *too),
        _ => false,
    }
}

fn conflicts(a: &Template, b: &Template) -> bool {
    let theirs = &b.wishes().volumes;
    a.wishes()
        .volumes
        .iter()
        .any(|volume| theirs.iter().any(|other| conflict(volume, other)))
}

fn shared(exclusive: &Exclusive, pod: &Pod, other: &Pod) -> i64 {
    if other.namespace() != pod.namespace() {
        return 0;
    }
    let uses = other.template.wishes().volumes.iter();
    let same = uses.filter(|v| matches!(v, PodVolume::Claim(name) if exclusive.claims.contains(name)));
    i64::try_from(same.count()).unwrap_or(i64::MAX)
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter])
    }

    fn interests(&self) -> Interest {
        Interest::POD_DELETE.and(Interest::NODE_ADD).and(Interest::CLAIM)
    }

    fn hint(&self, _: Context<'_>, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::PodDeleted(gone) => {
                gone.namespace() == pod.namespace()
                    && (conflicts(&pod.template, &gone.template)
                        || pod
                            .claims()
                            .any(|(name, _)| gone.claims().any(|(other, _)| other == name)))
            }
            ClusterEvent::Claim(_, claim) => {
                claim.namespace == *pod.namespace() && pod.claims().any(|(name, _)| name == claim.name)
            }
            _ => true,
        }
    }

    fn pre_filter(&self, cx: Context<'_>, pod: &Pod) -> PreFilter {
        let mut exclusive = Exclusive {
            claims: Vec::new(),
            others: 0,
        };
        let mut disks = false;
        for volume in &pod.template.wishes().volumes {
            match volume {
                PodVolume::Claim(name) => {
                    let Some(claim) = cx.snapshot.storage.claim(pod.namespace(), name) else {
                        return PreFilter::Reject(Rejection::unresolvable(format!(
                            "persistentvolumeclaim \"{name}\" not found"
                        )));
                    };
                    if claim.access_modes.iter().any(|m| *m == "ReadWriteOncePod") {
                        exclusive.claims.push(name.clone());
                        exclusive.others += i64::from(cx.snapshot.storage.in_use(pod.namespace(), name));
                    }
                }
                PodVolume::Ephemeral(_) | PodVolume::Csi(_) => {}
                _ => disks = true,
            }
        }
        if !disks && exclusive.others == 0 {
            return PreFilter::Skip;
        }
        PreFilter::Run(Some(Box::new(exclusive)))
    }

    fn add_pod(&self, _: Context<'_>, state: &mut dyn State, pod: &Pod, added: &Pod, _: &NodeInfo) {
        if let Some(exclusive) = state.as_any_mut().downcast_mut::<Exclusive>() {
            exclusive.others += shared(exclusive, pod, added);
        }
    }

    fn remove_pod(&self, _: Context<'_>, state: &mut dyn State, pod: &Pod, removed: &Pod, _: &NodeInfo) {
        if let Some(exclusive) = state.as_any_mut().downcast_mut::<Exclusive>() {
            exclusive.others -= shared(exclusive, pod, removed);
        }
    }

    fn filter(
        &self,
        _: Context<'_>,
        state: Option<&dyn State>,
        pod: &Pod,
        info: &NodeInfo,
    ) -> Result<(), Rejection> {
        if info.pods.iter().any(|p| conflicts(&pod.template, &p.template)) {
            return Err(Rejection::unschedulable("node(s) had no available disk"));
        }
        if own::<Exclusive>(state).is_some_and(|e| e.others > 0) {
            return Err(Rejection::unschedulable(
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
            ));
        }
        Ok(())
    }
}
