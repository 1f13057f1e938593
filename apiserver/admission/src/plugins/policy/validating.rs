//! `ValidatingAdmissionPolicy`: refuses, warns of or notes what doesn't hold.

use super::compiled::{Binding, Policies, Policy};
use super::{Common, Rights, cause, input, may_be_asked, question};
use crate::plugins::webhook::view;
use crate::{Attributes, LiveReader, Operation, Plugin};
use async_trait::async_trait;
use rutter_api::{ObjectReader, Reason, Resource, StatusError, Value};
use rutter_auth::Authorizer;
use rutter_cel::policy::{Judged, ValidatingPolicy};
use serde_json::json;
use std::sync::Arc;

/// The plugin.
pub struct ValidatingAdmissionPolicy {
    common: Common,
    policies: Policies<ValidatingPolicy>,
}

impl ValidatingAdmissionPolicy {
    /// Reads policies, bindings, parameters and namespaces through `reader`.
    pub fn new(
        reader: Arc<dyn ObjectReader>,
        live: Arc<dyn LiveReader>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Self {
        Self {
            common: Common {
                reader,
                live,
                authorizer,
            },
            policies: Policies::new(
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
                ValidatingPolicy::compile,
            ),
        }
    }
}

/// The first refusal of a write, and what the audit log is told.
#[derive(Default)]
struct Outcome {
    refusal: Option<StatusError>,
    failures: Vec<Value>,
    /// Annotations by key, each with the values that the bindings and parameters of its policy gave.
    annotations: Vec<(String, Vec<String>)>,
}

impl Outcome {
    fn annotate(&mut self, key: String, value: String) {
        let at = self.annotations.iter().position(|(known, _)| *known == key);
        let at = at.unwrap_or_else(|| {
            self.annotations.push((key, Vec::new()));
            self.annotations.len() - 1
        });
        if !self.annotations[at].1.contains(&value) {
            self.annotations[at].1.push(value);
        }
    }
}

/// A refusal in a policy's name. An empty reason is `Invalid`.
fn refused(write: &Attributes<'_>, message: String, reason: &str) -> StatusError {
    let mut status = write.forbidden(&message);
    status.reason = match reason {
        "Forbidden" => Reason::Forbidden,
        "Unauthorized" => Reason::Unauthorized,
        "RequestEntityTooLarge" => Reason::RequestEntityTooLarge,
        _ => Reason::Invalid,
    };
    status.code = status.reason.code();
    status.causes.push(cause(message));
    status
}

#[async_trait]
impl Plugin for ValidatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, _: Operation, resource: &Resource, _: &str) -> bool {
        may_be_asked(resource)
    }

    async fn validate(&self, write: &mut Attributes<'_>) -> Result<(), StatusError> {
        let compiled = self.policies.current(&*self.common.reader);
        if compiled.2.is_empty() || write.is_exempt() {
            return Ok(());
        }
        let mut outcome = Outcome::default();
        let mut rights = Rights::default();
        for policy in &compiled.2 {
            match self.common.bound(policy, write).await {
                Ok(None) => {}
                Ok(Some((to, bindings))) => {
                    for binding in bindings {
                        self.bound(policy, binding, &to, write, &mut rights, &mut outcome)
                            .await?;
                    }
                }
                Err(_) if policy.ignore => {}
                Err(error) => {
                    let text = format!("failed to configure policy: {}", error.message);
                    let message = format!(
                        "ValidatingAdmissionPolicy '{}' denied request: {text}",
                        policy.name
                    );
                    outcome.refusal.get_or_insert_with(|| refused(write, message, ""));
                }
            }
        }
        if !outcome.failures.is_empty() {
            let key = "validation.policy.admission.k8s.io/validation_failure";
            write.annotate(key, Value::Array(outcome.failures).to_string());
        }
        for (key, values) in outcome.annotations {
            write.annotate(key, values.join(", "));
        }
        outcome.refusal.map_or(Ok(()), Err)
    }
}

impl ValidatingAdmissionPolicy {
    /// Evaluates a policy for one binding, with each of its parameters.
    async fn bound(
        &self,
        policy: &Policy<ValidatingPolicy>,
        binding: &Binding,
        to: &Resource,
        write: &mut Attributes<'_>,
        rights: &mut Rights,
        outcome: &mut Outcome,
    ) -> Result<(), StatusError> {
        let parameters = match policy.parameters(binding, write, &*self.common.reader).await {
            Ok(parameters) => parameters,
            Err(_) if policy.ignore => return Ok(()),
            Err(why) => {
                let judged = failed(format!("failed to configure binding: {why}"));
                note(policy, binding, judged, write, outcome);
                return Ok(());
            }
        };
        let namespace = self.common.namespace(write).await?;
        let request = question(write, to);
        for params in parameters {
            let judged = {
                let seen = view(write, to).await?;
                let input = input(&seen, &request, &namespace, &params);
                let evaluate = |known: &Rights| policy.program.judge(&input, known);
                rights
                    .settle(&*self.common.authorizer, write.user, evaluate)
                    .await
            };
            note(policy, binding, judged, write, outcome);
        }
        Ok(())
    }
}

fn failed(message: String) -> Judged {
    let decision = rutter_cel::policy::Decision {
        index: 0,
        message,
        reason: String::new(),
    };
    Judged {
        denied: vec![decision],
        ..Judged::default()
    }
}

/// Does with a judgement what the binding's actions say.
fn note(
    policy: &Policy<ValidatingPolicy>,
    binding: &Binding,
    judged: Judged,
    write: &mut Attributes<'_>,
    outcome: &mut Outcome,
) {
    let (name, bound) = (&policy.name, &binding.name);
    let denies = |text: &str| {
        format!("ValidatingAdmissionPolicy '{name}' with binding '{bound}' denied request: {text}")
    };
    for denied in &judged.denied {
        let text = &denied.message;
        if binding.has("Deny") {
            let refusal = || refused(write, denies(text), &denied.reason);
            outcome.refusal.get_or_insert_with(refusal);
        }
        if binding.has("Audit") {
            outcome.failures.push(json!({
                "message": text, "policy": name, "binding": bound,
                "expressionIndex": denied.index, "validationActions": binding.actions,
            }));
        }
        if binding.has("Warn") {
            let text = format!(
                "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{bound}': {text}"
            );
            write.warnings.push(text);
        }
    }
    for text in &judged.failed_annotations {
        outcome
            .refusal
            .get_or_insert_with(|| refused(write, denies(text), ""));
    }
    for annotation in judged.annotations {
        outcome.annotate(format!("{name}/{}", annotation.key), annotation.value);
    }
}
