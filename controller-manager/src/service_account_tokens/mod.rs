//! The service account token controller: fills Secrets of the type `kubernetes.io/service-account-token` with a token, and deletes those whose
//! service account is gone. Such tokens don't expire; pods get expiring ones by other means.

use crate::common::owners::{annotation, name, namespace, uid};
use crate::frame::{Context, Loop, Reconcile, ignore_not_found, own_key};
use anyhow::Context as _;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::watcher;
use rcgen::PublicKeyData as _;
use rutter_client::informer::{Informer, ObjectKey};
use rutter_client::{Requeue, Store};
use serde_json::json;
use sha2::{Digest as _, Sha256};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Signs tokens.
struct Issuer {
    key: EncodingKey,
    header: Header,
}

impl Issuer {
    fn from_pem(pem: &str) -> anyhow::Result<Self> {
        let pair = rcgen::KeyPair::from_pem(pem).context("reading the key")?;
        // The apiserver finds the key by the hash of its public half.
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info()));
        let (key, algorithm) = match EncodingKey::from_rsa_pem(pem.as_bytes()) {
            Ok(key) => (key, Algorithm::RS256),
            Err(_) => (
                EncodingKey::from_ec_pem(pem.as_bytes())
                    .context("the key is neither RSA nor of an elliptic curve")?,
                Algorithm::ES256,
            ),
        };
        let header = Header {
            typ: None,
            kid: Some(id),
            ..Header::new(algorithm)
        };
        Ok(Self { key, header })
    }

    fn token(&self, account: &ServiceAccount, secret: &str) -> anyhow::Result<String> {
        let (space, account_name) = (namespace(&account.metadata), name(&account.metadata));
        let claims = json!({
            "iss": "kubernetes/serviceaccount",
            "sub": format!("system:serviceaccount:{space}:{account_name}"),
            "kubernetes.io/serviceaccount/namespace": space,
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": account_name,
            "kubernetes.io/serviceaccount/service-account.uid": uid(&account.metadata),
        });
        jsonwebtoken::encode(&self.header, &claims, &self.key).context("signing a token")
    }
}

/// Fills Secrets.
pub struct TokenController {
    client: kube::Client,
    secrets: Store<Secret>,
    accounts: Store<ServiceAccount>,
    issuer: Issuer,
    ca: Option<Vec<u8>>,
}

/// Runs the controller until stopped. Without a key there is nothing to sign with.
pub async fn run(context: Context) {
    let Some(path) = context.options.service_account_private_key_file.clone() else {
        return;
    };
    let read = std::fs::read_to_string(&path)
        .context("reading")
        .and_then(|pem| Issuer::from_pem(&pem));
    let issuer = match read {
        Ok(issuer) => issuer,
        Err(error) => {
            return tracing::error!("--service-account-private-key-file {}: {error:#}", path.display());
        }
    };
    let ca = context
        .options
        .certificates
        .root_ca_file
        .as_ref()
        .and_then(|p| std::fs::read(p).ok());
    let mut frame = Loop::<ObjectKey>::new(&context);
    let config = watcher::Config::default().fields(&format!("type={TYPE}"));
    let informer = Informer::start(Api::<Secret>::all(context.informers.client().clone()), config);
    let known = informer.store();
    let secrets = frame.watch_with(informer, own_key);
    let accounts = frame.watch::<ServiceAccount>(move |change, queue| {
        let Some(account) = change.object() else { return };
        for secret in known.list_in(namespace(&account.metadata)) {
            if annotation(&secret.metadata, ACCOUNT_NAME) == Some(name(&account.metadata)) {
                queue.add(ObjectKey::of(&*secret));
            }
        }
    });
    let workers = context.options.concurrent_serviceaccount_token_syncs;
    frame
        .run(
            workers,
            TokenController {
                client: context.client,
                secrets,
                accounts,
                issuer,
                ca,
            },
        )
        .await;
}

/// Whether the account is the one that a Secret is for.
fn is_for(secret: &Secret, account: &ServiceAccount) -> bool {
    annotation(&secret.metadata, ACCOUNT_UID).is_none_or(|u| u.is_empty() || u == uid(&account.metadata))
}

/// The Secret as it should be when something is missing.
fn filled(
    secret: &Secret,
    account: &ServiceAccount,
    issuer: &Issuer,
    ca: Option<&[u8]>,
) -> anyhow::Result<Option<Secret>> {
    let mut after = secret.clone();
    let annotations = after.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCOUNT_UID.to_owned(), uid(&account.metadata).to_owned());
    let data = after.data.get_or_insert_default();
    if data.get("token").is_none_or(|t| t.0.is_empty()) {
        data.insert(
            "token".to_owned(),
            ByteString(issuer.token(account, name(&secret.metadata))?.into_bytes()),
        );
    }
    data.insert(
        "namespace".to_owned(),
        ByteString(namespace(&secret.metadata).as_bytes().to_vec()),
    );
    if let Some(ca) = ca {
        data.insert("ca.crt".to_owned(), ByteString(ca.to_vec()));
    }
    Ok((after != *secret).then_some(after))
}

#[async_trait]
impl Reconcile for TokenController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(secret) = self.secrets.get(&key.namespace, &key.name) else {
            return Ok(Requeue::Done);
        };
        let Some(account) = annotation(&secret.metadata, ACCOUNT_NAME).filter(|n| !n.is_empty()) else {
            return Ok(Requeue::Done);
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let mut found = self
            .accounts
            .get(&key.namespace, account)
            .map(|a| ServiceAccount::clone(&a))
            .filter(|a| is_for(&secret, a));
        if found.is_none() {
            // The account may be newer than what is seen here.
            let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.namespace);
            let fresh =
                ignore_not_found(accounts.get(account).await).context("asking for a service account")?;
            found = fresh.filter(|a| is_for(&secret, a));
        }
        let Some(account) = found else {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: secret.metadata.uid.clone(),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            ignore_not_found(api.delete(&key.name, &params).await)
                .context("deleting a token whose service account is gone")?;
            return Ok(Requeue::Done);
        };
        if let Some(after) = filled(&secret, &account, &self.issuer, self.ca.as_deref())? {
            ignore_not_found(api.replace(&key.name, &PostParams::default(), &after).await)
                .context("filling a token's Secret")?;
        }
        Ok(Requeue::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_filled_once_for_its_own_account() {
        let issuer = Issuer::from_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "default", "uid": "u"}}))
                .unwrap();
        let secret = |id: &str| -> Secret {
            let annotations = json!({ACCOUNT_NAME: "a", ACCOUNT_UID: id});
            serde_json::from_value(
                json!({"metadata": {"name": "s", "namespace": "default", "annotations": annotations}}),
            )
            .unwrap()
        };
        assert!(
            is_for(&secret(""), &account)
                && is_for(&secret("u"), &account)
                && !is_for(&secret("other"), &account)
        );
        let made = filled(&secret(""), &account, &issuer, Some(b"CA"))
            .unwrap()
            .unwrap();
        let data = made.data.as_ref().unwrap();
        assert_eq!(
            (data["namespace"].0.as_slice(), data["ca.crt"].0.as_slice()),
            (b"default".as_slice(), b"CA".as_slice())
        );
        let token = String::from_utf8(data["token"].0.clone()).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["sub"], "system:serviceaccount:default:a");
        assert_eq!(filled(&made, &account, &issuer, Some(b"CA")).unwrap(), None);
    }
}
