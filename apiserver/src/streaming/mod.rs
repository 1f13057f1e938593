//! Requests that end at a kubelet, a pod or a service: logs, exec, attach, port-forward and the proxies.
//!
//! The apiserver authorizes, finds the place, dials, and then stays out of the way: an upgraded connection (SPDY/3.1, or
//! WebSocket in any subprotocol) is passed through byte for byte in both directions, half-closes included, so the client
//! speaks with the kubelet itself. One subprotocol is unwrapped here for kubelets that don't say they take it: the tunnel of
//! SPDY through WebSocket that kubectl uses for port-forward ([`tunnel`]).
//!
//! Each entry point takes the request as hyper gave it (with its upgrade) and answers a response or a [`StatusError`] to
//! render. Authorization and `Connect` admission come before:
//!
//! ```ignore
//! // GET|POST /api/v1/namespaces/{namespace}/pods/{name}/exec
//! streaming.exec(request, namespace, name).await
//! // ANY /api/v1/namespaces/{namespace}/services/{name}/proxy/{rest}
//! streaming.service_proxy(request, namespace, name, rest).await
//! ```

mod dial;
mod forward;
mod handshake;
mod rewrite;
pub mod target;
mod tunnel;
pub mod websocket;

#[cfg(test)]
mod tests;

pub use dial::{KubeletConfig, KubeletConfigError};
pub use target::AddressType;

use bytes::Bytes;
use dial::{Dialer, Security};
use forward::{Backend, Way};
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Reason, StatusError, Value};
pub use rutter_outbound::body::{BoxError, StreamBody};
use rutter_outbound::body::{empty, read};
use rutter_outbound::forward as pass;
use std::sync::Arc;
use target::{Place, Query};

/// What an entry point gives back.
pub type Answer = Result<Response<StreamBody>, StatusError>;

/// The body of a request: hyper's, or any other that can be sent on.
pub trait Sendable: http_body::Body<Data = Bytes> + Send + Sync + 'static {}
impl<B: http_body::Body<Data = Bytes> + Send + Sync + 'static> Sendable for B {}

fn boxed<B: Sendable>(request: Request<B>) -> Request<StreamBody>
where
    B::Error: Into<BoxError>,
{
    request.map(|body| body.map_err(Into::into).boxed())
}

/// How much of a kubelet's refusal is read.
const REFUSAL_BYTES: usize = 4096;

/// The entry points.
pub struct Streaming {
    reader: Arc<dyn ObjectReader>,
    dialer: Dialer,
    addresses: Vec<AddressType>,
}

impl Streaming {
    /// Finds objects through `reader` and reaches kubelets as `config` says.
    pub fn new(reader: Arc<dyn ObjectReader>, config: &KubeletConfig) -> Result<Self, KubeletConfigError> {
        Ok(Self {
            reader,
            dialer: Dialer::new(config)?,
            addresses: config.address_types.clone(),
        })
    }

    /// `pods/log`
    pub fn log<'a, B: Sendable>(
        &'a self,
        request: Request<B>,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Answer>
    where
        B::Error: Into<BoxError>,
    {
        Box::pin(self.log_boxed(boxed(request), namespace, name))
    }

    /// `pods/exec`
    pub fn exec<'a, B: Sendable>(
        &'a self,
        request: Request<B>,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Answer>
    where
        B::Error: Into<BoxError>,
    {
        Box::pin(self.exec_boxed(boxed(request), namespace, name))
    }

    /// `pods/attach`
    pub fn attach<'a, B: Sendable>(
        &'a self,
        request: Request<B>,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Answer>
    where
        B::Error: Into<BoxError>,
    {
        Box::pin(self.attach_boxed(boxed(request), namespace, name))
    }

    /// `pods/portforward`
    pub fn port_forward<'a, B: Sendable>(
        &'a self,
        request: Request<B>,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Answer>
    where
        B::Error: Into<BoxError>,
    {
        Box::pin(self.port_forward_boxed(boxed(request), namespace, name))
    }

    /// `pods/proxy`: `id` is `[scheme:]name[:port]`, `rest` what follows `/proxy`, with its slash.
    pub fn pod_proxy<'a, B: Sendable>(
        &'a self,
        request: Request<B>,
        namespace: &'a str,
        id: &'a str,
        rest: &'a str,
    ) -> BoxFuture<'a, Answer>
    where
        B::Error: Into<BoxError>,
    {
        Box::pin(self.pod_proxy_boxed(boxed(request), namespace, id, rest))
    }

    /// `services/proxy`: `id` is `[scheme:]name[:port]`.
    pub fn service_proxy<'a, B: Sendable>(
        &'a self,
        request: Request<B>,
        namespace: &'a str,
        id: &'a str,
        rest: &'a str,
    ) -> BoxFuture<'a, Answer>
    where
        B::Error: Into<BoxError>,
    {
        Box::pin(self.service_proxy_boxed(boxed(request), namespace, id, rest))
    }

    /// `nodes/proxy`: `id` is `[scheme:]name[:port]`.
    pub fn node_proxy<'a, B: Sendable>(
        &'a self,
        request: Request<B>,
        id: &'a str,
        rest: &'a str,
    ) -> BoxFuture<'a, Answer>
    where
        B::Error: Into<BoxError>,
    {
        Box::pin(self.node_proxy_boxed(boxed(request), id, rest))
    }

    async fn log_boxed(&self, request: Request<StreamBody>, namespace: &str, name: &str) -> Answer {
        let pod = self.pod(namespace, name)?;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        target::check_log_options(name, &query)?;
        let container = target::container(&pod, query.first("container").unwrap_or_default(), "log")?;
        if pod.str_at("spec.nodeName").is_empty() {
            // Nothing runs yet, so there is nothing to say.
            return Ok(Response::new(empty()));
        }
        let mut backend = self.kubelet(&pod)?;
        if query.flag("insecureSkipTLSVerifyBackend") {
            backend.security = Security::KubeletUnverified;
        }
        let path = target::path(
            &["containerLogs", namespace, name, &container],
            &target::log_query(&query),
        );
        let (mut parts, _) = request.into_parts();
        parts.method = Method::GET;
        parts.headers.remove(http::header::CONTENT_LENGTH);
        let plain = Request::from_parts(parts, empty());
        let response = pass::request(&self.way(&backend), plain, &path)
            .await
            .map_err(forward::dialing)?;
        self.check_log(response, name).await
    }

    /// Turns a kubelet's refusal of logs into a status.
    async fn check_log(&self, response: Response<StreamBody>, name: &str) -> Answer {
        let status = response.status();
        if (200..=206).contains(&status.as_u16()) {
            let mut response = response;
            response.headers_mut().remove(http::header::CONTENT_LENGTH);
            response.headers_mut().insert(
                http::header::CONTENT_TYPE,
                http::HeaderValue::from_static("text/plain"),
            );
            return Ok(response);
        }
        let body = read(response.into_body(), REFUSAL_BYTES)
            .await
            .unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        let pods = GroupResource::new("", "pods");
        Err(match status {
            StatusCode::INTERNAL_SERVER_ERROR => StatusError::internal(body),
            StatusCode::BAD_REQUEST => StatusError::bad_request(body),
            StatusCode::NOT_FOUND => StatusError {
                message: format!("the server could not find the requested resource ( pods/log {name})"),
                ..StatusError::not_found(&pods, name)
            },
            other => StatusError {
                code: other.as_u16(),
                ..StatusError::new(Reason::Unknown, body)
            },
        })
    }

    async fn exec_boxed(&self, request: Request<StreamBody>, namespace: &str, name: &str) -> Answer {
        self.process(request, namespace, name, "exec").await
    }

    async fn attach_boxed(&self, request: Request<StreamBody>, namespace: &str, name: &str) -> Answer {
        self.process(request, namespace, name, "attach").await
    }

    async fn process(&self, request: Request<StreamBody>, namespace: &str, name: &str, verb: &str) -> Answer {
        let pod = self.pod(namespace, name)?;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let container = target::container(&pod, query.first("container").unwrap_or_default(), verb)?;
        let path = target::path(
            &[verb, namespace, name, &container],
            &target::process_query(&query, verb)?,
        );
        let backend = self.assigned_kubelet(&pod)?;
        if !pass::is_upgrade(&request) {
            return Err(StatusError::bad_request("Upgrade request required"));
        }
        self.upgrade(&backend, request, &path).await
    }

    async fn port_forward_boxed(&self, request: Request<StreamBody>, namespace: &str, name: &str) -> Answer {
        let pod = self.pod(namespace, name)?;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let path = target::path(&["portForward", namespace, name], &target::ports_query(&query));
        let backend = self.assigned_kubelet(&pod)?;
        if !pass::is_upgrade(&request) {
            return Err(StatusError::bad_request("Upgrade request required"));
        }
        if tunnel::is_tunnel(request.headers()) && !self.takes_tunnels(&pod) {
            return tunnel::open(&self.way(&backend), request, &path).await;
        }
        self.upgrade(&backend, request, &path).await
    }

    async fn pod_proxy_boxed(
        &self,
        request: Request<StreamBody>,
        namespace: &str,
        id: &str,
        rest: &str,
    ) -> Answer {
        let id = target::proxy_id(id)
            .ok_or_else(|| StatusError::bad_request(format!("invalid pod request {id:?}")))?;
        let place = target::pod_place(&*self.pod(namespace, &id.name)?, &id)?;
        self.proxy(request, place, rest).await
    }

    async fn service_proxy_boxed(
        &self,
        request: Request<StreamBody>,
        namespace: &str,
        id: &str,
        rest: &str,
    ) -> Answer {
        let id = target::proxy_id(id)
            .ok_or_else(|| StatusError::bad_request(format!("invalid service request {id:?}")))?;
        let service = self.get("services", namespace, &id.name)?;
        let slices = self.reader.list(
            &GroupResource::new("discovery.k8s.io", "endpointslices"),
            Some(namespace),
        );
        let endpoints = self
            .reader
            .get(&GroupResource::new("", "endpoints"), namespace, &id.name);
        let places = target::service_places(&service, &slices, endpoints.as_deref(), &id)?;
        let place = places[rand::random_range(0..places.len())].clone();
        self.proxy(request, place, rest).await
    }

    async fn node_proxy_boxed(&self, request: Request<StreamBody>, id: &str, rest: &str) -> Answer {
        let id = target::proxy_id(id)
            .ok_or_else(|| StatusError::bad_request(format!("invalid node request {id:?}")))?;
        let node = self.get("nodes", "", &id.name)?;
        let (hosts, port) = target::node_place(&node, &self.addresses)?;
        let own = id.port.is_empty() || id.port == port.to_string();
        let backend = if own {
            Backend {
                hosts,
                port,
                security: Security::Kubelet,
            }
        } else {
            let port = id
                .port
                .parse()
                .map_err(|_| StatusError::bad_request(format!("invalid node port {:?}", id.port)))?;
            Backend {
                hosts,
                port,
                security: Security::of_scheme(&id.scheme),
            }
        };
        self.proxy_to(request, &backend, rest).await
    }

    async fn proxy(&self, request: Request<StreamBody>, place: Place, rest: &str) -> Answer {
        let security = Security::of_scheme(&place.scheme);
        let backend = Backend {
            hosts: vec![place.host],
            port: place.port,
            security,
        };
        self.proxy_to(request, &backend, rest).await
    }

    async fn proxy_to(&self, request: Request<StreamBody>, backend: &Backend, rest: &str) -> Answer {
        let uri = request.uri().clone();
        let target = if rest.is_empty() { "/" } else { rest };
        let path = match uri.query() {
            Some(query) => format!("{target}?{query}"),
            None => target.to_owned(),
        };
        if pass::is_upgrade(&request) {
            return self.upgrade(backend, request, &path).await;
        }
        // A page without its slash would resolve its links wrongly; a request that isn't for a page is sent on as it is.
        if rest.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
            return redirect(&uri);
        }
        let prefix = uri.path().strip_suffix(rest).unwrap_or_default().to_owned();
        let request = pass::forwarded(request, &uri);
        let way = self.way(backend);
        let host = pass::Connect::authority(&way);
        match pass::request(&way, request, &path).await {
            Ok(response) => rewrite::response(response, &prefix, &host).await,
            Err(error) => Err(StatusError::new(
                Reason::ServiceUnavailable,
                format!("error trying to reach service: {error}"),
            )),
        }
    }

    fn way<'a>(&'a self, backend: &'a Backend) -> Way<'a> {
        Way {
            dialer: &self.dialer,
            backend,
        }
    }

    async fn upgrade(&self, backend: &Backend, request: Request<StreamBody>, path: &str) -> Answer {
        pass::upgrade(&self.way(backend), request, path)
            .await
            .map_err(forward::dialing)
    }

    fn get(&self, plural: &str, namespace: &str, name: &str) -> Result<Arc<Value>, StatusError> {
        let resource = GroupResource::new("", plural);
        self.reader
            .get(&resource, namespace, name)
            .ok_or_else(|| StatusError::not_found(&resource, name))
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Value>, StatusError> {
        self.get("pods", namespace, name)
    }

    /// The kubelet of a pod that is bound.
    fn kubelet(&self, pod: &Value) -> Result<Backend, StatusError> {
        let node = self.get("nodes", "", pod.str_at("spec.nodeName"))?;
        let (hosts, port) = target::node_place(&node, &self.addresses)?;
        Ok(Backend {
            hosts,
            port,
            security: Security::Kubelet,
        })
    }

    fn assigned_kubelet(&self, pod: &Value) -> Result<Backend, StatusError> {
        if pod.str_at("spec.nodeName").is_empty() {
            let name = pod.name();
            return Err(StatusError::bad_request(format!(
                "pod {name} does not have a host assigned"
            )));
        }
        self.kubelet(pod)
    }

    /// Whether the pod's kubelet says that it unwraps tunnels itself.
    fn takes_tunnels(&self, pod: &Value) -> bool {
        self.get("nodes", "", pod.str_at("spec.nodeName"))
            .is_ok_and(|node| {
                node.list_at("status.declaredFeatures")
                    .iter()
                    .any(|feature| feature == "ExtendWebSocketsToKubelet")
            })
    }
}

/// A proxied root is only a root with its slash: links in it would lead elsewhere.
fn redirect(uri: &Uri) -> Answer {
    let location = match uri.query() {
        Some(query) => format!("{}/?{query}", uri.path()),
        None => format!("{}/", uri.path()),
    };
    Response::builder()
        .status(StatusCode::MOVED_PERMANENTLY)
        .header(http::header::LOCATION, location)
        .body(empty())
        .map_err(StatusError::internal)
}
