//! Authorizers, one file each.

pub mod abac;
pub mod always;
pub mod config;
pub mod node;
pub mod rbac;
pub mod rule;
pub mod union;
pub mod webhook;

#[cfg(test)]
pub(crate) mod testing;

pub use abac::Abac;
pub use always::{AlwaysAllow, AlwaysDeny};
pub use node::NodeAuthorizer;
pub use rbac::Rbac;
pub use rule::Rule;
pub use union::{PrivilegedGroups, Union};
pub use webhook::Webhook;
