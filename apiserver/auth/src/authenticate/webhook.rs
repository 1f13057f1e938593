//! Tokens that a webhook knows (`--authentication-token-webhook-config-file`): it is asked by a `TokenReview`.

use crate::remote::{Remote, persist};
use crate::{Authenticated, AuthenticationError, Authenticator, Credentials};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{UserInfo, Value};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The version of `TokenReview` that is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// `authentication.k8s.io/v1`
    V1,
    /// `authentication.k8s.io/v1beta1`
    #[default]
    V1beta1,
}

impl Version {
    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1beta1),
            _ => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }
}

/// Asks a webhook whose token it is.
pub struct WebhookTokens {
    remote: Arc<dyn Remote>,
    version: Version,
    own_audiences: Vec<String>,
}

impl WebhookTokens {
    /// `own_audiences` (`--api-audiences`) are asked for, and are those of answers that name none.
    pub fn new(remote: Arc<dyn Remote>, version: Version, own_audiences: Vec<String>) -> Self {
        Self {
            remote,
            version,
            own_audiences,
        }
    }
}

fn question(version: Version, token: &str, audiences: &[String]) -> Value {
    let mut spec = json!({"token": token});
    if !audiences.is_empty() {
        spec["audiences"] = json!(audiences);
    }
    json!({
        "kind": "TokenReview",
        "apiVersion": format!("authentication.k8s.io/{}", version.as_str()),
        "metadata": {"creationTimestamp": null},
        "spec": spec,
        "status": {"user": {}},
    })
}

/// The user of an answer, for one of the audiences that were asked for; none when it is nobody's.
fn read(answer: &Value, wanted: &[String], own: &[String]) -> Result<Option<Authenticated>, String> {
    let status = answer.at("status");
    if status.bool_at("authenticated") != Some(true) {
        let error = status.str_at("error");
        return match error {
            "" => Ok(None),
            why => Err(why.to_owned()),
        };
    }
    let texts = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let told = texts(status.at("audiences"));
    let held = if told.is_empty() { own } else { &told };
    let audiences: Vec<String> = wanted.iter().filter(|a| held.contains(a)).cloned().collect();
    if audiences.is_empty() && !wanted.is_empty() {
        return Ok(None);
    }
    let user = status.at("user");
    let extra = user.map_at("extra").into_iter().flatten();
    Ok(Some(Authenticated {
        user: UserInfo {
            name: user.str_at("username").to_owned(),
            uid: user.str_at("uid").to_owned(),
            groups: texts(user.at("groups")),
            extra: extra.map(|(key, values)| (key.clone(), texts(values))).collect(),
        },
        audiences,
    }))
}

#[async_trait]
impl Authenticator for WebhookTokens {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let Some(token) = credentials.bearer_token else {
            return Ok(None);
        };
        let wanted = match credentials.audiences {
            [] => &self.own_audiences,
            asked => asked,
        };
        let question = question(self.version, token, wanted).to_string();
        let answer = persist(&*self.remote, question.into(), TIMEOUT).await;
        let answer = answer.map_err(|error| AuthenticationError(error.text))?;
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|error| AuthenticationError(format!("the webhook's answer is not JSON: {error}")))?;
        read(&answer, wanted, &self.own_audiences).map_err(AuthenticationError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::testing::{Script, failure};

    #[tokio::test]
    async fn the_webhook_says_whose_a_token_is() {
        let own = || vec!["api".to_owned()];
        let yes = |more: Value| {
            let mut status = json!({"authenticated": true, "user": {"username": "jane", "uid": "7", "groups": ["dev"], "extra": {"k": ["v"]}}});
            status
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            Ok(json!({"status": status}))
        };
        let vault = ["vault".to_owned()];
        // the answer, the audiences that are asked for, and the audiences held then; or none; or a part of the error
        type Want = Result<Option<&'static [&'static str]>, &'static str>;
        let table: Vec<(_, &[String], Want)> = vec![
            (yes(json!({})), &[], Ok(Some(&["api"]))),
            (yes(json!({"audiences": ["api", "x"]})), &[], Ok(Some(&["api"]))),
            (yes(json!({"audiences": ["vault"]})), &vault, Ok(Some(&["vault"]))),
            (yes(json!({})), &vault, Ok(None)),
            (Ok(json!({"status": {"authenticated": false}})), &[], Ok(None)),
            (
                Ok(json!({"status": {"authenticated": false, "error": "no"}})),
                &[],
                Err("no"),
            ),
            (Ok(json!("nonsense")), &[], Ok(None)),
            (failure(false), &[], Err("webhook is away")),
        ];
        for (answer, audiences, want) in table {
            let script = Arc::new(Script::of([answer.clone()]));
            let tokens = WebhookTokens::new(script.clone(), Version::V1, own());
            let credentials = Credentials {
                bearer_token: Some("t"),
                audiences,
                ..Credentials::default()
            };
            match (tokens.authenticate(&credentials).await, want) {
                (Ok(Some(known)), Ok(Some(held))) => {
                    assert_eq!(known.audiences, held);
                    assert_eq!(
                        (known.user.name.as_str(), known.user.extra["k"][0].as_str()),
                        ("jane", "v")
                    );
                }
                (Ok(None), Ok(None)) => {}
                (Err(error), Err(part)) => assert!(error.0.contains(part), "{error}"),
                (got, _) => panic!("{answer:?}: {got:?}"),
            }
            let asked = script.asked.lock();
            assert_eq!(asked[0].str_at("apiVersion"), "authentication.k8s.io/v1");
            assert_eq!(asked[0].str_at("spec.token"), "t");
        }
    }
}
