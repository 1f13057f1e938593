//! The corridor: what every request passes, one step after the other.
//!
//! Request info, authentication, impersonation, the bound on requests in flight, authorization, dispatch. A step knows its
//! own types and nothing of the others'; an error of any of them becomes a `Status` here and nowhere else.

pub mod dispatch;
pub mod inflight;

use crate::aggregate;
use crate::answer::{self, Answer, Body};
use crate::metrics::Labels;
use crate::request::{Accept, RequestInfo};
use crate::server::Server;
use crate::streaming::BoxError;
use crate::streaming::target::Query;
use bytes::Bytes;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls::pki_types::CertificateDer;
use rutter_api::{StatusError, UserInfo};
use rutter_auth::{Attributes, Credentials, Decision, impersonate};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a request that isn't long-running may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is known of a request's connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The client's certificates; possession of the key is proven, nothing else.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The other end.
    pub peer: SocketAddr,
}

/// Answers a request. Never fails: failures are answers.
pub async fn handle<B>(
    server: Arc<Server>,
    connection: Arc<Connection>,
    request: Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    let started = Instant::now();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let info = RequestInfo::new(request.method(), request.uri().path(), &query);
    let accept = Accept::negotiate(request.headers(), &query, true, true).unwrap_or_default();
    let labels = labels(&info, request.method(), &query);
    let long = is_long_running(&info, &query);
    let _long = long.then(|| Held::new(server.metrics.long_running(&labels)));
    let work = pass(server.clone(), connection, request, info, query);
    let answer = if long {
        work.await
    } else {
        tokio::time::timeout(TIMEOUT, work).await.unwrap_or_else(|_| {
            Err(StatusError::timeout(
                "request did not complete within the allotted timeout",
                0,
            ))
        })
    };
    let mut response = answer.unwrap_or_else(|error| {
        let accept = Accept {
            shape: crate::request::Shape::Object,
            ..accept
        };
        answer::failure(&error, &accept)
    });
    let took = (!long).then(|| started.elapsed());
    server.metrics.answered(&labels, response.status().as_u16(), took);
    let id = uuid::Uuid::new_v4().to_string();
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("audit-id", value);
    }
    response
}

async fn pass<B>(
    server: Arc<Server>,
    connection: Arc<Connection>,
    request: Request<B>,
    info: RequestInfo,
    query: Query,
) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    let mut user = authenticate(&server, &connection, request.headers(), &info.path).await?;
    let attributes = attributes(&info, &query);
    if let Some(wanted) = impersonate::read(request.headers())? {
        let way = &server.impersonation;
        let became = way
            .allow(&*server.authorizer, &user, &wanted, &attributes)
            .await?;
        user = became.user;
    }
    let _place = server
        .limits
        .enter(&server.metrics, &info, is_long_running(&info, &query), &user)?;
    match server.authorizer.authorize(&user, &attributes).await {
        Decision::Allow(_) => {}
        Decision::Deny(reason) | Decision::NoOpinion(reason) => {
            return Err(rutter_auth::forbidden(&user, &attributes, &reason));
        }
    }
    drop(attributes);
    if let Some(route) = server.aggregate.routes().of_path(&info.path) {
        return aggregate::proxy::pass(route, &user, request).await;
    }
    if info.is_resource {
        dispatch::resource(server, user, info, query, request).await
    } else {
        crate::serve::other(&server, &user, &info, &query, &request)
    }
}

/// Who calls. A caller that nobody knows gets a plain 401; why is in the log.
async fn authenticate(
    server: &Server,
    connection: &Connection,
    headers: &HeaderMap,
    path: &str,
) -> Result<UserInfo, StatusError> {
    let token = bearer(headers);
    let credentials = Credentials {
        certificates: &connection.certificates,
        bearer_token: token.as_deref(),
        headers: Some(headers),
        path,
        ..Credentials::default()
    };
    match server.authenticator.authenticate(&credentials).await {
        Ok(Some(known)) => Ok(known.user),
        Ok(None) => Err(StatusError::unauthorized()),
        Err(error) => {
            tracing::info!(peer = %connection.peer, %error, "authentication failed");
            Err(StatusError::unauthorized())
        }
    }
}

/// The token of `Authorization`, or of the WebSocket subprotocol that browsers use instead.
fn bearer(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let text = value.to_str().ok()?.trim();
        let (scheme, token) = text.split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned());
    }
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    let protocols = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let encoded = protocols
        .split(',')
        .find_map(|text| text.trim().strip_prefix(PREFIX))?;
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(encoded)
        .ok()?;
    String::from_utf8(bytes).ok().filter(|token| !token.is_empty())
}

fn attributes<'a>(info: &'a RequestInfo, query: &'a Query) -> Attributes<'a> {
    if !info.is_resource {
        return Attributes {
            verb: info.verb.as_str().into(),
            path: info.path.as_str().into(),
            ..Attributes::default()
        };
    }
    let collection = matches!(info.verb.as_str(), "list" | "watch" | "deletecollection");
    let selector = |key: &str| query.first(key).filter(|_| collection).unwrap_or_default().into();
    Attributes {
        verb: info.verb.as_str().into(),
        namespace: info.namespace.as_str().into(),
        group: info.group.as_str().into(),
        version: info.version.as_str().into(),
        resource: info.resource.as_str().into(),
        subresource: info.subresource.as_str().into(),
        name: info.name.as_str().into(),
        path: info.path.as_str().into(),
        field_selector: selector("fieldSelector"),
        label_selector: selector("labelSelector"),
    }
}

/// Watches and streams aren't bounded in time, and aren't counted as in flight.
fn is_long_running(info: &RequestInfo, query: &Query) -> bool {
    if !info.is_resource {
        return false;
    }
    match info.subresource.as_str() {
        "exec" | "attach" | "portforward" | "proxy" => true,
        "log" => query.flag("follow"),
        _ => info.verb == "watch",
    }
}

fn labels(info: &RequestInfo, method: &http::Method, query: &Query) -> Labels {
    let verb = match info.verb.as_str() {
        "list" => "LIST".to_owned(),
        "watch" => "WATCH".to_owned(),
        "deletecollection" => "DELETECOLLECTION".to_owned(),
        _ if matches!(
            info.subresource.as_str(),
            "exec" | "attach" | "portforward" | "proxy"
        ) =>
        {
            "CONNECT".to_owned()
        }
        "patch" if query.first("force").is_some() => "APPLY".to_owned(),
        _ => method.as_str().to_owned(),
    };
    let scope = match (info.is_resource, info.name.is_empty(), info.namespace.is_empty()) {
        (false, ..) => "",
        (true, false, _) => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    };
    Labels {
        verb,
        group: info.group.clone(),
        version: info.version.clone(),
        resource: info.resource.clone(),
        subresource: info.subresource.clone(),
        scope,
        dry_run: if query.first("dryRun").is_some() {
            "All"
        } else {
            ""
        },
    }
}

/// A gauge held up while something lasts.
pub(crate) struct Held(prometheus::IntGauge);

impl Held {
    pub(crate) fn new(gauge: prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
