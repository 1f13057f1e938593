//! The audit log's place in the corridor: a record is begun when a request's caller is known, gathers what becomes known on the
//! way, and is handed to the backends at each stage that the policy wants.
//!
//! Without a policy nothing is built; with one, a request that the policy leaves out costs one decision.

mod flags;
mod metrics;
mod objects;
mod webhook;

pub use flags::{Flags, build};
pub use objects::request_object;

use crate::answer::{self, Body};
use crate::corridor::Connection;
use crate::request::RequestInfo;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use rutter_api::object::ObjectExt;
use rutter_api::{StatusError, UserInfo, Value};
use rutter_audit::backend::Backend;
use rutter_audit::{Event, Level, ObjectRef, Policy, Stage, Subject, event};
use rutter_auth::Clock;
use serde_json::json;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

const ID: &str = "audit-id";
const MOST_ID: usize = 64;

/// The policy and the backends.
pub struct Audit {
    policy: Policy,
    backends: Vec<Backend>,
    clock: Clock,
    metrics: metrics::Metrics,
}

/// The record of one request.
pub struct Record {
    audit: Arc<Audit>,
    decision: rutter_audit::Decision,
    event: Mutex<Event>,
}

/// The id of a request: what it says itself, or a new one.
pub fn id(headers: &HeaderMap) -> String {
    let own = headers.get(ID).and_then(|value| value.to_str().ok());
    match own.filter(|text| !text.is_empty()) {
        Some(text) => text.chars().take(MOST_ID).collect(),
        None => uuid::Uuid::new_v4().to_string(),
    }
}

impl Audit {
    /// A policy, and where records go.
    fn new(policy: Policy, backends: Vec<Backend>, clock: Clock, metrics: metrics::Metrics) -> Arc<Self> {
        Arc::new(Self {
            policy,
            backends,
            clock,
            metrics,
        })
    }

    /// Begins the record of a request, if the policy wants one. `user` is none when nobody knows the caller.
    pub fn begin<B>(
        self: &Arc<Self>,
        id: &str,
        user: Option<&UserInfo>,
        info: &RequestInfo,
        connection: &Connection,
        request: &Request<B>,
    ) -> Option<Arc<Record>> {
        let decision = self.policy.decide(&Subject {
            user,
            is_resource: info.is_resource,
            verb: &info.verb,
            group: &info.group,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
        });
        self.metrics.decided(decision.level);
        if decision.level == Level::None {
            return None;
        }
        let agent = request.headers().get(http::header::USER_AGENT);
        let object = info.is_resource.then(|| ObjectRef {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            group: info.group.clone(),
            version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..ObjectRef::default()
        });
        let uri = request.uri().path_and_query().map_or("", |uri| uri.as_str());
        Some(Arc::new(Record {
            audit: self.clone(),
            decision,
            event: Mutex::new(Event {
                level: decision.level,
                id: id.to_owned(),
                uri: uri.to_owned(),
                verb: info.verb.clone(),
                user: user.cloned().unwrap_or_default(),
                impersonated: None,
                sources: sources(request.headers(), connection),
                agent: agent
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
                    .to_owned(),
                object,
                status: None,
                request: None,
                response: None,
                received: (self.clock)(),
                annotations: Default::default(),
            }),
        }))
    }

    /// Delivers what was gathered.
    pub async fn flush(&self) {
        for backend in &self.backends {
            backend.flush().await;
        }
    }

    /// How many records were lost.
    pub fn lost(&self) -> u64 {
        self.backends.iter().map(Backend::lost).sum()
    }
}

impl Record {
    /// How much is recorded.
    pub fn level(&self) -> Level {
        self.decision.level
    }

    /// Notes something under a key; the first value of a key stays.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.event
            .lock()
            .annotations
            .entry(key.into())
            .or_insert_with(|| value.into());
    }

    /// The caller acts as another.
    pub fn impersonates(&self, user: &UserInfo) {
        self.event.lock().impersonated = Some(user.clone());
    }

    /// The object that was sent, once it is in its place: what the path didn't say of it.
    pub fn about(&self, object: &Value) {
        let mut event = self.event.lock();
        let Some(reference) = &mut event.object else {
            return;
        };
        for (field, text) in [
            (&mut reference.name, object.name()),
            (&mut reference.namespace, object.namespace()),
            (&mut reference.uid, object.uid()),
            (&mut reference.resource_version, object.resource_version()),
        ] {
            if field.is_empty() {
                text.clone_into(field);
            }
        }
    }

    /// The object that was sent, as it was sent.
    pub fn request(&self, mut object: Value) {
        if self.decision.omit_managed_fields {
            event::without_managed_fields(&mut object);
        }
        self.event.lock().request = Some(object);
    }

    /// Hands the record to the backends, if the policy wants this stage. False when it is lost and that matters.
    pub async fn at(&self, stage: Stage) -> bool {
        if !self.decision.records(stage) {
            return true;
        }
        self.audit.metrics.event();
        let record = Arc::new(self.event.lock().at(stage, (self.audit.clock)()));
        let mut taken = true;
        for backend in &self.audit.backends {
            taken &= backend.take(record.clone()).await;
        }
        if !taken && stage == Stage::RequestReceived {
            self.audit.metrics.refused();
        }
        taken
    }

    /// The request was refused or failed.
    pub fn failed(&self, error: &StatusError) {
        let mut status = error.to_value();
        if self.level() >= Level::RequestResponse {
            self.event.lock().response = Some(status.clone());
        }
        status.take_at("kind");
        status.take_at("apiVersion");
        self.event.lock().status = Some(status);
    }

    /// The request is answered: notes how, and hands the record over. `long` when the answer goes on for longer.
    pub async fn answered(self: Arc<Self>, response: Response<Body>, long: bool) -> Response<Body> {
        let code = response.status().as_u16();
        self.event
            .lock()
            .status
            .get_or_insert_with(|| json!({"metadata": {}, "code": code}));
        if long {
            self.at(Stage::ResponseStarted).await;
            return response.map(|body| {
                Followed {
                    body,
                    record: Some(self),
                }
                .boxed_unsync()
            });
        }
        let response = if self.level() >= Level::RequestResponse && self.event.lock().response.is_none() {
            self.capture(response).await
        } else {
            response
        };
        self.at(Stage::ResponseComplete).await;
        response
    }

    /// Keeps the object that is answered.
    async fn capture(&self, response: Response<Body>) -> Response<Body> {
        let (parts, body) = response.into_parts();
        let bytes = match body.collect().await {
            Ok(whole) => whole.to_bytes(),
            // It would have ended there for the client too.
            Err(error) => {
                tracing::warn!(%error, "the body of an answer broke off");
                Bytes::new()
            }
        };
        if let Some(mut object) = objects::response_object(&parts.headers, &bytes) {
            if self.decision.omit_managed_fields {
                event::without_managed_fields(&mut object);
            }
            self.event.lock().response = Some(object);
        }
        Response::from_parts(parts, answer::full(bytes))
    }
}

/// A body whose end is recorded, however it comes.
struct Followed {
    body: Body,
    record: Option<Arc<Record>>,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = crate::streaming::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let (Some(record), Ok(runtime)) = (self.record.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move { record.at(Stage::ResponseComplete).await });
    }
}

/// From where a request came: what proxies say, then the connection's other end.
fn sources(headers: &HeaderMap, connection: &Connection) -> Vec<String> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let said = text("x-forwarded-for").split(',').chain([text("x-real-ip")]);
    let mut all: Vec<String> = said
        .filter_map(|text| text.trim().parse::<std::net::IpAddr>().ok())
        .map(|address| address.to_string())
        .collect();
    all.dedup();
    let peer = connection.peer.ip().to_canonical().to_string();
    if all.last() != Some(&peer) {
        all.push(peer);
    }
    all
}
