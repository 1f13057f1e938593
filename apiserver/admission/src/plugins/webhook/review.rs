//! The question that a webhook is asked and the answer that it gives: `AdmissionReview` in v1 and v1beta1. Pure.

use crate::Attributes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rutter_api::object::ObjectExt;
use rutter_api::status::Cause;
use rutter_api::{GroupVersionKind, Reason, Resource, StatusError, UserInfo, Value};
use serde::Serialize;
use std::collections::BTreeMap;

/// A version of `AdmissionReview`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V1Beta1,
}

impl Version {
    /// The first of a webhook's `admissionReviewVersions` that is known here.
    pub(super) fn first_of(names: &[Value]) -> Option<Self> {
        names.iter().find_map(|name| match name.as_str() {
            Some("v1") => Some(Self::V1),
            Some("v1beta1") => Some(Self::V1Beta1),
            _ => None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1Beta1 => "v1beta1",
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

#[derive(Serialize)]
struct Review<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    request: Request<'a>,
}

#[derive(Serialize)]
struct Kind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

#[derive(Serialize)]
struct Resourced<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
}

#[derive(Serialize)]
struct User<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    kind: Kind<'a>,
    resource: Resourced<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sub_resource: &'a str,
    request_kind: Kind<'a>,
    request_resource: Resourced<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_sub_resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    operation: &'static str,
    user_info: User<'a>,
    object: &'a Value,
    old_object: &'a Value,
    dry_run: bool,
    options: &'a Value,
}

fn kind(of: &GroupVersionKind) -> Kind<'_> {
    Kind {
        group: &of.group,
        version: &of.version,
        kind: &of.kind,
    }
}

fn resource(of: &Resource) -> Resourced<'_> {
    Resourced {
        group: &of.group_version.group,
        version: &of.group_version.version,
        resource: &of.plural,
    }
}

fn user(of: &UserInfo) -> User<'_> {
    User {
        username: &of.name,
        uid: &of.uid,
        groups: &of.groups,
        extra: &of.extra,
    }
}

/// The question about a write, looked at as `as_resource` with these objects (null for none).
pub(super) fn question(
    version: Version,
    uid: &str,
    write: &Attributes<'_>,
    as_resource: &Resource,
    object: &Value,
    old: &Value,
) -> Bytes {
    let request_kind = write.kind_in(write.resource);
    let as_kind = write.kind_in(as_resource);
    let namespace = write.request_namespace();
    let review = Review {
        kind: "AdmissionReview",
        api_version: version.api_version(),
        request: Request {
            uid,
            kind: kind(&as_kind),
            resource: resource(as_resource),
            sub_resource: write.subresource,
            request_kind: kind(&request_kind),
            request_resource: resource(write.resource),
            request_sub_resource: write.subresource,
            name: write.name,
            namespace: &namespace,
            operation: write.operation.as_str(),
            user_info: user(write.user),
            object,
            old_object: old,
            dry_run: write.dry_run,
            options: write.options,
        },
    };
    // Maps of text and trees of JSON always serialize.
    serde_json::to_vec(&review).unwrap_or_default().into()
}

/// What expressions know as `request`: the question without the objects.
pub(in crate::plugins) fn request(write: &Attributes<'_>, as_resource: &Resource) -> Value {
    let request_kind = write.kind_in(write.resource);
    let as_kind = write.kind_in(as_resource);
    let namespace = write.request_namespace();
    let request = Request {
        uid: "",
        kind: kind(&as_kind),
        resource: resource(as_resource),
        sub_resource: write.subresource,
        request_kind: kind(&request_kind),
        request_resource: resource(write.resource),
        request_sub_resource: write.subresource,
        name: write.name,
        namespace: &namespace,
        operation: write.operation.as_str(),
        user_info: user(write.user),
        object: &Value::Null,
        old_object: &Value::Null,
        dry_run: write.dry_run,
        options: write.options,
    };
    let mut request = serde_json::to_value(&request).unwrap_or_default();
    if let Some(fields) = request.as_object_mut() {
        for field in ["uid", "object", "oldObject"] {
            fields.remove(field);
        }
    }
    request
}

/// What a webhook answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    /// A JSON patch; none when nothing is to be changed.
    pub(super) patch: Option<Vec<u8>>,
    /// A `Status`, or null.
    pub(super) result: Value,
    pub(super) annotations: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
}

/// Reads an answer, or tells what is wrong with it.
pub(super) fn answer(version: Version, uid: &str, mutating: bool, body: &[u8]) -> Result<Answer, String> {
    let (review, _) = rutter_api::codec::json::parse(body)
        .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?;
    let response = review.at("response");
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    if version == Version::V1 {
        let sent = response.str_at("uid");
        if sent != uid {
            return Err(format!("expected response.uid={uid:?}, got {sent:?}"));
        }
        let (sent_version, sent_kind) = (review.str_at("apiVersion"), review.str_at("kind"));
        if (sent_version, sent_kind) != (version.api_version(), "AdmissionReview") {
            return Err(format!(
                "expected webhook response of {}, Kind=AdmissionReview, got {sent_version}, Kind={sent_kind}",
                version.api_version()
            ));
        }
    }
    let allowed = match response.at("allowed") {
        Value::Null => false,
        Value::Bool(allowed) => *allowed,
        other => return Err(mistyped(version, "allowed", other, "bool")),
    };
    let texts = |field: &str| -> Vec<String> {
        let list = response.list_at(field).iter().filter_map(Value::as_str);
        list.map(str::to_owned).collect()
    };
    let annotations = response.map_at("auditAnnotations").into_iter().flatten();
    let annotations = annotations.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    Ok(Answer {
        allowed,
        patch: patch(version, mutating, response)?,
        result: response.at("status").clone(),
        annotations: annotations.collect(),
        warnings: texts("warnings"),
    })
}

fn mistyped(version: Version, field: &str, value: &Value, wanted: &str) -> String {
    let described = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!(
        "AdmissionReview in version {:?} cannot be handled as a AdmissionReview: json: cannot unmarshal {described} into Go struct field AdmissionResponse.response.{field} of type {wanted}",
        version.name()
    )
}

fn patch(version: Version, mutating: bool, response: &Value) -> Result<Option<Vec<u8>>, String> {
    let patch = match response.at("patch") {
        Value::Null => Vec::new(),
        Value::String(text) => STANDARD
            .decode(text)
            .map_err(|_| "illegal base64 data in response.patch".to_owned())?,
        other => return Err(mistyped(version, "patch", other, "[]uint8")),
    };
    let kind = response.at("patchType").as_str();
    if version == Version::V1Beta1 {
        return Ok(Some(patch).filter(|patch| mutating && !patch.is_empty()));
    }
    if !mutating {
        return match (patch.is_empty(), kind) {
            (true, None) => Ok(None),
            (false, _) => Err("validating webhook may not return response.patch".to_owned()),
            (true, Some(_)) => Err("validating webhook may not return response.patchType".to_owned()),
        };
    }
    match (patch.is_empty(), kind) {
        (true, None) => Ok(None),
        (false, None) => Err("webhook returned response.patch but not response.patchType".to_owned()),
        (true, Some(_)) => Err("webhook returned response.patchType but not response.patch".to_owned()),
        (false, Some("")) => Err("webhook returned invalid response.patchType of \"\"".to_owned()),
        (false, Some("JSONPatch")) => Ok(Some(patch)),
        (false, Some(other)) => Err(format!("unsupported patch type {other:?}")),
    }
}

/// The refusal that an answer is.
pub(super) fn refusal(webhook: &str, result: &Value) -> StatusError {
    let denied = format!("admission webhook {webhook:?} denied the request");
    let (message, reason) = (result.str_at("message"), result.str_at("reason"));
    let message = match (message, reason) {
        ("", "") => format!("{denied} without explanation"),
        ("", why) | (why, _) => format!("{denied}: {why}"),
    };
    let code = result.int_at("code").and_then(|code| u16::try_from(code).ok());
    let text = |path: &str| result.str_at(path).to_owned();
    let cause = |cause: &Value| Cause {
        reason: cause.str_at("reason").to_owned(),
        message: cause.str_at("message").to_owned(),
        field: cause.str_at("field").to_owned(),
    };
    let retry = result.int_at("details.retryAfterSeconds");
    StatusError {
        reason: Reason::parse(reason),
        code: code.filter(|code| (400..600).contains(code)).unwrap_or(400),
        message,
        group: text("details.group"),
        kind: text("details.kind"),
        name: text("details.name"),
        uid: text("details.uid"),
        causes: result.list_at("details.causes").iter().map(cause).collect(),
        retry_after_seconds: retry
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(version: Version, mutating: bool, review: &Value) -> Result<Answer, String> {
        answer(version, "u", mutating, review.to_string().as_bytes())
    }

    #[test]
    fn answers_are_checked_by_their_version() {
        let patch = STANDARD.encode("[]");
        let review = |version: &str, response: Value| json!({"kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "response": response});
        let allowed = read(
            Version::V1,
            true,
            &review(
                "v1",
                json!({"uid": "u", "allowed": true, "warnings": ["w"], "auditAnnotations": {"a": "b"}}),
            ),
        );
        assert_eq!(
            allowed.unwrap(),
            Answer {
                allowed: true,
                warnings: vec!["w".to_owned()],
                annotations: vec![("a".to_owned(), "b".to_owned())],
                ..Answer::default()
            }
        );
        for (mutating, sent, want) in [
            (
                true,
                json!({"kind": "AdmissionReview"}),
                "webhook response was absent",
            ),
            (
                true,
                review("v1", json!({"uid": "x"})),
                "expected response.uid=\"u\", got \"x\"",
            ),
            (
                true,
                review("v1beta1", json!({"uid": "u"})),
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1beta1, Kind=AdmissionReview",
            ),
            (
                true,
                review("v1", json!({"uid": "u", "patch": patch})),
                "webhook returned response.patch but not response.patchType",
            ),
            (
                true,
                review("v1", json!({"uid": "u", "patchType": "JSONPatch"})),
                "webhook returned response.patchType but not response.patch",
            ),
            (
                true,
                review("v1", json!({"uid": "u", "patchType": "Merge", "patch": patch})),
                "unsupported patch type \"Merge\"",
            ),
            (
                false,
                review(
                    "v1",
                    json!({"uid": "u", "patchType": "JSONPatch", "patch": patch}),
                ),
                "validating webhook may not return response.patch",
            ),
        ] {
            assert_eq!(read(Version::V1, mutating, &sent).unwrap_err(), want);
        }
        let older = read(
            Version::V1Beta1,
            true,
            &json!({"response": {"allowed": true, "patch": patch}}),
        );
        assert_eq!(older.unwrap().patch.unwrap(), b"[]");
    }

    #[test]
    fn refusals_keep_what_the_webhook_says() {
        for (result, message, code) in [
            (Value::Null, " without explanation", 400),
            (json!({"message": "no"}), ": no", 400),
            (json!({"reason": "Forbidden", "code": 403}), ": Forbidden", 403),
            (json!({"message": "no", "reason": "x", "code": 200}), ": no", 400),
        ] {
            let error = refusal("w.x.io", &result);
            assert_eq!(
                error.message,
                format!("admission webhook \"w.x.io\" denied the request{message}")
            );
            assert_eq!(error.code, code);
        }
    }
}
