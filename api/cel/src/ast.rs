//! The tree of an expression, in one arena. Macros are expanded: what is left is what cel-go calls the core of the language.

use crate::source::Position;

/// A node in an [`Ast`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(pub(crate) u32);

impl Id {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Box<str>),
    Bytes(Box<[u8]>),
}

/// One entry of a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Id,
    pub(crate) value: Id,
    pub(crate) optional: bool,
}

/// One field of an object that is made.
#[derive(Clone, Debug)]
pub(crate) struct Initializer {
    pub(crate) name: Box<str>,
    pub(crate) value: Id,
    pub(crate) optional: bool,
    pub(crate) position: Position,
}

/// A loop: what every macro over lists and maps becomes.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) range: Id,
    pub(crate) variable: Box<str>,
    pub(crate) second: Option<Box<str>>,
    pub(crate) accumulator: Box<str>,
    pub(crate) init: Id,
    pub(crate) condition: Id,
    pub(crate) step: Id,
    pub(crate) result: Id,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Literal(Literal),
    Ident(Box<str>),
    Select {
        operand: Id,
        field: Box<str>,
        /// Whether only the presence is asked for.
        test: bool,
    },
    Call {
        function: Box<str>,
        target: Option<Id>,
        args: Box<[Id]>,
    },
    List {
        elements: Box<[Id]>,
        /// Which elements are left out when they are empty optionals.
        optional: Box<[u32]>,
    },
    Map(Box<[Entry]>),
    Struct {
        name: Box<str>,
        fields: Box<[Initializer]>,
    },
    Fold(Box<Fold>),
}

/// An expression.
#[derive(Clone, Debug)]
pub(crate) struct Ast {
    pub(crate) nodes: Vec<Node>,
    pub(crate) positions: Vec<Position>,
    pub(crate) root: Id,
}

impl Ast {
    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id.index()]
    }

    pub(crate) fn position(&self, id: Id) -> Position {
        self.positions[id.index()]
    }

    /// The dotted name that a chain of selections spells, if it is one.
    pub(crate) fn qualified_name(&self, id: Id) -> Option<String> {
        match self.node(id) {
            Node::Ident(name) => Some(name.to_string()),
            Node::Select {
                operand,
                field,
                test: false,
            } => {
                let mut name = self.qualified_name(*operand)?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }

    /// Whether the fold only names a value: it loops over nothing.
    pub(crate) fn is_binding(&self, fold: &Fold) -> bool {
        matches!(self.node(fold.range), Node::List { elements, .. } if elements.is_empty())
            && matches!(self.node(fold.condition), Node::Literal(Literal::Bool(false)))
            && fold.accumulator.as_ref() != ACCUMULATOR
    }
}

/// The name of the variable in which folds gather their result. No expression can spell it.
pub(crate) const ACCUMULATOR: &str = "@result";

/// Names of operators as functions.
pub(crate) mod op {
    pub(crate) const ADD: &str = "_+_";
    pub(crate) const SUBTRACT: &str = "_-_";
    pub(crate) const MULTIPLY: &str = "_*_";
    pub(crate) const DIVIDE: &str = "_/_";
    pub(crate) const MODULO: &str = "_%_";
    pub(crate) const NEGATE: &str = "-_";
    pub(crate) const NOT: &str = "!_";
    pub(crate) const AND: &str = "_&&_";
    pub(crate) const OR: &str = "_||_";
    pub(crate) const EQUALS: &str = "_==_";
    pub(crate) const NOT_EQUALS: &str = "_!=_";
    pub(crate) const LESS: &str = "_<_";
    pub(crate) const LESS_EQUALS: &str = "_<=_";
    pub(crate) const GREATER: &str = "_>_";
    pub(crate) const GREATER_EQUALS: &str = "_>=_";
    pub(crate) const IN: &str = "@in";
    pub(crate) const CONDITIONAL: &str = "_?_:_";
    pub(crate) const INDEX: &str = "_[_]";
    pub(crate) const OPT_INDEX: &str = "_[?_]";
    pub(crate) const OPT_SELECT: &str = "_?._";
    pub(crate) const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";
    pub(crate) const MAP_INSERT: &str = "cel.@mapInsert";
}
