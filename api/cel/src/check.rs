//! The types of an expression: every part gets one, every call its overloads, every mistake its place.

mod literals;

use crate::ast::{Ast, Fold, Id, Literal, Node, op};
use crate::cost::{Estimate, SizeEstimator, estimate};
use crate::env::Env;
use crate::eval::Program;
use crate::library::{Function, function};
use crate::source::{Issue, Issues, Position};
use crate::types::{Mapping, Param, Type, most_general};
use crate::value::Native;
use std::sync::Arc;

/// What a part refers to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Reference {
    #[default]
    None,
    /// A variable of the environment.
    Variable(u16),
    /// A variable of a loop.
    Local,
    /// A type by its name.
    Type(Box<str>),
    /// A function and those of its overloads that may be meant.
    Call(u16, Box<[u8]>),
}

/// An expression whose types are known.
#[derive(Clone, Debug)]
pub struct Checked {
    pub(crate) ast: Ast,
    pub(crate) types: Vec<Type>,
    pub(crate) references: Vec<Reference>,
}

impl Checked {
    /// The type of its value.
    pub fn output(&self) -> &Type {
        &self.types[self.ast.root.index()]
    }

    /// Whether it refers to the variable of a number (see [`Env::with`]).
    pub fn uses(&self, variable: usize) -> bool {
        self.references
            .iter()
            .any(|r| matches!(r, Reference::Variable(n) if usize::from(*n) == variable))
    }

    /// What it costs at least and at most, given how large things can be.
    pub fn cost(&self, sizes: &dyn SizeEstimator) -> Estimate {
        estimate(self, sizes)
    }

    /// What can be evaluated.
    pub fn program(&self) -> Program {
        Program::new(self)
    }
}

/// Gives an expression its types.
pub(crate) fn check(env: &Env, source: &str, ast: Ast) -> Result<Checked, Issues> {
    let count = ast.nodes.len();
    let mut checker = Checker {
        env,
        ast,
        types: vec![None; count],
        references: vec![Reference::None; count],
        mapping: Mapping::default(),
        fresh: 0,
        scopes: Vec::new(),
        issues: Vec::new(),
    };
    checker.check(checker.ast.root);
    if !checker.issues.is_empty() {
        return Err(Issues::new(source, checker.issues));
    }
    let mapping = checker.mapping;
    let close = |ty: &Option<Type>| ty.as_ref().map_or(Type::Dyn, |ty| mapping.substitute(ty, true));
    let checked = Checked {
        ast: checker.ast,
        types: checker.types.iter().map(close).collect(),
        references: checker.references,
    };
    let issues = literals::check(&checked);
    if issues.is_empty() {
        Ok(checked)
    } else {
        Err(Issues::new(source, issues))
    }
}

struct Checker<'e> {
    env: &'e Env,
    ast: Ast,
    types: Vec<Option<Type>>,
    references: Vec<Reference>,
    mapping: Mapping,
    fresh: u32,
    /// Variables of loops, the innermost last.
    scopes: Vec<(Box<str>, Type)>,
    issues: Vec<Issue>,
}

/// The types that expressions can name.
fn named_type(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "string" => Type::String,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "type" => Type::Type(None),
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "optional_type" => Type::optional(Type::Dyn),
        Native::IP => Type::Opaque(Native::IP),
        Native::CIDR => Type::Opaque(Native::CIDR),
        _ => return None,
    })
}

impl Checker<'_> {
    fn report(&mut self, position: Position, message: String) {
        self.issues.push(Issue { position, message });
    }

    fn type_of(&self, id: Id) -> Type {
        self.types[id.index()].clone().unwrap_or(Type::Error)
    }

    fn set(&mut self, id: Id, ty: Type) {
        self.types[id.index()] = Some(ty);
    }

    fn fresh(&mut self) -> Type {
        self.fresh += 1;
        Type::Param(Param::Fresh(self.fresh - 1))
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        let name = name.strip_prefix('.').unwrap_or(name);
        self.set(id, Type::Error);
        let message = format!("undeclared reference to '{name}' (in container '')");
        self.report(self.ast.position(id), message);
    }

    fn mismatch(&mut self, position: Position, expected: &Type, found: &Type) {
        self.report(
            position,
            format!("expected type '{expected}' but found '{found}'"),
        );
    }

    fn check(&mut self, id: Id) {
        // Macros may use a part twice.
        if self.types[id.index()].is_some() {
            return;
        }
        match self.ast.node(id).clone() {
            Node::Literal(literal) => {
                let ty = match literal {
                    Literal::Null => Type::Null,
                    Literal::Bool(_) => Type::Bool,
                    Literal::Int(_) => Type::Int,
                    Literal::Uint(_) => Type::Uint,
                    Literal::Double(_) => Type::Double,
                    Literal::String(_) => Type::String,
                    Literal::Bytes(_) => Type::Bytes,
                };
                self.set(id, ty);
            }
            Node::Ident(name) => {
                if !self.resolve(id, &name) {
                    self.undeclared(id, &name);
                }
            }
            Node::Select { operand, field, test } => self.select(id, operand, &field, test),
            Node::Call {
                function,
                target,
                args,
            } => self.call(id, &function, target, &args),
            Node::List { elements, optional } => self.list(id, &elements, &optional),
            Node::Map(entries) => self.map(id, &entries),
            Node::Struct { name, fields } => self.structure(id, &name, &fields),
            Node::Fold(fold) => self.fold(id, &fold),
        }
    }

    /// Whether a name is that of a variable or a type; notes which.
    fn resolve(&mut self, id: Id, name: &str) -> bool {
        let plain = name.strip_prefix('.');
        if plain.is_none()
            && let Some((_, ty)) = self.scopes.iter().rev().find(|(known, _)| **known == *name)
        {
            let ty = ty.clone();
            self.set(id, ty);
            self.references[id.index()] = Reference::Local;
            return true;
        }
        let name = plain.unwrap_or(name);
        if let Some((index, ty)) = self.env.variable(name) {
            let ty = ty.clone();
            self.set(id, ty);
            self.references[id.index()] = Reference::Variable(index as u16);
            return true;
        }
        if let Some(ty) = named_type(name) {
            let name = ty.name().into();
            self.set(id, Type::Type(Some(Arc::new(ty))));
            self.references[id.index()] = Reference::Type(name);
            return true;
        }
        if self.env.can_make(name) {
            self.set(id, Type::Type(Some(Arc::new(Type::object(name)))));
            self.references[id.index()] = Reference::Type(name.into());
            return true;
        }
        false
    }

    fn select(&mut self, id: Id, operand: Id, field: &str, test: bool) {
        if !test
            && let Some(name) = self.ast.qualified_name(id)
            && !self.is_local(&name)
            && self.resolve(id, &name)
        {
            return;
        }
        let result = self.field_type(id, operand, field, false);
        let ty = if test {
            Type::Bool
        } else {
            self.mapping.substitute(&result, false)
        };
        self.set(id, ty);
    }

    /// Whether the first part of a dotted name is a loop's variable.
    fn is_local(&self, name: &str) -> bool {
        let first = name.split('.').next().unwrap_or_default();
        self.scopes.iter().any(|(known, _)| **known == *first)
    }

    fn field_type(&mut self, id: Id, operand: Id, field: &str, optional: bool) -> Type {
        self.check(operand);
        let operand = self.mapping.substitute(&self.type_of(operand), false);
        let (target, is_optional) = operand.unwrap_optional();
        let position = self.ast.position(id);
        let result = match target {
            Type::Map(entry) => entry.1.clone(),
            Type::Struct(name) => {
                let found = self.env.field(name, field).flatten();
                found.unwrap_or_else(|| {
                    self.report(position, format!("undefined field '{field}'"));
                    Type::Error
                })
            }
            Type::Param(_) => {
                self.mapping.assign(&Type::Dyn, target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.report(
                    position,
                    format!("type '{other}' does not support field selection"),
                );
                Type::Dyn
            }
        };
        if is_optional || optional {
            Type::optional(result)
        } else {
            result
        }
    }

    fn call(&mut self, id: Id, name: &str, target: Option<Id>, args: &[Id]) {
        if name == op::OPT_SELECT {
            if let [operand, field] = args
                && let Node::Literal(Literal::String(field)) = self.ast.node(*field).clone()
            {
                self.set(args[1], Type::String);
                let result = self.field_type(id, *operand, &field, true);
                let result = self.mapping.substitute(&result, false);
                self.set(id, result);
            }
            return;
        }
        for arg in args {
            self.check(*arg);
        }
        let known = |name: &str, env: &Env| {
            let name = name.strip_prefix('.').unwrap_or(name);
            function(name).filter(|(_, f)| !f.mutating || env.is_mutating())
        };
        let Some(target) = target else {
            match known(name, self.env) {
                Some(found) => self.overloads(id, found, None, args),
                None => self.undeclared(id, name),
            }
            return;
        };
        if let Some(prefix) = self.ast.qualified_name(target)
            && let Some(found) = known(&format!("{prefix}.{name}"), self.env)
        {
            let function = found.1.name.into();
            self.ast.nodes[id.index()] = Node::Call {
                function,
                target: None,
                args: args.into(),
            };
            self.overloads(id, found, None, args);
            return;
        }
        self.check(target);
        match known(name, self.env) {
            Some(found) => self.overloads(id, found, Some(target), args),
            None => self.undeclared(id, name),
        }
    }

    /// Finds the overloads that fit, and from them the type.
    fn overloads(
        &mut self,
        id: Id,
        (index, function): (u16, &'static Function),
        target: Option<Id>,
        args: &[Id],
    ) {
        let types: Vec<Type> = target.iter().chain(args).map(|id| self.type_of(*id)).collect();
        if matches!(function.name, op::AND | op::OR) {
            self.logic(id, index, args, &types);
            return;
        }
        let mut fitting = Vec::new();
        let mut result: Option<Type> = None;
        for (number, overload) in function.overloads.iter().enumerate() {
            if overload.member != target.is_some() {
                continue;
            }
            let mut instance = Mapping::default();
            let mut named = Vec::new();
            for param in overload.params.iter().chain([&overload.result]) {
                params_in(param, &mut named);
            }
            for param in named {
                let fresh = self.fresh();
                instance.add(param, fresh);
            }
            let params: Vec<Type> = overload
                .params
                .iter()
                .map(|p| instance.substitute(p, false))
                .collect();
            if !self.mapping.assign_all(&types, &params) {
                continue;
            }
            fitting.push(number as u8);
            let this = self
                .mapping
                .substitute(&instance.substitute(&overload.result, false), false);
            result = Some(match result {
                None => this,
                Some(before) if before == Type::Dyn || before == this => before,
                Some(_) => Type::Dyn,
            });
        }
        match result {
            Some(ty) => {
                self.set(id, ty);
                self.references[id.index()] = Reference::Call(index, fitting.into());
            }
            None => {
                let types: Vec<String> = types
                    .iter()
                    .map(|ty| self.mapping.substitute(ty, true).to_string())
                    .collect();
                let signature = match (target, types.split_first()) {
                    (Some(_), Some((first, rest))) => format!("{first}.({})", rest.join(", ")),
                    _ => format!("({})", types.join(", ")),
                };
                let name = function.name;
                let message = format!("found no matching overload for '{name}' applied to '{signature}'");
                self.report(self.ast.position(id), message);
                self.set(id, Type::Error);
            }
        }
    }

    fn logic(&mut self, id: Id, index: u16, args: &[Id], types: &[Type]) {
        let mut fine = true;
        for (arg, ty) in args.iter().zip(types) {
            if !self.mapping.assign(ty, &Type::Bool) {
                self.mismatch(self.ast.position(*arg), &Type::Bool, ty);
                fine = false;
            }
        }
        self.set(id, if fine { Type::Bool } else { Type::Error });
        self.references[id.index()] = Reference::Call(index, [0].into());
    }

    /// The type of an element that is only there when it has a value.
    fn unwrapped(&mut self, id: Id) -> Type {
        let ty = self.type_of(id);
        let (inner, is_optional) = ty.unwrap_optional();
        if !is_optional && !matches!(inner, Type::Dyn) {
            self.mismatch(self.ast.position(id), &Type::optional(inner.clone()), inner);
        }
        inner.clone()
    }

    /// The common type of what came before and this.
    fn join(&mut self, before: Option<Type>, ty: Type) -> Type {
        let Some(before) = before else { return ty };
        if self.mapping.assign(&before, &ty) {
            return most_general(&before, &ty);
        }
        // Whether literals may be mixed is another question, see `literals`.
        Type::Dyn
    }

    fn list(&mut self, id: Id, elements: &[Id], optional: &[u32]) {
        let mut common = None;
        for (index, element) in elements.iter().enumerate() {
            self.check(*element);
            let ty = if optional.contains(&(index as u32)) {
                self.unwrapped(*element)
            } else {
                self.type_of(*element)
            };
            common = Some(self.join(common, ty));
        }
        let element = common.unwrap_or_else(|| self.fresh());
        self.set(id, Type::list(element));
    }

    fn map(&mut self, id: Id, entries: &[crate::ast::Entry]) {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(entry.key);
            let key = self.type_of(entry.key);
            keys = Some(self.join(keys, key));
            self.check(entry.value);
            let value = if entry.optional {
                self.unwrapped(entry.value)
            } else {
                self.type_of(entry.value)
            };
            values = Some(self.join(values, value));
        }
        let key = keys.unwrap_or_else(|| self.fresh());
        let value = values.unwrap_or_else(|| self.fresh());
        self.set(id, Type::map(key, value));
    }

    fn structure(&mut self, id: Id, name: &str, fields: &[crate::ast::Initializer]) {
        let name = name.strip_prefix('.').unwrap_or(name);
        if !self.env.can_make(name) {
            if self.env.variable(name).is_some() || named_type(name).is_some() {
                let what = match named_type(name) {
                    Some(_) => "message type",
                    None => "type",
                };
                self.report(self.ast.position(id), format!("'{name}' is not a {what}"));
                self.set(id, Type::Error);
            } else {
                self.undeclared(id, name);
            }
            return;
        }
        self.set(id, Type::object(name));
        for field in fields {
            self.check(field.value);
            let wanted = match self.env.field(name, &field.name).flatten() {
                Some(ty) => ty,
                None => {
                    self.report(field.position, format!("undefined field '{}'", field.name));
                    Type::Error
                }
            };
            let found = if field.optional {
                self.unwrapped(field.value)
            } else {
                self.type_of(field.value)
            };
            if !self.mapping.assign(&wanted, &found) {
                let message = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{found}'",
                    field.name
                );
                self.report(field.position, message);
            }
        }
    }

    fn fold(&mut self, id: Id, fold: &Fold) {
        self.check(fold.range);
        self.check(fold.init);
        let range = self.mapping.substitute(&self.type_of(fold.range), false);
        let accumulated = self.type_of(fold.init);
        let depth = self.scopes.len();
        self.scopes.push((fold.accumulator.clone(), accumulated.clone()));
        let (first, second) = match &range {
            Type::List(element) if fold.second.is_some() => (Type::Int, element.as_ref().clone()),
            Type::List(element) => (element.as_ref().clone(), Type::Dyn),
            Type::Map(entry) => entry.as_ref().clone(),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.mapping.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(self.ast.position(fold.range), message);
                (Type::Error, Type::Error)
            }
        };
        self.scopes.push((fold.variable.clone(), first));
        if let Some(name) = &fold.second {
            self.scopes.push((name.clone(), second));
        }
        self.check(fold.condition);
        self.assert(fold.condition, &Type::Bool);
        self.check(fold.step);
        self.assert(fold.step, &accumulated);
        self.scopes.truncate(depth + 1);
        self.check(fold.result);
        self.scopes.truncate(depth);
        let ty = self.mapping.substitute(&self.type_of(fold.result), false);
        self.set(id, ty);
    }

    fn assert(&mut self, id: Id, wanted: &Type) {
        let found = self.type_of(id);
        if !self.mapping.assign(wanted, &found) {
            self.mismatch(self.ast.position(id), wanted, &found);
        }
    }
}

/// The types to be found in a declared type.
fn params_in(ty: &Type, out: &mut Vec<Param>) {
    match ty {
        Type::Param(param) if !out.contains(param) => out.push(param.clone()),
        Type::List(inner) | Type::Optional(inner) | Type::Type(Some(inner)) => params_in(inner, out),
        Type::Map(entry) => {
            params_in(&entry.0, out);
            params_in(&entry.1, out);
        }
        _ => {}
    }
}
