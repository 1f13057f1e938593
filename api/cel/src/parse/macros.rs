//! The macros: calls that become loops, presence tests and bindings.

use super::{Parsed, Parser};
use crate::ast::{ACCUMULATOR, Fold, Id, Literal, Node, op};
use crate::source::Position;

/// What a quantifier asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    All,
    Exists,
    ExistsOne,
}

impl Parser<'_> {
    /// What a call becomes when it is a macro's.
    pub(super) fn expand(
        &mut self,
        at: Position,
        name: &str,
        target: Option<Id>,
        args: &[Id],
    ) -> Parsed<Option<Id>> {
        let Some(target) = target else {
            return match (name, args) {
                ("has", [field]) => self.has(at, *field).map(Some),
                _ => Ok(None),
            };
        };
        let expanded = match (name, args) {
            ("all", [v, p]) => self.quantifier(at, Quantifier::All, target, *v, None, *p),
            ("exists", [v, p]) => self.quantifier(at, Quantifier::Exists, target, *v, None, *p),
            ("exists_one" | "existsOne", [v, p]) => {
                self.quantifier(at, Quantifier::ExistsOne, target, *v, None, *p)
            }
            ("all", [v, w, p]) => self.quantifier(at, Quantifier::All, target, *v, Some(*w), *p),
            ("exists", [v, w, p]) => self.quantifier(at, Quantifier::Exists, target, *v, Some(*w), *p),
            ("exists_one" | "existsOne", [v, w, p]) => {
                self.quantifier(at, Quantifier::ExistsOne, target, *v, Some(*w), *p)
            }
            ("map", [v, f]) => self.map(at, target, *v, None, *f),
            ("map", [v, p, f]) => self.map(at, target, *v, Some(*p), *f),
            ("filter", [v, p]) => self.filter(at, target, *v, *p),
            ("transformList", [v, w, f]) => self.transform_list(at, target, [*v, *w], None, *f),
            ("transformList", [v, w, p, f]) => self.transform_list(at, target, [*v, *w], Some(*p), *f),
            ("transformMap", [v, w, f]) => self.transform_map(at, target, [*v, *w], None, *f, true),
            ("transformMap", [v, w, p, f]) => self.transform_map(at, target, [*v, *w], Some(*p), *f, true),
            ("transformMapEntry", [v, w, f]) => self.transform_map(at, target, [*v, *w], None, *f, false),
            ("transformMapEntry", [v, w, p, f]) => {
                self.transform_map(at, target, [*v, *w], Some(*p), *f, false)
            }
            ("optMap", [v, f]) => self.opt_map(at, target, *v, *f, "optMap"),
            ("optFlatMap", [v, f]) => self.opt_map(at, target, *v, *f, "optFlatMap"),
            ("sortBy", [v, f]) => self.sort_by(at, target, *v, *f),
            ("bind", [v, value, f]) if self.bindings && self.is_ident(target, "cel") => {
                match self.binding(*v) {
                    Some(name) => self.bind(at, &name, *value, *f),
                    None => self.report(
                        self.positions[v.index()],
                        "cel.bind() variable names must be simple identifiers",
                    ),
                }
            }
            _ => return Ok(None),
        };
        expanded.map(Some)
    }

    fn has(&mut self, at: Position, field: Id) -> Parsed {
        match self.nodes[field.index()].clone() {
            Node::Select { operand, field, .. } => {
                let test = true;
                self.add(at, Node::Select { operand, field, test })
            }
            _ => {
                let position = self.positions[field.index()];
                self.report(position, "invalid argument to has() macro")
            }
        }
    }

    /// The name that an argument spells, or what is wrong with it.
    fn variable(&mut self, id: Id, otherwise: &str) -> Result<Box<str>, Parsed> {
        let position = self.positions[id.index()];
        match &self.nodes[id.index()] {
            Node::Ident(name) if matches!(name.as_ref(), "__result__" | ACCUMULATOR) => {
                Err(self.report(position, "iteration variable overwrites accumulator variable"))
            }
            Node::Ident(name) => Ok(name.clone()),
            _ => Err(self.report(position, otherwise.to_owned())),
        }
    }

    fn variables(&mut self, [first, second]: [Id; 2]) -> Result<(Box<str>, Box<str>), Parsed> {
        const SIMPLE: &str = "argument must be a simple name";
        let (a, b) = (self.variable(first, SIMPLE)?, self.variable(second, SIMPLE)?);
        if a == b {
            let position = self.positions[second.index()];
            return Err(self.report(position, format!("duplicate variable name: {a}")));
        }
        Ok((a, b))
    }

    fn quantifier(
        &mut self,
        at: Position,
        kind: Quantifier,
        range: Id,
        variable: Id,
        second: Option<Id>,
        predicate: Id,
    ) -> Parsed {
        let names = match second {
            None => self
                .variable(variable, "argument must be a simple name")
                .map(|v| (v, None)),
            Some(second) => self.variables([variable, second]).map(|(v, w)| (v, Some(w))),
        };
        let (variable, second) = match names {
            Ok(names) => names,
            Err(reported) => return reported,
        };
        let start = match kind {
            Quantifier::All => Literal::Bool(true),
            Quantifier::Exists => Literal::Bool(false),
            Quantifier::ExistsOne => Literal::Int(0),
        };
        let init = self.literal(at, start)?;
        let (condition, step, result);
        match kind {
            Quantifier::All => {
                let so_far = self.ident(at, ACCUMULATOR)?;
                condition = self.call(at, op::NOT_STRICTLY_FALSE, &[so_far])?;
                let so_far = self.ident(at, ACCUMULATOR)?;
                step = self.call(at, op::AND, &[so_far, predicate])?;
                result = self.ident(at, ACCUMULATOR)?;
            }
            Quantifier::Exists => {
                let so_far = self.ident(at, ACCUMULATOR)?;
                let not = self.call(at, op::NOT, &[so_far])?;
                condition = self.call(at, op::NOT_STRICTLY_FALSE, &[not])?;
                let so_far = self.ident(at, ACCUMULATOR)?;
                step = self.call(at, op::OR, &[so_far, predicate])?;
                result = self.ident(at, ACCUMULATOR)?;
            }
            Quantifier::ExistsOne => {
                condition = self.literal(at, Literal::Bool(true))?;
                let (so_far, one) = (self.ident(at, ACCUMULATOR)?, self.literal(at, Literal::Int(1))?);
                let more = self.call(at, op::ADD, &[so_far, one])?;
                let so_far = self.ident(at, ACCUMULATOR)?;
                step = self.call(at, op::CONDITIONAL, &[predicate, more, so_far])?;
                let (so_far, one) = (self.ident(at, ACCUMULATOR)?, self.literal(at, Literal::Int(1))?);
                result = self.call(at, op::EQUALS, &[so_far, one])?;
            }
        }
        let fold = Fold {
            range,
            variable,
            second,
            accumulator: ACCUMULATOR.into(),
            init,
            condition,
            step,
            result,
        };
        self.fold(at, fold)
    }

    /// A loop without an end of its own; `step` may be taken only where `filter` holds.
    fn gather(
        &mut self,
        at: Position,
        range: Id,
        variables: (Box<str>, Option<Box<str>>),
        init: Id,
        filter: Option<Id>,
        step: Id,
    ) -> Parsed {
        let step = match filter {
            None => step,
            Some(filter) => {
                let so_far = self.ident(at, ACCUMULATOR)?;
                self.call(at, op::CONDITIONAL, &[filter, step, so_far])?
            }
        };
        let condition = self.literal(at, Literal::Bool(true))?;
        let result = self.ident(at, ACCUMULATOR)?;
        let fold = Fold {
            range,
            variable: variables.0,
            second: variables.1,
            accumulator: ACCUMULATOR.into(),
            init,
            condition,
            step,
            result,
        };
        self.fold(at, fold)
    }

    /// `so far + [element]`
    fn append(&mut self, at: Position, element: Id) -> Parsed {
        let (so_far, one) = (self.ident(at, ACCUMULATOR)?, self.list(at, &[element])?);
        self.call(at, op::ADD, &[so_far, one])
    }

    fn map(&mut self, at: Position, range: Id, variable: Id, filter: Option<Id>, transform: Id) -> Parsed {
        let variable = match self.variable(variable, "argument is not an identifier") {
            Ok(variable) => variable,
            Err(reported) => return reported,
        };
        let init = self.list(at, &[])?;
        let step = self.append(at, transform)?;
        self.gather(at, range, (variable, None), init, filter, step)
    }

    fn filter(&mut self, at: Position, range: Id, variable: Id, predicate: Id) -> Parsed {
        let name = match self.variable(variable, "argument is not an identifier") {
            Ok(name) => name,
            Err(reported) => return reported,
        };
        let init = self.list(at, &[])?;
        let step = self.append(at, variable)?;
        self.gather(at, range, (name, None), init, Some(predicate), step)
    }

    fn transform_list(
        &mut self,
        at: Position,
        range: Id,
        variables: [Id; 2],
        filter: Option<Id>,
        transform: Id,
    ) -> Parsed {
        let (first, second) = match self.variables(variables) {
            Ok(names) => names,
            Err(reported) => return reported,
        };
        let init = self.list(at, &[])?;
        let step = self.append(at, transform)?;
        self.gather(at, range, (first, Some(second)), init, filter, step)
    }

    fn transform_map(
        &mut self,
        at: Position,
        range: Id,
        variables: [Id; 2],
        filter: Option<Id>,
        transform: Id,
        keyed: bool,
    ) -> Parsed {
        let (first, second) = match self.variables(variables) {
            Ok(names) => names,
            Err(reported) => return reported,
        };
        let init = self.add(at, Node::Map(Box::default()))?;
        let so_far = self.ident(at, ACCUMULATOR)?;
        let step = if keyed {
            let key = self.ident(at, &first)?;
            self.call(at, op::MAP_INSERT, &[so_far, key, transform])?
        } else {
            self.call(at, op::MAP_INSERT, &[so_far, transform])?
        };
        self.gather(at, range, (first, Some(second)), init, filter, step)
    }

    /// Gives a value a name: a loop over nothing whose accumulator is the value.
    fn bind(&mut self, at: Position, name: &str, value: Id, result: Id) -> Parsed {
        let range = self.list(at, &[])?;
        let condition = self.literal(at, Literal::Bool(false))?;
        let step = self.ident(at, name)?;
        let fold = Fold {
            range,
            variable: "#unused".into(),
            second: None,
            accumulator: name.into(),
            init: value,
            condition,
            step,
            result,
        };
        self.fold(at, fold)
    }

    fn is_ident(&self, id: Id, name: &str) -> bool {
        matches!(&self.nodes[id.index()], Node::Ident(found) if **found == *name)
    }

    /// The name that a macro is told to give to a value.
    fn binding(&self, variable: Id) -> Option<Box<str>> {
        match &self.nodes[variable.index()] {
            Node::Ident(name) => Some(name.clone()),
            _ => None,
        }
    }

    fn opt_map(&mut self, at: Position, target: Id, variable: Id, transform: Id, name: &str) -> Parsed {
        let Some(variable) = self.binding(variable) else {
            let position = self.positions[variable.index()];
            return self.report(
                position,
                format!("{name}() variable name must be a simple identifier"),
            );
        };
        let present = self.member_call(at, "hasValue", target, &[])?;
        let value = self.member_call(at, "value", target, &[])?;
        let mut mapped = self.bind(at, &variable, value, transform)?;
        if name == "optMap" {
            mapped = self.call(at, "optional.of", &[mapped])?;
        }
        let none = self.call(at, "optional.none", &[])?;
        self.call(at, op::CONDITIONAL, &[present, mapped, none])
    }

    fn sort_by(&mut self, at: Position, target: Id, variable: Id, key: Id) -> Parsed {
        const INPUT: &str = "@__sortBy_input__";
        let position = self.positions[target.index()];
        if !matches!(
            self.nodes[target.index()],
            Node::List { .. } | Node::Select { .. } | Node::Ident(_) | Node::Fold(_) | Node::Call { .. }
        ) {
            return self.report(
                position,
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression",
            );
        }
        let input = self.ident(at, INPUT)?;
        let keys = self.map(at, input, variable, None, key)?;
        let input = self.ident(at, INPUT)?;
        let sorted = self.member_call(at, "@sortByAssociatedKeys", input, &[keys])?;
        self.bind(at, INPUT, target, sorted)
    }
}
