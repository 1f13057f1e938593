//! An apiserver that takes every write and remembers it.

use http_body_util::BodyExt as _;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;

/// One request that came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// The requests so far. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct FakeApi {
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl FakeApi {
    /// A client of it.
    pub(crate) fn client(&self) -> kube::Client {
        let seen = self.seen.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let seen = seen.clone();
            async move {
                let (head, body) = request.into_parts();
                let bytes = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                let path = head.uri.path().to_owned();
                let method = head.method.to_string();
                let mut answer = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "default", "uid": "u"}});
                let mut status = 200;
                if method == "GET" {
                    status = 404;
                    answer = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found"});
                } else if path.ends_with("/status") {
                    answer["status"] = body["status"].clone();
                    answer["metadata"]["resourceVersion"] = json!("1000");
                } else if path.contains("/events") {
                    answer = body.clone();
                }
                seen.lock().push(Seen { method, path, body });
                let response = http::Response::builder()
                    .status(status)
                    .body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, Infallible>(response.expect("a response"))
            }
        });
        kube::Client::new(service, "default")
    }

    /// The requests whose path ends so.
    pub(crate) fn of(&self, method: &str, end: &str) -> Vec<Seen> {
        self.seen
            .lock()
            .iter()
            .filter(|s| s.method == method && s.path.ends_with(end))
            .cloned()
            .collect()
    }
}
