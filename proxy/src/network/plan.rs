//! What a node's network should look like, from all nodes of the cluster. Pure.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The chain in which this agent masquerades what leaves the cluster.
pub const CHAIN: &str = "RUTTER-MASQ";

/// What a node's network should look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The CNI configuration list; none before the node has a pod CIDR.
    pub cni: Option<String>,
    /// Routes to other nodes' pods: network and the node that has it.
    pub routes: BTreeMap<IpNet, IpAddr>,
    /// Input for `iptables-restore --noflush`.
    pub masquerade: String,
}

/// The pod CIDRs of a node that parse.
fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let many = spec.pod_cidrs.iter().flatten();
    let all: Vec<IpNet> = many.filter_map(|c| c.parse().ok()).collect();
    if !all.is_empty() {
        return all;
    }
    spec.pod_cidr.iter().filter_map(|c| c.parse().ok()).collect()
}

/// A node's internal addresses.
fn addresses(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.iter().flat_map(|s| s.addresses.iter().flatten());
    addresses
        .filter(|a| a.type_ == "InternalIP")
        .filter_map(|a| a.address.parse().ok())
        .collect()
}

/// Decides the network of the node called `own`. `cluster` are the networks of all pods.
pub fn plan(own: &str, nodes: &[Arc<Node>], cluster: &[IpNet], mtu: Option<u32>) -> Network {
    let mut network = Network::default();
    let mut own_cidrs = Vec::new();
    for node in nodes {
        let cidrs = pod_cidrs(node);
        if node.metadata.name.as_deref() == Some(own) {
            network.cni = (!cidrs.is_empty()).then(|| cni(&cidrs, mtu));
            own_cidrs = cidrs;
            continue;
        }
        let addresses = addresses(node);
        for cidr in cidrs {
            let same_family = |a: &&IpAddr| a.is_ipv4() == matches!(cidr, IpNet::V4(_));
            if let Some(via) = addresses.iter().find(same_family) {
                network.routes.insert(cidr, *via);
            }
        }
    }
    let mut stays: Vec<String> = cluster.iter().map(ToString::to_string).collect();
    let mut hosts: Vec<IpAddr> = nodes
        .iter()
        .flat_map(|n| addresses(n))
        .filter(IpAddr::is_ipv4)
        .collect();
    hosts.sort();
    hosts.dedup();
    stays.extend(hosts.iter().map(|a| format!("{a}/32")));
    network.masquerade = masquerade(&own_cidrs, &stays);
    network
}

/// The CNI list: a bridge for the node's pods, host ports, and the loopback.
fn cni(cidrs: &[IpNet], mtu: Option<u32>) -> String {
    let ranges: Vec<_> = cidrs.iter().map(|c| json!([{"subnet": c.to_string()}])).collect();
    let routes: Vec<_> = cidrs
        .iter()
        .map(|c| json!({"dst": if matches!(c, IpNet::V4(_)) { "0.0.0.0/0" } else { "::/0" }}))
        .collect();
    let mut bridge = json!({
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": true,
        "isDefaultGateway": true,
        "ipMasq": false,
        "hairpinMode": true,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": "/var/lib/cni/networks"},
    });
    // isDefaultGateway adds the default route itself; naming it twice is an error.
    if let Some(ipam) = bridge.get_mut("ipam").and_then(|i| i.as_object_mut()) {
        ipam.remove("routes");
    }
    if let Some(mtu) = mtu {
        bridge["mtu"] = json!(mtu);
    }
    let list = json!({
        "cniVersion": "0.4.0",
        "name": "rutter",
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}],
    });
    format!("{list:#}\n")
}

fn masquerade(own: &[IpNet], stays: &[String]) -> String {
    let mut text = format!("*nat\n:{CHAIN} - [0:0]\n");
    for cidr in own.iter().filter(|c| matches!(c, IpNet::V4(_))) {
        for stay in stays.iter().filter(|s| !s.contains(':')) {
            text.push_str(&format!("-A {CHAIN} -s {cidr} -d {stay} -j RETURN\n"));
        }
        text.push_str(&format!(
            "-A {CHAIN} -s {cidr} -m addrtype ! --dst-type LOCAL -j MASQUERADE --random-fully\n"
        ));
    }
    text.push_str("COMMIT\n");
    text
}

/// What to change in the kernel's routes: `ip route` arguments, from the routes this agent owns now.
pub fn route_changes(now: &BTreeMap<IpNet, IpAddr>, wanted: &BTreeMap<IpNet, IpAddr>) -> Vec<String> {
    let gone = now
        .keys()
        .filter(|net| !wanted.contains_key(net))
        .map(|net| format!("route del {net} proto {PROTOCOL}"));
    let new = wanted
        .iter()
        .filter(|(net, via)| now.get(net) != Some(via))
        .map(|(net, via)| format!("route replace {net} via {via} proto {PROTOCOL}"));
    gone.chain(new).collect()
}

/// The number by which the kernel's routing table tells this agent's routes from others'.
pub const PROTOCOL: &str = "101";

/// Reads the output of `ip route show proto 101`.
pub fn parse_routes(text: &str) -> BTreeMap<IpNet, IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let to = words.next()?;
            let to = to
                .parse()
                .ok()
                .or_else(|| Some(IpNet::from(to.parse::<IpAddr>().ok()?)))?;
            let via = words.skip_while(|w| *w != "via").nth(1)?.parse().ok()?;
            Some((to, via))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeAddress, NodeSpec, NodeStatus};

    fn node(name: &str, address: &str, cidr: Option<&str>) -> Arc<Node> {
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        node.spec = Some(NodeSpec {
            pod_cidr: cidr.map(str::to_owned),
            ..NodeSpec::default()
        });
        let address = NodeAddress {
            type_: "InternalIP".to_owned(),
            address: address.to_owned(),
        };
        node.status = Some(NodeStatus {
            addresses: Some(vec![address]),
            ..NodeStatus::default()
        });
        Arc::new(node)
    }

    fn cluster() -> Vec<IpNet> {
        vec!["10.244.0.0/16".parse().unwrap()]
    }

    #[test]
    fn a_node_routes_to_its_peers_and_masquerades_what_leaves() {
        let nodes = [
            node("a", "172.30.0.2", Some("10.244.0.0/24")),
            node("b", "172.30.0.3", Some("10.244.1.0/24")),
            node("c", "172.30.0.4", None),
        ];
        let network = plan("a", &nodes, &cluster(), None);
        let routes: Vec<_> = network
            .routes
            .iter()
            .map(|(net, via)| format!("{net} {via}"))
            .collect();
        assert_eq!(routes, ["10.244.1.0/24 172.30.0.3"]);
        let cni: serde_json::Value = serde_json::from_str(&network.cni.unwrap()).unwrap();
        assert_eq!(
            cni["plugins"][0]["ipam"]["ranges"][0][0]["subnet"],
            "10.244.0.0/24"
        );
        for line in [
            "-A RUTTER-MASQ -s 10.244.0.0/24 -d 10.244.0.0/16 -j RETURN",
            "-A RUTTER-MASQ -s 10.244.0.0/24 -d 172.30.0.4/32 -j RETURN",
            "-A RUTTER-MASQ -s 10.244.0.0/24 -m addrtype ! --dst-type LOCAL -j MASQUERADE --random-fully",
        ] {
            assert!(
                network.masquerade.lines().any(|l| l == line),
                "{}",
                network.masquerade
            );
        }
    }

    #[test]
    fn a_node_without_a_pod_cidr_gets_no_cni_configuration() {
        let network = plan("a", &[node("a", "172.30.0.2", None)], &cluster(), None);
        assert_eq!(network.cni, None);
        assert_eq!(network.masquerade, "*nat\n:RUTTER-MASQ - [0:0]\nCOMMIT\n");
    }

    #[test]
    fn only_what_differs_is_changed_in_the_kernel() {
        let now = parse_routes(
            "10.244.1.0/24 via 172.30.0.3 dev eth0 \n10.244.2.0/24 via 172.30.0.4 dev eth0\nbroken\n",
        );
        assert_eq!(now.len(), 2);
        let wanted = [
            ("10.244.1.0/24".parse().unwrap(), "172.30.0.9".parse().unwrap()),
            ("10.244.3.0/24".parse().unwrap(), "172.30.0.5".parse().unwrap()),
        ]
        .into();
        assert_eq!(
            route_changes(&now, &wanted),
            [
                "route del 10.244.2.0/24 proto 101",
                "route replace 10.244.1.0/24 via 172.30.0.9 proto 101",
                "route replace 10.244.3.0/24 via 172.30.0.5 proto 101"
            ]
        );
        assert!(route_changes(&wanted, &wanted).is_empty());
    }
}
