//! Endpoints, and which of them traffic goes to: the rules of traffic policies, readiness, termination and topology hints
//! (KEP-2086, KEP-1669, KEP-2433). Pure.

use super::{Protocol, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::net::IpAddr;

/// An address and port that serves a Service's port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
    /// Whether it is on this node.
    pub local: bool,
    /// Whether it takes new traffic.
    pub ready: bool,
    /// Whether it would take traffic, ending or not.
    pub serving: bool,
    /// Whether it is ending.
    pub terminating: bool,
    /// The zones that should use it; none when nobody says.
    pub zones: Vec<String>,
    /// The nodes that should use it; none when nobody says.
    pub nodes: Vec<String>,
}

/// The node that rules are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// Its zone (`topology.kubernetes.io/zone`); empty when it has none.
    pub zone: String,
}

/// The endpoints of a slice for the port with `name` and `protocol`. Of each endpoint the first address counts, as the API says.
pub fn of_slice(slice: &EndpointSlice, name: &str, protocol: Protocol, place: &Place) -> Vec<Endpoint> {
    let fits = |p: &&k8s_openapi::api::discovery::v1::EndpointPort| {
        p.name.as_deref().unwrap_or_default() == name
            && Protocol::parse(p.protocol.as_deref()) == Some(protocol)
    };
    let port = slice.ports.iter().flatten().find(fits);
    let Some(port) = port.and_then(|p| p.port).and_then(|p| u16::try_from(p).ok()) else {
        return Vec::new();
    };
    let one = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let ready = conditions.ready.unwrap_or(true);
        let hints = endpoint.hints.clone().unwrap_or_default();
        Some(Endpoint {
            ip: endpoint.addresses.first()?.parse().ok()?,
            port,
            local: endpoint.node_name.as_deref() == Some(&place.node),
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
            zones: hints.for_zones.iter().flatten().map(|z| z.name.clone()).collect(),
            nodes: hints.for_nodes.iter().flatten().map(|n| n.name.clone()).collect(),
        })
    };
    slice.endpoints.iter().flatten().filter_map(one).collect()
}

/// Where a port's traffic goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// For traffic under the policy Cluster.
    pub cluster: Vec<Endpoint>,
    /// For traffic under the policy Local: endpoints on this node.
    pub local: Vec<Endpoint>,
    /// Whether there is any usable endpoint anywhere.
    pub any: bool,
}

/// Chooses a port's targets. Without a ready endpoint, ending ones that still serve are used.
pub fn choose(port: &ServicePort, place: &Place) -> Targets {
    let ready: Vec<Endpoint> = port.endpoints.iter().filter(|e| e.ready).cloned().collect();
    let ending: Vec<Endpoint> = port
        .endpoints
        .iter()
        .filter(|e| e.serving && e.terminating)
        .cloned()
        .collect();
    let mut cluster = if ready.is_empty() {
        ending.clone()
    } else {
        by_hints(&ready, place)
    };
    let mut local: Vec<Endpoint> = ready.iter().filter(|e| e.local).cloned().collect();
    if local.is_empty() {
        local = ending.iter().filter(|e| e.local).cloned().collect();
    }
    let any = !cluster.is_empty() || !local.is_empty();
    for list in [&mut cluster, &mut local] {
        list.sort();
        list.dedup_by(|a, b| (a.ip, a.port) == (b.ip, b.port));
    }
    Targets { cluster, local, any }
}

/// Follows topology hints if each endpoint has some and they leave at least one.
fn by_hints(ready: &[Endpoint], place: &Place) -> Vec<Endpoint> {
    let hinted = |has: fn(&Endpoint) -> &Vec<String>, mine: &String| -> Option<Vec<Endpoint>> {
        if mine.is_empty() || ready.iter().any(|e| has(e).is_empty()) {
            return None;
        }
        let chosen: Vec<Endpoint> = ready.iter().filter(|e| has(e).contains(mine)).cloned().collect();
        (!chosen.is_empty()).then_some(chosen)
    };
    hinted(|e| &e.nodes, &place.node)
        .or_else(|| hinted(|e| &e.zones, &place.zone))
        .unwrap_or_else(|| ready.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn place() -> Place {
        Place {
            node: "a".to_owned(),
            zone: "z1".to_owned(),
        }
    }

    /// Endpoints from words such as `1:local,ready` and `2:ending,zone=z2`; the number is the last byte of the address.
    fn endpoints(text: &str) -> Vec<Endpoint> {
        let one = |word: &str| {
            let (number, flags) = word.split_once(':').unwrap();
            let has = |f: &str| flags.split(',').any(|x| x == f);
            let zones = flags
                .split(',')
                .filter_map(|f| f.strip_prefix("zone="))
                .map(str::to_owned)
                .collect();
            Endpoint {
                ip: format!("10.0.0.{number}").parse().unwrap(),
                port: 80,
                local: has("local"),
                ready: has("ready"),
                serving: has("ready") || has("ending"),
                terminating: has("ending"),
                zones,
                nodes: Vec::new(),
            }
        };
        text.split_whitespace().map(one).collect()
    }

    fn numbers(list: &[Endpoint]) -> String {
        let last = |e: &Endpoint| e.ip.to_string().rsplit('.').next().unwrap().to_owned();
        list.iter().map(last).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn targets_follow_readiness_termination_place_and_hints() {
        for (what, text, cluster, local) in [
            ("ready ones", "1:local,ready 2:ready 3:", "1 2", "1"),
            (
                "ending ones while others are ready",
                "1:local,ending 2:ready",
                "2",
                "1",
            ),
            ("only ending ones", "1:local,ending 2:ending", "1 2", "1"),
            ("nothing", "1: 2:", "", ""),
            ("own zone by hints", "1:ready,zone=z1 2:ready,zone=z2", "1", ""),
            ("hints missing on one", "1:ready,zone=z1 2:ready", "1 2", ""),
            (
                "hints that leave nothing",
                "1:ready,zone=z2 2:ready,zone=z3",
                "1 2",
                "",
            ),
        ] {
            let port = ServicePort {
                name: "n/s".to_owned(),
                protocol: Protocol::Tcp,
                cluster_ip: "10.96.0.1".parse().unwrap(),
                port: 80,
                node_port: 0,
                external_ips: Vec::new(),
                load_balancer_ips: Vec::new(),
                source_ranges: Vec::new(),
                affinity_seconds: 0,
                internal_local: false,
                external_local: false,
                health_check_node_port: 0,
                endpoints: endpoints(text),
            };
            let targets = choose(&port, &place());
            assert_eq!(
                (numbers(&targets.cluster), numbers(&targets.local)),
                (cluster.to_owned(), local.to_owned()),
                "{what}"
            );
        }
    }

    #[test]
    fn a_slice_gives_the_endpoints_of_one_port() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "nodeName": "a", "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["bad"]},
            ],
        }))
        .unwrap();
        let found = of_slice(&slice, "http", Protocol::Tcp, &place());
        assert_eq!(found.len(), 1);
        assert!(found[0].local && !found[0].ready && found[0].serving && found[0].terminating);
        assert!(of_slice(&slice, "dns", Protocol::Tcp, &place()).is_empty());
        assert_eq!(of_slice(&slice, "dns", Protocol::Udp, &place())[0].port, 53);
    }
}
