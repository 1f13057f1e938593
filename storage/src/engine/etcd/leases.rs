//! Leases for keys with a time to live, shared: one lease serves all keys of the same life put within a window of time.

use super::Connection;
use etcd_client::Error;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// A lease is handed out at most this long, and at most for a twentieth of the life.
const WINDOW: Duration = Duration::from_secs(60);
/// A lease serves at most so many keys.
const KEYS: usize = 1000;

pub(super) struct Leases {
    connection: Arc<Connection>,
    current: Mutex<HashMap<u64, Lease>>,
    forgotten: std::sync::atomic::AtomicBool,
}

struct Lease {
    id: i64,
    until: Instant,
    keys: usize,
}

impl Leases {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            current: Mutex::default(),
            forgotten: false.into(),
        }
    }

    /// A lease that lives at least this long.
    pub(super) async fn lease(&self, life: Duration) -> Result<i64, Error> {
        let seconds = life.as_secs_f64().ceil() as u64;
        let mut current = self.current.lock().await;
        if self.forgotten.swap(false, std::sync::atomic::Ordering::AcqRel) {
            current.clear();
        }
        let now = Instant::now();
        if let Some(lease) = current.get_mut(&seconds)
            && lease.until > now
            && lease.keys < KEYS
        {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let window = window(life);
        let granted = seconds.saturating_add(window.as_secs_f64().ceil() as u64);
        let lease = self
            .connection
            .client
            .lease_client()
            .grant(granted as i64, None)
            .await?;
        current.retain(|_, lease| lease.until > now);
        current.insert(
            seconds,
            Lease {
                id: lease.id(),
                until: now + window,
                keys: 1,
            },
        );
        Ok(lease.id())
    }

    /// Hands out no lease again that was handed out before.
    pub(super) fn forget(&self) {
        self.forgotten.store(true, std::sync::atomic::Ordering::Release);
    }
}

/// How long a lease for this life is handed out. A short life gets a lease of its own, so that it ends on time.
fn window(life: Duration) -> Duration {
    let window = (life / 20).min(WINDOW);
    if window < Duration::from_secs(1) {
        Duration::ZERO
    } else {
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_shared_for_a_twentieth_of_its_life_up_to_a_minute() {
        let seconds = Duration::from_secs;
        for (life, want) in [(1, 0), (19, 0), (20, 1), (600, 30), (3600, 60)] {
            assert_eq!(window(seconds(life)), seconds(want), "life of {life} s");
        }
    }
}
