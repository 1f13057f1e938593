//! Questions that are put to a webhook: sent again a few times when that may help.

use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;

/// How often a question is sent, at most.
const TRIES: u32 = 5;
/// How long is waited before it is sent for the second time; half as long again before each further time.
const PAUSE: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct RemoteError {
    /// Why.
    pub text: String,
    /// Whether asking again may help.
    pub again: bool,
}

/// The other end of a webhook.
#[async_trait]
pub trait Remote: Send + Sync {
    /// Sends one question, as JSON, and gives the answer's JSON. Takes at most `timeout`.
    async fn ask(&self, question: Bytes, timeout: Duration) -> Result<Bytes, RemoteError>;
}

/// Asks until there is an answer, asking again doesn't help, or it was done often enough.
///
/// # Errors
/// The last failure.
pub async fn persist(remote: &dyn Remote, question: Bytes, timeout: Duration) -> Result<Bytes, RemoteError> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match remote.ask(question.clone(), timeout).await {
            Err(error) if error.again => tracing::debug!(%error, "a webhook is asked again"),
            answered => return answered,
        }
        tokio::time::sleep(pause).await;
        pause = pause * 3 / 2;
    }
    remote.ask(question, timeout).await
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use parking_lot::Mutex;
    use rutter_api::Value;
    use std::collections::VecDeque;

    /// A webhook that answers what it was told to, one after the other, and keeps the questions.
    #[derive(Default)]
    pub(crate) struct Script {
        pub(crate) answers: Mutex<VecDeque<Result<Value, RemoteError>>>,
        pub(crate) asked: Mutex<Vec<Value>>,
    }

    impl Script {
        pub(crate) fn of(answers: impl IntoIterator<Item = Result<Value, RemoteError>>) -> Self {
            Self {
                answers: Mutex::new(answers.into_iter().collect()),
                asked: Mutex::default(),
            }
        }
    }

    pub(crate) fn failure(again: bool) -> Result<Value, RemoteError> {
        Err(RemoteError {
            text: "webhook is away".to_owned(),
            again,
        })
    }

    #[async_trait]
    impl Remote for Script {
        async fn ask(&self, question: Bytes, _timeout: Duration) -> Result<Bytes, RemoteError> {
            self.asked.lock().push(serde_json::from_slice(&question).unwrap());
            let answer = self
                .answers
                .lock()
                .pop_front()
                .expect("an answer for every question");
            answer.map(|value| value.to_string().into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Script, failure};
    use super::*;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn a_question_is_put_again_where_that_may_help() {
        let good = || Ok(json!({"a": 1}));
        for (answers, asked, answered) in [
            (vec![good()], 1, true),
            (vec![failure(true), failure(true), good()], 3, true),
            (vec![failure(false)], 1, false),
            ((0..5).map(|_| failure(true)).collect(), 5, false),
        ] {
            let script = Script::of(answers);
            let got = persist(&script, Bytes::from_static(b"{}"), Duration::from_secs(1)).await;
            assert_eq!((script.asked.lock().len(), got.is_ok()), (asked, answered));
        }
    }
}
