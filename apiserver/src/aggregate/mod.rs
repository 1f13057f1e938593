//! API aggregation: group versions that another server answers, named by an APIService with a Service.
//!
//! [`follow`] keeps the table of routes and tells in each APIService whether its server is there ([`availability`]); [`proxy`]
//! passes requests on; what those servers say they serve is put into our own documents ([`discovery`], [`openapi`]).
//!
//! A request is authenticated and authorized here before it is passed on, with the caller's name in headers that the other
//! server believes because of our client certificate (`--proxy-client-cert-file`).

pub mod availability;
pub mod discovery;
pub mod follow;
pub mod openapi;
pub mod proxy;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, GroupVersion, ObjectReader, Value};
use rutter_outbound::tls::{Identity, Trust};
use rutter_outbound::{Caller, Endpoint, EndpointError, Outbound, ServiceReference};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What one server said it serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovered {
    /// Its version in the form of `apidiscovery.k8s.io/v2`.
    pub version: Option<Value>,
    /// Its part of the OpenAPI v2 document, as JSON.
    pub v2: Option<Bytes>,
    /// Its OpenAPI v3 document, with its hash.
    pub v3: Option<(String, Bytes)>,
}

/// A group version that another server answers.
pub struct Route {
    /// The APIService's name.
    pub name: String,
    /// What it answers.
    pub group_version: GroupVersion,
    /// `groupPriorityMinimum` and `versionPriority`.
    pub priority: (i64, i64),
    /// Whether the last check found it there: what the APIService says, or is about to say.
    pub available: AtomicBool,
    /// The Service.
    pub service: ServiceReference,
    /// The way there, or why there is none.
    pub caller: Result<Caller, String>,
    /// What it said it serves, the last time it was there.
    pub discovered: Arc<ArcSwapOption<Discovered>>,
}

/// The routes of one moment.
#[derive(Default)]
pub struct Routes {
    routes: HashMap<GroupVersion, Arc<Route>>,
    /// The priorities of all groups and versions that have an APIService, our own among them.
    priorities: BTreeMap<(String, String), (i64, i64)>,
}

impl Route {
    /// Whether the last check found it there.
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }
}

impl Routes {
    /// The way to a group version that another server answers.
    pub fn get(&self, group_version: &GroupVersion) -> Option<&Arc<Route>> {
        self.routes.get(group_version)
    }

    /// All of them, ordered by name.
    pub fn all(&self) -> Vec<&Arc<Route>> {
        let mut all: Vec<&Arc<Route>> = self.routes.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The priorities of a group version, as its APIService has them.
    pub fn priority(&self, group_version: &GroupVersion) -> Option<(i64, i64)> {
        let key = (group_version.group.clone(), group_version.version.clone());
        self.priorities.get(&key).copied()
    }

    /// The route of a path below `/apis/<group>/<version>`.
    pub fn of_path(&self, path: &str) -> Option<&Arc<Route>> {
        if self.routes.is_empty() {
            return None;
        }
        let mut parts = path.strip_prefix("/apis/")?.splitn(3, '/');
        let (group, version) = (parts.next()?, parts.next()?);
        self.get(&GroupVersion::new(group, version))
    }
}

/// The aggregator.
pub struct Aggregate {
    outbound: Outbound,
    identity: ArcSwapOption<Identity>,
    routes: ArcSwap<Routes>,
    unavailable: IntGaugeVec,
    unavailable_total: IntCounterVec,
}

impl Aggregate {
    /// Reaches servers by `outbound` and proves by `identity` that this server may speak for others.
    ///
    /// # Errors
    /// When its metrics are registered already.
    pub fn new(
        outbound: Outbound,
        identity: Option<Identity>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let unavailable = IntGaugeVec::new(
            Opts::new(
                "aggregator_unavailable_apiservice",
                "APIServices which are marked as unavailable, by their name.",
            ),
            &["name"],
        )?;
        let unavailable_total = IntCounterVec::new(
            Opts::new(
                "aggregator_unavailable_apiservice_total",
                "How often an APIService was marked as unavailable, by its name and the reason.",
            ),
            &["name", "reason"],
        )?;
        registry.register(Box::new(unavailable.clone()))?;
        registry.register(Box::new(unavailable_total.clone()))?;
        Ok(Self {
            outbound,
            identity: ArcSwapOption::from(identity.map(Arc::new)),
            routes: ArcSwap::default(),
            unavailable,
            unavailable_total,
        })
    }

    /// The routes as they are now.
    pub fn routes(&self) -> Arc<Routes> {
        self.routes.load_full()
    }

    /// Shows another certificate from now on.
    pub fn set_identity(&self, identity: Identity, reader: &dyn ObjectReader) {
        self.identity.store(Some(Arc::new(identity)));
        self.rebuild(&reader.list(&GroupResource::new("apiregistration.k8s.io", "apiservices"), None));
    }

    /// Counts a verdict on an APIService.
    fn count(&self, name: &str, verdict: &availability::Verdict) {
        self.unavailable
            .with_label_values(&[name])
            .set(i64::from(!verdict.available));
        if !verdict.available {
            self.unavailable_total
                .with_label_values(&[name, verdict.reason])
                .inc();
        }
    }

    /// Makes the table of the APIServices as they are. Ways that don't change are kept, with their connections and what is
    /// known of what they lead to.
    fn rebuild(&self, services: &[Arc<Value>]) -> Arc<Routes> {
        let before = self.routes.load_full();
        let mut routes = Routes::default();
        for service in services.iter().filter(|service| !service.is_deleting()) {
            let version = GroupVersion::new(service.str_at("spec.group"), service.str_at("spec.version"));
            let int = |path: &str| service.int_at(path).unwrap_or_default();
            let priority = (int("spec.groupPriorityMinimum"), int("spec.versionPriority"));
            routes
                .priorities
                .insert((version.group.clone(), version.version.clone()), priority);
            // The core group is this server's own, whatever an APIService says.
            if service.at("spec.service").is_object() && !version.group.is_empty() {
                let old = before.get(&version);
                let route = self.route(service, version.clone(), priority, old);
                routes.routes.insert(version, Arc::new(route));
            }
        }
        let routes = Arc::new(routes);
        self.routes.store(routes.clone());
        routes
    }

    fn route(
        &self,
        service: &Value,
        group_version: GroupVersion,
        priority: (i64, i64),
        old: Option<&Arc<Route>>,
    ) -> Route {
        let endpoint = endpoint(service, self.identity.load_full().as_deref());
        let old = old.filter(|old| old.name == service.name());
        let kept = old.and_then(|old| match (&old.caller, &endpoint) {
            (Ok(caller), Ok(endpoint)) if caller.endpoint() == endpoint => Some(caller.clone()),
            _ => None,
        });
        let caller = match (kept, endpoint) {
            (Some(caller), _) => Ok(caller),
            (None, Ok(endpoint)) => self.outbound.caller(endpoint).map_err(|error| chain(&error)),
            (None, Err(error)) => Err(chain(&error)),
        };
        Route {
            name: service.name().to_owned(),
            group_version,
            priority,
            available: AtomicBool::new(availability::is_available(service)),
            service: reference(service),
            caller,
            discovered: old.map(|old| old.discovered.clone()).unwrap_or_default(),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

fn reference(service: &Value) -> ServiceReference {
    let port = service.int_at("spec.service.port");
    ServiceReference {
        namespace: service.str_at("spec.service.namespace").to_owned(),
        name: service.str_at("spec.service.name").to_owned(),
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
    }
}

/// Where an APIService's server is, and how both sides prove who they are.
fn endpoint(service: &Value, identity: Option<&Identity>) -> Result<Endpoint, EndpointError> {
    use base64::Engine as _;
    let bundle = service.str_at("spec.caBundle");
    let trust = if service.bool_at("spec.insecureSkipTLSVerify") == Some(true) {
        Trust::Anyone
    } else if bundle.is_empty() {
        Trust::System
    } else {
        let pem = base64::engine::general_purpose::STANDARD.decode(bundle);
        Trust::Authorities(Arc::from(pem.map_err(EndpointError::Bundle)?))
    };
    let mut endpoint = Endpoint::service(reference(service), "", trust)?;
    endpoint.identity = identity.cloned();
    endpoint.http2 = true;
    Ok(endpoint)
}

#[cfg(test)]
mod tests;
