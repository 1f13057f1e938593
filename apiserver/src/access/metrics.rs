//! What is counted of authentication and authorization, under upstream's names. No name of a user appears in them.

use async_trait::async_trait;
use bytes::Bytes;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};
use rutter_auth::Decision;
use rutter_auth::remote::{Remote, RemoteError};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The metrics.
#[derive(Clone)]
pub struct AccessMetrics(Arc<Inner>);

struct Inner {
    users: IntCounterVec,
    authentications: [(IntCounter, Histogram); 3],
    authorizations: [(IntCounter, Histogram); 3],
    decisions: IntCounterVec,
    webhooks: IntCounterVec,
    webhook_seconds: HistogramVec,
    issuers: HistogramVec,
    reloads: [(IntCounterVec, GaugeVec); 2],
}

/// What came of an authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'u> {
    /// It is this user.
    Success(&'u str),
    /// Nobody knows who it is.
    Failure,
    /// Credentials are bad.
    Error,
}

/// A file that is read again when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// `--authentication-config`
    Authentication,
    /// `--authorization-config`
    Authorization,
}

/// 1 ms, and twice as long each time.
fn buckets() -> Vec<f64> {
    std::iter::successors(Some(0.001), |last| Some(last * 2.0))
        .take(15)
        .collect()
}

/// A counter and a histogram of results.
fn results<const N: usize>(
    registry: &Registry,
    (counter, seconds): (&str, &str),
    names: [&str; N],
) -> prometheus::Result<[(IntCounter, Histogram); N]> {
    let counts = IntCounterVec::new(Opts::new(counter, "How often, by result."), &["result"])?;
    let times = HistogramOpts::new(seconds, "Seconds it took, by result.").buckets(buckets());
    let times = HistogramVec::new(times, &["result"])?;
    registry.register(Box::new(counts.clone()))?;
    registry.register(Box::new(times.clone()))?;
    Ok(names.map(|name| {
        (
            counts.with_label_values(&[name]),
            times.with_label_values(&[name]),
        )
    }))
}

impl AccessMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let histogram = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<HistogramVec> {
            let made = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets()), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        };
        let reloads = |of: &str| -> prometheus::Result<(IntCounterVec, GaugeVec)> {
            let labels = ["status"];
            let name = format!("apiserver_{of}_config_controller_automatic_reloads_total");
            let count = counter(&name, "Reloads of the configuration file.", &labels)?;
            let name = format!("apiserver_{of}_config_controller_automatic_reload_last_timestamp_seconds");
            let time = GaugeVec::new(
                Opts::new(name, "When it was last reloaded, or could not be."),
                &labels,
            )?;
            registry.register(Box::new(time.clone()))?;
            Ok((count, time))
        };
        Ok(Self(Arc::new(Inner {
            users: counter(
                "authenticated_user_requests",
                "Requests of known users, by what kind of user it is.",
                &["username"],
            )?,
            authentications: results(
                registry,
                ("authentication_attempts", "authentication_duration_seconds"),
                ["success", "failure", "error"],
            )?,
            authorizations: results(
                registry,
                ("authorization_attempts_total", "authorization_duration_seconds"),
                ["allowed", "denied", "no-opinion"],
            )?,
            decisions: counter(
                "apiserver_authorization_decisions_total",
                "Decisions that ended the question, by the authorizer that made them.",
                &["type", "name", "decision"],
            )?,
            webhooks: counter(
                "apiserver_authorization_webhook_evaluations_total",
                "Questions put to authorization webhooks.",
                &["name", "result"],
            )?,
            webhook_seconds: histogram(
                "apiserver_authorization_webhook_duration_seconds",
                "Seconds that authorization webhooks took to answer.",
                &["name", "result"],
            )?,
            issuers: histogram(
                "apiserver_authentication_jwt_authenticator_latency_seconds",
                "Seconds it took to check a token of an issuer.",
                &["result", "jwt_issuer_hash"],
            )?,
            reloads: [reloads("authentication")?, reloads("authorization")?],
        })))
    }

    /// Counts an authentication.
    pub fn authenticated(&self, result: Authentication<'_>, took: Duration) {
        let [success, failure, error] = &self.0.authentications;
        let (count, seconds) = match result {
            Authentication::Success(name) => {
                self.0.users.with_label_values(&[kind_of(name)]).inc();
                success
            }
            Authentication::Failure => failure,
            Authentication::Error => error,
        };
        count.inc();
        seconds.observe(took.as_secs_f64());
    }

    /// Counts an authorization.
    pub fn authorized(&self, decision: &Decision, took: Duration) {
        let [allowed, denied, no_opinion] = &self.0.authorizations;
        let (count, seconds) = match decision {
            Decision::Allow(_) => allowed,
            Decision::Deny(_) => denied,
            Decision::NoOpinion(_) => no_opinion,
        };
        count.inc();
        seconds.observe(took.as_secs_f64());
    }

    /// The counters of what an authorizer allows and denies.
    pub fn decisions_of(&self, kind: &str, name: &str) -> [IntCounter; 2] {
        ["allowed", "denied"].map(|decision| self.0.decisions.with_label_values(&[kind, name, decision]))
    }

    /// Counts a token's check.
    pub fn token_checked(&self, issuer: &str, well: bool, took: Duration) {
        let result = if well { "success" } else { "failure" };
        let hash = Sha256::digest(issuer)
            .iter()
            .fold("sha256:".to_owned(), |out, byte| out + &format!("{byte:02x}"));
        self.0
            .issuers
            .with_label_values(&[result, &hash])
            .observe(took.as_secs_f64());
    }

    /// Counts a reload; hands its result on.
    pub fn reloaded(&self, of: Configuration, result: anyhow::Result<()>) -> anyhow::Result<()> {
        let [authentication, authorization] = &self.0.reloads;
        let (count, time) = match of {
            Configuration::Authentication => authentication,
            Configuration::Authorization => authorization,
        };
        let status = [if result.is_ok() { "success" } else { "failure" }];
        count.with_label_values(&status).inc();
        now(&time.with_label_values(&status));
        result
    }

    /// A webhook whose answers are counted under a name.
    pub fn counted(&self, name: &str, remote: Arc<dyn Remote>) -> Arc<dyn Remote> {
        Arc::new(Counted {
            name: name.to_owned(),
            remote,
            metrics: self.clone(),
        })
    }
}

fn now(gauge: &Gauge) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    gauge.set(since.unwrap_or_default().as_secs_f64());
}

/// The kind of user that a name is counted under.
fn kind_of(name: &str) -> &str {
    match name {
        "admin" | "client" | "kube_proxy" | "kubelet" | "system:serviceaccount:kube-system:default" => name,
        _ if name.contains('@') => "email_id",
        _ => "other",
    }
}

struct Counted {
    name: String,
    remote: Arc<dyn Remote>,
    metrics: AccessMetrics,
}

#[async_trait]
impl Remote for Counted {
    async fn ask(&self, question: Bytes, timeout: Duration) -> Result<Bytes, RemoteError> {
        let since = Instant::now();
        let answer = self.remote.ask(question, timeout).await;
        let result = match &answer {
            Ok(_) => "success",
            Err(error) if error.text.contains("context deadline exceeded") => "timeout",
            Err(_) => "error",
        };
        let labels = [self.name.as_str(), result];
        let inner = &self.metrics.0;
        inner.webhooks.with_label_values(&labels).inc();
        let seconds = since.elapsed().as_secs_f64();
        inner.webhook_seconds.with_label_values(&labels).observe(seconds);
        answer
    }
}
