//! The configuration of a container. Pure.

use super::{labels, security};
use crate::devices::Equipment;
use crate::env::expand;
use crate::resources::{LimitRules, container_resources};
use crate::userns::IdMap;
use k8s_openapi::api::core::v1::{Container, Pod};
use rutter_proto::cri::{
    CdiDevice, ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, Mount, Signal,
};

/// What a container's configuration is made from, beside pod and container.
pub(crate) struct ContainerInputs<'a> {
    pub(crate) restarts: i32,
    /// The runtime's name for the image.
    pub(crate) image_ref: String,
    pub(crate) image_user: security::ImageUser,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) mounts: Vec<Mount>,
    /// What device plugins want the container to have.
    pub(crate) equipment: Equipment,
    /// For ephemeral containers: whose processes it sees.
    pub(crate) target: Option<&'a str>,
    /// The ids of the pod's user namespace, if it has one.
    pub(crate) ids: Option<IdMap>,
    pub(crate) rules: &'a LimitRules,
    pub(crate) seccomp_default: bool,
}

/// The container's log file below the pod's log folder.
pub(crate) fn log_path(container: &str, restarts: i32) -> String {
    format!("{container}/{restarts}.log")
}

/// The container's configuration.
pub(crate) fn container_config(
    pod: &Pod,
    container: &Container,
    inputs: ContainerInputs<'_>,
) -> ContainerConfig {
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        let value = |name: &str| {
            inputs
                .environment
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.clone())
        };
        list.iter().flatten().map(|text| expand(text, &value)).collect()
    };
    let equipment = inputs.equipment;
    let mut mounts = inputs.mounts;
    mounts.extend(equipment.mounts);
    let mut annotations = labels::container_annotations(pod, container, inputs.restarts);
    annotations.extend(equipment.annotations);
    let image = container.image.clone().unwrap_or_default();
    let stop_signal = container
        .lifecycle
        .as_ref()
        .and_then(|l| l.stop_signal.as_deref())
        .and_then(Signal::from_str_name)
        .unwrap_or(Signal::RuntimeDefault);
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: container.name.clone(),
            attempt: u32::try_from(inputs.restarts).unwrap_or(0),
        }),
        image: Some(ImageSpec {
            image: inputs.image_ref,
            user_specified_image: image,
            ..ImageSpec::default()
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        labels: labels::container_labels(pod, container),
        annotations,
        log_path: log_path(&container.name, inputs.restarts),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(LinuxContainerConfig {
            resources: Some(container_resources(pod, container, inputs.rules)),
            security_context: Some(security::container_context(
                pod,
                container,
                &inputs.image_user,
                inputs.target,
                inputs.ids,
                inputs.seccomp_default,
            )),
        }),
        envs: inputs
            .environment
            .into_iter()
            .chain(equipment.environment)
            .map(|(key, value)| KeyValue {
                key,
                value: value.into_bytes(),
            })
            .collect(),
        mounts: mapped(mounts, inputs.ids),
        devices: equipment.devices,
        cdi_devices: equipment
            .cdi_devices
            .into_iter()
            .map(|name| CdiDevice { name })
            .collect(),
        stop_signal: stop_signal.into(),
        ..ContainerConfig::default()
    }
}

/// What is mounted into a user namespace shows its owners as the namespace names them.
fn mapped(mut mounts: Vec<Mount>, ids: Option<IdMap>) -> Vec<Mount> {
    if let Some(ids) = ids {
        for mount in &mut mounts {
            mount.uid_mappings = ids.mappings();
            mount.gid_mappings = ids.mappings();
        }
    }
    mounts
}
