//! Services, endpoints, ingresses and network policies.

use super::writer::{Writer, int, items, labels, or, strings, text};
use crate::line;
use crate::resource::selector;
use serde_json::Value;

/// Addresses of endpoint slices, three at most.
pub fn endpoints(slices: &[Value], port: Option<&str>) -> String {
    let mut found: Vec<String> = Vec::new();
    for slice in slices {
        let ready: Vec<String> = items(&slice["endpoints"])
            .iter()
            .filter(|e| e["conditions"]["ready"] != false)
            .map(|e| text(&e["addresses"][0]))
            .collect();
        let ports = items(&slice["ports"]);
        if ports.is_empty() {
            found.extend(ready);
            continue;
        }
        for p in ports
            .iter()
            .filter(|p| port.is_none_or(|name| text(&p["name"]) == name))
        {
            found.extend(ready.iter().map(|a| {
                if a.contains(':') {
                    format!("[{a}]:{}", int(&p["port"]))
                } else {
                    format!("{a}:{}", int(&p["port"]))
                }
            }));
        }
    }
    if slices.is_empty() {
        return "<none>".to_owned();
    }
    let more = found.len().saturating_sub(3);
    found.truncate(3);
    if more > 0 {
        format!("{} + {more} more...", found.join(","))
    } else {
        found.join(",")
    }
}

/// A service.
pub fn service(s: &Value, slices: &[Value], events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    let spec = &s["spec"];
    w.metadata(s, true);
    line!(w, 0, "Selector:\t{}", labels(&spec["selector"]));
    line!(w, 0, "Type:\t{}", text(&spec["type"]));
    if spec["ipFamilyPolicy"].is_string() {
        line!(w, 0, "IP Family Policy:\t{}", text(&spec["ipFamilyPolicy"]));
    }
    let list = |key: &str| {
        let all = strings(&spec[key]);
        if all.is_empty() {
            "<none>".to_owned()
        } else {
            all.join(",")
        }
    };
    line!(w, 0, "IP Families:\t{}", list("ipFamilies"));
    line!(w, 0, "IP:\t{}", text(&spec["clusterIP"]));
    line!(w, 0, "IPs:\t{}", list("clusterIPs"));
    if !items(&spec["externalIPs"]).is_empty() {
        line!(w, 0, "External IPs:\t{}", list("externalIPs"));
    }
    for (key, title) in [
        ("loadBalancerIP", "Desired LoadBalancer IP"),
        ("externalName", "External Name"),
    ] {
        if !text(&spec[key]).is_empty() {
            line!(w, 0, "{title}:\t{}", text(&spec[key]));
        }
    }
    let ingress = items(&s["status"]["loadBalancer"]["ingress"]);
    if !ingress.is_empty() {
        let all: Vec<String> = ingress
            .iter()
            .map(|i| {
                let ip = text(&i["ip"]);
                match (ip.is_empty(), i["ipMode"].as_str()) {
                    (true, _) => text(&i["hostname"]),
                    (false, Some(mode)) => format!("{ip} ({mode})"),
                    (false, None) => ip,
                }
            })
            .collect();
        line!(w, 0, "LoadBalancer Ingress:\t{}", all.join(", "));
    }
    for p in items(&spec["ports"]) {
        let name = or(&p["name"], "<unset>");
        let protocol = or(&p["protocol"], "TCP");
        line!(w, 0, "Port:\t{name}\t{}/{protocol}", int(&p["port"]));
        line!(w, 0, "TargetPort:\t{}/{protocol}", or(&p["targetPort"], "0"));
        if p["appProtocol"].is_string() {
            line!(w, 0, "AppProtocol:\t{}", text(&p["appProtocol"]));
        }
        if int(&p["nodePort"]) != 0 {
            line!(w, 0, "NodePort:\t{name}\t{}/{protocol}", int(&p["nodePort"]));
        }
        line!(w, 0, "Endpoints:\t{}", endpoints(slices, Some(&text(&p["name"]))));
    }
    line!(w, 0, "Session Affinity:\t{}", text(&spec["sessionAffinity"]));
    for (key, title) in [
        ("externalTrafficPolicy", "External Traffic Policy"),
        ("internalTrafficPolicy", "Internal Traffic Policy"),
    ] {
        if !text(&spec[key]).is_empty() {
            line!(w, 0, "{title}:\t{}", text(&spec[key]));
        }
    }
    if int(&spec["healthCheckNodePort"]) != 0 {
        line!(
            w,
            0,
            "HealthCheck NodePort:\t{}",
            int(&spec["healthCheckNodePort"])
        );
    }
    if !items(&spec["loadBalancerSourceRanges"]).is_empty() {
        line!(
            w,
            0,
            "LoadBalancer Source Ranges:\t{}",
            list("loadBalancerSourceRanges")
        );
    }
    if spec["trafficDistribution"].is_string() {
        line!(
            w,
            0,
            "Traffic Distribution:\t{}",
            text(&spec["trafficDistribution"])
        );
    }
    w.events(events);
    w.finish()
}

/// Endpoints.
pub fn endpoints_object(e: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    w.metadata(e, true);
    w.line(0, "Subsets:");
    for subset in items(&e["subsets"]) {
        for (key, title) in [
            ("addresses", "Addresses"),
            ("notReadyAddresses", "NotReadyAddresses"),
        ] {
            let all: Vec<String> = items(&subset[key]).iter().map(|a| text(&a["ip"])).collect();
            line!(
                w,
                1,
                "{title}:\t{}",
                if all.is_empty() {
                    "<none>".to_owned()
                } else {
                    all.join(",")
                }
            );
        }
        if !items(&subset["ports"]).is_empty() {
            w.line(1, "Ports:");
            w.line(2, "Name\tPort\tProtocol");
            w.line(2, "----\t----\t--------");
            for p in items(&subset["ports"]) {
                line!(
                    w,
                    2,
                    "{}\t{}\t{}",
                    or(&p["name"], "<unset>"),
                    int(&p["port"]),
                    or(&p["protocol"], "TCP")
                );
            }
        }
        w.line(0, "");
    }
    w.events(events);
    w.finish()
}

/// An endpoint slice.
pub fn slice(s: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    w.metadata(s, true);
    line!(w, 0, "AddressType:\t{}", text(&s["addressType"]));
    if items(&s["ports"]).is_empty() {
        w.line(0, "Ports: <unset>");
    } else {
        w.line(0, "Ports:");
        w.line(1, "Name\tPort\tProtocol");
        w.line(1, "----\t----\t--------");
        for p in items(&s["ports"]) {
            line!(
                w,
                1,
                "{}\t{}\t{}",
                or(&p["name"], "<unset>"),
                or(&p["port"], "<unset>"),
                or(&p["protocol"], "TCP")
            );
        }
    }
    if items(&s["endpoints"]).is_empty() {
        w.line(0, "Endpoints: <none>");
    } else {
        w.line(0, "Endpoints:");
        for e in items(&s["endpoints"]) {
            let addresses = strings(&e["addresses"]).join(", ");
            line!(
                w,
                1,
                "- Addresses:\t{}",
                if addresses.is_empty() {
                    "<none>"
                } else {
                    &addresses
                }
            );
            w.line(2, "Conditions:");
            line!(w, 3, "Ready:\t{}", or(&e["conditions"]["ready"], "<unset>"));
            line!(w, 2, "Hostname:\t{}", or(&e["hostname"], "<unset>"));
            if e["targetRef"].is_object() {
                line!(
                    w,
                    2,
                    "TargetRef:\t{}/{}",
                    text(&e["targetRef"]["kind"]),
                    text(&e["targetRef"]["name"])
                );
            }
            line!(w, 2, "NodeName:\t{}", or(&e["nodeName"], "<unset>"));
            line!(w, 2, "Zone:\t{}", or(&e["zone"], "<unset>"));
        }
    }
    w.events(events);
    w.finish()
}

/// An ingress. `backend` tells what is behind a backend.
pub fn ingress(i: &Value, backend: &dyn Fn(&Value) -> String, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    let spec = &i["spec"];
    line!(w, 0, "Name:\t{}", text(&i["metadata"]["name"]));
    w.pairs("Labels", &i["metadata"]["labels"]);
    line!(w, 0, "Namespace:\t{}", text(&i["metadata"]["namespace"]));
    let mut addresses: Vec<String> = items(&i["status"]["loadBalancer"]["ingress"])
        .iter()
        .map(|a| or(&a["ip"], &text(&a["hostname"])))
        .filter(|a| !a.is_empty())
        .collect();
    addresses.sort();
    addresses.dedup();
    line!(w, 0, "Address:\t{}", addresses.join(","));
    line!(
        w,
        0,
        "Ingress Class:\t{}",
        or(&spec["ingressClassName"], "<none>")
    );
    let default = if spec["defaultBackend"].is_object() {
        backend(&spec["defaultBackend"])
    } else {
        "<default>".to_owned()
    };
    line!(w, 0, "Default backend:\t{default}");
    if !items(&spec["tls"]).is_empty() {
        w.line(0, "TLS:");
        for t in items(&spec["tls"]) {
            let hosts = strings(&t["hosts"]).join(",");
            let secret = text(&t["secretName"]);
            if secret.is_empty() {
                line!(w, 1, "SNI routes {hosts}");
            } else {
                line!(w, 1, "{secret} terminates {hosts}");
            }
        }
    }
    w.line(0, "Rules:\n  Host\tPath\tBackends");
    w.line(1, "----\t----\t--------");
    let mut count = 0;
    for rule in items(&spec["rules"]).iter().filter(|r| r["http"].is_object()) {
        count += 1;
        line!(w, 1, "{}\t", or(&rule["host"], "*"));
        for p in items(&rule["http"]["paths"]) {
            line!(w, 2, "\t{} \t{}", text(&p["path"]), backend(&p["backend"]));
        }
    }
    if count == 0 {
        line!(w, 1, "*\t*\t{default}");
    }
    w.annotations("Annotations", &i["metadata"]["annotations"]);
    w.events(events);
    w.finish()
}

/// An ingress class.
pub fn ingress_class(c: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    w.metadata(c, false);
    line!(w, 0, "Controller:\t{}", text(&c["spec"]["controller"]));
    let p = &c["spec"]["parameters"];
    if p.is_object() {
        w.line(0, "Parameters:");
        if p["apiGroup"].is_string() {
            line!(w, 1, "APIGroup:\t{}", text(&p["apiGroup"]));
        }
        line!(w, 1, "Kind:\t{}", text(&p["kind"]));
        line!(w, 1, "Name:\t{}", text(&p["name"]));
    }
    w.events(events);
    w.finish()
}

fn selector_text(s: &Value) -> String {
    let t = selector::to_text(s);
    if t.is_empty() { "<none>".to_owned() } else { t }
}

/// A network policy.
pub fn policy(p: &Value) -> String {
    let mut w = Writer::default();
    let spec = &p["spec"];
    line!(w, 0, "Name:\t{}", text(&p["metadata"]["name"]));
    line!(w, 0, "Namespace:\t{}", text(&p["metadata"]["namespace"]));
    let created = match p["metadata"]["creationTimestamp"]
        .as_str()
        .and_then(|t| t.parse::<jiff::Timestamp>().ok())
    {
        Some(t) => t
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S %z %Z")
            .to_string(),
        None => String::new(),
    };
    line!(w, 0, "Created on:\t{created}");
    w.pairs("Labels", &p["metadata"]["labels"]);
    w.annotations("Annotations", &p["metadata"]["annotations"]);
    w.line(0, "Spec:");
    let all = selector::to_text(&spec["podSelector"]);
    if all.is_empty() {
        w.line(
            1,
            "PodSelector:     <none> (Allowing the specific traffic to all pods in this namespace)",
        );
    } else {
        line!(w, 1, "PodSelector:     {all}");
    }
    let types = strings(&spec["policyTypes"]);
    let on = |t: &str| types.iter().any(|x| x == t);
    if on("Ingress") || types.is_empty() {
        w.line(1, "Allowing ingress traffic:");
        rules(&mut w, &spec["ingress"], "from", "From", "ingress", "source");
    } else {
        w.line(1, "Not affecting ingress traffic");
    }
    if on("Egress") {
        w.line(1, "Allowing egress traffic:");
        rules(&mut w, &spec["egress"], "to", "To", "egress", "destination");
    } else {
        w.line(1, "Not affecting egress traffic");
    }
    line!(w, 1, "Policy Types: {}", types.join(", "));
    w.finish()
}

fn rules(w: &mut Writer, list: &Value, key: &str, title: &str, kind: &str, end: &str) {
    let indent = "    ";
    let all = items(list);
    if all.is_empty() {
        line!(
            w,
            0,
            "{indent}<none> (Selected pods are isolated for {kind} connectivity)"
        );
        return;
    }
    for (at, rule) in all.iter().enumerate() {
        if items(&rule["ports"]).is_empty() {
            line!(w, 0, "{indent}To Port: <any> (traffic allowed to all ports)");
        }
        for port in items(&rule["ports"]) {
            let protocol = or(&port["protocol"], "TCP");
            if port["endPort"].is_null() {
                line!(w, 0, "{indent}To Port: {}/{protocol}", or(&port["port"], "<nil>"));
            } else {
                line!(
                    w,
                    0,
                    "{indent}To Port Range: {}-{}/{protocol}",
                    text(&port["port"]),
                    int(&port["endPort"])
                );
            }
        }
        if items(&rule[key]).is_empty() {
            line!(w, 0, "{indent}{title}: <any> (traffic not restricted by {end})");
        }
        for peer in items(&rule[key]) {
            line!(w, 0, "{indent}{title}:");
            if peer["namespaceSelector"].is_object() {
                line!(
                    w,
                    1,
                    "{indent}NamespaceSelector: {}",
                    selector_text(&peer["namespaceSelector"])
                );
            }
            if peer["podSelector"].is_object() {
                line!(
                    w,
                    1,
                    "{indent}PodSelector: {}",
                    selector_text(&peer["podSelector"])
                );
            }
            if peer["ipBlock"].is_object() {
                line!(w, 1, "{indent}IPBlock:");
                line!(w, 2, "{indent}CIDR: {}", text(&peer["ipBlock"]["cidr"]));
                line!(
                    w,
                    2,
                    "{indent}Except: {}",
                    strings(&peer["ipBlock"]["except"]).join(", ")
                );
            }
        }
        if at + 1 < all.len() {
            line!(w, 0, "{indent}----------");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn three_endpoints_are_shown_and_the_rest_counted() {
        let e = |a: &str| json!({"addresses": [a], "conditions": {"ready": true}});
        let slices = vec![
            json!({"ports": [{"name": "", "port": 80}], "endpoints": [e("1"), e("2"), e("3"), e("4"),
            {"addresses": ["5"], "conditions": {"ready": false}}]}),
        ];
        assert_eq!(endpoints(&slices, Some("")), "1:80,2:80,3:80 + 1 more...");
        assert_eq!(endpoints(&[], Some("")), "<none>");
        assert_eq!(endpoints(&slices, Some("x")), "");
    }
}
