//! Bootstrap tokens: signs the cluster's public information with them, so that a joining node can check it, and deletes those that have expired.

use crate::common::owners::{name, namespace};
use crate::frame::{Context, Loop, Reconcile, ignore_not_found, is_conflict};
use anyhow::Context as _;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::watcher;
use rutter_client::informer::{Informer, ObjectKey};
use rutter_client::{Requeue, Store};
use std::collections::BTreeMap;
use std::time::Duration;

const SECRETS: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const PUBLIC: &str = "kube-public";
const INFO: &str = "cluster-info";
const SIGNATURE: &str = "jws-kubeconfig-";

fn tokens(context: &Context) -> Informer<Secret> {
    let config = watcher::Config::default().fields(&format!("type={TYPE}"));
    Informer::start(
        Api::<Secret>::namespaced(context.informers.client().clone(), SECRETS),
        config,
    )
}

fn text(secret: &Secret, key: &str) -> String {
    let value = secret
        .data
        .as_ref()
        .and_then(|d| d.get(key))
        .map(|v| v.0.as_slice())
        .unwrap_or_default();
    String::from_utf8_lossy(value).into_owned()
}

/// How long a token still lasts: `None` for ever, zero when it has expired or its expiry can't be read.
fn left(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let expires = text(secret, "expiration");
    if expires.is_empty() {
        return None;
    }
    let Ok(expires) = expires.parse::<Timestamp>() else {
        return Some(Duration::ZERO);
    };
    Some(Duration::try_from(expires.duration_since(now)).unwrap_or_default())
}

/// The ID and secret of a token that may sign.
fn signing_token(secret: &Secret, now: Timestamp) -> Option<(String, String)> {
    let (id, key) = (text(secret, "token-id"), text(secret, "token-secret"));
    let named = name(&secret.metadata).strip_prefix(PREFIX) == Some(id.as_str());
    let may =
        text(secret, "usage-bootstrap-signing") == "true" && left(secret, now).is_none_or(|l| !l.is_zero());
    (named && may && !id.is_empty() && !key.is_empty()).then_some((id, key))
}

/// A signature in the detached form of JWS, by HMAC with SHA-256.
fn sign(content: &str, id: &str, key: &str) -> anyhow::Result<String> {
    let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{id}\"}}"));
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = jsonwebtoken::EncodingKey::from_secret(key.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256)
        .context("signing")?;
    Ok(format!("{header}..{signature}"))
}

/// The map with the signatures of these tokens and no others, when that is a change.
fn signed(map: &ConfigMap, tokens: &BTreeMap<String, String>) -> anyhow::Result<Option<ConfigMap>> {
    let Some(content) = map.data.as_ref().and_then(|d| d.get("kubeconfig")) else {
        return Ok(None);
    };
    let mut after = map.clone();
    let data = after.data.get_or_insert_default();
    data.retain(|k, _| !k.starts_with(SIGNATURE));
    for (id, key) in tokens {
        data.insert(format!("{SIGNATURE}{id}"), sign(content, id, key)?);
    }
    Ok((after != *map).then_some(after))
}

/// Signs.
pub struct BootstrapSigner {
    client: kube::Client,
    tokens: Store<Secret>,
    info: Store<ConfigMap>,
}

/// Runs the signing controller until stopped.
pub async fn run_signer(context: Context) {
    let mut frame = Loop::<()>::new(&context);
    let tokens = frame.watch_with(tokens(&context), |_, queue| queue.add(()));
    let config = watcher::Config::default().fields(&format!("metadata.name={INFO}"));
    let info = Informer::start(
        Api::<ConfigMap>::namespaced(context.informers.client().clone(), PUBLIC),
        config,
    );
    let info = frame.watch_with(info, |_, queue| queue.add(()));
    frame
        .run(
            1,
            BootstrapSigner {
                client: context.client,
                tokens,
                info,
            },
        )
        .await;
}

#[async_trait]
impl Reconcile for BootstrapSigner {
    type Key = ();

    async fn reconcile(&self, (): ()) -> anyhow::Result<Requeue> {
        let Some(map) = self.info.get(PUBLIC, INFO) else {
            return Ok(Requeue::Done);
        };
        let now = Timestamp::now();
        let all = self.tokens.list();
        let tokens: BTreeMap<String, String> = all.iter().filter_map(|s| signing_token(s, now)).collect();
        if let Some(after) = signed(&map, &tokens)? {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), PUBLIC);
            ignore_not_found(api.replace(INFO, &PostParams::default(), &after).await)
                .context("signing the cluster's information")?;
        }
        // The next token to expire takes its signature with it.
        let next = all
            .iter()
            .filter_map(|s| left(s, now))
            .filter(|l| !l.is_zero())
            .min();
        Ok(next.map_or(Requeue::Done, Requeue::After))
    }
}

/// Deletes expired tokens.
pub struct TokenCleaner {
    client: kube::Client,
    tokens: Store<Secret>,
}

/// Runs the cleaning controller until stopped.
pub async fn run_cleaner(context: Context) {
    let mut frame = Loop::<ObjectKey>::new(&context);
    let tokens = frame.watch_with(tokens(&context), crate::frame::own_key);
    frame
        .run(
            1,
            TokenCleaner {
                client: context.client,
                tokens,
            },
        )
        .await;
}

#[async_trait]
impl Reconcile for TokenCleaner {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(token) = self.tokens.get(&key.namespace, &key.name) else {
            return Ok(Requeue::Done);
        };
        match left(&token, Timestamp::now()) {
            None => Ok(Requeue::Done),
            Some(left) if !left.is_zero() => Ok(Requeue::After(left)),
            Some(_) => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace(&token.metadata));
                let params = DeleteParams {
                    preconditions: Some(Preconditions {
                        uid: token.metadata.uid.clone(),
                        resource_version: None,
                    }),
                    ..DeleteParams::default()
                };
                match ignore_not_found(api.delete(&key.name, &params).await) {
                    Err(error) if !is_conflict(&error) => Err(error).context("deleting an expired token"),
                    _ => Ok(Requeue::Done),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn token(id: &str, expires: &str, usage: &str) -> Secret {
        let data = [
            ("token-id", id),
            ("token-secret", "s3cret"),
            ("expiration", expires),
            ("usage-bootstrap-signing", usage),
        ];
        let mut secret = Secret {
            data: Some(
                data.map(|(k, v)| (k.to_owned(), ByteString(v.as_bytes().to_vec())))
                    .into(),
            ),
            ..Secret::default()
        };
        secret.metadata.name = Some(format!("{PREFIX}abcdef"));
        secret
    }

    #[test]
    fn only_a_living_token_of_its_own_name_signs() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (what, token, want) in [
            ("good", token("abcdef", "2026-01-02T00:00:00Z", "true"), true),
            ("without end", token("abcdef", "", "true"), true),
            ("expired", token("abcdef", "2025-01-02T00:00:00Z", "true"), false),
            ("of another name", token("fedcba", "", "true"), false),
            ("not for signing", token("abcdef", "", ""), false),
        ] {
            assert_eq!(signing_token(&token, now).is_some(), want, "{what}");
        }
    }

    #[test]
    fn signatures_follow_the_tokens() {
        let map: ConfigMap = serde_json::from_value(
            serde_json::json!({"data": {"kubeconfig": "content", "jws-kubeconfig-gone": "x"}}),
        )
        .unwrap();
        let tokens = BTreeMap::from([("abcdef".to_owned(), "s3cret".to_owned())]);
        let after = signed(&map, &tokens).unwrap().unwrap();
        let keys: Vec<&str> = after.data.as_ref().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["jws-kubeconfig-abcdef", "kubeconfig"]);
        let signature = &after.data.as_ref().unwrap()["jws-kubeconfig-abcdef"];
        assert!(
            signature.starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9.."),
            "{signature}"
        );
        assert_eq!(signed(&after, &tokens).unwrap(), None);
    }
}
