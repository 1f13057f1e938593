//! The flags of the audit log, under upstream's names, and the log that they describe.

use super::Audit;
use super::metrics::Metrics;
use super::webhook::Webhook;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use prometheus::Registry;
use rutter_api::codec;
use rutter_audit::Policy;
use rutter_audit::backend::{Backend, Deliver, Mode, Truncate};
use rutter_audit::batch;
use rutter_audit::log::{Format, Log, Settings};
use rutter_auth::Clock;
use rutter_outbound::Outbound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The flags.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// The policy that says how much is recorded of which requests; nothing is recorded without one.
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// The file that records are written to; `-` for standard output.
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    pub audit_log_path: Option<PathBuf>,
    /// How long old files are kept, in days; 0 for ever.
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub audit_log_maxage: u32,
    /// How many old files are kept; 0 for all.
    #[arg(long, value_name = "FILES", default_value_t = 0)]
    pub audit_log_maxbackup: usize,
    /// How large the file may grow, in megabytes; 0 for no bound.
    #[arg(long, value_name = "MB", default_value_t = 100)]
    pub audit_log_maxsize: u64,
    /// How records are written: `json`, or `legacy` lines of text.
    #[arg(long, value_name = "FORMAT", default_value = "json", value_parser = ["json", "legacy"])]
    pub audit_log_format: String,
    /// Whether old files are compressed.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub audit_log_compress: bool,
    /// The version that records are written in.
    #[arg(long, value_name = "VERSION", default_value = "audit.k8s.io/v1", value_parser = ["audit.k8s.io/v1"])]
    pub audit_log_version: String,
    /// Whether requests wait for the file: `blocking`, `blocking-strict` (and fail with it), or `batch`.
    #[arg(long, value_name = "MODE", value_enum, default_value = "blocking")]
    pub audit_log_mode: ModeFlag,
    /// How many records wait for the file at most, in batches.
    #[arg(long, value_name = "RECORDS", default_value_t = 10_000)]
    pub audit_log_batch_buffer_size: usize,
    /// How many records are written together at most.
    #[arg(long, value_name = "RECORDS", default_value_t = 1)]
    pub audit_log_batch_max_size: usize,
    /// How long a record waits for others at most.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = crate::options::positive_duration)]
    pub audit_log_batch_max_wait: Duration,
    /// Whether batches for the file are throttled.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub audit_log_batch_throttle_enable: bool,
    /// Batches a second.
    #[arg(long, value_name = "RATE", default_value_t = 10.0)]
    pub audit_log_batch_throttle_qps: f32,
    /// Batches at once after a pause.
    #[arg(long, value_name = "BATCHES", default_value_t = 15)]
    pub audit_log_batch_throttle_burst: u32,
    /// Whether records for the file are cut to a size.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub audit_log_truncate_enabled: bool,
    /// The largest record, in bytes; a larger one loses its objects.
    #[arg(long, value_name = "BYTES", default_value_t = 100 * 1024)]
    pub audit_log_truncate_max_event_size: usize,
    /// The most bytes written together.
    #[arg(long, value_name = "BYTES", default_value_t = 10 * 1024 * 1024)]
    pub audit_log_truncate_max_batch_size: usize,
    /// A kubeconfig file of the webhook that records are sent to.
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    pub audit_webhook_config_file: Option<PathBuf>,
    /// How long to wait before records are sent to the webhook again that it didn't take.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = crate::options::positive_duration)]
    pub audit_webhook_initial_backoff: Duration,
    /// The version that records are sent in.
    #[arg(long, value_name = "VERSION", default_value = "audit.k8s.io/v1", value_parser = ["audit.k8s.io/v1"])]
    pub audit_webhook_version: String,
    /// Whether requests wait for the webhook: `batch`, `blocking`, or `blocking-strict` (and fail with it).
    #[arg(long, value_name = "MODE", value_enum, default_value = "batch")]
    pub audit_webhook_mode: ModeFlag,
    /// How many records wait for the webhook at most, in batches.
    #[arg(long, value_name = "RECORDS", default_value_t = 10_000)]
    pub audit_webhook_batch_buffer_size: usize,
    /// How many records are sent together at most.
    #[arg(long, value_name = "RECORDS", default_value_t = 400)]
    pub audit_webhook_batch_max_size: usize,
    /// How long a record waits for others at most.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = crate::options::positive_duration)]
    pub audit_webhook_batch_max_wait: Duration,
    /// Whether batches for the webhook are throttled.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub audit_webhook_batch_throttle_enable: bool,
    /// Batches a second.
    #[arg(long, value_name = "RATE", default_value_t = 10.0)]
    pub audit_webhook_batch_throttle_qps: f32,
    /// Batches at once after a pause.
    #[arg(long, value_name = "BATCHES", default_value_t = 15)]
    pub audit_webhook_batch_throttle_burst: u32,
    /// Whether records for the webhook are cut to a size.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub audit_webhook_truncate_enabled: bool,
    /// The largest record, in bytes; a larger one loses its objects.
    #[arg(long, value_name = "BYTES", default_value_t = 100 * 1024)]
    pub audit_webhook_truncate_max_event_size: usize,
    /// The most bytes sent together.
    #[arg(long, value_name = "BYTES", default_value_t = 10 * 1024 * 1024)]
    pub audit_webhook_truncate_max_batch_size: usize,
}

/// How a backend is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeFlag {
    /// Requests wait.
    Blocking,
    /// Requests wait, and fail with it.
    BlockingStrict,
    /// Records are gathered.
    Batch,
}

impl From<ModeFlag> for Mode {
    fn from(flag: ModeFlag) -> Self {
        match flag {
            ModeFlag::Blocking => Self::Blocking,
            ModeFlag::BlockingStrict => Self::BlockingStrict,
            ModeFlag::Batch => Self::Batch,
        }
    }
}

/// The log that the flags describe; none without a policy. Must be called within a runtime.
pub fn build(
    flags: &Flags,
    clock: &Clock,
    outbound: &Outbound,
    registry: &Registry,
) -> anyhow::Result<Option<Arc<Audit>>> {
    let Some(file) = &flags.audit_policy_file else {
        return Ok(None);
    };
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let unusable = || format!("{} is no audit policy", file.display());
    let (object, _) = codec::yaml::parse(&text).with_context(unusable)?;
    let policy = Policy::read(&object).with_context(unusable)?;
    let metrics = Metrics::register(registry)?;
    let mut backends = Vec::new();
    if let Some(path) = &flags.audit_log_path {
        backends.push(log(flags, path, clock, &metrics)?);
    }
    if let Some(file) = &flags.audit_webhook_config_file {
        backends.push(webhook(flags, file, outbound, &metrics)?);
    }
    if backends.is_empty() {
        tracing::warn!("--audit-policy-file is given, but no place where records go");
        return Ok(None);
    }
    Ok(Some(Audit::new(policy, backends, clock.clone(), metrics)))
}

fn log(flags: &Flags, path: &Path, clock: &Clock, metrics: &Metrics) -> anyhow::Result<Backend> {
    let settings = Settings {
        path: Some(path.to_owned()).filter(|path| path.as_os_str() != "-"),
        format: match flags.audit_log_format.as_str() {
            "legacy" => Format::Legacy,
            _ => Format::Json,
        },
        size: flags.audit_log_maxsize * 1024 * 1024,
        days: flags.audit_log_maxage,
        backups: flags.audit_log_maxbackup,
        compress: flags.audit_log_compress,
    };
    let opened = Log::open(settings, clock.clone());
    let opened = opened.with_context(|| format!("cannot write {}", path.display()))?;
    let batch = batch::Settings {
        buffer: flags.audit_log_batch_buffer_size,
        batch: flags.audit_log_batch_max_size,
        wait: flags.audit_log_batch_max_wait,
        throttle: flags.audit_log_batch_throttle_enable.then_some((
            flags.audit_log_batch_throttle_qps,
            flags.audit_log_batch_throttle_burst,
        )),
        ..batch::Settings::log()
    };
    let truncate = flags.audit_log_truncate_enabled.then_some(Truncate {
        event: flags.audit_log_truncate_max_event_size,
        batch: flags.audit_log_truncate_max_batch_size,
    });
    let mode = flags.audit_log_mode.into();
    Ok(counted(Arc::new(opened), mode, batch, truncate, metrics))
}

fn webhook(flags: &Flags, file: &Path, outbound: &Outbound, metrics: &Metrics) -> anyhow::Result<Backend> {
    let webhook = Webhook::open(outbound, file, flags.audit_webhook_initial_backoff)?;
    let batch = batch::Settings {
        buffer: flags.audit_webhook_batch_buffer_size,
        batch: flags.audit_webhook_batch_max_size,
        wait: flags.audit_webhook_batch_max_wait,
        throttle: flags.audit_webhook_batch_throttle_enable.then_some((
            flags.audit_webhook_batch_throttle_qps,
            flags.audit_webhook_batch_throttle_burst,
        )),
        ..batch::Settings::webhook()
    };
    let truncate = flags.audit_webhook_truncate_enabled.then_some(Truncate {
        event: flags.audit_webhook_truncate_max_event_size,
        batch: flags.audit_webhook_truncate_max_batch_size,
    });
    let mode = flags.audit_webhook_mode.into();
    Ok(counted(Arc::new(webhook), mode, batch, truncate, metrics))
}

/// A backend whose losses are counted under its name.
fn counted(
    inner: Arc<dyn Deliver>,
    mode: Mode,
    batch: batch::Settings,
    truncate: Option<Truncate>,
    metrics: &Metrics,
) -> Backend {
    let lost = metrics.errors_of(inner.name());
    let tell = Box::new(move |records| lost.inc_by(records));
    Backend::new(inner, mode, batch, truncate, tell)
}
