//! `MutatingAdmissionWebhook` and `ValidatingAdmissionWebhook`: others decide about writes, over HTTPS.
//!
//! Configurations are compiled when they change, so a write that no rule matches costs a walk over the rules and nothing else.
//! Mutating webhooks are asked one after the other, each seeing what the one before made; validating ones all at once.
//! Configurations of webhooks and policies are exempt, so that a broken webhook can always be taken out; a failure to ask one
//! names the configuration.

mod call;
mod hooks;
mod review;

#[cfg(test)]
mod tests;

use super::policy::Rights;
use crate::metrics::{Phase, WebhookMetrics};
use crate::{Attributes, LiveReader, Operation, Plugin};
use async_trait::async_trait;
use call::Failure;
use futures::future::join_all;
use hooks::{Hook, Hooks};
pub(super) use review::request;
use rutter_api::{ObjectReader, Resource, StatusError, Value, codec, patch};
use rutter_auth::Authorizer;
use rutter_cel::admission::Input;
use rutter_cel::conditions::Matched;
use rutter_outbound::Outbound;
use serde_json::json;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// What both plugins need.
struct Common {
    hooks: Hooks,
    reader: Arc<dyn ObjectReader>,
    live: Arc<dyn LiveReader>,
    authorizer: Arc<dyn Authorizer>,
    metrics: WebhookMetrics,
}

/// `MutatingAdmissionWebhook`
pub struct MutatingAdmissionWebhook(Common);

/// `ValidatingAdmissionWebhook`
pub struct ValidatingAdmissionWebhook(Common);

/// A write as a webhook or a policy sees it: in the version that its rule names.
pub(super) struct View<'v> {
    pub(super) object: Cow<'v, Value>,
    pub(super) old: Cow<'v, Value>,
}

impl MutatingAdmissionWebhook {
    /// Reads configurations and namespaces through `reader`, calls through `outbound`.
    pub fn new(
        reader: Arc<dyn ObjectReader>,
        live: Arc<dyn LiveReader>,
        authorizer: Arc<dyn Authorizer>,
        outbound: Outbound,
        metrics: WebhookMetrics,
    ) -> Self {
        Self(Common {
            hooks: Hooks::new(
                "MutatingWebhookConfiguration",
                "mutatingwebhookconfigurations",
                reader.clone(),
                outbound,
            ),
            reader,
            live,
            authorizer,
            metrics,
        })
    }
}

impl ValidatingAdmissionWebhook {
    /// Reads configurations and namespaces through `reader`, calls through `outbound`.
    pub fn new(
        reader: Arc<dyn ObjectReader>,
        live: Arc<dyn LiveReader>,
        authorizer: Arc<dyn Authorizer>,
        outbound: Outbound,
        metrics: WebhookMetrics,
    ) -> Self {
        Self(Common {
            hooks: Hooks::new(
                "ValidatingWebhookConfiguration",
                "validatingwebhookconfigurations",
                reader.clone(),
                outbound,
            ),
            reader,
            live,
            authorizer,
            metrics,
        })
    }
}

impl Common {
    /// The resource as which a webhook is asked about a write; none when it isn't.
    async fn matches(
        &self,
        hook: &Hook,
        write: &Attributes<'_>,
    ) -> Result<Option<Arc<Resource>>, StatusError> {
        let matched = hook.matcher.matches(write, &*self.reader, &*self.live).await?;
        match matched {
            Some(to) if !hook.conditions.is_empty() => {
                let holds = self.holds(hook, write, &to).await?;
                Ok(holds.then_some(to))
            }
            matched => Ok(matched),
        }
    }

    /// Whether a webhook's conditions hold for a write that its rules match.
    async fn holds(&self, hook: &Hook, write: &Attributes<'_>, to: &Resource) -> Result<bool, StatusError> {
        let seen = view(write, to).await?;
        let request = request(write, to);
        let input = Input {
            object: &seen.object,
            old_object: &seen.old,
            request: &request,
            namespace: &Value::Null,
            params: &Value::Null,
        };
        let values = input.values();
        let evaluate = |known: &Rights| match hook.conditions.evaluate(&values, known) {
            Matched::Undecided(check) => Err(check),
            decided => Ok(decided),
        };
        let mut rights = Rights::default();
        match rights.settle(&*self.authorizer, write.user, evaluate).await {
            Matched::Yes => Ok(true),
            Matched::Failed(why) if !hook.ignore => Err(write.forbidden(why)),
            Matched::No(_) | Matched::Failed(_) | Matched::Undecided(_) => Ok(false),
        }
    }

    /// What a failure makes of the write: nothing when the webhook's policy is to go on.
    fn settle(
        &self,
        phase: Phase,
        hook: &Hook,
        failure: Failure,
        write: &mut Attributes<'_>,
        round: u8,
        index: usize,
    ) -> Result<(), StatusError> {
        match failure {
            Failure::Calling { why, .. } if hook.ignore => {
                tracing::warn!(
                    webhook = hook.name,
                    error = why,
                    "a webhook cannot be asked; going on without it"
                );
                self.metrics.failed_open(phase, &hook.name);
                let key = match phase {
                    Phase::Mutating => "failed-open.mutation.webhook.admission.k8s.io/",
                    Phase::Validating => "failed-open.validating.webhook.admission.k8s.io/",
                };
                write.annotate(format!("{key}round_{round}_index_{index}"), hook.name.as_str());
                Ok(())
            }
            failure => {
                if let Failure::Calling { why, .. } = &failure {
                    let (kind, configuration) = &hook.configuration;
                    tracing::warn!(
                        webhook = hook.name,
                        kind,
                        configuration,
                        error = why,
                        "a webhook cannot be asked; refusing the write"
                    );
                }
                Err(failure.status(hook))
            }
        }
    }
}

/// A write in the version of `to`.
pub(super) async fn view<'v>(write: &'v Attributes<'_>, to: &Resource) -> Result<View<'v>, StatusError> {
    let convert = async |object: &'v Value| -> Result<Cow<'v, Value>, StatusError> {
        if object.is_null() || !write.is_own_kind() || to.group_version == write.resource.group_version {
            return Ok(Cow::Borrowed(object));
        }
        let converted = write.versions.convert(write.resource, to, object.clone()).await?;
        Ok(Cow::Owned(converted))
    };
    Ok(View {
        object: convert(&write.object).await?,
        old: convert(write.old).await?,
    })
}

#[async_trait]
impl Plugin for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn handles(&self, _: Operation, _: &Resource, _: &str) -> bool {
        true
    }

    async fn mutate(&self, write: &mut Attributes<'_>) -> Result<(), StatusError> {
        let compiled = self.0.hooks.current();
        if compiled.1.is_empty() || write.is_exempt() {
            return Ok(());
        }
        let round = write.reinvocation.round();
        write.reinvocation.begin(self.name(), &write.object);
        let mut result = Ok(());
        for (index, hook) in compiled.1.iter().enumerate() {
            result = self.ask(hook, index, round, write).await;
            if result.is_err() {
                break;
            }
        }
        write.reinvocation.end(self.name(), &write.object);
        result
    }
}

impl MutatingAdmissionWebhook {
    async fn ask(
        &self,
        hook: &Hook,
        index: usize,
        round: u8,
        write: &mut Attributes<'_>,
    ) -> Result<(), StatusError> {
        let Some(to) = self.0.matches(hook, write).await? else {
            return Ok(());
        };
        if round > 0 && !write.reinvocation.is_due(self.name(), &hook.uid) {
            return Ok(());
        }
        let started = Instant::now();
        let seen = view(write, &to).await?;
        let (answer, mut result) = call::ask(hook, true, write, &to, &seen.object, &seen.old).await;
        let mut patched = None;
        if result.is_ok()
            && let Some(patch) = &answer.patch
        {
            match apply(hook, write, &to, &seen.object, patch) {
                Ok(changed) => patched = changed,
                Err(failure) => result = Err(failure),
            }
        }
        call::observe(&self.0.metrics, Phase::Mutating, hook, write, started, &result);
        let mut changed = false;
        if let Some((object, patch)) = patched {
            changed = object != *seen.object;
            if changed {
                write.object = match to.group_version == write.resource.group_version || !write.is_own_kind()
                {
                    true => object,
                    false => write.versions.convert(&to, write.resource, object).await?,
                };
            }
            note_patch(write, hook, round, index, patch);
        }
        tell(write, hook, answer);
        let configuration = &hook.configuration.1;
        let note = json!({"configuration": configuration, "webhook": hook.name, "mutated": changed});
        let key = format!("mutation.webhook.admission.k8s.io/round_{round}_index_{index}");
        write.annotate(key, note.to_string());
        if changed {
            write.reinvocation.changed(self.name());
        }
        if hook.reinvoke {
            write.reinvocation.asked(self.name(), &hook.uid);
        }
        match result {
            Ok(()) => Ok(()),
            Err(failure) => self.0.settle(Phase::Mutating, hook, failure, write, round, index),
        }
    }
}

/// The object after a webhook's patch, in the form of its schema and with its defaults; none when the patch is empty.
fn apply(
    hook: &Hook,
    write: &Attributes<'_>,
    to: &Resource,
    object: &Value,
    patch: &[u8],
) -> Result<Option<(Value, Value)>, Failure> {
    let (patch, _) = codec::json::parse(patch).map_err(|error| Failure::Calling {
        why: format!("received undecodable patch in webhook response: {error}"),
        code: 503,
    })?;
    if patch.as_array().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    let own = |error: &dyn std::fmt::Display| Failure::Own(StatusError::internal(error));
    if object.is_null() {
        let text = format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        );
        return Err(own(&text));
    }
    let changed = patch::json_patch(object, &patch).map_err(|error| own(&error))?;
    let object = write.reshape(to, changed).map_err(|error| own(&error))?;
    Ok(Some((object, patch)))
}

fn note_patch(write: &mut Attributes<'_>, hook: &Hook, round: u8, index: usize, patch: Value) {
    let note = json!({
        "configuration": hook.configuration.1, "webhook": hook.name, "patch": patch, "patchType": "JSONPatch",
    });
    let key = format!("patch.webhook.admission.k8s.io/round_{round}_index_{index}");
    write.annotate(key, note.to_string());
}

/// Passes on what a webhook says beside its decision.
fn tell(write: &mut Attributes<'_>, hook: &Hook, answer: review::Answer) {
    for (key, value) in answer.annotations {
        write.annotate(format!("{}/{key}", hook.name), value);
    }
    write.warnings.extend(answer.warnings);
}

#[async_trait]
impl Plugin for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, _: Operation, _: &Resource, _: &str) -> bool {
        true
    }

    async fn validate(&self, write: &mut Attributes<'_>) -> Result<(), StatusError> {
        let compiled = self.0.hooks.current();
        if compiled.1.is_empty() || write.is_exempt() {
            return Ok(());
        }
        let mut relevant = Vec::new();
        for hook in &compiled.1 {
            if let Some(to) = self.0.matches(hook, write).await? {
                relevant.push((hook, to));
            }
        }
        let asked = {
            let write = &*write;
            let questions = relevant.iter().map(|(hook, to)| async move {
                let started = Instant::now();
                let seen = view(write, to).await?;
                let (answer, result) = call::ask(hook, false, write, to, &seen.object, &seen.old).await;
                call::observe(&self.0.metrics, Phase::Validating, hook, write, started, &result);
                Ok::<_, StatusError>((answer, result))
            });
            join_all(questions).await
        };
        let mut first = Ok(());
        for (index, ((hook, _), asked)) in relevant.iter().zip(asked).enumerate() {
            let decided = match asked {
                Err(error) => Err(error),
                Ok((answer, result)) => {
                    tell(write, hook, answer);
                    match result {
                        Ok(()) => Ok(()),
                        Err(failure) => self.0.settle(Phase::Validating, hook, failure, write, 0, index),
                    }
                }
            };
            if first.is_ok() {
                first = decided;
            }
        }
        first
    }
}
