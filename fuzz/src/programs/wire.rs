//! Frames of streams, and the names of the cluster's zone.

use super::now;
use crate::make::Maker;
use rutter_dns::objects::{Endpoint, Objects, Port, Service};
use rutter_dns::zone::{self, Answer, Data, Type};
use std::net::IpAddr;

// The client's side of the container runtime's streams is the kubelet's own.
#[allow(dead_code)]
#[path = "../../../kubelet/src/server/spdy.rs"]
mod spdy;

use spdy::{Event, Frame, Sender, read_frame};

/// Frames that are sent are read as they were meant, and any bytes end.
pub fn frames(data: &[u8]) {
    let mut maker = Maker::new(data);
    let mut sent = Vec::new();
    let mut sender = Sender::new(&mut sent);
    let mut wanted = Vec::new();
    for _ in 0..maker.count(8) {
        let stream = maker.pick(&[1, 3, 5, 7]);
        match maker.below(4) {
            0 => {
                now(sender.open(&[("streamType", "stdin")])).expect("memory takes it");
                wanted.push(Frame::Other);
            }
            1 => {
                let bytes = maker.bytes();
                now(sender.send(stream, &bytes)).expect("memory takes it");
                if !bytes.is_empty() {
                    wanted.push(Frame::Stream(stream, Event::Data(bytes.into())));
                }
            }
            2 => {
                now(sender.end(stream)).expect("memory takes it");
                wanted.push(Frame::Stream(stream, Event::End));
            }
            _ => {
                let id = maker.below(1 << 16) as u32;
                now(sender.pong(id)).expect("memory takes it");
                wanted.push(Frame::Ping(id));
            }
        }
    }
    assert_eq!(all(&sent).ok(), Some(wanted));
    let rest = maker.rest();
    if let Ok(frames) = all(rest) {
        assert!(
            frames.len() <= rest.len() / 4,
            "{} frames of {} bytes",
            frames.len(),
            rest.len()
        );
    }
}

fn all(mut bytes: &[u8]) -> std::io::Result<Vec<Frame>> {
    let mut found = Vec::new();
    loop {
        let more = now(read_frame(&mut bytes))?;
        if more.is_empty() {
            return Ok(found);
        }
        found.extend(more);
    }
}

/// A small cluster.
struct Cluster {
    services: Vec<(Service, Vec<Endpoint>)>,
}

impl Objects for Cluster {
    fn has_namespace(&self, namespace: &str) -> bool {
        self.services
            .iter()
            .any(|(service, _)| service.namespace == namespace)
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Service> {
        let mut all = self.services.iter().map(|(service, _)| service);
        all.find(|service| service.namespace == namespace && service.name == name)
            .cloned()
    }

    fn endpoints(&self, service: &Service) -> Vec<Endpoint> {
        let found = self.services.iter().find(|(own, _)| own == service);
        found.map(|(_, endpoints)| endpoints.clone()).unwrap_or_default()
    }

    fn service_of(&self, address: IpAddr) -> Option<(String, String)> {
        let (service, _) = self
            .services
            .iter()
            .find(|(service, _)| service.cluster_ips.contains(&address))?;
        Some((service.namespace.clone(), service.name.clone()))
    }

    fn endpoints_of(&self, address: IpAddr) -> Vec<(String, String, Endpoint)> {
        let mut found = Vec::new();
        for (service, endpoints) in self.services.iter().filter(|(service, _)| service.headless()) {
            let with = endpoints.iter().filter(|endpoint| endpoint.address == address);
            found.extend(with.map(|e| (service.namespace.clone(), service.name.clone(), e.clone())));
        }
        found
    }
}

fn address(maker: &mut Maker<'_>) -> IpAddr {
    let texts = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "::ffff:10.0.0.1"];
    maker.pick(&texts).parse().expect("an address")
}

fn ports(maker: &mut Maker<'_>) -> Vec<Port> {
    let port = |maker: &mut Maker<'_>| Port {
        name: maker.pick(&["http", "dns", ""]).to_owned(),
        port: maker.pick(&[80, 53]),
        protocol: maker.pick(&["TCP", "UDP"]).to_owned(),
    };
    (0..maker.count(2)).map(|_| port(maker)).collect()
}

fn cluster(maker: &mut Maker<'_>) -> Cluster {
    let mut services = Vec::new();
    for name in ["web", "db", "x"].into_iter().take(maker.count(3)) {
        let service = Service {
            namespace: maker.pick(&["default", "other"]).to_owned(),
            name: name.to_owned(),
            cluster_ips: (0..maker.count(2)).map(|_| address(maker)).collect(),
            ports: ports(maker),
            external_name: maker.once_in(8).then(|| "example.com".to_owned()),
        };
        let endpoint = |maker: &mut Maker<'_>| Endpoint {
            hostname: maker.flip().then(|| maker.pick(&["h0", "h1"]).to_owned()),
            address: address(maker),
            ports: ports(maker),
        };
        let endpoints = (0..maker.count(3)).map(|_| endpoint(maker)).collect();
        services.push((service, endpoints));
    }
    Cluster { services }
}

const TYPES: &[Type] = &[
    Type::A,
    Type::Aaaa,
    Type::Srv,
    Type::Ptr,
    Type::Txt,
    Type::Soa,
    Type::Ns,
    Type::Cname,
    Type::Any,
    Type::Other,
];

/// The zone's answers are about what was asked, and the names in them exist.
pub fn names(data: &[u8]) {
    let mut maker = Maker::new(data);
    let cluster = cluster(&mut maker);
    let kind = maker.pick(TYPES);
    let words = [
        "web",
        "db",
        "x",
        "default",
        "other",
        "svc",
        "pod",
        "_http",
        "_tcp",
        "_udp",
        "h0",
        "10-0-0-1",
        "ns",
        "dns",
        "dns-version",
        "*",
        "",
        "1",
        "0",
        "10",
        "in-addr",
        "arpa",
        "ip6",
    ];
    let mut name = match maker.below(3) {
        0 => maker.text().to_lowercase(),
        _ => {
            let labels: Vec<&str> = (0..maker.count(6)).map(|_| maker.pick(&words)).collect();
            labels.join(".")
        }
    };
    if maker.below(4) > 0 {
        name.push_str(maker.pick(&[".svc.cluster.local", ".cluster.local", ".in-addr.arpa"]));
    }
    let ask = |name: &str, kind| zone::answer(DOMAIN, name, kind, &cluster);
    let answer = ask(&name, kind);
    assert_eq!(answer, ask(&name, kind));
    let Answer::Found { records, additional } = &answer else {
        // A name exists for all types or for none.
        for other in TYPES {
            assert!(
                !matches!(ask(&name, *other), Answer::Found { .. }),
                "{name} exists for {other:?} only"
            );
        }
        return;
    };
    for record in records {
        assert_eq!(record.name, name);
        match (&record.data, kind) {
            (Data::Address(address), Type::A) => assert!(address.is_ipv4()),
            (Data::Address(address), Type::Aaaa) => assert!(address.is_ipv6()),
            (Data::Srv { target, .. }, _) => exists(&ask, target),
            (Data::Ptr(target), _) => exists(&ask, target),
            _ => {}
        }
    }
    for record in additional {
        exists(&ask, &record.name);
    }
}

const DOMAIN: &str = "cluster.local";

fn exists(ask: &impl Fn(&str, Type) -> Answer, name: &str) {
    assert!(
        matches!(ask(name, Type::A), Answer::Found { .. } | Answer::NotOurs),
        "{name} doesn't exist"
    );
}
