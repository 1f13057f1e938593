//! Noticing what happens to containers: by the runtime's event stream where it has one, and by comparing lists every second
//! where it has not (and once a minute beside the stream, should an event get lost).

use crate::pods::Uid;
use crate::runtime::cri::Cri;
use crate::runtime::observe::list_pods;
use crate::worker::pool::Pool;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const POLL: Duration = Duration::from_secs(1);
const SAFETY_POLL: Duration = Duration::from_secs(60);
/// A node whose runtime hasn't been listed for so long isn't healthy.
const STALE_SECONDS: i64 = 180;

/// The generator of pod lifecycle events.
pub(crate) struct Pleg {
    pool: Pool,
    cri: Cri,
    last_relist: Arc<AtomicI64>,
    streaming: Arc<AtomicU64>,
}

/// Whether the generator works.
#[derive(Clone)]
pub(crate) struct PlegHealth(Arc<AtomicI64>);

impl PlegHealth {
    /// What is wrong, if anything is.
    pub(crate) fn problem(&self) -> Option<String> {
        let last = self.0.load(Ordering::Relaxed);
        if last == 0 {
            return Some("PLEG is not healthy: pleg has yet to be successful".to_owned());
        }
        let age = Timestamp::now().as_second() - last;
        (age > STALE_SECONDS)
            .then(|| format!("PLEG is not healthy: pleg was last seen active {age}s ago; threshold is 3m0s"))
    }
}

impl Pleg {
    /// A generator for a pool's pods.
    pub(crate) fn new(pool: Pool) -> Self {
        let cri = pool.shared().cri.clone();
        Self {
            pool,
            cri,
            last_relist: Arc::default(),
            streaming: Arc::default(),
        }
    }

    /// Its health.
    pub(crate) fn health(&self) -> PlegHealth {
        PlegHealth(self.last_relist.clone())
    }

    /// Runs until stopped.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let stream = follow_events(self.pool.clone(), self.cri.clone(), self.streaming.clone());
        let poll = self.poll();
        tokio::select! {
            () = stop.cancelled() => {}
            () = poll => {}
            () = async { stream.await; std::future::pending::<()>().await } => {}
        }
    }

    async fn poll(&self) {
        let mut seen: HashMap<Uid, u64> = HashMap::new();
        loop {
            let began = std::time::Instant::now();
            let listed = list_pods(&self.cri).await;
            if let Some(metrics) = crate::metrics::get() {
                metrics.relist.observe(began.elapsed().as_secs_f64());
            }
            match listed {
                Ok(found) => {
                    self.last_relist
                        .store(Timestamp::now().as_second(), Ordering::Relaxed);
                    let now: HashMap<Uid, u64> = found
                        .into_iter()
                        .map(|(uid, (_, digest))| (uid, digest))
                        .collect();
                    for (uid, digest) in &now {
                        if seen.get(uid) != Some(digest) {
                            self.pool.wake(uid);
                        }
                    }
                    for uid in seen.keys().filter(|uid| !now.contains_key(uid)) {
                        self.pool.wake(uid);
                    }
                    seen = now;
                }
                Err(error) => tracing::debug!(%error, "listing the container runtime's pods failed"),
            }
            let pause = if self.streaming.load(Ordering::Relaxed) > 0 {
                SAFETY_POLL
            } else {
                POLL
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// Wakes workers by the runtime's events; returns when the runtime has no such stream.
async fn follow_events(pool: Pool, cri: Cri, streaming: Arc<AtomicU64>) {
    loop {
        match cri.events().await {
            Ok(mut events) => {
                streaming.store(1, Ordering::Relaxed);
                while let Ok(Some(event)) = events.message().await {
                    let uid = event
                        .pod_sandbox_status
                        .as_ref()
                        .and_then(|s| s.metadata.as_ref())
                        .map(|m| Uid::new(&m.uid));
                    match uid {
                        Some(uid) => pool.wake(&uid),
                        None => pool.wake_all(),
                    }
                }
                streaming.store(0, Ordering::Relaxed);
                pool.wake_all();
            }
            Err(error) if error.is_unimplemented() => {
                tracing::info!("the container runtime has no event stream; comparing lists every second");
                return;
            }
            Err(error) => tracing::debug!(%error, "following the container runtime's events failed"),
        }
        tokio::time::sleep(POLL).await;
    }
}
