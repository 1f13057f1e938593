//! Cluster addresses and node ports of Services.
//!
//! Each address is an IPAddress object and each node port a key of its own, created and deleted in the transaction that
//! writes the Service: two apiservers can't give one twice, and none is lost when one of them dies in between.

use super::hooks::Hook;
use super::{Call, Extra};
use async_trait::async_trait;
use bytes::Bytes;
use ipnet::IpNet;
use rand::Rng;
use rutter_api::object::ObjectExt;
use rutter_api::{FieldError, GroupResource, ObjectReader as _, Path, StatusError, Value};
use rutter_storage::{Effect, Guard};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Where IPAddress objects are stored.
pub const ADDRESSES: &str = "/registry/ipaddresses/";
/// Where node ports are held.
pub const NODE_PORTS: &str = "/registry/nodeports/";
const TRIES: usize = 256;

/// The ranges that are handed out.
#[derive(Clone, Debug)]
pub struct Services {
    /// `--service-cluster-ip-range`: one, or two of different families.
    pub ranges: Vec<IpNet>,
    /// `--service-node-port-range`
    pub ports: RangeInclusive<u16>,
}

/// What a Service holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) addresses: BTreeSet<String>,
    pub(crate) ports: BTreeSet<i64>,
}

impl Held {
    pub(crate) fn of(service: &Value) -> Self {
        let addresses = service
            .list_at("spec.clusterIPs")
            .iter()
            .filter_map(Value::as_str);
        let mut addresses: BTreeSet<String> = addresses.map(str::to_owned).collect();
        addresses.insert(service.str_at("spec.clusterIP").to_owned());
        addresses.retain(|address| !address.is_empty() && address != "None");
        if service.str_at("spec.type") == "ExternalName" {
            addresses.clear();
        }
        let mut ports: BTreeSet<i64> = service
            .list_at("spec.ports")
            .iter()
            .filter_map(|port| port.int_at("nodePort"))
            .collect();
        ports.extend(service.int_at("spec.healthCheckNodePort"));
        ports.remove(&0);
        Self { addresses, ports }
    }
}

#[async_trait]
impl Hook for Services {
    async fn create(&self, call: &Call, object: &mut Value, _dry_run: bool) -> Result<Extra, StatusError> {
        self.allocate(call, object, &Held::default()).await
    }

    async fn update(
        &self,
        call: &Call,
        object: &mut Value,
        old: &Value,
        _dry_run: bool,
    ) -> Result<Extra, StatusError> {
        if call.info.subresource == "status" {
            return Ok(Extra::default());
        }
        self.allocate(call, object, &Held::of(old)).await
    }

    async fn delete(&self, _call: &Call, old: &Value) -> Result<Extra, StatusError> {
        let mut extra = Extra::default();
        release(&Held::of(old), &Held::default(), &mut extra);
        Ok(extra)
    }
}

impl Services {
    async fn allocate(&self, call: &Call, object: &mut Value, old: &Held) -> Result<Extra, StatusError> {
        let mut extra = Extra::default();
        self.families(call, object)?;
        self.addresses(call, object, old, &mut extra).await?;
        self.node_ports(call, object, old, &mut extra).await?;
        release(old, &Held::of(object), &mut extra);
        Ok(extra)
    }

    /// Defaults of `ipFamilyPolicy` and `ipFamilies`.
    fn families(&self, call: &Call, object: &mut Value) -> Result<(), StatusError> {
        if object.str_at("spec.type") == "ExternalName" {
            return Ok(());
        }
        if object.at("spec.ipFamilyPolicy").is_null() {
            let two =
                object.list_at("spec.clusterIPs").len() > 1 || object.list_at("spec.ipFamilies").len() > 1;
            object.set(
                "spec.ipFamilyPolicy",
                if two { "RequireDualStack" } else { "SingleStack" },
            );
        }
        let policy = object.str_at("spec.ipFamilyPolicy").to_owned();
        let wanted = match policy.as_str() {
            "RequireDualStack" if self.ranges.len() < 2 => {
                let path = Path::new("spec.ipFamilyPolicy");
                let error = FieldError::invalid(
                    &path,
                    policy,
                    "this cluster is not configured for dual-stack services",
                );
                return Err(invalid(call, object, error));
            }
            "RequireDualStack" | "PreferDualStack" => self.ranges.len(),
            _ => 1,
        };
        let mut families: Vec<String> = object
            .list_at("spec.ipFamilies")
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        let addresses = object.list_at("spec.clusterIPs").iter().filter_map(Value::as_str);
        for address in addresses.filter_map(|text| text.parse::<IpAddr>().ok()) {
            let family = family(address).to_owned();
            if !families.contains(&family) {
                families.push(family);
            }
        }
        for range in &self.ranges {
            let family = family(range.addr()).to_owned();
            if families.len() < wanted && !families.contains(&family) {
                families.push(family);
            }
        }
        families.truncate(wanted.max(1));
        for (index, name) in families.iter().enumerate() {
            if self.range(name).is_none() {
                let path = Path::new("spec").child("ipFamilies").index(index);
                let why = "not configured on this cluster";
                return Err(invalid(
                    call,
                    object,
                    FieldError::invalid(&path, name.as_str(), why),
                ));
            }
        }
        object.set("spec.ipFamilies", families);
        Ok(())
    }

    fn range(&self, name: &str) -> Option<&IpNet> {
        self.ranges.iter().find(|range| family(range.addr()) == name)
    }

    /// The ranges that addresses of a family are taken from: those of ServiceCIDRs that are ready and aren't to go, the server's own
    /// first; that one alone while there are none.
    fn pools(&self, call: &Call, name: &str) -> Vec<IpNet> {
        let resource = GroupResource::new("networking.k8s.io", "servicecidrs");
        let known = call.server.reader.list(&resource, None);
        if known.is_empty() {
            return self.range(name).into_iter().copied().collect();
        }
        let open = known.iter().filter(|cidr| is_open(cidr));
        let texts = open.flat_map(|cidr| cidr.list_at("spec.cidrs").iter().filter_map(Value::as_str));
        let ranges = texts.filter_map(|text| text.parse::<IpNet>().ok());
        let mut pools: Vec<IpNet> = ranges.filter(|range| family(range.addr()) == name).collect();
        let own = self.range(name).map(IpNet::trunc);
        pools.sort_by_key(|range| (Some(*range) != own, *range));
        pools.dedup();
        pools
    }

    async fn addresses(
        &self,
        call: &Call,
        object: &mut Value,
        old: &Held,
        extra: &mut Extra,
    ) -> Result<(), StatusError> {
        if object.str_at("spec.type") == "ExternalName" || object.str_at("spec.clusterIP") == "None" {
            if object.str_at("spec.clusterIP") == "None" {
                object.set("spec.clusterIPs", json!(["None"]));
            }
            return Ok(());
        }
        let families: Vec<String> = object
            .list_at("spec.ipFamilies")
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        let mut addresses: Vec<String> = object
            .list_at("spec.clusterIPs")
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        addresses.truncate(families.len());
        for (index, name) in families.iter().enumerate() {
            let address = match addresses.get(index) {
                Some(asked) if old.addresses.contains(asked) => continue,
                Some(asked) => {
                    let pools = self.pools(call, name);
                    self.fixed_address(call, object, asked, &pools).await?
                }
                None => {
                    let pools = self.pools(call, name);
                    let found = pools.iter().find_map(|range| self.random_address(call, range));
                    let address = found.ok_or_else(|| {
                        StatusError::internal("failed to allocate a serviceIP: range is full")
                    })?;
                    addresses.push(address.to_string());
                    address
                }
            };
            let key = format!("{ADDRESSES}{address}");
            extra.guards.push(Guard::Absent(key.clone()));
            extra
                .effects
                .push(Effect::Put(key, ip_address(call, object, address), None));
        }
        if let Some(first) = addresses.first() {
            object.set("spec.clusterIP", first.as_str());
        }
        object.set("spec.clusterIPs", addresses);
        Ok(())
    }

    async fn fixed_address(
        &self,
        call: &Call,
        object: &Value,
        asked: &str,
        pools: &[IpNet],
    ) -> Result<IpAddr, StatusError> {
        let path = Path::new("spec").child("clusterIPs");
        let refuse = |why: String| {
            let value = object.at("spec.clusterIPs").clone();
            invalid(call, object, FieldError::invalid(&path, value, why))
        };
        let address: IpAddr = asked
            .parse()
            .map_err(|_| refuse(format!("failed to allocate IP {asked}: not a valid IP address")))?;
        if !pools.iter().any(|range| is_usable(range, address)) {
            let why = match pools {
                [range] => format!(
                    "the provided IP ({asked}) is not in the valid range. The range of valid IPs is {range}"
                ),
                _ => "the provided network does not match the current range".to_owned(),
            };
            return Err(refuse(format!("failed to allocate IP {asked}: {why}")));
        }
        let key = format!("{ADDRESSES}{address}");
        if call
            .server
            .engine
            .get(&key)
            .await
            .map_err(|e| super::store_error(&e))?
            .is_some()
        {
            return Err(refuse(format!(
                "failed to allocate IP {asked}: provided IP is already allocated"
            )));
        }
        Ok(address)
    }

    async fn node_ports(
        &self,
        call: &Call,
        object: &mut Value,
        old: &Held,
        extra: &mut Extra,
    ) -> Result<(), StatusError> {
        let kind = object.str_at("spec.type").to_owned();
        let balanced =
            kind == "LoadBalancer" && object.bool_at("spec.allocateLoadBalancerNodePorts") != Some(false);
        let wants = kind == "NodePort" || balanced;
        let mut mine: BTreeSet<i64> = old.ports.clone();
        let mut by_port: Vec<(i64, String, i64)> = Vec::new();
        let mut ports = object.list_at("spec.ports").to_vec();
        for (index, port) in ports.iter_mut().enumerate() {
            let asked = port.int_at("nodePort").unwrap_or_default();
            if asked != 0 {
                if mine.insert(asked) {
                    let path = Path::new("spec").child("ports").index(index).child("nodePort");
                    self.fixed_port(call, object, &path, asked).await?;
                    hold(call, object, asked, extra);
                }
            } else if wants {
                // One number serves the same port in two protocols.
                let (number, protocol) = (
                    port.int_at("port").unwrap_or_default(),
                    port.str_at("protocol").to_owned(),
                );
                let twin = by_port
                    .iter()
                    .find(|(n, p, _)| *n == number && *p != protocol)
                    .map(|(_, _, held)| *held);
                let chosen = match twin {
                    Some(chosen) => chosen,
                    None => {
                        let chosen = self.random_port(call, &mine)?;
                        mine.insert(chosen);
                        hold(call, object, chosen, extra);
                        chosen
                    }
                };
                port.set("nodePort", chosen);
                by_port.push((number, protocol, chosen));
            }
        }
        if wants {
            object.set("spec.ports", ports);
        }
        let local = kind == "LoadBalancer" && object.str_at("spec.externalTrafficPolicy") == "Local";
        let asked = object.int_at("spec.healthCheckNodePort").unwrap_or_default();
        if local && asked == 0 {
            let chosen = self.random_port(call, &mine)?;
            hold(call, object, chosen, extra);
            object.set("spec.healthCheckNodePort", chosen);
        } else if local && mine.insert(asked) {
            self.fixed_port(call, object, &Path::new("spec.healthCheckNodePort"), asked)
                .await?;
            hold(call, object, asked, extra);
        }
        Ok(())
    }

    async fn fixed_port(
        &self,
        call: &Call,
        object: &Value,
        path: &Path,
        asked: i64,
    ) -> Result<(), StatusError> {
        let (low, high) = (self.ports.start(), self.ports.end());
        if !u16::try_from(asked).is_ok_and(|port| self.ports.contains(&port)) {
            let why =
                format!("provided port is not in the valid range. The range of valid ports is {low}-{high}");
            return Err(invalid(call, object, FieldError::invalid(path, asked, why)));
        }
        let key = format!("{NODE_PORTS}{asked}");
        if call
            .server
            .engine
            .get(&key)
            .await
            .map_err(|e| super::store_error(&e))?
            .is_some()
        {
            let why = "provided port is already allocated";
            return Err(invalid(call, object, FieldError::invalid(path, asked, why)));
        }
        Ok(())
    }

    fn random_port(&self, call: &Call, mine: &BTreeSet<i64>) -> Result<i64, StatusError> {
        let free = |port: u16| {
            !mine.contains(&i64::from(port))
                && call.server.cache.get(&format!("{NODE_PORTS}{port}")).is_none()
        };
        let random = (0..TRIES).map(|_| rand::rng().random_range(self.ports.clone()));
        let found = random.chain(self.ports.clone()).find(|port| free(*port));
        found
            .map(i64::from)
            .ok_or_else(|| StatusError::internal("failed to allocate a nodePort: range is full"))
    }
}

impl Services {
    /// A free address of a range; none when all are taken. The first one of the server's own range is the `kubernetes` Service's.
    fn random_address(&self, call: &Call, range: &IpNet) -> Option<IpAddr> {
        let free = |address: &IpAddr| {
            let kubernetes = |own: &IpNet| own.hosts().next() == Some(*address);
            !self.ranges.iter().any(kubernetes)
                && call.server.cache.get(&format!("{ADDRESSES}{address}")).is_none()
        };
        let (last, address) = offsets(range);
        // The lower part is left to those who ask for an address of their own, as long as there is more.
        let band = (last / 16).clamp(16, 256);
        let low = if last > band * 2 { band } else { 1 };
        if low < last {
            let random = (0..TRIES).map(|_| address(rand::rng().random_range(low..last)));
            if let Some(found) = random.into_iter().find(free) {
                return Some(found);
            }
        }
        (1..last).map(address).find(free)
    }
}

/// How many addresses a range has from its network's own to its last usable one, and the address at an offset.
fn offsets(range: &IpNet) -> (u128, impl Fn(u128) -> IpAddr + Copy) {
    let (base, last, four) = match range {
        IpNet::V4(net) => {
            let size = 1u128 << (32 - net.prefix_len());
            // Neither the network's own, nor the broadcast one.
            (u128::from(net.network().to_bits()), size.saturating_sub(1), true)
        }
        IpNet::V6(net) => {
            let size = 1u128 << (128 - net.prefix_len()).min(20);
            (net.network().to_bits(), size, false)
        }
    };
    let address = move |offset: u128| {
        if four {
            IpAddr::V4(Ipv4Addr::from_bits((base + offset) as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(base + offset))
        }
    };
    (last, address)
}

/// Whether an address of the range can be a Service's: not the network's own, nor the broadcast one.
fn is_usable(range: &IpNet, address: IpAddr) -> bool {
    let edge = address == range.network() || (address.is_ipv4() && address == range.broadcast());
    range.contains(&address) && !edge
}

/// Whether addresses of a ServiceCIDR may be given out: it isn't to go, and nobody says that it isn't ready.
fn is_open(cidr: &Value) -> bool {
    let refused = cidr
        .list_at("status.conditions")
        .iter()
        .any(|condition| condition.str_at("type") == "Ready" && condition.str_at("status") == "False");
    !cidr.is_deleting() && !refused
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn invalid(call: &Call, object: &Value, error: FieldError) -> StatusError {
    StatusError::invalid(&call.resource.group_kind(), object.name(), &[error])
}

fn ip_address(call: &Call, service: &Value, address: IpAddr) -> Bytes {
    ip_address_object(call.now, service.namespace(), service.name(), address)
}

/// The IPAddress object of a Service's address, as stored.
pub fn ip_address_object(now: jiff::Timestamp, namespace: &str, name: &str, address: IpAddr) -> Bytes {
    let object = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": super::create::rfc3339(now),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family(address),
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
    });
    rutter_api::codec::json::to_vec(&object).into()
}

/// The value of a node port's key.
pub fn node_port_object(namespace: &str, name: &str, port: i64) -> Bytes {
    let object =
        json!({"metadata": {"name": port.to_string()}, "service": {"namespace": namespace, "name": name}});
    rutter_api::codec::json::to_vec(&object).into()
}

fn hold(_call: &Call, service: &Value, port: i64, extra: &mut Extra) {
    let key = format!("{NODE_PORTS}{port}");
    extra.guards.push(Guard::Absent(key.clone()));
    let value = node_port_object(service.namespace(), service.name(), port);
    extra.effects.push(Effect::Put(key, value, None));
}

/// Gives back what is held no longer.
fn release(old: &Held, new: &Held, extra: &mut Extra) {
    let addresses = old
        .addresses
        .difference(&new.addresses)
        .map(|address| format!("{ADDRESSES}{address}"));
    let ports = old
        .ports
        .difference(&new.ports)
        .map(|port| format!("{NODE_PORTS}{port}"));
    extra.effects.extend(addresses.chain(ports).map(Effect::Delete));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_no_longer_is_given_back() {
        let old = json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"nodePort": 30001}, {"nodePort": 30002}]}});
        let new = json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"nodePort": 30002}]}});
        let mut extra = Extra::default();
        release(&Held::of(&old), &Held::of(&new), &mut extra);
        assert_eq!(
            extra.effects,
            [Effect::Delete("/registry/nodeports/30001".to_owned())]
        );
        let mut extra = Extra::default();
        let gone = json!({"spec": {"type": "ExternalName"}});
        release(&Held::of(&old), &Held::of(&gone), &mut extra);
        assert_eq!(extra.effects.len(), 3);
    }
}
