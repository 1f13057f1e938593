//! GET: one object, as the cache's bytes.

use super::{Call, cache_error, store_error};
use crate::answer::{self, Answer};
use crate::request::params;
use bytes::Bytes;
use http::StatusCode;
use rutter_storage::{Revision, StoreError};

/// An object's bytes as an answer ends them.
pub fn line(object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 1);
    line.extend_from_slice(object);
    line.push(b'\n');
    line.into()
}

impl Call {
    /// Waits until the cache is as new as the request's resourceVersion demands.
    pub async fn settle(&self, version: &str) -> Result<(), rutter_api::StatusError> {
        match params::parse_version(version)? {
            Some(0) => Ok(()),
            None => self.server.cache.consistent().await.map(|_| ()),
            Some(wanted) => self.server.cache.wait_for(Revision(wanted)).await.map(|_| ()),
        }
        .map_err(|e| cache_error(&e))
    }

    /// Refuses to answer as if what is stored and can't be read weren't there: one key, or a folder with its slash.
    pub fn check_readable(&self, range: &str) -> Result<(), rutter_api::StatusError> {
        match self.server.engine.unreadable(range) {
            Some((key, why)) if range.ends_with('/') || key == range => {
                Err(store_error(&StoreError::Unreadable { key, why }))
            }
            _ => Ok(()),
        }
    }

    /// GET
    pub async fn get(&self) -> Answer {
        self.settle(self.query.first("resourceVersion").unwrap_or_default())
            .await?;
        let key = self.key(&self.info.name)?;
        self.check_readable(&key)?;
        let entry = self
            .server
            .cache
            .get(&key)
            .ok_or_else(|| self.not_found(&self.info.name))?;
        if self.is_verbatim() {
            return Ok(answer::bytes(StatusCode::OK, line(&entry.bytes()), &self.accept));
        }
        Ok(self.answer(StatusCode::OK, &self.to_served(&entry.bytes()).await?))
    }
}
