//! Calls to an endpoint over pooled connections.

use crate::body::{self, BoxError, ReadError, Stream, StreamBody};
use crate::connect::{Connector, Failed, Target};
use crate::endpoint::{Authorization, Endpoint, EndpointError};
use crate::error::{CallError, Failure};
use crate::forward::{self, Connect};
use crate::kubeconfig::Users;
use crate::resolve::ServiceResolver;
use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, Uri};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// How many unused connections are kept for one endpoint.
const IDLE_CONNECTIONS: usize = 25;
/// How long a silent HTTP/2 connection is trusted before it is asked for a sign of life, and how long that may take.
const SILENCE: Duration = Duration::from_secs(30);
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// How often a token file is read again.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// How much of a refusal is read.
const REFUSAL: usize = 2048;
const AGENT: HeaderValue = HeaderValue::from_static("rutter-apiserver");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Makes callers.
#[derive(Clone)]
pub struct Outbound {
    resolver: Arc<dyn ServiceResolver>,
    users: Option<Arc<Users>>,
}

impl Outbound {
    /// Services are found by `resolver`.
    pub fn new(resolver: Arc<dyn ServiceResolver>) -> Self {
        Self {
            resolver,
            users: None,
        }
    }

    /// The same, introducing itself by these users where an endpoint doesn't say by whom.
    #[must_use]
    pub fn introduced_by(&self, users: Option<Arc<Users>>) -> Self {
        Self {
            resolver: self.resolver.clone(),
            users,
        }
    }

    /// A caller of an endpoint. No connection is made yet. Must be kept for its pool to be of use.
    pub fn caller(&self, mut endpoint: Endpoint) -> Result<Caller, EndpointError> {
        if let Some(users) = &self.users
            && endpoint.identity.is_none()
            && endpoint.authorization.is_none()
        {
            users.introduce(&mut endpoint);
        }
        let target = Arc::new(Target::new(&endpoint, self.resolver.clone())?);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http2_keep_alive_interval(SILENCE)
            .http2_keep_alive_timeout(SIGN_OF_LIFE)
            .http2_adaptive_window(true)
            .build(Connector(target.clone()));
        Ok(Caller(Arc::new(Inner {
            endpoint,
            target,
            client,
            token: ArcSwapOption::empty(),
        })))
    }
}

struct Inner {
    endpoint: Endpoint,
    target: Arc<Target>,
    client: Client<Connector, StreamBody>,
    /// What the token file held, and when.
    token: ArcSwapOption<(Instant, HeaderValue)>,
}

/// Calls one endpoint. Clones share the pool.
#[derive(Clone)]
pub struct Caller(Arc<Inner>);

impl Caller {
    /// What is called.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// The URL of a call to the endpoint's own path with `query`; for messages and for requests.
    pub fn url(&self, path: &str, query: &str) -> Result<Uri, CallError> {
        self.0.endpoint.join(path, query).map_err(|error| CallError {
            method: Method::POST,
            url: self.0.endpoint.url.to_string(),
            failure: Failure::Resolve(error.to_string()),
        })
    }

    /// POSTs JSON to the endpoint's own path; gives back the body of a 2xx of at most `limit` bytes. The whole call takes
    /// at most `timeout`.
    pub async fn post_json(
        &self,
        query: &str,
        json: Bytes,
        timeout: Duration,
        limit: usize,
    ) -> Result<Bytes, CallError> {
        let uri = self.url("", query)?;
        let failed = |failure| CallError {
            method: Method::POST,
            url: uri.to_string(),
            failure,
        };
        match tokio::time::timeout(timeout, self.post(&uri, json, limit)).await {
            Ok(answered) => answered.map_err(failed),
            Err(_) => Err(failed(Failure::Timeout)),
        }
    }

    async fn post(&self, uri: &Uri, json: Bytes, limit: usize) -> Result<Bytes, Failure> {
        let mut again = true;
        loop {
            let mut request = Request::new(body::full(json.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = uri.clone();
            let headers = request.headers_mut();
            headers.insert(CONTENT_TYPE, JSON);
            headers.insert(ACCEPT, JSON);
            let response = match self.send(request).await {
                // The other side closed a pooled connection just as it was used.
                Err(Sent { unanswered: true, .. }) if std::mem::take(&mut again) => continue,
                other => other.map_err(|sent| sent.failure)?,
            };
            let status = response.status();
            if !status.is_success() {
                let text = body::read(response.into_body(), REFUSAL)
                    .await
                    .unwrap_or_default();
                return Err(Failure::of_answer(status.as_u16(), &text));
            }
            return body::read(response.into_body(), limit)
                .await
                .map_err(|error| match error {
                    ReadError::TooLarge(limit) => Failure::TooLarge(limit),
                    ReadError::Broken(source) => Failure::Broken(source.to_string()),
                });
        }
    }

    /// Sends a request as it is, but for its URI, which is replaced by the endpoint's with the request's path and query behind
    /// its own. The answer's body comes as it comes. Takes as long as it takes.
    pub async fn request(&self, mut request: Request<StreamBody>) -> Result<Response<StreamBody>, CallError> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let uri = self.url(if path == "/" { "" } else { path }, query)?;
        let method = request.method().clone();
        *request.uri_mut() = uri.clone();
        *request.version_mut() = http::Version::HTTP_11;
        self.send(request).await.map_err(|sent| CallError {
            method,
            url: uri.to_string(),
            failure: sent.failure,
        })
    }

    /// Passes a client's request on to `path` (with its query) and its answer back, as a proxy does: what is about the
    /// client's connection or its credentials stays here, upgrades are spliced. What the caller adds to the headers is sent.
    pub async fn forward(
        &self,
        request: Request<StreamBody>,
        path: &str,
    ) -> Result<Response<StreamBody>, CallError> {
        let failed = |method: Method, failure| CallError {
            method,
            url: format!("{}://{}{path}", self.scheme(), self.authority()),
            failure,
        };
        if forward::is_upgrade(&request) {
            let method = request.method().clone();
            let answered = forward::upgrade(self, request, path).await;
            return answered.map_err(|error| failed(method, failure_of(&*error)));
        }
        let (parts, body) = request.into_parts();
        let mut out = Request::new(body);
        *out.method_mut() = parts.method;
        *out.headers_mut() = forward::headers(&parts.headers, &self.authority(), false);
        *out.uri_mut() = path
            .parse()
            .map_err(|_| failed(out.method().clone(), Failure::Resolve("invalid path".to_owned())))?;
        // The pool names the host itself.
        out.headers_mut().remove(http::header::HOST);
        self.request(out).await.map(forward::answer)
    }

    fn scheme(&self) -> &str {
        self.0.endpoint.url.scheme_str().unwrap_or("https")
    }

    async fn send(&self, mut request: Request<StreamBody>) -> Result<Response<StreamBody>, Sent> {
        self.authorize(request.headers_mut()).await;
        let answered = self.0.client.request(request).await;
        match answered {
            Ok(response) => Ok(response.map(body::incoming)),
            Err(error) => Err(Sent::of(&error)),
        }
    }

    async fn authorize(&self, headers: &mut HeaderMap) {
        headers.entry(USER_AGENT).or_insert(AGENT);
        let value = match &self.0.endpoint.authorization {
            None => return,
            Some(Authorization::Bearer(token)) => bearer(token),
            Some(Authorization::BearerFile(file)) => self.token(file).await,
            Some(Authorization::Basic(name, password)) => {
                let encoded = STANDARD.encode(format!("{name}:{password}"));
                HeaderValue::from_str(&format!("Basic {encoded}")).ok()
            }
        };
        if let Some(mut value) = value {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }

    /// The token in a file. When the file cannot be read, what it held before is sent, for the other side to judge.
    async fn token(&self, file: &Path) -> Option<HeaderValue> {
        let known = self.0.token.load_full();
        if let Some(known) = known.as_ref().filter(|known| known.0.elapsed() < TOKEN_LIFE) {
            return Some(known.1.clone());
        }
        match tokio::fs::read_to_string(file).await {
            Ok(text) => {
                let value = bearer(text.trim())?;
                self.0
                    .token
                    .store(Some(Arc::new((Instant::now(), value.clone()))));
                Some(value)
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "a token file cannot be read");
                known.map(|known| known.1.clone())
            }
        }
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("Bearer {token}")).ok()
}

impl Connect for Caller {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, BoxError>> {
        Box::pin(async {
            let connected = self.0.target.connect(true).await;
            connected
                .map(|(stream, _)| stream)
                .map_err(|failure| Failed(failure).into())
        })
    }

    fn authority(&self) -> String {
        self.0
            .endpoint
            .url
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default()
    }
}

/// Why a request had no answer.
struct Sent {
    failure: Failure,
    /// The connection ended before anything came back.
    unanswered: bool,
}

impl Sent {
    fn of(error: &legacy::Error) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
        let mut unanswered = false;
        while let Some(inner) = source {
            if let Some(hyper) = inner.downcast_ref::<hyper::Error>() {
                unanswered |= hyper.is_incomplete_message() || hyper.is_canceled();
            }
            source = inner.source();
        }
        Self {
            failure: failure_of(error),
            unanswered,
        }
    }
}

/// The failure at the bottom of an error, or its whole chain as text.
fn failure_of(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut text = error.to_string();
    let mut at = Some(error);
    while let Some(inner) = at {
        if let Some(Failed(failure)) = inner.downcast_ref::<Failed>() {
            return failure.clone();
        }
        if let Some(hyper) = inner.downcast_ref::<hyper::Error>()
            && hyper.is_incomplete_message()
        {
            return Failure::Broken("EOF".to_owned());
        }
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        at = inner.source();
    }
    Failure::Broken(text)
}
