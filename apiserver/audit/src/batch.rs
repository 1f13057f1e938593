//! Gathers records, so that requests don't wait for their delivery.
//!
//! A batch goes when it is full or old enough, no more often than the throttle allows. When the buffer is full, records are lost and
//! counted; no request ever waits.

use crate::backend::{Lost, Trimmed};
use rutter_api::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How records are gathered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How many wait at most.
    pub buffer: usize,
    /// How many go together at most.
    pub batch: usize,
    /// How long one waits at most for others.
    pub wait: Duration,
    /// Batches a second, and how many at once after a pause; none for no bound.
    pub throttle: Option<(f32, u32)>,
}

impl Settings {
    /// Upstream's defaults for a file.
    pub fn log() -> Self {
        Self {
            buffer: 10_000,
            batch: 1,
            wait: Duration::from_secs(30),
            throttle: None,
        }
    }

    /// Upstream's defaults for a webhook.
    pub fn webhook() -> Self {
        Self {
            buffer: 10_000,
            batch: 400,
            wait: Duration::from_secs(30),
            throttle: Some((10.0, 15)),
        }
    }
}

enum Message {
    Record(Arc<Value>),
    Flush(oneshot::Sender<()>),
}

/// The way into the buffer.
pub(crate) struct Batcher {
    buffer: mpsc::Sender<Message>,
    lost: Arc<Lost>,
}

impl Batcher {
    pub(crate) fn start(inner: Arc<Trimmed>, settings: Settings, lost: Arc<Lost>) -> Self {
        let (buffer, inbox) = mpsc::channel(settings.buffer.max(1));
        tokio::spawn(run(inner, settings, inbox));
        Self { buffer, lost }
    }

    pub(crate) fn put(&self, record: Arc<Value>) {
        if self.buffer.try_send(Message::Record(record)).is_err() {
            self.lost.add(1);
            tracing::error!("the buffer of audit records is full; a record is lost");
        }
    }

    pub(crate) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.buffer.send(Message::Flush(done)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

async fn run(inner: Arc<Trimmed>, settings: Settings, mut inbox: mpsc::Receiver<Message>) {
    let mut throttle = settings
        .throttle
        .map(|(rate, burst)| Throttle::new(rate, burst, Instant::now()));
    let mut gathered: Vec<Arc<Value>> = Vec::new();
    let mut due = Instant::now();
    loop {
        let message = tokio::select! {
            message = inbox.recv() => message,
            () = tokio::time::sleep_until(due), if !gathered.is_empty() => {
                send(&inner, &mut throttle, &mut gathered).await;
                continue;
            }
        };
        match message {
            Some(Message::Record(record)) => {
                if gathered.is_empty() {
                    due = Instant::now() + settings.wait;
                }
                gathered.push(record);
                if gathered.len() >= settings.batch.max(1) {
                    send(&inner, &mut throttle, &mut gathered).await;
                }
            }
            Some(Message::Flush(done)) => {
                send(&inner, &mut None, &mut gathered).await;
                // Who asked may be gone.
                let _ = done.send(());
            }
            None => {
                send(&inner, &mut None, &mut gathered).await;
                return;
            }
        }
    }
}

async fn send(inner: &Trimmed, throttle: &mut Option<Throttle>, gathered: &mut Vec<Arc<Value>>) {
    if gathered.is_empty() {
        return;
    }
    if let Some(throttle) = throttle {
        tokio::time::sleep(throttle.take(Instant::now())).await;
    }
    inner.deliver(gathered).await;
    gathered.clear();
}

/// A bucket of tokens.
struct Throttle {
    rate: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Throttle {
    fn new(rate: f32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            rate: f64::from(rate).max(0.001),
            burst,
            tokens: burst,
            filled: now,
        }
    }

    /// Takes a token; how long until it is there.
    fn take(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + passed * self.rate).min(self.burst) - 1.0;
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Deliver, Mode};
    use async_trait::async_trait;
    use parking_lot::Mutex;
    use serde_json::json;

    #[derive(Default)]
    struct Seen(Mutex<Vec<usize>>);

    #[async_trait]
    impl Deliver for Seen {
        fn name(&self) -> &'static str {
            "test"
        }

        async fn deliver(&self, records: &[Arc<Value>]) -> Result<(), String> {
            self.0.lock().push(records.len());
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn batches_go_when_full_or_old_enough() {
        let seen = Arc::new(Seen::default());
        let settings = Settings {
            batch: 3,
            wait: Duration::from_secs(5),
            ..Settings::webhook()
        };
        let backend = Backend::new(seen.clone(), Mode::Batch, settings, None);
        for _ in 0..4 {
            assert!(backend.take(Arc::new(json!({}))).await);
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(*seen.0.lock(), [3]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(*seen.0.lock(), [3, 1]);
        backend.take(Arc::new(json!({}))).await;
        backend.flush().await;
        assert_eq!(*seen.0.lock(), [3, 1, 1]);
        for _ in 0..10_100 {
            backend.take(Arc::new(json!({}))).await;
        }
        assert_eq!(backend.lost(), 100, "nobody waits for a full buffer");
    }

    #[tokio::test(start_paused = true)]
    async fn the_throttle_lets_a_burst_through_and_then_so_many_a_second() {
        let now = Instant::now();
        let mut throttle = Throttle::new(10.0, 2, now);
        let waits: Vec<u128> = (0..4).map(|_| throttle.take(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100, 200]);
        assert_eq!(throttle.take(now + Duration::from_secs(60)).as_millis(), 0);
    }
}
