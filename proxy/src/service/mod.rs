//! Services and their endpoints as rules need them. Pure: from the API's objects to ports with the endpoints that traffic goes to.

pub mod endpoints;

use endpoints::Endpoint;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use std::net::IpAddr;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// Reads the API's name; none and empty mean TCP.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name.unwrap_or_default() {
            "" | "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The name that iptables uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One port of one Service, in one IP family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `namespace/name`, with `:port` when the port has a name.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The ClusterIP.
    pub cluster_ip: IpAddr,
    /// The port on the ClusterIP, the external IPs and the load balancer's.
    pub port: u16,
    /// The port on every node; 0 for none.
    pub node_port: u16,
    /// `spec.externalIPs` of the family.
    pub external_ips: Vec<IpAddr>,
    /// The load balancer's addresses of the family that are to be short-cut to (`ipMode` VIP).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; everybody when empty.
    pub source_ranges: Vec<IpNet>,
    /// Seconds for which a client keeps its endpoint; 0 for none.
    pub affinity_seconds: u32,
    /// `internalTrafficPolicy: Local`
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`
    pub external_local: bool,
    /// The port of the health check for load balancers; 0 for none.
    pub health_check_node_port: u16,
    /// All endpoints of the port, in no order that matters.
    pub endpoints: Vec<Endpoint>,
}

impl ServicePort {
    /// Whether anything from outside the cluster may come in.
    pub fn has_external(&self) -> bool {
        self.node_port != 0 || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }
}

/// Whether a proxy should leave a Service alone: it is another proxy's, has no ClusterIP, or stands for a name.
pub fn skipped(service: &Service) -> bool {
    let labels = service.metadata.labels.as_ref();
    let other = labels.is_some_and(|l| l.contains_key("service.kubernetes.io/service-proxy-name"));
    let Some(spec) = &service.spec else { return true };
    let no_ip = spec
        .cluster_ip
        .as_deref()
        .is_none_or(|ip| ip.is_empty() || ip == "None");
    other || no_ip || spec.type_.as_deref() == Some("ExternalName")
}

fn of_family(texts: &[String], v6: bool) -> Vec<IpAddr> {
    let all = texts.iter().filter_map(|t| t.parse::<IpAddr>().ok());
    all.filter(|ip| ip.is_ipv6() == v6).collect()
}

/// The ports of a Service in one IP family, without endpoints.
pub fn ports(service: &Service, v6: bool) -> Vec<ServicePort> {
    let Some(spec) = service.spec.as_ref().filter(|_| !skipped(service)) else {
        return Vec::new();
    };
    let mut cluster_ips = spec.cluster_ips.clone().unwrap_or_default();
    if cluster_ips.is_empty() {
        cluster_ips.extend(spec.cluster_ip.clone());
    }
    let Some(cluster_ip) = of_family(&cluster_ips, v6).first().copied() else {
        return Vec::new();
    };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let ingress = service
        .status
        .iter()
        .flat_map(|s| s.load_balancer.iter())
        .flat_map(|l| l.ingress.iter().flatten());
    let balancers: Vec<String> = ingress
        .filter(|i| i.ip_mode.as_deref().is_none_or(|m| m == "VIP"))
        .filter_map(|i| i.ip.clone())
        .collect();
    let balanced = spec.type_.as_deref() == Some("LoadBalancer");
    let ranges = spec
        .load_balancer_source_ranges
        .iter()
        .flatten()
        .filter_map(|r| r.trim().parse::<IpNet>().ok());
    let source_ranges: Vec<IpNet> = ranges.filter(|r| matches!(r, IpNet::V6(_)) == v6).collect();
    let affinity_seconds = match spec.session_affinity.as_deref() {
        Some("ClientIP") => {
            let config = spec
                .session_affinity_config
                .as_ref()
                .and_then(|c| c.client_ip.as_ref());
            config
                .and_then(|c| c.timeout_seconds)
                .and_then(|s| u32::try_from(s).ok())
                .unwrap_or(10800)
        }
        _ => 0,
    };
    let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let number = |n: Option<i32>| n.and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
    let one = |port: &k8s_openapi::api::core::v1::ServicePort| {
        let port_name = port.name.as_deref().unwrap_or_default();
        let colon = if port_name.is_empty() { "" } else { ":" };
        Some(ServicePort {
            name: format!("{namespace}/{name}{colon}{port_name}"),
            protocol: Protocol::parse(port.protocol.as_deref())?,
            cluster_ip,
            port: u16::try_from(port.port).ok()?,
            node_port: number(port.node_port),
            external_ips: of_family(spec.external_ips.as_deref().unwrap_or_default(), v6),
            load_balancer_ips: if balanced {
                of_family(&balancers, v6)
            } else {
                Vec::new()
            },
            source_ranges: source_ranges.clone(),
            affinity_seconds,
            internal_local: local(&spec.internal_traffic_policy),
            external_local: local(&spec.external_traffic_policy),
            health_check_node_port: number(spec.health_check_node_port),
            endpoints: Vec::new(),
        })
    };
    spec.ports.iter().flatten().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(spec: serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn headless_external_name_and_other_proxies_services_are_skipped() {
        assert!(skipped(&read(json!({"clusterIP": "None"}))));
        assert!(skipped(&read(
            json!({"type": "ExternalName", "externalName": "x", "clusterIP": ""})
        )));
        let mut other = read(json!({"clusterIP": "10.96.0.5"}));
        assert!(!skipped(&other));
        other.metadata.labels = Some(
            [(
                "service.kubernetes.io/service-proxy-name".to_owned(),
                "mine".to_owned(),
            )]
            .into(),
        );
        assert!(skipped(&other));
    }

    #[test]
    fn a_port_carries_what_its_service_says() {
        let service = read(json!({
            "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"],
            "type": "NodePort", "externalIPs": ["192.0.2.1", "2001:db8::1"], "sessionAffinity": "ClientIP",
            "externalTrafficPolicy": "Local",
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}],
        }));
        let v4 = ports(&service, false);
        assert_eq!(
            v4.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
            ["shop/web:http", "shop/web"]
        );
        assert_eq!(
            (v4[0].node_port, v4[0].affinity_seconds, v4[0].external_local),
            (30080, 10800, true)
        );
        assert_eq!(v4[0].external_ips.len(), 1);
        assert_eq!(v4[1].protocol, Protocol::Udp);
        assert_eq!(ports(&service, true)[0].cluster_ip.to_string(), "fd00::5");
    }
}
