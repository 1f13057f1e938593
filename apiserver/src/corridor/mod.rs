//! The corridor: what every request passes, one step after the other.
//!
//! Request info, authentication, impersonation, the bound on requests in flight, authorization, dispatch. A step knows its
//! own types and nothing of the others'; an error of any of them becomes a `Status` here and nowhere else.

pub mod dispatch;
pub mod inflight;
pub mod memory;

use crate::access::metrics::Authentication;
use crate::aggregate;
use crate::answer::{self, Answer, Body};
use crate::audit::Record;
use crate::fairness::{Class, Seat, Watching};
use crate::metrics::Labels;
use crate::request::{Accept, RequestInfo};
use crate::server::Server;
use crate::streaming::BoxError;
use crate::streaming::target::Query;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rutter_api::{StatusError, UserInfo};
use rutter_audit::{Level, Stage};
use rutter_auth::{Attributes, Credentials, Decision, impersonate};
use rutter_client::panics;
use rutter_fairness::work::Stored;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What is known of a request's connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The client's certificates; possession of the key is proven, nothing else.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The other end.
    pub peer: SocketAddr,
    /// Cancelled to tell an HTTP/2 client that it should connect anew, perhaps to another server.
    pub leave: CancellationToken,
    /// Cancelled to end the connection at once.
    pub sever: CancellationToken,
}

/// How requests are bounded in time, and the like.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// `--request-timeout`: how long a request may take that isn't long-running.
    pub request: Duration,
    /// `--min-request-timeout`: watches without `timeoutSeconds` end after this, or up to twice this.
    pub watch: Duration,
    /// `--shutdown-watch-termination-grace-period`: over what time watches end when the server stops.
    pub parting: Duration,
    /// `--goaway-chance`: how likely a request on HTTP/2 makes its client connect anew.
    pub goaway: f64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(60),
            watch: Duration::from_secs(1800),
            parting: Duration::ZERO,
            goaway: 0.0,
        }
    }
}

/// What a request holds while it is served; a watch until its first state is sent, the second part until its end.
#[derive(Default)]
pub struct Passage {
    /// Its seats.
    pub seat: Option<Seat>,
    /// That it is counted among the watchers.
    pub watching: Option<Watching>,
    /// Its record in the audit log.
    pub record: Option<Arc<Record>>,
    /// Room for its answer.
    pub answer: Option<memory::Hold>,
    /// Room for the objects that it works on.
    pub work: Option<memory::Hold>,
    _place: Option<inflight::Place>,
}

/// What becomes known of a request on its way, for its answer.
#[derive(Default)]
struct Trail {
    class: Option<Class>,
    /// The request's id, in the audit log and for its caller.
    id: String,
    record: Option<Arc<Record>>,
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
    if server.health.is_refusing() && !is_exempt(request.uri().path()) {
        connection.leave.cancel();
        return try_another(request.version());
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let info = RequestInfo::new(request.method(), request.uri().path(), &query);
    let accept = Accept::negotiate(request.headers(), &query, true, true).unwrap_or_default();
    let labels = labels(&info, request.method(), &query);
    let long = is_long_running(&info, &query);
    let _serving = (!long).then(|| server.health.serving());
    let _long = long.then(|| Held::new(server.metrics.long_running(&labels)));
    if request.version() == http::Version::HTTP_2 && rand::random::<f64>() < server.bounds.goaway {
        connection.leave.cancel();
    }
    let mut trail = Trail {
        id: crate::audit::id(request.headers()),
        ..Trail::default()
    };
    let answer = match patience(&query, &server.bounds, long) {
        Err(error) => Err(error),
        Ok(patience) => {
            let asked = Asked {
                info,
                query,
                patience,
            };
            let work = panics::contain(pass(server.clone(), connection, request, asked, &mut trail));
            let done = bounded(work, patience).await;
            match done {
                Ok(answer) => answer,
                Err(panicked) => {
                    let error = StatusError::internal(
                        "this request caused apiserver to panic. Look in the logs for details",
                    );
                    tracing::error!(%panicked, id = trail.id, "a request failed");
                    if let Some(record) = trail.record.take() {
                        record.failed(&error);
                        record.at(Stage::Panic).await;
                    }
                    Err(error)
                }
            }
        }
    };
    if let (Some(record), Err(error)) = (&trail.record, &answer) {
        record.failed(error);
    }
    let mut response = answer.unwrap_or_else(|error| {
        let accept = Accept {
            shape: crate::request::Shape::Object,
            ..accept
        };
        answer::failure(&error, &accept)
    });
    let took = (!long).then(|| started.elapsed());
    server.metrics.answered(&labels, response.status().as_u16(), took);
    if let Some(class) = &trail.class {
        let headers = response.headers_mut();
        for (name, uid) in [
            ("x-kubernetes-pf-flowschema-uid", class.schema_uid()),
            ("x-kubernetes-pf-prioritylevel-uid", class.level_uid()),
        ] {
            if let Ok(uid) = HeaderValue::from_str(uid) {
                headers.insert(name, uid);
            }
        }
    }
    if let Ok(value) = HeaderValue::from_str(&trail.id) {
        response.headers_mut().insert("audit-id", value);
    }
    match trail.record {
        Some(record) => record.answered(response, long).await,
        None => response,
    }
}

/// What is answered by a server that shuts down, too.
fn is_exempt(path: &str) -> bool {
    ["/readyz", "/livez", "/healthz", "/metrics"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

/// What a server that shuts down answers to new requests.
fn try_another(version: http::Version) -> Response<Body> {
    let text = "The apiserver is shutting down, please try again later.\n";
    let mut response = answer::text(StatusCode::TOO_MANY_REQUESTS, text);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    if version <= http::Version::HTTP_11 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What a request asks for, and how long it may take; none for one that is long-running.
struct Asked {
    info: RequestInfo,
    query: Query,
    patience: Option<Duration>,
}

/// How long a request may take: what it says itself, within what the server allows.
fn patience(query: &Query, bounds: &Bounds, long: bool) -> Result<Option<Duration>, StatusError> {
    if long {
        return Ok(None);
    }
    let Some(text) = query.first("timeout").filter(|text| !text.is_empty()) else {
        return Ok(Some(bounds.request));
    };
    let nanos = rutter_api::duration::parse_go(text).map_err(|error| {
        StatusError::bad_request(format!("invalid timeout specified in the request URL - {error}"))
    })?;
    let asked = u64::try_from(nanos).map(Duration::from_nanos).unwrap_or_default();
    Ok(Some(if asked.is_zero() {
        bounds.request
    } else {
        asked.min(bounds.request)
    }))
}

async fn bounded(
    work: impl Future<Output = Result<Answer, panics::Panicked>>,
    patience: Option<Duration>,
) -> Result<Answer, panics::Panicked> {
    let Some(patience) = patience else {
        return work.await;
    };
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_| {
        Ok(Err(StatusError::timeout(
            "request did not complete within the allotted timeout",
            0,
        )))
    })
}

async fn pass<B>(
    server: Arc<Server>,
    connection: Arc<Connection>,
    request: Request<B>,
    asked: Asked,
    trail: &mut Trail,
) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    let known = authenticate(&server, &connection, request.headers(), &asked.info.path).await;
    if let Some(audit) = &server.audit {
        trail.record = audit.begin(&trail.id, known.as_ref().ok(), &asked.info, &connection, &request);
    }
    let mut user = known?;
    if let Some(record) = &trail.record
        && !record.at(Stage::RequestReceived).await
    {
        return Err(StatusError::internal("failed to process audit event"));
    }
    if let Some(wanted) = impersonate::read(request.headers())? {
        let attributes = attributes(&asked.info, &asked.query);
        let became = server
            .impersonation
            .allow(&*server.authorizer, &user, &wanted, &attributes)
            .await?;
        drop(attributes);
        user = became.user;
        if let Some(record) = &trail.record {
            record.impersonates(&user);
        }
    }
    let passage = enter(&server, &user, &asked, trail).await?;
    let Asked { info, query, .. } = asked;
    let attributes = attributes(&info, &query);
    let note = |decision: &str, reason: &str| {
        if let Some(record) = &trail.record {
            record.annotate("authorization.k8s.io/decision", decision);
            record.annotate("authorization.k8s.io/reason", reason);
        }
    };
    let since = Instant::now();
    let decision = server.authorizer.authorize(&user, &attributes).await;
    server.metrics.access.authorized(&decision, since.elapsed());
    match decision {
        Decision::Allow(reason) => note("allow", &reason),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => {
            note("forbid", &reason);
            return Err(rutter_auth::forbidden(&user, &attributes, &reason));
        }
    }
    drop(attributes);
    if let Some(route) = server.aggregate.routes().of_path(&info.path) {
        return aggregate::proxy::pass(route, &user, request).await;
    }
    if info.is_resource {
        let mut request = request;
        if trail
            .record
            .as_ref()
            .is_some_and(|record| record.level() >= Level::RequestResponse)
        {
            // The record wants the answer as it is.
            request.headers_mut().remove(http::header::ACCEPT_ENCODING);
        }
        let passage = Passage {
            record: trail.record.clone(),
            ..passage
        };
        let sever = connection.sever.clone();
        dispatch::resource(server, user, info, query, request, passage, sever).await
    } else if let Some(answer) = crate::serve::health(&server, &info, &query, request.method()).await {
        Ok(answer)
    } else {
        crate::serve::other(&server, &user, &info, &query, &request)
    }
}

/// Has the request wait for its turn, or be sent away.
async fn enter(
    server: &Arc<Server>,
    user: &UserInfo,
    asked: &Asked,
    trail: &mut Trail,
) -> Result<Passage, StatusError> {
    let (info, query) = (&asked.info, &asked.query);
    let long = asked.patience.is_none();
    let watch = info.is_resource && info.verb == "watch";
    let Some(fairness) = &server.fairness else {
        let place = server.limits.enter(&server.metrics, info, long, user)?;
        return Ok(Passage {
            _place: Some(place),
            ..Passage::default()
        });
    };
    if long && !watch {
        return Ok(Passage::default());
    }
    let whole = info.verb == "list"
        || query.flag("sendInitialEvents")
        || matches!(query.first("resourceVersion"), None | Some("" | "0"));
    let selector = query
        .first("fieldSelector")
        .filter(|_| watch && info.resource == "pods");
    let selector = selector.and_then(|text| rutter_api::FieldSelector::parse(text).ok());
    let node = selector
        .as_ref()
        .and_then(|selector| selector.exact("spec.nodeName"));
    let seat = fairness
        .enter(
            crate::fairness::Asked {
                user,
                info,
                stored: if whole { stored(server, info) } else { None },
                limit: query
                    .first("limit")
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0),
                patience: asked.patience.unwrap_or(server.bounds.request) / 4,
            },
            &mut trail.class,
        )
        .await?;
    Ok(Passage {
        seat: Some(seat),
        watching: watch.then(|| fairness.watching(info, node)),
        ..Passage::default()
    })
}

/// What is stored of the resource that a list or watch is of.
fn stored(server: &Server, info: &RequestInfo) -> Option<Stored> {
    if !info.is_resource || !matches!(info.verb.as_str(), "list" | "watch") {
        return None;
    }
    let served = server.served.load();
    let resource = served.scheme.get(&info.group_version(), &info.resource)?;
    let folder = format!("{}/", resource.storage_prefix.as_ref()?);
    let (objects, bytes) = server.cache.size(&folder)?;
    Some(Stored {
        objects: objects as u64,
        bytes: bytes as u64,
    })
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
    let since = Instant::now();
    let answer = server.authenticator.authenticate(&credentials).await;
    let result = match &answer {
        Ok(Some(known)) => Authentication::Success(&known.user.name),
        Ok(None) => Authentication::Failure,
        Err(_) => Authentication::Error,
    };
    server.metrics.access.authenticated(result, since.elapsed());
    match answer {
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
