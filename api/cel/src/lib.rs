//! The Common Expression Language as Kubernetes 1.36 uses it.
//!
//! An expression is parsed, checked against the types of what it refers to ([`Env`]), priced ([`Checked::cost`]), and evaluated
//! ([`Program`]) over JSON trees that are borrowed and not copied. Types, prices, limits and the words of mistakes are upstream's, because what
//! one server accepts the other one must.
//!
//! Nothing here waits: an expression that asks for somebody's rights ends with [`EvalError::Undecided`] when the answer isn't known yet, and is
//! evaluated again when it is.
//!
//! The crate `cel` was weighed and not taken: it has no checker against declared types and no costs, and its values own what they hold. With
//! those to be written, a parser that words mistakes as upstream's does is the smaller part.

pub mod admission;
mod ast;
mod check;
pub mod conditions;
mod cost;
mod env;
mod error;
mod escape;
mod eval;
pub mod identity;
mod lex;
mod library;
mod parse;
pub mod policy;
pub mod rules;
mod schema;
mod source;
mod types;
mod value;

pub use check::Checked;
pub use cost::{Estimate, SizeEstimator, UnknownSizes};
pub use env::{Constructors, Env};
pub use error::{EvalError, Result};
pub use escape::escape;
pub use eval::{Authorizations, Lazy, NoAuthorizations, Outcome, PER_CALL_LIMIT, Program};
pub use schema::{ListSchema, MAX_REQUEST_BYTES, Object, Schema};
pub use source::{Issue, Issues, Position};
pub use types::{Param, Type};
pub use value::{
    AuthorizationCheck, Decision, Key, List, Map, Native, Semver, Subject, Text, Url, Value, compare, equal,
};

#[cfg(test)]
mod tests;
