//! What an expression costs at most, before anything is known but its types and how large things can be.
//!
//! A unit is about 50 ns. The numbers decide which rules a CustomResourceDefinition may hold, so they are exactly upstream's,
//! oddities included.

mod calls;

pub(crate) use calls::{ordered_texts, selector};

use crate::ast::{Fold, Id, Literal, Node, op};
use crate::check::{Checked, Reference};
use crate::library::function_at;
use crate::schema::Schema;
use crate::types::Type;
use std::collections::HashMap;

/// The least and the most of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// At least.
    pub min: u64,
    /// At most.
    pub max: u64,
}

impl Estimate {
    pub(crate) const UNKNOWN: Self = Self {
        min: 0,
        max: u64::MAX,
    };

    pub(crate) fn of(n: u64) -> Self {
        Self { min: n, max: n }
    }

    fn each(self, other: Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            min: f(self.min, other.min),
            max: f(self.max, other.max),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    pub(crate) fn times(self, other: Self) -> Self {
        self.each(other, u64::saturating_mul)
    }

    /// Times a factor, rounded up.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        let scale = |n: u64| {
            let product = (n as f64 * factor).ceil();
            if product >= 18_446_744_073_709_551_616.0 {
                u64::MAX
            } else {
                product as u64
            }
        };
        Self {
            min: scale(self.min),
            max: scale(self.max),
        }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// The share of a unit that one character costs.
pub(crate) const PER_CHARACTER: f64 = 0.1;
/// The share of a unit that one character of a pattern costs.
pub(crate) const PER_PATTERN_CHARACTER: f64 = 0.25;
pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const STRUCT: u64 = 40;
/// What asking for a right costs: two fit into an expression.
pub(crate) const AUTHORIZATION: u64 = 350_000;

/// Knows how large values can be.
pub trait SizeEstimator {
    /// How large the value at a path can be: a variable, then fields, `@items`, `@keys` and `@values`.
    fn size(&self, path: &[String]) -> Option<Estimate>;
}

/// Knows nothing.
#[derive(Clone, Copy, Debug)]
pub struct UnknownSizes;

impl SizeEstimator for UnknownSizes {
    fn size(&self, _path: &[String]) -> Option<Estimate> {
        None
    }
}

impl SizeEstimator for Schema {
    fn size(&self, path: &[String]) -> Option<Estimate> {
        let mut here = self;
        for name in path.get(1..)? {
            if name == "@keys" {
                // Keys are texts of any length.
                if !matches!(here.ty(), Type::Map(_)) {
                    return None;
                }
                return Some(Estimate { min: 0, max: 0 });
            }
            here = match name.as_str() {
                "@items" | "@values" => here.elements()?,
                name => &here.field(name)?.schema,
            };
        }
        if path.is_empty() {
            return None;
        }
        Some(Estimate {
            min: 0,
            max: u64::try_from(here.max_elements).unwrap_or_default(),
        })
    }
}

/// What an expression costs.
pub(crate) fn estimate(checked: &Checked, sizes: &dyn SizeEstimator) -> Estimate {
    let count = checked.ast.nodes.len();
    let mut coster = Coster {
        checked,
        sizes,
        paths: vec![None; count],
        known: HashMap::default(),
        entries: HashMap::default(),
        locals: Vec::new(),
        costs: vec![None; count],
    };
    coster.cost(checked.ast.root)
}

type Path = Vec<String>;

/// How large the keys and the values of a list or a map are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EntrySize {
    list: bool,
    key: Estimate,
    value: Estimate,
}

impl EntrySize {
    fn union(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let (a, b) = (a?, b?);
        Some(Self {
            list: a.list,
            key: a.key.union(b.key),
            value: a.value.union(b.value),
        })
    }
}

/// A variable of a loop or a binding.
struct Local {
    name: Box<str>,
    path: Path,
    size: Option<Estimate>,
    entry: Option<EntrySize>,
}

/// What is known about an argument of a call.
struct Argument {
    id: Option<Id>,
    path: Path,
    ty: Type,
    /// Computed from the expression itself.
    size: Option<Estimate>,
}

/// What a call costs, and how large its result is.
struct CallEstimate {
    cost: Estimate,
    size: Option<Estimate>,
}

struct Coster<'c> {
    checked: &'c Checked,
    sizes: &'c dyn SizeEstimator,
    paths: Vec<Option<Path>>,
    known: HashMap<Id, Estimate, ahash::RandomState>,
    entries: HashMap<Id, EntrySize, ahash::RandomState>,
    locals: Vec<Local>,
    costs: Vec<Option<Estimate>>,
}

impl Coster<'_> {
    fn ty(&self, id: Id) -> &Type {
        &self.checked.types[id.index()]
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| *local.name == *name)
    }

    fn cost(&mut self, id: Id) -> Estimate {
        // Macros may use a part twice; it costs the same each time.
        if let Some(cost) = self.costs[id.index()] {
            return cost;
        }
        let checked = self.checked;
        let cost = match checked.ast.node(id) {
            Node::Literal(_) => Estimate::default(),
            Node::Ident(name) => self.ident(id, name),
            Node::Select { operand, field, test } => self.select(id, *operand, field, *test),
            Node::Call {
                function,
                target,
                args,
            } => self.call(id, function, *target, args),
            Node::List { elements, .. } => self.list(id, elements),
            Node::Map(entries) => self.map(id, entries),
            Node::Struct { fields, .. } => {
                let sum = fields
                    .iter()
                    .fold(Estimate::default(), |sum, f| sum.plus(self.cost(f.value)));
                sum.plus(Estimate::of(STRUCT))
            }
            Node::Fold(fold) if checked.ast.is_binding(fold) => self.binding(id, fold),
            Node::Fold(fold) => self.fold(id, fold),
        };
        self.costs[id.index()] = Some(cost);
        cost
    }

    fn ident(&mut self, id: Id, name: &str) -> Estimate {
        let path = match self.local(name) {
            Some(local) => local.path.clone(),
            None => vec![name.to_owned()],
        };
        self.paths[id.index()] = Some(path);
        Estimate::of(1)
    }

    fn select(&mut self, id: Id, operand: Id, field: &str, test: bool) -> Estimate {
        if let Reference::Variable(_) | Reference::Type(_) = self.checked.references[id.index()] {
            let name = self.checked.ast.qualified_name(id).unwrap_or_default();
            return self.ident(id, &name);
        }
        let mut sum = self.cost(operand);
        if test {
            return sum;
        }
        if matches!(self.ty(operand), Type::Map(_) | Type::Struct(_) | Type::Param(_)) {
            sum = sum.plus(Estimate::of(1));
        }
        self.extend(id, operand, field);
        sum
    }

    /// The path of a part is that of another one and a name.
    fn extend(&mut self, id: Id, base: Id, name: &str) {
        let mut path = self.path(base);
        path.push(name.to_owned());
        self.paths[id.index()] = Some(path);
    }

    fn path(&self, id: Id) -> Path {
        if let Node::Ident(name) = self.checked.ast.node(id)
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths[id.index()].clone().unwrap_or_default()
    }

    fn argument(&mut self, id: Id) -> Argument {
        let path = self.path(id);
        Argument {
            id: Some(id),
            path,
            ty: self.ty(id).clone(),
            size: self.size(id),
        }
    }

    /// How large a part is, as far as it can be told.
    fn size(&mut self, id: Id) -> Option<Estimate> {
        if let Some(known) = self.known.get(&id) {
            return Some(*known);
        }
        let written = match self.checked.ast.node(id) {
            Node::Literal(Literal::String(text)) => Some(text.chars().count()),
            Node::Literal(Literal::Bytes(bytes)) => Some(bytes.len()),
            Node::Literal(_) => Some(1),
            Node::List { elements, .. } => Some(elements.len()),
            Node::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(written) = written {
            return Some(Estimate::of(written as u64));
        }
        let path = self.path(id);
        if let Some(size) = self.sizes.size(&path) {
            self.known.insert(id, size);
            return Some(size);
        }
        if self.ty(id).is_scalar() {
            return Some(Estimate::of(1));
        }
        match self.checked.ast.node(id) {
            Node::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, id: Id) -> Estimate {
        self.size(id).unwrap_or(Estimate::UNKNOWN)
    }

    fn entry(&self, id: Id) -> Option<EntrySize> {
        if let Some(entry) = self.entries.get(&id) {
            return Some(*entry);
        }
        match self.checked.ast.node(id) {
            Node::Ident(name) => self.local(name).and_then(|local| local.entry),
            _ => None,
        }
    }

    fn set_size(&mut self, id: Id, size: Option<Estimate>) {
        if let Some(size) = size {
            self.known.insert(id, size);
        }
    }

    fn set_entry(&mut self, id: Id, entry: Option<EntrySize>) {
        if let Some(entry) = entry {
            self.entries.insert(id, entry);
        }
    }

    /// `to` is as large as `from`.
    fn copy_sizes(&mut self, to: Id, from: Id) {
        let size = self.size(from);
        self.set_size(to, size);
        self.set_entry(to, self.entry(from));
    }

    fn call(&mut self, id: Id, name: &str, target: Option<Id>, args: &[Id]) -> Estimate {
        if name == "dyn"
            && let [arg] = args
        {
            let cost = self.cost(*arg);
            self.copy_sizes(id, *arg);
            return cost.plus(Estimate::of(1));
        }
        let mut costs = Vec::with_capacity(args.len());
        let mut arguments = Vec::with_capacity(args.len());
        for arg in args {
            costs.push(self.cost(*arg));
            arguments.push(self.argument(*arg));
        }
        let ids: Vec<&'static str> = if name == op::OPT_SELECT {
            vec!["select_optional_field"]
        } else {
            match &self.checked.references[id.index()] {
                Reference::Call(function, overloads) => {
                    let function = function_at(*function);
                    overloads
                        .iter()
                        .map(|o| function.overloads[usize::from(*o)].id)
                        .collect()
                }
                _ => return Estimate::default(),
            }
        };
        let mut sum = Estimate::default();
        let target = target.map(|target| {
            sum = self.cost(target);
            self.argument(target)
        });
        let mut cost = Estimate {
            min: u64::MAX,
            max: 0,
        };
        let mut size: Option<Estimate> = None;
        for overload in ids {
            let call = self.function(id, name, overload, target.as_ref(), &arguments, &costs);
            cost = cost.union(call.cost);
            if let Some(this) = call.size {
                size = Some(size.map_or(this, |before| before.union(this)));
            }
            if let (Some(arg), "index_list" | "index_map") = (args.first(), overload) {
                size = self.entry(*arg).map(|entry| entry.value);
                self.extend(
                    id,
                    *arg,
                    if overload == "index_list" {
                        "@items"
                    } else {
                        "@values"
                    },
                );
            }
            if size.is_none() {
                size = self.size(id);
            }
        }
        self.set_size(id, size);
        sum.plus(cost)
    }

    fn list(&mut self, id: Id, elements: &[Id]) -> Estimate {
        let mut sum = Estimate::default();
        let mut value = Estimate {
            min: u64::MAX,
            max: 0,
        };
        if elements.is_empty() {
            value.min = 0;
        }
        for element in elements {
            sum = sum.plus(self.cost(*element));
            value = value.union(self.size_or_unknown(*element));
        }
        let key = Estimate::of(1);
        self.set_entry(
            id,
            Some(EntrySize {
                list: true,
                key,
                value,
            }),
        );
        sum.plus(Estimate::of(LIST))
    }

    fn map(&mut self, id: Id, entries: &[crate::ast::Entry]) -> Estimate {
        let mut sum = Estimate::default();
        let least = if entries.is_empty() { 0 } else { u64::MAX };
        let mut key = Estimate { min: least, max: 0 };
        let mut value = key;
        for entry in entries {
            sum = sum.plus(self.cost(entry.key)).plus(self.cost(entry.value));
            key = key.union(self.size_or_unknown(entry.key));
            value = value.union(self.size_or_unknown(entry.value));
        }
        self.set_entry(
            id,
            Some(EntrySize {
                list: false,
                key,
                value,
            }),
        );
        sum.plus(Estimate::of(MAP))
    }

    fn push(&mut self, name: &str, path: Path, size: Option<Estimate>, entry: Option<EntrySize>) {
        self.locals.push(Local {
            name: name.into(),
            path,
            size,
            entry,
        });
    }

    fn push_value(&mut self, name: &str, value: Id) {
        let (path, size, entry) = (self.path(value), self.size(value), self.entry(value));
        self.push(name, path, size, entry);
    }

    /// A variable that takes the keys (indices of lists) or the values of a range.
    fn push_part(&mut self, name: &str, range: Id, values: bool) {
        let entry = self.entry(range);
        let list = match entry {
            Some(entry) => entry.list,
            None => matches!(self.ty(range), Type::List(_)),
        };
        let mut path = self.path(range);
        let (part, size) = match (values, list) {
            (true, true) => ("@items", entry.map(|e| e.value)),
            (true, false) => ("@values", entry.map(|e| e.value)),
            (false, true) => ("@indices", entry.map(|e| e.key)),
            (false, false) => ("@keys", entry.map(|e| e.key)),
        };
        path.push(part.to_owned());
        self.push(name, path, size, None);
    }

    fn fold(&mut self, id: Id, fold: &Fold) -> Estimate {
        let mut sum = self.cost(fold.range).plus(self.cost(fold.init));
        let depth = self.locals.len();
        self.push_value(&fold.accumulator, fold.init);
        match &fold.second {
            Some(second) => {
                self.push_part(&fold.variable, fold.range, false);
                self.push_part(second, fold.range, true);
            }
            None => {
                let list = match self.entry(fold.range) {
                    Some(entry) => entry.list,
                    None => matches!(self.ty(fold.range), Type::List(_)),
                };
                self.push_part(&fold.variable, fold.range, list);
            }
        }
        let each = self.cost(fold.condition).plus(self.cost(fold.step));
        self.locals.truncate(depth + 1);
        sum = sum.plus(self.cost(fold.result));
        self.locals.truncate(depth);
        let count = self.size_or_unknown(fold.range);
        sum = sum.plus(count.times(each));
        match self.checked.ast.node(fold.init) {
            Node::Literal(_) => {
                let size = self.size(fold.init);
                self.set_size(id, size);
            }
            Node::List { .. } | Node::Map(_) => {
                self.set_size(id, Some(count));
                self.set_entry(id, self.entry(fold.step));
            }
            _ => {}
        }
        sum
    }

    fn binding(&mut self, id: Id, fold: &Fold) -> Estimate {
        let mut sum = self.cost(fold.range).plus(self.cost(fold.init));
        self.push_value(&fold.accumulator, fold.init);
        sum = sum.plus(self.cost(fold.result));
        self.copy_sizes(id, fold.result);
        self.locals.pop();
        sum
    }
}
