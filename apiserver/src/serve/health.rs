//! `/livez`, `/readyz` and `/healthz`: named checks, each at a path of its own too.

use crate::answer::{self, Body};
use crate::server::Server;
use crate::streaming::target::Query;
use http::{Response, StatusCode};
use rutter_encryption::Encryption;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long its answer is good, so that many who ask don't burden it.
const FRESH: Duration = Duration::from_millis(500);

/// What health depends on besides the store.
#[derive(Default)]
pub struct Health {
    bootstrapped: AtomicBool,
    draining: AtomicBool,
    refusing: AtomicBool,
    served: TaskTracker,
    stopping: CancellationToken,
    encryption: OnceLock<Arc<Encryption>>,
    store: Mutex<Option<(Instant, Result<(), String>)>>,
}

/// The objects that every cluster has, under the names that upstream's steps have.
const BOOTSTRAP: &[&str] = &[
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
];
const KMS: &str = "kms-providers";

impl Health {
    /// The objects that every cluster has are there.
    pub fn bootstrapped(&self) {
        self.bootstrapped.store(true, Ordering::Release);
    }

    /// No new clients, please: the server will stop soon.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// From now on new requests are asked to try another server.
    pub fn refuse(&self) {
        self.refusing.store(true, Ordering::Release);
    }

    /// Whether they are.
    pub fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }

    /// Counts a request that is being served, until the token is dropped.
    pub fn serving(&self) -> TaskTrackerToken {
        self.served.token()
    }

    /// Waits until no request is being served.
    pub async fn served(&self) {
        self.served.close();
        self.served.wait().await;
    }

    /// Ends watches.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Cancelled when long-running requests should end.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Checks the plugins that hold keys, too.
    pub fn watch_plugins(&self, encryption: Arc<Encryption>) {
        let _ = self.encryption.set(encryption);
    }

    /// The checks of `/livez`, `/readyz` or `/healthz`; none when it is none of them.
    fn checks(&self, kind: &str) -> Option<Vec<&'static str>> {
        let ready = match kind {
            "livez" | "healthz" => false,
            "readyz" => true,
            _ => return None,
        };
        let mut checks = vec!["ping", "log", "etcd"];
        if self.encryption.get().is_some() {
            checks.push(KMS);
        }
        if ready {
            checks.extend(["etcd-readiness", "informer-sync"]);
        }
        checks.extend(BOOTSTRAP);
        if ready {
            checks.push("shutdown");
        }
        Some(checks)
    }

    async fn check(&self, server: &Server, name: &str) -> Result<(), String> {
        let flag = |well: bool, why: &str| if well { Ok(()) } else { Err(why.to_owned()) };
        match name {
            "etcd" | "etcd-readiness" => self.check_store(server).await,
            "informer-sync" => flag(server.cache.is_ready(), "the cache is not loaded yet"),
            "shutdown" => flag(!self.draining.load(Ordering::Acquire), "process is shutting down"),
            KMS => match self.encryption.get() {
                Some(encryption) => encryption.check().await,
                None => Ok(()),
            },
            _ if BOOTSTRAP.contains(&name) => flag(self.bootstrapped.load(Ordering::Acquire), "not finished"),
            _ => Ok(()),
        }
    }

    /// Whether the store answers. All who ask at once share one question.
    async fn check_store(&self, server: &Server) -> Result<(), String> {
        let mut last = self.store.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = match tokio::time::timeout(PATIENCE, server.engine.revision()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the store did not answer in time".to_owned()),
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// Answers a health path; none when it is no such path. Why a check failed is in the log, unless it is asked for by its own path.
pub async fn answer(server: &Server, path: &str, query: &Query) -> Option<Response<Body>> {
    let (kind, one) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path.trim_start_matches('/'), ""));
    let health = &server.health;
    let checks = health.checks(kind)?;
    if !one.is_empty() {
        let name = checks.iter().find(|name| **name == one)?;
        return Some(match health.check(server, name).await {
            Ok(()) => answer::text(StatusCode::OK, "ok"),
            Err(why) => answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("internal server error: {why}\n"),
            ),
        });
    }
    let mut excluded: Vec<&str> = query.all("exclude").collect();
    let mut text = String::new();
    let mut failed = Vec::new();
    for name in checks {
        if excluded.contains(&name) {
            excluded.retain(|excluded| *excluded != name);
            let _ = writeln!(text, "[+]{name} excluded: ok");
            continue;
        }
        match health.check(server, name).await {
            Ok(()) => {
                let _ = writeln!(text, "[+]{name} ok");
            }
            Err(why) => {
                let _ = writeln!(text, "[-]{name} failed: reason withheld");
                failed.push(format!("{name}: {why}"));
            }
        }
    }
    if !excluded.is_empty() {
        let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let _ = writeln!(
            text,
            "warn: some health checks cannot be excluded: no matches for {}",
            names.join(",")
        );
    }
    if !failed.is_empty() {
        tracing::info!(kind, failed = failed.join("; "), "health checks failed");
        let _ = writeln!(text, "{kind} check failed");
        return Some(answer::text(StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    if query.first("verbose").is_some() {
        let _ = writeln!(text, "{kind} check passed");
        return Some(answer::text(StatusCode::OK, text));
    }
    Some(answer::text(StatusCode::OK, "ok"))
}
