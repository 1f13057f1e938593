//! The namespaces that workloads use: made, emptied and taken away, whether or not somebody is there who does it for others.

use crate::wire::{Call, Wire};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long a namespace of an earlier run may take to go.
const GONE: Duration = Duration::from_secs(60);
/// How long the namespace controller is given before it is taken for absent.
const CONTROLLED: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// What workloads put into a namespace, and what a namespace gets by itself.
const KINDS: &[&str] = &[
    "/api/v1/namespaces/{}/pods?gracePeriodSeconds=0",
    "/api/v1/namespaces/{}/secrets",
    "/api/v1/namespaces/{}/configmaps",
    "/api/v1/namespaces/{}/events",
    "/api/v1/namespaces/{}/serviceaccounts",
    "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
    "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
];

fn call(method: Method, path: impl Into<String>, body: &Value) -> Call {
    Call {
        method,
        path: path.into(),
        content: "application/json",
        accept: "application/json",
        body: match body {
            Value::Null => Bytes::new(),
            body => body.to_string().into(),
        },
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/{name}")
}

/// Makes a namespace, with the service account that pods need and that nobody else may be there to make. One that an earlier run
/// deleted is waited for.
pub(super) async fn make(wire: &Wire, name: &str) -> anyhow::Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}});
    let began = Instant::now();
    while !create(wire, "/api/v1/namespaces", &namespace).await? && is_going(wire, name).await? {
        anyhow::ensure!(began.elapsed() < GONE, "{name} is being deleted and does not go");
        tokio::time::sleep(PAUSE).await;
    }
    create(wire, &format!("{}/serviceaccounts", path(name)), &account).await?;
    Ok(())
}

/// Whether an object was made that wasn't there.
async fn create(wire: &Wire, path: &str, object: &Value) -> anyhow::Result<bool> {
    let (status, answer) = wire.fetch(&call(Method::POST, path, object)).await?;
    anyhow::ensure!(
        matches!(status, 201 | 409),
        "cannot prepare: {}",
        String::from_utf8_lossy(&answer)
    );
    Ok(status == 201)
}

/// Whether a namespace is being deleted, or has just gone.
async fn is_going(wire: &Wire, name: &str) -> anyhow::Result<bool> {
    let (status, namespace) = wire.fetch(&call(Method::GET, path(name), &Value::Null)).await?;
    if status == 404 {
        return Ok(true);
    }
    let namespace: Value = serde_json::from_slice(&namespace)?;
    Ok(!namespace["metadata"]["deletionTimestamp"].is_null())
}

/// Empties a namespace and deletes it. Without a namespace controller its finalizer is taken away too.
pub(super) async fn remove(wire: &Wire, name: &str) -> anyhow::Result<()> {
    for kind in KINDS {
        let path = kind.replace("{}", name);
        wire.fetch(&call(Method::DELETE, path, &Value::Null)).await?;
    }
    wire.fetch(&call(Method::DELETE, path(name), &Value::Null))
        .await?;
    let began = Instant::now();
    loop {
        let (status, namespace) = wire.fetch(&call(Method::GET, path(name), &Value::Null)).await?;
        if status == 404 {
            return Ok(());
        }
        if began.elapsed() > CONTROLLED {
            let mut namespace: Value = serde_json::from_slice(&namespace)?;
            namespace["spec"]["finalizers"] = json!([]);
            let finalize = format!("{}/finalize", path(name));
            let (status, answer) = wire.fetch(&call(Method::PUT, finalize, &namespace)).await?;
            anyhow::ensure!(
                matches!(status, 200 | 404),
                "{name} does not go: {}",
                String::from_utf8_lossy(&answer)
            );
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
