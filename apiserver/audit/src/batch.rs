//! Gathers records, so that requests don't wait for their delivery.
//!
//! A batch goes when it is full or old enough, no more often than the throttle allows. When the buffer is full, records are lost and
//! counted; no request ever waits.

use crate::backend::Trimmed;
use rutter_api::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
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
    /// How many batches are on their way at once, at least 1.
    pub at_once: u32,
}

impl Settings {
    /// Upstream's defaults for a file.
    pub fn log() -> Self {
        Self {
            buffer: 10_000,
            batch: 1,
            wait: Duration::from_secs(30),
            throttle: None,
            at_once: 1,
        }
    }

    /// Upstream's defaults for a webhook.
    pub fn webhook() -> Self {
        Self {
            buffer: 10_000,
            batch: 400,
            wait: Duration::from_secs(30),
            throttle: Some((10.0, 15)),
            at_once: 64,
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
    inner: Arc<Trimmed>,
}

impl Batcher {
    pub(crate) fn start(inner: Arc<Trimmed>, settings: Settings) -> Self {
        let (buffer, inbox) = mpsc::channel(settings.buffer.max(1));
        tokio::spawn(run(Sender::new(inner.clone(), settings), settings, inbox));
        Self { buffer, inner }
    }

    pub(crate) fn put(&self, record: Arc<Value>) {
        if self.buffer.try_send(Message::Record(record)).is_err() {
            self.inner.lose(1);
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

async fn run(mut sender: Sender, settings: Settings, mut inbox: mpsc::Receiver<Message>) {
    let mut gathered: Vec<Arc<Value>> = Vec::new();
    let mut due = Instant::now();
    loop {
        let message = tokio::select! {
            message = inbox.recv() => message,
            () = tokio::time::sleep_until(due), if !gathered.is_empty() => {
                sender.wait().await;
                sender.send(&mut gathered).await;
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
                    sender.wait().await;
                    sender.send(&mut gathered).await;
                }
            }
            Some(Message::Flush(done)) => {
                sender.send(&mut gathered).await;
                sender.finish().await;
                // Who asked may be gone.
                let _ = done.send(());
            }
            None => {
                sender.send(&mut gathered).await;
                return;
            }
        }
    }
}

/// Sends batches, several at once where that is allowed.
struct Sender {
    inner: Arc<Trimmed>,
    throttle: Option<Throttle>,
    places: Arc<Semaphore>,
    at_once: u32,
}

impl Sender {
    fn new(inner: Arc<Trimmed>, settings: Settings) -> Self {
        let at_once = settings.at_once.max(1);
        Self {
            inner,
            throttle: settings
                .throttle
                .map(|(rate, burst)| Throttle::new(rate, burst, Instant::now())),
            places: Arc::new(Semaphore::new(at_once as usize)),
            at_once,
        }
    }

    /// Waits until the throttle allows a batch.
    async fn wait(&mut self) {
        if let Some(throttle) = &mut self.throttle {
            tokio::time::sleep(throttle.take(Instant::now())).await;
        }
    }

    /// Sends what is gathered as soon as there is a place.
    async fn send(&self, gathered: &mut Vec<Arc<Value>>) {
        let Ok(place) = self.places.clone().acquire_owned().await else {
            return;
        };
        if gathered.is_empty() {
            return;
        }
        let (inner, batch) = (self.inner.clone(), std::mem::take(gathered));
        if self.at_once == 1 {
            inner.deliver(&batch).await;
            return;
        }
        tokio::spawn(async move {
            inner.deliver(&batch).await;
            drop(place);
        });
    }

    /// Waits for all that is on its way.
    async fn finish(&self) {
        // The semaphore is never closed.
        let _ = self.places.acquire_many(self.at_once).await;
    }
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
        let backend = Backend::new(seen.clone(), Mode::Batch, settings, None, Box::new(|_| {}));
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
