//! FlowSchemas, made ready for matching: which requests they take, and what tells their flows apart.
//!
//! Matching allocates nothing.

use rutter_api::object::ObjectExt;
use rutter_api::{UserInfo, Value};

/// A request as schemas see it.
#[derive(Clone, Copy, Debug)]
pub struct Digest<'a> {
    /// By whom.
    pub user: &'a UserInfo,
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
    /// The path, for requests about no resource.
    pub path: &'a str,
}

/// What tells the flows of a schema apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distinguisher {
    /// Nothing: all is one flow.
    #[default]
    None,
    /// Who calls.
    ByUser,
    /// The namespace.
    ByNamespace,
}

/// A FlowSchema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// Its uid; empty while it isn't stored.
    pub uid: String,
    /// Lower ones are asked first.
    pub precedence: i64,
    /// The name of its priority level.
    pub level: String,
    /// What tells its flows apart.
    pub distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Anybody,
    User(String),
    Group(String),
    /// Of a namespace; all of them when no name is given.
    ServiceAccount(String, Option<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ResourceRule {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    cluster: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PathRule {
    verbs: Names,
    paths: Vec<String>,
}

/// Some names, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    Some(Vec<String>),
}

impl Schema {
    /// Reads a FlowSchema.
    pub fn read(object: &Value) -> Self {
        let distinguisher = match object.str_at("spec.distinguisherMethod.type") {
            "ByUser" => Distinguisher::ByUser,
            "ByNamespace" => Distinguisher::ByNamespace,
            _ => Distinguisher::None,
        };
        Self {
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            precedence: object.int_at("spec.matchingPrecedence").unwrap_or(1000),
            level: object.str_at("spec.priorityLevelConfiguration.name").to_owned(),
            distinguisher,
            rules: object.list_at("spec.rules").iter().map(Rule::read).collect(),
        }
    }

    /// Whether it takes a request.
    pub fn takes(&self, digest: &Digest<'_>) -> bool {
        self.rules.iter().any(|rule| rule.takes(digest))
    }

    /// What tells this request's flow from the schema's others.
    pub fn flow<'a>(&self, digest: &Digest<'a>) -> &'a str {
        match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::ByUser => &digest.user.name,
            Distinguisher::ByNamespace => digest.namespace,
        }
    }
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let names = |value: &Value, field| Names::read(value.list_at(field));
        Self {
            subjects: rule
                .list_at("subjects")
                .iter()
                .filter_map(Subject::read)
                .collect(),
            resources: rule
                .list_at("resourceRules")
                .iter()
                .map(|rule| ResourceRule {
                    verbs: names(rule, "verbs"),
                    groups: names(rule, "apiGroups"),
                    resources: names(rule, "resources"),
                    namespaces: names(rule, "namespaces"),
                    cluster: rule.bool_at("clusterScope") == Some(true),
                })
                .collect(),
            paths: rule
                .list_at("nonResourceRules")
                .iter()
                .map(|rule| PathRule {
                    verbs: names(rule, "verbs"),
                    paths: texts(rule.list_at("nonResourceURLs")),
                })
                .collect(),
        }
    }

    fn takes(&self, digest: &Digest<'_>) -> bool {
        if !self.subjects.iter().any(|subject| subject.is(digest.user)) {
            return false;
        }
        if digest.is_resource {
            return self.resources.iter().any(|rule| rule.takes(digest));
        }
        self.paths.iter().any(|rule| {
            rule.verbs.has(digest.verb) && rule.paths.iter().any(|path| covers(path, digest.path))
        })
    }
}

impl Subject {
    fn read(subject: &Value) -> Option<Self> {
        let name = |field: &str| match subject.str_at(field) {
            "" => None,
            text => Some(text.to_owned()),
        };
        Some(match subject.str_at("kind") {
            "User" if subject.str_at("user.name") == "*" => Self::Anybody,
            "Group" if subject.str_at("group.name") == "*" => Self::Anybody,
            "User" => Self::User(name("user.name")?),
            "Group" => Self::Group(name("group.name")?),
            "ServiceAccount" => {
                let account = name("serviceAccount.name")?;
                let account = Some(account).filter(|account| account != "*");
                Self::ServiceAccount(name("serviceAccount.namespace")?, account)
            }
            _ => return None,
        })
    }

    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Self::Anybody => true,
            Self::User(name) => *name == user.name,
            Self::Group(name) => user.in_group(name),
            Self::ServiceAccount(namespace, account) => {
                let rest = user.name.strip_prefix("system:serviceaccount:");
                let rest = rest.and_then(|rest| rest.strip_prefix(namespace.as_str()));
                let rest = rest.and_then(|rest| rest.strip_prefix(':'));
                match (rest, account) {
                    (None, _) => false,
                    (Some(_), None) => true,
                    (Some(name), Some(account)) => name == account,
                }
            }
        }
    }
}

impl ResourceRule {
    fn takes(&self, digest: &Digest<'_>) -> bool {
        self.verbs.has(digest.verb)
            && self.resources.has_joined(digest.resource, digest.subresource)
            && self.groups.has(digest.group)
            && if digest.namespace.is_empty() {
                self.cluster
            } else {
                self.namespaces.has(digest.namespace)
            }
    }
}

impl Names {
    fn read(list: &[Value]) -> Self {
        match list {
            [only] if only == "*" => Self::All,
            list => Self::Some(texts(list)),
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.iter().any(|known| known == name),
        }
    }

    /// Whether `resource`, or `resource/subresource`, is among them.
    fn has_joined(&self, resource: &str, subresource: &str) -> bool {
        let is = |known: &str| match known.split_once('/') {
            None => subresource.is_empty() && known == resource,
            Some((first, second)) => first == resource && second == subresource && !subresource.is_empty(),
        };
        match self {
            Self::All => true,
            Self::Some(names) => names.iter().any(|known| is(known)),
        }
    }
}

fn texts(list: &[Value]) -> Vec<String> {
    list.iter()
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect()
}

/// Whether a rule's path, which may end in `*`, covers a request's: itself, or anything below it.
fn covers(rule: &str, path: &str) -> bool {
    if rule == "*" || rule == path {
        return true;
    }
    let folder = rule.strip_suffix('*').unwrap_or(rule);
    match path.strip_prefix(folder) {
        Some(rest) => folder.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_match_by_who_and_what() {
        let resource = |verbs: &str, group: &str, resource: &str, namespace: &str, cluster: bool| {
            json!({"resourceRules": [{
                "verbs": [verbs], "apiGroups": [group], "resources": [resource],
                "namespaces": if namespace.is_empty() { json!([]) } else { json!([namespace]) },
                "clusterScope": cluster,
            }]})
        };
        let path = |text: &str| json!({"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": [text]}]});
        let user = |name: &str| json!({"kind": "User", "user": {"name": name}});
        let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
        let account = |namespace: &str, name: &str| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}});
        // subject, rule, user, verb, group, resource, subresource, namespace or path, whether it matches
        #[rustfmt::skip]
        let table = [
            (user("jane"), resource("*", "*", "*", "*", true), "jane", "get", "", "pods", "", "a", true),
            (user("jane"), resource("*", "*", "*", "*", true), "joe", "get", "", "pods", "", "a", false),
            (user("*"), resource("get", "", "pods", "a", false), "joe", "get", "", "pods", "", "a", true),
            (user("*"), resource("get", "", "pods", "a", false), "joe", "list", "", "pods", "", "a", false),
            (user("*"), resource("get", "", "pods", "a", false), "joe", "get", "", "pods", "", "b", false),
            (user("*"), resource("get", "", "pods", "*", false), "joe", "get", "", "pods", "", "", false),
            (user("*"), resource("get", "", "pods", "", true), "joe", "get", "", "pods", "", "", true),
            (user("*"), resource("get", "", "pods", "*", true), "joe", "get", "", "pods", "log", "a", false),
            (user("*"), resource("get", "", "pods/log", "*", true), "joe", "get", "", "pods", "log", "a", true),
            (user("*"), resource("get", "", "pods/log", "*", true), "joe", "get", "", "pods", "", "a", false),
            (user("*"), resource("get", "apps", "*", "*", true), "joe", "get", "", "pods", "", "a", false),
            (group("system:nodes"), resource("*", "*", "*", "*", true), "joe", "get", "", "pods", "", "a", false),
            (group("g"), resource("*", "*", "*", "*", true), "joe", "get", "", "pods", "", "a", true),
            (group("*"), path("/healthz"), "joe", "get", "", "", "", "/healthz", true),
            (group("*"), path("/healthz"), "joe", "get", "", "", "", "/healthz/etcd", true),
            (group("*"), path("/healthz"), "joe", "get", "", "", "", "/healthzx", false),
            (group("*"), path("/api/*"), "joe", "get", "", "", "", "/api/v1", true),
            (group("*"), path("/healthz"), "joe", "put", "", "", "", "/healthz", false),
            (group("*"), path("*"), "joe", "get", "", "", "", "/x", true),
            (account("ns", "*"), resource("*", "*", "*", "*", true), "system:serviceaccount:ns:x", "get", "", "pods", "", "a", true),
            (account("ns", "x"), resource("*", "*", "*", "*", true), "system:serviceaccount:ns:y", "get", "", "pods", "", "a", false),
            (account("n", "*"), resource("*", "*", "*", "*", true), "system:serviceaccount:ns:y", "get", "", "pods", "", "a", false),
        ];
        for (subject, mut rule, name, verb, api, resource, subresource, place, want) in table {
            rule["subjects"] = json!([subject]);
            let object = json!({"metadata": {"name": "s"}, "spec": {"rules": [rule]}});
            let user = UserInfo {
                name: name.to_owned(),
                groups: vec!["g".to_owned()],
                ..UserInfo::default()
            };
            let is_resource = !resource.is_empty();
            let digest = Digest {
                user: &user,
                is_resource,
                verb,
                group: api,
                resource,
                subresource,
                namespace: if is_resource { place } else { "" },
                path: place,
            };
            assert_eq!(Schema::read(&object).takes(&digest), want, "{object} {digest:?}");
        }
    }
}
