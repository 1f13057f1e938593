//! From one version of a custom resource to another one: by name alone, or by a webhook.

use bytes::Bytes;
use rutter_api::object::ObjectExt;
use rutter_api::{ErrorList, GroupVersion, Reason, StatusError, Value, field, validation};
use rutter_outbound::{Caller, Endpoint, Outbound};
use serde_json::json;
use std::time::Duration;

/// How long a conversion may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is read.
const ANSWER: usize = 64 << 20;
/// How many objects are converted at once.
const BATCH: usize = 500;

/// A definition's way between versions.
pub enum Conversion {
    /// Versions differ in name alone.
    None,
    /// A webhook converts.
    Webhook(Webhook),
}

/// A conversion webhook.
pub struct Webhook {
    review: Option<&'static str>,
    caller: Result<Caller, String>,
}

impl Conversion {
    /// What a definition says.
    pub(super) fn of(definition: &Value, outbound: &Outbound) -> Self {
        if definition.str_at("spec.conversion.strategy") != "Webhook" {
            return Self::None;
        }
        let webhook = definition.at("spec.conversion.webhook");
        let review = webhook
            .list_at("conversionReviewVersions")
            .iter()
            .find_map(|version| match version.as_str() {
                Some("v1") => Some("apiextensions.k8s.io/v1"),
                Some("v1beta1") => Some("apiextensions.k8s.io/v1beta1"),
                _ => None,
            });
        let caller = Endpoint::of_client_config(webhook.at("clientConfig"))
            .and_then(|endpoint| outbound.caller(endpoint))
            .map_err(|error| error.to_string());
        Self::Webhook(Webhook { review, caller })
    }

    /// Whether a webhook converts.
    pub fn is_webhook(&self) -> bool {
        matches!(self, Self::Webhook(_))
    }

    /// Brings objects into a version. Those that are in it already stay as they are.
    pub async fn convert(&self, objects: Vec<Value>, to: &GroupVersion) -> Result<Vec<Value>, StatusError> {
        let wanted = to.to_string();
        match self {
            Self::None => Ok(objects
                .into_iter()
                .map(|mut object| {
                    object.set("apiVersion", wanted.as_str());
                    object
                })
                .collect()),
            Self::Webhook(webhook) => webhook.convert(objects, &wanted).await,
        }
    }
}

impl Webhook {
    async fn convert(&self, mut objects: Vec<Value>, to: &str) -> Result<Vec<Value>, StatusError> {
        let due: Vec<usize> = (0..objects.len())
            .filter(|index| objects.get(*index).is_some_and(|o| o.str_at("apiVersion") != to))
            .collect();
        for batch in due.chunks(BATCH) {
            let sent: Vec<Value> = batch
                .iter()
                .filter_map(|index| objects.get_mut(*index).map(Value::take))
                .collect();
            let converted = self.ask(sent, to).await?;
            for (index, object) in batch.iter().zip(converted) {
                if let Some(place) = objects.get_mut(*index) {
                    *place = object;
                }
            }
        }
        Ok(objects)
    }

    async fn ask(&self, objects: Vec<Value>, to: &str) -> Result<Vec<Value>, StatusError> {
        let subject = objects.first().map(kind_text).unwrap_or_default();
        let failed =
            |why: &dyn std::fmt::Display| plain(format!("conversion webhook for {subject} failed: {why}"));
        let review = self
            .review
            .ok_or_else(|| failed(&"no supported conversion review versions"))?;
        let caller = self.caller.as_ref().map_err(|why| failed(why))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let mut question = json!({
            "kind": "ConversionReview", "apiVersion": review,
            "request": {"uid": uid, "desiredAPIVersion": to},
        });
        question.set("request.objects", Value::Array(objects));
        let body = Bytes::from(question.to_string());
        let answer = caller.post_json("timeout=30s", body, TIMEOUT, ANSWER).await;
        let answer = answer.map_err(|error| failed(&error))?;
        let converted = read(&answer, review, &uid).map_err(|why| failed(&why))?;
        let sent = question.list_at("request.objects");
        if converted.len() != sent.len() {
            return Err(plain(format!(
                "conversion webhook for {subject} returned {} objects, expected {}",
                converted.len(),
                sent.len()
            )));
        }
        let mut out = Vec::with_capacity(converted.len());
        for (index, (sent, converted)) in sent.iter().zip(converted).enumerate() {
            let checked = accept(sent, converted, to).map_err(|why| {
                plain(format!(
                    "conversion webhook for {subject} returned invalid converted object at index {index}: {why}"
                ))
            })?;
            out.push(checked);
        }
        Ok(out)
    }
}

/// A failure without a reason, as clients know it.
fn plain(text: String) -> StatusError {
    StatusError::new(Reason::Unknown, text)
}

/// Group, version and kind as errors name them.
fn kind_text(object: &Value) -> String {
    format!("{}, Kind={}", object.str_at("apiVersion"), object.str_at("kind"))
}

/// The converted objects in an answer.
fn read(answer: &[u8], review: &str, uid: &str) -> Result<Vec<Value>, String> {
    let (mut value, _) = rutter_api::codec::json::parse(answer)
        .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?;
    let current = review == "apiextensions.k8s.io/v1";
    if current {
        let (version, kind) = (value.str_at("apiVersion"), value.str_at("kind"));
        if (version, kind) != (review, "ConversionReview") {
            return Err(format!(
                "expected webhook response of {review}, Kind=ConversionReview, got {version}, Kind={kind}"
            ));
        }
    }
    if !value.at("response").is_object() {
        return Err("no response provided".to_owned());
    }
    let sent = value.str_at("response.uid");
    if current && sent != uid {
        return Err(format!("expected response.uid={uid:?}, got {sent:?}"));
    }
    let (status, message) = (
        value.str_at("response.result.status"),
        value.str_at("response.result.message"),
    );
    if status != "Success" {
        return Err(match message {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_owned(),
        });
    }
    Ok(match value.take_at("response.convertedObjects") {
        Some(Value::Array(objects)) => objects,
        _ => Vec::new(),
    })
}

/// Checks a converted object and gives it back the metadata that a webhook may not change: all but labels and annotations.
fn accept(sent: &Value, mut converted: Value, to: &str) -> Result<Value, String> {
    let version = converted.str_at("apiVersion");
    if version != to {
        return Err(format!(
            "invalid groupVersion (expected {to}, received {version})"
        ));
    }
    let (wanted, kind) = (sent.str_at("kind"), converted.str_at("kind"));
    if wanted != kind {
        return Err(format!("invalid kind (expected {wanted}, received {kind})"));
    }
    for (field, before, after) in [
        ("name", sent.name(), converted.name()),
        ("namespace", sent.namespace(), converted.namespace()),
        ("UID", sent.uid(), converted.uid()),
    ] {
        if before != after {
            return Err(format!("must have the same {field}: {before} != {after}"));
        }
    }
    let Some(answered) = converted.take_at("metadata") else {
        return Err("missing metadata in converted object".to_owned());
    };
    if !answered.is_object() {
        return Err("invalid metadata in converted object".to_owned());
    }
    let mut metadata = sent.at("metadata").clone();
    let mut changed = false;
    for field in ["labels", "annotations"] {
        match answered.at(field) {
            Value::Null => {
                metadata.take_at(field);
            }
            Value::Object(map) => {
                if let Some((key, _)) = map.iter().find(|(_, value)| !value.is_string()) {
                    return Err(format!(
                        "metadata.{field}[{key}] must be a string in converted object"
                    ));
                }
                changed |= metadata.at(field) != answered.at(field);
                metadata.set(field, answered.at(field).clone());
            }
            _ => return Err(format!("invalid metadata.{field} in converted object")),
        }
    }
    converted.set("metadata", metadata);
    if changed {
        let found: ErrorList = validation::create(
            &converted,
            !converted.namespace().is_empty(),
            rutter_api::strategy::NameRule::PathSegment,
        );
        let about = |error: &rutter_api::FieldError| {
            ["metadata.labels", "metadata.annotations"]
                .iter()
                .any(|field| error.field.starts_with(field))
        };
        let found: ErrorList = found.into_iter().filter(about).collect();
        if !found.is_empty() {
            return Err(field::aggregate(&found));
        }
    }
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, labels: Value) -> Value {
        json!({"apiVersion": version, "kind": "Foo", "metadata": {"name": "a", "namespace": "n", "uid": "1", "generation": 3, "labels": labels}})
    }

    #[test]
    fn a_converted_object_keeps_its_identity() {
        let sent = object("x.io/v1", json!({"a": "b"}));
        let mut converted = object("x.io/v2", json!({"c": "d"}));
        converted.set("metadata.generation", 9);
        let accepted = accept(&sent, converted.clone(), "x.io/v2").unwrap();
        assert_eq!(accepted["metadata"]["generation"], 3);
        assert_eq!(accepted["metadata"]["labels"], json!({"c": "d"}));
        for (path, value, want) in [
            ("metadata.name", json!("b"), "must have the same name: a != b"),
            ("metadata.uid", json!("2"), "must have the same UID: 1 != 2"),
            ("kind", json!("Bar"), "invalid kind (expected Foo, received Bar)"),
            (
                "apiVersion",
                json!("x.io/v1"),
                "invalid groupVersion (expected x.io/v2, received x.io/v1)",
            ),
            ("metadata", Value::Null, "must have the same name: a != "),
        ] {
            let mut wrong = converted.clone();
            wrong.set(path, value);
            assert_eq!(accept(&sent, wrong, "x.io/v2").unwrap_err(), want, "{path}");
        }
    }

    #[test]
    fn answers_that_are_none_say_why() {
        let review = "apiextensions.k8s.io/v1";
        let answer = |response: Value| {
            json!({"kind": "ConversionReview", "apiVersion": review, "response": response}).to_string()
        };
        for (text, want) in [
            (answer(Value::Null), "no response provided"),
            (
                answer(json!({"uid": "x"})),
                "expected response.uid=\"u\", got \"x\"",
            ),
            (
                answer(json!({"uid": "u", "result": {"status": "Failure", "message": "no"}})),
                "no",
            ),
            (
                answer(json!({"uid": "u", "result": {}})),
                "response.result.status was '', not 'Success'",
            ),
        ] {
            assert_eq!(read(text.as_bytes(), review, "u").unwrap_err(), want);
        }
        let good = answer(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [1]}));
        assert_eq!(read(good.as_bytes(), review, "u").unwrap(), [json!(1)]);
    }
}
