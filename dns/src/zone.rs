//! What the cluster's zone answers: the rules of Kubernetes' "DNS-Based Service Discovery", version 1.1.0. Pure.
//!
//! Nothing is precomputed: an answer is made from the Services and EndpointSlices as they are when the question comes.

use crate::objects::{Endpoint, Objects, Service};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Seconds that an answer may be kept.
pub const TTL: u32 = 5;

/// A kind of record that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// IPv4 addresses
    A,
    /// IPv6 addresses
    Aaaa,
    /// Ports
    Srv,
    /// Names of addresses
    Ptr,
    /// Texts
    Txt,
    /// The zone's own record
    Soa,
    /// The zone's name servers
    Ns,
    /// Other names
    Cname,
    /// All there are
    Any,
    /// One that the zone has none of
    Other,
}

/// What a record says. Names are without the dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// Another name.
    Cname(String),
    /// A name of an address.
    Ptr(String),
    /// A port of a host.
    Srv {
        /// The port.
        port: u16,
        /// The share of one among several, of 100.
        weight: u16,
        /// The host.
        target: String,
    },
    /// A text.
    Txt(String),
    /// A name server.
    Ns(String),
    /// The zone's own record.
    Soa,
}

/// A record of the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name, without the dot at the end.
    pub name: String,
    /// What it says.
    pub data: Data,
}

/// The zone's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name exists. There may be no record of the type asked for.
    Found {
        /// What was asked for.
        records: Vec<Record>,
        /// What the asker will want next.
        additional: Vec<Record>,
    },
    /// The name doesn't exist.
    NoName,
    /// The name is none of this zone's: somebody else must be asked.
    NotOurs,
}

impl Answer {
    fn of(records: Vec<Record>) -> Self {
        Self::Found {
            records,
            additional: Vec::new(),
        }
    }
}

/// Answers a question about `name` (lower case, without the dot at the end) in the zone `domain`, such as `cluster.local`.
pub fn answer(domain: &str, name: &str, kind: Type, objects: &impl Objects) -> Answer {
    if let Some(address) = reverse_address(name) {
        return reverse(domain, name, address, kind, objects);
    }
    if name == domain {
        let records = match kind {
            Type::Soa => vec![Record {
                name: name.to_owned(),
                data: Data::Soa,
            }],
            Type::Ns | Type::Any => vec![Record {
                name: name.to_owned(),
                data: Data::Ns(format!("ns.dns.{domain}")),
            }],
            _ => Vec::new(),
        };
        return Answer::of(records);
    }
    let Some(rest) = name.strip_suffix(domain).and_then(|r| r.strip_suffix('.')) else {
        return Answer::NotOurs;
    };
    let labels: Vec<&str> = rest.split('.').collect();
    match labels.as_slice() {
        ["dns-version"] => {
            let wanted = matches!(kind, Type::Txt | Type::Any);
            let record = Record {
                name: name.to_owned(),
                data: Data::Txt("1.1.0".to_owned()),
            };
            Answer::of(if wanted { vec![record] } else { Vec::new() })
        }
        ["svc" | "pod"] => Answer::of(Vec::new()),
        [namespace, "svc" | "pod"] if objects.has_namespace(namespace) => Answer::of(Vec::new()),
        [address, namespace, "pod"] => pod(name, address, namespace, kind, objects),
        [.., service, namespace, "svc"] => {
            let Some(found) = objects.service(namespace, service) else {
                return Answer::NoName;
            };
            let zone = ServiceZone {
                service: &found,
                base: format!("{service}.{namespace}.svc.{domain}"),
            };
            zone.answer(name, &labels[..labels.len() - 3], kind, objects)
        }
        _ => Answer::NoName,
    }
}

/// `10-1-2-3.my-ns.pod`: the address that the name says, in a namespace that exists.
fn pod(name: &str, address: &str, namespace: &str, kind: Type, objects: &impl Objects) -> Answer {
    let address = undashed(address).filter(|_| objects.has_namespace(namespace));
    match address {
        Some(address) => Answer::of(addresses(name, [address], kind)),
        None => Answer::NoName,
    }
}

/// The address written with dashes for dots or colons.
fn undashed(text: &str) -> Option<IpAddr> {
    if let Ok(v4) = text.replace('-', ".").parse::<Ipv4Addr>() {
        return Some(v4.into());
    }
    text.replace('-', ":").parse::<Ipv6Addr>().ok().map(Into::into)
}

fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

fn addresses(name: &str, all: impl IntoIterator<Item = IpAddr>, kind: Type) -> Vec<Record> {
    let wanted = |address: &IpAddr| match kind {
        Type::A => address.is_ipv4(),
        Type::Aaaa => address.is_ipv6(),
        Type::Any => true,
        _ => false,
    };
    let all = all.into_iter().filter(wanted);
    all.map(|address| Record {
        name: name.to_owned(),
        data: Data::Address(address),
    })
    .collect()
}

struct ServiceZone<'a> {
    service: &'a Service,
    base: String,
}

impl ServiceZone<'_> {
    fn answer(&self, name: &str, labels: &[&str], kind: Type, objects: &impl Objects) -> Answer {
        if let Some(external) = &self.service.external_name {
            if !labels.is_empty() {
                return Answer::NoName;
            }
            let wanted = matches!(kind, Type::A | Type::Aaaa | Type::Cname | Type::Any);
            let record = Record {
                name: name.to_owned(),
                data: Data::Cname(external.clone()),
            };
            return Answer::of(if wanted { vec![record] } else { Vec::new() });
        }
        let endpoints = if self.service.headless() {
            objects.endpoints(self.service)
        } else {
            Vec::new()
        };
        if self.service.headless() && endpoints.is_empty() {
            return Answer::NoName;
        }
        match labels {
            [] => self.own(name, kind, &endpoints),
            [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => {
                let (records, additional) = self.ports(name, Some((&port[1..], &protocol[1..])), &endpoints);
                match (records.is_empty(), kind) {
                    (true, _) => Answer::NoName,
                    (false, Type::Srv | Type::Any) => Answer::Found { records, additional },
                    (false, _) => Answer::of(Vec::new()),
                }
            }
            [host] => {
                let found: Vec<_> = endpoints
                    .iter()
                    .filter(|e| host_of(e) == *host)
                    .map(|e| e.address)
                    .collect();
                if found.is_empty() {
                    Answer::NoName
                } else {
                    Answer::of(addresses(name, found, kind))
                }
            }
            _ => Answer::NoName,
        }
    }

    fn own(&self, name: &str, kind: Type, endpoints: &[Endpoint]) -> Answer {
        if kind == Type::Srv {
            let (records, additional) = self.ports(name, None, endpoints);
            return Answer::Found { records, additional };
        }
        if self.service.headless() {
            let mut all: Vec<_> = endpoints.iter().map(|e| e.address).collect();
            all.sort();
            all.dedup();
            return Answer::of(addresses(name, all, kind));
        }
        Answer::of(addresses(name, self.service.cluster_ips.iter().copied(), kind))
    }

    /// SRV records of the port and protocol asked for, or of all, with the addresses of their targets.
    fn ports(
        &self,
        name: &str,
        asked: Option<(&str, &str)>,
        endpoints: &[Endpoint],
    ) -> (Vec<Record>, Vec<Record>) {
        let fits = |port_name: &str, protocol: &str| {
            asked.is_none_or(|(n, p)| n == port_name && protocol.eq_ignore_ascii_case(p))
        };
        let mut targets: Vec<(u16, String, IpAddr)> = Vec::new();
        if self.service.headless() {
            for endpoint in endpoints {
                for port in endpoint.ports.iter().filter(|p| fits(&p.name, &p.protocol)) {
                    targets.push((
                        port.port,
                        format!("{}.{}", host_of(endpoint), self.base),
                        endpoint.address,
                    ));
                }
            }
        } else {
            for port in self.service.ports.iter().filter(|p| fits(&p.name, &p.protocol)) {
                targets.extend(
                    self.service
                        .cluster_ips
                        .iter()
                        .map(|ip| (port.port, self.base.clone(), *ip)),
                );
            }
        }
        let mut hosts: Vec<(u16, String)> = targets
            .iter()
            .map(|(port, target, _)| (*port, target.clone()))
            .collect();
        hosts.sort();
        hosts.dedup();
        let weight = u16::try_from(100 / hosts.len().max(1)).unwrap_or(1).max(1);
        let record = |(port, target)| Record {
            name: name.to_owned(),
            data: Data::Srv { port, weight, target },
        };
        let mut additional: Vec<Record> = Vec::new();
        for (_, target, address) in targets {
            let extra = Record {
                name: target,
                data: Data::Address(address),
            };
            if !additional.contains(&extra) {
                additional.push(extra);
            }
        }
        (hosts.into_iter().map(record).collect(), additional)
    }
}

/// The name of an endpoint below its Service.
fn host_of(endpoint: &Endpoint) -> String {
    endpoint
        .hostname
        .clone()
        .unwrap_or_else(|| dashed(endpoint.address))
}

/// The address of a name below `in-addr.arpa` or `ip6.arpa`.
pub fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(text) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<u8> = text
            .split('.')
            .rev()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        return <[u8; 4]>::try_from(parts).ok().map(|p| Ipv4Addr::from(p).into());
    }
    let text = name.strip_suffix(".ip6.arpa")?;
    let mut digits = String::new();
    for part in text.split('.').rev() {
        (part.len() == 1).then(|| digits.push_str(part))?;
    }
    (digits.len() == 32).then_some(())?;
    u128::from_str_radix(&digits, 16)
        .ok()
        .map(|bits| Ipv6Addr::from(bits).into())
}

fn reverse(domain: &str, name: &str, address: IpAddr, kind: Type, objects: &impl Objects) -> Answer {
    let mut names: Vec<String> = Vec::new();
    if let Some((namespace, service)) = objects.service_of(address) {
        names.push(format!("{service}.{namespace}.svc.{domain}"));
    } else {
        for (namespace, service, endpoint) in objects.endpoints_of(address) {
            names.push(format!(
                "{}.{service}.{namespace}.svc.{domain}",
                host_of(&endpoint)
            ));
        }
    }
    if names.is_empty() {
        return Answer::NotOurs;
    }
    names.sort();
    names.dedup();
    let wanted = matches!(kind, Type::Ptr | Type::Any);
    let records = names.into_iter().map(|n| Record {
        name: name.to_owned(),
        data: Data::Ptr(n),
    });
    Answer::of(if wanted { records.collect() } else { Vec::new() })
}

#[cfg(test)]
mod tests;
