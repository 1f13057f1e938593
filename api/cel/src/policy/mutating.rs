//! MutatingAdmissionPolicy.

use super::objects::{OBJECT, check_names};
use super::{Compiled, Composer, NoValue, SPENT, Session, has_params, list, text, types};
use crate::admission::Input;
use crate::conditions::{Conditions, Matched};
use crate::eval::{Authorizations, Program};
use crate::value::{AuthorizationCheck, Value};
use serde_json::{Map, Value as Json};
use std::sync::Arc;

/// A policy, compiled from its spec.
#[derive(Debug)]
pub struct MutatingPolicy {
    conditions: Conditions,
    variables: Vec<(Box<str>, Result<Program, String>)>,
    mutations: Vec<(Form, Compiled)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Apply,
    Patch,
}

/// How an object is to be changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Mutation {
    /// What is to be merged into it.
    Apply(Json),
    /// The operations of a JSON patch.
    Patch(Json),
}

impl MutatingPolicy {
    /// Compiles a policy's spec. What can't be compiled fails when it is evaluated.
    pub fn compile(spec: &Json) -> Self {
        let params = has_params(spec);
        let mut composer = Composer::new(params, true);
        composer.add_all(spec);
        let env = composer.env();
        let mutations = list(spec, "mutations").iter().map(|mutation| {
            let (form, field, wanted) = match text(mutation, "patchType") {
                "ApplyConfiguration" => (Form::Apply, "applyConfiguration", types::apply_configuration()),
                _ => (Form::Patch, "jsonPatch", types::json_patch()),
            };
            let expression = mutation.get(field).map_or("", |part| text(part, "expression"));
            (form, Compiled::new(&env, expression, &wanted))
        });
        Self {
            mutations: mutations.collect(),
            conditions: Conditions::admission(list(spec, "matchConditions"), params),
            variables: composer.programs,
        }
    }

    /// How many mutations it has, to be made one after the other, each over what the one before left.
    pub fn len(&self) -> usize {
        self.mutations.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.mutations.is_empty()
    }

    /// Whether its conditions hold.
    pub fn matches(&self, input: &Input<'_>, authorizations: &dyn Authorizations) -> Matched {
        if self.conditions.is_empty() {
            return Matched::Yes;
        }
        self.conditions.evaluate(&input.values(), authorizations)
    }

    /// One of its mutations for an object, or why there is none; or the right that must be found out first.
    pub fn mutation(
        &self,
        index: usize,
        input: &Input<'_>,
        authorizations: &dyn Authorizations,
    ) -> Result<Result<Mutation, String>, Arc<AuthorizationCheck>> {
        let Some((form, compiled)) = self.mutations.get(index) else {
            return Ok(Err("no such mutation".to_owned()));
        };
        let mut session = Session::new(input, &self.variables, authorizations);
        let value = match session.evaluate(compiled) {
            Ok(value) => value,
            Err(NoValue::Undecided(check)) => return Err(check),
            Err(NoValue::Spent) => return Ok(Err(SPENT.to_owned())),
            Err(NoValue::Failed(why)) => return Ok(Err(why)),
        };
        Ok(match form {
            Form::Apply => applied(&value),
            Form::Patch => operations(&value),
        })
    }
}

fn applied(value: &Value<'_>) -> Result<Mutation, String> {
    let Value::Object(..) = value else {
        return Err(format!(
            "unsupported return type from ApplyConfiguration expression: {}",
            value.type_name()
        ));
    };
    check_names(value, OBJECT).map_err(|error| error.to_string())?;
    value
        .to_json()
        .map(Mutation::Apply)
        .map_err(|error| error.to_string())
}

fn operations(value: &Value<'_>) -> Result<Mutation, String> {
    const WRONG: &str = "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch";
    let Value::List(list) = value else {
        return Err(WRONG.to_owned());
    };
    let mut operations = Vec::with_capacity(list.len());
    for item in list.iter() {
        let Value::Object(_, fields) = item.map_err(|error| error.to_string())? else {
            return Err(WRONG.to_owned());
        };
        let mut operation = Map::new();
        for (name, value) in fields.iter() {
            if &**name == "value"
                && let Value::Object(..) = value
            {
                // An object by itself may be of any of the paths.
                if let Value::Object(own, _) = value {
                    check_names(value, own).map_err(|error| error.to_string())?;
                }
            }
            let json = value.to_json().map_err(|error| {
                format!(
                    "JSONPath valueExpression evaluated to a type that could not marshal to JSON: {error}"
                )
            })?;
            if &**name != "from" || json != "" {
                operation.insert(name.to_string(), json);
            }
        }
        operations.push(Json::Object(operation));
    }
    Ok(Mutation::Patch(Json::Array(operations)))
}
