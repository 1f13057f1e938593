//! The Kubernetes API server.
//!
//! A request walks one way: [`net`] (TLS, HTTP) → [`corridor`] (request info, authenticate, bound, authorize) → [`registry`]
//! (decode, mutate, validate, one transaction) → [`answer`] (encode). [`serve`] answers what is no resource, [`streaming`]
//! what ends at a kubelet. [`run`] wires them.

pub mod access;
pub mod aggregate;
pub mod answer;
pub mod audit;
pub mod bootstrap;
pub mod cache;
pub mod corridor;
pub mod crd;
pub mod fairness;
pub mod forms;
pub mod metrics;
pub mod net;
pub mod options;
pub mod quota;
pub mod registry;
pub mod request;
pub mod run;
pub mod serve;
pub mod server;
pub mod streaming;

#[cfg(test)]
mod loopback;
#[cfg(test)]
mod tests;
