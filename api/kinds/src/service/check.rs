//! What is wrong with a Service.

use super::externally_accessible;
use crate::check::{enumerated, name_of, required_enum, required_text};
use rutter_api::object::ObjectExt;
use rutter_api::validation::{
    At, cidr, dns_label, dns_subdomain, ip, labels, port_name, port_number, qualified_name,
};
use rutter_api::{ErrorList, FieldError, Value};
use std::collections::BTreeSet;
use std::net::IpAddr;

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// A new or changed Service.
pub(super) fn service(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    if let Some(old) = old {
        cluster_ips_kept(&spec, old, &mut errors);
        families_kept(&spec, old, &mut errors);
        class_kept(&spec, Some(old), &mut errors);
        if needs_health_check(object) && needs_health_check(old) {
            let port = spec.child("healthCheckNodePort");
            if port.value != old.at("spec.healthCheckNodePort") {
                errors.push(port.forbidden("field is immutable"));
            }
        }
    }
    topology_annotations(&root, &mut errors);
    by_type(&spec, &mut errors);
    ports(&spec, &mut errors);
    labels(&spec.child("selector"), &mut errors);
    affinity(&spec, &mut errors);
    cluster_ips(&spec, &mut errors);
    for address in spec.child("externalIPs").items() {
        match ip(address.text()) {
            None => {
                errors.push(address.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
            }
            Some(_) => endpoint_ip(&address, &mut errors),
        }
    }
    required_enum(
        &spec.child("type"),
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        &mut errors,
    );
    source_ranges(&root, &spec, &mut errors);
    let allocate = spec.child("allocateLoadBalancerNodePorts");
    let balanced = spec.child("type").text() == "LoadBalancer";
    if allocate.is_set() && !balanced {
        errors.push(allocate.forbidden("may only be used when `type` is 'LoadBalancer'"));
    }
    if allocate.is_null() && balanced {
        errors.push(FieldError::required(&"allocateLoadBalancerNodePorts".into(), ""));
    }
    class_kept(&spec, None, &mut errors);
    traffic(&spec, object, &mut errors);
    errors
}

fn is_headless(spec: &Value) -> bool {
    matches!(spec.list_at("clusterIPs"), [only] if only == "None")
}

fn needs_health_check(object: &Value) -> bool {
    object.str_at("spec.type") == "LoadBalancer" && object.str_at("spec.externalTrafficPolicy") == "Local"
}

fn topology_annotations(root: &At<'_, '_>, errors: &mut ErrorList) {
    let metadata = root.child("metadata");
    let notes = metadata.child("annotations");
    let (hints, mode) = (notes.key(HINTS), notes.key(MODE));
    if hints.is_set() && mode.is_set() && hints.value != mode.value {
        errors.push(mode.invalid(format!("must match annotations[{HINTS}] when both are specified")));
    }
}

fn by_type(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let kind = spec.child("type").text();
    let headless = is_headless(spec.value);
    if spec.child("ports").is_empty() && !headless && kind != "ExternalName" {
        errors.push(spec.child("ports").required(""));
    }
    if headless && matches!(kind, "LoadBalancer" | "NodePort") {
        for first in spec.child("clusterIPs").items().take(1) {
            errors.push(first.invalid(format!("may not be set to 'None' for {kind} services")));
        }
    }
    if kind != "ExternalName" {
        return;
    }
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !spec.child(field).is_empty() {
            errors.push(
                spec.child(field)
                    .forbidden("may not be set for ExternalName services"),
            );
        }
    }
    let name = spec.child("externalName");
    let text = name.text().strip_suffix('.').unwrap_or(name.text());
    if text.is_empty() {
        errors.push(name.required(""));
    } else {
        errors.extend(dns_subdomain(text).into_iter().map(|e| name.invalid_as(text, e)));
    }
}

fn ports(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let at = spec.child("ports");
    let mut names = BTreeSet::new();
    let several = at.len() > 1;
    for port in at.items() {
        let name = port.child("name");
        if name.is_empty() {
            if several {
                errors.push(name.required(""));
            }
        } else {
            name_of(&name, dns_label, errors);
            if !names.insert(name.text()) {
                errors.push(name.duplicate());
            }
        }
        let number = port.child("port").int().unwrap_or_default();
        errors.extend(
            port_number(number)
                .into_iter()
                .map(|e| port.child("port").invalid_as(number, e)),
        );
        required_enum(&port.child("protocol"), &["SCTP", "TCP", "UDP"], errors);
        let target = port.child("targetPort");
        match target.value {
            Value::String(text) => target.all(errors, port_name(text)),
            value => {
                let n = value.as_i64().unwrap_or_default();
                errors.extend(port_number(n).into_iter().map(|e| target.invalid_as(n, e)));
            }
        }
        if port.child("appProtocol").is_set() {
            name_of(&port.child("appProtocol"), qualified_name, errors);
        }
        let node_port = port.child("nodePort");
        if spec.child("type").text() == "ClusterIP" && node_port.int().unwrap_or_default() != 0 {
            errors.push(node_port.forbidden("may not be used when `type` is 'ClusterIP'"));
        }
    }
    let (mut node_ports, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for port in at.items() {
        let protocol = port.child("protocol").text();
        let node_port = port.child("nodePort").int().unwrap_or_default();
        if node_port != 0 && !node_ports.insert((protocol, node_port)) {
            errors.push(port.child("nodePort").duplicate());
        }
        let number = port.child("port").int();
        if !numbers.insert((protocol, number)) {
            let shown = serde_json::json!({
                "Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0,
            });
            errors.push(FieldError::duplicate(&port.path(), shown));
        }
    }
}

fn affinity(spec: &At<'_, '_>, errors: &mut ErrorList) {
    required_enum(&spec.child("sessionAffinity"), &["ClientIP", "None"], errors);
    let config = spec.child("sessionAffinityConfig");
    match spec.child("sessionAffinity").text() {
        "ClientIP" => {
            if config.is_null() {
                errors.push(config.required("when session affinity type is ClientIP"));
            } else if config.child("clientIP").is_null() {
                errors.push(
                    config
                        .child("clientIP")
                        .required("when session affinity type is ClientIP"),
                );
            } else if config.child("clientIP.timeoutSeconds").is_null() {
                errors.push(
                    config
                        .child("clientIP.timeoutSeconds")
                        .required("when session affinity type is ClientIP"),
                );
            } else {
                let seconds = config.child("clientIP.timeoutSeconds");
                if !(1..=86_400).contains(&seconds.int().unwrap_or_default()) {
                    errors.push(seconds.invalid("must be greater than 0 and less than 86400"));
                }
            }
        }
        "None" if config.is_set() => {
            errors.push(config.forbidden("must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn cluster_ips(spec: &At<'_, '_>, errors: &mut ErrorList) {
    if spec.child("type").text() == "ExternalName" {
        return;
    }
    let one = spec.child("clusterIP");
    let all = spec.child("clusterIPs");
    let first = all.items().next();
    match (one.is_empty(), first) {
        (false, None) => errors.push(all.required("")),
        (false, Some(first)) if first.text() != one.text() => {
            errors.push(all.invalid("first value must match `clusterIP`"));
        }
        (true, Some(_)) => errors.push(all.invalid("must be empty when `clusterIP` is not specified")),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for family in spec.child("ipFamilies").items() {
        enumerated(&family, &["IPv4", "IPv6"], errors);
        if !seen.insert(family.text()) {
            errors.push(family.duplicate());
        }
    }
    if spec.child("ipFamilyPolicy").is_set() {
        let policies = &["PreferDualStack", "RequireDualStack", "SingleStack"];
        enumerated(&spec.child("ipFamilyPolicy"), policies, errors);
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    let mut wrong = false;
    for (i, address) in all.items().enumerate() {
        if i == 0 && address.text() == "None" {
            if all.len() > 1 {
                wrong = true;
                errors.push(all.invalid("'None' must be the first and only value"));
            }
            continue;
        }
        match ip(address.text()) {
            Some(parsed) => addresses.push(parsed),
            None => {
                wrong = true;
                errors.push(address.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
            }
        }
    }
    if all.len() > 2 {
        errors.push(all.invalid("may only hold up to 2 values"));
    }
    if wrong {
        return;
    }
    if all.len() > 1 && (addresses.iter().all(IpAddr::is_ipv4) || addresses.iter().all(IpAddr::is_ipv6)) {
        errors.push(all.invalid("may specify no more than one IP for each IP family"));
    }
    if is_headless(spec.value) {
        return;
    }
    let families = spec.child("ipFamilies");
    for (i, ((address, parsed), family)) in all.items().zip(&addresses).zip(families.items()).enumerate() {
        match (family.text(), parsed.is_ipv4()) {
            ("IPv4", false) | ("IPv6", true) => {
                let detail = format!(
                    "expected an {} value as indicated by `ipFamilies[{i}]`",
                    family.text()
                );
                errors.push(address.invalid(detail));
            }
            _ => {}
        }
    }
}

/// An address that traffic can be sent to.
pub(crate) fn endpoint_ip(at: &At<'_, '_>, errors: &mut ErrorList) {
    let text = at.text();
    let Some(address) = ip(text) else {
        errors.push(at.invalid_as(text, "must be a valid IP address"));
        return;
    };
    let (local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets().starts_with(&[224, 0, 0])),
        IpAddr::V6(v6) => (
            v6.segments()[0] & 0xffc0 == 0xfe80,
            v6.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    if address.is_unspecified() {
        errors.push(at.invalid(format!("may not be unspecified ({text})")));
    }
    if address.is_loopback() {
        errors.push(at.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)"));
    }
    if local {
        errors.push(at.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)"));
    }
    if multicast {
        errors.push(at.invalid("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"));
    }
}

fn source_ranges(root: &At<'_, '_>, spec: &At<'_, '_>, errors: &mut ErrorList) {
    const TYPE: &str = "may only be used when `type` is 'LoadBalancer'";
    const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let balanced = spec.child("type").text() == "LoadBalancer";
    let ranges = spec.child("loadBalancerSourceRanges");
    let shown = spec.field("LoadBalancerSourceRanges", ranges.value);
    if !ranges.is_empty() {
        if !balanced {
            errors.push(shown.forbidden(TYPE));
        }
        for range in shown.items() {
            if cidr(range.text().trim()).is_none() {
                errors.push(range.invalid_as(range.text().trim(), CIDR));
            }
        }
        return;
    }
    let metadata = root.child("metadata");
    let notes = metadata.child("annotations");
    let note = notes.key(RANGES);
    if note.is_null() {
        return;
    }
    if !balanced {
        errors.push(note.forbidden(TYPE));
    }
    for range in note
        .text()
        .trim()
        .split(',')
        .map(str::trim)
        .filter(|r| !r.is_empty())
    {
        if cidr(range).is_none() {
            errors.push(note.invalid_as(range, CIDR));
        }
    }
}

fn traffic(spec: &At<'_, '_>, object: &Value, errors: &mut ErrorList) {
    let external = spec.child("externalTrafficPolicy");
    if !spec.value.as_object().is_some_and(externally_accessible) {
        if !external.is_empty() {
            errors.push(external.invalid("may only be set for externally-accessible services"));
        }
    } else {
        required_enum(&external, &["Cluster", "Local"], errors);
    }
    let health = spec.child("healthCheckNodePort");
    let port = health.int().unwrap_or_default();
    if !needs_health_check(object) {
        if port != 0 {
            errors.push(health.invalid(
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ));
        }
    } else if port != 0 {
        health.all(errors, port_number(port));
    }
    let internal = spec.child("internalTrafficPolicy");
    if internal.is_set() {
        enumerated(&internal, &["Cluster", "Local"], errors);
    } else if spec.child("type").text() != "ExternalName" {
        required_text(&internal, errors);
    }
    let distribution = spec.child("trafficDistribution");
    if distribution.is_set() {
        enumerated(
            &distribution,
            &["PreferClose", "PreferSameZone", "PreferSameNode"],
            errors,
        );
    }
}

fn class_kept(spec: &At<'_, '_>, old: Option<&Value>, errors: &mut ErrorList) {
    let class = spec.child("loadBalancerClass");
    let balanced = spec.child("type").text() == "LoadBalancer";
    if let Some(old) = old {
        let both = balanced && old.str_at("spec.type") == "LoadBalancer";
        if both && class.value != old.at("spec.loadBalancerClass") {
            errors.push(class.invalid("may not change once set"));
        }
        return;
    }
    if class.is_set() {
        if balanced {
            name_of(&class, qualified_name, errors);
        } else {
            errors.push(class.forbidden("may only be used when `type` is 'LoadBalancer'"));
        }
    }
}

fn cluster_ips_kept(spec: &At<'_, '_>, old: &Value, errors: &mut ErrorList) {
    if spec.child("type").text() == "ExternalName" || old.str_at("spec.type") == "ExternalName" {
        return;
    }
    if is_headless(spec.value) && is_headless(old.at("spec")) {
        return;
    }
    let all = spec.child("clusterIPs");
    let before = old.list_at("spec.clusterIPs");
    let at = |i: usize| all.path().index(i);
    let changed = |i: usize| all.value.get(i) != before.get(i);
    let shown = || {
        if all.is_null() {
            Value::Array(Vec::new())
        } else {
            all.value.clone()
        }
    };
    if all.len() == before.len() {
        for i in (0..before.len()).filter(|i| changed(*i)) {
            errors.push(FieldError::invalid(&at(i), shown(), "may not change once set"));
        }
    } else if before.len() > all.len() {
        if all.is_empty() {
            errors.push(FieldError::invalid(
                &at(0),
                shown(),
                "primary clusterIP can not be unset",
            ));
        } else if changed(0) {
            errors.push(FieldError::invalid(&at(0), shown(), "may not change once set"));
        }
        let policy = spec.child("ipFamilyPolicy");
        if all.len() == 1 && policy.text() != "SingleStack" {
            errors
                .push(policy.invalid("must be set to 'SingleStack' when releasing the secondary clusterIP"));
        }
    } else if !before.is_empty() && changed(0) {
        errors.push(FieldError::invalid(&at(0), shown(), "may not change once set"));
    }
}

fn families_kept(spec: &At<'_, '_>, old: &Value, errors: &mut ErrorList) {
    if spec.child("type").text() == "ExternalName" || old.str_at("spec.type") == "ExternalName" {
        return;
    }
    if is_headless(spec.value) || is_headless(old.at("spec")) {
        return;
    }
    let families = spec.child("ipFamilies");
    let before = old.list_at("spec.ipFamilies");
    let first = families.path().index(0);
    let changed = |i: usize| families.value.get(i) != before.get(i);
    if families.len() == before.len() {
        for _ in (0..before.len()).filter(|i| changed(*i)) {
            errors.push(FieldError::invalid(
                &first,
                families.value.clone(),
                "may not change once set",
            ));
        }
    } else if before.len() > families.len() {
        if families.is_empty() {
            errors.push(FieldError::invalid(
                &first,
                families.value.clone(),
                "primary ipFamily can not be unset",
            ));
        } else if changed(0) {
            errors.push(FieldError::invalid(
                &first,
                families.value.clone(),
                "may not change once set",
            ));
        }
        let policy = spec.child("ipFamilyPolicy");
        if families.len() == 1 && policy.text() != "SingleStack" {
            errors.push(policy.invalid("must be set to 'SingleStack' when releasing the secondary ipFamily"));
        }
    } else if !before.is_empty() && changed(0) {
        errors.push(FieldError::invalid(
            &first,
            families.value.clone(),
            "may not change once set",
        ));
    }
}

/// A changed status.
pub(super) fn status(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let status = root.child("status");
    let balancer = status.child("loadBalancer");
    let ingress = balancer.child("ingress");
    if object.str_at("spec.type") != "LoadBalancer" {
        if !ingress.is_empty() {
            errors.push(ingress.forbidden("may only be used when `spec.type` is 'LoadBalancer'"));
        }
        return errors;
    }
    for point in ingress.items() {
        let (address, mode, host) = (point.child("ip"), point.child("ipMode"), point.child("hostname"));
        if !address.is_empty() && ip(address.text()).is_none() {
            errors.push(address.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
        }
        if mode.is_null() {
            if !address.is_empty() {
                errors.push(mode.required("must be specified when `ip` is set"));
            }
        } else if address.is_empty() {
            errors.push(mode.forbidden("may not be specified when `ip` is not set"));
        } else {
            enumerated(&mode, &["Proxy", "VIP"], &mut errors);
        }
        if !host.is_empty() {
            name_of(&host, dns_subdomain, &mut errors);
            if ip(host.text()).is_some() {
                errors.push(host.invalid("must be a DNS name, not an IP address"));
            }
        }
    }
    errors
}
