//! One record: what happened to a request at a stage, in the form of `audit.k8s.io/v1` `Event`.

use jiff::Timestamp;
use rutter_api::{UserInfo, Value};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::policy::Level;

/// When in a request's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It came; nothing was done yet.
    RequestReceived,
    /// The headers of a long answer were sent.
    ResponseStarted,
    /// All was sent.
    ResponseComplete,
    /// It ended in a panic.
    Panic,
}

impl Stage {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [
            Self::RequestReceived,
            Self::ResponseStarted,
            Self::ResponseComplete,
            Self::Panic,
        ]
        .into_iter()
        .find(|stage| stage.as_str() == text)
    }

    pub(crate) fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectRef {
    /// The plural resource.
    pub resource: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The uid, where the object sent has one.
    pub uid: String,
    /// The API group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The resourceVersion, where the object sent has one.
    pub resource_version: String,
    /// The subresource.
    pub subresource: String,
}

/// A record in the making; [`Event::at`] gives what is known at a stage.
#[derive(Clone, Debug)]
pub struct Event {
    /// How much is recorded.
    pub level: Level,
    /// The request's id.
    pub id: String,
    /// The path and query, as sent.
    pub uri: String,
    /// The verb.
    pub verb: String,
    /// By whom; empty while that isn't known.
    pub user: UserInfo,
    /// As whom.
    pub impersonated: Option<UserInfo>,
    /// From where, the origin first.
    pub sources: Vec<String>,
    /// `User-Agent`
    pub agent: String,
    /// About what.
    pub object: Option<ObjectRef>,
    /// How it was answered, as a `Status` without what is too much.
    pub status: Option<Value>,
    /// The object sent.
    pub request: Option<Value>,
    /// The object answered.
    pub response: Option<Value>,
    /// When it came.
    pub received: Timestamp,
    /// What plugins have to say.
    pub annotations: BTreeMap<String, String>,
}

impl Event {
    /// The record of a stage.
    pub fn at(&self, stage: Stage, now: Timestamp) -> Value {
        let level = match self.level {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        };
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| drop(out.insert(key.to_owned(), value));
        put("kind", "Event".into());
        put("apiVersion", "audit.k8s.io/v1".into());
        put("level", level.into());
        put("auditID", self.id.as_str().into());
        put("stage", stage.as_str().into());
        put("requestURI", self.uri.as_str().into());
        put("verb", self.verb.as_str().into());
        put("user", user(&self.user));
        if let Some(other) = &self.impersonated {
            put("impersonatedUser", user(other));
        }
        if !self.sources.is_empty() {
            put("sourceIPs", json!(self.sources));
        }
        if !self.agent.is_empty() {
            put("userAgent", self.agent.as_str().into());
        }
        if let Some(object) = &self.object {
            put("objectRef", object.value());
        }
        if let Some(status) = &self.status {
            put("responseStatus", status.clone());
        }
        if let Some(object) = &self.request {
            put("requestObject", object.clone());
        }
        if let Some(object) = &self.response {
            put("responseObject", object.clone());
        }
        put("requestReceivedTimestamp", micro(self.received).into());
        put("stageTimestamp", micro(now).into());
        if !self.annotations.is_empty() {
            put("annotations", json!(self.annotations));
        }
        Value::Object(out)
    }
}

impl ObjectRef {
    fn value(&self) -> Value {
        let fields = [
            ("resource", &self.resource),
            ("namespace", &self.namespace),
            ("name", &self.name),
            ("uid", &self.uid),
            ("apiGroup", &self.group),
            ("apiVersion", &self.version),
            ("resourceVersion", &self.resource_version),
            ("subresource", &self.subresource),
        ];
        let set = fields.into_iter().filter(|(_, text)| !text.is_empty());
        Value::Object(
            set.map(|(key, text)| (key.to_owned(), text.as_str().into()))
                .collect(),
        )
    }
}

fn user(user: &UserInfo) -> Value {
    let mut out = Map::new();
    for (key, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            out.insert(key.to_owned(), text.as_str().into());
        }
    }
    if !user.groups.is_empty() {
        out.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        out.insert("extra".to_owned(), json!(user.extra));
    }
    Value::Object(out)
}

/// A time with microseconds, as `metav1.MicroTime`.
fn micro(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// Takes the managed fields out of an object, or out of a list's.
pub fn without_managed_fields(object: &mut Value) {
    use rutter_api::object::ObjectExt;
    object.take_at("metadata.managedFields");
    for item in object.list_at_mut("items").into_iter().flatten() {
        item.take_at("metadata.managedFields");
    }
}

/// A record as one line of text: the older form.
pub fn legacy(event: &Value) -> String {
    use rutter_api::object::ObjectExt;
    let or = |text: &str, other: &str| {
        if text.is_empty() {
            other.to_owned()
        } else {
            text.to_owned()
        }
    };
    let groups = |path: &str, other: &str| match event.list_at(path) {
        [] => other.to_owned(),
        list => list
            .iter()
            .map(|group| format!("{group}"))
            .collect::<Vec<_>>()
            .join(","),
    };
    let named = !event.str_at("user.username").is_empty();
    let response = event
        .int_at("responseStatus.code")
        .map_or("<deferred>".to_owned(), |code| code.to_string());
    let mut line = format!("{} AUDIT:", event.str_at("requestReceivedTimestamp"));
    for (key, text) in [
        ("id", event.str_at("auditID").to_owned()),
        ("stage", event.str_at("stage").to_owned()),
        (
            "ip",
            or(
                event
                    .list_at("sourceIPs")
                    .first()
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
                "<unknown>",
            ),
        ),
        ("method", event.str_at("verb").to_owned()),
        ("user", or(event.str_at("user.username"), "<none>")),
        (
            "groups",
            if named {
                groups("user.groups", "<none>")
            } else {
                "<none>".to_owned()
            },
        ),
        ("as", or(event.str_at("impersonatedUser.username"), "<self>")),
        ("asgroups", groups("impersonatedUser.groups", "<lookup>")),
        ("user-agent", event.str_at("userAgent").to_owned()),
        ("namespace", or(event.str_at("objectRef.namespace"), "<none>")),
        ("uri", event.str_at("requestURI").to_owned()),
        ("response", response),
    ] {
        let _ = write!(line, " {key}={text:?}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            level: Level::Metadata,
            id: "1-2".to_owned(),
            uri: "/api/v1/namespaces/a/pods/x".to_owned(),
            verb: "get".to_owned(),
            user: UserInfo {
                name: "jane".to_owned(),
                groups: vec!["dev".to_owned()],
                ..UserInfo::default()
            },
            impersonated: None,
            sources: vec!["192.0.2.1".to_owned()],
            agent: "kubectl".to_owned(),
            object: Some(ObjectRef {
                resource: "pods".to_owned(),
                namespace: "a".to_owned(),
                name: "x".to_owned(),
                version: "v1".to_owned(),
                ..ObjectRef::default()
            }),
            status: Some(json!({"metadata": {}, "code": 200})),
            request: None,
            response: None,
            received: Timestamp::from_microsecond(1_700_000_000_000_001).unwrap(),
            annotations: BTreeMap::from([("authorization.k8s.io/decision".to_owned(), "allow".to_owned())]),
        }
    }

    #[test]
    fn records_have_upstreams_form() {
        let now = Timestamp::from_second(1_700_000_001).unwrap();
        let got = event().at(Stage::ResponseComplete, now);
        let want = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "1-2",
            "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/a/pods/x", "verb": "get",
            "user": {"username": "jane", "groups": ["dev"]}, "sourceIPs": ["192.0.2.1"], "userAgent": "kubectl",
            "objectRef": {"resource": "pods", "namespace": "a", "name": "x", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 200},
            "requestReceivedTimestamp": "2023-11-14T22:13:20.000001Z", "stageTimestamp": "2023-11-14T22:13:21.000000Z",
            "annotations": {"authorization.k8s.io/decision": "allow"},
        });
        assert_eq!(got, want);
        let line = r#"2023-11-14T22:13:20.000001Z AUDIT: id="1-2" stage="ResponseComplete" ip="192.0.2.1" method="get" user="jane""#;
        assert!(legacy(&got).starts_with(line), "{}", legacy(&got));
        assert!(legacy(&got).ends_with(r#"uri="/api/v1/namespaces/a/pods/x" response="200""#));
    }

    #[test]
    fn managed_fields_go_from_objects_and_lists() {
        let mut list = json!({"items": [{"metadata": {"name": "a", "managedFields": [1]}}]});
        without_managed_fields(&mut list);
        assert_eq!(list, json!({"items": [{"metadata": {"name": "a"}}]}));
    }
}
