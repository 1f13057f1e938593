//! Fields of a variable that are computed when they are asked for, once: a policy's `variables`.

use super::{Authorizations, PER_CALL_LIMIT, Program};
use crate::error::{EvalError, Result};
use crate::value::Value;
use std::cell::{Cell, RefCell};

/// The fields of one variable, and those of them that are computed already.
pub struct Lazy<'r, 'a> {
    pub(super) variable: usize,
    programs: &'r [(Box<str>, std::result::Result<Program, String>)],
    done: RefCell<Vec<Option<Result<Value<'a>>>>>,
    spent: Cell<u64>,
}

impl<'r, 'a> Lazy<'r, 'a> {
    /// Fields of the variable of a number: names, and what computes each. A field that has no program is an error when it is
    /// asked for.
    pub fn new(variable: usize, programs: &'r [(Box<str>, std::result::Result<Program, String>)]) -> Self {
        Self {
            variable,
            programs,
            done: RefCell::new(vec![None; programs.len()]),
            spent: Cell::new(0),
        }
    }

    /// What computing fields has cost since this was asked last.
    pub fn take_spent(&self) -> u64 {
        self.spent.take()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.programs.iter().any(|(known, _)| **known == *name)
    }

    pub(super) fn field(
        &self,
        name: &str,
        variables: &[Option<Value<'a>>],
        authorizations: &dyn Authorizations,
    ) -> Result<Value<'a>> {
        // Later fields may refer to earlier ones only, so a name is that of the last one there.
        let Some(index) = self.programs.iter().rposition(|(known, _)| **known == *name) else {
            return Err(EvalError::no_such_key(name));
        };
        if let Some(done) = &self.done.borrow()[index] {
            return done.clone();
        }
        let value = match &self.programs[index].1 {
            Ok(program) => {
                let outcome = program.evaluate_with(variables, Some(self), authorizations, PER_CALL_LIMIT);
                self.spent.set(self.spent.get().saturating_add(outcome.cost));
                outcome.value
            }
            Err(why) => Err(EvalError::new(format!(
                "composited variable {name:?} fails to compile: {why}"
            ))),
        };
        let value = value.map_err(|error| match error {
            EvalError::Failed(why) => {
                EvalError::new(format!("composited variable {name:?} fails to evaluate: {why}"))
            }
            other => other,
        });
        if !matches!(value, Err(EvalError::Undecided(_))) {
            self.done.borrow_mut()[index] = Some(value.clone());
        }
        value
    }
}

impl std::fmt::Debug for Lazy<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.programs.iter().map(|(name, _)| name))
            .finish()
    }
}
