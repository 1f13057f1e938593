//! The audit log: a policy says how much is recorded of each request, and records go to a file, to a webhook, or both.
//!
//! [`policy`] decides (pure), [`event`] gives records their form (pure), [`backend`] carries them away, through [`batch`] or at once,
//! to a [`log`] or whatever else can [`backend::Deliver`] them. Nothing here knows HTTP.

pub mod backend;
pub mod batch;
pub mod event;
pub mod log;
pub mod policy;

pub use event::{Event, ObjectRef, Stage};
pub use policy::{Decision, Level, Policy, Subject};
