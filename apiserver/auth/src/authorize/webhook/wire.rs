//! The `SubjectAccessReview` that a webhook is asked by, and what its answer means.

use crate::{Attributes, Decision};
use rutter_api::object::ObjectExt;
use rutter_api::selector::Operator;
use rutter_api::{FieldSelector, LabelSelector, UserInfo, Value};
use serde_json::{Map, json};

/// The version of `SubjectAccessReview` that is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// `authorization.k8s.io/v1`
    V1,
    /// `authorization.k8s.io/v1beta1`
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

    fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }
}

/// The `spec` of the question in v1, which match conditions see as `request`.
pub(super) fn spec(user: &UserInfo, attributes: &Attributes<'_>) -> Value {
    let mut spec = Map::new();
    for (key, text) in [("user", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            spec.insert(key.to_owned(), Value::from(text.as_str()));
        }
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
    let said = |pairs: &[(&str, &str)]| -> Map<String, Value> {
        let given = pairs.iter().filter(|(_, text)| !text.is_empty());
        given
            .map(|(key, text)| ((*key).to_owned(), Value::from(*text)))
            .collect()
    };
    if attributes.resource.is_empty() {
        let other = said(&[("path", &attributes.path), ("verb", &attributes.verb)]);
        spec.insert("nonResourceAttributes".to_owned(), Value::Object(other));
        return Value::Object(spec);
    }
    let mut resource = said(&[
        ("namespace", &attributes.namespace),
        ("verb", &attributes.verb),
        ("group", &attributes.group),
        ("version", &attributes.version),
        ("resource", &attributes.resource),
        ("subresource", &attributes.subresource),
        ("name", &attributes.name),
    ]);
    for (key, requirements) in [
        ("fieldSelector", field_requirements(&attributes.field_selector)),
        ("labelSelector", label_requirements(&attributes.label_selector)),
    ] {
        if !requirements.is_empty() {
            resource.insert(key.to_owned(), json!({"requirements": requirements}));
        }
    }
    spec.insert("resourceAttributes".to_owned(), Value::Object(resource));
    Value::Object(spec)
}

/// The `spec` as match conditions see it: texts and lists that are not said are there, and empty.
pub(super) fn whole(spec: &Value) -> Value {
    let mut whole = spec.clone();
    for (key, empty) in [
        ("user", json!("")),
        ("uid", json!("")),
        ("groups", json!([])),
        ("extra", json!({})),
    ] {
        whole.set_default(key, empty);
    }
    let said: [(&str, &[&str]); 2] = [
        (
            "resourceAttributes",
            &[
                "namespace",
                "verb",
                "group",
                "version",
                "resource",
                "subresource",
                "name",
            ],
        ),
        ("nonResourceAttributes", &["path", "verb"]),
    ];
    for (part, names) in said {
        for name in names.iter().filter(|_| spec.at(part).is_object()) {
            whole.set_default(&format!("{part}.{name}"), "");
        }
    }
    whole
}

/// A selector that can't be read is left out: the question is about more then.
fn field_requirements(text: &str) -> Vec<Value> {
    let selector = FieldSelector::parse(text).unwrap_or_default();
    let requirements = selector.requirements().iter();
    requirements
        .map(|requirement| {
            let operator = if requirement.negated { "NotIn" } else { "In" };
            json!({"key": requirement.field, "operator": operator, "values": [requirement.value]})
        })
        .collect()
}

fn label_requirements(text: &str) -> Vec<Value> {
    let selector = LabelSelector::parse(text).unwrap_or_default();
    let requirements = selector.requirements().iter();
    requirements
        .filter_map(|requirement| {
            let operator = match requirement.operator {
                Operator::Equals | Operator::DoubleEquals | Operator::In => "In",
                Operator::NotEquals | Operator::NotIn => "NotIn",
                Operator::Exists => "Exists",
                Operator::DoesNotExist => "DoesNotExist",
                // A SubjectAccessReview has no word for these.
                Operator::GreaterThan | Operator::LessThan => return None,
            };
            let mut said = json!({"key": requirement.key, "operator": operator});
            if !requirement.values.is_empty() {
                said["values"] = json!(requirement.values);
            }
            Some(said)
        })
        .collect()
}

/// The question. In v1beta1 the groups are called `group`.
pub(super) fn question(version: Version, mut spec: Value) -> Value {
    if version == Version::V1beta1
        && let Some(groups) = spec.as_object_mut().and_then(|spec| spec.remove("groups"))
    {
        spec["group"] = groups;
    }
    json!({
        "kind": "SubjectAccessReview",
        "apiVersion": format!("authorization.k8s.io/{}", version.as_str()),
        "metadata": {"creationTimestamp": null},
        "spec": spec,
        "status": {"allowed": false},
    })
}

/// What the answer says.
pub(super) fn decision(answer: &[u8]) -> Result<Decision, String> {
    let answer: Value =
        serde_json::from_slice(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let status = answer.at("status");
    let reason = status.str_at("reason").to_owned();
    let is = |key: &str| status.bool_at(key) == Some(true);
    match (is("allowed"), is("denied")) {
        (true, true) => Err("webhook subject access review returned both allow and deny response".to_owned()),
        (true, false) => Ok(Decision::Allow(reason)),
        (false, true) => Ok(Decision::Deny(reason)),
        (false, false) => Ok(Decision::NoOpinion(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_who_wants_to_do_what() {
        let user = UserInfo {
            name: "jane".to_owned(),
            uid: "7".to_owned(),
            groups: vec!["dev".to_owned()],
            extra: [("k".to_owned(), vec!["v".to_owned()])].into(),
        };
        let attributes = Attributes {
            verb: "list".into(),
            namespace: "a".into(),
            version: "v1".into(),
            resource: "pods".into(),
            field_selector: "spec.nodeName=n1,metadata.name!=x".into(),
            label_selector: "app in (a,b),!old,n>1".into(),
            ..Attributes::default()
        };
        let spec = spec(&user, &attributes);
        assert_eq!(
            spec,
            json!({
                "user": "jane", "uid": "7", "groups": ["dev"], "extra": {"k": ["v"]},
                "resourceAttributes": {
                    "namespace": "a", "verb": "list", "version": "v1", "resource": "pods",
                    "fieldSelector": {"requirements": [
                        {"key": "metadata.name", "operator": "NotIn", "values": ["x"]},
                        {"key": "spec.nodeName", "operator": "In", "values": ["n1"]},
                    ]},
                    "labelSelector": {"requirements": [
                        {"key": "app", "operator": "In", "values": ["a", "b"]},
                        {"key": "old", "operator": "DoesNotExist"},
                    ]},
                },
            })
        );
        let seen = whole(&spec);
        assert_eq!(seen.at("resourceAttributes.subresource"), "");
        assert_eq!(seen.at("nonResourceAttributes"), &Value::Null);
        let old = question(Version::V1beta1, spec.clone());
        assert_eq!(old.str_at("apiVersion"), "authorization.k8s.io/v1beta1");
        assert_eq!(
            (old.at("spec.group"), old.at("spec.groups")),
            (&json!(["dev"]), &Value::Null)
        );
        assert_eq!(question(Version::V1, spec).at("spec.groups"), &json!(["dev"]));
        let path = Attributes {
            verb: "get".into(),
            path: "/metrics".into(),
            ..Attributes::default()
        };
        assert_eq!(
            super::spec(&UserInfo::default(), &path),
            json!({"nonResourceAttributes": {"path": "/metrics", "verb": "get"}})
        );
    }

    #[test]
    fn an_answer_allows_denies_or_leaves_it_to_others() {
        for (answer, want) in [
            (
                r#"{"status": {"allowed": true}}"#,
                Ok(Decision::Allow(String::new())),
            ),
            (
                r#"{"status": {"denied": true, "reason": "r"}}"#,
                Ok(Decision::Deny("r".into())),
            ),
            (r#"{"status": {}}"#, Ok(Decision::NoOpinion(String::new()))),
            (
                r#"{"status": {"allowed": true, "denied": true}}"#,
                Err("both allow and deny"),
            ),
            ("x", Err("not JSON")),
        ] {
            match (decision(answer.as_bytes()), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (got, _) => panic!("{answer}: {got:?}"),
            }
        }
    }
}
