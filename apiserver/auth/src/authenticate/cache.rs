//! Remembers for a short time whom a bearer token belongs to, so that its signature and its objects are not checked on
//! every request.
//!
//! Tokens are kept only as keyed hashes. Errors are not remembered; that nobody knows a token is, where a time is given for it.

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

/// Until when whose a token is is remembered; nobody's when none.
type Entry = (Timestamp, Option<Authenticated>);

/// A cache before another authenticator.
pub struct Cached {
    inner: Arc<dyn Authenticator>,
    clock: Clock,
    salt: [u8; 32],
    known: SignedDuration,
    unknown: SignedDuration,
    entries: RwLock<HashMap<[u8; 32], Entry>>,
}

impl Cached {
    /// Puts a cache before the authenticators of bearer tokens.
    pub fn new(inner: Arc<dyn Authenticator>, clock: Clock) -> Self {
        Self::with_times(inner, clock, TIME_TO_LIVE, SignedDuration::ZERO)
    }

    /// A cache that remembers for `known` whose a token is, and for `unknown` that it is nobody's.
    pub fn with_times(
        inner: Arc<dyn Authenticator>,
        clock: Clock,
        known: SignedDuration,
        unknown: SignedDuration,
    ) -> Self {
        Self {
            inner,
            clock,
            salt: rand::random(),
            known,
            unknown,
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
            return Ok(known.clone());
        }
        let result = self.inner.authenticate(credentials).await;
        let time = match &result {
            Ok(Some(_)) => self.known,
            Ok(None) => self.unknown,
            Err(_) => SignedDuration::ZERO,
        };
        if let Ok(known) = &result
            && time.is_positive()
        {
            let mut entries = self.entries.write();
            if entries.len() >= CAPACITY {
                entries.retain(|_, (until, _)| *until > now);
                if entries.len() >= CAPACITY {
                    entries.clear();
                }
            }
            let until = now.checked_add(time).unwrap_or(now);
            entries.insert(key, (until, known.clone()));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::TokenFile;
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    struct Counted(TokenFile, AtomicUsize);

    #[async_trait]
    impl Authenticator for Counted {
        async fn authenticate(
            &self,
            credentials: &Credentials<'_>,
        ) -> Result<Option<Authenticated>, AuthenticationError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.authenticate(credentials).await
        }
    }

    #[tokio::test]
    async fn what_is_known_of_a_token_is_remembered_for_its_time() {
        let now = Arc::new(AtomicI64::new(0));
        let clock: Clock = {
            let now = now.clone();
            Arc::new(move || Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap())
        };
        let inner = Arc::new(Counted(
            TokenFile::parse("t,jane,7").unwrap(),
            AtomicUsize::new(0),
        ));
        let seconds = SignedDuration::from_secs;
        let cached = Cached::with_times(inner.clone(), clock, seconds(10), seconds(5));
        // the time, the token, how often the inner one was asked by then
        for (at, token, asked) in [
            (0, "t", 1),
            (9, "t", 1),
            (10, "t", 2),
            (10, "x", 3),
            (14, "x", 3),
            (15, "x", 4),
        ] {
            now.store(at, Ordering::Relaxed);
            let credentials = Credentials {
                bearer_token: Some(token),
                ..Credentials::default()
            };
            let known = cached.authenticate(&credentials).await.unwrap();
            assert_eq!(known.is_some(), token == "t");
            assert_eq!(inner.1.load(Ordering::Relaxed), asked, "{at} {token}");
        }
    }
}
