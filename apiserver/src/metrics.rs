//! What is measured, under upstream's names.

use crate::access::metrics::AccessMetrics;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use std::time::Duration;

/// The server's metrics and the registry that all rooms add theirs to.
#[derive(Clone)]
pub struct Metrics {
    /// The registry.
    pub registry: Registry,
    /// What is counted of authentication and authorization.
    pub access: AccessMetrics,
    requests: IntCounterVec,
    durations: HistogramVec,
    in_flight: IntGaugeVec,
    long_running: IntGaugeVec,
    rejected: IntCounterVec,
    held: IntGaugeVec,
}

/// What a request is counted under.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// `GET`, `LIST`, `WATCH`, `POST`, ... as upstream reports verbs.
    pub verb: String,
    /// The API group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The resource.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// `resource`, `namespace`, `cluster`, or empty.
    pub scope: &'static str,
    /// `All` for dry runs.
    pub dry_run: &'static str,
}

impl Metrics {
    /// Registers them.
    pub fn new() -> prometheus::Result<Self> {
        let labels = [
            "verb",
            "dry_run",
            "group",
            "version",
            "resource",
            "subresource",
            "scope",
            "component",
            "code",
        ];
        let requests = IntCounterVec::new(
            Opts::new(
                "apiserver_request_total",
                "Requests, by verb, resource and HTTP response code.",
            ),
            &labels,
        )?;
        let buckets = vec![
            0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0,
            15.0, 20.0, 30.0, 45.0, 60.0,
        ];
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "apiserver_request_duration_seconds",
                "Seconds from a request's headers to its answer's.",
            )
            .buckets(buckets),
            labels.get(..8).unwrap_or_default(),
        )?;
        let in_flight = IntGaugeVec::new(
            Opts::new(
                "apiserver_current_inflight_requests",
                "Requests being served, reading and mutating ones.",
            ),
            &["request_kind"],
        )?;
        let long_running = IntGaugeVec::new(
            Opts::new(
                "apiserver_longrunning_requests",
                "Watches and streams being served.",
            ),
            &[
                "verb",
                "group",
                "version",
                "resource",
                "subresource",
                "scope",
                "component",
            ],
        )?;
        let rejected = IntCounterVec::new(
            Opts::new(
                "apiserver_request_terminations_total",
                "Requests refused or cut off to protect the server.",
            ),
            &[
                "verb",
                "group",
                "version",
                "resource",
                "subresource",
                "scope",
                "component",
                "code",
            ],
        )?;
        let held = IntGaugeVec::new(
            Opts::new(
                "rutter_apiserver_requests_memory_bytes",
                "Bytes set aside for the bodies, the answers and the work of requests.",
            ),
            &["share"],
        )?;
        let registry = Registry::new();
        registry.register(Box::new(held.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        registry.register(Box::new(long_running.clone()))?;
        registry.register(Box::new(rejected.clone()))?;
        Ok(Self {
            access: AccessMetrics::register(&registry)?,
            registry,
            requests,
            durations,
            in_flight,
            long_running,
            rejected,
            held,
        })
    }

    /// Counts an answered request.
    pub fn answered(&self, labels: &Labels, code: u16, took: Option<Duration>) {
        let code = code.to_string();
        let mut values = [
            labels.verb.as_str(),
            labels.dry_run,
            &labels.group,
            &labels.version,
            &labels.resource,
            &labels.subresource,
            labels.scope,
            "apiserver",
            &code,
        ];
        self.requests.with_label_values(&values).inc();
        if code == "429" {
            values[1] = "";
            let of: Vec<&str> = values
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != 1)
                .map(|(_, v)| *v)
                .collect();
            self.rejected.with_label_values(&of).inc();
        }
        if let Some(took) = took {
            let values = &values[..8];
            self.durations
                .with_label_values(values)
                .observe(took.as_secs_f64());
        }
    }

    /// The gauge of requests in flight of a kind.
    pub fn in_flight(&self, mutating: bool) -> prometheus::IntGauge {
        self.in_flight
            .with_label_values(&[if mutating { "mutating" } else { "readOnly" }])
    }

    /// The gauge of the memory that requests hold of a share.
    pub fn held(&self, share: &str) -> prometheus::IntGauge {
        self.held.with_label_values(&[share])
    }

    /// The gauge of long-running requests of a kind.
    pub fn long_running(&self, labels: &Labels) -> prometheus::IntGauge {
        self.long_running.with_label_values(&[
            labels.verb.as_str(),
            &labels.group,
            &labels.version,
            &labels.resource,
            &labels.subresource,
            labels.scope,
            "apiserver",
        ])
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default();
        text.push_str(&rutter_client::component::metrics_text());
        text
    }
}
