//! The node's own object: what it is, what it has, how it is, and the sign of life.

pub(crate) mod agent;
pub(crate) mod capacity;
pub(crate) mod object;
