//! A pod's status: made by pure functions from what is observed, and written by one writer per pod.

pub(crate) mod conditions;
pub(crate) mod containers;
pub(crate) mod generate;
pub(crate) mod patch;
pub(crate) mod phase;
pub(crate) mod writer;
