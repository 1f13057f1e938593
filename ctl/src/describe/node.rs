//! Nodes, with what their pods ask for.

use super::writer::{Writer, items, or, quantity, strings, text, time};
use crate::line;
use rutter_api::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// The roles that labels give a node.
pub fn roles(node: &Value) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for (key, value) in node["metadata"]["labels"].as_object().into_iter().flatten() {
        if let Some(role) = key
            .strip_prefix("node-role.kubernetes.io/")
            .filter(|r| !r.is_empty())
        {
            out.push(role.to_owned());
        } else if key == "kubernetes.io/role" && !text(value).is_empty() {
            out.push(text(value));
        }
    }
    out.sort();
    out.dedup();
    out
}

/// Requests or limits of a pod: containers together, or the largest init container.
pub fn pod_sum(pod: &Value, kind: &str) -> BTreeMap<String, Quantity> {
    let spec = &pod["spec"];
    let mut total: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut sidecars: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut init: BTreeMap<String, Quantity> = BTreeMap::new();
    let each = |c: &Value, out: &mut BTreeMap<String, Quantity>| {
        for (name, q) in c["resources"][kind].as_object().into_iter().flatten() {
            *out.entry(name.clone()).or_default() += quantity(q);
        }
    };
    for c in items(&spec["containers"]) {
        each(c, &mut total);
    }
    for c in items(&spec["initContainers"]) {
        let mut own = BTreeMap::new();
        each(c, &mut own);
        if c["restartPolicy"] == "Always" {
            // A sidecar runs beside everything that starts after it.
            for (name, q) in own {
                *sidecars.entry(name.clone()).or_default() += q;
                *total.entry(name).or_default() += q;
            }
            for (name, q) in &sidecars {
                raise(&mut init, name, *q);
            }
        } else {
            for (name, mut q) in own {
                if let Some(s) = sidecars.get(&name) {
                    q += *s;
                }
                raise(&mut init, &name, q);
            }
        }
    }
    for (name, q) in init {
        raise(&mut total, &name, q);
    }
    for (name, q) in spec["resources"][kind].as_object().into_iter().flatten() {
        total.insert(name.clone(), quantity(q));
    }
    for (name, q) in spec["overhead"].as_object().into_iter().flatten() {
        if kind == "requests" || total.contains_key(name) {
            *total.entry(name.clone()).or_default() += quantity(q);
        }
    }
    total
}

/// Makes an entry at least as large as this.
fn raise(map: &mut BTreeMap<String, Quantity>, name: &str, to: Quantity) {
    let entry = map.entry(name.to_owned()).or_default();
    *entry = to.max(*entry);
}

fn percent(part: Quantity, whole: &Value, milli: bool) -> i128 {
    let count = |q: Quantity| i128::from(if milli { q.milli_value() } else { q.value() });
    match count(quantity(whole)) {
        0 => 0,
        whole => count(part) * 100 / whole,
    }
}

/// A node, its lease and the pods on it; None for pods that may not be seen.
pub fn node(
    node: &Value,
    lease: Result<Value, String>,
    pods: Option<&[Value]>,
    events: Option<&[Value]>,
) -> String {
    let mut w = Writer::default();
    let (meta, spec, status) = (&node["metadata"], &node["spec"], &node["status"]);
    line!(w, 0, "Name:\t{}", text(&meta["name"]));
    let roles = roles(node);
    line!(
        w,
        0,
        "Roles:\t{}",
        if roles.is_empty() {
            "<none>".to_owned()
        } else {
            roles.join(",")
        }
    );
    w.pairs("Labels", &meta["labels"]);
    w.annotations("Annotations", &meta["annotations"]);
    line!(w, 0, "CreationTimestamp:\t{}", time(&meta["creationTimestamp"]));
    taints(&mut w, &spec["taints"]);
    line!(w, 0, "Unschedulable:\t{}", spec["unschedulable"] == true);
    match lease {
        Ok(lease) => {
            w.line(0, "Lease:");
            line!(
                w,
                1,
                "HolderIdentity:\t{}",
                or(&lease["spec"]["holderIdentity"], "<unset>")
            );
            for (key, title) in [("acquireTime", "AcquireTime"), ("renewTime", "RenewTime")] {
                let at = &lease["spec"][key];
                line!(
                    w,
                    1,
                    "{title}:\t{}",
                    if at.is_string() {
                        time(at)
                    } else {
                        "<unset>".to_owned()
                    }
                );
            }
        }
        Err(e) => line!(w, 0, "Lease:\tFailed to get lease: {e}"),
    }
    if !items(&status["conditions"]).is_empty() {
        w.line(
            0,
            "Conditions:\n  Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage",
        );
        w.line(
            1,
            "----\t------\t-----------------\t------------------\t------\t-------",
        );
        for c in items(&status["conditions"]) {
            line!(
                w,
                1,
                "{} \t{} \t{} \t{} \t{} \t{}",
                text(&c["type"]),
                text(&c["status"]),
                time(&c["lastHeartbeatTime"]),
                time(&c["lastTransitionTime"]),
                text(&c["reason"]),
                text(&c["message"])
            );
        }
    }
    w.line(0, "Addresses:");
    for a in items(&status["addresses"]) {
        line!(w, 1, "{}:\t{}", text(&a["type"]), text(&a["address"]));
    }
    for (key, title) in [("capacity", "Capacity"), ("allocatable", "Allocatable")] {
        let mut all: Vec<(&String, String)> = status[key]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, v)| (k, text(v)))
            .collect();
        all.sort();
        if !all.is_empty() {
            line!(w, 0, "{title}:");
        }
        for (k, v) in all {
            line!(w, 1, "{k}:\t{v}");
        }
    }
    w.line(0, "System Info:");
    for (key, title) in [
        ("machineID", "Machine ID"),
        ("systemUUID", "System UUID"),
        ("bootID", "Boot ID"),
        ("kernelVersion", "Kernel Version"),
        ("osImage", "OS Image"),
        ("operatingSystem", "Operating System"),
        ("architecture", "Architecture"),
        ("containerRuntimeVersion", "Container Runtime Version"),
        ("kubeletVersion", "Kubelet Version"),
    ] {
        line!(w, 1, "{title}:\t{}", text(&status["nodeInfo"][key]));
    }
    if !text(&spec["podCIDR"]).is_empty() {
        line!(w, 0, "PodCIDR:\t{}", text(&spec["podCIDR"]));
    }
    if !items(&spec["podCIDRs"]).is_empty() {
        line!(w, 0, "PodCIDRs:\t{}", strings(&spec["podCIDRs"]).join(","));
    }
    if !text(&spec["providerID"]).is_empty() {
        line!(w, 0, "ProviderID:\t{}", text(&spec["providerID"]));
    }
    match pods {
        Some(pods) => load(&mut w, node, pods),
        None => w.line(0, "Pods:\tnot authorized"),
    }
    w.events(events);
    w.finish()
}

/// `key=value:effect`
pub fn taint_text(t: &Value) -> String {
    let (key, value, effect) = (text(&t["key"]), text(&t["value"]), text(&t["effect"]));
    match (value.is_empty(), effect.is_empty()) {
        (true, true) => key,
        (true, false) => format!("{key}:{effect}"),
        (false, true) => format!("{key}={value}:"),
        (false, false) => format!("{key}={value}:{effect}"),
    }
}

fn taints(w: &mut Writer, list: &Value) {
    let mut all: Vec<&Value> = items(list).iter().collect();
    if all.is_empty() {
        return w.line(0, "Taints:\t<none>");
    }
    all.sort_by_key(|t| format!("{},{}", text(&t["effect"]), text(&t["key"])));
    for (at, t) in all.into_iter().enumerate() {
        line!(
            w,
            0,
            "{}\t{}",
            if at == 0 { "Taints:" } else { "" },
            taint_text(t)
        );
    }
}

fn load(w: &mut Writer, node: &Value, pods: &[Value]) {
    let status = &node["status"];
    let whole = if status["allocatable"].is_object() {
        &status["allocatable"]
    } else {
        &status["capacity"]
    };
    line!(w, 0, "Non-terminated Pods:\t({} in total)", pods.len());
    w.line(
        1,
        "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge",
    );
    w.line(
        1,
        "---------\t----\t\t------------\t----------\t---------------\t-------------\t---",
    );
    let mut totals: [BTreeMap<String, Quantity>; 2] = [BTreeMap::new(), BTreeMap::new()];
    for pod in pods {
        let sums = [pod_sum(pod, "requests"), pod_sum(pod, "limits")];
        let of = |which: usize, name: &str| {
            sums.get(which)
                .and_then(|s| s.get(name))
                .copied()
                .unwrap_or_default()
        };
        let cell = |which: usize, name: &str| {
            let sum = of(which, name);
            format!("{sum} ({}%)", percent(sum, &whole[name], name == "cpu"))
        };
        line!(
            w,
            1,
            "{}\t{}\t\t{}\t{}\t{}\t{}\t{}",
            text(&pod["metadata"]["namespace"]),
            text(&pod["metadata"]["name"]),
            cell(0, "cpu"),
            cell(1, "cpu"),
            cell(0, "memory"),
            cell(1, "memory"),
            crate::duration::age(pod["metadata"]["creationTimestamp"].as_str())
        );
        for (total, sum) in totals.iter_mut().zip(sums) {
            for (name, q) in sum {
                *total.entry(name).or_default() += q;
            }
        }
    }
    w.line(
        0,
        "Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)",
    );
    w.line(1, "Resource\tRequests\tLimits");
    w.line(1, "--------\t--------\t------");
    let [requests, limits] = &totals;
    let get = |m: &BTreeMap<String, Quantity>, name: &str| m.get(name).copied().unwrap_or_default();
    let mut rows = vec![
        "cpu".to_owned(),
        "memory".to_owned(),
        "ephemeral-storage".to_owned(),
    ];
    let mut names: Vec<String> = whole
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, _)| k.clone())
        .collect();
    names.sort();
    rows.extend(names.iter().filter(|n| n.starts_with("hugepages-")).cloned());
    for name in &rows {
        let (r, l) = (get(requests, name), get(limits, name));
        let milli = name == "cpu";
        line!(
            w,
            1,
            "{name}\t{r} ({}%)\t{l} ({}%)",
            percent(r, &whole[name], milli),
            percent(l, &whole[name], milli)
        );
    }
    for name in names
        .iter()
        .filter(|n| !rows.contains(n) && *n != "pods" && *n != "storage")
    {
        line!(w, 1, "{name}\t{}\t{}", get(requests, name), get(limits, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pods_requests_are_its_containers_or_its_largest_init_container() {
        let c = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = c("50m");
        sidecar["restartPolicy"] = json!("Always");
        let pod =
            json!({"spec": {"containers": [c("100m"), c("200m")], "initContainers": [sidecar, c("500m")]}});
        assert_eq!(pod_sum(&pod, "requests")["cpu"].to_string(), "550m");
    }
}
