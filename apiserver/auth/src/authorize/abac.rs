//! ABAC: a policy file of one JSON object a line (`--authorization-policy-file`).

use super::rule::url_matches;
use crate::names;
use crate::{Attributes, Authorizer, Decision, Rules};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{UserInfo, Value};
use serde_json::json;

/// Why a policy file was refused.
#[derive(Debug, thiserror::Error)]
pub enum AbacError {
    /// A line is no JSON object.
    #[error("policy file, line {line}: not a JSON object")]
    Json {
        /// The line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A line is another kind of object.
    #[error("policy file, line {line}: apiVersion {version:?} and kind {kind:?} are not an ABAC Policy")]
    Kind {
        /// The line, from 1.
        line: usize,
        /// Its apiVersion.
        version: String,
        /// Its kind.
        kind: String,
    },
}

#[derive(Debug)]
struct Policy {
    user: String,
    group: String,
    readonly: bool,
    api_group: String,
    resource: String,
    namespace: String,
    path: String,
}

/// The ABAC authorizer.
#[derive(Debug)]
pub struct Abac(Vec<Policy>);

impl Abac {
    /// Reads a policy file: v1beta1 policies, and the unversioned ones of old.
    pub fn parse(text: &str) -> Result<Self, AbacError> {
        let mut policies = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let line = index + 1;
            let value: Value =
                serde_json::from_str(trimmed).map_err(|source| AbacError::Json { line, source })?;
            let (version, kind) = (value.str_at("apiVersion"), value.str_at("kind"));
            policies.push(match (version, kind) {
                ("", "") => unversioned(&value),
                ("abac.authorization.kubernetes.io/v1beta1", "Policy") => versioned(value.at("spec")),
                _ => {
                    return Err(AbacError::Kind {
                        line,
                        version: version.to_owned(),
                        kind: kind.to_owned(),
                    });
                }
            });
        }
        Ok(Self(policies))
    }
}

/// Whom a policy is for. `*` for the user or the group is everybody who is known, whatever the other says.
fn subjects(user: &str, group: &str) -> (String, String) {
    if user == "*" || group == "*" {
        (String::new(), names::AUTHENTICATED.to_owned())
    } else {
        (user.to_owned(), group.to_owned())
    }
}

fn versioned(spec: &Value) -> Policy {
    let text = |key: &str| spec.str_at(key).to_owned();
    let (user, group) = subjects(spec.str_at("user"), spec.str_at("group"));
    Policy {
        user,
        group,
        readonly: spec.bool_at("readonly").unwrap_or_default(),
        api_group: text("apiGroup"),
        resource: text("resource"),
        namespace: text("namespace"),
        path: text("nonResourcePath"),
    }
}

/// Before there were versions, absent meant any, and a policy for nobody in particular was for all who are known.
fn unversioned(value: &Value) -> Policy {
    let any = |key: &str| match value.str_at(key) {
        "" => "*".to_owned(),
        given => given.to_owned(),
    };
    let (user, group) = (value.str_at("user"), value.str_at("group"));
    let (user, group) = if user.is_empty() && group.is_empty() {
        subjects("*", "")
    } else {
        subjects(user, group)
    };
    let plain = value.str_at("namespace").is_empty() && value.str_at("resource").is_empty();
    Policy {
        user,
        group,
        readonly: value.bool_at("readonly").unwrap_or_default(),
        api_group: "*".to_owned(),
        resource: any("resource"),
        namespace: any("namespace"),
        path: if plain { "*".to_owned() } else { String::new() },
    }
}

impl Policy {
    fn is_for(&self, user: &UserInfo) -> bool {
        if self.user.is_empty() && self.group.is_empty() {
            return false;
        }
        (self.user.is_empty() || self.user == user.name)
            && (self.group.is_empty() || user.in_group(&self.group))
    }

    fn allows(&self, attributes: &Attributes<'_>) -> bool {
        let is = |have: &str, want: &str| have == "*" || have == want;
        if self.readonly && !matches!(&*attributes.verb, "get" | "list" | "watch") {
            return false;
        }
        if attributes.resource.is_empty() {
            return !self.path.is_empty() && url_matches(&self.path, &attributes.path);
        }
        is(&self.namespace, &attributes.namespace)
            && is(&self.resource, &attributes.resource)
            && is(&self.api_group, &attributes.group)
    }

    fn verbs(&self) -> Value {
        if self.readonly {
            json!(["get", "list", "watch"])
        } else {
            json!(["*"])
        }
    }
}

#[async_trait]
impl Authorizer for Abac {
    async fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        if self
            .0
            .iter()
            .any(|policy| policy.is_for(user) && policy.allows(attributes))
        {
            return Decision::Allow(String::new());
        }
        Decision::NoOpinion("No policy matched.".to_owned())
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> Option<Rules> {
        let mut rules = Rules::default();
        let here = |policy: &&Policy| policy.namespace == "*" || policy.namespace == namespace;
        for policy in self.0.iter().filter(|policy| policy.is_for(user)).filter(here) {
            if !policy.resource.is_empty() {
                rules.resource_rules.push(json!({
                    "verbs": policy.verbs(), "apiGroups": [policy.api_group], "resources": [policy.resource],
                }));
            }
            if !policy.path.is_empty() {
                rules
                    .non_resource_rules
                    .push(json!({"verbs": policy.verbs(), "nonResourceURLs": [policy.path]}));
            }
        }
        Some(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn policies_allow_line_by_line() {
        let text = r#"
# comment
{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"alice","namespace":"*","resource":"*","apiGroup":"*"}}
{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"bob","namespace":"projectCaribou","resource":"pods","readonly":true}}
{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"group":"*","readonly":true,"nonResourcePath":"/version*"}}
{"user":"old","resource":"pods"}
{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"carol","group":"ops","resource":"nodes","apiGroup":""}}
{"user":"dave","group":"*","resource":"leases"}
"#;
        let abac = Abac::parse(text).unwrap();
        for (user, verb, namespace, resource, path, want) in [
            ("alice", "delete", "x", "secrets", "", true),
            ("bob", "get", "projectCaribou", "pods", "", true),
            ("bob", "delete", "projectCaribou", "pods", "", false),
            ("bob", "get", "other", "pods", "", false),
            ("bob", "get", "", "", "/version", true),
            ("bob", "get", "", "", "/metrics", false),
            ("old", "delete", "x", "pods", "", true),
            ("old", "delete", "x", "secrets", "", false),
            ("carol", "get", "", "nodes", "", false),
            ("erin", "get", "x", "leases", "", true),
        ] {
            let who = UserInfo {
                name: user.into(),
                groups: vec![names::AUTHENTICATED.into()],
                ..UserInfo::default()
            };
            let asked = Attributes {
                verb: verb.into(),
                namespace: namespace.into(),
                resource: resource.into(),
                path: path.into(),
                ..Attributes::default()
            };
            let got = matches!(abac.authorize(&who, &asked).await, Decision::Allow(_));
            assert_eq!(got, want, "{user} {verb} {namespace} {resource}{path}");
        }
        assert!(Abac::parse("{\"kind\":\"Pod\"}").is_err());
    }
}
