//! Why an evaluation ended without a value.

use crate::value::AuthorizationCheck;
use std::fmt;
use std::sync::Arc;

/// Why an evaluation ended without a value. The texts are cel-go's.
#[derive(Clone, Debug, PartialEq)]
pub enum EvalError {
    /// Something in the expression doesn't hold for these values.
    Failed(Arc<str>),
    /// It costs more than it may.
    CostLimit,
    /// Whether somebody may do something must be found out first; then evaluate again.
    Undecided(Arc<AuthorizationCheck>),
}

/// A value or why there is none.
pub type Result<T> = std::result::Result<T, EvalError>;

impl EvalError {
    /// Something in the expression doesn't hold.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self::Failed(text.into())
    }

    /// No function takes such values.
    pub fn no_such_overload() -> Self {
        Self::new("no such overload")
    }

    /// A map has no such key.
    pub(crate) fn no_such_key(key: &str) -> Self {
        Self::new(format!("no such key: {key}"))
    }

    /// Whether the other side of `&&` or `||` may still decide.
    pub(crate) fn is_absorbed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) => f.write_str(text),
            Self::CostLimit => f.write_str("operation cancelled: actual cost limit exceeded"),
            Self::Undecided(_) => f.write_str("operation interrupted: an authorization is not decided yet"),
        }
    }
}

impl std::error::Error for EvalError {}
