//! Tokens of other issuers (OpenID Connect): `--oidc-*` and the issuers of `--authentication-config`.
//!
//! A token is good when the issuer that it names is configured, one of that issuer's keys signed it, and it is for one of the
//! configured audiences, now. [`claims`] says who it is about; [`config`] what may be configured; [`provider`] knows the keys.

pub mod claims;
pub mod config;
pub mod provider;

pub use config::{AuthenticationConfiguration, Compiled, ConfigError};
pub use provider::{Fetch, Provider};

use crate::authenticate::jwt::{self, Algorithm};
use crate::{Authenticated, AuthenticationError, Authenticator, Clock, Credentials};
use async_trait::async_trait;
use parking_lot::Mutex;
use rutter_api::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// How many issuers of claims that are kept elsewhere are remembered.
const MOST_OTHERS: usize = 64;

/// Recognizes the tokens of one issuer.
pub struct Oidc {
    compiled: Compiled,
    allowed: Vec<Algorithm>,
    provider: Provider,
    fetch: Arc<dyn Fetch>,
    /// Issuers of claims that are kept elsewhere.
    others: Mutex<HashMap<String, Arc<Provider>>>,
    clock: Clock,
}

impl Oidc {
    /// An issuer's tokens, signed in one of the `allowed` ways. Nothing is fetched before [`Oidc::initialize`].
    pub fn new(compiled: Compiled, allowed: Vec<Algorithm>, fetch: Arc<dyn Fetch>, clock: Clock) -> Self {
        let issuer = &compiled.config.issuer;
        Self {
            provider: Provider::new(&issuer.url, issuer.discovery_url.as_deref(), fetch.clone()),
            compiled,
            allowed,
            fetch,
            others: Mutex::default(),
            clock,
        }
    }

    /// The issuer's URL.
    pub fn issuer(&self) -> &str {
        &self.compiled.config.issuer.url
    }

    /// Fetches the issuer's keys, if they aren't there yet. Tokens are refused until that has worked once.
    ///
    /// # Errors
    /// Why the issuer can't be reached, or is not what it should be.
    pub async fn initialize(&self) -> Result<(), String> {
        self.provider.initialize().await
    }

    async fn check(&self, token: &str, mut claims: Value) -> Result<Authenticated, String> {
        let verified = self.provider.verify(token, &self.allowed).await;
        let audiences = &self.compiled.config.issuer.audiences;
        let now = (self.clock)();
        verified
            .and_then(|()| claims::check(&claims, audiences, now))
            .map_err(|why| format!("verify token: {why}"))?;
        let groups = self.compiled.config.claim_mappings.groups.claim.clone();
        let elsewhere = claims::distributed(&claims, &groups)
            .map(|found| found.map(|(url, token)| (url.to_owned(), token.to_owned())))
            .map_err(|why| format!("could not expand distributed claims: {why}"))?;
        if let Some((url, access)) = elsewhere {
            let value = self.fetch_claim(&groups, &url, &access).await;
            claims[groups.as_str()] =
                value.map_err(|why| format!("could not expand distributed claims: {why}"))?;
        }
        Ok(Authenticated {
            user: claims::user(&self.compiled, &claims)?,
            audiences: Vec::new(),
        })
    }

    /// A claim that another server vouches for with a token of its own.
    async fn fetch_claim(&self, claim: &str, url: &str, access: &str) -> Result<Value, String> {
        let getting = |why: String| format!("while getting distributed claim {claim:?}: {why}");
        let access = Some(access).filter(|token| !token.is_empty());
        let bytes = self.fetch.get(url, access).await.map_err(getting)?;
        let token = String::from_utf8(bytes.to_vec()).map_err(|_| getting("not a token".to_owned()))?;
        let token = token.trim();
        let claims = jwt::payload(token).ok_or_else(|| getting("malformed token".to_owned()))?;
        let issuer = issuer_of(&claims).to_owned();
        let provider = self.other(&issuer);
        provider
            .initialize()
            .await
            .map_err(|why| format!("verifying untrusted issuer {issuer} failed: {why}"))?;
        let audiences = &self.compiled.config.issuer.audiences;
        provider
            .verify(token, &self.allowed)
            .await
            .and_then(|()| claims::check(&claims, audiences, (self.clock)()))
            .map_err(|why| format!("verify distributed claim token: {why}"))?;
        claims.get(claim).cloned().ok_or_else(|| {
            format!("jwt returned by distributed claim endpoint {url:?} did not contain claim: {claim}")
        })
    }

    fn other(&self, issuer: &str) -> Arc<Provider> {
        let mut others = self.others.lock();
        if others.len() >= MOST_OTHERS && !others.contains_key(issuer) {
            others.clear();
        }
        let made = || Arc::new(Provider::new(issuer, None, self.fetch.clone()));
        others.entry(issuer.to_owned()).or_insert_with(made).clone()
    }
}

/// Who a token says it is from. Google's old tokens leave the scheme out.
fn issuer_of(claims: &Value) -> &str {
    match claims.get("iss").and_then(Value::as_str).unwrap_or_default() {
        "accounts.google.com" => "https://accounts.google.com",
        other => other,
    }
}

#[async_trait]
impl Authenticator for Oidc {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let Some(token) = credentials.bearer_token else {
            return Ok(None);
        };
        let Some(claims) = jwt::payload(token).filter(|claims| claims.is_object()) else {
            return Ok(None);
        };
        if issuer_of(&claims) != self.issuer() {
            return Ok(None);
        }
        match self.check(token, claims).await {
            Ok(known) => Ok(Some(known)),
            Err(why) => Err(AuthenticationError(format!("oidc: {why}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::provider::tests::{Documents, key};
    use super::*;
    use serde_json::json;

    const ISSUER: &str = "https://issuer.example";
    const CLAIMS: &str = "https://claims.example";

    #[tokio::test]
    async fn a_token_of_a_configured_issuer_is_a_user_and_others_are_not() {
        let config = "
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: 'https://issuer.example', audiences: [cluster]}
  claimMappings:
    username: {claim: sub, prefix: 'oidc:'}
    groups: {claim: groups, prefix: ''}
";
        let config = AuthenticationConfiguration::parse(config).unwrap();
        let compiled = config.compile(&[]).unwrap().pop().unwrap();
        let (own, foreign, claims_key) = (key(), key(), key());
        let documents = Arc::new(Documents::default());
        let clock: Clock = Arc::new(|| "2026-01-01T00:00:00Z".parse().unwrap());
        let now = clock().as_second();
        let oidc = Oidc::new(compiled, Algorithm::ALL.to_vec(), documents.clone(), clock);
        let token = |change: Value| {
            let mut claims =
                json!({"iss": ISSUER, "aud": "cluster", "sub": "jane", "exp": now + 60, "groups": ["dev"]});
            claims
                .as_object_mut()
                .unwrap()
                .extend(change.as_object().unwrap().clone());
            claims
                .as_object_mut()
                .unwrap()
                .retain(|_, value| !value.is_null());
            claims
        };
        let ask = async |token: &str| {
            let credentials = Credentials {
                bearer_token: Some(token),
                ..Credentials::default()
            };
            oidc.authenticate(&credentials).await
        };
        let early = ask(&own.sign(&token(json!({}))).unwrap()).await.unwrap_err();
        assert!(early.0.contains("not initialized"), "{early}");
        documents.publish(ISSUER, &[&own]);
        documents.publish(CLAIMS, &[&claims_key]);
        let vouched = claims_key
            .sign(&json!({"iss": CLAIMS, "aud": "cluster", "exp": now + 60, "groups": ["far"]}))
            .unwrap();
        documents
            .held
            .lock()
            .insert(format!("{CLAIMS}/groups"), Value::from(vouched));
        oidc.initialize().await.unwrap();
        let known = ask(&own.sign(&token(json!({}))).unwrap()).await.unwrap().unwrap();
        assert_eq!(known.user.name, "oidc:jane");
        assert_eq!(known.user.groups, ["dev"]);
        let elsewhere = token(json!({
            "groups": null, "_claim_names": {"groups": "s"},
            "_claim_sources": {"s": {"endpoint": format!("{CLAIMS}/groups"), "access_token": "k"}},
        }));
        let known = ask(&own.sign(&elsewhere).unwrap()).await.unwrap().unwrap();
        assert_eq!(known.user.groups, ["far"]);
        assert!(documents.asked.lock().contains(&format!("{CLAIMS}/groups k")));
        for (what, token, part) in [
            ("forged", foreign.sign(&token(json!({}))).unwrap(), "signature"),
            (
                "expired",
                own.sign(&token(json!({"exp": now - 1}))).unwrap(),
                "expired",
            ),
            (
                "for others",
                own.sign(&token(json!({"aud": "x"}))).unwrap(),
                "audience",
            ),
        ] {
            let error = ask(&token).await.unwrap_err().0;
            assert!(error.contains(part), "{what}: {error}");
        }
        for other in [
            own.sign(&token(json!({"iss": "https://b"}))).unwrap(),
            "opaque".to_owned(),
        ] {
            assert_eq!(ask(&other).await.unwrap(), None);
        }
    }
}
