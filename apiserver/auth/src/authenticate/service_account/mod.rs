//! Service account tokens: recognizing them ([`ServiceAccountTokens`]), issuing them ([`issue`]) and publishing the keys
//! that verify them ([`discovery`]).
//!
//! Two kinds are recognized: bound tokens of the TokenRequest API, and the legacy ones that live in Secrets. A token is
//! as alive as what it is bound to: the service account and its pod, node or Secret are looked up on every check.

mod claims;
pub mod discovery;
pub mod issue;

pub use super::jwt as keys;
pub use claims::{BoundTo, Claims, Kubernetes, Reference};
pub use issue::{Issuer, TokenRequests};
pub use keys::{KeyError, SigningKey, VerifyingKey};

use crate::names;
use crate::{Authenticated, AuthenticationError, Authenticator, Clock, Credentials};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, UserInfo, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The issuer of legacy tokens.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// How far clocks may be apart.
const LEEWAY: i64 = 60;

/// What is needed to recognize tokens.
pub struct Config {
    /// `--service-account-issuer`, the first one issues; all are recognized.
    pub issuers: Vec<String>,
    /// `--api-audiences`; the issuers by default.
    pub audiences: Vec<String>,
    /// `--service-account-key-file`, all of them.
    pub keys: Vec<VerifyingKey>,
    /// `--service-account-lookup`, for legacy tokens.
    pub lookup: bool,
}

/// Recognizes service account tokens.
pub struct ServiceAccountTokens {
    config: Config,
    reader: Arc<dyn ObjectReader>,
    clock: Clock,
}

impl ServiceAccountTokens {
    /// Looks objects up through `reader`.
    pub fn new(config: Config, reader: Arc<dyn ObjectReader>, clock: Clock) -> Self {
        Self {
            config,
            reader,
            clock,
        }
    }

    /// The user of a token meant for one of `audiences` (the server's own when empty). None when it is no token of ours.
    pub fn check(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let Some(payload) = keys::payload(token) else {
            return Ok(None);
        };
        let issuer = payload.str_at("iss");
        let legacy = issuer == LEGACY_ISSUER;
        if !legacy && !self.config.issuers.iter().any(|i| i == issuer) {
            return Ok(None);
        }
        keys::verify(token, &self.config.keys).map_err(|e| AuthenticationError(e.to_string()))?;
        let mut held = strings(&payload["aud"]);
        if held.is_empty() {
            held.clone_from(&self.config.audiences);
        }
        let wanted = if audiences.is_empty() {
            &self.config.audiences
        } else {
            audiences
        };
        let common: Vec<String> = held.iter().filter(|a| wanted.contains(a)).cloned().collect();
        if common.is_empty() && !self.config.audiences.is_empty() {
            return refuse(format!(
                "token audiences {held:?} is invalid for the target audiences {wanted:?}"
            ));
        }
        let now = (self.clock)();
        let user = if legacy {
            self.legacy(token, &payload)?
        } else {
            self.bound(&payload, now)?
        };
        Ok(Some(Authenticated {
            user,
            audiences: common,
        }))
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.reader
            .get(&GroupResource::new("", resource), namespace, name)
    }

    fn account(&self, namespace: &str, name: &str) -> Result<Arc<Value>, AuthenticationError> {
        self.get("serviceaccounts", namespace, name)
            .ok_or_else(|| AuthenticationError(format!("serviceaccounts {name:?} not found")))
    }

    fn bound(&self, payload: &Value, now: Timestamp) -> Result<UserInfo, AuthenticationError> {
        let claims = Claims::from_value(payload).ok_or_else(|| {
            AuthenticationError("service account token claims could not be read".to_owned())
        })?;
        claims
            .check_times(now)
            .map_err(|e| AuthenticationError(e.to_owned()))?;
        let kubernetes = &claims.kubernetes;
        let (namespace, account) = (&kubernetes.namespace, &kubernetes.service_account);
        let object = self.account(namespace, &account.name)?;
        if object.uid() != account.uid {
            let message = format!(
                "service account UID ({}) does not match claim ({})",
                object.uid(),
                account.uid
            );
            return refuse(message);
        }
        if is_gone(&object, now) {
            return refuse(format!(
                "service account {namespace}/{} has been deleted",
                account.name
            ));
        }
        if let Some(secret) = &kubernetes.secret {
            self.check_bound("secrets", "secret", namespace, secret, now)?;
        }
        if let Some(pod) = &kubernetes.pod {
            self.check_bound("pods", "pod", namespace, pod, now)?;
        } else if let Some(node) = &kubernetes.node {
            self.check_bound("nodes", "node", "", node, now)?;
        }
        let mut user = user(namespace, &account.name, &account.uid);
        let mut extra = |key: &str, value: &str| {
            if !value.is_empty() {
                user.extra.insert(
                    format!("authentication.kubernetes.io/{key}"),
                    vec![value.to_owned()],
                );
            }
        };
        if let Some(pod) = &kubernetes.pod {
            extra("pod-name", &pod.name);
            extra("pod-uid", &pod.uid);
        }
        if let Some(node) = &kubernetes.node {
            extra("node-name", &node.name);
            extra("node-uid", &node.uid);
        }
        if !claims.id.is_empty() {
            extra("credential-id", &format!("JTI={}", claims.id));
        }
        Ok(user)
    }

    fn check_bound(
        &self,
        resource: &str,
        what: &str,
        namespace: &str,
        reference: &Reference,
        now: Timestamp,
    ) -> Result<(), AuthenticationError> {
        let object = self.get(resource, namespace, &reference.name);
        let Some(object) = object.filter(|object| !is_gone(object, now)) else {
            return refuse("service account token has been invalidated".to_owned());
        };
        if object.uid() != reference.uid {
            return refuse(format!(
                "{what} UID ({}) does not match service account {what} ref claim ({})",
                object.uid(),
                reference.uid
            ));
        }
        Ok(())
    }

    fn legacy(&self, token: &str, payload: &Value) -> Result<UserInfo, AuthenticationError> {
        let claim = |key: &str| {
            payload
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let of = |key: &str| claim(&format!("kubernetes.io/serviceaccount/{key}"));
        let (namespace, secret) = (of("namespace"), of("secret.name"));
        let (name, uid) = (of("service-account.name"), of("service-account.uid"));
        let subject = claim("sub");
        for (value, what) in [
            (&subject, "sub"),
            (&namespace, "namespace"),
            (&secret, "secretName"),
            (&name, "serviceAccountName"),
            (&uid, "serviceAccountUID"),
        ] {
            if value.is_empty() {
                return refuse(format!("{what} claim is missing"));
            }
        }
        if names::split_service_account(&subject) != Some((&namespace, &name)) {
            return refuse("sub claim is invalid".to_owned());
        }
        if self.config.lookup {
            let object = self
                .get("secrets", &namespace, &secret)
                .filter(|s| !s.is_deleting());
            let Some(object) = object else {
                return refuse("Token has been invalidated".to_owned());
            };
            let held = STANDARD.decode(object.str_at("data.token")).unwrap_or_default();
            if !bool::from(held.ct_eq(token.as_bytes())) {
                return refuse("Token does not match server's copy".to_owned());
            }
            let account = self.account(&namespace, &name)?;
            if account.is_deleting() {
                return refuse(format!("ServiceAccount {namespace}/{name} has been deleted"));
            }
            if account.uid() != uid {
                return refuse(format!(
                    "ServiceAccount UID ({}) does not match claim ({uid})",
                    account.uid()
                ));
            }
            if object
                .label("kubernetes.io/legacy-token-invalid-since")
                .is_some_and(|since| !since.is_empty())
            {
                return refuse(format!(
                    "the token in secret {namespace}/{secret} for service account {namespace}/{name} has been marked invalid"
                ));
            }
        }
        Ok(user(&namespace, &name, &uid))
    }
}

fn refuse<T>(why: String) -> Result<T, AuthenticationError> {
    Err(AuthenticationError(why))
}

/// Whether an object's deletion time has passed. Until then (a pod in its grace period) it still vouches for its tokens.
fn is_gone(object: &Value, now: Timestamp) -> bool {
    let Some(time) = object.at("metadata.deletionTimestamp").as_str() else {
        return false;
    };
    let Ok(time) = time.parse::<Timestamp>() else {
        return true;
    };
    now.checked_sub(SignedDuration::from_secs(LEEWAY))
        .is_ok_and(|limit| time < limit)
}

fn user(namespace: &str, name: &str, uid: &str) -> UserInfo {
    UserInfo {
        name: names::service_account(namespace, name),
        uid: uid.to_owned(),
        groups: vec![
            names::SERVICE_ACCOUNTS.to_owned(),
            format!("{}:{namespace}", names::SERVICE_ACCOUNTS),
        ],
        extra: BTreeMap::new(),
    }
}

/// A text or a list of texts.
pub(crate) fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[async_trait]
impl Authenticator for ServiceAccountTokens {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        match credentials.bearer_token {
            Some(token) => self.check(token, credentials.audiences),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
