//! An engine that counts and times what another one does, under upstream's metric names.

use crate::{
    Commit, Effect, Engine, Guard, KeyValue, Outcome, RangeRequest, RangeResponse, Revision, StoreError,
    Watch,
};
use async_trait::async_trait;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use std::sync::Arc;
use std::time::Instant;

const LABELS: &[&str] = &["operation", "resource"];

/// Wraps an engine with `etcd_request_duration_seconds`, `etcd_requests_total` and `etcd_request_errors_total`, whichever the engine.
pub struct MeteredEngine {
    inner: Arc<dyn Engine>,
    seconds: HistogramVec,
    requests: IntCounterVec,
    errors: IntCounterVec,
}

impl MeteredEngine {
    /// Wraps an engine; its metrics go on a registry.
    pub fn new(inner: Arc<dyn Engine>, registry: &Registry) -> prometheus::Result<Self> {
        let buckets = vec![
            0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0,
            15.0, 20.0, 30.0, 45.0, 60.0,
        ];
        let timing = HistogramOpts::new(
            "etcd_request_duration_seconds",
            "Seconds a request to the store took.",
        );
        let seconds = HistogramVec::new(timing.buckets(buckets), LABELS)?;
        let requests =
            IntCounterVec::new(Opts::new("etcd_requests_total", "Requests to the store."), LABELS)?;
        let errors = IntCounterVec::new(
            Opts::new("etcd_request_errors_total", "Failed requests to the store."),
            LABELS,
        )?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        Ok(Self {
            inner,
            seconds,
            requests,
            errors,
        })
    }

    fn note<T>(&self, operation: &str, key: &str, since: Instant, answer: &Result<T, StoreError>) {
        let labels = [operation, resource(key)];
        self.seconds
            .with_label_values(&labels)
            .observe(since.elapsed().as_secs_f64());
        self.requests.with_label_values(&labels).inc();
        if answer.is_err() {
            self.errors.with_label_values(&labels).inc();
        }
    }
}

#[async_trait]
impl Engine for MeteredEngine {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        let since = Instant::now();
        let answer = self.inner.get(key).await;
        self.note("get", key, since, &answer);
        answer
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let since = Instant::now();
        let prefix = request.prefix.clone();
        let answer = self.inner.range(request).await;
        self.note("list", &prefix, since, &answer);
        answer
    }

    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let since = Instant::now();
        let (operation, key) = operation(&commit);
        let answer = self.inner.commit(commit).await;
        self.note(operation, &key, since, &answer);
        answer
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.inner.watch(prefix, from).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        let since = Instant::now();
        let answer = self.inner.revision().await;
        self.note("getCurrentResourceVersion", "", since, &answer);
        answer
    }

    fn known_revision(&self) -> Option<Revision> {
        // Nothing is asked, so nothing is timed.
        self.inner.known_revision()
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        let since = Instant::now();
        let answer = self.inner.compact(at).await;
        self.note("compact", "", since, &answer);
        answer
    }

    async fn is_stale(&self, key: &str) -> Result<bool, StoreError> {
        self.inner.is_stale(key).await
    }

    fn unreadable(&self, prefix: &str) -> Option<(String, String)> {
        self.inner.unreadable(prefix)
    }
}

/// What a commit is called, and a key it is about.
fn operation(commit: &Commit) -> (&'static str, String) {
    match commit.effects.first() {
        Some(Effect::Delete(key)) => ("delete", key.clone()),
        Some(Effect::Put(key, ..))
            if commit
                .guards
                .iter()
                .any(|guard| matches!(guard, Guard::Absent(_))) =>
        {
            ("create", key.clone())
        }
        Some(Effect::Put(key, ..)) => ("update", key.clone()),
        None => ("check", String::new()),
    }
}

/// The second part of a key: the resource, or a custom one's group. Bounded in number, unlike names.
fn resource(key: &str) -> &str {
    key.split('/').nth(2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MemoryEngine;

    #[tokio::test]
    async fn requests_are_counted_by_operation_and_resource() {
        let registry = Registry::new();
        let engine = MeteredEngine::new(Arc::new(MemoryEngine::new()), &registry).unwrap();
        let key = "/registry/pods/default/a";
        let effects = vec![Effect::Put(key.into(), bytes::Bytes::new(), None)];
        engine
            .commit(Commit {
                guards: vec![Guard::Absent(key.into())],
                effects,
            })
            .await
            .unwrap();
        engine.get(key).await.unwrap();
        for operation in ["create", "get"] {
            assert_eq!(
                engine.requests.with_label_values(&[operation, "pods"]).get(),
                1,
                "{operation}"
            );
        }
    }
}
