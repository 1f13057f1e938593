//! The review APIs: who is this, may they, what may they. Functions from the request object to the answered object.

use crate::{Attributes, Authenticator, Authorizer, Credentials, Decision};
use rutter_api::object::ObjectExt;
use rutter_api::{FieldError, GroupKind, Path, StatusError, UserInfo, Value};
use serde_json::{Map, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

const AUTHORIZATION: &str = "authorization.k8s.io";

/// `TokenReview`: whose token is this? `server_audiences` are the server's own (`--api-audiences`).
pub async fn token_review(
    authenticator: &dyn Authenticator,
    server_audiences: &[String],
    mut review: Value,
) -> Result<Value, StatusError> {
    let token = review.str_at("spec.token").to_owned();
    if token.is_empty() {
        return Err(StatusError::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked: Vec<String> = review
        .list_at("spec.audiences")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let wanted = if asked.is_empty() {
        server_audiences
    } else {
        &asked
    };
    let credentials = Credentials {
        bearer_token: Some(&token),
        audiences: wanted,
        ..Credentials::default()
    };
    let status = match authenticator.authenticate(&credentials).await {
        Err(error) => json!({"authenticated": false, "user": {}, "error": error.to_string()}),
        Ok(None) => json!({"authenticated": false, "user": {}}),
        Ok(Some(known)) => {
            // A credential without audiences of its own is good for the server's.
            let held = if known.audiences.is_empty() {
                server_audiences
            } else {
                &known.audiences
            };
            let common: Vec<&String> = held.iter().filter(|audience| wanted.contains(audience)).collect();
            if common.is_empty() && !wanted.is_empty() {
                let error =
                    format!("token audiences {held:?} is invalid for the target audiences {wanted:?}");
                json!({"authenticated": false, "user": {}, "error": error})
            } else {
                json!({"authenticated": true, "user": user_value(&known.user), "audiences": common})
            }
        }
    };
    review.set("status", status);
    Ok(review)
}

/// `SelfSubjectReview`: who am I?
pub fn self_subject_review(user: &UserInfo, mut review: Value) -> Value {
    review.set("status", json!({"userInfo": user_value(user)}));
    review
}

/// A user as the `UserInfo` of `authentication.k8s.io/v1`.
pub fn user_value(user: &UserInfo) -> Value {
    let mut map = Map::new();
    for (key, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            map.insert(key.to_owned(), Value::from(text.as_str()));
        }
    }
    if !user.groups.is_empty() {
        map.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        map.insert("extra".to_owned(), json!(user.extra));
    }
    Value::Object(map)
}

/// `SubjectAccessReview`: may they?
pub async fn subject_access_review(authorizer: &dyn Authorizer, review: Value) -> Result<Value, StatusError> {
    check(&review, "SubjectAccessReview", true)?;
    let user = subject(&review);
    Ok(answer(authorizer, &user, review).await)
}

/// `LocalSubjectAccessReview`: may they, in this namespace?
pub async fn local_subject_access_review(
    authorizer: &dyn Authorizer,
    namespace: &str,
    review: Value,
) -> Result<Value, StatusError> {
    let kind = "LocalSubjectAccessReview";
    check(&review, kind, true)?;
    let resource = review.at("spec.resourceAttributes");
    let path = Path::new("spec").child("resourceAttributes");
    let invalid = |error| {
        Err(StatusError::invalid(
            &GroupKind::new(AUTHORIZATION, kind),
            "",
            &[error],
        ))
    };
    if resource.is_null() {
        return invalid(FieldError::invalid(
            &Path::new("spec.nonResourceAttributes"),
            Value::Null,
            "disallowed on this kind of request",
        ));
    }
    let asked = resource.str_at("namespace");
    if asked != namespace {
        return Err(StatusError::bad_request(format!(
            "{}: must match metadata.namespace: {asked} != {namespace}",
            path.child("namespace")
        )));
    }
    let user = subject(&review);
    Ok(answer(authorizer, &user, review).await)
}

/// `SelfSubjectAccessReview`: may I?
pub async fn self_subject_access_review(
    authorizer: &dyn Authorizer,
    user: &UserInfo,
    review: Value,
) -> Result<Value, StatusError> {
    check(&review, "SelfSubjectAccessReview", false)?;
    Ok(answer(authorizer, user, review).await)
}

/// `SelfSubjectRulesReview`: what may I, in this namespace?
pub fn self_subject_rules_review(
    authorizer: &dyn Authorizer,
    user: &UserInfo,
    mut review: Value,
) -> Result<Value, StatusError> {
    let namespace = review.str_at("spec.namespace").to_owned();
    if namespace.is_empty() {
        return Err(StatusError::bad_request("no namespace on request"));
    }
    let status = match authorizer.rules(user, &namespace) {
        Some(rules) => {
            let mut status = json!({
                "resourceRules": rules.resource_rules,
                "nonResourceRules": rules.non_resource_rules,
                "incomplete": rules.incomplete.is_some(),
            });
            if let Some(error) = rules.incomplete {
                status["evaluationError"] = Value::from(error);
            }
            status
        }
        None => json!({
            "resourceRules": [], "nonResourceRules": [], "incomplete": true,
            "evaluationError": "the authorizer does not support user rule resolution",
        }),
    };
    review.set("status", status);
    Ok(review)
}

fn check(review: &Value, kind: &str, of_somebody: bool) -> Result<(), StatusError> {
    let spec = Path::new("spec");
    let (resource, other) = (
        review.at("spec.resourceAttributes"),
        review.at("spec.nonResourceAttributes"),
    );
    let mut errors = Vec::new();
    if !resource.is_null() && !other.is_null() {
        let why = "cannot be specified in combination with resourceAttributes";
        errors.push(FieldError::invalid(
            &spec.child("nonResourceAttributes"),
            other.clone(),
            why,
        ));
    }
    if resource.is_null() && other.is_null() {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::invalid(
            &spec.child("resourceAttributes"),
            Value::Null,
            why,
        ));
    }
    if of_somebody && review.str_at("spec.user").is_empty() && review.list_at("spec.groups").is_empty() {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&spec.child("user"), "", why));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(StatusError::invalid(
            &GroupKind::new(AUTHORIZATION, kind),
            "",
            &errors,
        ))
    }
}

fn subject(review: &Value) -> UserInfo {
    let strings = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let extra: BTreeMap<String, Vec<String>> = review
        .map_at("spec.extra")
        .into_iter()
        .flatten()
        .map(|(key, values)| (key.to_lowercase(), strings(values)))
        .collect();
    UserInfo {
        name: review.str_at("spec.user").to_owned(),
        uid: review.str_at("spec.uid").to_owned(),
        groups: strings(review.at("spec.groups")),
        extra,
    }
}

/// The attributes that a review asks about.
fn attributes(review: &Value) -> Attributes<'_> {
    let resource = review.at("spec.resourceAttributes");
    if resource.is_null() {
        let other = review.at("spec.nonResourceAttributes");
        return Attributes {
            verb: other.str_at("verb").into(),
            path: other.str_at("path").into(),
            ..Attributes::default()
        };
    }
    Attributes {
        verb: resource.str_at("verb").into(),
        namespace: resource.str_at("namespace").into(),
        group: resource.str_at("group").into(),
        version: resource.str_at("version").into(),
        resource: resource.str_at("resource").into(),
        subresource: resource.str_at("subresource").into(),
        name: resource.str_at("name").into(),
        path: Cow::Borrowed(""),
        field_selector: selector(resource.at("fieldSelector"), "key").into(),
        label_selector: selector(resource.at("labelSelector"), "key").into(),
    }
}

/// A selector's text: as sent, or made from its requirements. Only requirements that a text can say exactly are put in;
/// leaving one out only asks about more.
fn selector(selector: &Value, key: &str) -> String {
    let raw = selector.str_at("rawSelector");
    if !raw.is_empty() {
        return raw.to_owned();
    }
    let terms: Vec<String> = selector
        .list_at("requirements")
        .iter()
        .filter_map(|requirement| {
            let name = requirement.str_at(key);
            let values: Vec<&str> = requirement
                .list_at("values")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            match (requirement.str_at("operator"), values.as_slice()) {
                ("In", [one]) => Some(format!("{name}={one}")),
                ("NotIn", [one]) => Some(format!("{name}!={one}")),
                _ => None,
            }
        })
        .collect();
    terms.join(",")
}

async fn answer(authorizer: &dyn Authorizer, user: &UserInfo, mut review: Value) -> Value {
    let decision = authorizer.authorize(user, &attributes(&review)).await;
    let mut status = Map::new();
    let (allowed, denied, reason) = match decision {
        Decision::Allow(reason) => (true, false, reason),
        Decision::Deny(reason) => (false, true, reason),
        Decision::NoOpinion(reason) => (false, false, reason),
    };
    status.insert("allowed".to_owned(), Value::from(allowed));
    if denied {
        status.insert("denied".to_owned(), Value::from(true));
    }
    if !reason.is_empty() {
        status.insert("reason".to_owned(), Value::from(reason));
    }
    review.set("status", status);
    review
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::TokenFile;
    use crate::authorize::{AlwaysAllow, AlwaysDeny};

    #[tokio::test]
    async fn reviews_answer_in_their_status() {
        let spec = json!({"spec": {"user": "jane", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "a"}}});
        let yes = subject_access_review(&AlwaysAllow, spec.clone()).await.unwrap();
        assert_eq!(yes["status"], json!({"allowed": true}));
        let no = subject_access_review(&AlwaysDeny, spec.clone()).await.unwrap();
        assert_eq!(
            no["status"],
            json!({"allowed": false, "reason": "Everything is forbidden."})
        );
        assert!(
            local_subject_access_review(&AlwaysAllow, "b", spec)
                .await
                .is_err()
        );
        let nothing =
            self_subject_access_review(&AlwaysAllow, &UserInfo::default(), json!({"spec": {}})).await;
        assert_eq!(nothing.unwrap_err().code, 422);
        let rules = self_subject_rules_review(
            &AlwaysAllow,
            &UserInfo::default(),
            json!({"spec": {"namespace": "a"}}),
        );
        assert_eq!(rules.unwrap()["status"]["incomplete"], false);
    }

    #[tokio::test]
    async fn a_token_review_knows_tokens_and_audiences() {
        let tokens = TokenFile::parse("t,jane,7,dev").unwrap();
        let own = ["api".to_owned()];
        for (spec, want) in [
            (json!({"token": "t"}), true),
            (json!({"token": "x"}), false),
            (json!({"token": "t", "audiences": ["vault"]}), false),
        ] {
            let review = token_review(&tokens, &own, json!({"spec": spec})).await.unwrap();
            assert_eq!(review["status"]["authenticated"], want, "{review}");
        }
        assert_eq!(
            token_review(&tokens, &own, json!({"spec": {}}))
                .await
                .unwrap_err()
                .code,
            400
        );
    }
}
