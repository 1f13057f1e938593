//! Service account tokens for pods: asked for with the pod as their bound object, kept while young, renewed before they end.

use crate::pods::{PodExt, Uid};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// No token is used for longer than this before it is renewed.
const MAX_AGE_SECONDS: i64 = 24 * 3600;

#[derive(Clone)]
struct Token {
    text: String,
    issued: Timestamp,
    expires: Timestamp,
    jitter_seconds: i64,
}

type Key = (Uid, String, i64);

/// The tokens of this node's pods. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tokens {
    client: kube::Client,
    kept: Arc<Mutex<HashMap<Key, Token>>>,
}

/// Whether a token should be replaced: after four fifths of its life, or a day, a little earlier on each pod to spread requests.
fn is_old(token: &Token, now: Timestamp) -> bool {
    let life = token.expires.as_second() - token.issued.as_second();
    let age = now.as_second() - token.issued.as_second();
    age >= (life * 4 / 5).min(MAX_AGE_SECONDS) - token.jitter_seconds
}

impl Tokens {
    /// No tokens yet.
    pub(crate) fn new(client: kube::Client) -> Self {
        Self {
            client,
            kept: Arc::default(),
        }
    }

    /// A token of the pod's service account for an audience.
    pub(crate) async fn get(
        &self,
        pod: &Pod,
        audience: Option<&str>,
        seconds: i64,
    ) -> Result<String, kube::Error> {
        let key = (pod.uid(), audience.unwrap_or_default().to_owned(), seconds);
        let now = Timestamp::now();
        let kept = self.kept.lock().get(&key).cloned();
        if let Some(token) = kept.as_ref().filter(|t| !is_old(t, now)) {
            return Ok(token.text.clone());
        }
        match self.request(pod, audience, seconds).await {
            Ok(token) => {
                let text = token.text.clone();
                self.kept.lock().insert(key, token);
                Ok(text)
            }
            // An old token is better than none while it is valid.
            Err(error) => match kept.filter(|t| t.expires > now) {
                Some(token) => {
                    tracing::warn!(pod = %pod.full_name(), %error, "renewing a service account token failed");
                    Ok(token.text)
                }
                None => Err(error),
            },
        }
    }

    async fn request(&self, pod: &Pod, audience: Option<&str>, seconds: i64) -> Result<Token, kube::Error> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), pod.namespace());
        let account = pod.spec().service_account_name.as_deref().unwrap_or("default");
        let request = TokenRequest {
            metadata: ObjectMeta::default(),
            spec: Some(TokenRequestSpec {
                audiences: Some(audience.into_iter().map(str::to_owned).collect()),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            }),
            status: None,
        };
        let issued = Timestamp::now();
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await?;
        let status = answer.status.unwrap_or_default();
        Ok(Token {
            text: status.token.unwrap_or_default(),
            issued,
            expires: status.expiration_timestamp.map_or(issued, |t| t.0),
            jitter_seconds: i64::from(rand::random::<u8>() % 10),
        })
    }

    /// Forgets a pod's tokens.
    pub(crate) fn release(&self, uid: &Uid) {
        self.kept.lock().retain(|(owner, ..), _| owner != uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_at_four_fifths_of_their_life_or_after_a_day() {
        let at = |s| Timestamp::from_second(s).expect("a time");
        let token = |life| Token {
            text: String::new(),
            issued: at(0),
            expires: at(life),
            jitter_seconds: 0,
        };
        assert!(!is_old(&token(3600), at(2879)));
        assert!(is_old(&token(3600), at(2880)));
        assert!(!is_old(&token(31_536_000), at(86_399)));
        assert!(is_old(&token(31_536_000), at(86_400)));
    }
}
