//! Service.

mod check;

pub(crate) use check::endpoint_ip;

use crate::fill::{Fields, absent, each, empty, spec, text, text_of};
use crate::print::{self, AGE, NAME, NONE};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, NameRule, prepare_plain_update};
use rutter_api::{Context, ErrorList, Strategy, Value};

use serde_json::json;
use std::collections::BTreeSet;

/// How long a client sticks to an endpoint: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

/// Service.
pub(crate) struct Service;

impl Strategy for Service {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        default_affinity(spec);
        text(spec, "type", "ClusterIP");
        for port in each(spec, "ports") {
            text(port, "protocol", "TCP");
            let unset = match port.get("targetPort") {
                None | Some(Value::Null) => true,
                Some(value) => value == 0 || value == "",
            };
            if unset {
                let own = port.get("port").cloned().unwrap_or(Value::from(0));
                port.insert("targetPort".to_owned(), own);
            }
        }
        if externally_accessible(spec) {
            text(spec, "externalTrafficPolicy", "Cluster");
        }
        if text_of(spec, "type") != "ExternalName" {
            absent(spec, "internalTrafficPolicy", "Cluster");
        }
        if text_of(spec, "type") == "LoadBalancer" {
            absent(spec, "allocateLoadBalancerNodePorts", true);
            for ingress in object
                .list_at_mut("status.loadBalancer.ingress")
                .into_iter()
                .flatten()
            {
                if !ingress.str_at("ip").is_empty() {
                    ingress.set_default("ipMode", "VIP");
                }
            }
        }
    }

    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        object.take_at("status");
        same_cluster_ips(object, None);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        prepare_plain_update(object, old, cx);
        if cx.subresource != "status" {
            keep_allocated(object, old);
            same_cluster_ips(object, Some(old));
            drop_what_the_type_has_not(object, old);
        }
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        vec![
            object.str_at("spec.clusterIP").to_owned(),
            object.str_at("spec.type").to_owned(),
        ]
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        check::service(object, None)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        if cx.subresource == "status" {
            check::status(object)
        } else {
            check::service(object, Some(old))
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if object
            .annotation("service.kubernetes.io/topology-aware-hints")
            .is_some()
        {
            warnings.push("annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead".to_owned());
        }
        let spec = object.at("spec");
        let (kind, external) = (spec.str_at("type"), !spec.list_at("externalIPs").is_empty());
        if spec.str_at("clusterIP") == "None" {
            if !spec.str_at("loadBalancerIP").is_empty() {
                warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
            }
            if external {
                warnings.push("spec.externalIPs is ignored for headless services".to_owned());
            }
            if spec.str_at("sessionAffinity") != "None" {
                warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
            }
        }
        if external {
            warnings.push(
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
            );
        }
        if external && kind == "ExternalName" {
            warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
        }
        if kind != "ExternalName" && !spec.str_at("externalName").is_empty() {
            warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
        }
        if spec.str_at("trafficDistribution") == "PreferClose" {
            warnings.push(
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
            );
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Type", "How it can be reached."),
            print::text("Cluster-IP", "Its address in the cluster."),
            print::text("External-IP", "Its addresses outside."),
            print::text("Port(s)", "Its ports."),
            AGE,
            print::wide("Selector", "The labels of the pods behind it."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let cluster_ip = object
            .list_at("spec.clusterIPs")
            .first()
            .and_then(Value::as_str)
            .unwrap_or(NONE);
        vec![
            print::name(object),
            Value::from(object.str_at("spec.type")),
            Value::from(cluster_ip),
            Value::from(external_ip(object)),
            Value::from(ports(object)),
            print::age(object, cx),
            Value::from(print::labels(object.at("spec.selector"))),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

/// Whether clients outside the cluster can reach it.
fn externally_accessible(spec: &Fields) -> bool {
    match text_of(spec, "type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !empty(spec, "externalIPs"),
        _ => false,
    }
}

fn default_affinity(spec: &mut Fields) {
    text(spec, "sessionAffinity", "None");
    match text_of(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let config = spec.get("sessionAffinityConfig").unwrap_or(&Value::Null);
            if config.at("clientIP.timeoutSeconds").is_null() {
                let config = json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}});
                spec.insert("sessionAffinityConfig".to_owned(), config);
            }
        }
        _ => {}
    }
}

/// `clusterIP` is the first of `clusterIPs`; a writer that knows only one of them means both.
fn same_cluster_ips(object: &mut Value, old: Option<&Value>) {
    let one = object.str_at("spec.clusterIP").to_owned();
    let all = object.list_at("spec.clusterIPs").to_vec();
    let set_all = |object: &mut Value, one: &str| {
        if one.is_empty() {
            object.take_at("spec.clusterIPs");
        } else {
            object.set("spec.clusterIPs", json!([one]));
        }
    };
    match old {
        None => {
            if !one.is_empty() && all.is_empty() {
                set_all(object, &one);
            }
        }
        Some(old) => {
            let old_one = old.str_at("spec.clusterIP");
            let old_all = old.list_at("spec.clusterIPs");
            let same_all = all == old_all;
            if old_one != one && same_all {
                set_all(object, &one);
            } else if old_one == one && !one.is_empty() && !same_all && all.is_empty() {
                object.take_at("spec.clusterIP");
            }
        }
    }
}

/// An update that leaves out what was allocated keeps it, so that an old manifest can be put again.
fn keep_allocated(object: &mut Value, old: &Value) {
    let kind = object.str_at("spec.type").to_owned();
    let needs_ip = |value: &Value| value.str_at("spec.type") != "ExternalName";
    if needs_ip(old) && needs_ip(object) {
        if object.str_at("spec.clusterIP").is_empty() && object.list_at("spec.clusterIPs").is_empty() {
            for field in ["spec.clusterIP", "spec.clusterIPs"] {
                if !old.at(field).is_null() {
                    object.set(field, old.at(field).clone());
                }
            }
        }
        if object.at("spec.ipFamilies").is_null() && object.at("spec.ipFamilyPolicy").is_null() {
            for field in ["spec.ipFamilies", "spec.ipFamilyPolicy"] {
                if !old.at(field).is_null() {
                    object.set(field, old.at(field).clone());
                }
            }
        }
    }
    let has_node_ports = |value: &str| matches!(value, "NodePort" | "LoadBalancer");
    if has_node_ports(&kind) && has_node_ports(old.str_at("spec.type")) {
        keep_node_ports(object, old);
    }
    let needs_health = |value: &Value| {
        value.str_at("spec.type") == "LoadBalancer" && value.str_at("spec.externalTrafficPolicy") == "Local"
    };
    let port = old.int_at("spec.healthCheckNodePort").unwrap_or_default();
    if needs_health(object)
        && needs_health(old)
        && object.int_at("spec.healthCheckNodePort").unwrap_or_default() == 0
        && port != 0
    {
        object.set("spec.healthCheckNodePort", port);
    }
}

/// Ports without a node port take over that of the old port with the same protocol and number, unless another has it.
fn keep_node_ports(object: &mut Value, old: &Value) {
    let key = |port: &Value| (port.str_at("protocol").to_owned(), port.int_at("port"));
    let of = |port: &Value| port.int_at("nodePort").unwrap_or_default();
    let mut used: BTreeSet<(String, i64)> = object
        .list_at("spec.ports")
        .iter()
        .filter(|port| of(port) != 0)
        .map(|port| (port.str_at("protocol").to_owned(), of(port)))
        .collect();
    for port in object.list_at_mut("spec.ports").into_iter().flatten() {
        if of(port) != 0 {
            continue;
        }
        let before = old
            .list_at("spec.ports")
            .iter()
            .find(|p| key(p) == key(port))
            .map(of)
            .unwrap_or_default();
        if before != 0 && used.insert((port.str_at("protocol").to_owned(), before)) {
            port.set("nodePort", before);
        }
    }
}

/// What only the old type had, and the update leaves as it was, goes.
fn drop_what_the_type_has_not(object: &mut Value, old: &Value) {
    let kind = |value: &Value| value.str_at("spec.type").to_owned();
    let (new_kind, old_kind) = (kind(object), kind(old));
    let drop_same = |object: &mut Value, fields: &[&str]| {
        if fields.iter().all(|field| object.at(field) == old.at(field)) {
            for field in fields {
                object.take_at(field);
            }
        }
    };
    if old_kind != "ExternalName" && new_kind == "ExternalName" {
        drop_same(object, &["spec.clusterIP", "spec.clusterIPs"]);
        drop_same(object, &["spec.ipFamilies"]);
        drop_same(object, &["spec.ipFamilyPolicy"]);
    }
    let has_node_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if has_node_ports(&old_kind) && !has_node_ports(&new_kind) {
        let ports = |value: &Value| -> BTreeSet<i64> {
            value
                .list_at("spec.ports")
                .iter()
                .filter_map(|p| p.int_at("nodePort"))
                .filter(|p| *p != 0)
                .collect()
        };
        if ports(old).is_superset(&ports(object)) {
            for port in object.list_at_mut("spec.ports").into_iter().flatten() {
                port.take_at("nodePort");
            }
        }
    }
    let needs_health = |value: &Value| {
        kind(value) == "LoadBalancer" && value.str_at("spec.externalTrafficPolicy") == "Local"
    };
    if needs_health(old) && !needs_health(object) {
        drop_same(object, &["spec.healthCheckNodePort"]);
    }
    if old_kind == "LoadBalancer" && new_kind != "LoadBalancer" {
        drop_same(object, &["spec.allocateLoadBalancerNodePorts"]);
        drop_same(object, &["spec.loadBalancerClass"]);
    }
    let accessible = |value: &Value| value.map_at("spec").is_some_and(externally_accessible);
    if accessible(old) && !accessible(object) {
        drop_same(object, &["spec.externalTrafficPolicy"]);
    }
    if new_kind != "LoadBalancer" && !object.at("status.loadBalancer").is_null() {
        object.set("status.loadBalancer", json!({}));
    }
}

/// Addresses of a load balancer's status, sorted.
pub(crate) fn load_balancer_addresses(object: &Value) -> String {
    let mut addresses = BTreeSet::new();
    for ingress in object.list_at("status.loadBalancer.ingress") {
        match (ingress.str_at("ip"), ingress.str_at("hostname")) {
            ("", "") => {}
            ("", hostname) => {
                addresses.insert(hostname);
            }
            (ip, _) => {
                addresses.insert(ip);
            }
        }
    }
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

fn external_ip(service: &Value) -> String {
    let external = print::joined(service.list_at("spec.externalIPs"));
    match service.str_at("spec.type") {
        "ClusterIP" | "NodePort" if external.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => external,
        "LoadBalancer" => match (load_balancer_addresses(service), external) {
            (balancer, external) if balancer.is_empty() && external.is_empty() => "<pending>".to_owned(),
            (balancer, external) if external.is_empty() => balancer,
            (balancer, external) if balancer.is_empty() => external,
            (balancer, external) => format!("{balancer},{external}"),
        },
        "ExternalName" => service.str_at("spec.externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(service: &Value) -> String {
    let ports = service.list_at("spec.ports").iter().map(|port| {
        let number = port.int_at("port").unwrap_or_default();
        let protocol = port.str_at("protocol");
        match port.int_at("nodePort").unwrap_or_default() {
            node_port if node_port > 0 => format!("{number}:{node_port}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    });
    let text = ports.collect::<Vec<_>>().join(",");
    if text.is_empty() { NONE.to_owned() } else { text }
}

#[cfg(test)]
mod tests;
