//! Who may: the authenticators and authorizers that the flags and files ask for, and keeping them as the files are.

pub mod admission;
pub mod authentication;
pub mod authorization;
pub mod metrics;
pub mod reload;
pub mod remote;

use crate::server::Server;
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What must run beside a server until it stops.
pub type Background = Box<dyn FnOnce(Arc<Server>, CancellationToken) -> BoxFuture<'static, ()> + Send>;

#[cfg(test)]
mod tests;
