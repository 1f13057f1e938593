//! Where records go: what a backend is asked for, what is cut from records that are too large, and how many are lost.

use crate::batch::Batcher;
use async_trait::async_trait;
use rutter_api::Value;
use rutter_api::object::ObjectExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Carries records away.
#[async_trait]
pub trait Deliver: Send + Sync + 'static {
    /// Its name, for the log.
    fn name(&self) -> &'static str;

    /// Delivers records together; why they are lost when they are.
    async fn deliver(&self, records: &[Arc<Value>]) -> Result<(), String>;
}

/// How a backend is fed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Each request waits until its records are delivered.
    #[default]
    Blocking,
    /// And is refused when the first of them can't be.
    BlockingStrict,
    /// Records are gathered; requests don't wait.
    Batch,
}

/// Bounds on the size of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// The largest record, in bytes: a larger one loses its objects, or is lost.
    pub event: usize,
    /// The most bytes delivered together.
    pub batch: usize,
}

/// A backend with the way it is fed.
pub struct Backend {
    way: Way,
    strict: bool,
    trimmed: Arc<Trimmed>,
}

enum Way {
    Direct,
    Batched(Batcher),
}

/// Delivers what isn't too large.
pub(crate) struct Trimmed {
    inner: Arc<dyn Deliver>,
    truncate: Option<Truncate>,
    lost: Lost,
}

/// How many records were lost, and who is told.
struct Lost {
    count: AtomicU64,
    tell: Tell,
}

/// Told how many records were lost just now.
pub type Tell = Box<dyn Fn(u64) + Send + Sync>;

impl Lost {
    fn add(&self, records: usize) {
        self.count.fetch_add(records as u64, Ordering::Relaxed);
        (self.tell)(records as u64);
    }
}

impl Backend {
    /// A backend. `batch` is used in that mode alone; must be called within a runtime then. `tell` is told of every loss.
    pub fn new(
        inner: Arc<dyn Deliver>,
        mode: Mode,
        batch: crate::batch::Settings,
        truncate: Option<Truncate>,
        tell: Tell,
    ) -> Self {
        let count = AtomicU64::new(0);
        let trimmed = Arc::new(Trimmed {
            inner,
            truncate,
            lost: Lost { count, tell },
        });
        let way = match mode {
            Mode::Batch => Way::Batched(Batcher::start(trimmed.clone(), batch)),
            Mode::Blocking | Mode::BlockingStrict => Way::Direct,
        };
        Self {
            way,
            strict: mode == Mode::BlockingStrict,
            trimmed,
        }
    }

    /// Takes a record. False when it is lost and the mode is the strict one.
    pub async fn take(&self, record: Arc<Value>) -> bool {
        match &self.way {
            Way::Direct => self.trimmed.deliver(std::slice::from_ref(&record)).await || !self.strict,
            Way::Batched(batcher) => {
                batcher.put(record);
                true
            }
        }
    }

    /// How many records were lost.
    pub fn lost(&self) -> u64 {
        self.trimmed.lost.count.load(Ordering::Relaxed)
    }

    /// Delivers what was gathered.
    pub async fn flush(&self) {
        if let Way::Batched(batcher) = &self.way {
            batcher.flush().await;
        }
    }
}

impl Trimmed {
    /// Records are lost before they got here.
    pub(crate) fn lose(&self, records: usize) {
        self.lost.add(records);
    }

    /// Delivers records, cut to size and in as many deliveries as that takes. Whether none was lost.
    pub(crate) async fn deliver(&self, records: &[Arc<Value>]) -> bool {
        let Some(truncate) = self.truncate else {
            return self.send(records).await;
        };
        let (batches, too_large) = split(records, truncate);
        if too_large > 0 {
            self.lost.add(too_large);
            tracing::warn!(
                backend = self.inner.name(),
                too_large,
                "audit records are too large and lost"
            );
        }
        let mut all = too_large == 0;
        for batch in batches {
            all &= self.send(&batch).await;
        }
        all
    }

    async fn send(&self, records: &[Arc<Value>]) -> bool {
        match self.inner.deliver(records).await {
            Ok(()) => true,
            Err(error) => {
                self.lost.add(records.len());
                tracing::error!(
                    backend = self.inner.name(),
                    records = records.len(),
                    error,
                    "audit records are lost"
                );
                false
            }
        }
    }
}

/// Records cut to size, in batches of a size, and how many can't be.
fn split(records: &[Arc<Value>], truncate: Truncate) -> (Vec<Vec<Arc<Value>>>, usize) {
    let mut batches: Vec<Vec<Arc<Value>>> = Vec::new();
    let (mut filled, mut too_large) = (0, 0);
    for record in records {
        let mut record = record.clone();
        let mut size = record.to_string().len();
        if size > truncate.event {
            record = Arc::new(without_objects(&record));
            size = record.to_string().len();
        }
        if size > truncate.event {
            too_large += 1;
            continue;
        }
        match batches.last_mut() {
            Some(batch) if filled + size <= truncate.batch => batch.push(record),
            _ => {
                filled = 0;
                batches.push(vec![record]);
            }
        }
        filled += size;
    }
    (batches, too_large)
}

fn without_objects(record: &Value) -> Value {
    let mut record = record.clone();
    record.take_at("requestObject");
    record.take_at("responseObject");
    let mut annotations = record.map_at("annotations").cloned().unwrap_or_default();
    annotations.insert("audit.k8s.io/truncated".to_owned(), "true".into());
    record.set("annotations", annotations);
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use serde_json::json;

    #[test]
    fn records_are_cut_to_size() {
        let small = Arc::new(json!({"a": 1}));
        let fat = Arc::new(json!({"a": 2, "responseObject": "x".repeat(500)}));
        let huge = Arc::new(json!({"a": "x".repeat(500)}));
        let truncate = Truncate {
            event: 100,
            batch: 100,
        };
        let (batches, lost) = split(&[small.clone(), fat, huge, small.clone()], truncate);
        assert_eq!(lost, 1);
        let cut = json!({"a": 2, "annotations": {"audit.k8s.io/truncated": "true"}});
        assert_eq!(batches, [vec![small.clone(), Arc::new(cut), small]]);
    }

    struct Failing(Mutex<bool>);

    #[async_trait]
    impl Deliver for Failing {
        fn name(&self) -> &'static str {
            "test"
        }

        async fn deliver(&self, _: &[Arc<Value>]) -> Result<(), String> {
            if *self.0.lock() {
                Err("down".to_owned())
            } else {
                Ok(())
            }
        }
    }

    #[tokio::test]
    async fn only_the_strict_mode_tells_of_a_loss() {
        let down = Arc::new(Failing(Mutex::new(true)));
        let settings = crate::batch::Settings::log();
        for (mode, want) in [(Mode::Blocking, true), (Mode::BlockingStrict, false)] {
            let backend = Backend::new(down.clone(), mode, settings, None, Box::new(|_| {}));
            assert_eq!(backend.take(Arc::new(json!({}))).await, want);
            assert_eq!(backend.lost(), 1);
        }
    }
}
