//! Security contexts, of pods and containers.

use super::annotations::{APP_ARMOR, SECCOMP_CONTAINER, SECCOMP_POD};
use super::volume::local_descending_path;
use crate::check::enumerated;
use rutter_api::validation::At;
use rutter_api::{ErrorList, FieldError, Value};
use std::collections::BTreeSet;

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

fn id(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.int().is_some_and(|n| !(0..=i64::from(i32::MAX)).contains(&n)) {
        errors.push(at.invalid("must be between 0 and 2147483647, inclusive"));
    }
}

/// Of the pod.
pub(super) fn pod(spec: &At<'_, '_>, at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_null() {
        return;
    }
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&at.child(field), errors);
    }
    for group in at.child("supplementalGroups").items() {
        id(&group, errors);
    }
    if spec.child("shareProcessNamespace").flag() && spec.child("hostPID").flag() {
        let shared = at.field("shareProcessNamespace", spec.child("shareProcessNamespace").value);
        errors.push(shared.invalid("ShareProcessNamespace and HostPID cannot both be enabled"));
    }
    sysctls(spec, &at.child("sysctls"), errors);
    let fs_group_policy = at.child("fsGroupChangePolicy");
    if fs_group_policy.is_set() {
        enumerated(&fs_group_policy, &["Always", "OnRootMismatch"], errors);
    }
    seccomp(&at.child("seccompProfile"), errors);
    windows_options(&at.child("windowsOptions"), errors);
    app_armor(&at.child("appArmorProfile"), errors);
    if at.child("supplementalGroupsPolicy").is_set() {
        enumerated(
            &at.child("supplementalGroupsPolicy"),
            &["Merge", "Strict"],
            errors,
        );
    }
    if at.child("seLinuxChangePolicy").is_set() {
        enumerated(
            &at.child("seLinuxChangePolicy"),
            &["MountOption", "Recursive"],
            errors,
        );
    }
}

/// Of a container.
pub(super) fn container(at: &At<'_, '_>, host_users: bool, errors: &mut ErrorList) {
    if at.is_null() {
        return;
    }
    for field in ["runAsUser", "runAsGroup"] {
        id(&at.child(field), errors);
    }
    let proc_mount = at.child("procMount");
    if proc_mount.is_set() {
        enumerated(&proc_mount, &["Default", "Unmasked"], errors);
        if host_users && proc_mount.text() == "Unmasked" {
            errors.push(proc_mount.invalid("`hostUsers` must be false to use `Unmasked`"));
        }
    }
    seccomp(&at.child("seccompProfile"), errors);
    if at.child("allowPrivilegeEscalation").value == &Value::Bool(false) {
        if at.child("privileged").flag() {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(at.invalid(detail));
        }
        if at
            .child("capabilities.add")
            .items()
            .any(|c| c.text() == "CAP_SYS_ADMIN")
        {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(at.invalid(detail));
        }
    }
    windows_options(&at.child("windowsOptions"), errors);
    app_armor(&at.child("appArmorProfile"), errors);
}

fn is_sysctl(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let segment = |text: &str| {
        let bytes = text.as_bytes();
        let ends = |byte: Option<&u8>| byte.copied().is_some_and(word);
        ends(bytes.first())
            && ends(bytes.last())
            && bytes.iter().all(|&b| word(b) || matches!(b, b'-' | b'_'))
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

fn sysctls(spec: &At<'_, '_>, at: &At<'_, '_>, errors: &mut ErrorList) {
    let mut names = BTreeSet::new();
    for sysctl in at.items() {
        let name = sysctl.child("name");
        let text = name.text();
        if text.is_empty() {
            errors.push(name.required(""));
        } else if !is_sysctl(text) {
            errors.push(name.invalid(
                r"must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            ));
        } else if names.contains(text) {
            errors.push(name.duplicate());
        }
        let dotted = text.replace('/', ".");
        let of_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."]
            .iter()
            .any(|p| dotted.starts_with(p))
            || dotted == "kernel.sem";
        if dotted.starts_with("net.") && spec.child("hostNetwork").flag() {
            errors.push(name.invalid("may not be specified when 'hostNetwork' is true"));
        } else if of_ipc && spec.child("hostIPC").flag() {
            errors.push(name.invalid("may not be specified when 'hostIPC' is true"));
        }
        names.insert(text);
    }
}

fn seccomp(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_null() {
        return;
    }
    let kind = at.child("type");
    if kind.is_empty() {
        errors.push(kind.required("type is required when seccompProfile is set"));
    } else {
        enumerated(&kind, &["Localhost", "RuntimeDefault", "Unconfined"], errors);
    }
    let profile = at.child("localhostProfile");
    if kind.text() == "Localhost" {
        if profile.is_null() {
            errors.push(profile.required("must be set when seccomp type is Localhost"));
        } else {
            local_descending_path(&profile, profile.text(), errors);
        }
    } else if profile.is_set() {
        errors.push(profile.invalid_as(at.value.clone(), "can only be set when seccomp type is Localhost"));
    }
}

fn app_armor(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_null() {
        return;
    }
    let profile = at.child("localhostProfile");
    match at.child("type").text() {
        "Localhost" => {
            let text = profile.text();
            if profile.is_set() && text.trim() != text {
                errors.push(profile.invalid("must not be padded with whitespace"));
            } else if text.is_empty() {
                errors.push(profile.required("must be set when AppArmor type is Localhost"));
            }
            if text.len() > 4095 {
                errors.push(FieldError::too_long(&profile.path(), 4095));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if profile.is_set() {
                errors.push(profile.invalid("can only be set when AppArmor type is Localhost"));
            }
        }
        "" => errors.push(
            at.child("type")
                .required("type is required when appArmorProfile is set"),
        ),
        _ => errors.push(
            at.child("type")
                .not_supported(&["Localhost", "RuntimeDefault", "Unconfined"]),
        ),
    }
}

fn windows_options(at: &At<'_, '_>, errors: &mut ErrorList) {
    for field in ["gmsaCredentialSpecName", "gmsaCredentialSpec", "runAsUserName"] {
        let text = at.child(field);
        if text.is_set() && text.is_empty() {
            errors.push(text.invalid(match field {
                "gmsaCredentialSpec" => "gmsaCredentialSpec cannot be an empty string",
                "runAsUserName" => "runAsUserName cannot be an empty string",
                _ => "must not be empty",
            }));
        }
    }
    let spec = at.child("gmsaCredentialSpec");
    if spec.text().len() > 64 * 1024 {
        errors.push(spec.invalid("gmsaCredentialSpec size must be under 64 KiB"));
    }
}

/// Host process containers are all or none, and on the host's network.
pub(super) fn windows_host_process(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let of_pod = spec
        .child("securityContext.windowsOptions.hostProcess")
        .value
        .as_bool();
    let mut all = Vec::new();
    for list in LISTS {
        for container in spec.child(list).items() {
            let own = container
                .child("securityContext.windowsOptions.hostProcess")
                .value
                .as_bool();
            if let (Some(own), Some(pod)) = (own, of_pod)
                && own != pod
            {
                let path = container
                    .path()
                    .child("securityContext.windowsOptions.hostProcess");
                let detail =
                    format!("pod hostProcess value must be identical if both are specified, was {pod}");
                errors.push(FieldError::invalid(&path, own, detail));
            }
            all.push(own.or(of_pod).unwrap_or_default());
        }
    }
    if !all.contains(&true) {
        return;
    }
    if all.contains(&false) {
        let detail =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(&spec.path(), "", detail));
    }
    if !spec.child("hostNetwork").flag() {
        let network = spec.child("hostNetwork");
        errors.push(network.invalid_as(
            false,
            "hostNetwork must be true if pod contains any hostProcess containers",
        ));
    }
}

/// What a Linux pod may not have.
pub(super) fn linux(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let detail = "windows options cannot be set for a linux pod";
    let context = spec.child("securityContext");
    if context.child("windowsOptions").is_set() {
        errors.push(context.child("windowsOptions").forbidden(detail));
    }
    for list in LISTS {
        for container in spec.child(list).items() {
            let context = container.child("securityContext");
            if context.child("windowsOptions").is_set() {
                errors.push(context.child("windowsOptions").forbidden(detail));
            }
        }
    }
}

/// What a Windows pod may not have.
pub(super) fn windows(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let detail = "cannot be set for a windows pod";
    let context = spec.child("securityContext");
    for field in [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ] {
        if context.child(field).is_set() {
            errors.push(context.child(field).forbidden(detail));
        }
    }
    for field in ["hostUsers", "shareProcessNamespace"] {
        if spec.child(field).is_set() {
            errors.push(spec.child(field).forbidden(detail));
        }
    }
    for field in ["hostPID", "hostIPC"] {
        if spec.child(field).flag() {
            errors.push(spec.child(field).forbidden(detail));
        }
    }
    for list in LISTS {
        for container in spec.child(list).items() {
            let context = container.child("securityContext");
            for field in [
                "appArmorProfile",
                "seLinuxOptions",
                "seccompProfile",
                "capabilities",
                "readOnlyRootFilesystem",
                "privileged",
                "allowPrivilegeEscalation",
                "procMount",
                "runAsUser",
                "runAsGroup",
            ] {
                if context.child(field).is_set() {
                    errors.push(context.child(field).forbidden(detail));
                }
            }
        }
    }
}

/// Old annotations and new fields that say the same must agree.
pub(super) fn annotations_match(annotations: &At<'_, '_>, spec: &At<'_, '_>, errors: &mut ErrorList) {
    let context = spec.child("securityContext");
    agree(
        &context.child("seccompProfile"),
        annotations.key(SECCOMP_POD).value,
        "seccomp",
        errors,
    );
    let windows = spec.child("os.name").text() == "windows";
    for list in LISTS {
        for container in spec.child(list).items() {
            let name = container.child("name").text();
            let own = container.child("securityContext");
            let key = format!("{SECCOMP_CONTAINER}{name}");
            agree(
                &own.child("seccompProfile"),
                annotations.value.get(&key).unwrap_or(&Value::Null),
                "seccomp",
                errors,
            );
            let key = format!("{APP_ARMOR}{name}");
            let annotation = annotations.value.get(&key).unwrap_or(&Value::Null);
            if windows || annotation.is_null() {
                continue;
            }
            let of_pod = context.child("appArmorProfile");
            let profile = own.child("appArmorProfile");
            let value = if profile.is_set() {
                profile.value
            } else {
                of_pod.value
            };
            agree(
                &own.field("appArmorProfile", value),
                annotation,
                "apparmor",
                errors,
            );
        }
    }
}

fn agree(profile: &At<'_, '_>, annotation: &Value, what: &str, errors: &mut ErrorList) {
    let Some(text) = annotation.as_str().filter(|_| profile.is_set()) else {
        return;
    };
    let kind = profile.child("type");
    let same = match kind.text() {
        "Unconfined" => text == "unconfined",
        "RuntimeDefault" => text == "runtime/default" || what == "seccomp" && text == "docker/default",
        "Localhost" => text.starts_with("localhost/"),
        _ => true,
    };
    if !same {
        errors.push(kind.forbidden(format!("{what} type in annotation and field must match")));
    } else if kind.text() == "Localhost"
        && text.strip_prefix("localhost/") != profile.child("localhostProfile").value.as_str()
    {
        let path = profile.child("localhostProfile");
        errors.push(path.forbidden(format!("{what} profile in annotation and field must match")));
    }
}
