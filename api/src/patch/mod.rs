//! Patches: JSON patch (RFC 6902), merge patch (RFC 7386) and Kubernetes' strategic merge patch.
//!
//! All of them are pure functions from a document and a patch to a document; the caller decodes the result against the
//! schema again.

mod json;
mod merge;
pub mod strategic;

pub use json::json_patch;
pub use merge::{merge_patch, merge_three_way};

use crate::status::{Reason, StatusError};
use thiserror::Error;

/// Why a patch can't be applied.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatchError {
    /// The patch itself is malformed.
    #[error("{0}")]
    Malformed(String),
    /// The patch doesn't fit the object.
    #[error("{0}")]
    Mismatch(String),
    /// What the patch tests for isn't so.
    #[error("{0}")]
    Test(String),
    /// The patch does more than is allowed in one request.
    #[error("{0}")]
    TooLarge(String),
    /// The modified and the current object both changed what the other did.
    #[error("{0}")]
    Conflict(String),
}

impl PatchError {
    /// The failure a client is told: 400 for a malformed patch, 422 for one that doesn't fit.
    pub fn status(&self) -> StatusError {
        match self {
            Self::Malformed(text) => StatusError::bad_request(text.clone()),
            Self::Mismatch(_) | Self::Test(_) => StatusError::new(
                Reason::Invalid,
                "the server rejected our request due to an error in our request",
            ),
            Self::TooLarge(text) => StatusError::too_large(text.clone()),
            Self::Conflict(text) => StatusError::new(Reason::Conflict, text.clone()),
        }
    }
}
