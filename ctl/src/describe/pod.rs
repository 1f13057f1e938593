//! Pods, and the pod templates of workloads.

use super::writer::{Writer, int, items, or, quantity, strings, text, time};
use crate::line;
use crate::resource::selector;
use rutter_api::Quantity;
use serde_json::Value;

/// A pod.
pub fn pod(pod: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    let (meta, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    line!(w, 0, "Name:\t{}", text(&meta["name"]));
    line!(w, 0, "Namespace:\t{}", text(&meta["namespace"]));
    if !spec["priority"].is_null() {
        line!(w, 0, "Priority:\t{}", int(&spec["priority"]));
    }
    for (key, title) in [
        ("priorityClassName", "Priority Class Name"),
        ("runtimeClassName", "Runtime Class Name"),
        ("serviceAccountName", "Service Account"),
    ] {
        if !text(&spec[key]).is_empty() {
            line!(w, 0, "{title}:\t{}", text(&spec[key]));
        }
    }
    let node = text(&spec["nodeName"]);
    if node.is_empty() {
        w.line(0, "Node:\t<none>");
    } else {
        line!(w, 0, "Node:\t{node}/{}", text(&status["hostIP"]));
    }
    if status["startTime"].is_string() {
        line!(w, 0, "Start Time:\t{}", time(&status["startTime"]));
    }
    w.pairs("Labels", &meta["labels"]);
    w.annotations("Annotations", &meta["annotations"]);
    let phase = text(&status["phase"]);
    if meta["deletionTimestamp"].is_string() && phase != "Failed" && phase != "Succeeded" {
        line!(
            w,
            0,
            "Status:\tTerminating (lasts {})",
            crate::duration::age(meta["deletionTimestamp"].as_str())
        );
        line!(
            w,
            0,
            "Termination Grace Period:\t{}s",
            int(&meta["deletionGracePeriodSeconds"])
        );
    } else {
        line!(w, 0, "Status:\t{phase}");
    }
    for (key, title) in [("reason", "Reason"), ("message", "Message")] {
        if !text(&status[key]).is_empty() {
            line!(w, 0, "{title}:\t{}", text(&status[key]));
        }
    }
    seccomp(&mut w, 0, 0, &spec["securityContext"]);
    line!(w, 0, "IP:\t{}", text(&status["podIP"]));
    if items(&status["podIPs"]).is_empty() {
        w.line(0, "IPs:\t<none>");
    } else {
        w.line(0, "IPs:");
        for ip in items(&status["podIPs"]) {
            line!(w, 1, "IP:\t{}", text(&ip["ip"]));
        }
    }
    w.controller(pod);
    if !text(&status["nominatedNodeName"]).is_empty() {
        line!(w, 0, "NominatedNodeName:\t{}", text(&status["nominatedNodeName"]));
    }
    if spec["resources"].is_object() {
        w.line(0, "Resources:");
        resources(&mut w, 1, &spec["resources"]);
    }
    if !items(&spec["initContainers"]).is_empty() {
        containers(
            &mut w,
            "Init Containers",
            &spec["initContainers"],
            &status["initContainerStatuses"],
            Some(pod),
            "",
        );
    }
    containers(
        &mut w,
        "Containers",
        &spec["containers"],
        &status["containerStatuses"],
        Some(pod),
        "",
    );
    if !items(&spec["ephemeralContainers"]).is_empty() {
        containers(
            &mut w,
            "Ephemeral Containers",
            &spec["ephemeralContainers"],
            &status["ephemeralContainerStatuses"],
            Some(pod),
            "",
        );
    }
    let find = |kind: &Value| {
        items(&status["conditions"])
            .iter()
            .find(|c| c["type"] == *kind)
            .map_or("<none>".to_owned(), |c| text(&c["status"]))
    };
    if !items(&spec["readinessGates"]).is_empty() {
        w.line(0, "Readiness Gates:\n  Type\tStatus");
        for gate in items(&spec["readinessGates"]) {
            line!(
                w,
                1,
                "{} \t{} ",
                text(&gate["conditionType"]),
                find(&gate["conditionType"])
            );
        }
    }
    if !items(&status["conditions"]).is_empty() {
        w.line(0, "Conditions:\n  Type\tStatus");
        for c in items(&status["conditions"]) {
            line!(w, 1, "{} \t{} ", text(&c["type"]), text(&c["status"]));
        }
    }
    super::volume::volumes(&mut w, &spec["volumes"], "");
    line!(w, 0, "QoS Class:\t{}", qos(pod));
    w.pairs("Node-Selectors", &spec["nodeSelector"]);
    w.tolerations("Tolerations", &spec["tolerations"]);
    spread(&mut w, &spec["topologySpreadConstraints"], "");
    w.events(events);
    w.finish()
}

/// The pod template of a workload.
pub fn template(w: &mut Writer, template: &Value) {
    w.line(0, "Pod Template:");
    if !template.is_object() {
        w.line(1, "<unset>");
        return;
    }
    let spec = &template["spec"];
    w.pairs("  Labels", &template["metadata"]["labels"]);
    if template["metadata"]["annotations"]
        .as_object()
        .is_some_and(|m| !m.is_empty())
    {
        w.annotations("  Annotations", &template["metadata"]["annotations"]);
    }
    if !text(&spec["serviceAccountName"]).is_empty() {
        line!(w, 1, "Service Account:\t{}", text(&spec["serviceAccountName"]));
    }
    if !items(&spec["initContainers"]).is_empty() {
        containers(
            w,
            "Init Containers",
            &spec["initContainers"],
            &Value::Null,
            None,
            "  ",
        );
    }
    containers(w, "Containers", &spec["containers"], &Value::Null, None, "  ");
    super::volume::volumes(w, &spec["volumes"], "  ");
    spread(w, &spec["topologySpreadConstraints"], "  ");
    if !text(&spec["priorityClassName"]).is_empty() {
        line!(w, 1, "Priority Class Name:\t{}", text(&spec["priorityClassName"]));
    }
    w.pairs("  Node-Selectors", &spec["nodeSelector"]);
    w.tolerations("  Tolerations", &spec["tolerations"]);
}

fn spread(w: &mut Writer, list: &Value, space: &str) {
    let mut all: Vec<&Value> = items(list).iter().collect();
    all.sort_by_key(|c| text(&c["topologyKey"]));
    for (at, c) in all.into_iter().enumerate() {
        let head = if at == 0 {
            format!("{space}Topology Spread Constraints:\t")
        } else {
            format!("{space}\t")
        };
        let mut out = format!(
            "{head}{}:{} when max skew {} is exceeded",
            text(&c["topologyKey"]),
            text(&c["whenUnsatisfiable"]),
            int(&c["maxSkew"])
        );
        if c["labelSelector"].is_object() {
            out.push_str(&format!(
                " for selector {}",
                selector::to_text(&c["labelSelector"])
            ));
        }
        w.line(0, &out);
    }
}

fn seccomp(w: &mut Writer, level: usize, deeper: usize, context: &Value) {
    let profile = &context["seccompProfile"];
    if profile.is_object() {
        line!(w, level, "SeccompProfile:\t{}", text(&profile["type"]));
        if profile["type"] == "Localhost" {
            line!(
                w,
                level + deeper,
                "LocalhostProfile:\t{}",
                text(&profile["localhostProfile"])
            );
        }
    }
}

fn containers(w: &mut Writer, title: &str, list: &Value, statuses: &Value, pod: Option<&Value>, space: &str) {
    let none = if items(list).is_empty() { " <none>" } else { "" };
    line!(w, 0, "{space}{title}:{none}");
    let name_indent = if space.is_empty() { "" } else { " " };
    for c in items(list) {
        let status = items(statuses).iter().find(|s| s["name"] == c["name"]);
        line!(w, 1, "{name_indent}{}:", text(&c["name"]));
        if let Some(s) = status {
            line!(w, 2, "Container ID:\t{}", text(&s["containerID"]));
        }
        line!(w, 2, "Image:\t{}", text(&c["image"]));
        if let Some(s) = status {
            line!(w, 2, "Image ID:\t{}", text(&s["imageID"]));
        }
        ports(w, c);
        seccomp(w, 2, 1, &c["securityContext"]);
        for (key, title) in [("command", "Command"), ("args", "Args")] {
            if !items(&c[key]).is_empty() {
                line!(w, 2, "{title}:");
                for word in strings(&c[key]) {
                    for part in word.split('\n') {
                        w.line(3, part);
                    }
                }
            }
        }
        if let Some(s) = status {
            state(w, "State", &s["state"]);
            if s["lastState"]["terminated"].is_object() {
                state(w, "Last State", &s["lastState"]);
            }
            line!(
                w,
                2,
                "Ready:\t{}",
                if s["ready"] == true { "True" } else { "False" }
            );
            line!(w, 2, "Restart Count:\t{}", int(&s["restartCount"]));
        }
        resources(w, 2, &c["resources"]);
        for (key, title) in [
            ("livenessProbe", "Liveness"),
            ("readinessProbe", "Readiness"),
            ("startupProbe", "Startup"),
        ] {
            if c[key].is_object() {
                line!(w, 2, "{title}:\t{}", probe(&c[key]));
            }
        }
        environment(w, c, pod);
        mounts(w, c);
    }
}

fn ports(w: &mut Writer, c: &Value) {
    let describe = |key: &str| -> String {
        items(&c["ports"])
            .iter()
            .map(|p| {
                let name = text(&p["name"]);
                let base = format!("{}/{}", int(&p[key]), or(&p["protocol"], "TCP"));
                if name.is_empty() {
                    base
                } else {
                    format!("{base} ({name})")
                }
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    for (key, title) in [("containerPort", "Port"), ("hostPort", "Host Port")] {
        let all = describe(key);
        if all.contains(',') {
            line!(w, 2, "{title}s:\t{all}");
        } else {
            line!(w, 2, "{title}:\t{}", if all.is_empty() { "<none>" } else { &all });
        }
    }
}

fn state(w: &mut Writer, title: &str, state: &Value) {
    if state["running"].is_object() {
        line!(w, 2, "{title}:\tRunning");
        line!(w, 3, "Started:\t{}", time(&state["running"]["startedAt"]));
    } else if state["terminated"].is_object() {
        let t = &state["terminated"];
        line!(w, 2, "{title}:\tTerminated");
        for (key, title) in [("reason", "Reason"), ("message", "Message")] {
            if !text(&t[key]).is_empty() {
                line!(w, 3, "{title}:\t{}", text(&t[key]));
            }
        }
        line!(w, 3, "Exit Code:\t{}", int(&t["exitCode"]));
        if int(&t["signal"]) > 0 {
            line!(w, 3, "Signal:\t{}", int(&t["signal"]));
        }
        line!(w, 3, "Started:\t{}", time(&t["startedAt"]));
        line!(w, 3, "Finished:\t{}", time(&t["finishedAt"]));
    } else {
        line!(w, 2, "{title}:\tWaiting");
        if !text(&state["waiting"]["reason"]).is_empty() {
            line!(w, 3, "Reason:\t{}", text(&state["waiting"]["reason"]));
        }
    }
}

fn resources(w: &mut Writer, level: usize, resources: &Value) {
    for (key, title) in [("limits", "Limits"), ("requests", "Requests")] {
        let mut all: Vec<(&String, String)> = resources[key]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, v)| (k, text(v)))
            .collect();
        all.sort();
        if !all.is_empty() {
            line!(w, level, "{title}:");
        }
        for (name, quantity) in all {
            line!(w, level + 1, "{name}:\t{quantity}");
        }
    }
}

fn probe(p: &Value) -> String {
    let attributes = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        int(&p["initialDelaySeconds"]),
        int(&p["timeoutSeconds"]),
        int(&p["periodSeconds"]),
        int(&p["successThreshold"]),
        int(&p["failureThreshold"])
    );
    if p["exec"].is_object() {
        return format!("exec [{}] {attributes}", strings(&p["exec"]["command"]).join(" "));
    }
    if p["httpGet"].is_object() {
        let g = &p["httpGet"];
        let port = text(&g["port"]);
        let host = text(&g["host"]);
        let authority = if port.is_empty() {
            host
        } else {
            format!("{host}:{port}")
        };
        let path = text(&g["path"]);
        let path = if path.is_empty() || path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        };
        return format!(
            "http-get {}://{authority}{path} {attributes}",
            or(&g["scheme"], "HTTP").to_lowercase()
        );
    }
    if p["tcpSocket"].is_object() {
        return format!(
            "tcp-socket {}:{} {attributes}",
            text(&p["tcpSocket"]["host"]),
            text(&p["tcpSocket"]["port"])
        );
    }
    if p["grpc"].is_object() {
        return format!(
            "grpc <pod>:{} {} {attributes}",
            int(&p["grpc"]["port"]),
            text(&p["grpc"]["service"])
        );
    }
    format!("unknown {attributes}")
}

fn environment(w: &mut Writer, c: &Value, pod: Option<&Value>) {
    let env_from = items(&c["envFrom"]);
    if !env_from.is_empty() {
        w.line(2, "Environment Variables from:");
        for e in env_from {
            let (kind, source) = if e["configMapRef"].is_object() {
                ("ConfigMap", &e["configMapRef"])
            } else {
                ("Secret", &e["secretRef"])
            };
            let optional = source["optional"] == true;
            let prefix = text(&e["prefix"]);
            if prefix.is_empty() {
                line!(w, 3, "{}\t{kind}\tOptional: {optional}", text(&source["name"]));
            } else {
                line!(
                    w,
                    3,
                    "{}\t{kind} with prefix '{prefix}'\tOptional: {optional}",
                    text(&source["name"])
                );
            }
        }
    }
    let env = items(&c["env"]);
    line!(
        w,
        2,
        "Environment:{}",
        if env.is_empty() { "\t<none>" } else { "" }
    );
    for e in env {
        let name = text(&e["name"]);
        let from = &e["valueFrom"];
        if !from.is_object() {
            for (at, part) in text(&e["value"]).split('\n').enumerate() {
                if at == 0 {
                    line!(w, 3, "{name}:\t{part}");
                } else {
                    line!(w, 3, "\t{part}");
                }
            }
        } else if from["fieldRef"].is_object() {
            let path = text(&from["fieldRef"]["fieldPath"]);
            let value = pod.map(|p| field(p, &path)).unwrap_or_default();
            line!(
                w,
                3,
                "{name}:\t{value} ({}:{path})",
                or(&from["fieldRef"]["apiVersion"], "v1")
            );
        } else if from["resourceFieldRef"].is_object() {
            let resource = text(&from["resourceFieldRef"]["resource"]);
            let mut value = resource_value(c, &resource, &text(&from["resourceFieldRef"]["divisor"]));
            if value == "0" && (resource == "limits.cpu" || resource == "limits.memory") {
                value = "node allocatable".to_owned();
            }
            line!(w, 3, "{name}:\t{value} ({resource})");
        } else if from["secretKeyRef"].is_object() {
            let r = &from["secretKeyRef"];
            line!(
                w,
                3,
                "{name}:\t<set to the key '{}' in secret '{}'>\tOptional: {}",
                text(&r["key"]),
                text(&r["name"]),
                r["optional"] == true
            );
        } else if from["configMapKeyRef"].is_object() {
            let r = &from["configMapKeyRef"];
            line!(
                w,
                3,
                "{name}:\t<set to the key '{}' of config map '{}'>\tOptional: {}",
                text(&r["key"]),
                text(&r["name"]),
                r["optional"] == true
            );
        }
    }
}

/// A pod's field as the downward API gives it.
fn field(pod: &Value, path: &str) -> String {
    for (prefix, map) in [
        ("metadata.labels['", "labels"),
        ("metadata.annotations['", "annotations"),
    ] {
        if let Some(key) = path.strip_prefix(prefix).and_then(|p| p.strip_suffix("']")) {
            return text(&pod["metadata"][map][key]);
        }
    }
    let mut here = pod;
    for part in path.split('.') {
        here = &here[part];
    }
    text(here)
}

fn resource_value(c: &Value, resource: &str, divisor: &str) -> String {
    let (kind, name) = resource.split_once('.').unwrap_or((resource, ""));
    let amount = i128::from(quantity(&c["resources"][kind][name]).milli_value());
    let divisor: Quantity = divisor.parse().unwrap_or_default();
    let by = match i128::from(divisor.milli_value()) {
        0 => 1000,
        by => by,
    };
    ((amount + by - 1) / by).to_string()
}

fn mounts(w: &mut Writer, c: &Value) {
    let mut all: Vec<&Value> = items(&c["volumeMounts"]).iter().collect();
    all.sort_by_key(|m| text(&m["mountPath"]));
    line!(w, 2, "Mounts:{}", if all.is_empty() { "\t<none>" } else { "" });
    for m in all {
        let mut flags = vec![if m["readOnly"] == true {
            "ro".to_owned()
        } else {
            "rw".to_owned()
        }];
        let sub = text(&m["subPath"]);
        if !sub.is_empty() {
            flags.push(format!("path={}", crate::error::go_quote(&sub)));
        }
        line!(
            w,
            3,
            "{} from {} ({})",
            text(&m["mountPath"]),
            text(&m["name"]),
            flags.join(",")
        );
    }
    let mut devices: Vec<&Value> = items(&c["volumeDevices"]).iter().collect();
    devices.sort_by_key(|d| text(&d["devicePath"]));
    if !devices.is_empty() {
        w.line(2, "Devices:");
        for d in devices {
            line!(w, 3, "{} from {}", text(&d["devicePath"]), text(&d["name"]));
        }
    }
}

/// The quality of service class.
fn qos(pod: &Value) -> String {
    if let Some(class) = pod["status"]["qosClass"].as_str().filter(|c| !c.is_empty()) {
        return class.to_owned();
    }
    let all: Vec<&Value> = ["containers", "initContainers"]
        .iter()
        .flat_map(|k| items(&pod["spec"][*k]))
        .collect();
    let has = |c: &Value, kind: &str, name: &str| {
        c["resources"][kind][name].is_string() || c["resources"][kind][name].is_number()
    };
    let any = all.iter().any(|c| {
        ["limits", "requests"]
            .iter()
            .any(|k| ["cpu", "memory"].iter().any(|n| has(c, k, n)))
    });
    if !any {
        return "BestEffort".to_owned();
    }
    let same = |c: &Value, n: &str| {
        let (l, r) = (&c["resources"]["limits"][n], &c["resources"]["requests"][n]);
        !l.is_null() && (r.is_null() || quantity(l) == quantity(r))
    };
    if all.iter().all(|c| same(c, "cpu") && same(c, "memory")) {
        "Guaranteed".to_owned()
    } else {
        "Burstable".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn probes_are_told_in_a_line() {
        let base = json!({"initialDelaySeconds": 1, "timeoutSeconds": 2, "periodSeconds": 3, "successThreshold": 1, "failureThreshold": 3});
        for (what, start) in [
            (
                json!({"httpGet": {"path": "/x", "port": 80, "scheme": "HTTP"}}),
                "http-get http://:80/x delay=1s",
            ),
            (json!({"tcpSocket": {"port": "web"}}), "tcp-socket :web delay=1s"),
            (json!({"exec": {"command": ["a", "b"]}}), "exec [a b] delay=1s"),
        ] {
            let mut p = base.clone();
            crate::patch::merge(&mut p, &what);
            assert!(probe(&p).starts_with(start), "{}", probe(&p));
        }
    }
}
