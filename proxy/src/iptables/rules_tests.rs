//! Packets sent through the rendered rules, by a small interpreter of the matches and targets that the proxy uses.

use super::*;
use crate::service::Protocol;

#[derive(Clone, Copy)]
struct Packet {
    from: IpAddr,
    to: IpAddr,
    port: u16,
    /// What `addrtype` says of source and destination.
    from_local: bool,
    to_local: bool,
}

#[derive(Debug, PartialEq, Eq, Clone)]
enum Fate {
    /// Rewritten to one of these, and whether the source is masqueraded.
    Sent(Vec<String>, bool),
    Rejected,
    Dropped,
    /// No rule says anything.
    Passed,
}

fn words(rule: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut quoted = false;
    let mut word = String::new();
    for c in rule.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    words.push(word);
    words
}

/// The target of a rule if the packet matches.
fn matches(rule: &str, packet: &Packet) -> Option<(String, Option<String>)> {
    let words = words(rule);
    let (mut negate, mut target, mut to) = (false, String::new(), None);
    let mut iter = words.iter().peekable();
    while let Some(word) = iter.next() {
        let net = |text: &str, ip: IpAddr| text.parse::<IpNet>().unwrap().contains(&ip);
        let good = match word.as_str() {
            "!" => {
                negate = true;
                continue;
            }
            "-m" | "--comment" | "-p" | "--mode" | "--probability" | "--name" | "--seconds" | "--mark"
            | "--or-mark" => {
                iter.next();
                true
            }
            "--rcheck" | "--reap" | "--set" | "--random-fully" => true,
            "-d" => net(iter.next().unwrap(), packet.to),
            "-s" => net(iter.next().unwrap(), packet.from),
            "--dport" => iter.next().unwrap().parse::<u16>().unwrap() == packet.port,
            "--dst-type" => iter.next().unwrap() == "LOCAL" && packet.to_local,
            "--src-type" => iter.next().unwrap() == "LOCAL" && packet.from_local,
            "-j" => {
                target.clone_from(iter.next().unwrap());
                true
            }
            "--to-destination" => {
                to = iter.next().cloned();
                true
            }
            other => panic!("a match that the interpreter doesn't know: {other} in {rule}"),
        };
        if good == negate {
            return None;
        }
        negate = false;
    }
    Some((target, to))
}

struct Walk<'a> {
    chains: &'a BTreeMap<String, Chain>,
    packet: Packet,
    masquerade: bool,
    sent: Vec<String>,
    fate: Option<Fate>,
}

impl Walk<'_> {
    /// Whether the packet's fate is decided.
    fn chain(&mut self, name: &str) -> bool {
        let Some(chain) = self.chains.get(name) else {
            panic!("a jump to {name}, which doesn't exist")
        };
        for rule in chain {
            // Affinity to an endpoint that was never used doesn't match.
            if rule.contains("--rcheck") {
                continue;
            }
            let Some((target, to)) = matches(rule, &self.packet) else {
                continue;
            };
            let maybe = rule.contains("--probability");
            match target.as_str() {
                "KUBE-MARK-MASQ" => self.masquerade = true,
                "DNAT" => {
                    self.sent.push(to.unwrap());
                    return true;
                }
                "REJECT" => self.fate = Some(Fate::Rejected),
                "DROP" => self.fate = Some(Fate::Dropped),
                "ACCEPT" => return true,
                chain => {
                    let masquerade = self.masquerade;
                    let done = self.chain(chain);
                    if maybe {
                        // The other branches are walked too, as if the dice had fallen otherwise.
                        self.masquerade = masquerade;
                        continue;
                    }
                    if done {
                        return true;
                    }
                }
            }
            if self.fate.is_some() {
                return true;
            }
        }
        !self.sent.is_empty()
    }
}

fn send(rules: &RuleSet, packet: Packet) -> Fate {
    let mut nat = Walk {
        chains: &rules.nat,
        packet,
        masquerade: false,
        sent: Vec::new(),
        fate: None,
    };
    nat.chain("KUBE-SERVICES");
    if !nat.sent.is_empty() {
        let mut sent = nat.sent.clone();
        sent.sort();
        return Fate::Sent(sent, nat.masquerade);
    }
    for chain in ["KUBE-PROXY-FIREWALL", "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES"] {
        let mut filter = Walk {
            chains: &rules.filter,
            packet,
            masquerade: false,
            sent: Vec::new(),
            fate: None,
        };
        filter.chain(chain);
        if let Some(fate) = filter.fate {
            return fate;
        }
    }
    Fate::Passed
}

fn config() -> Config {
    Config {
        place: Place {
            node: "here".to_owned(),
            zone: String::new(),
        },
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        ..Config::default()
    }
}

fn endpoint(ip: &str, local: bool) -> Endpoint {
    Endpoint {
        ip: ip.parse().unwrap(),
        port: 8080,
        local,
        ready: true,
        serving: true,
        terminating: false,
        zones: Vec::new(),
        nodes: Vec::new(),
    }
}

fn web() -> ServicePort {
    ServicePort {
        name: "shop/web:http".to_owned(),
        protocol: Protocol::Tcp,
        cluster_ip: "10.96.0.5".parse().unwrap(),
        port: 80,
        node_port: 30080,
        external_ips: vec!["192.0.2.1".parse().unwrap()],
        load_balancer_ips: vec!["192.0.2.9".parse().unwrap()],
        source_ranges: Vec::new(),
        affinity_seconds: 0,
        internal_local: false,
        external_local: false,
        health_check_node_port: 0,
        endpoints: vec![endpoint("10.244.0.7", true), endpoint("10.244.1.8", false)],
    }
}

const POD: &str = "10.244.0.3";
const OUTSIDE: &str = "203.0.113.4";
const NODE: &str = "172.30.0.2";

fn packet(from: &str, to: &str, port: u16) -> Packet {
    Packet {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        port,
        from_local: from == NODE,
        to_local: to == NODE || to.starts_with("127."),
    }
}

fn sent(to: &[&str], masquerade: bool) -> Fate {
    Fate::Sent(to.iter().map(|t| (*t).to_owned()).collect(), masquerade)
}

const BOTH: &[&str] = &["10.244.0.7:8080", "10.244.1.8:8080"];
const HERE: &[&str] = &["10.244.0.7:8080"];

#[test]
fn packets_reach_endpoints_by_every_way_in() {
    let rules = render(&config(), &[web()]);
    for (what, from, to, port, want) in [
        ("a pod by ClusterIP", POD, "10.96.0.5", 80, sent(BOTH, false)),
        ("a node by ClusterIP", NODE, "10.96.0.5", 80, sent(BOTH, true)),
        ("another port", POD, "10.96.0.5", 81, Fate::Passed),
        ("outside by NodePort", OUTSIDE, NODE, 30080, sent(BOTH, true)),
        ("loopback by NodePort", NODE, "127.0.0.1", 30080, sent(BOTH, true)),
        (
            "outside by external IP",
            OUTSIDE,
            "192.0.2.1",
            80,
            sent(BOTH, true),
        ),
        (
            "outside by load balancer",
            OUTSIDE,
            "192.0.2.9",
            80,
            sent(BOTH, true),
        ),
        ("an address that is nothing", POD, "10.96.0.6", 80, Fate::Passed),
    ] {
        assert_eq!(send(&rules, packet(from, to, port)), want, "{what}");
    }
}

#[test]
fn the_local_policy_keeps_traffic_on_the_node_and_its_source_address() {
    let mut port = web();
    port.external_local = true;
    let rules = render(&config(), &[port.clone()]);
    assert_eq!(send(&rules, packet(OUTSIDE, NODE, 30080)), sent(HERE, false));
    assert_eq!(
        send(&rules, packet(POD, "192.0.2.9", 80)),
        sent(BOTH, false),
        "a pod's way is short-cut to all"
    );
    assert_eq!(send(&rules, packet(NODE, "192.0.2.9", 80)), sent(BOTH, true));

    port.endpoints.remove(0);
    let rules = render(&config(), &[port.clone()]);
    assert_eq!(
        send(&rules, packet(OUTSIDE, NODE, 30080)),
        Fate::Dropped,
        "no local endpoint"
    );
    assert_eq!(
        send(&rules, packet(POD, "10.96.0.5", 80)),
        sent(&["10.244.1.8:8080"], false)
    );

    port.external_local = false;
    port.internal_local = true;
    let rules = render(&config(), &[port]);
    assert_eq!(send(&rules, packet(POD, "10.96.0.5", 80)), Fate::Dropped);
    assert_eq!(
        send(&rules, packet(OUTSIDE, NODE, 30080)),
        sent(&["10.244.1.8:8080"], true)
    );
}

#[test]
fn without_endpoints_connections_are_refused() {
    let mut port = web();
    port.endpoints.clear();
    let rules = render(&config(), &[port]);
    for (from, to, number) in [
        (POD, "10.96.0.5", 80),
        (OUTSIDE, NODE, 30080),
        (OUTSIDE, "192.0.2.1", 80),
        (OUTSIDE, "192.0.2.9", 80),
    ] {
        assert_eq!(
            send(&rules, packet(from, to, number)),
            Fate::Rejected,
            "{from} to {to}:{number}"
        );
    }
}

#[test]
fn source_ranges_let_in_who_is_named() {
    let mut port = web();
    port.source_ranges = vec!["203.0.113.0/24".parse().unwrap()];
    let rules = render(&config(), &[port]);
    assert_eq!(send(&rules, packet(OUTSIDE, "192.0.2.9", 80)), sent(BOTH, true));
    assert_eq!(
        send(&rules, packet("198.51.100.1", "192.0.2.9", 80)),
        Fate::Dropped
    );
    assert_eq!(
        send(&rules, packet("198.51.100.1", "192.0.2.1", 80)),
        sent(BOTH, true),
        "external IPs are not limited"
    );
}

#[test]
fn affinity_remembers_at_the_endpoint_and_asks_before_the_dice() {
    let mut port = web();
    port.affinity_seconds = 10800;
    let rules = render(&config(), &[port.clone()]);
    let chain = &rules.nat[&port_chain("KUBE-SVC-", &port)];
    assert!(
        chain[1].contains("--rcheck --seconds 10800 --reap") && chain[2].contains("--rcheck"),
        "{chain:?}"
    );
    assert!(chain[3].contains("--probability 0.5000000000"));
    let endpoint = rules
        .nat
        .values()
        .flatten()
        .find(|r| r.contains("--to-destination 10.244.0.7:8080"))
        .unwrap();
    assert!(endpoint.contains("-m recent --name KUBE-SEP-") && endpoint.contains("--set"));
}

#[test]
fn an_endpoint_that_reaches_itself_is_masqueraded() {
    let mut port = web();
    port.endpoints.remove(1);
    let rules = render(&config(), &[port]);
    assert_eq!(
        send(&rules, packet("10.244.0.7", "10.96.0.5", 80)),
        sent(HERE, true)
    );
}

#[test]
fn chains_of_ports_are_named_as_upstream_names_them() {
    // The name of the chain of "ns1/svc1:p80" over TCP in upstream's own tests.
    let mut port = web();
    port.name = "ns1/svc1:p80".to_owned();
    assert_eq!(port_chain("KUBE-SVC-", &port), "KUBE-SVC-XPGD46QRK7WJZT7O");
}

#[test]
fn rules_grow_in_proportion_to_services() {
    let ports = |n: usize| -> Vec<ServicePort> {
        let one = |i: usize| {
            let mut port = web();
            port.name = format!("shop/web{i}");
            port.cluster_ip = IpAddr::from([10, 96, (i / 256) as u8, (i % 256) as u8]);
            (port.node_port, port.external_ips, port.load_balancer_ips) = (0, Vec::new(), Vec::new());
            port
        };
        (0..n).map(one).collect()
    };
    let count = |n: usize| {
        render(&config(), &ports(n))
            .nat
            .values()
            .map(Vec::len)
            .sum::<usize>()
    };
    assert_eq!(
        count(20) - count(10),
        10 * 8,
        "each Service has one way in, one mark, two choices and two rules an endpoint"
    );
}
