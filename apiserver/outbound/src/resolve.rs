//! Where a Service is reached.

use rand::seq::SliceRandom;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Value};
use std::fmt;
use std::sync::Arc;

/// A host (an address or a name) and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// An IP address, or a name to look up.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a Service cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No such Service.
    #[error("service {0:?} not found")]
    NotFound(String),
    /// The Service has no such port.
    #[error("no service port {1} found for service {0:?}")]
    NoPort(String, u16),
    /// Nothing is ready behind the Service.
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
    /// A headless Service has no address of its own.
    #[error("cannot route to service with ClusterIP \"None\"")]
    Headless,
    /// Not a type of Service that is routed to.
    #[error("unsupported service type {0:?}")]
    Type(String),
}

/// Finds the places of a Service's port, the preferred ones first. Asked for each new connection, so it must be cheap.
pub trait ServiceResolver: Send + Sync {
    /// At least one place.
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<Vec<Place>, ResolveError>;
}

fn service(reader: &dyn ObjectReader, namespace: &str, name: &str) -> Result<Arc<Value>, ResolveError> {
    reader
        .get(&GroupResource::new("", "services"), namespace, name)
        .ok_or_else(|| ResolveError::NotFound(name.to_owned()))
}

fn service_port(service: &Value, port: u16) -> Result<&Value, ResolveError> {
    let mut ports = service.list_at("spec.ports").iter();
    ports
        .find(|have| have.int_at("port") == Some(i64::from(port)))
        .ok_or_else(|| ResolveError::NoPort(service.name().to_owned(), port))
}

/// Services at their cluster address: the default.
pub struct ClusterAddresses(pub Arc<dyn ObjectReader>);

impl ServiceResolver for ClusterAddresses {
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<Vec<Place>, ResolveError> {
        let service = service(&*self.0, namespace, name)?;
        let address = service.str_at("spec.clusterIP");
        match service.str_at("spec.type") {
            "ClusterIP" if address == "None" => Err(ResolveError::Headless),
            "ClusterIP" | "NodePort" | "LoadBalancer" => {
                service_port(&service, port)?;
                let mut hosts: Vec<&str> = service
                    .list_at("spec.clusterIPs")
                    .iter()
                    .filter_map(Value::as_str)
                    .collect();
                if hosts.is_empty() {
                    hosts.push(address);
                }
                let place = |host: &str| Place {
                    host: host.to_owned(),
                    port,
                };
                Ok(hosts.into_iter().map(place).collect())
            }
            "ExternalName" => Ok(vec![Place {
                host: service.str_at("spec.externalName").to_owned(),
                port,
            }]),
            other => Err(ResolveError::Type(other.to_owned())),
        }
    }
}

/// Services at their ready endpoints, in random order: `--enable-aggregator-routing`, where no proxy runs beside the server.
pub struct EndpointAddresses(pub Arc<dyn ObjectReader>);

impl ServiceResolver for EndpointAddresses {
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<Vec<Place>, ResolveError> {
        let service = service(&*self.0, namespace, name)?;
        match service.str_at("spec.type") {
            "ClusterIP" | "NodePort" | "LoadBalancer" => {}
            other => return Err(ResolveError::Type(other.to_owned())),
        }
        let wanted = service_port(&service, port)?.str_at("name");
        let family = service
            .list_at("spec.ipFamilies")
            .first()
            .and_then(Value::as_str)
            .unwrap_or("IPv4");
        let slices = self.0.list(
            &GroupResource::new("discovery.k8s.io", "endpointslices"),
            Some(namespace),
        );
        let (mut preferred, mut others) = (Vec::new(), Vec::new());
        for slice in slices
            .iter()
            .filter(|slice| slice.label("kubernetes.io/service-name") == Some(name))
        {
            let places = if slice.str_at("addressType") == family {
                &mut preferred
            } else {
                &mut others
            };
            places.extend(places_of(slice, wanted));
        }
        let mut random = rand::rng();
        preferred.shuffle(&mut random);
        others.shuffle(&mut random);
        preferred.extend(others);
        if preferred.is_empty() {
            return Err(ResolveError::NoEndpoints(name.to_owned()));
        }
        Ok(preferred)
    }
}

/// The ready endpoints of a slice at the port of a name. Who says nothing about being ready is ready.
fn places_of<'a>(slice: &'a Value, port: &'a str) -> impl Iterator<Item = Place> + 'a {
    let ports = slice.list_at("ports").iter();
    let numbers = ports
        .filter(move |have| have.str_at("name") == port)
        .filter_map(|have| u16::try_from(have.int_at("port")?).ok());
    numbers.flat_map(move |number| {
        let ready = slice
            .list_at("endpoints")
            .iter()
            .filter(|endpoint| endpoint.bool_at("conditions.ready") != Some(false));
        ready.filter_map(move |endpoint| {
            Some(Place {
                host: endpoint.list_at("addresses").first()?.as_str()?.to_owned(),
                port: number,
            })
        })
    })
}
