//! Admission policies: their expressions compiled, and what they say about an object.
//!
//! Matching, parameters and the rights of callers are the server's part; here is what follows from them.

mod mutating;
mod objects;
mod validating;

pub use mutating::{MutatingPolicy, Mutation};
pub use validating::{AuditAnnotation, Decision, Judged, ValidatingPolicy};

use crate::admission::{self, Extras, VARIABLES};
use crate::check::Checked;
use crate::env::Env;
use crate::error::EvalError;
use crate::eval::{Authorizations, Lazy, PER_CALL_LIMIT, Program};
use crate::types::Type;
use crate::value::{AuthorizationCheck, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of the type of `variables`.
const VARIABLES_TYPE: &str = "kubernetes.variables";

/// What a policy's expressions may refer to, grown variable by variable.
#[derive(Debug)]
pub struct Composer {
    extras: Extras,
    mutating: bool,
    fields: BTreeMap<Box<str>, Type>,
    programs: Vec<(Box<str>, Result<Program, String>)>,
}

impl Composer {
    /// For a policy that has parameters or not, and may change objects or not.
    pub fn new(params: bool, mutating: bool) -> Self {
        let extras = Extras {
            params,
            authorizer: true,
        };
        Self {
            extras,
            mutating,
            fields: BTreeMap::new(),
            programs: Vec::new(),
        }
    }

    /// The environment as of now.
    pub fn env(&self) -> Env {
        self.env_with(self.extras)
    }

    /// The same without rights, for messages.
    pub fn message_env(&self) -> Env {
        self.env_with(Extras {
            authorizer: false,
            ..self.extras
        })
    }

    fn env_with(&self, extras: Extras) -> Env {
        let env = admission::env(extras).with_fields("variables", VARIABLES_TYPE, &self.fields);
        debug_assert_eq!(
            env.variables().position(|name| name == "variables"),
            Some(VARIABLES)
        );
        if self.mutating {
            env.with_constructors(Arc::new(objects::Objects))
        } else {
            env
        }
    }

    /// Adds a variable; what is wrong with its expression.
    pub fn add(&mut self, name: &str, expression: &str) -> Result<(), String> {
        let env = self.env();
        let compiled: Result<Checked, String> = match env.compile(expression) {
            Ok(checked) => Ok(checked),
            Err(issues) => Err(format!("compilation failed: {issues}")),
        };
        let ty = compiled
            .as_ref()
            .map_or(Type::Dyn, |checked| checked.output().clone());
        self.fields.insert(name.into(), ty);
        let program = compiled.map(|checked| checked.program());
        let result = program.as_ref().map(|_| ()).map_err(Clone::clone);
        self.programs.push((name.into(), program));
        result
    }

    /// Adds all variables of a policy's spec.
    fn add_all(&mut self, spec: &Json) {
        for variable in list(spec, "variables") {
            // A variable that is wrong fails when it is used.
            let _ = self.add(text(variable, "name"), text(variable, "expression"));
        }
    }
}

/// Evaluations of one policy over one object, on one budget.
struct Session<'r, 'a> {
    values: Vec<Option<Value<'a>>>,
    lazy: Lazy<'r, 'a>,
    authorizations: &'r dyn Authorizations,
    left: u64,
}

/// Why an evaluation has no value.
enum NoValue {
    /// Something in the expression.
    Failed(String),
    /// Nothing more is evaluated.
    Spent,
    /// A right must be found out first.
    Undecided(Arc<AuthorizationCheck>),
}

/// What is said when the budget is spent.
const SPENT: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

impl<'r, 'a> Session<'r, 'a> {
    fn new(
        input: &admission::Input<'a>,
        programs: &'r [(Box<str>, Result<Program, String>)],
        authorizations: &'r dyn Authorizations,
    ) -> Self {
        Self {
            values: input.values(),
            lazy: Lazy::new(VARIABLES, programs),
            authorizations,
            left: admission::POLICY_BUDGET,
        }
    }

    fn evaluate(&mut self, compiled: &Compiled) -> Result<Value<'a>, NoValue> {
        let program = match &compiled.program {
            Ok(program) => program,
            Err(why) => return Err(NoValue::Failed(format!("compilation error: {why}"))),
        };
        let outcome = program.evaluate_with(
            &self.values,
            Some(&self.lazy),
            self.authorizations,
            PER_CALL_LIMIT,
        );
        let cost = outcome.cost.saturating_add(self.lazy.take_spent());
        if let Err(EvalError::Undecided(check)) = outcome.value {
            return Err(NoValue::Undecided(check));
        }
        if cost > self.left {
            return Err(NoValue::Spent);
        }
        self.left -= cost;
        outcome.value.map_err(|error| {
            NoValue::Failed(format!(
                "expression '{}' resulted in error: {error}",
                compiled.expression
            ))
        })
    }
}

/// An expression of a policy.
#[derive(Debug)]
struct Compiled {
    expression: Box<str>,
    program: Result<Program, String>,
}

impl Compiled {
    fn new(env: &Env, expression: &str, wanted: &[Type]) -> Self {
        Self {
            expression: expression.into(),
            program: env
                .compile_as(expression, wanted)
                .map(|checked| checked.program()),
        }
    }
}

fn list<'j>(object: &'j Json, name: &str) -> &'j [Json] {
    object
        .get(name)
        .and_then(Json::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text<'j>(object: &'j Json, name: &str) -> &'j str {
    object.get(name).and_then(Json::as_str).unwrap_or_default()
}

/// Whether a policy has parameters.
fn has_params(spec: &Json) -> bool {
    spec.get("paramKind").is_some_and(|kind| !kind.is_null())
}

/// The types that expressions of one kind may have.
pub mod types {
    use crate::types::Type;

    /// What a validation must be.
    pub fn validation() -> Vec<Type> {
        vec![Type::Bool]
    }

    /// What a message must be.
    pub fn message() -> Vec<Type> {
        vec![Type::String]
    }

    /// What the value of an audit annotation must be.
    pub fn audit_annotation() -> Vec<Type> {
        vec![Type::String, Type::Null]
    }

    /// What an applied configuration must be.
    pub fn apply_configuration() -> Vec<Type> {
        vec![Type::object("Object")]
    }

    /// What a JSON patch must be.
    pub fn json_patch() -> Vec<Type> {
        vec![Type::list(Type::object("JSONPatch"))]
    }
}

#[cfg(test)]
mod tests;
