//! What is right, but probably not meant, or soon not right any more, in a pod's spec.

use rutter_api::Value;
use rutter_api::object::ObjectExt;
use rutter_api::validation::{At, dns_label};
use std::collections::BTreeSet;

/// Labels of nodes that have a newer name.
const OLD_LABELS: &[(&str, &str)] = &[
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
];

/// Volume sources of older eras.
const OLD_VOLUMES: &[(&str, &str, &str)] = &[
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    (
        "scaleIO",
        "scaleIO",
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        "flocker",
        "flocker",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "quobyte",
        "quobyte",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    (
        "cephfs",
        "cephfs",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// For a new pod.
pub(crate) fn new_pod(object: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    let wrong = dns_label(object.name());
    if !wrong.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
    of_template(&At::root(object), &mut warnings);
    warnings
}

/// For a template of pods at a path, on create and when the template changed.
pub(crate) fn template(object: &Value, old: Option<&Value>, path: &'static str) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none_or(|old| old.at(path) != object.at(path)) {
        of_template(&At::root(object).child(path), &mut warnings);
    }
    warnings
}

fn of_template(at: &At<'_, '_>, warnings: &mut Vec<String>) {
    let spec = at.child("spec");
    for (label, message) in OLD_LABELS {
        let selector = spec.child("nodeSelector");
        if selector.key(label).is_set() {
            warnings.push(format!("{}: {message}", selector.key(label).path()));
        }
    }
    affinity(&spec, warnings);
    for constraint in spec.child("topologySpreadConstraints").items() {
        no_selector(&constraint.child("labelSelector"), warnings);
        for (label, message) in OLD_LABELS {
            if constraint.child("topologyKey").text() == *label {
                warnings.push(format!(
                    "{}: {label} is {message}",
                    constraint.child("topologyKey").path()
                ));
            }
        }
    }
    for volume in spec.child("volumes").items() {
        for (field, shown, message) in OLD_VOLUMES {
            if volume.child(field).is_set() {
                warnings.push(format!("{}: {message}", volume.path().child(shown)));
            }
        }
    }
    duplicates(&spec, warnings);
    for list in ["initContainers", "containers"] {
        for container in spec.child(list).items() {
            of_container(&container, warnings);
        }
    }
    ports(&spec, warnings);
    let grace = spec.child("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|n| n < 0) {
        warnings.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            grace.path()
        ));
    }
}

fn no_selector(at: &At<'_, '_>, warnings: &mut Vec<String>) {
    if at.is_null() {
        warnings.push(format!(
            "{}: a null labelSelector results in matching no pod",
            at.path()
        ));
    }
}

fn affinity(spec: &At<'_, '_>, warnings: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let all = spec.child("affinity");
        let pods = all.child(kind);
        for term in pods
            .child("requiredDuringSchedulingIgnoredDuringExecution")
            .items()
        {
            no_selector(&term.child("labelSelector"), warnings);
        }
        for term in pods
            .child("preferredDuringSchedulingIgnoredDuringExecution")
            .items()
        {
            no_selector(&term.child("podAffinityTerm.labelSelector"), warnings);
        }
    }
}

fn duplicates(spec: &At<'_, '_>, warnings: &mut Vec<String>) {
    let mut addresses = BTreeSet::new();
    for alias in spec.child("hostAliases").items() {
        let ip = alias.child("ip");
        if !addresses.insert(ip.text()) {
            warnings.push(format!("{}: duplicate ip {:?}", ip.path(), ip.text()));
        }
    }
    let mut names = BTreeSet::new();
    for secret in spec.child("imagePullSecrets").items() {
        let name = secret.child("name");
        if name.is_empty() {
            warnings.push(format!("{}: invalid empty name \"\"", name.path()));
        } else if !names.insert(name.text()) {
            warnings.push(format!("{}: duplicate name {:?}", name.path(), name.text()));
        }
    }
}

fn of_container(at: &At<'_, '_>, warnings: &mut Vec<String>) {
    let resources = at.child("resources");
    for list in ["limits", "requests"] {
        let amounts = resources.child(list);
        for name in ["memory", "ephemeral-storage"] {
            let entry = amounts.key(name);
            if let Some(amount) = crate::amount::quantity(entry.value)
                && amount.milli_value() % 1000 != 0
            {
                let text = amount.to_string();
                warnings.push(format!(
                    "{}: fractional byte value {text:?} is invalid, must be an integer",
                    entry.path()
                ));
            }
        }
    }
    let env = at.child("env");
    let mut last: Vec<(&str, &str)> = Vec::new();
    for variable in env.items() {
        let name = variable.child("name").text();
        let value = variable.child("value").text();
        if last.iter().any(|(seen, _)| *seen == name) && !value.contains(&format!("$({name})")) {
            warnings.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                variable.path()
            ));
        }
        last.push((name, value));
    }
}

/// Ports that are said twice.
fn ports(spec: &At<'_, '_>, warnings: &mut Vec<String>) {
    let mut seen: Vec<(String, i64, &str, i64, &str)> = Vec::new();
    for container in spec.child("containers").items() {
        for port in container.child("ports").items() {
            let path = port.path().to_string();
            let number = port.child("containerPort").int().unwrap_or_default();
            let (protocol, host_ip) = (port.child("protocol").text(), port.child("hostIP").text());
            let host_port = port.child("hostPort").int().unwrap_or_default();
            let before = seen
                .iter()
                .filter(|(_, n, p, _, _)| *n == number && *p == protocol);
            for (other, _, _, other_host, other_ip) in before {
                if *other_host == 0 && host_port == 0 {
                    warnings.push(format!("{path}: duplicate port definition with {other}"));
                } else if *other_host == 0 || host_port == 0 {
                    warnings.push(format!("{path}: overlapping port definition with {other}"));
                } else if *other_host == host_port
                    && (other_ip.is_empty() || host_ip.is_empty())
                    && *other_ip != host_ip
                {
                    warnings.push(format!(
                        "{path}: dangerously ambiguous port definition with {other}"
                    ));
                }
            }
            seen.push((path, number, protocol, host_port, host_ip));
        }
    }
}
