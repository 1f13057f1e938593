//! The Kubernetes object model, free of I/O, clocks and threads.
//!
//! Objects are trees of [`serde_json::Value`]; what a tree may hold is said by a [`schema`], which built-in
//! kinds and custom resources share, so that every step of the apiserver's corridor is written once.
//! Anything that needs the time or randomness is given it by the caller.

// What tests and fuzz targets share names this crate as others do.
#[cfg(test)]
extern crate self as rutter_api;

pub mod access;
pub mod apply;
pub mod codec;
pub mod crd;
pub mod discovery;
pub mod duration;
pub mod field;
pub mod meta;
pub mod object;
pub mod openapi;
pub mod outline;
pub mod patch;
pub mod quantity;
pub mod removed;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strategy;
pub mod table;
pub mod validation;

pub use access::{ObjectReader, UserInfo};
pub use field::{ErrorList, FieldError, Path};
pub use meta::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use quantity::Quantity;
pub use resource::{Resource, Scheme, Subresource};
pub use selector::{FieldSelector, LabelSelector};
pub use serde_json::{Map, Value};
pub use status::{Reason, StatusError};
pub use strategy::{Context, Strategy};
