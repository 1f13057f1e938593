//! Evaluates expressions, and counts what that costs while it does.

mod charge;
mod lazy;
mod plan;

pub use crate::library::Authorizations;
pub use lazy::Lazy;
pub use plan::Program;

use crate::cost::{LIST, MAP, STRUCT};
use crate::error::{EvalError, Result};
use crate::library::{Overload, add, function_at, key_text};
use crate::value::{AuthorizationCheck, Decision, Key, List, Map, Text, Value, equal};
use plan::{Call, FoldOp, Op, Part};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one expression may cost.
pub const PER_CALL_LIMIT: u64 = 1_000_000;

/// The end of an evaluation.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The value, or why there is none.
    pub value: Result<Value<'a>>,
    /// What it cost until then.
    pub cost: u64,
}

/// Decides nothing: for expressions that can't ask for rights.
#[derive(Clone, Copy, Debug)]
pub struct NoAuthorizations;

impl Authorizations for NoAuthorizations {
    fn decision(&self, _check: &AuthorizationCheck) -> Option<Arc<Decision>> {
        None
    }
}

impl Program {
    /// Evaluates with values for the environment's variables, in their order. Ends with
    /// [`EvalError::CostLimit`] when it costs more than `limit`.
    pub fn evaluate<'a>(
        &self,
        variables: &[Option<Value<'a>>],
        authorizations: &dyn Authorizations,
        limit: u64,
    ) -> Outcome<'a> {
        self.evaluate_with(variables, None, authorizations, limit)
    }

    /// As [`Program::evaluate`], where one of the variables has fields that are computed when they are asked for. What that costs is
    /// counted there.
    pub fn evaluate_with<'a>(
        &self,
        variables: &[Option<Value<'a>>],
        lazy: Option<&Lazy<'_, 'a>>,
        authorizations: &dyn Authorizations,
        limit: u64,
    ) -> Outcome<'a> {
        if let Some(error) = &self.broken {
            let value = Err(error.clone());
            return Outcome { value, cost: 0 };
        }
        let mut run = Run {
            program: self,
            variables,
            lazy,
            authorizations,
            locals: (0..self.locals).map(|_| Ok(Value::Null)).collect(),
            cost: 0,
            limit,
        };
        let value = run.eval(self.root);
        Outcome {
            value,
            cost: run.cost,
        }
    }
}

struct Run<'r, 'a> {
    program: &'r Program,
    variables: &'r [Option<Value<'a>>],
    lazy: Option<&'r Lazy<'r, 'a>>,
    authorizations: &'r dyn Authorizations,
    /// The variables of loops; what a loop has gathered may be an error that the rest of it makes good.
    locals: Vec<Result<Value<'a>>>,
    cost: u64,
    limit: u64,
}

impl<'r, 'a> Run<'r, 'a> {
    fn charge(&mut self, cost: u64) -> Result<()> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit {
            Err(EvalError::CostLimit)
        } else {
            Ok(())
        }
    }

    fn eval(&mut self, at: Part) -> Result<Value<'a>> {
        let program: &'r Program = self.program;
        match &program.ops[at.index()] {
            Op::Const(value) => Ok(value.clone()),
            Op::Variable(index) => {
                self.charge(1)?;
                match self.variables.get(usize::from(*index)) {
                    Some(Some(value)) => Ok(value.clone()),
                    _ => {
                        let name = &program.variables[usize::from(*index)];
                        Err(EvalError::new(format!("no such attribute(s): {name}")))
                    }
                }
            }
            Op::Local(slot) => {
                self.charge(1)?;
                self.locals[usize::from(*slot)].clone()
            }
            Op::Select { operand, field, .. } if self.lazy_at(*operand).is_some() => {
                self.charge(2)?;
                match self.lazy {
                    Some(lazy) => lazy.field(field, self.variables, self.authorizations),
                    None => Err(EvalError::no_such_key(field)),
                }
            }
            Op::Has { operand, field, .. } if self.lazy_at(*operand).is_some() => {
                self.charge(1)?;
                Ok(Value::Bool(self.lazy.is_some_and(|lazy| lazy.has(field))))
            }
            Op::Select {
                operand,
                field,
                fresh,
            } => {
                let operand = self.root(*operand, *fresh)?;
                self.charge(1)?;
                select(&operand, field)
            }
            Op::Has {
                operand,
                field,
                fresh,
            } => {
                let operand = self.root(*operand, *fresh)?;
                self.has(&operand, field).map(Value::Bool)
            }
            Op::OptSelect {
                operand,
                field,
                fresh,
            } => {
                let operand = self.root(*operand, *fresh)?;
                let found = match &operand {
                    Value::Optional(None) => None,
                    Value::Optional(Some(inner)) => inner.member(field)?,
                    value => value.member(field)?,
                };
                match found {
                    Some(value) => {
                        self.charge(1)?;
                        Ok(present(value))
                    }
                    None => Ok(Value::Optional(None)),
                }
            }
            Op::Index {
                operand,
                index,
                fresh,
            } => {
                let operand = self.root(*operand, *fresh)?;
                let at = self.eval(*index)?;
                match program.index_cost(*index) {
                    // A constant is paid for before it is looked up.
                    (cost, true) => {
                        self.charge(cost)?;
                        index_of(&operand, &at)
                    }
                    (cost, false) => {
                        let value = index_of(&operand, &at)?;
                        self.charge(cost)?;
                        Ok(value)
                    }
                }
            }
            Op::OptIndex {
                operand,
                index,
                fresh,
            } => {
                let operand = self.root(*operand, *fresh)?;
                let at = self.eval(*index)?;
                match find(&operand, &at)? {
                    Some(value) => {
                        self.charge(program.index_cost(*index).0)?;
                        Ok(present(value))
                    }
                    None => Ok(Value::Optional(None)),
                }
            }
            Op::And(left, right) => self.logic(*left, *right, false),
            Op::Or(left, right) => self.logic(*left, *right, true),
            Op::NotStrictlyFalse(operand) => {
                let value = match self.eval(*operand) {
                    Ok(Value::Bool(false)) => false,
                    Err(error) if !error.is_absorbed() => return Err(error),
                    _ => true,
                };
                self.charge(1)?;
                Ok(Value::Bool(value))
            }
            Op::Conditional {
                condition,
                yes,
                no,
                discounts,
            } => {
                let chosen = match self.eval(*condition)? {
                    Value::Bool(true) => 0,
                    Value::Bool(false) => 1,
                    _ => return Err(EvalError::no_such_overload()),
                };
                let value = self.eval([*yes, *no][chosen])?;
                // A name that is a branch comes with the condition.
                self.cost = self.cost.saturating_sub(u64::from(discounts[chosen]));
                Ok(value)
            }
            Op::InConst(operand, list) => {
                let value = self.eval(*operand)?;
                Ok(Value::Bool(list.iter().any(|item| equal(item, &value))))
            }
            Op::OptOr(left, right) => match self.eval(*left)? {
                Value::Optional(None) => self.eval(*right),
                other => Ok(other),
            },
            Op::OptOrValue(left, right) => match self.eval(*left)? {
                Value::Optional(None) => self.eval(*right),
                Value::Optional(Some(value)) => Ok(value.as_ref().clone()),
                other => Ok(other),
            },
            Op::Call(call) => self.call(call),
            Op::Append { slot, element } => self.append(*slot, *element),
            Op::Insert { slot, args } => self.insert(*slot, args),
            Op::List { elements, optional } => self.list(elements, optional),
            Op::Map(entries) => self.map(entries),
            Op::Struct { name, fields } => self.structure(name, fields),
            Op::Fold(fold) => self.fold(fold),
            Op::Bind { slot, value, result } => {
                let value = self.eval(*value);
                if let Err(error) = &value
                    && !error.is_absorbed()
                {
                    return Err(error.clone());
                }
                self.locals[usize::from(*slot)] = value;
                self.eval(*result)
            }
        }
    }

    /// The number of the variable whose fields are computed, if the operand is that variable.
    fn lazy_at(&self, operand: Part) -> Option<u16> {
        match (&self.program.ops[operand.index()], self.lazy) {
            (Op::Variable(index), Some(lazy)) if usize::from(*index) == lazy.variable => Some(*index),
            _ => None,
        }
    }

    /// The value that something is selected from. A value that was computed costs one more than one that was named.
    fn root(&mut self, operand: Part, fresh: bool) -> Result<Value<'a>> {
        let value = self.eval(operand)?;
        self.charge(u64::from(fresh))?;
        Ok(value)
    }

    fn has(&mut self, operand: &Value<'a>, field: &str) -> Result<bool> {
        match operand {
            Value::Optional(None) => Ok(false),
            Value::Optional(Some(inner)) => Ok(inner.member(field)?.is_some()),
            value => Ok(value.member(field)?.is_some()),
        }
    }

    /// `&&` and `||`: either side decides, whatever is wrong with the other one.
    fn logic(&mut self, left: Part, right: Part, decisive: bool) -> Result<Value<'a>> {
        let first = match self.eval(left) {
            Ok(Value::Bool(b)) if b == decisive => return Ok(Value::Bool(decisive)),
            Ok(Value::Bool(_)) => None,
            Ok(_) => Some(EvalError::no_such_overload()),
            Err(error) if error.is_absorbed() => Some(error),
            Err(error) => return Err(error),
        };
        match self.eval(right) {
            Ok(Value::Bool(b)) if b == decisive => Ok(Value::Bool(decisive)),
            Err(error) if !error.is_absorbed() => Err(error),
            second => match (first, second) {
                (Some(error), _) | (None, Err(error)) => Err(error),
                (None, Ok(Value::Bool(_))) => Ok(Value::Bool(!decisive)),
                (None, Ok(_)) => Err(EvalError::no_such_overload()),
            },
        }
    }

    fn call(&mut self, call: &'r Call) -> Result<Value<'a>> {
        let mut args = Vec::with_capacity(call.args.len());
        let mut wrong = None;
        for arg in &call.args {
            match self.eval(*arg) {
                Ok(value) => args.push(value),
                Err(error) if error.is_absorbed() => {
                    args.push(Value::Null);
                    wrong.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        let function = function_at(call.function);
        let result = match wrong {
            Some(error) => Err(error),
            None => {
                let mut overloads = call
                    .overloads
                    .iter()
                    .map(|number| &function.overloads[usize::from(*number)]);
                match overloads.find(|overload: &&Overload| overload.takes(&args)) {
                    Some(overload) => (overload.call)(self.authorizations, &args),
                    None => Err(no_overload(function.name, &args)),
                }
            }
        };
        // A call that fails costs what it costs to find out.
        let cost = charge::cost(call.cost, &args, result.as_ref().unwrap_or(&Value::Null));
        self.charge(cost)?;
        result
    }

    /// One element more for what a loop gathers, without copying what it has.
    fn append(&mut self, slot: u16, element: Part) -> Result<Value<'a>> {
        self.charge(1)?;
        let element = self.eval(element)?;
        self.charge(LIST + 1)?;
        match std::mem::replace(&mut self.locals[usize::from(slot)], Ok(Value::Null))? {
            Value::List(List::Made(mut items, schema)) => {
                Arc::make_mut(&mut items).push(element);
                Ok(Value::List(List::Made(items, schema)))
            }
            other => add(&other, &Value::list(vec![element])),
        }
    }

    /// One entry (or those of a map) more for what a loop gathers.
    fn insert(&mut self, slot: u16, args: &[Part]) -> Result<Value<'a>> {
        self.charge(1)?;
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.eval(*arg)?);
        }
        self.charge(1)?;
        let mut entries = match std::mem::replace(&mut self.locals[usize::from(slot)], Ok(Value::Null))? {
            Value::Map(Map::Made(entries)) => entries,
            _ => return Err(EvalError::no_such_overload()),
        };
        let map = Arc::make_mut(&mut entries);
        match values.as_slice() {
            [Value::Map(more)] => {
                for key in more.keys() {
                    let value = more.find(&key)?.unwrap_or(Value::Null);
                    insert_new(map, &key, value)?;
                }
            }
            [key, value] => insert_new(map, key, value.clone())?,
            _ => return Err(EvalError::no_such_overload()),
        }
        Ok(Value::Map(Map::Made(entries)))
    }

    /// The value of an element that is only there when it has one.
    fn optional(&mut self, at: Part, optional: bool) -> Result<Option<Value<'a>>> {
        match (self.eval(at)?, optional) {
            (Value::Optional(value), true) => Ok(value.map(|value| value.as_ref().clone())),
            (other, true) => Err(EvalError::new(format!(
                "cannot initialize optional list element from non-optional value {}",
                key_text(&other)
            ))),
            (value, false) => Ok(Some(value)),
        }
    }

    fn list(&mut self, elements: &[Part], optional: &[u32]) -> Result<Value<'a>> {
        let mut items = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            items.extend(self.optional(*element, optional.contains(&(index as u32)))?);
        }
        self.charge(LIST)?;
        Ok(Value::list(items))
    }

    fn map(&mut self, entries: &[(Part, Part, bool)]) -> Result<Value<'a>> {
        let mut map = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.eval(*key)?;
            let Some(value) = self.optional(*value, *optional)? else {
                continue;
            };
            match Key::of(&key) {
                Some(key) if !matches!(key, Key::Int(_)) || !map.contains_key(&key) => {
                    map.insert(key, value);
                }
                Some(_) => {
                    return Err(EvalError::new(format!(
                        "Failed with repeated key: {}",
                        key_text(&key)
                    )));
                }
                None => {
                    return Err(EvalError::new(format!(
                        "unsupported key type: {}",
                        key.type_name()
                    )));
                }
            }
        }
        self.charge(MAP)?;
        Ok(Value::Map(Map::Made(Arc::new(map))))
    }

    fn structure(&mut self, name: &Arc<str>, fields: &[(Arc<str>, Part, bool)]) -> Result<Value<'a>> {
        let mut made = BTreeMap::new();
        for (field, value, optional) in fields {
            if let Some(value) = self.optional(*value, *optional)? {
                made.insert(Text::Shared(field.clone()), value);
            }
        }
        self.charge(STRUCT)?;
        Ok(Value::Object(name.clone(), Arc::new(made)))
    }

    fn fold(&mut self, fold: &FoldOp) -> Result<Value<'a>> {
        let range = self.eval(fold.range)?;
        let init = self.eval(fold.init)?;
        let accumulator = usize::from(fold.accumulator);
        self.locals[accumulator] = Ok(init);
        match range {
            Value::List(list) => {
                for (index, item) in list.iter().enumerate() {
                    let item = match item {
                        Err(error) if !error.is_absorbed() => return Err(error),
                        item => item,
                    };
                    let (first, second) = match fold.second {
                        Some(_) => (Ok(Value::Int(index as i64)), Some(item)),
                        None => (item, None),
                    };
                    if !self.step(fold, first, second)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let value = fold
                        .second
                        .map(|_| map.find(&key).map(|value| value.unwrap_or(Value::Null)));
                    if !self.step(fold, Ok(key), value)? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::no_such_overload()),
        }
        self.eval(fold.result)
    }

    /// One turn of a loop; whether it goes on.
    fn step(
        &mut self,
        fold: &FoldOp,
        first: Result<Value<'a>>,
        second: Option<Result<Value<'a>>>,
    ) -> Result<bool> {
        self.locals[usize::from(fold.variable)] = first;
        if let (Some(slot), Some(value)) = (fold.second, second) {
            self.locals[usize::from(slot)] = value;
        }
        if matches!(self.eval(fold.condition)?, Value::Bool(false)) {
            return Ok(false);
        }
        let next = self.eval(fold.step);
        match next {
            Err(error) if !error.is_absorbed() || !fold.tolerant => Err(error),
            next => {
                self.locals[usize::from(fold.accumulator)] = next;
                Ok(true)
            }
        }
    }
}

fn insert_new<'a>(map: &mut BTreeMap<Key<'a>, Value<'a>>, key: &Value<'a>, value: Value<'a>) -> Result<()> {
    let Some(name) = Key::of(key) else {
        return Err(EvalError::new(format!(
            "unsupported key type: {}",
            key.type_name()
        )));
    };
    match map.insert(name, value) {
        None => Ok(()),
        Some(_) => Err(EvalError::new(format!(
            "insert failed: key {} already exists",
            key_text(key)
        ))),
    }
}

fn no_overload(name: &str, args: &[Value<'_>]) -> EvalError {
    if name.starts_with(['_', '!', '-', '@']) {
        return EvalError::no_such_overload();
    }
    let types: Vec<&str> = args.iter().map(Value::type_name).collect();
    EvalError::new(format!("no such overload: {name}({})", types.join(", ")))
}

/// A value that is there; what is already optional stays so.
fn present(value: Value<'_>) -> Value<'_> {
    match value {
        value @ Value::Optional(_) => value,
        value => Value::some(value),
    }
}

fn select<'a>(operand: &Value<'a>, field: &str) -> Result<Value<'a>> {
    match operand {
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => Ok(match inner.member(field)? {
            Some(value) => Value::some(value),
            None => Value::Optional(None),
        }),
        value => value.member(field)?.ok_or_else(|| EvalError::no_such_key(field)),
    }
}

/// An element or an entry; none when it isn't there.
fn find<'a>(operand: &Value<'a>, index: &Value<'a>) -> Result<Option<Value<'a>>> {
    match operand {
        Value::Optional(None) => Ok(None),
        Value::Optional(Some(inner)) => find(inner, index),
        Value::List(list) => {
            let at = match index {
                Value::Int(n) => usize::try_from(*n).ok(),
                Value::Uint(n) => usize::try_from(*n).ok(),
                Value::Double(d) if d.fract() == 0.0 && *d >= 0.0 => Some(*d as usize),
                _ => {
                    return Err(EvalError::new(format!(
                        "unsupported index type '{}' in list",
                        index.type_name()
                    )));
                }
            };
            at.and_then(|at| list.get(at)).transpose()
        }
        Value::Map(map) => map.find(index),
        Value::Object(..) => match index {
            Value::String(name) => operand.member(name),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn index_of<'a>(operand: &Value<'a>, index: &Value<'a>) -> Result<Value<'a>> {
    match (operand, find(operand, index)?) {
        (Value::Optional(_), found) => Ok(found.map_or(Value::Optional(None), Value::some)),
        (_, Some(value)) => Ok(value),
        (Value::List(_), None) => Err(EvalError::new(format!(
            "index out of bounds: {}",
            key_text(index)
        ))),
        (_, None) => Err(EvalError::no_such_key(&key_text(index))),
    }
}
