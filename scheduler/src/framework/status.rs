//! Why a node or a pod was turned down.

use smallvec::SmallVec;
use std::borrow::Cow;

/// How final a rejection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Removing pods might help.
    Unschedulable,
    /// Removing pods won't help.
    Unresolvable,
    /// Something went wrong.
    Error,
}

/// A rejection with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// How final it is.
    pub code: Code,
    /// For people.
    pub reasons: SmallVec<[Cow<'static, str>; 1]>,
    /// Which plugin; empty before the framework has filled it in.
    pub plugin: &'static str,
}

impl Rejection {
    /// Removing pods might help.
    pub fn unschedulable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unschedulable, reason)
    }

    /// Removing pods won't help.
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unresolvable, reason)
    }

    /// Something went wrong.
    pub fn error(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Error, reason)
    }

    fn new(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            reasons: [reason.into()].into_iter().collect(),
            plugin: "",
        }
    }

    /// The reasons as one text.
    pub fn message(&self) -> String {
        self.reasons.join(", ")
    }

    /// Says which plugin it was.
    pub fn by(mut self, plugin: &'static str) -> Self {
        self.plugin = plugin;
        self
    }
}
