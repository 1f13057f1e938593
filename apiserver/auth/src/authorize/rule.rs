//! A rule of RBAC, what it allows, and when a set of rules covers another.

use crate::Attributes;
use rutter_api::Value;
use rutter_api::object::ObjectExt;
use serde_json::{Map, json};

/// A `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `verbs`
    pub verbs: Vec<String>,
    /// `apiGroups`
    pub groups: Vec<String>,
    /// `resources`
    pub resources: Vec<String>,
    /// `resourceNames`; empty for all.
    pub names: Vec<String>,
    /// `nonResourceURLs`
    pub urls: Vec<String>,
}

fn strings(value: &Value, key: &str) -> Vec<String> {
    value
        .list_at(key)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn has(list: &[String], item: &str) -> bool {
    list.iter().any(|entry| entry == item)
}

impl Rule {
    /// Reads a `PolicyRule`.
    pub fn from_value(value: &Value) -> Self {
        Self {
            verbs: strings(value, "verbs"),
            groups: strings(value, "apiGroups"),
            resources: strings(value, "resources"),
            names: strings(value, "resourceNames"),
            urls: strings(value, "nonResourceURLs"),
        }
    }

    /// Reads the `rules` of a role.
    pub fn of_role(role: &Value) -> Vec<Self> {
        role.list_at("rules").iter().map(Self::from_value).collect()
    }

    /// The `PolicyRule`.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("verbs".to_owned(), json!(self.verbs));
        for (key, list) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ] {
            if !list.is_empty() {
                map.insert(key.to_owned(), json!(list));
            }
        }
        Value::Object(map)
    }

    /// Whether it allows a request.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !has(&self.verbs, "*") && !has(&self.verbs, &attributes.verb) {
            return false;
        }
        if attributes.resource.is_empty() {
            return self.urls.iter().any(|url| url_matches(url, &attributes.path));
        }
        (has(&self.groups, "*") || has(&self.groups, &attributes.group))
            && self.has_resource(&attributes.resource, &attributes.subresource)
            && (self.names.is_empty() || has(&self.names, &attributes.name))
    }

    /// Resources are compared as whole texts, `resource` or `resource/subresource`: the audience of a token is asked for as a
    /// resource and has slashes of its own.
    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|entry| {
            if entry == "*" {
                return true;
            }
            if subresource.is_empty() {
                return entry == resource;
            }
            match entry
                .strip_suffix(subresource)
                .and_then(|head| head.strip_suffix('/'))
            {
                Some(of) => of == "*" || of == resource,
                None => false,
            }
        })
    }

    /// Splits it into rules of one verb and one thing each.
    fn split(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for verb in &self.verbs {
            for group in &self.groups {
                for resource in &self.resources {
                    let one = Self {
                        verbs: vec![verb.clone()],
                        groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Self::default()
                    };
                    if self.names.is_empty() {
                        all.push(one);
                    } else {
                        all.extend(self.names.iter().map(|name| Self {
                            names: vec![name.clone()],
                            ..one.clone()
                        }));
                    }
                }
            }
            all.extend(self.urls.iter().map(|url| Self {
                verbs: vec![verb.clone()],
                urls: vec![url.clone()],
                ..Self::default()
            }));
        }
        all
    }

    /// Whether it covers a rule made by [`Rule::split`].
    fn covers_one(&self, one: &Self) -> bool {
        let all =
            |have: &[String], want: &[String]| has(have, "*") || want.iter().all(|item| has(have, item));
        let resources = has(&self.resources, "*")
            || one.resources.iter().all(|resource| {
                has(&self.resources, resource)
                    || resource
                        .split_once('/')
                        .is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
            });
        let names = self.names.is_empty()
            || (!one.names.is_empty() && one.names.iter().all(|name| has(&self.names, name)));
        let urls = one
            .urls
            .iter()
            .all(|url| self.urls.iter().any(|have| url_matches(have, url)));
        all(&self.verbs, &one.verbs) && all(&self.groups, &one.groups) && resources && names && urls
    }
}

/// Whether a pattern (`*`, a path, or a path that ends in `*`) matches a path.
pub(crate) fn url_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

/// What of `wanted` the holder of `held` does not have, split into single rights; empty when all is covered.
///
/// This is the check against escalation: who writes or binds a role must hold what it grants, or the verbs `escalate` or
/// `bind` on it.
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted
        .iter()
        .flat_map(Rule::split)
        .filter(|one| !held.iter().any(|rule| rule.covers_one(one)))
        .collect()
}

/// Whether `held` covers all of `wanted`.
pub fn covers(held: &[Rule], wanted: &[Rule]) -> bool {
    uncovered(held, wanted).is_empty()
}

/// Puts rules that differ only in their verbs together, for people to read.
pub fn compact(rules: &[Rule]) -> Vec<Rule> {
    let mut merged: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = |other: &&mut Rule| {
            other.groups == rule.groups
                && other.resources == rule.resources
                && other.names == rule.names
                && other.urls == rule.urls
        };
        match merged.iter_mut().find(same) {
            Some(other) => {
                let new: Vec<String> = rule
                    .verbs
                    .iter()
                    .filter(|v| !has(&other.verbs, v))
                    .cloned()
                    .collect();
                other.verbs.extend(new);
            }
            None => merged.push(rule.clone()),
        }
    }
    merged
}

/// A rule as upstream prints it in messages: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
pub fn describe(rule: &Rule) -> String {
    let list = |items: &[String]| {
        let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
        format!("[{}]", quoted.join(" "))
    };
    let parts: Vec<String> = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.names),
        ("NonResourceURLs", &rule.urls),
        ("Verbs", &rule.verbs),
    ]
    .into_iter()
    .filter(|(_, items)| !items.is_empty())
    .map(|(name, items)| format!("{name}:{}", list(items)))
    .collect();
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &str, resources: &str, names: &str, verbs: &str) -> Rule {
        let split = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        Rule {
            verbs: split(verbs),
            groups: split(groups),
            resources: split(resources),
            names: if names.is_empty() {
                Vec::new()
            } else {
                split(names)
            },
            urls: Vec::new(),
        }
    }

    fn ask<'a>(
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        sub: &'a str,
        name: &'a str,
    ) -> Attributes<'a> {
        Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: sub.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn a_rule_allows_what_it_names() {
        for (held, asked, want) in [
            (rule("", "pods", "", "get"), ask("get", "", "pods", "", "x"), true),
            (
                rule("", "pods", "", "get"),
                ask("get", "", "pods", "log", "x"),
                false,
            ),
            (
                rule("", "pods/log", "", "get"),
                ask("get", "", "pods", "log", "x"),
                true,
            ),
            (
                rule("", "pods/log", "", "get"),
                ask("get", "", "pods", "", "x"),
                false,
            ),
            (
                rule("*", "*/scale", "", "get"),
                ask("get", "apps", "deployments", "scale", "x"),
                true,
            ),
            (
                rule("*", "*/scale", "", "get"),
                ask("get", "apps", "deployments", "", "x"),
                false,
            ),
            (
                rule("*", "*", "", "*"),
                ask("nod", "x.io", "things", "sub", ""),
                true,
            ),
            (
                rule("apps", "pods", "", "get"),
                ask("get", "", "pods", "", "x"),
                false,
            ),
            (
                rule("", "pods", "x,y", "get"),
                ask("get", "", "pods", "", "y"),
                true,
            ),
            (
                rule("", "pods", "x,y", "get"),
                ask("get", "", "pods", "", "z"),
                false,
            ),
            (
                rule("", "pods", "x", "list"),
                ask("list", "", "pods", "", ""),
                false,
            ),
            (
                rule("", "https://vault.example", "", "ask"),
                ask("ask", "", "https://vault.example", "", "sa"),
                true,
            ),
            (
                rule("", "https://vault.example", "", "ask"),
                ask("ask", "", "https://vault.example/x", "", "sa"),
                false,
            ),
            (
                rule("a", "userextras/acme.com/p", "", "impersonate"),
                ask("impersonate", "a", "userextras", "acme.com/p", "x"),
                true,
            ),
            (
                rule("a", "*/acme.com/p", "", "impersonate"),
                ask("impersonate", "a", "userextras", "acme.com/p", "x"),
                true,
            ),
            (
                rule("a", "userextras/p", "", "impersonate"),
                ask("impersonate", "a", "userextras", "acme.com/p", "x"),
                false,
            ),
        ] {
            assert_eq!(held.allows(&asked), want, "{held:?} {asked:?}");
        }
        let health = Rule {
            verbs: vec!["get".into()],
            urls: vec!["/healthz*".into()],
            ..Rule::default()
        };
        for (path, want) in [("/healthz/etcd", true), ("/healthz", true), ("/metrics", false)] {
            let asked = Attributes {
                verb: "get".into(),
                path: path.into(),
                ..Attributes::default()
            };
            assert_eq!(health.allows(&asked), want, "{path}");
        }
    }

    #[test]
    fn nobody_gives_what_they_do_not_have() {
        let held = [
            rule("", "pods", "", "get,list"),
            rule("apps", "*", "", "*"),
            rule("", "secrets", "a", "get"),
        ];
        for (wanted, want) in [
            (rule("", "pods", "", "get"), true),
            (rule("", "pods", "x", "get"), true),
            (rule("", "pods,secrets", "", "get"), false),
            (rule("", "secrets", "a", "get"), true),
            (rule("", "secrets", "", "get"), false),
            (rule("apps", "deployments/scale", "", "patch"), true),
            (rule("*", "pods", "", "get"), false),
            (rule("", "pods", "", "*"), false),
        ] {
            assert_eq!(covers(&held, std::slice::from_ref(&wanted)), want, "{wanted:?}");
        }
        let missing = compact(&uncovered(&held, &[rule("", "pods", "", "get,create,delete")]));
        assert_eq!(
            describe(&missing[0]),
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["create" "delete"]}"#
        );
    }
}
