//! An issuer as it is reached: its discovery document and its keys.
//!
//! Keys are fetched when a token needs one that isn't known, once for all tokens that wait for it and not more often than
//! once a second, whoever sends tokens of unknown keys.

use crate::authenticate::jwt::{self, Algorithm, KeyError, VerifyingKey};
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use rutter_api::Value;
use rutter_api::object::ObjectExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long a try to reach an issuer holds off the next.
const AGAIN: Duration = Duration::from_secs(10);
/// How long keys are taken as fresh, whatever a token says.
const FRESH: Duration = Duration::from_secs(1);

/// Fetches documents of an issuer.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// The body of a 2xx answer to a GET, at most a megabyte; otherwise why there is none.
    async fn get(&self, url: &str, token: Option<&str>) -> Result<Bytes, String>;
}

/// What is known of an issuer.
struct Known {
    jwks_uri: String,
    keys: Vec<VerifyingKey>,
    fetched: Instant,
}

/// An issuer.
pub struct Provider {
    issuer: String,
    discovery: String,
    fetch: Arc<dyn Fetch>,
    known: ArcSwapOption<Known>,
    /// Held by the one who fetches; when and why it last failed.
    fetching: Mutex<Option<(Instant, String)>>,
}

impl Provider {
    /// An issuer that nothing is known of yet. `discovery` is where its document is, when not under its URL.
    pub fn new(issuer: &str, discovery: Option<&str>, fetch: Arc<dyn Fetch>) -> Self {
        let usual = || {
            format!(
                "{}/.well-known/openid-configuration",
                issuer.trim_end_matches('/')
            )
        };
        Self {
            issuer: issuer.to_owned(),
            discovery: discovery
                .filter(|url| !url.is_empty())
                .map_or_else(usual, str::to_owned),
            fetch,
            known: ArcSwapOption::empty(),
            fetching: Mutex::default(),
        }
    }

    /// Whether its keys are known.
    pub fn is_ready(&self) -> bool {
        self.known.load().is_some()
    }

    /// Finds out where its keys are and fetches them, unless that is known already or failed just now.
    ///
    /// # Errors
    /// Why it can't be reached, or what is wrong with its answers.
    pub async fn initialize(&self) -> Result<(), String> {
        let mut last = self.fetching.lock().await;
        if self.is_ready() {
            return Ok(());
        }
        if let Some((at, why)) = &*last
            && at.elapsed() < AGAIN
        {
            return Err(why.clone());
        }
        match self.discover().await {
            Ok(known) => {
                self.known.store(Some(Arc::new(known)));
                *last = None;
                Ok(())
            }
            Err(why) => {
                *last = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    async fn discover(&self) -> Result<Known, String> {
        let document = self.document(&self.discovery).await?;
        let issuer = document.str_at("issuer");
        if issuer != self.issuer {
            let own = &self.issuer;
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {own:?} got {issuer:?}"
            ));
        }
        let jwks_uri = document.str_at("jwks_uri").to_owned();
        if jwks_uri.is_empty() {
            return Err("provider did not return JWKS URL".to_owned());
        }
        self.fetch_keys(jwks_uri).await
    }

    async fn fetch_keys(&self, jwks_uri: String) -> Result<Known, String> {
        let set = self.document(&jwks_uri).await?;
        Ok(Known {
            keys: VerifyingKey::of_key_set(&set),
            jwks_uri,
            fetched: Instant::now(),
        })
    }

    async fn document(&self, url: &str) -> Result<Value, String> {
        let bytes = self.fetch.get(url, None).await?;
        serde_json::from_slice(&bytes).map_err(|error| format!("{url} does not answer JSON: {error}"))
    }

    /// Verifies a token's signature, with keys fetched again when those that are known don't fit.
    ///
    /// # Errors
    /// When it is of none of the issuer's keys, or the keys can't be had.
    pub async fn verify(&self, token: &str, allowed: &[Algorithm]) -> Result<(), String> {
        let not_yet = || "authenticator not initialized".to_owned();
        let known = self.known.load_full().ok_or_else(not_yet)?;
        match jwt::verify_foreign(token, &known.keys, allowed) {
            Ok(()) => return Ok(()),
            Err(error @ KeyError::Malformed) => return Err(error.to_string()),
            Err(_) => {}
        }
        let newer = self.refresh(known.fetched).await?;
        jwt::verify_foreign(token, &newer.keys, allowed)
            .map_err(|_| "failed to verify signature: failed to verify id token signature".to_owned())
    }

    /// Keys fetched later than `seen`, or less than a moment ago.
    async fn refresh(&self, seen: Instant) -> Result<Arc<Known>, String> {
        let _one = self.fetching.lock().await;
        let current = self.known.load_full();
        let current = current.ok_or_else(|| "authenticator not initialized".to_owned())?;
        if current.fetched > seen || current.fetched.elapsed() < FRESH {
            return Ok(current);
        }
        let fetched = self.fetch_keys(current.jwks_uri.clone()).await;
        let newer = Arc::new(fetched.map_err(|why| format!("fetching keys {why}"))?);
        self.known.store(Some(newer.clone()));
        Ok(newer)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::authenticate::jwt::SigningKey;
    use parking_lot::Mutex as Lock;
    use serde_json::json;
    use std::collections::HashMap;

    /// An issuer's server without a network.
    #[derive(Default)]
    pub(in super::super) struct Documents {
        pub(in super::super) held: Lock<HashMap<String, Value>>,
        pub(in super::super) asked: Lock<Vec<String>>,
    }

    #[async_trait]
    impl Fetch for Documents {
        async fn get(&self, url: &str, token: Option<&str>) -> Result<Bytes, String> {
            self.asked
                .lock()
                .push(format!("{url} {}", token.unwrap_or_default()));
            match self.held.lock().get(url) {
                Some(Value::String(text)) => Ok(text.clone().into()),
                Some(value) => Ok(value.to_string().into()),
                None => Err(format!("Get {url:?}: 404 Not Found")),
            }
        }
    }

    pub(in super::super) fn key() -> SigningKey {
        let pair = rcgen::KeyPair::generate().unwrap();
        SigningKey::parse(pair.serialize_pem().as_bytes()).unwrap()
    }

    impl Documents {
        pub(in super::super) fn publish(&self, issuer: &str, keys: &[&SigningKey]) {
            let mut held = self.held.lock();
            let jwks: Vec<&Value> = keys.iter().map(|key| key.verifying_key().jwk()).collect();
            let discovery = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
            held.insert(format!("{issuer}/.well-known/openid-configuration"), discovery);
            held.insert(format!("{issuer}/keys"), json!({"keys": jwks}));
        }
    }

    const ISSUER: &str = "https://issuer.example";

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_is_away_is_asked_again_and_not_too_often() {
        let documents = Arc::new(Documents::default());
        let provider = Provider::new(ISSUER, None, documents.clone());
        for _ in 0..3 {
            assert!(provider.initialize().await.unwrap_err().contains("404"));
        }
        assert_eq!(documents.asked.lock().len(), 1);
        let key = key();
        documents.publish(ISSUER, &[&key]);
        tokio::time::advance(AGAIN).await;
        provider.initialize().await.unwrap();
        assert!(provider.is_ready());
        let other = Provider::new("https://issuer.example/", None, documents);
        assert!(other.initialize().await.unwrap_err().contains("did not match"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_fetched_when_a_token_needs_it() {
        let (old, new) = (key(), key());
        let documents = Arc::new(Documents::default());
        documents.publish(ISSUER, &[&old]);
        let provider = Provider::new(ISSUER, None, documents.clone());
        provider.initialize().await.unwrap();
        let token = new.sign(&json!({})).unwrap();
        tokio::time::advance(FRESH * 2).await;
        assert!(provider.verify(&token, &Algorithm::ALL).await.is_err());
        documents.publish(ISSUER, &[&new]);
        let asked = documents.asked.lock().len();
        assert!(
            provider.verify(&token, &Algorithm::ALL).await.is_err(),
            "it was asked just now"
        );
        assert_eq!(documents.asked.lock().len(), asked);
        tokio::time::advance(FRESH * 2).await;
        provider.verify(&token, &Algorithm::ALL).await.unwrap();
        let gone = old.sign(&json!({})).unwrap();
        tokio::time::advance(FRESH * 2).await;
        assert!(provider.verify(&gone, &Algorithm::ALL).await.is_err());
    }
}
