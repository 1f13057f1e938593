//! The cluster's objects as the zone needs them, over the informers' stores.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use rutter_client::informer::{Informer, Informers, Store};
use std::net::IpAddr;
use std::sync::Arc;

/// A named port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The name; empty where a Service has one port without a name.
    pub name: String,
    /// The number.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`
    pub protocol: String,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its ClusterIPs; none when it is headless.
    pub cluster_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// The name that it stands for, of type ExternalName.
    pub external_name: Option<String>,
}

impl Service {
    /// Whether it has no ClusterIP.
    pub fn headless(&self) -> bool {
        self.cluster_ips.is_empty() && self.external_name.is_none()
    }
}

/// A ready address of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The hostname that its pod gave itself.
    pub hostname: Option<String>,
    /// The address.
    pub address: IpAddr,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// What the zone asks about the cluster.
pub trait Objects {
    /// Whether a namespace exists.
    fn has_namespace(&self, namespace: &str) -> bool;
    /// A Service.
    fn service(&self, namespace: &str, name: &str) -> Option<Service>;
    /// The ready endpoints of a Service.
    fn endpoints(&self, service: &Service) -> Vec<Endpoint>;
    /// Namespace and name of the Service with a ClusterIP.
    fn service_of(&self, address: IpAddr) -> Option<(String, String)>;
    /// Namespace, Service and endpoint of the headless Services that have an address.
    fn endpoints_of(&self, address: IpAddr) -> Vec<(String, String, Endpoint)>;
}

const BY_SERVICE: &str = "service";
const BY_ADDRESS: &str = "address";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The cluster's objects, kept current by watches.
pub struct Cluster {
    namespaces: Informer<core::Namespace>,
    services: Informer<core::Service>,
    slices: Informer<EndpointSlice>,
}

fn service_name(slice: &EndpointSlice) -> Option<&String> {
    slice.metadata.labels.as_ref()?.get(SERVICE_NAME)
}

fn namespace_of(slice: &EndpointSlice) -> &str {
    slice.metadata.namespace.as_deref().unwrap_or_default()
}

impl Cluster {
    /// Starts the watches.
    pub fn new(informers: &Informers) -> Self {
        let cluster = Self {
            namespaces: informers.of(),
            services: informers.of(),
            slices: informers.of(),
        };
        cluster.services.add_index(BY_ADDRESS, |service: &core::Service| {
            let all = service
                .spec
                .iter()
                .flat_map(|s| s.cluster_ips.iter().flatten().chain(s.cluster_ip.iter()));
            all.filter(|ip| ip.parse::<IpAddr>().is_ok()).cloned().collect()
        });
        cluster.slices.add_index(BY_SERVICE, |slice: &EndpointSlice| {
            service_name(slice)
                .map(|name| format!("{}/{name}", namespace_of(slice)))
                .into_iter()
                .collect()
        });
        cluster.slices.add_index(BY_ADDRESS, |slice: &EndpointSlice| {
            slice
                .endpoints
                .iter()
                .flatten()
                .flat_map(|e| e.addresses.iter().cloned())
                .collect()
        });
        cluster
    }

    /// Waits until all lists are in.
    pub async fn synced(&self) {
        self.namespaces.synced().await;
        self.services.synced().await;
        self.slices.synced().await;
    }

    fn slices(&self) -> Store<EndpointSlice> {
        self.slices.store()
    }
}

fn read_service(service: &core::Service) -> Service {
    let spec = service.spec.clone().unwrap_or_default();
    let external = spec.type_.as_deref() == Some("ExternalName");
    let mut ips: Vec<String> = spec.cluster_ips.unwrap_or_default();
    if ips.is_empty() {
        ips.extend(spec.cluster_ip);
    }
    let port = |p: &core::ServicePort| Port {
        name: p.name.clone().unwrap_or_default(),
        port: u16::try_from(p.port).unwrap_or(0),
        protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
    };
    Service {
        namespace: service.metadata.namespace.clone().unwrap_or_default(),
        name: service.metadata.name.clone().unwrap_or_default(),
        cluster_ips: ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
        ports: spec.ports.iter().flatten().map(port).collect(),
        external_name: spec
            .external_name
            .filter(|_| external)
            .map(|n| n.trim_end_matches('.').to_lowercase()),
    }
}

fn read_endpoints(slice: &EndpointSlice) -> Vec<Endpoint> {
    let port = |p: &k8s_openapi::api::discovery::v1::EndpointPort| {
        Some(Port {
            name: p.name.clone().unwrap_or_default(),
            port: u16::try_from(p.port?).ok()?,
            protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        })
    };
    let ports: Vec<Port> = slice.ports.iter().flatten().filter_map(port).collect();
    let ready = |e: &&k8s_openapi::api::discovery::v1::Endpoint| {
        // Unknown counts as ready, as the API says.
        e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
    };
    let each = slice.endpoints.iter().flatten().filter(ready).flat_map(|e| {
        let addresses = e.addresses.iter().filter_map(|a| a.parse().ok());
        addresses
            .map(|address| Endpoint {
                hostname: e.hostname.clone(),
                address,
                ports: ports.clone(),
            })
            .collect::<Vec<_>>()
    });
    each.collect()
}

impl Objects for Cluster {
    fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.store().get("", namespace).is_some()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Service> {
        self.services
            .store()
            .get(namespace, name)
            .map(|s| read_service(&s))
    }

    fn endpoints(&self, service: &Service) -> Vec<Endpoint> {
        let slices = self
            .slices()
            .by_index(BY_SERVICE, &format!("{}/{}", service.namespace, service.name));
        slices
            .iter()
            .flat_map(|slice: &Arc<EndpointSlice>| read_endpoints(slice))
            .collect()
    }

    fn service_of(&self, address: IpAddr) -> Option<(String, String)> {
        let found = self
            .services
            .store()
            .by_index(BY_ADDRESS, &address.to_string())
            .into_iter()
            .next()?;
        let service = read_service(&found);
        Some((service.namespace, service.name))
    }

    fn endpoints_of(&self, address: IpAddr) -> Vec<(String, String, Endpoint)> {
        let mut found = Vec::new();
        for slice in self.slices().by_index(BY_ADDRESS, &address.to_string()) {
            let (namespace, Some(name)) = (namespace_of(&slice), service_name(&slice)) else {
                continue;
            };
            if !self.service(namespace, name).is_some_and(|s| s.headless()) {
                continue;
            }
            let endpoints = read_endpoints(&slice)
                .into_iter()
                .filter(|e| e.address == address);
            found.extend(endpoints.map(|e| (namespace.to_owned(), name.clone(), e)));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints_that_are_not_ready_are_left_out_and_unknown_counts_as_ready() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "hostname": "a"},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.3"]},
            ],
        }))
        .unwrap();
        let endpoints = read_endpoints(&slice);
        let addresses: Vec<_> = endpoints.iter().map(|e| e.address.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.1", "10.0.0.3"]);
        assert_eq!(endpoints[0].ports[0].port, 8080);
    }

    #[test]
    fn a_service_without_an_address_is_headless_and_one_of_external_name_is_not() {
        let read = |spec| {
            read_service(&serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap())
        };
        assert!(read(json!({"clusterIP": "None"})).headless());
        assert!(!read(json!({"clusterIP": "10.96.0.1"})).headless());
        let external = read(json!({"type": "ExternalName", "externalName": "Example.test."}));
        assert!(!external.headless());
        assert_eq!(external.external_name.as_deref(), Some("example.test"));
    }
}
