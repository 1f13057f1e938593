//! Bootstrap tokens: `id.secret`, kept as Secrets in `kube-system`, for joining nodes.

use crate::names;
use crate::{Authenticated, AuthenticationError, Authenticator, Clock, Credentials};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, UserInfo, Value};
use std::sync::Arc;
use subtle::ConstantTimeEq;

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

/// Recognizes bootstrap tokens (`--enable-bootstrap-token-auth`).
pub struct BootstrapTokens {
    reader: Arc<dyn ObjectReader>,
    clock: Clock,
}

impl BootstrapTokens {
    /// Reads the tokens through `reader`.
    pub fn new(reader: Arc<dyn ObjectReader>, clock: Clock) -> Self {
        Self { reader, clock }
    }
}

#[async_trait]
impl Authenticator for BootstrapTokens {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let Some((id, secret)) = credentials.bearer_token.and_then(split) else {
            return Ok(None);
        };
        let secrets = GroupResource::new("", "secrets");
        let name = format!("bootstrap-token-{id}");
        let Some(object) = self.reader.get(&secrets, "kube-system", &name) else {
            return Ok(None);
        };
        let user = check(&object, id, secret, (self.clock)());
        Ok(user.map(|user| Authenticated {
            user,
            audiences: Vec::new(),
        }))
    }
}

/// The id (6) and secret (16) of a token, both lower-case letters and digits.
fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// The user of a token, when the Secret vouches for it now.
fn check(object: &Value, id: &str, secret: &str, now: Timestamp) -> Option<UserInfo> {
    let data = |key: &str| -> String {
        let encoded = object
            .at("data")
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default();
        STANDARD
            .decode(encoded)
            .ok()
            .and_then(|b| String::from_utf8(b).ok())
            .unwrap_or_default()
    };
    let held = data("token-secret");
    let good = !object.is_deleting()
        && object.str_at("type") == SECRET_TYPE
        && !held.is_empty()
        && bool::from(held.as_bytes().ct_eq(secret.as_bytes()))
        && data("token-id") == id
        && !is_expired(&data("expiration"), now)
        && data("usage-bootstrap-authentication") == "true";
    if !good {
        return None;
    }
    let mut groups = vec![names::BOOTSTRAPPERS.to_owned()];
    for group in data("auth-extra-groups")
        .split(',')
        .map(str::trim)
        .filter(|g| !g.is_empty())
    {
        // One bad group makes the whole token useless, as in upstream.
        if !is_bootstrap_group(group) {
            return None;
        }
        groups.push(group.to_owned());
    }
    Some(UserInfo {
        name: format!("system:bootstrap:{id}"),
        groups,
        ..UserInfo::default()
    })
}

fn is_expired(expiration: &str, now: Timestamp) -> bool {
    match expiration {
        "" => false,
        text => {
            text.parse::<Timestamp>().is_ok_and(|until| until <= now) || text.parse::<Timestamp>().is_err()
        }
    }
}

/// `system:bootstrappers:` and then letters, digits, `:` and `-`, ending in a letter or digit.
fn is_bootstrap_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else {
        return false;
    };
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b':' || b == b'-';
    let end = rest
        .bytes()
        .last()
        .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    rest.len() <= 256 && end && rest.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(changes: &[(&str, &str)]) -> Value {
        let mut data = json!({});
        let defaults = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("expiration", "2026-06-01T00:00:00Z"),
            (
                "auth-extra-groups",
                "system:bootstrappers:kubeadm:default-node-token",
            ),
        ];
        for (key, value) in defaults.iter().chain(changes) {
            data[key] = Value::from(STANDARD.encode(value));
        }
        json!({"type": SECRET_TYPE, "data": data, "metadata": {"name": "bootstrap-token-abcdef"}})
    }

    #[test]
    fn a_token_is_good_only_when_its_secret_says_so() {
        let now: Timestamp = "2026-05-01T00:00:00Z".parse().unwrap();
        let good = check(&secret(&[]), "abcdef", "0123456789abcdef", now).unwrap();
        assert_eq!(good.name, "system:bootstrap:abcdef");
        assert_eq!(
            good.groups,
            [
                "system:bootstrappers",
                "system:bootstrappers:kubeadm:default-node-token"
            ]
        );
        for change in [
            ("token-secret", "0123456789abcdee"),
            ("token-id", "abcdee"),
            ("expiration", "2026-04-01T00:00:00Z"),
            ("expiration", "soon"),
            ("usage-bootstrap-authentication", "false"),
            ("auth-extra-groups", "system:masters"),
        ] {
            assert!(
                check(&secret(&[change]), "abcdef", "0123456789abcdef", now).is_none(),
                "{change:?}"
            );
        }
        assert!(split("abcdef.0123456789abcdef").is_some());
        assert!(split("ABCDEF.0123456789abcdef").is_none());
    }
}
