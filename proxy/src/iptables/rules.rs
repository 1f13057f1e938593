//! The complete rule set of a node for iptables, from all service ports. Pure: the text is the test surface.
//!
//! Chains and comments carry upstream's names, so that people and tools recognise them, and so that either proxy cleans up after the other.

use crate::service::ServicePort;
use crate::service::endpoints::{Endpoint, Place, Targets, choose};
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The rules of a chain, each without its `-A CHAIN`.
pub type Chain = Vec<String>;

/// All chains that the proxy owns, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// The nat table's.
    pub nat: BTreeMap<String, Chain>,
    /// The filter table's.
    pub filter: BTreeMap<String, Chain>,
}

/// What the rules depend on besides Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The IP family.
    pub v6: bool,
    /// The node.
    pub place: Place,
    /// The networks of all pods, of the family: traffic from elsewhere to a ClusterIP is masqueraded. None when unknown.
    pub cluster_cidrs: Vec<IpNet>,
    /// Masquerade all traffic to ClusterIPs.
    pub masquerade_all: bool,
    /// The bit of the packet mark that asks for masquerading.
    pub masquerade_bit: u8,
    /// Whether NodePorts answer on the loopback addresses (IPv4 only).
    pub localhost_node_ports: bool,
    /// The networks whose addresses on this node serve NodePorts; all of this node's when empty.
    pub node_port_networks: Vec<IpNet>,
    /// Whether the kernel drops packets that conntrack finds invalid by itself (`nf_conntrack_tcp_be_liberal`).
    pub conntrack_liberal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            v6: false,
            place: Place::default(),
            cluster_cidrs: Vec::new(),
            masquerade_all: false,
            masquerade_bit: 14,
            localhost_node_ports: true,
            node_port_networks: Vec::new(),
            conntrack_liberal: false,
        }
    }
}

/// Top-level chains whose rules exclude each other, so that their order doesn't matter.
pub const UNORDERED: &[&str] = &[
    "KUBE-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-PROXY-FIREWALL",
];

/// Jumps from the kernel's chains: table, chain, rule.
pub const JUMPS: &[(&str, &str, &str)] = &[
    (
        "filter",
        "INPUT",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL",
    ),
    (
        "filter",
        "INPUT",
        "-m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS",
    ),
    (
        "filter",
        "INPUT",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES",
    ),
    (
        "filter",
        "FORWARD",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL",
    ),
    (
        "filter",
        "FORWARD",
        "-m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD",
    ),
    (
        "filter",
        "FORWARD",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
    ),
    (
        "filter",
        "FORWARD",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES",
    ),
    (
        "filter",
        "OUTPUT",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL",
    ),
    (
        "filter",
        "OUTPUT",
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
    ),
    (
        "nat",
        "OUTPUT",
        "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
    ),
    (
        "nat",
        "PREROUTING",
        "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
    ),
    (
        "nat",
        "POSTROUTING",
        "-m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING",
    ),
];

/// The part of a chain's name that stands for what it is about: 16 letters of a hash, as upstream makes it.
fn hash(text: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest
        .iter()
        .take(10)
        .fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
    (0..16)
        .rev()
        .map(|i| char::from(ALPHABET[((bits >> (5 * i)) & 31) as usize]))
        .collect()
}

/// The name of a chain of a service port: `KUBE-SVC-...`, `KUBE-SVL-...`, `KUBE-EXT-...`, `KUBE-FW-...`.
pub fn port_chain(prefix: &str, port: &ServicePort) -> String {
    format!(
        "{prefix}{}",
        hash(&format!("{}{}", port.name, port.protocol.as_str()))
    )
}

fn endpoint_text(endpoint: &Endpoint) -> String {
    match endpoint.ip {
        IpAddr::V4(ip) => format!("{ip}:{}", endpoint.port),
        IpAddr::V6(ip) => format!("[{ip}]:{}", endpoint.port),
    }
}

fn endpoint_chain(port: &ServicePort, endpoint: &Endpoint) -> String {
    let text = format!(
        "{}{}{}",
        port.name,
        port.protocol.as_str(),
        endpoint_text(endpoint)
    );
    format!("KUBE-SEP-{}", hash(&text))
}

fn host(ip: IpAddr) -> String {
    if ip.is_ipv4() {
        format!("{ip}/32")
    } else {
        format!("{ip}/128")
    }
}

/// Renders the rules for all ports, which are of the configuration's IP family.
pub fn render(config: &Config, ports: &[ServicePort]) -> RuleSet {
    let mut rules = RuleSet::default();
    fixed_chains(config, &mut rules);
    for port in ports {
        Renderer {
            config,
            port,
            targets: choose(port, &config.place),
            rules: &mut rules,
        }
        .port();
    }
    // NodePorts come last: an external IP that is this node's own address goes first.
    let local = if config.v6 {
        "! -d ::1/128"
    } else {
        "! -d 127.0.0.0/8"
    };
    let exclude = if config.localhost_node_ports && !config.v6 {
        String::new()
    } else {
        format!("{local} ")
    };
    let comment = "-m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\"";
    let services = rules.nat.entry("KUBE-SERVICES".to_owned()).or_default();
    if config.node_port_networks.is_empty() {
        services.push(format!(
            "{comment} -m addrtype --dst-type LOCAL {exclude}-j KUBE-NODEPORTS"
        ));
    }
    for network in &config.node_port_networks {
        services.push(format!(
            "{comment} -d {network} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
        ));
    }
    rules
}

fn fixed_chains(config: &Config, rules: &mut RuleSet) {
    let mark = format!("{:#x}", 1u32 << config.masquerade_bit);
    for name in ["KUBE-SERVICES", "KUBE-NODEPORTS"] {
        rules.nat.insert(name.to_owned(), Vec::new());
    }
    for name in [
        "KUBE-SERVICES",
        "KUBE-NODEPORTS",
        "KUBE-EXTERNAL-SERVICES",
        "KUBE-PROXY-FIREWALL",
    ] {
        rules.filter.insert(name.to_owned(), Vec::new());
    }
    rules.nat.insert(
        "KUBE-MARK-MASQ".to_owned(),
        vec![format!("-j MARK --or-mark {mark}")],
    );
    rules.nat.insert(
        "KUBE-POSTROUTING".to_owned(),
        vec![
            format!("-m mark ! --mark {mark}/{mark} -j RETURN"),
            // The mark goes, so that a packet that is routed again is not masqueraded twice.
            format!("-j MARK --xor-mark {mark}"),
            "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully"
                .to_owned(),
        ],
    );
    let mut forward = Vec::new();
    if !config.conntrack_liberal {
        forward.push("-m conntrack --ctstate INVALID -j DROP".to_owned());
    }
    forward.push(format!(
        "-m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT"
    ));
    forward.push(
        "-m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT".to_owned(),
    );
    rules.filter.insert("KUBE-FORWARD".to_owned(), forward);
}

struct Renderer<'a> {
    config: &'a Config,
    port: &'a ServicePort,
    targets: Targets,
    rules: &'a mut RuleSet,
}

impl Renderer<'_> {
    fn nat(&mut self, chain: &str, rule: String) {
        self.rules.nat.entry(chain.to_owned()).or_default().push(rule);
    }

    fn filter(&mut self, chain: &str, rule: String) {
        self.rules.filter.entry(chain.to_owned()).or_default().push(rule);
    }

    fn comment(&self, what: &str) -> String {
        format!("-m comment --comment \"{} {what}\"", self.port.name)
    }

    fn to(&self, ip: IpAddr) -> String {
        let protocol = self.port.protocol.as_str();
        format!(
            "-m {protocol} -p {protocol} -d {} --dport {}",
            host(ip),
            self.port.port
        )
    }

    fn to_node_port(&self) -> String {
        let protocol = self.port.protocol.as_str();
        format!("-m {protocol} -p {protocol} --dport {}", self.port.node_port)
    }

    fn port(mut self) {
        let internal_targets = if self.port.internal_local {
            &self.targets.local
        } else {
            &self.targets.cluster
        };
        let external_targets = if self.port.external_local {
            &self.targets.local
        } else {
            &self.targets.cluster
        };
        let (internal_any, external_any) = (!internal_targets.is_empty(), !external_targets.is_empty());
        self.cluster_ip(internal_any);
        if self.port.has_external() {
            self.external(external_any);
        }
        if self.port.health_check_node_port != 0 && self.port.external_local {
            let rule = format!(
                "{} -m tcp -p tcp --dport {} -j ACCEPT",
                self.comment("health check node port"),
                self.port.health_check_node_port
            );
            self.filter("KUBE-NODEPORTS", rule);
        }
        self.balance();
    }

    /// The chain for traffic under the policy Cluster, and the one under Local.
    fn internal_chain(&self) -> String {
        let prefix = if self.port.internal_local {
            "KUBE-SVL-"
        } else {
            "KUBE-SVC-"
        };
        port_chain(prefix, self.port)
    }

    fn cluster_ip(&mut self, any: bool) {
        let to = self.to(self.port.cluster_ip);
        let comment = self.comment("cluster IP");
        if any {
            let chain = self.internal_chain();
            self.nat("KUBE-SERVICES", format!("{comment} {to} -j {chain}"));
            if self.config.masquerade_all {
                self.nat(&chain, format!("{comment} {to} -j KUBE-MARK-MASQ"));
            } else if let [cidr] = self.config.cluster_cidrs.as_slice() {
                self.nat(&chain, format!("{comment} {to} ! -s {cidr} -j KUBE-MARK-MASQ"));
            }
        } else if self.targets.any {
            let comment = self.comment("has no local endpoints");
            self.filter("KUBE-SERVICES", format!("{comment} {to} -j DROP"));
        } else {
            let comment = self.comment("has no endpoints");
            self.filter("KUBE-SERVICES", format!("{comment} {to} -j REJECT"));
        }
    }

    fn external(&mut self, any: bool) {
        let port = self.port;
        let chain = port_chain("KUBE-EXT-", port);
        if any || self.targets.any {
            self.external_chain(&chain, any);
        }
        let refuse = if self.targets.any {
            ("has no local endpoints", "DROP")
        } else {
            ("has no endpoints", "REJECT")
        };
        for ip in &port.external_ips {
            self.enter(&self.to(*ip), "external IP", &chain, any, refuse);
        }
        for ip in &port.load_balancer_ips {
            let to = self.to(*ip);
            let mut entry = chain.clone();
            if !port.source_ranges.is_empty() && (any || self.targets.any) {
                entry = self.firewall(*ip, &to, &chain);
            }
            self.enter(&to, "loadbalancer IP", &entry, any, refuse);
        }
        if port.node_port != 0 {
            let to = self.to_node_port();
            if any || self.targets.any {
                self.nat(
                    "KUBE-NODEPORTS",
                    format!("-m comment --comment \"{}\" {to} -j {chain}", port.name),
                );
            }
            if !any {
                let comment = self.comment(refuse.0);
                self.filter(
                    "KUBE-EXTERNAL-SERVICES",
                    format!("{comment} -m addrtype --dst-type LOCAL {to} -j {}", refuse.1),
                );
            }
        }
    }

    /// One way in from outside. Under the policy Local without a local endpoint, the cluster's own traffic still gets through
    /// its chain, and what comes back out of it is dropped.
    fn enter(&mut self, to: &str, what: &str, chain: &str, any: bool, refuse: (&str, &str)) {
        if any || self.targets.any {
            let comment = self.comment(what);
            self.nat("KUBE-SERVICES", format!("{comment} {to} -j {chain}"));
        }
        if !any {
            let comment = self.comment(refuse.0);
            self.filter(
                "KUBE-EXTERNAL-SERVICES",
                format!("{comment} {to} -j {}", refuse.1),
            );
        }
    }

    fn firewall(&mut self, ip: IpAddr, to: &str, external: &str) -> String {
        let chain = port_chain("KUBE-FW-", self.port);
        let comment = self.comment("loadbalancer IP");
        let mut own = false;
        if !self.rules.nat.contains_key(&chain) {
            for range in self.port.source_ranges.clone() {
                own |= self.config.cluster_cidrs.iter().any(|c| range.contains(c));
                self.nat(&chain, format!("{comment} -s {range} -j {external}"));
            }
        }
        if own {
            // A node that may use the address talks to it from that very address.
            self.nat(&chain, format!("{comment} -s {} -j {external}", host(ip)));
        }
        let other = self.comment("traffic not accepted by its source ranges");
        self.filter("KUBE-PROXY-FIREWALL", format!("{other} {to} -j DROP"));
        chain
    }

    fn external_chain(&mut self, chain: &str, any: bool) {
        let port = self.port;
        let cluster = port_chain("KUBE-SVC-", port);
        let about = format!("{} external destinations", port.name);
        self.rules.nat.entry(chain.to_owned()).or_default();
        if !port.external_local {
            self.nat(
                chain,
                format!("-m comment --comment \"masquerade traffic for {about}\" -j KUBE-MARK-MASQ"),
            );
            self.nat(chain, format!("-j {cluster}"));
            return;
        }
        if let [cidr] = self.config.cluster_cidrs.as_slice() {
            self.nat(
                chain,
                format!("-m comment --comment \"pod traffic for {about}\" -s {cidr} -j {cluster}"),
            );
        }
        let local = "-m addrtype --src-type LOCAL";
        self.nat(
            chain,
            format!(
                "-m comment --comment \"masquerade LOCAL traffic for {about}\" {local} -j KUBE-MARK-MASQ"
            ),
        );
        self.nat(
            chain,
            format!("-m comment --comment \"route LOCAL traffic for {about}\" {local} -j {cluster}"),
        );
        if any {
            self.nat(chain, format!("-j {}", port_chain("KUBE-SVL-", port)));
        }
    }

    /// The chains that spread traffic over endpoints, and the endpoints' own.
    fn balance(&mut self) {
        let port = self.port;
        let uses_cluster = !port.internal_local || port.has_external();
        let uses_local = port.internal_local || (port.external_local && port.has_external());
        let mut used: BTreeMap<String, Endpoint> = BTreeMap::new();
        for (uses, prefix, list) in [
            (uses_cluster, "KUBE-SVC-", self.targets.cluster.clone()),
            (uses_local, "KUBE-SVL-", self.targets.local.clone()),
        ] {
            if !uses || list.is_empty() {
                continue;
            }
            self.spread(&port_chain(prefix, port), &list);
            used.extend(list.into_iter().map(|e| (endpoint_chain(port, &e), e)));
        }
        let protocol = port.protocol.as_str();
        for (chain, endpoint) in used {
            let comment = format!("-m comment --comment \"{}\"", port.name);
            self.nat(
                &chain,
                format!("{comment} -s {} -j KUBE-MARK-MASQ", host(endpoint.ip)),
            );
            let remember = if port.affinity_seconds > 0 {
                format!("-m recent --name {chain} --set ")
            } else {
                String::new()
            };
            let to = endpoint_text(&endpoint);
            self.nat(
                &chain,
                format!("{comment} {remember}-m {protocol} -p {protocol} -j DNAT --to-destination {to}"),
            );
        }
    }

    fn spread(&mut self, chain: &str, endpoints: &[Endpoint]) {
        let port = self.port;
        let count = endpoints.len();
        if port.affinity_seconds > 0 {
            for endpoint in endpoints {
                let to = endpoint_chain(port, endpoint);
                let about = format!(
                    "-m comment --comment \"{} -> {}\"",
                    port.name,
                    endpoint_text(endpoint)
                );
                let seconds = port.affinity_seconds;
                self.nat(
                    chain,
                    format!("{about} -m recent --name {to} --rcheck --seconds {seconds} --reap -j {to}"),
                );
            }
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            let to = endpoint_chain(port, endpoint);
            let about = format!(
                "-m comment --comment \"{} -> {}\"",
                port.name,
                endpoint_text(endpoint)
            );
            let share = if index + 1 < count {
                format!(
                    "-m statistic --mode random --probability {:.10} ",
                    1.0 / (count - index) as f64
                )
            } else {
                String::new()
            };
            self.nat(chain, format!("{about} {share}-j {to}"));
        }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
