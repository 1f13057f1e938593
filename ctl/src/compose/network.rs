//! Ports of containers, and the Services by which others find them.

use super::value::{boolean, dns_label, int, pairs, strings, text};
use super::{Cx, Publish, keys};
use serde_json::{Value, json};

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// Where the container listens.
    pub(super) target: i64,
    /// Where the outside finds it; None if it doesn't, 0 for any port.
    pub(super) published: Option<i64>,
    /// `TCP`, `UDP` or `SCTP`.
    pub(super) protocol: String,
    /// `appProtocol`
    pub(super) app: Option<String>,
    /// The address of the machine that it is bound to.
    pub(super) address: String,
}

impl Port {
    fn name(&self) -> String {
        format!("{}-{}", self.protocol.to_lowercase(), self.target)
    }
}

/// All ports: published ones first, each target and protocol once.
pub(super) fn ports(cx: &mut Cx<'_>, spec: &Value, path: &str) -> Vec<Port> {
    let mut out: Vec<Port> = Vec::new();
    let mut add = |cx: &mut Cx<'_>, at: String, parsed: Result<Vec<Port>, String>| match parsed {
        Err(why) => cx.report.refuse(at, why),
        Ok(ports) => {
            for port in ports {
                let same = |p: &Port| p.target == port.target && p.protocol == port.protocol;
                match out.iter().find(|p| same(p)) {
                    None => out.push(port),
                    Some(old) if port.published.is_some() && old.published != port.published => {
                        cx.report.warn(&at, "is published already, by another port");
                    }
                    Some(_) => {}
                }
            }
        }
    };
    for (at, item) in spec["ports"].as_array().into_iter().flatten().enumerate() {
        let place = format!("{path}.ports[{at}]");
        let parsed = if item.is_object() {
            long(cx, item, &place)
        } else {
            short(&text(item).unwrap_or_default())
        };
        add(cx, place, parsed);
    }
    for (at, item) in spec["expose"].as_array().into_iter().flatten().enumerate() {
        let exposed = text(item).unwrap_or_default();
        let (range, protocol) = split_protocol(&exposed);
        let parsed = protocol.and_then(|protocol| {
            Ok(span(range)?
                .map(|target| Port {
                    target,
                    published: None,
                    protocol: protocol.clone(),
                    app: None,
                    address: String::new(),
                })
                .collect())
        });
        add(cx, format!("{path}.expose[{at}]"), parsed);
    }
    out
}

fn split_protocol(text: &str) -> (&str, Result<String, String>) {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_uppercase();
    if matches!(protocol.as_str(), "TCP" | "UDP" | "SCTP") {
        (rest, Ok(protocol))
    } else {
        (rest, Err(format!("{protocol} is no protocol of ports")))
    }
}

/// `80` or `8000-8010`.
fn span(text: &str) -> Result<std::ops::RangeInclusive<i64>, String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        text.trim()
            .parse::<i64>()
            .ok()
            .filter(|p| (1..=65535).contains(p))
            .ok_or_else(|| format!("{text:?} is no port"))
    };
    let (from, to) = (port(from)?, port(to)?);
    if to < from || to - from > 1000 {
        return Err(format!("{text:?} is no range of at most a thousand ports"));
    }
    Ok(from..=to)
}

/// `[[address:]published:]target[/protocol]`, each a port or a range.
fn short(item: &str) -> Result<Vec<Port>, String> {
    let (rest, protocol) = split_protocol(item);
    let protocol = protocol?;
    let (before, target) = rest.rsplit_once(':').map_or((None, rest), |(b, t)| (Some(b), t));
    let (address, published) = match before {
        None => ("", None),
        Some(before) => match before.rsplit_once(':') {
            Some((address, published)) => (address.trim_matches(['[', ']']), Some(published)),
            None => ("", Some(before)),
        },
    };
    let targets: Vec<i64> = span(target)?.collect();
    let published: Vec<i64> = match published {
        None | Some("") => vec![0; targets.len()],
        Some(text) => span(text)?.collect(),
    };
    // A range of published ports for one target means any of them.
    if published.len() != targets.len() && targets.len() != 1 {
        return Err(format!("{item:?}: the two ranges are not of the same length"));
    }
    Ok(targets
        .into_iter()
        .zip(published)
        .map(|(target, published)| Port {
            target,
            published: Some(published),
            protocol: protocol.clone(),
            app: None,
            address: address.to_owned(),
        })
        .collect())
}

fn long(cx: &mut Cx<'_>, item: &Value, path: &str) -> Result<Vec<Port>, String> {
    keys::known(
        &mut cx.report,
        item,
        path,
        &["target", "published", "protocol", "app_protocol", "host_ip"],
        &[
            ("mode", "how ports are published is said by --publish"),
            ("name", "ports are named by protocol and number"),
        ],
    );
    let target = int(&item["target"])
        .filter(|p| (1..=65535).contains(p))
        .ok_or("target has to be a port")?;
    let published = match text(&item["published"]) {
        None => 0,
        Some(text) if text.is_empty() => 0,
        Some(text) => *span(&text)?.start(),
    };
    let protocol = split_protocol(&format!("x/{}", item["protocol"].as_str().unwrap_or("tcp"))).1?;
    Ok(vec![Port {
        target,
        published: Some(published),
        protocol,
        app: item["app_protocol"].as_str().map(str::to_owned),
        address: item["host_ip"].as_str().unwrap_or("").to_owned(),
    }])
}

/// `ports` of the container.
pub(super) fn container_ports(cx: &Cx<'_>, ports: &[Port]) -> Vec<Value> {
    ports
        .iter()
        .map(|port| {
            let mut out =
                json!({"name": port.name(), "containerPort": port.target, "protocol": port.protocol});
            if let (Publish::HostPort, Some(published)) = (cx.settings.publish, port.published) {
                out["hostPort"] = json!(if published == 0 { port.target } else { published });
                if !port.address.is_empty() {
                    out["hostIP"] = json!(port.address);
                }
            }
            out
        })
        .collect()
}

/// The Service of the service's name, and one for each other name that it is known by.
pub(super) fn services(cx: &mut Cx<'_>, name: &str, spec: &Value, ports: &[Port], path: &str) -> Vec<Value> {
    match spec["network_mode"].as_str() {
        None | Some("bridge" | "host" | "default") => {}
        Some(mode) => cx.report.refuse(
            format!("{path}.network_mode"),
            format!("{mode} has no counterpart: only bridge and host do"),
        ),
    }
    let mut out = vec![service(cx, name, name, spec, ports, path)];
    for alias in aliases(cx, spec, path) {
        if alias != name
            && out
                .iter()
                .all(|s: &Value| s["metadata"]["name"] != alias.as_str())
        {
            let mut other = service(cx, &alias, name, spec, ports, path);
            other["spec"]["type"] = json!("ClusterIP");
            for port in other["spec"]["ports"].as_array_mut().into_iter().flatten() {
                if let Some(port) = port.as_object_mut() {
                    port.remove("nodePort");
                }
            }
            out.push(other);
        }
    }
    out
}

/// Other names: the container's, and those in networks. Names that others link by are theirs to say.
fn aliases(cx: &mut Cx<'_>, spec: &Value, path: &str) -> Vec<String> {
    let mut out: Vec<String> = text(&spec["container_name"]).into_iter().collect();
    for (network, long) in spec["networks"].as_object().into_iter().flatten() {
        keys::known(
            &mut cx.report,
            long,
            &format!("{path}.networks.{network}"),
            &["aliases"],
            &[
                ("ipv4_address", "the pod network gives addresses"),
                ("ipv6_address", "the pod network gives addresses"),
                ("link_local_ips", "the pod network gives addresses"),
                ("mac_address", "the pod network gives addresses"),
                ("priority", "pods are in one network"),
                ("gw_priority", "pods are in one network"),
                ("driver_opts", "pods are in one network"),
                ("interface_name", "pods are in one network"),
            ],
        );
        out.extend(strings(&long["aliases"]));
    }
    let own = path.strip_prefix("services.").unwrap_or("");
    for (_, other) in cx.model["services"].as_object().into_iter().flatten() {
        for link in strings(&other["links"]) {
            if let Some((service, alias)) = link.split_once(':')
                && service == own
            {
                out.push(alias.to_owned());
            }
        }
    }
    let mut names: Vec<String> = out
        .iter()
        .map(|n| dns_label(n))
        .filter(|n| !n.is_empty())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn service(cx: &mut Cx<'_>, name: &str, of: &str, spec: &Value, ports: &[Port], path: &str) -> Value {
    let mut out = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": cx.labels(Some(of))},
        "spec": {"selector": cx.selector(of)},
    });
    let notes = super::workload::annotations(cx, &spec["deploy"]["labels"], &format!("{path}.deploy.labels"));
    if !notes.is_null() {
        out["metadata"]["annotations"] = notes;
    }
    let published = ports.iter().any(|p| p.published.is_some());
    if ports.is_empty() || (spec["deploy"]["endpoint_mode"] == "dnsrr" && !published) {
        // The name resolves to the pods themselves, so that every port of theirs is reached.
        out["spec"]["clusterIP"] = json!("None");
    }
    if ports.is_empty() {
        return out;
    }
    let kind = match (published, cx.settings.publish) {
        (true, Publish::NodePort) => "NodePort",
        (true, Publish::LoadBalancer) => "LoadBalancer",
        _ => "ClusterIP",
    };
    out["spec"]["type"] = json!(kind);
    let mut list = Vec::new();
    for port in ports {
        let mut entry = json!({
            "name": port.name(),
            "port": port.target,
            "targetPort": port.target,
            "protocol": port.protocol,
        });
        if let Some(app) = &port.app {
            entry["appProtocol"] = json!(app);
        }
        let outside = port.published.filter(|p| *p != 0);
        match (kind, outside) {
            ("NodePort", Some(p)) if (30000..=32767).contains(&p) => entry["nodePort"] = json!(p),
            ("NodePort", Some(p)) if name == of => cx.report.warn(
                format!("{path}.ports"),
                format!("{p} is outside 30000-32767: the cluster chooses the port of the nodes"),
            ),
            ("LoadBalancer", Some(p)) if p != port.target => {
                let mut more = entry.clone();
                more["name"] = json!(format!("{}-{p}", port.protocol.to_lowercase()));
                more["port"] = json!(p);
                list.push(more);
            }
            _ => {}
        }
        if port.published.is_some() && !port.address.is_empty() && kind != "ClusterIP" && name == of {
            cx.report.warn(
                format!("{path}.ports"),
                format!("{} is left out: the port is open on all addresses", port.address),
            );
        }
        list.push(entry);
    }
    out["spec"]["ports"] = json!(list);
    out
}

/// What of the pod's spec is about names and networks.
pub(super) fn pod_fields(cx: &mut Cx<'_>, spec: &Value, path: &str, pod: &mut Value) {
    if spec["network_mode"] == "host" {
        pod["hostNetwork"] = json!(true);
        pod["dnsPolicy"] = json!("ClusterFirstWithHostNet");
    }
    for (key, field) in [("hostname", "hostname"), ("domainname", "subdomain")] {
        if let Some(name) = text(&spec[key]) {
            pod[field] = json!(dns_label(&name));
        }
    }
    for (key, field) in [("ipc", "hostIPC"), ("pid", "hostPID")] {
        match spec[key].as_str() {
            None | Some("private" | "shareable") => {}
            Some("host") => pod[field] = json!(true),
            Some(other) => cx
                .report
                .refuse(format!("{path}.{key}"), format!("{other} has no counterpart")),
        }
    }
    let hosts = host_aliases(cx, spec, path);
    if !hosts.is_empty() {
        pod["hostAliases"] = json!(hosts);
    }
    let (servers, searches, options) = (
        strings(&spec["dns"]),
        strings(&spec["dns_search"]),
        strings(&spec["dns_opt"]),
    );
    if !(servers.is_empty() && searches.is_empty() && options.is_empty()) {
        let options: Vec<Value> = options
            .iter()
            .map(|o| match o.split_once(':') {
                Some((name, value)) => json!({"name": name, "value": value}),
                None => json!({"name": o}),
            })
            .collect();
        pod["dnsConfig"] = json!({"nameservers": servers, "searches": searches, "options": options});
        if let Some(map) = pod["dnsConfig"].as_object_mut() {
            map.retain(|_, list| list.as_array().is_some_and(|l| !l.is_empty()));
        }
    }
    if boolean(&spec["init"]) == Some(true) {
        // The pause process of a shared process namespace reaps what others leave.
        pod["shareProcessNamespace"] = json!(true);
    }
}

fn host_aliases(cx: &mut Cx<'_>, spec: &Value, path: &str) -> Vec<Value> {
    let listed: Vec<(String, String)> = match &spec["extra_hosts"] {
        Value::Object(_) => pairs(&spec["extra_hosts"])
            .into_iter()
            .map(|(name, ip)| (name, ip.unwrap_or_default()))
            .collect(),
        list => strings(list)
            .into_iter()
            .filter_map(|item| {
                let at = item.find(['=', ':'])?;
                Some((
                    item.get(..at)?.to_owned(),
                    item.get(at + 1..)?.trim_matches(['[', ']']).to_owned(),
                ))
            })
            .collect(),
    };
    let mut out = Vec::new();
    for (name, ip) in listed {
        if ip.parse::<std::net::IpAddr>().is_ok() {
            out.push(json!({"ip": ip, "hostnames": [name]}));
        } else {
            cx.report.warn(
                format!("{path}.extra_hosts"),
                format!("{name} is left out: {ip} is no address"),
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ports_are_read() {
        let p = |item: &str| {
            short(item).map(|ports| {
                ports
                    .iter()
                    .map(|p| {
                        format!(
                            "{}>{}:{}/{}",
                            p.address,
                            p.published.unwrap_or(-1),
                            p.target,
                            p.protocol
                        )
                    })
                    .collect::<Vec<_>>()
                    .join(" ")
            })
        };
        for (item, want) in [
            ("80", ">0:80/TCP"),
            ("8080:80", ">8080:80/TCP"),
            ("127.0.0.1:8080:80/udp", "127.0.0.1>8080:80/UDP"),
            ("127.0.0.1::80", "127.0.0.1>0:80/TCP"),
            ("[::1]:8080:80", "::1>8080:80/TCP"),
            ("3000-3001", ">0:3000/TCP >0:3001/TCP"),
            ("9090-9091:80-81", ">9090:80/TCP >9091:81/TCP"),
            ("9000-9010:80", ">9000:80/TCP"),
        ] {
            assert_eq!(p(item).as_deref(), Ok(want), "{item}");
        }
        for bad in ["", "x", "80:70000", "1-3:5-6", "80/icmp", "9-2"] {
            assert!(p(bad).is_err(), "{bad}");
        }
    }
}
