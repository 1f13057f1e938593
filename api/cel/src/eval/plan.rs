//! From a checked expression to what is evaluated: names become numbers, constants are folded.

use super::charge::{CallCost, call_cost};
use crate::ast::{ACCUMULATOR, Fold, Id, Literal, Node, op};
use crate::check::{Checked, Reference};
use crate::error::{EvalError, Result};
use crate::eval::NoAuthorizations;
use crate::library::{function, function_at};
use crate::value::{List, Text, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// A part of a [`Program`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Part(u32);

impl Part {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is evaluated. Small, immutable and free to share.
#[derive(Debug)]
pub struct Program {
    pub(super) ops: Box<[Op]>,
    pub(super) root: Part,
    pub(super) locals: u16,
    pub(super) variables: Box<[Box<str>]>,
    /// A constant that can't be converted; evaluating ends with it at once.
    pub(super) broken: Option<EvalError>,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) function: u16,
    pub(super) overloads: Box<[u8]>,
    pub(super) args: Box<[Part]>,
    pub(super) cost: CallCost,
}

#[derive(Debug)]
pub(super) struct FoldOp {
    pub(super) range: Part,
    pub(super) variable: u16,
    pub(super) second: Option<u16>,
    pub(super) accumulator: u16,
    pub(super) init: Part,
    pub(super) condition: Part,
    pub(super) step: Part,
    pub(super) result: Part,
    /// Whether what goes wrong in one turn may be made good by another.
    pub(super) tolerant: bool,
}

#[derive(Debug)]
pub(super) enum Op {
    Const(Value<'static>),
    Variable(u16),
    Local(u16),
    /// `fresh`: the operand is computed and not named, which costs one more.
    Select {
        operand: Part,
        field: Box<str>,
        fresh: bool,
    },
    Has {
        operand: Part,
        field: Box<str>,
        fresh: bool,
    },
    OptSelect {
        operand: Part,
        field: Box<str>,
        fresh: bool,
    },
    Index {
        operand: Part,
        index: Part,
        fresh: bool,
    },
    OptIndex {
        operand: Part,
        index: Part,
        fresh: bool,
    },
    And(Part, Part),
    Or(Part, Part),
    NotStrictlyFalse(Part),
    Conditional {
        condition: Part,
        yes: Part,
        no: Part,
        /// Whether the branches cost one less than alone.
        discounts: [bool; 2],
    },
    /// Whether a value is in a constant list, which costs nothing.
    InConst(Part, Box<[Value<'static>]>),
    OptOr(Part, Part),
    OptOrValue(Part, Part),
    Call(Call),
    /// `accumulator + [element]`
    Append {
        slot: u16,
        element: Part,
    },
    /// `cel.@mapInsert(accumulator, ...)`
    Insert {
        slot: u16,
        args: Box<[Part]>,
    },
    List {
        elements: Box<[Part]>,
        optional: Box<[u32]>,
    },
    Map(Box<[(Part, Part, bool)]>),
    Struct {
        name: Arc<str>,
        fields: Box<[(Arc<str>, Part, bool)]>,
    },
    Fold(Box<FoldOp>),
    Bind {
        slot: u16,
        value: Part,
        result: Part,
    },
}

impl Program {
    pub(crate) fn new(checked: &Checked) -> Self {
        let mut planner = Planner {
            checked,
            ops: Vec::with_capacity(checked.ast.nodes.len()),
            done: HashMap::default(),
            scopes: Vec::new(),
            locals: 0,
            variables: Vec::new(),
            broken: None,
        };
        let root = planner.plan(checked.ast.root);
        Self {
            ops: planner.ops.into(),
            root,
            locals: planner.locals,
            variables: planner.variables.into(),
            broken: planner.broken,
        }
    }

    /// What an index costs on top of its own evaluation, and whether it is a constant. A name costs nothing more.
    pub(super) fn index_cost(&self, index: Part) -> (u64, bool) {
        match &self.ops[index.index()] {
            Op::Const(_) => (1, true),
            Op::Variable(_)
            | Op::Local(_)
            | Op::Select { .. }
            | Op::OptSelect { .. }
            | Op::Index { .. }
            | Op::OptIndex { .. } => (0, false),
            _ => (1, false),
        }
    }

    /// What is wrong with a constant, if something is.
    pub fn broken(&self) -> Option<&EvalError> {
        self.broken.as_ref()
    }
}

struct Planner<'c> {
    checked: &'c Checked,
    ops: Vec<Op>,
    done: HashMap<Id, Part, ahash::RandomState>,
    scopes: Vec<(Box<str>, u16)>,
    locals: u16,
    variables: Vec<Box<str>>,
    broken: Option<EvalError>,
}

impl Planner<'_> {
    fn add(&mut self, op: Op) -> Part {
        self.ops.push(op);
        Part(self.ops.len() as u32 - 1)
    }

    fn constant(&self, part: Part) -> Option<&Value<'static>> {
        match &self.ops[part.index()] {
            Op::Const(value) => Some(value),
            _ => None,
        }
    }

    fn plan(&mut self, id: Id) -> Part {
        if let Some(done) = self.done.get(&id) {
            return *done;
        }
        let part = self.plan_new(id);
        self.done.insert(id, part);
        part
    }

    fn all(&mut self, ids: &[Id]) -> Box<[Part]> {
        ids.iter().map(|id| self.plan(*id)).collect()
    }

    fn plan_new(&mut self, id: Id) -> Part {
        let checked = self.checked;
        match &checked.references[id.index()] {
            Reference::Variable(index) => {
                let name = checked.ast.qualified_name(id).unwrap_or_default();
                let at = usize::from(*index);
                if self.variables.len() <= at {
                    self.variables.resize(at + 1, Box::default());
                }
                self.variables[at] = name.trim_start_matches('.').into();
                return self.add(Op::Variable(*index));
            }
            Reference::Type(name) => {
                let name = Value::Type(Text::Shared(name.as_ref().into()));
                return self.add(Op::Const(name));
            }
            _ => {}
        }
        match checked.ast.node(id) {
            Node::Literal(literal) => self.add(Op::Const(literal_value(literal))),
            Node::Ident(name) => {
                let known = self.scopes.iter().rev().find(|(known, _)| known == name);
                let slot = known.map_or(0, |(_, slot)| *slot);
                self.add(Op::Local(slot))
            }
            Node::Select { operand, field, test } => {
                let (operand, fresh) = self.operand(*operand);
                let field = field.clone();
                self.add(if *test {
                    Op::Has {
                        operand,
                        field,
                        fresh,
                    }
                } else {
                    Op::Select {
                        operand,
                        field,
                        fresh,
                    }
                })
            }
            Node::Call {
                function,
                target,
                args,
            } => self.call(id, function, *target, args),
            Node::List { elements, optional } => {
                let parts = self.all(elements);
                let values: Option<Vec<_>> = parts.iter().map(|part| self.constant(*part).cloned()).collect();
                match values {
                    Some(values) if optional.is_empty() => self.add(Op::Const(Value::list(values))),
                    _ => self.add(Op::List {
                        elements: parts,
                        optional: optional.clone(),
                    }),
                }
            }
            Node::Map(entries) => self.map(entries),
            Node::Struct { name, fields } => {
                let name = name.trim_start_matches('.').into();
                let fields = fields
                    .iter()
                    .map(|field| (field.name.as_ref().into(), self.plan(field.value), field.optional))
                    .collect();
                self.add(Op::Struct { name, fields })
            }
            Node::Fold(fold) => self.fold(fold),
        }
    }

    /// What something is selected from, and whether it is computed rather than named.
    fn operand(&mut self, id: Id) -> (Part, bool) {
        let part = self.plan(id);
        (part, !self.is_attribute(part))
    }

    fn is_attribute(&self, part: Part) -> bool {
        matches!(
            self.ops[part.index()],
            Op::Variable(_)
                | Op::Local(_)
                | Op::Select { .. }
                | Op::OptSelect { .. }
                | Op::Index { .. }
                | Op::OptIndex { .. }
                | Op::Conditional { .. }
        )
    }

    /// Whether a part is a name, or selected from one, at whose root no condition stands.
    fn is_discounted(&self, part: Part) -> bool {
        match &self.ops[part.index()] {
            Op::Variable(_) | Op::Local(_) => true,
            Op::Select { operand, fresh, .. }
            | Op::OptSelect { operand, fresh, .. }
            | Op::Index { operand, fresh, .. }
            | Op::OptIndex { operand, fresh, .. } => *fresh || self.is_discounted(*operand),
            _ => false,
        }
    }

    fn map(&mut self, entries: &[crate::ast::Entry]) -> Part {
        let parts: Vec<_> = entries
            .iter()
            .map(|entry| (self.plan(entry.key), self.plan(entry.value), entry.optional))
            .collect();
        let whole = self.add(Op::Map(parts.clone().into()));
        let constant = |part: Part| self.constant(part).is_some();
        if parts
            .iter()
            .any(|(key, value, optional)| *optional || !constant(*key) || !constant(*value))
        {
            return whole;
        }
        match self.value_of(whole) {
            Ok(value) => self.add(Op::Const(value)),
            Err(_) => whole,
        }
    }

    /// The value of a part that needs no variables.
    fn value_of(&mut self, part: Part) -> Result<Value<'static>> {
        let program = Program {
            ops: std::mem::take(&mut self.ops).into(),
            root: part,
            locals: 0,
            variables: Box::default(),
            broken: None,
        };
        let outcome = program.evaluate(&[], &NoAuthorizations, u64::MAX);
        self.ops = program.ops.into();
        outcome.value
    }

    fn call(&mut self, id: Id, name: &str, target: Option<Id>, args: &[Id]) -> Part {
        match (name, args) {
            (op::OPT_SELECT, [operand, field]) => {
                let (operand, fresh) = self.operand(*operand);
                let field = match self.checked.ast.node(*field) {
                    Node::Literal(Literal::String(field)) => field.clone(),
                    _ => Box::default(),
                };
                return self.add(Op::OptSelect {
                    operand,
                    field,
                    fresh,
                });
            }
            (op::INDEX | op::OPT_INDEX, [operand, index]) => {
                let (operand, fresh) = self.operand(*operand);
                let index = self.plan(*index);
                return self.add(if name == op::INDEX {
                    Op::Index {
                        operand,
                        index,
                        fresh,
                    }
                } else {
                    Op::OptIndex {
                        operand,
                        index,
                        fresh,
                    }
                });
            }
            (op::AND, [left, right]) => {
                let (left, right) = (self.plan(*left), self.plan(*right));
                return self.add(Op::And(left, right));
            }
            (op::OR, [left, right]) => {
                let (left, right) = (self.plan(*left), self.plan(*right));
                return self.add(Op::Or(left, right));
            }
            (op::NOT_STRICTLY_FALSE, [operand]) => {
                let operand = self.plan(*operand);
                return self.add(Op::NotStrictlyFalse(operand));
            }
            (op::CONDITIONAL, [condition, yes, no]) => {
                let (condition, yes, no) = (self.plan(*condition), self.plan(*yes), self.plan(*no));
                let discounts = [self.is_discounted(yes), self.is_discounted(no)];
                return self.add(Op::Conditional {
                    condition,
                    yes,
                    no,
                    discounts,
                });
            }
            _ => {}
        }
        let Reference::Call(function, overloads) = &self.checked.references[id.index()] else {
            return self.add(Op::Const(Value::Null));
        };
        let declared = function_at(*function);
        let args: Box<[Part]> = target.iter().chain(args).map(|id| self.plan(*id)).collect();
        if let ("or" | "orValue", Some(_), [left, right]) = (declared.name, target, &*args) {
            let (left, right) = (*left, *right);
            return self.add(if declared.name == "or" {
                Op::OptOr(left, right)
            } else {
                Op::OptOrValue(left, right)
            });
        }
        if declared.name == op::IN
            && let [operand, list] = &*args
            && let Some(Value::List(List::Made(items, None))) = self.constant(*list)
        {
            let items = items.as_slice().into();
            return self.add(Op::InConst(*operand, items));
        }
        let cost = match &**overloads {
            [only] => call_cost(declared.name, declared.overloads[usize::from(*only)].id),
            _ => call_cost(declared.name, ""),
        };
        let converts = is_conversion(declared.name) && args.len() == 1 && self.constant(args[0]).is_some();
        let part = self.add(Op::Call(Call {
            function: *function,
            overloads: overloads.clone(),
            args,
            cost,
        }));
        if !converts {
            return part;
        }
        match self.value_of(part) {
            Ok(value) => self.add(Op::Const(value)),
            Err(error) => {
                self.broken.get_or_insert(error);
                part
            }
        }
    }

    fn slot(&mut self, name: &str) -> u16 {
        let slot = self.locals;
        self.locals += 1;
        self.scopes.push((name.into(), slot));
        slot
    }

    fn fold(&mut self, fold: &Fold) -> Part {
        let depth = self.scopes.len();
        if self.checked.ast.is_binding(fold) {
            let value = self.plan(fold.init);
            let slot = self.slot(&fold.accumulator);
            let result = self.plan(fold.result);
            self.scopes.truncate(depth);
            return self.add(Op::Bind { slot, value, result });
        }
        let (range, init) = (self.plan(fold.range), self.plan(fold.init));
        let accumulator = self.slot(&fold.accumulator);
        let variable = self.slot(&fold.variable);
        let second = fold.second.as_ref().map(|name| self.slot(name));
        let condition = self.plan(fold.condition);
        let step = self.step(fold.step, accumulator);
        self.scopes.truncate(depth + 1);
        let result = self.plan(fold.result);
        self.scopes.truncate(depth);
        let tolerant = matches!(self.ops[condition.index()], Op::NotStrictlyFalse(_));
        self.add(Op::Fold(Box::new(FoldOp {
            range,
            variable,
            second,
            accumulator,
            init,
            condition,
            step,
            result,
            tolerant,
        })))
    }

    /// What a loop does each turn; growing what it gathers is done in place.
    fn step(&mut self, id: Id, accumulator: u16) -> Part {
        let checked = self.checked;
        let Node::Call { function, args, .. } = checked.ast.node(id) else {
            return self.plan(id);
        };
        let is_accumulator =
            |id: Id| matches!(checked.ast.node(id), Node::Ident(name) if name.as_ref() == ACCUMULATOR);
        match (function.as_ref(), &**args) {
            (op::ADD, [so_far, list]) if is_accumulator(*so_far) => match checked.ast.node(*list) {
                Node::List { elements, optional } if optional.is_empty() && elements.len() == 1 => {
                    let element = self.plan(elements[0]);
                    self.add(Op::Append {
                        slot: accumulator,
                        element,
                    })
                }
                _ => self.plan(id),
            },
            (op::MAP_INSERT, [so_far, rest @ ..]) if is_accumulator(*so_far) => {
                let args = self.all(rest);
                self.add(Op::Insert {
                    slot: accumulator,
                    args,
                })
            }
            (op::CONDITIONAL, [condition, grown, so_far]) if is_accumulator(*so_far) => {
                let condition = self.plan(*condition);
                let yes = self.step(*grown, accumulator);
                let no = self.plan(*so_far);
                let discounts = [self.is_discounted(yes), self.is_discounted(no)];
                self.add(Op::Conditional {
                    condition,
                    yes,
                    no,
                    discounts,
                })
            }
            _ => self.plan(id),
        }
    }
}

/// The functions whose calls with constants are done once.
fn is_conversion(name: &str) -> bool {
    matches!(
        name,
        "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "type" | "uint"
    ) && function(name).is_some()
}

fn literal_value(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(n) => Value::Int(*n),
        Literal::Uint(n) => Value::Uint(*n),
        Literal::Double(d) => Value::Double(*d),
        Literal::String(text) => Value::String(Text::Shared(text.as_ref().into())),
        Literal::Bytes(bytes) => Value::Bytes(bytes.as_ref().into()),
    }
}
