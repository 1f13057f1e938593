//! The revisioned store: its [`contract`], the engines behind it, and the watch cache over any of them.
//!
//! This room knows keys, bytes and revisions, and no kind.

pub mod cache;
pub mod contract;
pub mod engine;

pub use contract::{
    Change, Commit, Effect, Engine, Guard, KeyValue, Outcome, RangeRequest, RangeResponse, Revision,
    StoreError, Watch, WatchEvent,
};
