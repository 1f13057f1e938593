//! HTTPS calls that the API server makes to others: webhooks, aggregated servers, and whatever it passes requests on to.
//!
//! An [`Endpoint`] says where a call goes and how both sides prove who they are; [`Outbound`] makes a [`Caller`] of it, which
//! pools connections. A Service is found by a [`ServiceResolver`] each time a connection is made, and is known to TLS as
//! `<service>.<namespace>.svc`. [`forward`] passes whole requests on, upgrades included, over any way to connect.
//!
//! A call fails with a [`CallError`] that says at which step; it never outlives its time. What is called, and what an answer
//! means, is the callers' business.

pub mod body;
mod call;
mod connect;
mod endpoint;
mod error;
pub mod forward;
mod kubeconfig;
mod resolve;
pub mod tls;

#[cfg(test)]
mod tests;

pub use body::{BoxError, StreamBody};
pub use call::{Caller, Outbound};
pub use endpoint::{Authorization, Endpoint, EndpointError, ServiceReference};
pub use error::{CallError, Failure};
pub use kubeconfig::{Users, endpoint_of_kubeconfig};
pub use resolve::{ClusterAddresses, EndpointAddresses, Place, ResolveError, ServiceResolver};
