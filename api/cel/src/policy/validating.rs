//! ValidatingAdmissionPolicy.

use super::{Compiled, Composer, NoValue, SPENT, Session, has_params, list, text, types};
use crate::admission::{Extras, Input};
use crate::conditions::{Conditions, Matched};
use crate::eval::{Authorizations, Program};
use crate::value::{AuthorizationCheck, Value};
use serde_json::Value as Json;
use std::sync::Arc;

/// The longest message that an expression may make, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;
/// The longest value of an audit annotation, in bytes.
const MAX_ANNOTATION: usize = 10 * 1024;

/// A policy, compiled from its spec.
#[derive(Debug)]
pub struct ValidatingPolicy {
    conditions: Conditions,
    variables: Vec<(Box<str>, Result<Program, String>)>,
    validations: Vec<Validation>,
    annotations: Vec<(Box<str>, Compiled)>,
    ignores_failures: bool,
}

#[derive(Debug)]
struct Validation {
    check: Compiled,
    message_expression: Option<Compiled>,
    message: Box<str>,
    reason: Option<Box<str>>,
}

/// One validation that doesn't hold, or couldn't be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Which, in the policy's order.
    pub index: usize,
    /// Why, for people.
    pub message: String,
    /// The reason of the answer; empty for the usual one.
    pub reason: String,
}

/// What a policy adds to the audit event.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditAnnotation {
    /// Its key, below the policy's name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// What a policy says about an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// What doesn't hold.
    pub denied: Vec<Decision>,
    /// What is noted for auditors.
    pub annotations: Vec<AuditAnnotation>,
    /// Annotations that couldn't be evaluated: refused whatever the binding's actions are.
    pub failed_annotations: Vec<String>,
}

impl ValidatingPolicy {
    /// Compiles a policy's spec. What can't be compiled fails when it is evaluated.
    pub fn compile(spec: &Json) -> Self {
        let params = has_params(spec);
        let mut composer = Composer::new(params, false);
        composer.add_all(spec);
        let (env, message_env) = (composer.env(), composer.message_env());
        let validations = list(spec, "validations").iter().map(|validation| {
            let expression = text(validation, "messageExpression");
            Validation {
                check: Compiled::new(&env, text(validation, "expression"), &types::validation()),
                message_expression: (!expression.trim().is_empty())
                    .then(|| Compiled::new(&message_env, expression, &types::message())),
                message: text(validation, "message").trim().into(),
                reason: validation.get("reason").and_then(Json::as_str).map(Into::into),
            }
        });
        let annotations = list(spec, "auditAnnotations").iter().map(|annotation| {
            let expression = text(annotation, "valueExpression");
            let compiled = Compiled::new(&env, expression, &types::audit_annotation());
            (text(annotation, "key").into(), compiled)
        });
        Self {
            validations: validations.collect(),
            annotations: annotations.collect(),
            conditions: Conditions::admission(list(spec, "matchConditions"), params),
            variables: composer.programs,
            ignores_failures: text(spec, "failurePolicy") == "Ignore",
        }
    }

    /// What the environment of its expressions may refer to.
    pub fn extras(spec: &Json) -> Extras {
        Extras {
            params: has_params(spec),
            authorizer: true,
        }
    }

    /// What it says about an object; or the right that must be found out first.
    pub fn judge(
        &self,
        input: &Input<'_>,
        authorizations: &dyn Authorizations,
    ) -> Result<Judged, Arc<AuthorizationCheck>> {
        let mut session = Session::new(input, &self.variables, authorizations);
        if !self.conditions.is_empty() {
            match self.conditions.evaluate(&session.values, authorizations) {
                Matched::Yes => {}
                Matched::No(_) => return Ok(Judged::default()),
                Matched::Failed(why) => return Ok(self.failure(why)),
                Matched::Undecided(check) => return Err(check),
            }
        }
        let mut judged = Judged::default();
        for (index, validation) in self.validations.iter().enumerate() {
            match session.evaluate(&validation.check) {
                Ok(Value::Bool(true)) => {}
                Ok(_) => {
                    let message = match validation.text(&mut session) {
                        Ok(message) => message,
                        Err(NoValue::Undecided(check)) => return Err(check),
                        Err(_) => return Ok(self.failure(format!("failed messageExpression: {SPENT}"))),
                    };
                    judged.denied.push(Decision {
                        index,
                        message,
                        reason: validation.reason.as_deref().unwrap_or("Invalid").to_owned(),
                    });
                }
                Err(NoValue::Undecided(check)) => return Err(check),
                Err(NoValue::Spent) => return Ok(self.failure(SPENT.to_owned())),
                Err(NoValue::Failed(_)) if self.ignores_failures => {}
                Err(NoValue::Failed(message)) => judged.denied.push(Decision {
                    index,
                    message,
                    reason: String::new(),
                }),
            }
        }
        for (key, annotation) in &self.annotations {
            match session.evaluate(annotation) {
                Ok(Value::String(value)) => {
                    let value = value.trim();
                    if !value.is_empty() {
                        judged.annotations.push(AuditAnnotation {
                            key: key.to_string(),
                            value: cut(value, MAX_ANNOTATION).to_owned(),
                        });
                    }
                }
                Ok(_) => {}
                Err(NoValue::Undecided(check)) => return Err(check),
                Err(_) if self.ignores_failures => {}
                Err(NoValue::Spent) => judged.failed_annotations.push(SPENT.to_owned()),
                Err(NoValue::Failed(why)) => judged.failed_annotations.push(why),
            }
        }
        Ok(judged)
    }

    /// The whole policy couldn't be evaluated.
    fn failure(&self, message: String) -> Judged {
        let decision = Decision {
            index: 0,
            message,
            reason: String::new(),
        };
        Judged {
            denied: if self.ignores_failures {
                Vec::new()
            } else {
                vec![decision]
            },
            ..Judged::default()
        }
    }
}

impl Validation {
    /// Why it doesn't hold, for people.
    fn text(&self, session: &mut Session<'_, '_>) -> Result<String, NoValue> {
        if let Some(expression) = &self.message_expression {
            match session.evaluate(expression) {
                Ok(Value::String(made)) => {
                    let made = made.trim();
                    if !made.is_empty() && made.len() <= MAX_MESSAGE && !made.contains('\n') {
                        return Ok(made.to_owned());
                    }
                }
                Err(stop @ (NoValue::Spent | NoValue::Undecided(_))) => return Err(stop),
                Ok(_) | Err(NoValue::Failed(_)) => {}
            }
        }
        Ok(match self.message.is_empty() {
            true => format!("failed expression: {}", self.check.expression.trim()),
            false => self.message.to_string(),
        })
    }
}

/// The text up to `most` bytes.
fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
