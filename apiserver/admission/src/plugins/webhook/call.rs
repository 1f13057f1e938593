//! One webhook asked about one write.

use super::hooks::{Hook, SideEffects};
use super::review::{self, Answer};
use crate::Attributes;
use crate::metrics::{Outcome, Phase, WebhookMetrics};
use rutter_api::{Reason, Resource, StatusError, Value};
use std::time::Instant;

/// The longest answer that is read.
const ANSWER: usize = 16 << 20;

/// Why a webhook did not let a write pass.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be asked, or gave no sensible answer: its failure policy decides.
    Calling { why: String, code: u16 },
    /// It refused.
    Refused(StatusError),
    /// Something here prevents the question or the use of its answer.
    Own(StatusError),
}

impl Failure {
    fn calling(why: impl Into<String>, code: u16) -> Self {
        Self::Calling {
            why: why.into(),
            code,
        }
    }

    /// The code that metrics show.
    fn code(&self) -> u16 {
        match self {
            Self::Calling { code, .. } => *code,
            Self::Refused(status) => status.code,
            Self::Own(_) => 0,
        }
    }

    /// What the client is told. It names the configuration, which is what to mend or to delete.
    pub(super) fn status(self, hook: &Hook) -> StatusError {
        match self {
            Self::Refused(status) | Self::Own(status) => status,
            Self::Calling { why, .. } => {
                let (kind, name) = &hook.configuration;
                let text = format!(
                    "failed calling webhook {:?}: {why} (configured by {kind} {name:?})",
                    hook.name
                );
                StatusError::internal(text)
            }
        }
    }
}

/// Asks a webhook about a write, looked at as `as_resource` with these objects. The answer allows.
pub(super) async fn ask(
    hook: &Hook,
    mutating: bool,
    write: &Attributes<'_>,
    as_resource: &Resource,
    object: &Value,
    old: &Value,
) -> (Answer, Result<(), Failure>) {
    match asked(hook, mutating, write, as_resource, object, old).await {
        Ok(answer) if answer.allowed => (answer, Ok(())),
        Ok(answer) => {
            let refusal = review::refusal(&hook.name, &answer.result);
            (answer, Err(Failure::Refused(refusal)))
        }
        Err(failure) => (Answer::default(), Err(failure)),
    }
}

async fn asked(
    hook: &Hook,
    mutating: bool,
    write: &Attributes<'_>,
    as_resource: &Resource,
    object: &Value,
    old: &Value,
) -> Result<Answer, Failure> {
    if write.dry_run && hook.side_effects == SideEffects::Some {
        let text = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Own(StatusError::bad_request(text)));
    }
    let version = hook.version.ok_or_else(|| {
        let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        Failure::calling(why, 400)
    })?;
    let caller = hook
        .caller
        .as_ref()
        .map_err(|why| Failure::calling(format!("could not get REST client: {why}"), 500))?;
    let uid = uuid::Uuid::new_v4().to_string();
    let question = review::question(version, &uid, write, as_resource, object, old);
    let query = format!("timeout={}s", hook.timeout.as_secs());
    let body = caller
        .post_json(&query, question, hook.timeout, ANSWER)
        .await
        .map_err(|error| {
            let code = match error.failure {
                rutter_outbound::Failure::Status(code, _) | rutter_outbound::Failure::Told(code, _) => code,
                _ => Reason::ServiceUnavailable.code(),
            };
            Failure::calling(format!("failed to call webhook: {error}"), code)
        })?;
    review::answer(version, &uid, mutating, &body).map_err(|why| {
        let code = Reason::ServiceUnavailable.code();
        Failure::calling(format!("received invalid webhook response: {why}"), code)
    })
}

/// Measures a question: how long it took and what came of it.
pub(super) fn observe(
    metrics: &WebhookMetrics,
    phase: Phase,
    hook: &Hook,
    write: &Attributes<'_>,
    started: Instant,
    result: &Result<(), Failure>,
) {
    let outcome = match result {
        Ok(()) => Outcome::Allowed,
        Err(Failure::Calling { .. }) if hook.ignore => Outcome::FailedOpen,
        Err(Failure::Calling { .. }) => Outcome::Failed,
        Err(Failure::Refused(_)) => Outcome::Refused,
        Err(Failure::Own(_)) => Outcome::OwnError,
    };
    let code = result.as_ref().err().map_or(200, Failure::code);
    metrics.asked(
        phase,
        &hook.name,
        write.operation,
        outcome,
        code,
        started.elapsed(),
    );
}
