//! Kustomizations.
use crate::error::{Error, Result};
use serde_json::Value;
/// Builds a directory.
pub async fn build(_dir: &str) -> Result<Vec<Value>> {
    Err(Error::new("not yet"))
}
