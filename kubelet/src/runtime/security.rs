//! Security contexts as the runtime wants them: the pod's and the container's merged, namespaces, seccomp, paths hidden in /proc. Pure.

use crate::pods::PodExt;
use crate::userns::IdMap;
use k8s_openapi::api::core::v1::{Container, Pod, SELinuxOptions, SeccompProfile, SecurityContext};
use rutter_proto::cri::security_profile::ProfileType;
use rutter_proto::cri::{
    Capability, Int64Value, LinuxContainerSecurityContext, NamespaceMode, NamespaceOption, SeLinuxOption,
    SecurityProfile, SupplementalGroupsPolicy,
};

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Where Localhost seccomp profiles are, below the kubelet's root.
pub(crate) const SECCOMP_DIR: &str = "/var/lib/kubelet/seccomp";

/// The container's security context over the pod's.
pub(crate) fn effective(pod: &Pod, container: &Container) -> SecurityContext {
    let mut out = container.security_context.clone().unwrap_or_default();
    if let Some(own) = &pod.spec().security_context {
        out.run_as_user = out.run_as_user.or(own.run_as_user);
        out.run_as_group = out.run_as_group.or(own.run_as_group);
        out.run_as_non_root = out.run_as_non_root.or(own.run_as_non_root);
        out.se_linux_options = out.se_linux_options.or_else(|| own.se_linux_options.clone());
        out.seccomp_profile = out.seccomp_profile.or_else(|| own.seccomp_profile.clone());
        out.app_armor_profile = out.app_armor_profile.or_else(|| own.app_armor_profile.clone());
    }
    out
}

/// Which namespaces the pod's containers share with the node or each other.
pub(crate) fn namespaces(pod: &Pod, ids: Option<IdMap>) -> NamespaceOption {
    let spec = pod.spec();
    let node = |host: Option<bool>| {
        if host == Some(true) {
            NamespaceMode::Node
        } else {
            NamespaceMode::Pod
        }
    };
    let pid = if spec.host_pid == Some(true) {
        NamespaceMode::Node
    } else if spec.share_process_namespace == Some(true) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: node(spec.host_network).into(),
        pid: pid.into(),
        ipc: node(spec.host_ipc).into(),
        userns_options: ids.map(IdMap::options),
        ..NamespaceOption::default()
    }
}

/// SELinux labels.
pub(crate) fn selinux(options: &SELinuxOptions) -> SeLinuxOption {
    let text = |v: &Option<String>| v.clone().unwrap_or_default();
    SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

/// How supplemental groups combine with the image's.
pub(crate) fn groups_policy(pod: &Pod) -> i32 {
    match pod
        .spec()
        .security_context
        .as_ref()
        .and_then(|s| s.supplemental_groups_policy.as_deref())
    {
        Some("Strict") => SupplementalGroupsPolicy::Strict.into(),
        _ => SupplementalGroupsPolicy::Merge.into(),
    }
}

fn profile(kind: ProfileType, path: String) -> SecurityProfile {
    SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: path,
    }
}

fn seccomp(own: Option<&SeccompProfile>, default: ProfileType) -> SecurityProfile {
    match own.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
        Some(("RuntimeDefault", _)) => profile(ProfileType::RuntimeDefault, String::new()),
        Some(("Localhost", Some(path))) => profile(ProfileType::Localhost, format!("{SECCOMP_DIR}/{path}")),
        Some(_) => profile(ProfileType::Unconfined, String::new()),
        None => profile(default, String::new()),
    }
}

/// The sandbox's seccomp profile: confined by default, since nothing of the user's runs in it.
pub(crate) fn sandbox_seccomp(pod: &Pod, privileged: bool) -> SecurityProfile {
    if privileged {
        return profile(ProfileType::Unconfined, String::new());
    }
    seccomp(
        pod.spec()
            .security_context
            .as_ref()
            .and_then(|s| s.seccomp_profile.as_ref()),
        ProfileType::RuntimeDefault,
    )
}

fn apparmor(sc: &SecurityContext) -> Option<SecurityProfile> {
    let own = sc.app_armor_profile.as_ref()?;
    Some(match own.type_.as_str() {
        "Localhost" => profile(
            ProfileType::Localhost,
            own.localhost_profile.clone().unwrap_or_default(),
        ),
        "Unconfined" => profile(ProfileType::Unconfined, String::new()),
        _ => profile(ProfileType::RuntimeDefault, String::new()),
    })
}

/// The user that an image says it runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageUser {
    pub(crate) uid: Option<i64>,
    pub(crate) username: String,
}

/// Why a container that must not run as root isn't started.
pub(crate) fn check_non_root(
    sc: &SecurityContext,
    image: &ImageUser,
    pod: &Pod,
    container: &str,
) -> Result<(), String> {
    if sc.run_as_non_root != Some(true) {
        return Ok(());
    }
    let at = format!(
        "(pod: \"{}_{}({})\", container: {container})",
        pod.name(),
        pod.namespace(),
        pod.uid()
    );
    match (sc.run_as_user, image.uid, image.username.as_str()) {
        (Some(0), ..) => Err(format!("container's runAsUser breaks non-root policy {at}")),
        (Some(_), ..) => Ok(()),
        (None, Some(0), _) => Err(format!(
            "container has runAsNonRoot and image will run as root {at}"
        )),
        (None, None, name) if !name.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {at}"
        )),
        _ => Ok(()),
    }
}

/// A container's security context for the runtime.
pub(crate) fn container_context(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    target: Option<&str>,
    ids: Option<IdMap>,
    seccomp_default: bool,
) -> LinuxContainerSecurityContext {
    let sc = effective(pod, container);
    let own = pod.spec().security_context.as_ref();
    let mut groups: Vec<i64> = own.and_then(|s| s.fs_group).into_iter().collect();
    groups.extend(own.iter().flat_map(|s| s.supplemental_groups.iter().flatten()));
    let privileged = sc.privileged == Some(true);
    let mut namespace_options = namespaces(pod, ids);
    if let Some(id) = target.filter(|_| namespace_options.pid == i32::from(NamespaceMode::Container)) {
        namespace_options.pid = NamespaceMode::Target.into();
        namespace_options.target_id = id.to_owned();
    }
    let hidden = sc.proc_mount.as_deref() != Some("Unmasked");
    let paths = |list: &[&str]| {
        if hidden {
            list.iter().map(|p| (*p).to_owned()).collect()
        } else {
            Vec::new()
        }
    };
    let default = if seccomp_default {
        ProfileType::RuntimeDefault
    } else {
        ProfileType::Unconfined
    };
    LinuxContainerSecurityContext {
        capabilities: sc.capabilities.as_ref().map(|c| Capability {
            add_capabilities: c.add.clone().unwrap_or_default(),
            drop_capabilities: c.drop.clone().unwrap_or_default(),
            ..Capability::default()
        }),
        privileged,
        namespace_options: Some(namespace_options),
        selinux_options: sc.se_linux_options.as_ref().map(selinux),
        run_as_user: sc.run_as_user.or(image.uid).map(|value| Int64Value { value }),
        run_as_group: sc.run_as_group.map(|value| Int64Value { value }),
        run_as_username: if sc.run_as_user.is_none() {
            image.username.clone()
        } else {
            String::new()
        },
        readonly_rootfs: sc.read_only_root_filesystem == Some(true),
        supplemental_groups: groups,
        supplemental_groups_policy: groups_policy(pod),
        no_new_privs: sc.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(if privileged && sc.seccomp_profile.is_none() {
            profile(ProfileType::Unconfined, String::new())
        } else {
            seccomp(sc.seccomp_profile.as_ref(), default)
        }),
        apparmor: apparmor(&sc),
        ..LinuxContainerSecurityContext::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_container_context_wins_over_the_pods() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "securityContext": {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [7]},
            "containers": [{"name": "a", "securityContext": {"runAsUser": 5, "allowPrivilegeEscalation": false}}]}}))
        .expect("a pod");
        let sc = container_context(
            &pod,
            &pod.spec().containers[0],
            &ImageUser::default(),
            None,
            None,
            false,
        );
        assert_eq!(sc.run_as_user.map(|v| v.value), Some(5));
        assert_eq!(sc.run_as_group.map(|v| v.value), Some(3000));
        assert_eq!(sc.supplemental_groups, [2000, 7]);
        assert!(sc.no_new_privs);
        assert_eq!(sc.masked_paths.len(), MASKED.len());
    }

    #[test]
    fn containers_that_must_not_be_root_are_refused_when_they_would_be() {
        let pod = Pod::default();
        let must = SecurityContext {
            run_as_non_root: Some(true),
            ..SecurityContext::default()
        };
        let user = |uid, name: &str| ImageUser {
            uid,
            username: name.to_owned(),
        };
        assert!(check_non_root(&must, &user(Some(0), ""), &pod, "c").is_err());
        assert!(check_non_root(&must, &user(None, "www"), &pod, "c").is_err());
        assert!(check_non_root(&must, &user(Some(33), ""), &pod, "c").is_ok());
        let chosen = SecurityContext {
            run_as_user: Some(0),
            ..must.clone()
        };
        assert!(check_non_root(&chosen, &user(Some(33), ""), &pod, "c").is_err());
        assert!(check_non_root(&SecurityContext::default(), &user(Some(0), ""), &pod, "c").is_ok());
    }
}
