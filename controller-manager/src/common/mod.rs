//! What several controllers decide in the same way.

pub mod batch;
pub mod claiming;
pub mod discovery;
pub mod disruption;
pub mod expectations;
pub mod hash;
pub mod history;
pub mod int_or_percent;
pub mod nodes;
pub mod owners;
pub mod pod_control;
pub mod pods;
pub mod revisions;
pub mod selector;
pub mod services;
pub mod time;
