//! What all pod workers of a node share.

use crate::backoff::Backoff;
use crate::cgroups::Cgroups;
use crate::devices::Devices;
use crate::images::Images;
use crate::objects::Objects;
use crate::resources::LimitRules;
use crate::resources::ResourceList;
use crate::runtime::cri::Cri;
use crate::runtime::sandbox::DnsSettings;
use crate::userns::IdMaps;
use crate::volumes::Volumes;
use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::{Pod, Service};
use parking_lot::Mutex;
use rutter_client::events::{EventType, Recorder, reference};
use rutter_client::informer::Store;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::Notify;

/// Settings that don't change while the kubelet runs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) node_name: String,
    pub(crate) root: PathBuf,
    pub(crate) pod_logs: PathBuf,
    pub(crate) container_logs: PathBuf,
    pub(crate) dns: DnsSettings,
    pub(crate) limits: LimitRules,
    pub(crate) pod_pids_limit: Option<i64>,
    pub(crate) seccomp_default: bool,
    pub(crate) allocatable: ResourceList,
    pub(crate) runtime_name: String,
    /// Why the runtime can't mount images as volumes; none when it can.
    pub(crate) no_image_volumes: Option<String>,
    pub(crate) resync_seconds: u64,
    pub(crate) max_crash_backoff_seconds: i64,
}

/// What workers share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) cri: Cri,
    pub(crate) client: kube::Client,
    pub(crate) recorder: Recorder,
    pub(crate) objects: Objects,
    pub(crate) volumes: Volumes,
    pub(crate) images: Images,
    pub(crate) cgroups: Cgroups,
    pub(crate) id_maps: IdMaps,
    pub(crate) devices: Devices,
    /// Told when the network has become ready.
    pub(crate) network_changed: Notify,
    pub(crate) services: Store<Service>,
    pub(crate) host_ips: ArcSwap<Vec<String>>,
    pub(crate) network_ready: ArcSwap<Option<String>>,
    pub(crate) crash_backoff: Mutex<Backoff>,
    /// Runtime handlers that the runtime says can do user namespaces.
    pub(crate) user_namespaces: AtomicBool,
}

impl Shared {
    /// Tells about a pod.
    pub(crate) fn event(&self, pod: &Pod, warning: bool, reason: &str, message: impl Into<String>) {
        self.recorder.event(pod, kind(warning), reason, message);
    }

    /// Tells about a container of a pod.
    pub(crate) fn container_event(
        &self,
        pod: &Pod,
        group: &str,
        container: &str,
        warning: bool,
        reason: &str,
        message: impl Into<String>,
    ) {
        let mut about = reference(pod);
        about.field_path = Some(format!("spec.{group}{{{container}}}"));
        self.recorder.about(about, kind(warning), reason, message);
    }

    /// The node's addresses.
    pub(crate) fn host_ips(&self) -> Arc<Vec<String>> {
        self.host_ips.load_full()
    }
}

fn kind(warning: bool) -> EventType {
    if warning {
        EventType::Warning
    } else {
        EventType::Normal
    }
}
