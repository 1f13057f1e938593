//! Which keys mean something here, which are left out with a remark, and that all others are refused.

use super::Report;
use serde_json::Value;

/// Keys that are left out, with the reason.
pub(super) type Left = &'static [(&'static str, &'static str)];

const TOP: &[&str] = &["version", "name", "services", "volumes", "configs", "secrets"];
const TOP_LEFT: Left = &[(
    "networks",
    "all pods of a cluster reach each other: networks are not made",
)];

const SERVICE: &[&str] = &[
    "image",
    "command",
    "entrypoint",
    "environment",
    "env_file",
    "ports",
    "expose",
    "volumes",
    "tmpfs",
    "configs",
    "secrets",
    "depends_on",
    "deploy",
    "scale",
    "restart",
    "healthcheck",
    "labels",
    "annotations",
    "user",
    "working_dir",
    "hostname",
    "domainname",
    "extra_hosts",
    "dns",
    "dns_search",
    "dns_opt",
    "cap_add",
    "cap_drop",
    "privileged",
    "read_only",
    "security_opt",
    "group_add",
    "sysctls",
    "shm_size",
    "stdin_open",
    "tty",
    "stop_grace_period",
    "init",
    "ipc",
    "pid",
    "network_mode",
    "networks",
    "links",
    "container_name",
    "platform",
    "pull_policy",
    "profiles",
    "cpus",
    "mem_limit",
    "mem_reservation",
    "gpus",
    "post_start",
    "pre_stop",
    "runtime",
    "build",
    "extends",
];

const SERVICE_LEFT: Left = &[
    ("attach", "logs are shown by `rctl logs`"),
    ("blkio_config", "the cluster doesn't weigh block I/O"),
    ("cgroup", "each container has a cgroup namespace of its own"),
    ("cgroup_parent", "the node decides where cgroups are"),
    ("cpu_count", "use cpus"),
    ("cpu_percent", "use cpus"),
    ("cpu_period", "use cpus"),
    ("cpu_quota", "use cpus"),
    ("cpu_rt_period", "there is no real-time scheduling"),
    ("cpu_rt_runtime", "there is no real-time scheduling"),
    ("cpu_shares", "use deploy.resources.reservations.cpus"),
    ("cpuset", "the node's CPU manager decides"),
    ("develop", "it is for work on one machine"),
    ("device_cgroup_rules", "devices come from device plugins"),
    ("devices", "devices come from device plugins"),
    (
        "external_links",
        "other projects' services are reached as NAME.NAMESPACE",
    ),
    ("isolation", "it is for Windows"),
    ("label_file", "labels are read from labels alone"),
    ("logging", "the node keeps logs; `rctl logs` shows them"),
    ("mac_address", "the pod network gives addresses"),
    ("mem_swappiness", "nodes run pods without swap"),
    ("memswap_limit", "nodes run pods without swap"),
    ("oom_kill_disable", "a container over its limit is killed"),
    ("oom_score_adj", "it follows from requests and limits"),
    ("pids_limit", "the node limits processes of pods"),
    (
        "stop_signal",
        "containers are stopped by the signal that their image names",
    ),
    ("storage_opt", "use a volume"),
    ("ulimits", "the node's runtime sets limits"),
    ("userns_mode", "the node decides"),
    ("uts", "each pod has a host name of its own"),
];

const DEPLOY: &[&str] = &[
    "mode",
    "replicas",
    "resources",
    "restart_policy",
    "update_config",
    "placement",
    "labels",
    "endpoint_mode",
    "job",
];
const DEPLOY_LEFT: Left = &[("rollback_config", "a rollback is a rollout: `rctl rollout undo`")];

/// Keys of one map, with what is left out.
const NESTED: &[(&str, &[&str], Left)] = &[
    (
        "healthcheck",
        &[
            "test",
            "interval",
            "timeout",
            "retries",
            "start_period",
            "start_interval",
            "disable",
        ],
        &[],
    ),
    ("deploy", DEPLOY, DEPLOY_LEFT),
    ("deploy.resources", &["limits", "reservations"], &[]),
    (
        "deploy.resources.limits",
        &["cpus", "memory"],
        &[("pids", "the node limits processes of pods")],
    ),
    (
        "deploy.resources.reservations",
        &["cpus", "memory", "devices"],
        &[(
            "generic_resources",
            "name extended resources in a manifest of your own",
        )],
    ),
    (
        "deploy.restart_policy",
        &["condition", "max_attempts"],
        &[
            ("delay", "the node waits longer after each failure"),
            ("window", "a container counts as well after ten minutes"),
        ],
    ),
    (
        "deploy.update_config",
        &["parallelism", "order"],
        &[
            ("delay", "the next pod follows when one is ready"),
            ("failure_action", "an update that fails stands still"),
            ("monitor", "readiness decides"),
            ("max_failure_ratio", "an update that fails stands still"),
        ],
    ),
    (
        "deploy.placement",
        &["constraints", "preferences", "max_replicas_per_node"],
        &[],
    ),
];

/// The file's top level.
pub(super) fn top(report: &mut Report, model: &Value) {
    if model["include"].is_array() {
        report.refuse("include", "name the other file with another -f");
    }
    check(report, model, "", TOP, TOP_LEFT, &["include"]);
    for kind in ["models"] {
        if !model[kind].is_null() {
            report.refuse(kind, "models are not run here");
        }
    }
}

/// A service.
pub(super) fn service(report: &mut Report, spec: &Value, path: &str) {
    check(report, spec, path, SERVICE, SERVICE_LEFT, &[]);
    for (at, known, left) in NESTED {
        let inner = at.split('.').fold(spec, |here, key| &here[key]);
        check(report, inner, &format!("{path}.{at}"), known, left, &[]);
    }
}

/// Keys of a map of its own kind.
pub(super) fn known(report: &mut Report, map: &Value, path: &str, known: &[&str], left: Left) {
    check(report, map, path, known, left, &[]);
}

fn check(report: &mut Report, map: &Value, path: &str, known: &[&str], left: Left, said: &[&str]) {
    for (key, value) in map.as_object().into_iter().flatten() {
        if key.starts_with("x-")
            || known.contains(&key.as_str())
            || said.contains(&key.as_str())
            || value.is_null()
        {
            continue;
        }
        let place = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match left.iter().find(|(name, _)| name == key) {
            Some((_, why)) => report.warn(place, format!("left out: {why}")),
            None => report.refuse(place, "is not supported"),
        }
    }
}
