//! The types of expressions, and when one fits another.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The type of a value as far as it is known before it is evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// What a part that is wrong has; fits everything, so that one mistake is reported once.
    Error,
    /// Known only when evaluated.
    Dyn,
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A signed 64-bit integer.
    Int,
    /// An unsigned 64-bit integer.
    Uint,
    /// A 64-bit float.
    Double,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// A span of time.
    Duration,
    /// A point in time.
    Timestamp,
    /// A list.
    List(Arc<Type>),
    /// A map: keys, values.
    Map(Arc<(Type, Type)>),
    /// A value that may be absent.
    Optional(Arc<Type>),
    /// A type as a value.
    Type(Option<Arc<Type>>),
    /// A type to be found.
    Param(Param),
    /// An object with known fields, or one of Kubernetes' own values, by name.
    Struct(Arc<str>),
    /// One of Kubernetes' own values that has no fields, by name.
    Opaque(&'static str),
}

/// A type to be found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Param {
    /// In a declaration.
    Named(&'static str),
    /// One made for a use of a declaration.
    Fresh(u32),
}

impl Type {
    /// A list of `element`s.
    pub fn list(element: Self) -> Self {
        Self::List(Arc::new(element))
    }

    /// A map from `key` to `value`.
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    /// A `value` that may be absent.
    pub fn optional(value: Self) -> Self {
        Self::Optional(Arc::new(value))
    }

    /// An object of the name.
    pub fn object(name: &str) -> Self {
        Self::Struct(name.into())
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// What an optional holds, and whether it is one.
    pub(crate) fn unwrap_optional(&self) -> (&Self, bool) {
        match self {
            Self::Optional(inner) => (inner, true),
            other => (other, false),
        }
    }

    /// Whether values of the type have one size, whatever they are.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Double | Self::Duration | Self::Int | Self::Timestamp | Self::Uint => true,
            Self::Optional(inner) => inner.is_scalar(),
            _ => false,
        }
    }

    fn can_be_null(&self) -> bool {
        matches!(
            self,
            Self::Null
                | Self::Optional(_)
                | Self::Struct(_)
                | Self::Opaque(_)
                | Self::Duration
                | Self::Timestamp
        )
    }

    /// The name without parameters.
    pub fn name(&self) -> &str {
        match self {
            Self::Error => "!error!",
            Self::Dyn => "dyn",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Param(Param::Named(name)) => name,
            Self::Param(Param::Fresh(_)) => "_var",
            Self::Struct(name) => name,
            Self::Opaque(name) => name,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::List(element) => write!(f, "list({element})"),
            Self::Map(entry) => write!(f, "map({}, {})", entry.0, entry.1),
            Self::Optional(value) => write!(f, "optional_type({value})"),
            Self::Type(Some(inner)) => write!(f, "type({inner})"),
            Self::Param(Param::Fresh(number)) => write!(f, "_var{number}"),
            other => f.write_str(other.name()),
        }
    }
}

/// What types to be found were found to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mapping(BTreeMap<Param, Type>);

impl Mapping {
    fn find(&self, ty: &Type) -> Option<&Type> {
        match ty {
            Type::Param(param) => self.0.get(param),
            _ => None,
        }
    }

    pub(crate) fn add(&mut self, param: Param, ty: Type) {
        self.0.insert(param, ty);
    }

    /// Whether `a` fits where `b` is wanted. What was found on the way is kept only when it does.
    pub(crate) fn assign(&mut self, a: &Type, b: &Type) -> bool {
        self.attempt(|m| m.fits(a, b))
    }

    /// As [`Mapping::assign`], for lists of types of the same length.
    pub(crate) fn assign_all(&mut self, a: &[Type], b: &[Type]) -> bool {
        self.attempt(|m| m.all_fit(a, b))
    }

    fn attempt(&mut self, f: impl FnOnce(&mut Self) -> bool) -> bool {
        let mut copy = self.clone();
        let fits = f(&mut copy);
        if fits {
            *self = copy;
        }
        fits
    }

    fn all_fit(&mut self, a: &[Type], b: &[Type]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.fits(a, b))
    }

    fn fits(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Param(param) = b {
            let (valid, known) = self.substitutes(a, b, param);
            if valid {
                return true;
            }
            if known {
                return false;
            }
        }
        if let Type::Param(param) = a {
            return self.substitutes(b, a, param).0;
        }
        match (a, b) {
            (x, y) if x.is_dyn_or_error() || y.is_dyn_or_error() => true,
            (Type::Null, other) | (other, Type::Null) => other.can_be_null(),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.fits(a, b),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            (a, b) => a == b,
        }
    }

    /// Whether `param` (which is `b`) can stand for `a`, and whether it already stood for something.
    fn substitutes(&mut self, a: &Type, b: &Type, param: &Param) -> (bool, bool) {
        if a == b {
            return (true, true);
        }
        if let Some(known) = self.0.get(param).cloned() {
            if *a == known {
                return (true, true);
            }
            if self.fits(a, &known) {
                let general = most_general(a, &known);
                if self.absent_in(b, &general) {
                    self.0.insert(param.clone(), general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.absent_in(b, a) {
            self.0.insert(param.clone(), a.clone());
            return (true, false);
        }
        (false, false)
    }

    fn absent_in(&self, param: &Type, within: &Type) -> bool {
        if param == within {
            return false;
        }
        match within {
            Type::Param(_) => self.find(within).is_none_or(|found| self.absent_in(param, found)),
            Type::List(inner) | Type::Optional(inner) | Type::Type(Some(inner)) => {
                self.absent_in(param, inner)
            }
            Type::Map(entry) => self.absent_in(param, &entry.0) && self.absent_in(param, &entry.1),
            _ => true,
        }
    }

    /// The type with all that was found put in; with `close`, what wasn't found is dynamic.
    pub(crate) fn substitute(&self, ty: &Type, close: bool) -> Type {
        if let Some(found) = self.find(ty) {
            return self.substitute(found, close);
        }
        match ty {
            Type::Param(_) if close => Type::Dyn,
            Type::List(inner) => Type::list(self.substitute(inner, close)),
            Type::Optional(inner) => Type::optional(self.substitute(inner, close)),
            Type::Map(entry) => Type::map(self.substitute(&entry.0, close), self.substitute(&entry.1, close)),
            Type::Type(Some(inner)) => Type::Type(Some(Arc::new(self.substitute(inner, close)))),
            other => other.clone(),
        }
    }
}

/// The more general of two types that fit each other.
pub(crate) fn most_general(a: &Type, b: &Type) -> Type {
    if less_specific(a, b) { a.clone() } else { b.clone() }
}

fn less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => less_specific(a, b),
        (Type::Map(a), Type::Map(b)) => less_specific(&a.0, &b.0) && less_specific(&a.1, &b.1),
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a == b,
    }
}
