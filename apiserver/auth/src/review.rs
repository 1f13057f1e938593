//! The review APIs: who is this, may they, what may they. Functions from the request object to the answered object.

use crate::{Attributes, Authenticator, Authorizer, Credentials, Decision};
use rutter_api::object::ObjectExt;
use rutter_api::selector::{Operator, Requirement};
use rutter_api::{FieldError, FieldSelector, GroupKind, LabelSelector, Path, StatusError, UserInfo, Value};
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
    let own = review.namespace();
    if !own.is_empty() && own != namespace {
        return Err(StatusError::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    let kind = "LocalSubjectAccessReview";
    check(&review, kind, true)?;
    let path = Path::new("spec");
    let resource = review.at("spec.resourceAttributes");
    let asked = resource.str_at("namespace");
    let error = if resource.is_null() {
        let other = review.at("spec.nonResourceAttributes").clone();
        let path = path.child("nonResourceAttributes");
        Some(FieldError::invalid(
            &path,
            other,
            "disallowed on this kind of request",
        ))
    } else if asked != namespace {
        let path = path.child("resourceAttributes").child("namespace");
        Some(FieldError::invalid(&path, asked, "must match metadata.namespace"))
    } else {
        None
    };
    if let Some(error) = error {
        return Err(StatusError::invalid(
            &GroupKind::new(AUTHORIZATION, kind),
            "",
            &[error],
        ));
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
    for field in ["fieldSelector", "labelSelector"] {
        let path = spec.child("resourceAttributes").child(field);
        errors.extend(check_selector(resource.at(field), &path));
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

/// A selector is a text or requirements. Operators that this server doesn't know are let through: a newer client may ask.
fn check_selector(selector: &Value, path: &Path) -> Vec<FieldError> {
    if selector.is_null() {
        return Vec::new();
    }
    let mut errors = Vec::new();
    let raw = selector.str_at("rawSelector");
    let requirements = selector.list_at("requirements");
    match (raw.is_empty(), requirements.is_empty()) {
        (false, false) => {
            let why = "may not specified at the same time as requirements";
            errors.push(FieldError::invalid(&path.child("rawSelector"), raw, why));
        }
        (true, true) => {
            let why = format!("when {path} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(&path.child("requirements"), why));
        }
        _ => {}
    }
    for (index, requirement) in requirements.iter().enumerate() {
        let path = path.child("requirements").index(index);
        let values = requirement.list_at("values");
        if requirement.str_at("key").is_empty() {
            errors.push(FieldError::required(&path.child("key"), "must be specified"));
        }
        let at = path.child("values");
        match requirement.str_at("operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(
                    &at,
                    "must be specified when `operator` is 'In' or 'NotIn'",
                ));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.push(FieldError::forbidden(
                    &at,
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ));
            }
            _ => {}
        }
    }
    errors
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

/// The attributes that a review asks about, and what of its selectors could not be used.
fn attributes(review: &Value) -> (Attributes<'_>, Vec<String>) {
    let resource = review.at("spec.resourceAttributes");
    if resource.is_null() {
        let other = review.at("spec.nonResourceAttributes");
        let attributes = Attributes {
            verb: other.str_at("verb").into(),
            path: other.str_at("path").into(),
            ..Attributes::default()
        };
        return (attributes, Vec::new());
    }
    let mut ignored = Vec::new();
    let mut selector = |name: &str, text: fn(&Value) -> Option<String>, parses: fn(&str) -> bool| {
        let selector = resource.at(name);
        let (text, whole) = selector_text(selector, text, parses);
        if !whole {
            let partially = if text.is_empty() { "" } else { "partially " };
            ignored.push(format!(
                "spec.resourceAttributes.{name} {partially}ignored due to parse error"
            ));
        }
        text
    };
    let attributes = Attributes {
        verb: resource.str_at("verb").into(),
        namespace: resource.str_at("namespace").into(),
        group: resource.str_at("group").into(),
        version: match resource.str_at("version") {
            "" => "*".into(),
            given => given.into(),
        },
        resource: resource.str_at("resource").into(),
        subresource: resource.str_at("subresource").into(),
        name: resource.str_at("name").into(),
        path: Cow::Borrowed(""),
        field_selector: selector("fieldSelector", field_requirement, |text| {
            FieldSelector::parse(text).is_ok()
        })
        .into(),
        label_selector: selector("labelSelector", label_requirement, |text| {
            LabelSelector::parse(text).is_ok()
        })
        .into(),
    };
    (attributes, ignored)
}

/// A selector's text, and whether it says all of it. A requirement that can't be said is left out: all must hold, so
/// that only asks about more.
fn selector_text(
    selector: &Value,
    text: fn(&Value) -> Option<String>,
    parses: fn(&str) -> bool,
) -> (String, bool) {
    let raw = selector.str_at("rawSelector");
    if !raw.is_empty() {
        let good = parses(raw);
        return (if good { raw.to_owned() } else { String::new() }, good);
    }
    let requirements = selector.list_at("requirements");
    let said: Vec<String> = requirements
        .iter()
        .filter_map(text)
        .filter(|text| parses(text))
        .collect();
    (said.join(","), said.len() == requirements.len())
}

fn values(requirement: &Value) -> Vec<&str> {
    requirement
        .list_at("values")
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

/// A `FieldSelectorRequirement` as text; field selectors know one value at a time.
fn field_requirement(requirement: &Value) -> Option<String> {
    let sign = match requirement.str_at("operator") {
        "In" => "=",
        "NotIn" => "!=",
        _ => return None,
    };
    let [one] = values(requirement)[..] else {
        return None;
    };
    let mut text = format!("{}{sign}", requirement.str_at("key"));
    for character in one.chars() {
        if matches!(character, '\\' | ',' | '=') {
            text.push('\\');
        }
        text.push(character);
    }
    Some(text)
}

/// A `LabelSelectorRequirement` as text.
fn label_requirement(requirement: &Value) -> Option<String> {
    let operator = match requirement.str_at("operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => return None,
    };
    let values = values(requirement).into_iter().map(str::to_owned).collect();
    let good = Requirement::new(requirement.str_at("key"), operator, values).ok()?;
    Some(LabelSelector::from_requirements(vec![good]).to_string())
}

async fn answer(authorizer: &dyn Authorizer, user: &UserInfo, mut review: Value) -> Value {
    let (attributes, ignored) = attributes(&review);
    let decision = authorizer.authorize(user, &attributes).await;
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
    if !ignored.is_empty() {
        status.insert("evaluationError".to_owned(), Value::from(ignored.join("; ")));
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

    #[test]
    fn selectors_are_asked_about_as_far_as_they_can_be_said() {
        let one = |operator: &str, values: Value| json!({"requirements": [{"key": "k", "operator": operator, "values": values}]});
        for (selector, fields, labels, whole) in [
            (json!({"rawSelector": "k=v"}), "k=v", "k=v", [true, true]),
            (json!({"rawSelector": "k in ("}), "", "", [false, false]),
            (one("In", json!(["v"])), "k=v", "k in (v)", [true, true]),
            (one("In", json!(["a,b"])), "k=a\\,b", "", [true, false]),
            (
                one("NotIn", json!(["v", "w"])),
                "",
                "k notin (v,w)",
                [false, true],
            ),
            (one("Exists", json!([])), "", "k", [false, true]),
            (one("DoesNotExist", json!([])), "", "!k", [false, true]),
            (one("Near", json!(["v"])), "", "", [false, false]),
        ] {
            let review = json!({"spec": {"resourceAttributes": {"fieldSelector": selector, "labelSelector": selector}}});
            let (got, ignored) = attributes(&review);
            assert_eq!(
                (&*got.field_selector, &*got.label_selector),
                (fields, labels),
                "{selector}"
            );
            let told = ["fieldSelector", "labelSelector"]
                .map(|name| !ignored.iter().any(|text| text.contains(name)));
            assert_eq!(told, whole, "{selector}: {ignored:?}");
        }
        for (selector, part) in [
            (json!({}), "requirements or rawSelector is required"),
            (
                json!({"rawSelector": "a", "requirements": [{"key": "k", "operator": "Exists"}]}),
                "may not specified at the same time",
            ),
            (
                one("In", json!([])),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            (
                one("Exists", json!(["v"])),
                "may not be specified when `operator`",
            ),
        ] {
            let review = json!({"spec": {"resourceAttributes": {"labelSelector": selector}}});
            let error = check(&review, "SelfSubjectAccessReview", false).unwrap_err();
            assert!(error.message.contains(part), "{}", error.message);
        }
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
