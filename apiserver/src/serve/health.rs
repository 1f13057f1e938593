//! `/livez`, `/readyz` and `/healthz`: named checks, each at a path of its own too.

use crate::answer::{self, Body};
use crate::server::Server;
use crate::streaming::target::Query;
use http::{Response, StatusCode};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// What health depends on besides the store.
#[derive(Debug, Default)]
pub struct Health {
    bootstrapped: AtomicBool,
    draining: AtomicBool,
    stopping: CancellationToken,
}

const LIVE: &[&str] = &["ping", "log", "etcd", "poststarthook/bootstrap-objects"];
const READY: &[&str] = &[
    "ping",
    "log",
    "etcd",
    "informer-sync",
    "poststarthook/bootstrap-objects",
    "shutdown",
];

impl Health {
    /// The objects that every cluster has are there.
    pub fn bootstrapped(&self) {
        self.bootstrapped.store(true, Ordering::Release);
    }

    /// No new clients, please: the server will stop soon.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Ends watches.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Cancelled when long-running requests should end.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    fn check(&self, server: &Server, name: &str) -> Result<(), &'static str> {
        let ok = match name {
            "etcd" | "informer-sync" => server.cache.is_ready(),
            "poststarthook/bootstrap-objects" => self.bootstrapped.load(Ordering::Acquire),
            "shutdown" => !self.draining.load(Ordering::Acquire),
            _ => true,
        };
        if ok { Ok(()) } else { Err("reason withheld") }
    }
}

/// Answers a health path; none when it is no such path.
pub fn answer(server: &Server, path: &str, query: &Query) -> Option<Response<Body>> {
    let (kind, one) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path.trim_start_matches('/'), ""));
    let checks = match kind {
        "livez" | "healthz" => LIVE,
        "readyz" => READY,
        _ => return None,
    };
    if !one.is_empty() {
        let name = checks.iter().find(|name| **name == one)?;
        return Some(match server.health.check(server, name) {
            Ok(()) => answer::text(StatusCode::OK, "ok"),
            Err(why) => answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("internal server error: {why}\n"),
            ),
        });
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut text = String::new();
    let mut failed = false;
    for name in checks {
        let line = if excluded.contains(name) {
            format!("[+]{name} excluded: ok")
        } else {
            match server.health.check(server, name) {
                Ok(()) => format!("[+]{name} ok"),
                Err(why) => {
                    failed = true;
                    format!("[-]{name} failed: {why}")
                }
            }
        };
        let _ = writeln!(text, "{line}");
    }
    if failed {
        let _ = writeln!(text, "{kind} check failed");
        return Some(answer::text(StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    if query.first("verbose").is_some() {
        let _ = writeln!(text, "{kind} check passed");
        return Some(answer::text(StatusCode::OK, text));
    }
    Some(answer::text(StatusCode::OK, "ok"))
}
