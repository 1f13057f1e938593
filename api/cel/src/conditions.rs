//! Conditions under which a webhook, a policy or an authorizer is asked at all.
//!
//! Any condition that is false means: not asked. An error means so only when nothing is false; what then happens is for the caller's
//! failure policy to say.

use crate::admission::{self, CONDITIONS_BUDGET, Extras};
use crate::env::Env;
use crate::error::EvalError;
use crate::eval::{Authorizations, PER_CALL_LIMIT, Program};
use crate::types::Type;
use crate::value::{AuthorizationCheck, Value};
use rutter_api::field::Path;
use rutter_api::{ErrorList, FieldError};
use serde_json::Value as Json;
use std::sync::Arc;

/// Conditions, compiled.
#[derive(Debug, Default)]
pub struct Conditions {
    list: Vec<Condition>,
}

#[derive(Debug)]
struct Condition {
    name: Box<str>,
    expression: Box<str>,
    program: Result<Program, String>,
}

/// What conditions come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Matched {
    /// All hold.
    Yes,
    /// The one of this name does not.
    No(String),
    /// None is false, but something went wrong.
    Failed(String),
    /// Whether somebody may do something must be found out first; then ask again.
    Undecided(Arc<AuthorizationCheck>),
}

impl Conditions {
    /// Compiles `matchConditions` (a list of objects with `name` and `expression`) for admission. A condition that can't be
    /// compiled fails whenever it is evaluated.
    pub fn admission(list: &[Json], params: bool) -> Self {
        if list.is_empty() {
            return Self::default();
        }
        let env = admission::env(Extras {
            params,
            authorizer: true,
        });
        Self::compile(&env, list)
    }

    /// Compiles conditions for an environment.
    pub fn compile(env: &Env, list: &[Json]) -> Self {
        let text = |condition: &Json, field: &str| {
            condition
                .get(field)
                .and_then(Json::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let list = list.iter().map(|condition| {
            let expression = text(condition, "expression");
            let compiled = env.compile_as(expression.trim(), &[Type::Bool]);
            Condition {
                name: text(condition, "name").into(),
                expression: expression.into(),
                program: compiled.map(|checked| checked.program()),
            }
        });
        Self { list: list.collect() }
    }

    /// Whether there are none, so that everything matches.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Evaluates them over an environment's values. They may cost [`CONDITIONS_BUDGET`] together.
    pub fn evaluate(&self, values: &[Option<Value<'_>>], authorizations: &dyn Authorizations) -> Matched {
        let mut left = CONDITIONS_BUDGET;
        let mut errors = Vec::new();
        let mut denied = None;
        for condition in &self.list {
            let program = match &condition.program {
                Ok(program) => program,
                Err(why) => {
                    errors.push(format!("compilation error: {why}"));
                    continue;
                }
            };
            let outcome = program.evaluate(values, authorizations, PER_CALL_LIMIT);
            if outcome.cost > left {
                return Matched::Failed(
                    "validation failed due to running out of cost budget, no further validation rules will be run"
                        .to_owned(),
                );
            }
            left -= outcome.cost;
            match outcome.value {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => {
                    denied.get_or_insert_with(|| condition.name.to_string());
                }
                Ok(_) => errors.push(format!(
                    "expression '{}' did not evaluate to a bool",
                    condition.expression
                )),
                Err(EvalError::Undecided(check)) => return Matched::Undecided(check),
                Err(error) => errors.push(format!(
                    "expression '{}' resulted in error: {error}",
                    condition.expression
                )),
            }
        }
        match (denied, errors.len()) {
            (Some(name), _) => Matched::No(name),
            (None, 0) => Matched::Yes,
            (None, 1) => Matched::Failed(errors.remove(0)),
            (None, _) => Matched::Failed(format!("[{}]", errors.join(", "))),
        }
    }
}

/// What is wrong with an expression, as a field error; none when it is right.
pub fn expression_error(env: &Env, path: &Path, expression: &str, wanted: &[Type]) -> Option<FieldError> {
    let why = env.compile_as(expression, wanted).err()?;
    Some(if why.starts_with("program instantiation failed") {
        FieldError {
            kind: rutter_api::field::ErrorType::Internal,
            field: path.to_string(),
            value: None,
            detail: why,
        }
    } else {
        FieldError::invalid(path, expression, why)
    })
}

/// What is wrong with the expressions of `matchConditions` at a path such as `webhooks[0].matchConditions`. Expressions among `known` were
/// accepted before and stay so. Empty ones are for the caller to report.
pub fn condition_errors(list: &[Json], path: &Path, params: bool, known: &[&str]) -> ErrorList {
    let mut errors = ErrorList::new();
    if list.is_empty() {
        return errors;
    }
    let env = admission::env(Extras {
        params,
        authorizer: true,
    });
    for (index, condition) in list.iter().enumerate() {
        let expression = condition
            .get("expression")
            .and_then(Json::as_str)
            .unwrap_or_default()
            .trim();
        if !expression.is_empty() && !known.contains(&expression) {
            let path = path.index(index).child("expression");
            errors.extend(expression_error(&env, &path, expression, &[Type::Bool]));
        }
    }
    errors
}
