//! The functions of expressions, one file per library: name, overloads by types, and what each does.
//!
//! The set is that of Kubernetes 1.36. Overloads carry upstream's ids, because costs are told by them.

mod authz;
mod convert;
mod duration;
pub(crate) mod format;
mod formatting;
mod lists;
mod math;
mod net;
mod optional;
mod order;
mod quantity;
mod regexes;
mod semver;
mod sets;
mod strings;
mod time;
mod urls;

pub(crate) use formatting::{check_format, key_text};
pub(crate) use math::add;
pub(crate) use regexes::compile as compile_regex;
pub(crate) use time::parse_timestamp;

use crate::error::{EvalError, Result};
use crate::types::{Param, Type};
use crate::value::{AuthorizationCheck, Decision, List, Map, Native, Value};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// What a function may ask the caller for.
pub trait Authorizations {
    /// What was decided about a right; none when it isn't known yet, which ends the evaluation.
    fn decision(&self, check: &AuthorizationCheck) -> Option<Arc<Decision>>;
}

/// Does what an overload does.
pub(crate) type Implementation = for<'a> fn(&dyn Authorizations, &[Value<'a>]) -> Result<Value<'a>>;

/// One way to call a function.
pub(crate) struct Overload {
    /// Upstream's id.
    pub(crate) id: &'static str,
    /// Whether it is called on a target, which is then the first parameter.
    pub(crate) member: bool,
    pub(crate) params: Box<[Type]>,
    pub(crate) result: Type,
    pub(crate) call: Implementation,
}

/// A function.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) overloads: Vec<Overload>,
    /// Whether only expressions that change objects have it.
    pub(crate) mutating: bool,
}

/// All functions.
#[derive(Default)]
pub(crate) struct Functions {
    list: Vec<Function>,
    names: HashMap<&'static str, usize, ahash::RandomState>,
}

static FUNCTIONS: LazyLock<Functions> = LazyLock::new(|| {
    let mut functions = Functions::default();
    order::declare(&mut functions);
    math::declare(&mut functions);
    convert::declare(&mut functions);
    strings::declare(&mut functions);
    formatting::declare(&mut functions);
    time::declare(&mut functions);
    duration::declare(&mut functions);
    lists::declare(&mut functions);
    sets::declare(&mut functions);
    regexes::declare(&mut functions);
    optional::declare(&mut functions);
    urls::declare(&mut functions);
    net::declare(&mut functions);
    quantity::declare(&mut functions);
    semver::declare(&mut functions);
    format::declare(&mut functions);
    authz::declare(&mut functions);
    functions
});

/// The function of a name.
pub(crate) fn function(name: &str) -> Option<(u16, &'static Function)> {
    let index = *FUNCTIONS.names.get(name)?;
    Some((index as u16, &FUNCTIONS.list[index]))
}

/// The function of a number.
pub(crate) fn function_at(index: u16) -> &'static Function {
    &FUNCTIONS.list[usize::from(index)]
}

/// The type to be found called A in declarations, and its fellows.
pub(crate) const A: Type = Type::Param(Param::Named("A"));
pub(crate) const B: Type = Type::Param(Param::Named("B"));

impl Functions {
    fn named(&mut self, name: &'static str) -> &mut Function {
        let next = self.list.len();
        let index = *self.names.entry(name).or_insert(next);
        if index == next {
            self.list.push(Function {
                name,
                overloads: Vec::new(),
                mutating: false,
            });
        }
        &mut self.list[index]
    }

    /// A way to call a function by its name alone.
    fn global(
        &mut self,
        name: &'static str,
        id: &'static str,
        params: &[Type],
        result: Type,
        call: Implementation,
    ) {
        self.named(name).overloads.push(Overload {
            id,
            member: false,
            params: params.into(),
            result,
            call,
        });
    }

    /// A way to call a function on a target, the first of `params`.
    fn member(
        &mut self,
        name: &'static str,
        id: &'static str,
        params: &[Type],
        result: Type,
        call: Implementation,
    ) {
        self.named(name).overloads.push(Overload {
            id,
            member: true,
            params: params.into(),
            result,
            call,
        });
    }
}

impl Overload {
    /// Whether the overload takes these values.
    pub(crate) fn takes(&self, args: &[Value<'_>]) -> bool {
        self.params.len() == args.len() && self.params.iter().zip(args).all(|(param, arg)| takes(param, arg))
    }
}

fn takes(param: &Type, value: &Value<'_>) -> bool {
    match (param, value) {
        (Type::Param(_) | Type::Dyn, _)
        | (Type::Bool, Value::Bool(_))
        | (Type::Int, Value::Int(_))
        | (Type::Uint, Value::Uint(_))
        | (Type::Double, Value::Double(_))
        | (Type::String, Value::String(_))
        | (Type::Bytes, Value::Bytes(_))
        | (Type::Duration, Value::Duration(_))
        | (Type::Timestamp, Value::Timestamp(_))
        | (Type::Null, Value::Null)
        | (Type::Map(_), Value::Map(_))
        | (Type::Optional(_), Value::Optional(_))
        | (Type::Type(_), Value::Type(_)) => true,
        (Type::List(element), Value::List(list)) => match element.as_ref() {
            Type::Param(_) | Type::Dyn => true,
            // The elements are of one type, or the expression checks itself.
            element => match list.get(0) {
                Some(Ok(first)) => takes(element, &first),
                _ => true,
            },
        },
        (Type::Struct(name), Value::Native(native)) => **name == *native.type_name(),
        (Type::Struct(name), Value::Object(made, _)) => name == made,
        (Type::Opaque(name), Value::Native(native)) => *name == native.type_name(),
        _ => false,
    }
}

/// No function takes such values.
fn wrong<'a>() -> Result<Value<'a>> {
    Err(EvalError::no_such_overload())
}

/// An object type of Kubernetes' own.
fn object(name: &'static str) -> Type {
    Type::object(name)
}

fn list_of<'v, 'a>(value: &'v Value<'a>) -> Result<&'v List<'a>> {
    match value {
        Value::List(list) => Ok(list),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn map_of<'v, 'a>(value: &'v Value<'a>) -> Result<&'v Map<'a>> {
    match value {
        Value::Map(map) => Ok(map),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn native_of<'v>(value: &'v Value<'_>) -> Result<&'v Native> {
    match value {
        Value::Native(native) => Ok(native),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn int_of(value: &Value<'_>) -> Result<i64> {
    match value {
        Value::Int(n) => Ok(*n),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn bool_of(value: &Value<'_>) -> Result<bool> {
    match value {
        Value::Bool(b) => Ok(*b),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Failed with a text.
fn fail<'a>(text: impl Into<Arc<str>>) -> Result<Value<'a>> {
    Err(EvalError::new(text))
}
