//! What the audit log counts, under upstream's names.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use rutter_audit::Level;

/// The counters.
#[derive(Clone)]
pub(super) struct Metrics {
    events: IntCounter,
    errors: IntCounterVec,
    levels: IntCounterVec,
    refused: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let made = IntCounter::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let counters = |name: &str, help: &str, label: &str| -> prometheus::Result<IntCounterVec> {
            let made = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        Ok(Self {
            events: counter("apiserver_audit_event_total", "Audit records handed to backends.")?,
            errors: counters(
                "apiserver_audit_error_total",
                "Audit records that a backend could not deliver.",
                "plugin",
            )?,
            levels: counters(
                "apiserver_audit_level_total",
                "Requests, by how much the policy wants of them.",
                "level",
            )?,
            refused: counter(
                "apiserver_audit_requests_rejected_total",
                "Requests refused because they could not be recorded.",
            )?,
        })
    }

    pub(super) fn event(&self) {
        self.events.inc();
    }

    pub(super) fn decided(&self, level: Level) {
        let level = match level {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        };
        self.levels.with_label_values(&[level]).inc();
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    /// The counter of a backend's losses.
    pub(super) fn errors_of(&self, backend: &str) -> IntCounter {
        self.errors.with_label_values(&[backend])
    }
}
