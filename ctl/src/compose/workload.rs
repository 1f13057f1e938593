//! The workload of a service: a Deployment, a DaemonSet where it runs on every node, a Job where it is to end.

use super::network::Port;
use super::value::{int, label, pairs, seconds, strings, text};
use super::{Cx, container, network};
use serde_json::{Map, Value, json};
use sha2::Digest;

/// The annotation that changes when a file changes that the pods read, so that they are replaced.
const HASH: &str = "rutter.dev/compose-files";

/// How a service's containers are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Deployment,
    DaemonSet,
    /// With the restart policy and how often a failure is tried again.
    Job(&'static str, i64),
}

pub(super) fn workload(cx: &mut Cx<'_>, name: &str, spec: &Value, ports: &[Port], path: &str) -> Value {
    let mode = mode(cx, spec, path);
    let labels = cx.labels(Some(name));
    let notes = annotations(cx, &spec["labels"], &format!("{path}.labels"));
    let more = annotations(cx, &spec["annotations"], &format!("{path}.annotations"));
    let mut template =
        json!({"metadata": {"labels": labels.clone()}, "spec": pod(cx, name, spec, ports, path)});
    for notes in [notes, more] {
        for (key, value) in notes.as_object().into_iter().flatten() {
            template["metadata"]["annotations"][key] = value.clone();
        }
    }
    let replicas = replicas(cx, spec, path);
    let (api_version, kind) = match mode {
        Mode::Deployment => ("apps/v1", "Deployment"),
        Mode::DaemonSet => ("apps/v1", "DaemonSet"),
        Mode::Job(..) => ("batch/v1", "Job"),
    };
    let mut body = json!({});
    match mode {
        Mode::Job(restart, limit) => {
            template["spec"]["restartPolicy"] = json!(restart);
            body["backoffLimit"] = json!(limit);
            if let Some(n) = replicas {
                body["completions"] = json!(n);
                body["parallelism"] = json!(n);
            }
        }
        Mode::DaemonSet => body["selector"] = json!({"matchLabels": cx.selector(name)}),
        Mode::Deployment => {
            body["selector"] = json!({"matchLabels": cx.selector(name)});
            body["replicas"] = json!(replicas.unwrap_or(1));
            if let Some(strategy) = strategy(spec, &template) {
                body["strategy"] = strategy;
            }
        }
    }
    placement(cx, name, spec, path, &mut template["spec"]);
    body["template"] = template;
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": body,
    })
}

/// Whether another service waits for this one to end.
fn is_to_end(cx: &Cx<'_>, path: &str) -> bool {
    let own = path.strip_prefix("services.").unwrap_or("");
    let services = cx.model["services"].as_object().into_iter().flatten();
    services
        .into_iter()
        .any(|(_, other)| other["depends_on"][own]["condition"] == "service_completed_successfully")
}

fn mode(cx: &mut Cx<'_>, spec: &Value, path: &str) -> Mode {
    let ends = is_to_end(cx, path);
    let deploy = &spec["deploy"];
    match deploy["mode"].as_str() {
        None | Some("replicated") => {}
        Some("global") => return Mode::DaemonSet,
        Some("replicated-job") => return Mode::Job("Never", 0),
        Some(other) => cx.report.refuse(
            format!("{path}.deploy.mode"),
            format!("{other} has no counterpart"),
        ),
    }
    let policy = &deploy["restart_policy"];
    let unlimited = i64::from(i32::MAX);
    let said = match policy["condition"].as_str() {
        Some("none") => "no".to_owned(),
        Some("any") => "always".to_owned(),
        Some(other) => other.to_owned(),
        None => text(&spec["restart"]).unwrap_or_else(|| if ends { "no" } else { "always" }.to_owned()),
    };
    let (word, count) = said.split_once(':').unwrap_or((&said, ""));
    match word {
        "always" | "unless-stopped" if ends => {
            cx.report.refuse(
                format!("{path}.restart"),
                format!("{word} never ends, and another service waits for the end"),
            );
            Mode::Deployment
        }
        "always" | "unless-stopped" => Mode::Deployment,
        "no" | "false" => Mode::Job("Never", 0),
        "on-failure" => Mode::Job(
            "OnFailure",
            count
                .parse()
                .ok()
                .or_else(|| int(&policy["max_attempts"]))
                .unwrap_or(unlimited),
        ),
        other => {
            cx.report.refuse(
                format!("{path}.restart"),
                format!("{other} is none of no, always, on-failure, unless-stopped"),
            );
            Mode::Deployment
        }
    }
}

fn replicas(cx: &mut Cx<'_>, spec: &Value, path: &str) -> Option<i64> {
    for (value, at) in [
        (&spec["deploy"]["replicas"], "deploy.replicas"),
        (&spec["scale"], "scale"),
    ] {
        if value.is_null() {
            continue;
        }
        match int(value).filter(|n| *n >= 0) {
            Some(n) => return Some(n),
            None => cx
                .report
                .refuse(format!("{path}.{at}"), "is no number of containers"),
        }
    }
    None
}

/// How pods are replaced. One that keeps its data in a volume ends before its successor starts, as in Compose.
fn strategy(spec: &Value, template: &Value) -> Option<Value> {
    let update = &spec["deploy"]["update_config"];
    let volumes = template["spec"]["volumes"].as_array();
    let keeps = volumes.is_some_and(|v| v.iter().any(|v| v["persistentVolumeClaim"].is_object()));
    match update["order"].as_str() {
        None if keeps && update.is_null() => return Some(json!({"type": "Recreate"})),
        Some("start-first") => {
            let surge = int(&update["parallelism"]).filter(|n| *n > 0).unwrap_or(1);
            return Some(
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 0}}),
            );
        }
        _ => {}
    }
    if update.is_null() {
        return None;
    }
    Some(match int(&update["parallelism"]) {
        // All at once.
        Some(0) => json!({"type": "Recreate"}),
        n => {
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": n.unwrap_or(1)}})
        }
    })
}

fn pod(cx: &mut Cx<'_>, name: &str, spec: &Value, ports: &[Port], path: &str) -> Value {
    let (container, volumes) = container::container(cx, name, spec, ports, path);
    // Compose tells containers about other services by name alone.
    let mut pod = json!({"containers": [container], "enableServiceLinks": false});
    if !volumes.is_empty() {
        pod["volumes"] = json!(volumes);
    }
    network::pod_fields(cx, spec, path, &mut pod);
    if !spec["stop_grace_period"].is_null() {
        match seconds(&spec["stop_grace_period"]) {
            Some(s) => pod["terminationGracePeriodSeconds"] = json!(s),
            None => cx.report.refuse(
                format!("{path}.stop_grace_period"),
                "is no duration: write 30s or 1m30s",
            ),
        }
    } else {
        pod["terminationGracePeriodSeconds"] = json!(10);
    }
    let mut context = json!({});
    let groups = strings(&spec["group_add"]);
    let ids: Vec<i64> = groups.iter().filter_map(|g| g.parse().ok()).collect();
    if ids.len() < groups.len() {
        cx.report.warn(
            format!("{path}.group_add"),
            "names are left out: name groups by number",
        );
    }
    if !ids.is_empty() {
        context["supplementalGroups"] = json!(ids);
    }
    let sysctls: Vec<Value> = pairs(&spec["sysctls"])
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": value.unwrap_or_default()}))
        .collect();
    if !sysctls.is_empty() {
        context["sysctls"] = json!(sysctls);
    }
    if context.as_object().is_some_and(|c| !c.is_empty()) {
        pod["securityContext"] = context;
    }
    if let Some(runtime) = text(&spec["runtime"]) {
        pod["runtimeClassName"] = json!(runtime);
    }
    pod
}

/// Where pods may run.
fn placement(cx: &mut Cx<'_>, name: &str, spec: &Value, path: &str, pod: &mut Value) {
    let mut expressions: Vec<Value> = Vec::new();
    if let Some(platform) = text(&spec["platform"]) {
        for (key, value) in ["kubernetes.io/os", "kubernetes.io/arch"]
            .into_iter()
            .zip(platform.split('/'))
        {
            pod["nodeSelector"][key] = json!(value);
        }
    }
    let placement = &spec["deploy"]["placement"];
    for (at, constraint) in strings(&placement["constraints"]).iter().enumerate() {
        let place = format!("{path}.deploy.placement.constraints[{at}]");
        let parsed = ["!=", "=="].into_iter().find_map(|op| {
            let (key, value) = constraint.split_once(op)?;
            Some((key.trim(), if op == "==" { "In" } else { "NotIn" }, value.trim()))
        });
        let Some((key, operator, value)) = parsed else {
            cx.report
                .refuse(place, format!("{constraint:?} is no constraint"));
            continue;
        };
        let by_role = key == "node.role";
        let key = match key {
            "node.hostname" | "node.id" => "kubernetes.io/hostname",
            "node.platform.os" => "kubernetes.io/os",
            "node.platform.arch" => "kubernetes.io/arch",
            "node.role" => "node-role.kubernetes.io/control-plane",
            other => match other
                .strip_prefix("node.labels.")
                .or_else(|| other.strip_prefix("engine.labels."))
            {
                Some(label) => label,
                None => {
                    cx.report
                        .refuse(place, format!("{other} is nothing that nodes are labelled with"));
                    continue;
                }
            },
        };
        expressions.push(if by_role {
            let manager = (value == "manager") == (operator == "In");
            json!({"key": key, "operator": if manager { "Exists" } else { "DoesNotExist" }})
        } else {
            json!({"key": key, "operator": operator, "values": [value]})
        });
    }
    if !expressions.is_empty() {
        pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!({"nodeSelectorTerms": [{"matchExpressions": expressions}]});
    }
    let mut spread: Vec<Value> = Vec::new();
    for (at, preference) in placement["preferences"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        match preference["spread"]
            .as_str()
            .and_then(|s| s.strip_prefix("node.labels."))
        {
            Some(key) => spread.push(json!({
                "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": cx.selector(name)},
            })),
            None => cx.report.warn(
                format!("{path}.deploy.placement.preferences[{at}]"),
                "left out: pods spread over labels of nodes alone",
            ),
        }
    }
    if !spread.is_empty() {
        pod["topologySpreadConstraints"] = json!(spread);
    }
    match int(&placement["max_replicas_per_node"]) {
        None | Some(0) => {}
        Some(1) => {
            pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([{
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": cx.selector(name)},
            }]);
        }
        Some(_) => cx.report.warn(
            format!("{path}.deploy.placement.max_replicas_per_node"),
            "left out: only one per node can be asked for",
        ),
    }
}

/// Compose's labels are annotations here: their values may be any text.
pub(super) fn annotations(cx: &mut Cx<'_>, labels: &Value, path: &str) -> Value {
    let mut out: Map<String, Value> = Map::new();
    for (key, value) in pairs(labels) {
        let name = key.rsplit('/').next().unwrap_or("");
        let legal =
            key.matches('/').count() <= 1 && name.len() <= 63 && !name.is_empty() && label(name) == name;
        if legal {
            out.insert(key, json!(value.unwrap_or_default()));
        } else {
            cx.report.warn(
                path,
                format!("{key:?} is left out: no annotation may be named so"),
            );
        }
    }
    if out.is_empty() {
        Value::Null
    } else {
        Value::Object(out)
    }
}

/// Marks pod templates with what the ConfigMaps and Secrets say that they use.
pub(super) fn hash(objects: &mut [Value], shared: &[Value]) {
    for object in objects {
        if object["spec"]["template"].is_null() {
            continue;
        }
        let text = object["spec"]["template"]["spec"].to_string();
        let mut digest = sha2::Sha256::new();
        let mut any = false;
        for used in shared {
            let name = used["metadata"]["name"].as_str().unwrap_or("");
            if used["kind"] != "PersistentVolumeClaim" && text.contains(&format!("\"{name}\"")) {
                any = true;
                digest.update(used.to_string());
            }
        }
        if any {
            let hex: String = digest
                .finalize()
                .iter()
                .take(8)
                .map(|b| format!("{b:02x}"))
                .collect();
            object["spec"]["template"]["metadata"]["annotations"][HASH] = json!(hex);
        }
    }
}
