//! GET: one object, as the cache's bytes.

use super::{Call, cache_error};
use crate::answer::{self, Answer};
use crate::request::params;
use bytes::Bytes;
use http::StatusCode;
use rutter_storage::Revision;

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

    /// GET
    pub async fn get(&self) -> Answer {
        self.settle(self.query.first("resourceVersion").unwrap_or_default())
            .await?;
        let entry = self
            .server
            .cache
            .get(&self.key(&self.info.name)?)
            .ok_or_else(|| self.not_found(&self.info.name))?;
        if self.is_verbatim() {
            let parts = vec![entry.bytes.clone(), Bytes::from_static(b"\n")];
            return Ok(answer::json_bytes(StatusCode::OK, parts, &self.accept));
        }
        Ok(self.answer(StatusCode::OK, &self.to_served(&entry.bytes).await?))
    }
}
