//! What every Rutter binary that talks to the apiserver shares: connection, informers, work queues, leader election, events,
//! joined connections, and the small HTTPS server with health and metrics.
//!
//! Nothing here knows a controller.

pub mod component;
pub mod connect;
pub mod election;
pub mod events;
pub mod informer;
pub mod panics;
pub mod reconnect;
pub mod splice;
pub mod workqueue;

pub use informer::{Change, Informer, Informers, Store};
pub use reconnect::Reconnect;
pub use workqueue::{Requeue, WorkQueue};
