//! Device plugins (v1beta1): what they offer becomes resources of the node, and containers that ask for those get single devices.
//!
//! Which devices a container has is decided when its pod is let in and written down before anything is started, so that no device is
//! given twice however often the kubelet restarts. What a device needs in a container (nodes, mounts, variables) is asked of its plugin
//! each time the container starts. `pick` and `Ledger` are pure; `server` talks to plugins.

pub(crate) mod server;

use crate::pods::{PodExt, Uid, is_sidecar};
use crate::resources::{ResourceList, units, value_of};
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use rutter_proto::deviceplugin::device_plugin_client::DevicePluginClient;
use rutter_proto::deviceplugin::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse, DevicePluginOptions,
    PreStartContainerRequest,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Notify;
use tonic::transport::Channel;

/// Device ids.
type Ids = BTreeSet<String>;

/// Who has which devices: pod, container, resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Ledger {
    pods: BTreeMap<String, BTreeMap<String, BTreeMap<String, Ids>>>,
}

impl Ledger {
    fn taken(&self, resource: &str) -> Ids {
        self.pods
            .values()
            .flat_map(BTreeMap::values)
            .filter_map(|by_resource| by_resource.get(resource))
            .flatten()
            .cloned()
            .collect()
    }
}

/// One resource that a plugin offers.
#[derive(Clone, Default)]
struct Offer {
    healthy: Ids,
    unhealthy: Ids,
    options: DevicePluginOptions,
    plugin: Option<DevicePluginClient<Channel>>,
    /// Counts registrations, so that the end of an old plugin doesn't touch its successor.
    generation: u64,
}

#[derive(Default)]
struct State {
    offers: BTreeMap<String, Offer>,
    ledger: Ledger,
}

/// The device plugins of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Devices {
    dir: PathBuf,
    state: Arc<Mutex<State>>,
    /// Told of every change of what the node has.
    changed: Arc<Notify>,
}

/// What a container's configuration gets for its devices.
#[derive(Clone, Debug, Default)]
pub(crate) struct Equipment {
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) mounts: Vec<rutter_proto::cri::Mount>,
    pub(crate) devices: Vec<rutter_proto::cri::Device>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) cdi_devices: Vec<String>,
}

/// A container's demands for extended resources.
fn demands(container: &Container) -> impl Iterator<Item = (&String, usize)> {
    let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
    limits
        .into_iter()
        .flat_map(|list| list.keys().map(move |name| (name, value_of(Some(list), name))))
        .filter(|(name, _)| name.contains('/'))
        .filter_map(|(name, count)| Some((name, usize::try_from(count?).ok().filter(|c| *c > 0)?)))
}

/// Picks devices: first those that the pod's finished init containers had, then free ones. Errors say how many there were.
fn pick(wanted: usize, reusable: &Ids, healthy: &Ids, taken: &Ids) -> Result<Ids, usize> {
    let mut out: Ids = reusable.intersection(healthy).take(wanted).cloned().collect();
    let free = healthy.difference(taken).filter(|id| !out.contains(*id));
    let more: Vec<String> = free.take(wanted - out.len()).cloned().collect();
    out.extend(more);
    if out.len() < wanted {
        return Err(out.len());
    }
    Ok(out)
}

impl Devices {
    /// Device plugins below the kubelet's folder; what was given before is read from there.
    pub(crate) fn new(root: &Path, changed: Arc<Notify>) -> Self {
        let dir = root.join("device-plugins");
        let ledger = std::fs::read(dir.join("allocations.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let state = State {
            offers: BTreeMap::new(),
            ledger,
        };
        Self {
            dir,
            state: Arc::new(Mutex::new(state)),
            changed,
        }
    }

    fn save(&self, ledger: &Ledger) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let next = self.dir.join("allocations.next");
        std::fs::write(&next, serde_json::to_vec(ledger)?)?;
        std::fs::rename(next, self.dir.join("allocations.json"))
    }

    /// Capacity and allocatable amounts of all resources that plugins offer, gone ones as zero.
    pub(crate) fn amounts(&self) -> (ResourceList, ResourceList) {
        let state = self.state.lock();
        let list = |count: fn(&Offer) -> usize| -> ResourceList {
            let amount = |o| units(i64::try_from(count(o)).unwrap_or(i64::MAX));
            state.offers.iter().map(|(n, o)| (n.clone(), amount(o))).collect()
        };
        (
            list(|o| o.healthy.len() + o.unhealthy.len()),
            list(|o| o.healthy.len()),
        )
    }

    /// Sets devices aside for a pod; the same ones when it has some already. An error says why the pod can't run here.
    pub(crate) fn admit(&self, pod: &Pod) -> Result<(), String> {
        let mut guard = self.state.lock();
        let State { offers, ledger } = &mut *guard;
        let uid = pod.uid().to_string();
        let before = ledger.clone();
        let mut reusable: BTreeMap<String, Ids> = BTreeMap::new();
        let init = pod.init_containers().iter().map(|c| (c, !is_sidecar(c)));
        let regular = pod.spec().containers.iter().map(|c| (c, false));
        let mut problem = None;
        'all: for (container, ends_first) in init.chain(regular) {
            for (resource, wanted) in demands(container) {
                let Some(offer) = offers.get(resource) else {
                    continue;
                };
                let has = ledger
                    .pods
                    .get(&uid)
                    .and_then(|p| p.get(&container.name))
                    .and_then(|c| c.get(resource));
                let picked = match has {
                    Some(ids) => ids.clone(),
                    None => {
                        let own = reusable.get(resource).cloned().unwrap_or_default();
                        match pick(wanted, &own, &offer.healthy, &ledger.taken(resource)) {
                            Ok(ids) => ids,
                            Err(available) => {
                                problem = Some(format!(
                                    "Allocate failed due to requested number of devices unavailable for {resource}. Requested: {wanted}, Available: {available}, which is unexpected"
                                ));
                                break 'all;
                            }
                        }
                    }
                };
                let left = reusable.entry(resource.clone()).or_default();
                if ends_first {
                    left.extend(picked.iter().cloned());
                } else {
                    left.retain(|id| !picked.contains(id));
                }
                ledger
                    .pods
                    .entry(uid.clone())
                    .or_default()
                    .entry(container.name.clone())
                    .or_default()
                    .insert(resource.clone(), picked);
            }
        }
        if problem.is_none() && *ledger != before {
            problem = self
                .save(ledger)
                .err()
                .map(|e| format!("remembering the pod's devices failed: {e}"));
        }
        match problem {
            Some(problem) => {
                *ledger = before;
                Err(problem)
            }
            None => Ok(()),
        }
    }

    /// Takes a pod's devices back.
    pub(crate) fn release(&self, uid: &Uid) {
        let mut state = self.state.lock();
        if state.ledger.pods.remove(uid.as_str()).is_some()
            && let Err(error) = self.save(&state.ledger)
        {
            tracing::warn!(%uid, %error, "forgetting a pod's devices failed");
        }
    }

    /// Asks the plugins for what a container needs for its devices.
    pub(crate) async fn equip(&self, uid: &Uid, container: &str) -> Result<Equipment, String> {
        let wanted: Vec<(String, Ids, Offer)> = {
            let state = self.state.lock();
            let by_resource = state.ledger.pods.get(uid.as_str()).and_then(|p| p.get(container));
            by_resource
                .into_iter()
                .flatten()
                .map(|(resource, ids)| {
                    let offer = state.offers.get(resource).cloned().unwrap_or_default();
                    (resource.clone(), ids.clone(), offer)
                })
                .collect()
        };
        let mut out = Equipment::default();
        for (resource, ids, offer) in wanted {
            let mut plugin = offer
                .plugin
                .ok_or_else(|| format!("the device plugin for {resource} isn't connected"))?;
            let devices_ids: Vec<String> = ids.into_iter().collect();
            let request = AllocateRequest {
                container_requests: vec![ContainerAllocateRequest {
                    devices_ids: devices_ids.clone(),
                }],
            };
            let failed = |call: &str, status: &tonic::Status| {
                format!("device plugin for {resource}: {call}: {}", status.message())
            };
            let answer = plugin
                .allocate(request)
                .await
                .map_err(|s| failed("Allocate", &s))?
                .into_inner();
            for response in answer.container_responses {
                out.add(response);
            }
            if offer.options.pre_start_required {
                plugin
                    .pre_start_container(PreStartContainerRequest { devices_ids })
                    .await
                    .map_err(|s| failed("PreStartContainer", &s))?;
            }
        }
        Ok(out)
    }
}

impl Equipment {
    fn add(&mut self, response: ContainerAllocateResponse) {
        self.environment.extend(response.envs);
        self.mounts
            .extend(response.mounts.into_iter().map(|m| rutter_proto::cri::Mount {
                container_path: m.container_path,
                host_path: m.host_path,
                readonly: m.read_only,
                ..rutter_proto::cri::Mount::default()
            }));
        self.devices
            .extend(response.devices.into_iter().map(|d| rutter_proto::cri::Device {
                container_path: d.container_path,
                host_path: d.host_path,
                permissions: d.permissions,
            }));
        self.annotations.extend(response.annotations);
        self.cdi_devices
            .extend(response.cdi_devices.into_iter().map(|d| d.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn ids(text: &str) -> Ids {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_pods_own_devices_are_used_again_before_free_ones() {
        for (wanted, reusable, healthy, taken, result) in [
            (1, "", "a b", "", Ok("a")),
            (1, "", "a b", "a", Ok("b")),
            (2, "a", "a b c", "a b", Ok("a c")),
            (1, "", "a", "a", Err(0)),
            (2, "x", "a", "x", Err(1)),
        ] {
            let picked = pick(wanted, &ids(reusable), &ids(healthy), &ids(taken));
            assert_eq!(picked, result.map(ids), "{wanted} of {healthy}, taken {taken}");
        }
    }

    fn pod(uid: &str, init: usize, regular: usize) -> Pod {
        let container = |name: &str, count: usize| -> Value {
            json!({"name": name, "resources": {"limits": {"example.com/gpu": count.to_string(), "cpu": "1"}}})
        };
        serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": {
            "initContainers": [container("init", init)], "containers": [container("main", regular)]}}))
        .expect("a pod")
    }

    #[test]
    fn no_device_is_given_twice_and_restarts_change_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let devices = || {
            let devices = Devices::new(dir.path(), Arc::default());
            let offer = Offer {
                healthy: ids("a b c"),
                unhealthy: ids("d"),
                ..Offer::default()
            };
            devices
                .state
                .lock()
                .offers
                .insert("example.com/gpu".into(), offer);
            devices
        };
        let first = devices();
        first.admit(&pod("p", 1, 2)).expect("room");
        let refused = first.admit(&pod("q", 0, 2)).expect_err("no room");
        assert!(refused.contains("Requested: 2, Available: 1"), "{refused}");
        first.admit(&pod("r", 0, 1)).expect("room");
        let again = devices();
        again.admit(&pod("p", 1, 2)).expect("what it has");
        assert_eq!(first.state.lock().ledger, again.state.lock().ledger);
        assert!(again.admit(&pod("q", 0, 1)).is_err());
        again.release(&Uid::new("p"));
        again.admit(&pod("q", 0, 2)).expect("room");
        let (capacity, allocatable) = again.amounts();
        assert_eq!(capacity["example.com/gpu"].0, "4");
        assert_eq!(allocatable["example.com/gpu"].0, "3");
    }
}
