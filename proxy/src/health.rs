//! HTTP servers for load balancers: one for each Service with `externalTrafficPolicy: Local`, saying whether this node has endpoints, and the
//! proxy's own `/healthz` (KEP-3458).

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// What one health check port tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalHealth {
    /// The Service's namespace and name.
    pub service: (String, String),
    /// How many ready endpoints are on this node.
    pub local_endpoints: usize,
}

/// Whether the proxy itself is well.
#[derive(Clone)]
pub struct ProxyHealth {
    inner: Arc<Mutex<ProxyState>>,
}

struct ProxyState {
    queued: Option<Instant>,
    updated: Option<Instant>,
    eligible: bool,
}

/// Rules that wait longer than this to be put in are a sickness.
const LATE: Duration = Duration::from_secs(60);

impl Default for ProxyHealth {
    fn default() -> Self {
        let state = ProxyState {
            queued: None,
            updated: None,
            eligible: true,
        };
        Self {
            inner: Arc::new(Mutex::new(state)),
        }
    }
}

impl ProxyHealth {
    /// A change waits to become rules.
    pub fn queued(&self, now: Instant) {
        self.inner.lock().queued.get_or_insert(now);
    }

    /// All changes are rules.
    pub fn updated(&self, now: Instant) {
        let mut state = self.inner.lock();
        (state.queued, state.updated) = (None, Some(now));
    }

    /// Whether the node takes new connections: false while it is being deleted.
    pub fn set_eligible(&self, eligible: bool) {
        self.inner.lock().eligible = eligible;
    }

    /// Whether rules are kept up with.
    pub fn alive(&self, now: Instant) -> bool {
        let state = self.inner.lock();
        state.updated.is_some() && state.queued.is_none_or(|since| now.duration_since(since) < LATE)
    }

    /// Whether load balancers should send traffic to this node.
    pub fn healthy(&self, now: Instant) -> bool {
        self.alive(now) && self.inner.lock().eligible
    }
}

fn page(good: bool, body: &serde_json::Value) -> axum::response::Response {
    let code = if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        code,
        [
            (header::CONTENT_TYPE, "application/json"),
            (
                header::HeaderName::from_static("x-content-type-options"),
                "nosniff",
            ),
        ],
        body.to_string(),
    )
        .into_response()
}

/// The routes of the proxy's own health server.
pub fn routes(health: ProxyHealth) -> Router {
    let answer = |check: fn(&ProxyHealth, Instant) -> bool| {
        let health = health.clone();
        get(move || async move {
            let good = check(&health, Instant::now());
            let eligible = health.inner.lock().eligible;
            page(
                good,
                &json!({"currentTime": jiff_now(), "nodeEligible": eligible}),
            )
        })
    };
    Router::new()
        .route("/healthz", answer(ProxyHealth::healthy))
        .route("/livez", answer(ProxyHealth::alive))
}

fn jiff_now() -> String {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}.{:03}", since.as_secs(), since.subsec_millis())
}

struct Listening {
    state: Arc<Mutex<LocalHealth>>,
    task: AbortHandle,
}

/// The health check ports of Services.
pub struct HealthPorts {
    address: IpAddr,
    proxy: ProxyHealth,
    ports: BTreeMap<u16, Listening>,
}

impl HealthPorts {
    /// Ports on `address`.
    pub fn new(address: IpAddr, proxy: ProxyHealth) -> Self {
        Self {
            address,
            proxy,
            ports: BTreeMap::new(),
        }
    }

    /// Listens on exactly these ports. One that is taken is logged and tried again at the next call.
    pub async fn sync(&mut self, wanted: BTreeMap<u16, LocalHealth>) {
        self.ports.retain(|port, listening| {
            let keep = wanted.contains_key(port);
            if !keep {
                listening.task.abort();
            }
            keep
        });
        for (port, health) in wanted {
            if let Some(listening) = self.ports.get(&port) {
                *listening.state.lock() = health;
                continue;
            }
            let listener = match tokio::net::TcpListener::bind(SocketAddr::new(self.address, port)).await {
                Ok(listener) => listener,
                Err(error) => {
                    let (namespace, name) = health.service;
                    tracing::warn!(service = %format!("{namespace}/{name}"), port, %error, "the health check port can't be opened");
                    continue;
                }
            };
            let state = Arc::new(Mutex::new(health));
            let (shown, proxy) = (state.clone(), self.proxy.clone());
            let answer = move || async move {
                let health = shown.lock().clone();
                let well = proxy.healthy(Instant::now());
                page(
                    health.local_endpoints > 0 && well,
                    &json!({
                        "service": {"namespace": health.service.0, "name": health.service.1},
                        "localEndpoints": health.local_endpoints,
                        "serviceProxyHealthy": well,
                    }),
                )
            };
            let router = Router::new().fallback(get(answer));
            let task = tokio::spawn(async move {
                let _ = axum::serve(listener, router).await;
            });
            self.ports.insert(
                port,
                Listening {
                    state,
                    task: task.abort_handle(),
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_sick_while_rules_wait_too_long_and_unfit_while_its_node_goes() {
        let (health, start) = (ProxyHealth::default(), Instant::now());
        assert!(!health.alive(start), "before the first rules");
        health.updated(start);
        assert!(health.healthy(start));
        health.queued(start);
        assert!(health.alive(start + LATE / 2));
        assert!(!health.alive(start + LATE));
        health.updated(start + LATE);
        health.set_eligible(false);
        assert!(health.alive(start + LATE) && !health.healthy(start + LATE));
    }
}
