//! Connections that the kernel remembers and that must not live on: UDP flows whose endpoint is gone, or that began before there was one.
//! TCP needs nothing: its connections end by themselves.

use crate::service::endpoints::{Place, choose};
use crate::service::{Protocol, ServicePort};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::{Command, Stdio};

/// A deletion: arguments of `conntrack`.
pub type Deletion = Vec<String>;

type Usable = BTreeSet<(IpAddr, u16)>;

fn usable(port: &ServicePort, place: &Place) -> Usable {
    let targets = choose(port, place);
    targets
        .cluster
        .iter()
        .chain(&targets.local)
        .map(|e| (e.ip, e.port))
        .collect()
}

fn addresses(port: &ServicePort) -> impl Iterator<Item = IpAddr> {
    std::iter::once(port.cluster_ip)
        .chain(port.external_ips.iter().copied())
        .chain(port.load_balancer_ips.iter().copied())
}

/// The deletions that a change of the service ports asks for. Pure.
pub fn plan(old: &[ServicePort], new: &[ServicePort], place: &Place) -> Vec<Deletion> {
    let udp = |p: &&ServicePort| p.protocol == Protocol::Udp;
    let index = |ports: &[ServicePort]| -> BTreeMap<String, ServicePort> {
        ports
            .iter()
            .filter(udp)
            .map(|p| (p.name.clone(), p.clone()))
            .collect()
    };
    let (before, after) = (index(old), index(new));
    let mut deletions = BTreeSet::new();
    for (name, was) in &before {
        let now = after.get(name);
        let still = now.map(|p| usable(p, place)).unwrap_or_default();
        for (ip, _) in usable(was, place).into_iter().filter(|e| !still.contains(e)) {
            for address in addresses(was) {
                deletions.insert(vec![
                    "--orig-dst".to_owned(),
                    address.to_string(),
                    "--dst-nat".to_owned(),
                    ip.to_string(),
                ]);
            }
            if was.node_port != 0 {
                deletions.insert(vec![
                    "--orig-port-dst".to_owned(),
                    was.node_port.to_string(),
                    "--dst-nat".to_owned(),
                    ip.to_string(),
                ]);
            }
        }
    }
    for (name, now) in &after {
        let had = before.get(name).is_some_and(|p| !usable(p, place).is_empty());
        if had || usable(now, place).is_empty() {
            continue;
        }
        // Packets that came while there was no endpoint made entries that lead nowhere.
        for address in addresses(now) {
            deletions.insert(vec!["--orig-dst".to_owned(), address.to_string()]);
        }
        if now.node_port != 0 {
            deletions.insert(vec!["--orig-port-dst".to_owned(), now.node_port.to_string()]);
        }
    }
    let family = if new
        .iter()
        .chain(old)
        .next()
        .is_some_and(|p| p.cluster_ip.is_ipv6())
    {
        "ipv6"
    } else {
        "ipv4"
    };
    let whole = |arguments: Vec<String>| {
        let mut all: Vec<String> = ["-D", "-p", "udp", "-f", family].map(str::to_owned).into();
        all.extend(arguments);
        all
    };
    deletions.into_iter().map(whole).collect()
}

/// Performs deletions. There being nothing to delete is no error; what fails is logged.
pub fn perform(deletions: &[Deletion]) {
    for arguments in deletions {
        match Command::new("conntrack")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
        {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let error = String::from_utf8_lossy(&output.stderr);
                if !error.contains("0 flow entries have been deleted") {
                    tracing::warn!("conntrack {}: {}", arguments.join(" "), error.trim());
                }
            }
            Err(error) => tracing::warn!("running conntrack: {error}; stale UDP flows are not cleared"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::endpoints::Endpoint;

    fn dns(endpoints: &[&str], node_port: u16) -> ServicePort {
        let endpoint = |ip: &&str| Endpoint {
            ip: ip.parse().unwrap(),
            port: 53,
            local: false,
            ready: true,
            serving: true,
            terminating: false,
            zones: Vec::new(),
            nodes: Vec::new(),
        };
        ServicePort {
            name: "kube-system/kube-dns:dns".to_owned(),
            protocol: Protocol::Udp,
            cluster_ip: "10.96.0.10".parse().unwrap(),
            port: 53,
            node_port,
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
            affinity_seconds: 0,
            internal_local: false,
            external_local: false,
            health_check_node_port: 0,
            endpoints: endpoints.iter().map(endpoint).collect(),
        }
    }

    #[test]
    fn flows_to_gone_endpoints_and_flows_from_before_the_first_one_are_deleted() {
        let place = Place::default();
        let texts = |old: &[ServicePort], new: &[ServicePort]| -> Vec<String> {
            plan(old, new, &place).iter().map(|d| d[5..].join(" ")).collect()
        };
        let (one, two, none) = (
            dns(&["10.0.0.1"], 0),
            dns(&["10.0.0.1", "10.0.0.2"], 0),
            dns(&[], 0),
        );
        assert_eq!(
            texts(std::slice::from_ref(&two), std::slice::from_ref(&one)),
            ["--orig-dst 10.96.0.10 --dst-nat 10.0.0.2"]
        );
        assert!(
            texts(std::slice::from_ref(&one), &[two]).is_empty(),
            "another endpoint more disturbs nobody"
        );
        assert_eq!(
            texts(&[none], std::slice::from_ref(&one)),
            ["--orig-dst 10.96.0.10"]
        );
        assert_eq!(
            texts(&[], &[dns(&["10.0.0.1"], 30053)]),
            ["--orig-dst 10.96.0.10", "--orig-port-dst 30053"]
        );
        let mut tcp = one;
        tcp.protocol = Protocol::Tcp;
        assert!(texts(&[tcp], &[]).is_empty());
    }
}
