//! Remembers for a short time whom a bearer token belongs to, so that its signature and its objects are not checked on
//! every request.
//!
//! Tokens are kept only as keyed hashes. Refusals are not remembered.

use crate::{Authenticated, AuthenticationError, Authenticator, Clock, Credentials};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;

/// Upstream's time to live of a recognized token.
pub const TIME_TO_LIVE: SignedDuration = SignedDuration::from_secs(10);

/// At so many entries the stale ones are thrown out, and all when none is stale.
const CAPACITY: usize = 16 * 1024;

/// A cache before another authenticator.
pub struct Cached {
    inner: Arc<dyn Authenticator>,
    clock: Clock,
    salt: [u8; 32],
    entries: RwLock<HashMap<[u8; 32], (Timestamp, Authenticated)>>,
}

impl Cached {
    /// Puts a cache before the authenticators of bearer tokens.
    pub fn new(inner: Arc<dyn Authenticator>, clock: Clock) -> Self {
        Self {
            inner,
            clock,
            salt: rand::random(),
            entries: RwLock::default(),
        }
    }

    fn key(&self, token: &str, audiences: &[String]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.salt);
        for part in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(self.salt);
        hash.finalize().into()
    }
}

#[async_trait]
impl Authenticator for Cached {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let Some(token) = credentials.bearer_token else {
            return Ok(None);
        };
        let key = self.key(token, credentials.audiences);
        let now = (self.clock)();
        if let Some((until, known)) = self.entries.read().get(&key)
            && *until > now
        {
            return Ok(Some(known.clone()));
        }
        let result = self.inner.authenticate(credentials).await;
        if let Ok(Some(known)) = &result {
            let mut entries = self.entries.write();
            if entries.len() >= CAPACITY {
                entries.retain(|_, (until, _)| *until > now);
                if entries.len() >= CAPACITY {
                    entries.clear();
                }
            }
            let until = now.checked_add(TIME_TO_LIVE).unwrap_or(now);
            entries.insert(key, (until, known.clone()));
        }
        result
    }
}
