//! What is measured, under upstream's names. Names of keys and servers appear as hashes.

use crate::hash;
use crate::rules::Done;
use parking_lot::Mutex;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The metrics.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    seconds: HistogramVec,
    operations: IntCounterVec,
    misses: IntCounter,
    reloads: IntCounterVec,
    reloaded: GaugeVec,
    config: GaugeVec,
    kms_seconds: HistogramVec,
    key_ids: IntCounterVec,
    key_id_times: GaugeVec,
    status_times: GaugeVec,
    invalid_key_ids: IntCounterVec,
    cached: IntGaugeVec,
    /// The key ids with series of their own, oldest first.
    known: Mutex<Vec<[String; 4]>>,
}

/// So many key ids have series of their own.
const MOST_KEY_IDS: usize = 100;

impl Metrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let doubling = |first: f64, count: usize| -> Vec<f64> {
            std::iter::successors(Some(first), |last| Some(last * 2.0))
                .take(count)
                .collect()
        };
        let counter = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<GaugeVec> {
            let made = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let histogram =
            |name: &str, help: &str, buckets, labels: &[&str]| -> prometheus::Result<HistogramVec> {
                let made = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)?;
                registry.register(Box::new(made.clone()))?;
                Ok(made)
            };
        let misses = IntCounter::new(
            "apiserver_storage_envelope_transformation_cache_misses_total",
            "How often a plugin was asked for a key that was not known.",
        )?;
        registry.register(Box::new(misses.clone()))?;
        let cached = IntGaugeVec::new(
            Opts::new(
                "apiserver_envelope_encryption_dek_source_cache_size",
                "How many data keys are known.",
            ),
            &["provider_name"],
        )?;
        registry.register(Box::new(cached.clone()))?;
        let of_key = [
            "transformation_type",
            "provider_name",
            "key_id_hash",
            "apiserver_id_hash",
        ];
        Ok(Self(Arc::new(Inner {
            seconds: histogram(
                "apiserver_storage_transformation_duration_seconds",
                "Seconds it took to seal or open a value.",
                doubling(5e-6, 25),
                &["transformation_type", "transformer_prefix"],
            )?,
            operations: counter(
                "apiserver_storage_transformation_operations_total",
                "Values sealed and opened.",
                &["resource", "transformation_type", "transformer_prefix", "status"],
            )?,
            misses,
            reloads: counter(
                "apiserver_encryption_config_controller_automatic_reloads_total",
                "Reloads of the encryption configuration.",
                &["status", "apiserver_id_hash"],
            )?,
            reloaded: gauge(
                "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds",
                "When the encryption configuration was last reloaded, or could not be.",
                &["status", "apiserver_id_hash"],
            )?,
            config: gauge(
                "apiserver_encryption_config_controller_last_config_info",
                "The encryption configuration in use, by its hash.",
                &["apiserver_id_hash", "hash"],
            )?,
            kms_seconds: histogram(
                "apiserver_envelope_encryption_kms_operations_latency_seconds",
                "Seconds that a plugin took to answer.",
                doubling(0.0001, 20),
                &["provider_name", "method_name", "grpc_status_code"],
            )?,
            key_ids: counter(
                "apiserver_envelope_encryption_key_id_hash_total",
                "How often values were sealed and opened with a plugin's key.",
                &of_key,
            )?,
            key_id_times: gauge(
                "apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds",
                "When a value was last sealed or opened with a plugin's key.",
                &of_key,
            )?,
            status_times: gauge(
                "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds",
                "When a plugin last said that this is its key.",
                &["provider_name", "key_id_hash", "apiserver_id_hash"],
            )?,
            invalid_key_ids: counter(
                "apiserver_envelope_encryption_invalid_key_id_from_status_total",
                "How often a plugin named a key that can't be.",
                &["provider_name", "error"],
            )?,
            cached,
            known: Mutex::default(),
        })))
    }

    /// Counts and times what came of a value.
    pub(crate) async fn timed<T>(
        &self,
        resource: &str,
        direction: &str,
        done: impl Future<Output = Done<T>>,
    ) -> Result<T, String> {
        let since = Instant::now();
        let (prefix, done) = done.await;
        let status = if done.is_ok() { "OK" } else { "unknown-non-grpc" };
        let inner = &self.0;
        inner
            .operations
            .with_label_values(&[resource, direction, &prefix, status])
            .inc();
        if done.is_ok() {
            let seconds = since.elapsed().as_secs_f64();
            inner
                .seconds
                .with_label_values(&[direction, &prefix])
                .observe(seconds);
        }
        done
    }

    pub(crate) fn configured(&self, server: &str, file: &[u8]) {
        self.0.config.reset();
        self.0
            .config
            .with_label_values(&[&*hash(server.as_bytes()), &hash(file)])
            .set(1.0);
    }

    pub(crate) fn reloaded(&self, server: &str, well: bool) {
        let labels = [
            if well { "success" } else { "failure" }.to_owned(),
            hash(server.as_bytes()),
        ];
        self.0.reloads.with_label_values(&labels).inc();
        now(&self.0.reloaded.with_label_values(&labels));
    }

    pub(crate) fn missed(&self) {
        self.0.misses.inc();
    }

    pub(crate) fn asked(&self, plugin: &str, method: &str, code: &str, took: Duration) {
        let labels = [plugin, method, code];
        self.0
            .kms_seconds
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
    }

    pub(crate) fn cached(&self, plugin: &str, keys: usize) {
        let keys = i64::try_from(keys).unwrap_or(i64::MAX);
        self.0.cached.with_label_values(&[plugin]).set(keys);
    }

    pub(crate) fn used(&self, direction: &str, plugin: &str, key: &str, server: &str) {
        let labels = [
            direction.to_owned(),
            plugin.to_owned(),
            hash(key.as_bytes()),
            hash(server.as_bytes()),
        ];
        let mut known = self.0.known.lock();
        if !known.contains(&labels) {
            if known.len() >= MOST_KEY_IDS {
                let oldest = known.remove(0);
                let _ = self.0.key_ids.remove_label_values(&oldest);
                let _ = self.0.key_id_times.remove_label_values(&oldest);
            }
            known.push(labels.clone());
        }
        self.0.key_ids.with_label_values(&labels).inc();
        now(&self.0.key_id_times.with_label_values(&labels));
    }

    pub(crate) fn named(&self, plugin: &str, key: &str, server: &str) {
        let labels = [plugin.to_owned(), hash(key.as_bytes()), hash(server.as_bytes())];
        now(&self.0.status_times.with_label_values(&labels));
    }

    pub(crate) fn misnamed(&self, plugin: &str, code: &str) {
        self.0.invalid_key_ids.with_label_values(&[plugin, code]).inc();
    }
}

fn now(gauge: &Gauge) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    gauge.set(since.unwrap_or_default().as_secs_f64());
}
