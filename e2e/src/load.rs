//! Steady requests: an open schedule that doesn't wait for slow answers, over several connections.
//!
//! Each request is due at a fixed time. Its latency counts from then, so that a stall shows in every request that was due in it.

use crate::plain_http::Connection;
use crate::report::say;
use anyhow::ensure;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Connections. Half of them are kept from request to request, half are made for each.
const CONNECTIONS: u32 = 24;

/// Requests that go on until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    began: Instant,
    clients: Vec<JoinHandle<Seen>>,
}

/// What clients saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) sent: usize,
    /// Why requests were lost, with the second at which they were due.
    pub(crate) lost: Vec<String>,
    /// Kept connections that the other side had closed.
    pub(crate) renewed: usize,
    latencies: Vec<Duration>,
}

impl Load {
    /// Begins to send so many requests a second, to these addresses in turn.
    pub(crate) fn start(addresses: &[String], rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let every = Duration::from_secs(1) * CONNECTIONS / rate;
        let clients = (0..CONNECTIONS)
            .zip(addresses.iter().cycle())
            .map(|(n, address)| {
                let connection = Connection::new(address, n % 2 == 0);
                let first = began + every * n / CONNECTIONS;
                let stop = stop.clone();
                std::thread::spawn(move || client(connection, began, first, every, &stop))
            })
            .collect();
        Self { stop, began, clients }
    }

    /// Stops; what was seen.
    pub(crate) fn stop(self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Seen::default();
        for client in self.clients {
            let Ok(seen) = client.join() else {
                anyhow::bail!("a client panicked")
            };
            all.sent += seen.sent;
            all.renewed += seen.renewed;
            all.lost.extend(seen.lost);
            all.latencies.extend(seen.latencies);
        }
        all.latencies.sort_unstable();
        let seconds = self.began.elapsed().as_secs_f64();
        say(&format!(
            "  {} requests in {seconds:.1} s ({:.0} a second): {} lost, {} kept connections made anew; latency p50 {:.1} ms, p99 {:.1} ms, worst {:.0} ms",
            all.sent,
            all.sent as f64 / seconds,
            all.lost.len(),
            all.renewed,
            all.latency(50),
            all.latency(99),
            all.latency(100),
        ));
        Ok(all)
    }
}

impl Seen {
    /// In milliseconds.
    fn latency(&self, percent: usize) -> f64 {
        let at = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
        self.latencies.get(at).map_or(0.0, |l| l.as_secs_f64() * 1000.0)
    }

    /// That nothing was lost.
    pub(crate) fn whole(&self) -> anyhow::Result<()> {
        let shown: Vec<&str> = self.lost.iter().take(5).map(String::as_str).collect();
        ensure!(
            self.lost.is_empty(),
            "{} of {} requests were lost: {}",
            self.lost.len(),
            self.sent,
            shown.join("; ")
        );
        ensure!(self.sent > 0, "no request was sent");
        Ok(())
    }
}

fn client(
    mut connection: Connection,
    began: Instant,
    first: Instant,
    every: Duration,
    stop: &AtomicBool,
) -> Seen {
    let mut seen = Seen::default();
    let mut due = first;
    while !stop.load(Ordering::SeqCst) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        seen.sent += 1;
        match connection.get("/") {
            Ok(_) => seen.latencies.push(due.elapsed()),
            Err(error) => {
                let at = (due - began).as_secs_f64();
                seen.lost.push(format!("at {at:.2} s: {error:#}"));
            }
        }
        due += every;
    }
    seen.renewed = connection.renewed;
    seen
}
