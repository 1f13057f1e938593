//! The policy (`audit.k8s.io/v1` `Policy`): the first rule that a request matches says how much is recorded of it.

use crate::event::Stage;
use rutter_api::object::ObjectExt;
use rutter_api::{UserInfo, Value};

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what, when.
    Metadata,
    /// And the object that was sent.
    Request,
    /// And the one that was answered.
    RequestResponse,
}

/// What is recorded of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// How much.
    pub level: Level,
    /// Whether objects are recorded without their managed fields.
    pub omit_managed_fields: bool,
    omitted: u8,
}

/// A request, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// By whom; none while that isn't known.
    pub user: Option<&'a UserInfo>,
    /// Whether it is about a resource.
    pub is_resource: bool,
    /// The verb.
    pub verb: &'a str,
    /// The API group.
    pub group: &'a str,
    /// The plural resource.
    pub resource: &'a str,
    /// The subresource.
    pub subresource: &'a str,
    /// The namespace; empty at cluster scope.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// The path.
    pub path: &'a str,
}

/// A policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    otherwise: Decision,
}

/// Why a policy can't be used: all that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct PolicyError(pub Vec<String>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    decision: Decision,
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    paths: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Resources {
    group: String,
    resources: Vec<String>,
    names: Vec<String>,
}

impl Decision {
    /// Whether a record is made at a stage.
    pub fn records(&self, stage: Stage) -> bool {
        self.level > Level::None && self.omitted & stage.bit() == 0
    }

    /// This much, at all stages.
    pub fn all(level: Level) -> Self {
        Self {
            level,
            ..Self::default()
        }
    }
}

impl Policy {
    /// Reads a policy's object.
    pub fn read(object: &Value) -> Result<Self, PolicyError> {
        let mut errors = Vec::new();
        let (version, kind) = (object.str_at("apiVersion"), object.str_at("kind"));
        if version != "audit.k8s.io/v1" || kind != "Policy" {
            errors.push(format!(
                "apiVersion and kind must be audit.k8s.io/v1 and Policy, not {version:?} and {kind:?}"
            ));
        }
        let all = object.map_at("").or(object.as_object()).into_iter().flatten();
        const KNOWN: &[&str] = &[
            "apiVersion",
            "kind",
            "metadata",
            "rules",
            "omitStages",
            "omitManagedFields",
        ];
        errors.extend(unknown(all, KNOWN, ""));
        let omitted = stages(object, "", &mut errors);
        let slim = object.bool_at("omitManagedFields").unwrap_or(false);
        let rules = object.list_at("rules");
        if rules.is_empty() {
            errors.push("rules: a policy without rules records nothing; it needs at least one".to_owned());
        }
        let rules: Vec<Rule> = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| Rule::read(rule, &format!("rules[{at}]."), omitted, slim, &mut errors))
            .collect();
        if !errors.is_empty() {
            return Err(PolicyError(errors));
        }
        let otherwise = Decision {
            level: Level::None,
            omit_managed_fields: slim,
            omitted,
        };
        Ok(Self { rules, otherwise })
    }

    /// What is recorded of a request.
    pub fn decide(&self, subject: &Subject<'_>) -> Decision {
        let found = self.rules.iter().find(|rule| rule.matches(subject));
        found.map_or(self.otherwise, |rule| rule.decision)
    }
}

impl Rule {
    fn read(rule: &Value, path: &str, omitted: u8, slim: bool, errors: &mut Vec<String>) -> Self {
        const KNOWN: &[&str] = &[
            "level",
            "users",
            "userGroups",
            "verbs",
            "resources",
            "namespaces",
            "nonResourceURLs",
            "omitStages",
            "omitManagedFields",
        ];
        errors.extend(unknown(rule.as_object().into_iter().flatten(), KNOWN, path));
        let level = match rule.str_at("level") {
            "None" => Level::None,
            "Metadata" => Level::Metadata,
            "Request" => Level::Request,
            "RequestResponse" => Level::RequestResponse,
            "" => {
                errors.push(format!("{path}level: Required value"));
                Level::None
            }
            other => {
                errors.push(format!(
                    "{path}level: Unsupported value: {other:?}: supported values: \"None\", \"Metadata\", \"Request\", \"RequestResponse\""
                ));
                Level::None
            }
        };
        let mut resources = Vec::new();
        for (at, entry) in rule.list_at("resources").iter().enumerate() {
            let path = format!("{path}resources[{at}].");
            let group = entry.str_at("group");
            if group.contains('/') {
                errors.push(format!(
                    "{path}group: Invalid value: {group:?}: a group has no version"
                ));
            }
            let (plurals, names) = (texts(entry, "resources"), texts(entry, "resourceNames"));
            if !names.is_empty() && plurals.is_empty() {
                errors.push(format!(
                    "{path}resourceNames: using resourceNames requires at least one resource"
                ));
            }
            resources.push(Resources {
                group: group.to_owned(),
                resources: plurals,
                names,
            });
        }
        let (namespaces, paths) = (texts(rule, "namespaces"), texts(rule, "nonResourceURLs"));
        let of_resources = !resources.is_empty() || !namespaces.is_empty();
        if !paths.is_empty() && of_resources {
            errors.push(format!(
                "{path}nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs"
            ));
        }
        for text in paths.iter().filter(|text| *text != "*") {
            if !text.starts_with('/') {
                errors.push(format!(
                    "{path}nonResourceURLs: Invalid value: {text:?}: non-resource URL rules must begin with a '/' character"
                ));
            }
            if text.find('*').is_some_and(|at| at + 1 < text.len()) {
                errors.push(format!(
                    "{path}nonResourceURLs: Invalid value: {text:?}: non-resource URL wildcards '*' must be the final character of the rule"
                ));
            }
        }
        let decision = Decision {
            level,
            omit_managed_fields: rule.bool_at("omitManagedFields").unwrap_or(slim),
            omitted: omitted | stages(rule, path, errors),
        };
        Self {
            decision,
            users: texts(rule, "users"),
            groups: texts(rule, "userGroups"),
            verbs: texts(rule, "verbs"),
            resources,
            namespaces,
            paths,
        }
    }

    fn matches(&self, subject: &Subject<'_>) -> bool {
        let has = |list: &[String], text: &str| list.iter().any(|known| known == text);
        if !self.users.is_empty() && !subject.user.is_some_and(|user| has(&self.users, &user.name)) {
            return false;
        }
        let in_group = |user: &UserInfo| user.groups.iter().any(|group| has(&self.groups, group));
        if !self.groups.is_empty() && !subject.user.is_some_and(in_group) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, subject.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return subject.is_resource
                && (self.namespaces.is_empty() || has(&self.namespaces, subject.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|rule| rule.cover(subject)));
        }
        if !self.paths.is_empty() {
            return !subject.is_resource && self.paths.iter().any(|rule| covers(rule, subject.path));
        }
        true
    }
}

impl Resources {
    fn cover(&self, subject: &Subject<'_>) -> bool {
        if self.group != subject.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.names.is_empty() && !self.names.iter().any(|name| name == subject.name) {
            return false;
        }
        let (resource, subresource) = (subject.resource, subject.subresource);
        self.resources.iter().any(|known| match known.split_once('/') {
            None => known == "*" || (known == resource && subresource.is_empty()),
            Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
            Some((plural, "*")) => plural == resource,
            Some((plural, sub)) => plural == resource && sub == subresource,
        })
    }
}

fn covers(rule: &str, path: &str) -> bool {
    rule == "*"
        || rule == path
        || rule
            .strip_suffix('*')
            .is_some_and(|start| path.starts_with(start))
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    let list = value.list_at(field).iter();
    list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn stages(value: &Value, path: &str, errors: &mut Vec<String>) -> u8 {
    let mut bits = 0;
    for (at, text) in value.list_at("omitStages").iter().enumerate() {
        match text.as_str().and_then(Stage::parse) {
            Some(stage) => bits |= stage.bit(),
            None => errors.push(format!(
                "{path}omitStages[{at}]: Invalid value: {text}: allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic"
            )),
        }
    }
    bits
}

fn unknown<'a>(
    fields: impl Iterator<Item = (&'a String, &'a Value)>,
    known: &[&str],
    path: &str,
) -> Vec<String> {
    fields
        .filter(|(field, _)| !known.contains(&field.as_str()))
        .map(|(field, _)| format!("unknown field {:?}", format!("{path}{field}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(rules: Value) -> Result<Policy, PolicyError> {
        Policy::read(&json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let jane = UserInfo {
            name: "jane".to_owned(),
            groups: vec!["system:authenticated".to_owned(), "dev".to_owned()],
            ..UserInfo::default()
        };
        let pods = |resource: &str| json!({"level": "Request", "resources": [{"group": "", "resources": [resource]}]});
        // rule, resource, subresource, namespace, name, path, whether it matches
        #[rustfmt::skip]
        let table = [
            (json!({"level": "Request"}), "pods", "", "a", "x", "", true),
            (json!({"level": "Request", "users": ["jane"]}), "pods", "", "a", "x", "", true),
            (json!({"level": "Request", "users": ["joe"]}), "pods", "", "a", "x", "", false),
            (json!({"level": "Request", "userGroups": ["ops", "dev"]}), "pods", "", "a", "x", "", true),
            (json!({"level": "Request", "userGroups": ["ops"]}), "pods", "", "a", "x", "", false),
            (json!({"level": "Request", "verbs": ["list"]}), "pods", "", "a", "x", "", false),
            (json!({"level": "Request", "namespaces": ["a"]}), "pods", "", "a", "x", "", true),
            (json!({"level": "Request", "namespaces": [""]}), "nodes", "", "", "x", "", true),
            (json!({"level": "Request", "namespaces": ["b"]}), "pods", "", "a", "x", "", false),
            (pods("pods"), "pods", "", "a", "x", "", true),
            (pods("pods"), "pods", "log", "a", "x", "", false),
            (pods("pods/*"), "pods", "log", "a", "x", "", true),
            (pods("*/log"), "pods", "log", "a", "x", "", true),
            (pods("*/log"), "pods", "", "a", "x", "", false),
            (pods("*"), "pods", "log", "a", "x", "", true),
            (json!({"level": "Request", "resources": [{"group": "apps"}]}), "pods", "", "a", "x", "", false),
            (json!({"level": "Request", "resources": [{"group": "*"}]}), "pods", "", "a", "x", "", true),
            (json!({"level": "Request", "resources": [{"group": "", "resources": ["pods"], "resourceNames": ["y"]}]}), "pods", "", "a", "x", "", false),
            (json!({"level": "Request", "nonResourceURLs": ["/metrics"]}), "", "", "", "", "/metrics", true),
            (json!({"level": "Request", "nonResourceURLs": ["/health*"]}), "", "", "", "", "/healthz", true),
            (json!({"level": "Request", "nonResourceURLs": ["/health*"]}), "pods", "", "", "", "/healthz", false),
            (json!({"level": "Request", "nonResourceURLs": ["/metrics"]}), "", "", "", "", "/metrics/x", false),
        ];
        for (rule, resource, subresource, namespace, name, path, want) in table {
            let policy = policy(json!([rule, {"level": "Metadata"}])).unwrap();
            let subject = Subject {
                user: Some(&jane),
                is_resource: !resource.is_empty(),
                verb: "get",
                group: "",
                resource,
                subresource,
                namespace,
                name,
                path,
            };
            let want = if want { Level::Request } else { Level::Metadata };
            assert_eq!(policy.decide(&subject).level, want, "{rule} {subject:?}");
        }
    }

    #[test]
    fn stages_and_managed_fields_are_omitted_by_policy_and_by_rule() {
        let policy = Policy::read(&json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "omitManagedFields": true,
            "rules": [
                {"level": "Metadata", "verbs": ["get"], "omitStages": ["Panic"], "omitManagedFields": false},
                {"level": "Metadata", "verbs": ["list"]},
            ],
        }))
        .unwrap();
        let subject = |verb| Subject {
            user: None,
            is_resource: false,
            verb,
            group: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            path: "/",
        };
        let stages = [
            Stage::RequestReceived,
            Stage::ResponseStarted,
            Stage::ResponseComplete,
            Stage::Panic,
        ];
        let get = policy.decide(&subject("get"));
        assert_eq!(stages.map(|stage| get.records(stage)), [false, true, true, false]);
        let list = policy.decide(&subject("list"));
        assert_eq!(stages.map(|stage| list.records(stage)), [false, true, true, true]);
        assert_eq!((get.omit_managed_fields, list.omit_managed_fields), (false, true));
        assert!(
            !policy.decide(&subject("watch")).records(Stage::Panic),
            "no rule, no record"
        );
    }

    #[test]
    fn bad_policies_are_refused_with_all_that_is_wrong() {
        let table = [
            (
                json!([{"level": "Lots"}]),
                "rules[0].level: Unsupported value: \"Lots\"",
            ),
            (json!([{}]), "rules[0].level: Required value"),
            (json!([]), "needs at least one"),
            (
                json!([{"level": "None", "what": 1}]),
                "unknown field \"rules[0].what\"",
            ),
            (
                json!([{"level": "None", "nonResourceURLs": ["x"]}]),
                "must begin with a '/'",
            ),
            (
                json!([{"level": "None", "nonResourceURLs": ["/x*y"]}]),
                "must be the final character",
            ),
            (
                json!([{"level": "None", "nonResourceURLs": ["/x"], "namespaces": ["a"]}]),
                "cannot apply to both",
            ),
            (
                json!([{"level": "None", "omitStages": ["Never"]}]),
                "rules[0].omitStages[0]",
            ),
            (
                json!([{"level": "None", "resources": [{"group": "a/v1"}]}]),
                "has no version",
            ),
            (
                json!([{"level": "None", "resources": [{"resourceNames": ["x"]}]}]),
                "requires at least one resource",
            ),
        ];
        for (rules, part) in table {
            let text = policy(rules.clone()).unwrap_err().to_string();
            assert!(text.contains(part), "{rules}: {text}");
        }
        assert!(Policy::read(&json!({"kind": "Policy", "rules": [{"level": "None"}]})).is_err());
    }
}
