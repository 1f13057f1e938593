//! The container of a service: what it runs, as whom, with which environment, and how its health is seen.

use super::files::{self, Mount};
use super::network::Port;
use super::value::{boolean, int, literal, pairs, seconds, strings, text, words};
use super::{Cx, network, resources, volumes};
use serde_json::{Map, Value, json};

/// The container, and the pod's volumes that it mounts.
pub(super) fn container(
    cx: &mut Cx<'_>,
    name: &str,
    spec: &Value,
    ports: &[Port],
    path: &str,
) -> (Value, Vec<Value>) {
    let mut out = json!({"name": name, "image": image(cx, spec, path)});
    match spec["pull_policy"].as_str() {
        None => {}
        Some("always" | "daily" | "weekly") => out["imagePullPolicy"] = json!("Always"),
        Some("never") => out["imagePullPolicy"] = json!("Never"),
        Some("missing" | "if_not_present") => out["imagePullPolicy"] = json!("IfNotPresent"),
        Some(other) => cx.report.warn(
            format!("{path}.pull_policy"),
            format!("{other} is left out: images aren't built here"),
        ),
    }
    // The entrypoint replaces the image's, what is called command its arguments.
    for (key, field) in [("entrypoint", "command"), ("command", "args")] {
        if spec[key].is_null() {
            continue;
        }
        match words(&spec[key]) {
            None => cx.report.refuse(format!("{path}.{key}"), "a quote isn't closed"),
            Some(words) if words.is_empty() => cx.report.warn(
                format!("{path}.{key}"),
                "an empty one is left out: the image's is taken",
            ),
            Some(words) => out[field] = words.iter().map(|w| literal(w)).collect(),
        }
    }
    let env = environment(cx, spec);
    if !env.is_empty() {
        out["env"] = json!(env);
    }
    if let Some(map) = files::env_files(cx, name, spec, path) {
        out["envFrom"] = json!([{"configMapRef": {"name": map}}]);
    }
    if !ports.is_empty() {
        out["ports"] = json!(network::container_ports(cx, ports));
    }
    if let Some(dir) = text(&spec["working_dir"]) {
        out["workingDir"] = json!(dir);
    }
    for (key, field) in [("stdin_open", "stdin"), ("tty", "tty")] {
        if boolean(&spec[key]) == Some(true) {
            out[field] = json!(true);
        }
    }
    let asked = resources::resources(cx, spec, path);
    if !asked.is_null() {
        out["resources"] = asked;
    }
    if let Some(probe) = probe(cx, &spec["healthcheck"], &format!("{path}.healthcheck")) {
        out["readinessProbe"] = probe;
    }
    lifecycle(cx, spec, path, &mut out);
    let context = security(cx, spec, path);
    if context.as_object().is_some_and(|c| !c.is_empty()) {
        out["securityContext"] = context;
    }
    let mut mounts: Vec<Mount> = volumes::mounts(cx, name, spec, path);
    mounts.extend(files::mounts(cx, spec, path, false));
    mounts.extend(files::mounts(cx, spec, path, true));
    let mut pod_volumes: Vec<Value> = Vec::new();
    let mut list = Vec::new();
    for Mount { volume, mount } in mounts {
        if !pod_volumes.iter().any(|v| v["name"] == volume["name"]) {
            pod_volumes.push(volume);
        }
        list.push(mount);
    }
    if !list.is_empty() {
        out["volumeMounts"] = json!(list);
    }
    (out, pod_volumes)
}

fn image(cx: &mut Cx<'_>, spec: &Value, path: &str) -> String {
    let image = text(&spec["image"]).unwrap_or_default();
    match (image.is_empty(), spec["build"].is_null()) {
        (true, false) => cx.report.refuse(
            format!("{path}.build"),
            "images aren't built here: build it, load it (`rctl cluster load-image`) or push it, and name it in image",
        ),
        (true, true) => cx.report.refuse(format!("{path}.image"), "is required"),
        (false, false) => cx.report.warn(
            format!("{path}.build"),
            format!("left out: {image} has to be there already"),
        ),
        (false, true) => {}
    }
    image
}

/// Variables; one without a value is taken from this machine's environment, and left out if it isn't there.
fn environment(cx: &Cx<'_>, spec: &Value) -> Vec<Value> {
    let mut map: Map<String, Value> = Map::new();
    for (key, value) in pairs(&spec["environment"]) {
        let value = match (value, spec["environment"][key.as_str()].is_null()) {
            (Some(value), _) => Some(value),
            (None, _) => cx.source.variable(&key),
        };
        match value {
            Some(value) => map.insert(key, json!(literal(&value))),
            None => map.remove(&key),
        };
    }
    map.into_iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

/// A health check as a readiness probe.
fn probe(cx: &mut Cx<'_>, check: &Value, path: &str) -> Option<Value> {
    if check.is_null() || boolean(&check["disable"]) == Some(true) {
        return None;
    }
    let command: Vec<String> = match &check["test"] {
        Value::Array(_) => {
            let words = strings(&check["test"]);
            match words.split_first() {
                Some((first, _)) if first == "NONE" => return None,
                Some((first, rest)) if first == "CMD" && !rest.is_empty() => rest.to_vec(),
                Some((first, [shell])) if first == "CMD-SHELL" => shell_command(shell),
                _ => {
                    cx.report
                        .refuse(format!("{path}.test"), "has to begin with CMD, CMD-SHELL or NONE");
                    return None;
                }
            }
        }
        Value::String(shell) => shell_command(shell),
        _ => {
            cx.report.warn(
                path,
                "left out: the check of the image isn't known here; say its test",
            );
            return None;
        }
    };
    let mut duration = |key: &str, default: i64| {
        if check[key].is_null() {
            return default;
        }
        seconds(&check[key]).filter(|s| *s >= 0).unwrap_or_else(|| {
            cx.report
                .refuse(format!("{path}.{key}"), "is no duration: write 30s or 1m30s");
            default
        })
    };
    let (interval, timeout) = (duration("interval", 30).max(1), duration("timeout", 30).max(1));
    let start = duration("start_interval", 0);
    let grace = duration("start_period", 0);
    // A pod that isn't ready yet is asked as often as a start asks for.
    let period = if grace > 0 && start > 0 {
        start.min(interval)
    } else {
        interval
    };
    Some(json!({
        "exec": {"command": command},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": int(&check["retries"]).filter(|n| *n > 0).unwrap_or(3),
    }))
}

fn shell_command(shell: &str) -> Vec<String> {
    ["/bin/sh", "-c", shell].map(str::to_owned).to_vec()
}

fn lifecycle(cx: &mut Cx<'_>, spec: &Value, path: &str, out: &mut Value) {
    for (key, field) in [("post_start", "postStart"), ("pre_stop", "preStop")] {
        let Some(hooks) = spec[key].as_array().filter(|h| !h.is_empty()) else {
            continue;
        };
        let [hook] = hooks.as_slice() else {
            cx.report.refuse(
                format!("{path}.{key}"),
                "a container has one hook: join the commands",
            );
            continue;
        };
        super::keys::known(
            &mut cx.report,
            hook,
            &format!("{path}.{key}[0]"),
            &["command"],
            &[
                ("user", "hooks run as the container's user"),
                ("privileged", "hooks run with the container's rights"),
                ("working_dir", "hooks run in the container's directory"),
                ("environment", "hooks have the container's environment"),
            ],
        );
        match words(&hook["command"]) {
            Some(words) if !words.is_empty() => out["lifecycle"][field] = json!({"exec": {"command": words}}),
            _ => cx
                .report
                .refuse(format!("{path}.{key}[0].command"), "is no command"),
        }
    }
}

fn security(cx: &mut Cx<'_>, spec: &Value, path: &str) -> Value {
    let mut out = json!({});
    if let Some(user) = text(&spec["user"]) {
        let (user, group) = user
            .split_once(':')
            .map_or((user.as_str(), None), |(u, g)| (u, Some(g)));
        for (field, value) in [("runAsUser", Some(user)), ("runAsGroup", group)] {
            match value.map(str::parse::<i64>) {
                None => {}
                Some(Ok(id)) => out[field] = json!(id),
                Some(Err(_)) => cx.report.warn(
                    format!("{path}.user"),
                    format!(
                        "{} is left out: name users and groups by number",
                        value.unwrap_or("")
                    ),
                ),
            }
        }
    }
    for (key, field) in [
        ("privileged", "privileged"),
        ("read_only", "readOnlyRootFilesystem"),
    ] {
        if boolean(&spec[key]) == Some(true) {
            out[field] = json!(true);
        }
    }
    for (key, field) in [("cap_add", "add"), ("cap_drop", "drop")] {
        let list: Vec<String> = strings(&spec[key])
            .iter()
            .map(|c| c.to_uppercase().trim_start_matches("CAP_").to_owned())
            .collect();
        if !list.is_empty() {
            out["capabilities"][field] = json!(list);
        }
    }
    for (at, option) in strings(&spec["security_opt"]).iter().enumerate() {
        let (key, value) = option.split_once([':', '=']).unwrap_or((option, "true"));
        match (key, value) {
            ("no-new-privileges", "true") => out["allowPrivilegeEscalation"] = json!(false),
            ("no-new-privileges", "false") => {}
            ("seccomp", "unconfined") => out["seccompProfile"] = json!({"type": "Unconfined"}),
            ("apparmor", "unconfined") => out["appArmorProfile"] = json!({"type": "Unconfined"}),
            ("apparmor", profile) => {
                out["appArmorProfile"] = json!({"type": "Localhost", "localhostProfile": profile});
            }
            _ => cx.report.warn(
                format!("{path}.security_opt[{at}]"),
                format!("{option} is left out"),
            ),
        }
    }
    out
}
