//! The engines behind the contract: one file each.

mod embedded;
mod etcd;
mod memory;
mod metered;
mod transforming;

pub use embedded::{EmbeddedEngine, EmbeddedOptions};
pub use etcd::{EtcdEngine, EtcdOptions};
pub use memory::MemoryEngine;
pub use metered::MeteredEngine;
pub use transforming::{Plain, Transform, TransformingEngine};

use crate::{Commit, Effect, StoreError};
use std::time::Duration;

/// Refuses a commit with a value larger than the engine takes.
fn check_sizes(commit: &Commit, max: usize) -> Result<(), StoreError> {
    for effect in &commit.effects {
        if let Effect::Put(key, value, _) = effect
            && value.len() > max
        {
            return Err(StoreError::TooLarge {
                key: key.clone(),
                size: value.len(),
                max,
            });
        }
    }
    Ok(())
}

/// The key an effect puts with a time to live, and how long.
fn time_to_live(effect: &Effect) -> Option<(String, Duration)> {
    match effect {
        Effect::Put(key, _, Some(after)) => Some((key.clone(), *after)),
        _ => None,
    }
}
