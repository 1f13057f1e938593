//! One question for many: where does the store's clock stand?
//!
//! Callers that arrive while a question is in flight may not use its answer (it may have been given before they asked); they share the next one's.

use crate::{Engine, Revision, StoreError};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

type Asker = oneshot::Sender<Result<Revision, StoreError>>;

/// A handle to the task that asks.
pub(crate) struct Question {
    askers: mpsc::UnboundedSender<Asker>,
}

impl Question {
    pub(crate) fn start(engine: Arc<dyn Engine>, stop: CancellationToken) -> Self {
        let (askers, inbox) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            stop.run_until_cancelled(answer_all(engine, inbox)).await;
        });
        Self { askers }
    }

    /// The store's revision at some moment after the call.
    pub(crate) async fn ask(&self) -> Result<Revision, StoreError> {
        let gone = || StoreError::Unavailable("the cache has stopped".into());
        let (asker, answer) = oneshot::channel();
        self.askers.send(asker).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

async fn answer_all(engine: Arc<dyn Engine>, mut inbox: mpsc::UnboundedReceiver<Asker>) {
    let mut askers = Vec::new();
    while inbox.recv_many(&mut askers, usize::MAX).await > 0 {
        let answer = engine.revision().await;
        for asker in askers.drain(..) {
            // An asker that gave up has dropped its end: nothing to tell it.
            let _ = asker.send(answer.clone());
        }
    }
}
