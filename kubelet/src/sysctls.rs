//! Which kernel settings a pod may have: those that reach no further than the pod, and those that the node's owner allows besides. Pure.

use crate::pods::PodExt;
use k8s_openapi::api::core::v1::Pod;

/// Settings of the pod's own namespaces that can't disturb others.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The namespace that a setting belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
    None,
}

fn namespace(name: &str) -> Namespace {
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    if name == "kernel.sem" || ipc.iter().any(|p| name.starts_with(p)) {
        Namespace::Ipc
    } else if name.starts_with("net.") {
        Namespace::Net
    } else {
        Namespace::None
    }
}

/// A setting's name with dots; slashes may stand for them.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes().get(at) == Some(&b'/') => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn allows(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// Whether a setting that the node's owner wants to allow belongs to a namespace at all.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), String> {
    if namespace(&dotted(pattern)) == Namespace::None {
        return Err(format!(
            "the sysctl {pattern:?} is of no namespace and can't be allowed to pods"
        ));
    }
    Ok(())
}

/// Why a pod's settings are refused; `allowed` are the owner's names and patterns ending in `*`.
pub(crate) fn forbidden(pod: &Pod, allowed: &[String]) -> Option<String> {
    let wanted = pod.spec().security_context.as_ref()?.sysctls.as_ref()?;
    wanted.iter().find_map(|sysctl| {
        let name = dotted(&sysctl.name);
        let listed = SAFE.contains(&name.as_str()) || allowed.iter().any(|p| allows(&dotted(p), &name));
        let space = namespace(&name);
        if !listed {
            return Some(format!("forbidden sysctl: {name:?} not allowlisted"));
        }
        if space == Namespace::Net && pod.is_host_network() {
            return Some(format!(
                "forbidden sysctl: {name:?} not allowed with host net enabled"
            ));
        }
        if space == Namespace::Ipc && pod.spec().host_ipc == Some(true) {
            return Some(format!(
                "forbidden sysctl: {name:?} not allowed with host ipc enabled"
            ));
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_get_settings_that_stay_within_them() {
        let check = |name: &str, host: bool| {
            let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "hostNetwork": host,
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}}))
            .expect("a pod");
            forbidden(&pod, &["kernel.msg*".to_owned()]).is_none()
        };
        for (name, host, fine) in [
            ("kernel.shm_rmid_forced", false, true),
            ("kernel/shm_rmid_forced", false, true),
            ("net.ipv4.tcp_syncookies", true, false),
            ("net.core.somaxconn", false, false),
            ("kernel.msgmax", false, true),
            ("kernel.panic", false, false),
        ] {
            assert_eq!(check(name, host), fine, "{name}");
        }
        assert!(check_pattern("kernel.panic").is_err());
        assert!(check_pattern("net.*").is_ok());
    }
}
