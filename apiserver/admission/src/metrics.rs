//! What is measured of webhooks, under upstream's names.

use crate::Operation;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use std::time::Duration;

/// Which kind of webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It may change the object.
    Mutating,
    /// It may refuse the object.
    Validating,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mutating => "admit",
            Self::Validating => "validating",
        }
    }
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The write passed.
    Allowed,
    /// The webhook refused.
    Refused,
    /// The webhook could not be asked, and the write was refused for it.
    Failed,
    /// The webhook could not be asked, and the write went on.
    FailedOpen,
    /// The server could not use the answer.
    OwnError,
}

/// The metrics of webhooks. The default registers nowhere.
#[derive(Clone)]
pub struct WebhookMetrics {
    durations: HistogramVec,
    requests: IntCounterVec,
    rejections: IntCounterVec,
    fail_open: IntCounterVec,
}

impl WebhookMetrics {
    /// Registers the metrics.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let made = Self::make()?;
        registry.register(Box::new(made.durations.clone()))?;
        for counter in [&made.requests, &made.rejections, &made.fail_open] {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(made)
    }

    /// Metrics that nobody reads.
    pub fn make() -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(
                Opts::new(format!("apiserver_admission_webhook_{name}"), help),
                labels,
            )
        };
        Ok(Self {
            durations: HistogramVec::new(
                HistogramOpts::new(
                    "apiserver_admission_webhook_admission_duration_seconds",
                    "How long admission webhooks took to answer.",
                )
                .buckets(vec![0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0]),
                &["name", "type", "operation", "rejected"],
            )?,
            requests: counter(
                "request_total",
                "Questions to admission webhooks by what they answered.",
                &["name", "type", "operation", "code", "rejected"],
            )?,
            rejections: counter(
                "rejection_count",
                "Writes refused because of admission webhooks, by why.",
                &["name", "type", "operation", "error_type", "rejection_code"],
            )?,
            fail_open: counter(
                "fail_open_count",
                "Writes that went on although an admission webhook could not be asked.",
                &["name", "type"],
            )?,
        })
    }

    /// A webhook was asked.
    pub fn asked(
        &self,
        phase: Phase,
        name: &str,
        operation: Operation,
        outcome: Outcome,
        code: u16,
        took: Duration,
    ) {
        let (kind, operation) = (phase.as_str(), operation.as_str());
        let code = code.min(600).to_string();
        let error = match outcome {
            Outcome::Allowed | Outcome::FailedOpen => None,
            Outcome::Refused => Some("no_error"),
            Outcome::Failed => Some("calling_webhook_error"),
            Outcome::OwnError => Some("apiserver_internal_error"),
        };
        let rejected = if error.is_some() { "true" } else { "false" };
        self.durations
            .with_label_values(&[name, kind, operation, rejected])
            .observe(took.as_secs_f64());
        self.requests
            .with_label_values(&[name, kind, operation, &code, rejected])
            .inc();
        if let Some(error) = error {
            self.rejections
                .with_label_values(&[name, kind, operation, error, &code])
                .inc();
        }
    }

    /// A write went on although a webhook could not be asked.
    pub fn failed_open(&self, phase: Phase, name: &str) {
        self.fail_open.with_label_values(&[name, phase.as_str()]).inc();
    }
}
