//! Follows the APIServices: the table of routes, whether each server is there, what it serves, and the APIServices of custom
//! resources' groups.
//!
//! Every second it is looked whether anything changed that decides; a server is asked when something did, when it did not
//! answer before, and every half minute. All is decided from the objects as they are, so several servers may do the same at once.

use super::availability::{self, Verdict};
use super::proxy::identify;
use super::{Discovered, Route, Routes, discovery, openapi};
use crate::bootstrap::{ensure, internal, own};
use crate::registry::create::rfc3339;
use crate::registry::update::Change;
use crate::server::{Served, Server};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, GroupVersion, ObjectReader, Reason, StatusError, UserInfo, Value};
use rutter_outbound::{Caller, body};
use rutter_storage::cache::{From, Interest, Scope, Subscribe};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const GROUP: &str = "apiregistration.k8s.io";
const FOLDER: &str = "/registry/apiregistration.k8s.io/apiservices/";
/// Marks the APIServices that are made and removed with what this server serves.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// How often it is looked whether anything changed.
const LOOK: Duration = Duration::from_secs(1);
/// How often a server that is there is asked whether it still is.
const CHECK: Duration = Duration::from_secs(30);
/// How often a server is asked what it serves.
const DISCOVER: Duration = Duration::from_secs(60);
/// How long a server may take to say that it is there.
const PROBE: Duration = Duration::from_secs(5);
/// How many times at once it is asked; one answer is enough.
const PROBES: usize = 5;
/// How long a document may take.
const FETCH: Duration = Duration::from_secs(30);
/// How large a document may be.
const LARGEST: usize = 32 << 20;

/// What is known of the checks of one APIService.
struct Checked {
    /// What the objects said; nothing when the server was asked.
    objects: Option<Verdict>,
    /// When it was checked, and when it is to be checked again.
    again: Instant,
    /// How many times in a row the server failed.
    failures: u32,
    /// When it is to be asked what it serves.
    discover: Instant,
}

struct Follower {
    server: Arc<Server>,
    checked: HashMap<String, Checked>,
    /// What was served, and the APIServices, when routes were last made.
    served: Option<Arc<Served>>,
    generation: Option<u64>,
}

/// Follows the APIServices until `stop`.
pub async fn follow(server: Arc<Server>, stop: CancellationToken) {
    server.cache.ready().await;
    let mut follower = Follower {
        server: server.clone(),
        checked: HashMap::new(),
        served: None,
        generation: None,
    };
    loop {
        let subscribe = Subscribe {
            scope: Scope::Prefix(FOLDER.to_owned()),
            from: From::Now,
            interest: Interest::Any,
            filter: None,
        };
        let Ok(mut changes) = server.cache.subscribe(subscribe) else {
            return;
        };
        loop {
            if let Err(error) = follower.look().await {
                tracing::warn!(%error, "APIServices could not all be brought up to date");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
                change = changes.next() => if change.is_err() { break },
            }
        }
    }
}

fn resource() -> GroupResource {
    GroupResource::new(GROUP, "apiservices")
}

impl Follower {
    async fn look(&mut self) -> Result<(), StatusError> {
        let server = self.server.clone();
        let served = server.served.load_full();
        let generation = server.reader.generation(&resource());
        let same_served = self
            .served
            .as_ref()
            .is_some_and(|before| Arc::ptr_eq(before, &served));
        let changed = !same_served || self.generation != Some(generation);
        if !changed && server.aggregate.routes().is_empty() {
            return Ok(());
        }
        let services = server.reader.list(&resource(), None);
        if changed {
            server.aggregate.rebuild(&services);
            server.documents.clear();
        }
        let routes = server.aggregate.routes();
        self.checked
            .retain(|name, _| routes.all().iter().any(|route| route.name == *name));
        self.check(&routes, &services).await?;
        self.discover().await;
        if changed {
            register(&server, &served, &services).await?;
            for service in services
                .iter()
                .filter(|service| service.at("spec.service").is_null())
            {
                tell(&server, service, &Verdict::local()).await?;
            }
        }
        // Only what was brought to its end is not looked at again.
        self.served = Some(served);
        self.generation = Some(generation);
        Ok(())
    }

    /// Finds out who is there, and says so in the APIServices.
    async fn check(&mut self, routes: &Arc<Routes>, services: &[Arc<Value>]) -> Result<(), StatusError> {
        let now = Instant::now();
        let mut verdicts: Vec<(Arc<Value>, Verdict)> = Vec::new();
        let mut probes = FuturesUnordered::new();
        for service in services
            .iter()
            .filter(|service| service.at("spec.service").is_object())
        {
            let group_version =
                GroupVersion::new(service.str_at("spec.group"), service.str_at("spec.version"));
            let Some(route) = routes
                .get(&group_version)
                .filter(|route| route.name == service.name())
            else {
                continue;
            };
            let objects = self.of_objects(service);
            let known = self.checked.get(&route.name);
            let due = known.is_none_or(|known| known.objects != objects || known.again <= now);
            match objects {
                Some(verdict) => {
                    self.settle(&route.name, Some(verdict.clone()), false);
                    verdicts.push((service.clone(), verdict));
                }
                None if due => {
                    let (service, route) = (service.clone(), route.clone());
                    probes.push(async move {
                        let verdict = match probe(&route).await {
                            Ok(()) => Verdict::passed(),
                            Err(why) => Verdict::failed_check(why),
                        };
                        (service, verdict)
                    });
                }
                None => {}
            }
        }
        while let Some((service, verdict)) = probes.next().await {
            self.settle(service.name(), None, !verdict.available);
            verdicts.push((service, verdict));
        }
        drop(probes);
        let mut changed = false;
        for (service, verdict) in &verdicts {
            // Requests go, or don't, before anybody reads that they do.
            let route = routes
                .all()
                .into_iter()
                .find(|route| route.name == service.name());
            if let Some(route) = route {
                changed |= route.available.swap(verdict.available, Ordering::Relaxed) != verdict.available;
            }
        }
        if changed {
            self.server.documents.clear();
        }
        for (service, verdict) in verdicts {
            tell(&self.server, &service, &verdict).await?;
        }
        Ok(())
    }

    fn of_objects(&self, service: &Value) -> Option<Verdict> {
        let reader = &self.server.reader;
        let namespace = service.str_at("spec.service.namespace");
        let name = service.str_at("spec.service.name");
        let found = ObjectReader::get(&**reader, &GroupResource::new("", "services"), namespace, name);
        let slices = reader.list(
            &GroupResource::new("discovery.k8s.io", "endpointslices"),
            Some(namespace),
        );
        availability::of_objects(service, found.as_deref(), &slices)
    }

    fn settle(&mut self, name: &str, objects: Option<Verdict>, failed: bool) {
        let now = Instant::now();
        let known = self.checked.get(name);
        let failures = match known {
            Some(known) if failed => known.failures + 1,
            _ => u32::from(failed),
        };
        let pause = if failed {
            LOOK * (1 << failures.min(5))
        } else {
            CHECK
        };
        let checked = Checked {
            objects,
            again: now + pause.min(CHECK),
            failures,
            discover: known.map_or(now, |known| known.discover),
        };
        self.checked.insert(name.to_owned(), checked);
    }

    /// Asks those that are there what they serve, when it is time.
    async fn discover(&mut self) {
        let now = Instant::now();
        let routes = self.server.aggregate.routes();
        let mut asked = FuturesUnordered::new();
        for route in routes.all() {
            let Some(checked) = self.checked.get_mut(&route.name) else {
                continue;
            };
            let there = checked.objects.is_none() && checked.failures == 0;
            let unknown = route.discovered.load().is_none();
            if there && (unknown || checked.discover <= now) {
                checked.discover = now + DISCOVER;
                asked.push(async move { (route, describe(route).await) });
            }
        }
        let mut changed = false;
        while let Some((route, found)) = asked.next().await {
            match found {
                Ok(found) if route.discovered.load().as_deref() != Some(&found) => {
                    route.discovered.store(Some(Arc::new(found)));
                    changed = true;
                }
                Ok(_) => {}
                Err(why) => {
                    tracing::info!(
                        api_service = route.name,
                        error = why,
                        "an aggregated server does not say what it serves"
                    );
                }
            }
        }
        if changed {
            self.server.documents.clear();
        }
    }
}

/// Writes a verdict into an APIService's status, if it says otherwise.
async fn tell(server: &Arc<Server>, service: &Value, verdict: &Verdict) -> Result<(), StatusError> {
    let name = service.name();
    if service.at("spec.service").is_object() {
        server.aggregate.count(name, verdict);
    }
    let now = rfc3339((server.clock)());
    if availability::with(service, verdict, &now).is_none() {
        return Ok(());
    }
    let mut call = internal(server, &GroupVersion::new(GROUP, "v1"), "apiservices", "")?;
    name.clone_into(&mut call.info.name);
    let make = |old: Option<&Value>| {
        let old = old.ok_or_else(|| call.not_found(name))?;
        Ok(availability::with(old, verdict, &now).unwrap_or_else(|| old.clone()))
    };
    let change = Change {
        make: &make,
        creates: false,
        direct: true,
        managed: false,
    };
    match call.change(&change, &own()).await {
        Err(error) if !matches!(error.reason, Reason::NotFound | Reason::Conflict) => Err(error),
        _ => Ok(()),
    }
}

/// The name under which this server asks for itself.
fn aggregator() -> UserInfo {
    UserInfo {
        name: "system:kube-aggregator".to_owned(),
        groups: vec![rutter_auth::names::MASTERS.to_owned()],
        ..UserInfo::default()
    }
}

fn request(path: &str, accept: &'static str) -> Result<Request<rutter_outbound::StreamBody>, String> {
    let mut request = Request::new(body::empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = path.parse().map_err(|_| format!("{path:?} is no path"))?;
    identify(request.headers_mut(), &aggregator());
    request
        .headers_mut()
        .insert(ACCEPT, HeaderValue::from_static(accept));
    Ok(request)
}

/// Whether a server answers for its group version.
async fn probe(route: &Route) -> Result<(), String> {
    let caller = route.caller.as_ref().map_err(Clone::clone)?;
    let path = availability::checked_path(&route.group_version);
    let service = &route.service;
    let url = format!(
        "https://{}.{}.svc:{}{path}",
        service.name, service.namespace, service.port
    );
    let mut asked: FuturesUnordered<_> = (0..PROBES).map(|_| ask(caller, &path, &url)).collect();
    let mut last = Ok(());
    while let Some(answered) = asked.next().await {
        if answered.is_ok() {
            return Ok(());
        }
        last = answered;
    }
    last
}

async fn ask(caller: &Caller, path: &str, url: &str) -> Result<(), String> {
    let request = request(path, "application/json")?;
    let missing = |why: String| format!("failing or missing response from {url}: {why}");
    match tokio::time::timeout(PROBE, caller.request(request)).await {
        Err(_) => Err(format!("timed out waiting for {url}")),
        Ok(Err(error)) => Err(missing(error.to_string())),
        Ok(Ok(response)) if response.status().is_success() => Ok(()),
        Ok(Ok(response)) => {
            let code = response.status().as_u16();
            Err(missing(format!("bad status from {url}: {code}")))
        }
    }
}

/// A document, with its content type; nothing when the server has none.
async fn fetch(caller: &Caller, path: &str, accept: &'static str) -> Result<Option<(Bytes, String)>, String> {
    let request = request(path, accept)?;
    let fetching = async {
        let response = caller.request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        if !status.is_success() {
            return match status.as_u16() {
                403 | 404 | 406 => Ok(None),
                code => Err(format!("bad status from {path}: {code}")),
            };
        }
        let kind = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let kind = kind.unwrap_or_default().to_owned();
        let bytes = body::read(response.into_body(), LARGEST)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Some((bytes, kind)))
    };
    match tokio::time::timeout(FETCH, fetching).await {
        Ok(fetched) => fetched,
        Err(_) => Err(format!("timed out waiting for {path}")),
    }
}

async fn fetch_json(caller: &Caller, path: &str, accept: &'static str) -> Result<Option<Value>, String> {
    let fetched = fetch(caller, path, accept).await?;
    Ok(fetched.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok()))
}

/// What a server says it serves for its group version.
async fn describe(route: &Route) -> Result<Discovered, String> {
    const JSON: &str = "application/json";
    let caller = route.caller.as_ref().map_err(Clone::clone)?;
    let of = &route.group_version;
    let groups = fetch_json(caller, "/apis", discovery::ACCEPT).await?;
    let mut version = groups.and_then(|groups| discovery::of_aggregated(&groups, of));
    if version.is_none() {
        let list = fetch_json(caller, &availability::checked_path(of), JSON).await?;
        version = list.and_then(|list| discovery::of_legacy(&list, of));
    }
    let version = version.ok_or_else(|| format!("it does not serve {of}"))?;
    let v2 = fetch_json(caller, "/openapi/v2", JSON).await?;
    let v2 = v2.map(|document| openapi::part_of(&document, of).to_string().into());
    let index = fetch_json(caller, "/openapi/v3", JSON).await?.unwrap_or_default();
    let key = format!("apis/{of}");
    let url = index.get("paths").and_then(|paths| paths.get(&key));
    let url = url
        .map(|entry| entry.str_at("serverRelativeURL"))
        .unwrap_or_default();
    let v3 = match url {
        "" => None,
        url => {
            let hash = url.split_once("hash=").map(|(_, hash)| hash).unwrap_or_default();
            let known = route.discovered.load();
            let known = known.as_ref().and_then(|known| known.v3.clone());
            match known.filter(|(known, _)| known == hash && !hash.is_empty()) {
                Some(known) => Some(known),
                None => fetch(caller, url, JSON)
                    .await?
                    .map(|(bytes, _)| (hash.to_owned(), bytes)),
            }
        }
    };
    Ok(Discovered {
        version: Some(version),
        v2,
        v3,
    })
}

/// Every group version of custom resources has an APIService, as long as it is served.
async fn register(server: &Arc<Server>, served: &Served, services: &[Arc<Value>]) -> Result<(), StatusError> {
    let mut wanted: BTreeMap<String, &GroupVersion> = BTreeMap::new();
    for gv in served.scheme.group_versions() {
        let mut resources = served.scheme.resources(gv);
        if resources.all(|resource| served.custom.contains_key(&*resource.schema)) {
            wanted.insert(format!("{}.{}", gv.version, gv.group), gv);
        }
    }
    let api = GroupVersion::new(GROUP, "v1");
    for (name, gv) in &wanted {
        if services.iter().any(|service| service.name() == name) {
            continue;
        }
        let service = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": name, "labels": {MANAGED: "true"}},
            "spec": {
                "group": gv.group, "version": gv.version, "groupPriorityMinimum": 1000, "versionPriority": 100,
            },
        });
        ensure(server, &api, "apiservices", service).await?;
    }
    for service in services {
        let unserved = service.label(MANAGED) == Some("true") && !wanted.contains_key(service.name());
        if unserved && !service.is_deleting() {
            let mut call = internal(server, &api, "apiservices", "")?;
            service.name().clone_into(&mut call.info.name);
            match call.delete_object(service.name(), &Default::default()).await {
                Err(error) if error.reason != Reason::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
