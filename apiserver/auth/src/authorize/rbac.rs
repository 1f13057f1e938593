//! RBAC: Roles, ClusterRoles and their bindings.
//!
//! The four kinds are compiled into an index by subject, once for each of their generations; a decision reads the index and
//! nothing else. ClusterRoles with an aggregation rule are taken as stored: filling them in is a controller's job.

use super::rule::{self, Rule};
use crate::names;
use crate::{Attributes, Authorizer, Decision, Rules};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Reason, StatusError, UserInfo, Value};
use std::collections::HashMap;
use std::sync::Arc;

const GROUP: &str = "rbac.authorization.k8s.io";

/// One binding as one of its subjects sees it.
#[derive(Debug)]
struct Grant {
    /// None for a ClusterRoleBinding.
    namespace: Option<Arc<str>>,
    /// `ClusterRoleBinding "x" of ClusterRole "y"`.
    source: Arc<str>,
    /// None when the role does not exist.
    rules: Option<Arc<[Rule]>>,
    /// Why there are no rules.
    missing: Arc<str>,
}

#[derive(Debug, Default)]
struct Index {
    generation: [u64; 4],
    users: HashMap<String, Vec<Arc<Grant>>>,
    groups: HashMap<String, Vec<Arc<Grant>>>,
}

/// The RBAC authorizer.
pub struct Rbac {
    reader: Arc<dyn ObjectReader>,
    index: ArcSwap<Index>,
    building: Mutex<()>,
    resources: [GroupResource; 4],
}

impl Rbac {
    /// Reads roles and bindings through `reader`.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        let resources = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];
        let resources = resources.map(|plural| GroupResource::new(GROUP, plural));
        let first = build(&*reader, &resources);
        Self {
            reader,
            index: ArcSwap::from_pointee(first),
            building: Mutex::default(),
            resources,
        }
    }

    fn index(&self) -> Arc<Index> {
        let generation = generation(&*self.reader, &self.resources);
        let current = self.index.load_full();
        if current.generation == generation {
            return current;
        }
        let _one = self.building.lock();
        let current = self.index.load_full();
        if current.generation == generation {
            return current;
        }
        let new = Arc::new(build(&*self.reader, &self.resources));
        self.index.store(new.clone());
        new
    }

    /// The rules that a user has in a namespace (cluster-wide alone when empty), and what could not be resolved.
    pub fn rules_of(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let index = self.index();
        let mut rules = Vec::new();
        let mut errors = Vec::new();
        index.visit(user, namespace, |grant, _| {
            match &grant.rules {
                Some(held) => rules.extend(held.iter().cloned()),
                None => errors.push(grant.missing.to_string()),
            }
            false
        });
        (rules, errors)
    }

    /// Refuses a user who would grant, by writing a role with these rules, more than they hold.
    ///
    /// The registry calls this on every create and update of a role or ClusterRole whose rules change, unless the user is in
    /// `system:masters` or may `escalate` the role.
    pub fn check_escalation(
        &self,
        user: &UserInfo,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
        wanted: &[Rule],
    ) -> Result<(), StatusError> {
        let (held, errors) = self.rules_of(user, namespace);
        let missing = rule::compact(&rule::uncovered(&held, wanted));
        if missing.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = missing.iter().map(rule::describe).collect();
        lines.sort();
        let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
        let mut why = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            groups.join(" "),
            lines.join("\n")
        );
        if !errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
        }
        Err(StatusError::forbidden(resource, name, &why))
    }

    /// The rules of the role that a binding refers to, for [`Rbac::check_escalation`] on bindings (unless the user may
    /// `bind` it).
    pub fn rules_of_reference(&self, reference: &Value, namespace: &str) -> Result<Vec<Rule>, StatusError> {
        let name = reference.str_at("name");
        let (resource, namespace) = match reference.str_at("kind") {
            "Role" => (&self.resources[2], namespace),
            "ClusterRole" => (&self.resources[0], ""),
            other => {
                return Err(StatusError::new(
                    Reason::InternalError,
                    format!("unsupported role reference kind: {other:?}"),
                ));
            }
        };
        match self.reader.get(resource, namespace, name) {
            Some(role) => Ok(Rule::of_role(&role)),
            None => Err(StatusError::not_found(resource, name)),
        }
    }
}

impl Index {
    /// Shows each grant of a user with the subject it came through, until `visitor` says true.
    fn visit(&self, user: &UserInfo, namespace: &str, mut visitor: impl FnMut(&Grant, (&str, &str)) -> bool) {
        let applies = |grant: &Grant| grant.namespace.as_deref().is_none_or(|of| of == namespace);
        let user_kind = if names::split_service_account(&user.name).is_some() {
            "ServiceAccount"
        } else {
            "User"
        };
        for grant in self
            .users
            .get(&user.name)
            .into_iter()
            .flatten()
            .filter(|g| applies(g))
        {
            if visitor(grant, (user_kind, &user.name)) {
                return;
            }
        }
        for group in &user.groups {
            for grant in self
                .groups
                .get(group)
                .into_iter()
                .flatten()
                .filter(|g| applies(g))
            {
                if visitor(grant, ("Group", group)) {
                    return;
                }
            }
        }
    }
}

fn generation(reader: &dyn ObjectReader, resources: &[GroupResource; 4]) -> [u64; 4] {
    [0, 1, 2, 3].map(|at| reader.generation(&resources[at]))
}

fn build(reader: &dyn ObjectReader, resources: &[GroupResource; 4]) -> Index {
    let [cluster_roles, cluster_bindings, roles, bindings] = resources;
    // The generation is read first: what changes after it makes the next build.
    let mut index = Index {
        generation: generation(reader, resources),
        ..Index::default()
    };
    let compile = |list: Vec<Arc<Value>>| -> HashMap<(String, String), Arc<[Rule]>> {
        let key = |role: &Value| (role.namespace().to_owned(), role.name().to_owned());
        list.iter()
            .map(|role| (key(role), Rule::of_role(role).into()))
            .collect()
    };
    let mut compiled = compile(reader.list(cluster_roles, None));
    compiled.extend(compile(reader.list(roles, None)));
    for kind in ["ClusterRoleBinding", "RoleBinding"] {
        let list = if kind == "ClusterRoleBinding" {
            cluster_bindings
        } else {
            bindings
        };
        for binding in reader.list(list, None) {
            let namespace = binding.namespace();
            let reference = binding.at("roleRef");
            let (role_kind, role_name) = (reference.str_at("kind"), reference.str_at("name"));
            let role_namespace = if role_kind == "Role" { namespace } else { "" };
            let rules = compiled
                .get(&(role_namespace.to_owned(), role_name.to_owned()))
                .cloned();
            let (full, of) = if namespace.is_empty() {
                (format!("{kind} {:?}", binding.name()), None)
            } else {
                (
                    format!("{kind} {:?}", format!("{}/{namespace}", binding.name())),
                    Some(Arc::from(namespace)),
                )
            };
            let grant = Arc::new(Grant {
                namespace: of,
                source: format!("{full} of {role_kind} {role_name:?}").into(),
                rules,
                missing: format!("{}.{GROUP} {role_name:?} not found", role_kind.to_lowercase()).into(),
            });
            for subject in binding.list_at("subjects") {
                let name = subject.str_at("name");
                match subject.str_at("kind") {
                    "User" => index
                        .users
                        .entry(name.to_owned())
                        .or_default()
                        .push(grant.clone()),
                    "Group" => index
                        .groups
                        .entry(name.to_owned())
                        .or_default()
                        .push(grant.clone()),
                    "ServiceAccount" => {
                        let of = match subject.str_at("namespace") {
                            "" => namespace,
                            given => given,
                        };
                        let user = names::service_account(of, name);
                        index.users.entry(user).or_default().push(grant.clone());
                    }
                    _ => {}
                }
            }
        }
    }
    index
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let index = self.index();
        let namespace = if attributes.resource.is_empty() {
            ""
        } else {
            &*attributes.namespace
        };
        let mut allowed = None;
        let mut errors: Vec<String> = Vec::new();
        index.visit(user, namespace, |grant, (kind, name)| {
            match &grant.rules {
                Some(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    let subject = match (kind, names::split_service_account(name)) {
                        ("ServiceAccount", Some((namespace, name))) => format!("{name}/{namespace}"),
                        _ => name.to_owned(),
                    };
                    allowed = Some(format!("RBAC: allowed by {} to {kind} {subject:?}", grant.source));
                }
                Some(_) => {}
                None if errors.iter().any(|error| **error == *grant.missing) => {}
                None => errors.push(grant.missing.to_string()),
            }
            allowed.is_some()
        });
        match (allowed, errors.len()) {
            (Some(reason), _) => Decision::Allow(reason),
            (None, 0) => Decision::NoOpinion(String::new()),
            (None, 1) => Decision::NoOpinion(format!("RBAC: {}", errors.remove(0))),
            (None, _) => Decision::NoOpinion(format!("RBAC: [{}]", errors.join(", "))),
        }
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> Option<Rules> {
        let (rules, errors) = self.rules_of(user, namespace);
        let mut all = Rules::default();
        for rule in rules {
            if !rule.urls.is_empty() {
                let part = Rule {
                    verbs: rule.verbs.clone(),
                    urls: rule.urls.clone(),
                    ..Rule::default()
                };
                all.non_resource_rules.push(part.to_value());
            }
            if !rule.resources.is_empty() {
                all.resource_rules.push(
                    Rule {
                        urls: Vec::new(),
                        ..rule
                    }
                    .to_value(),
                );
            }
        }
        if !errors.is_empty() {
            all.incomplete = Some(errors.join(", "));
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Objects;
    use super::*;
    use serde_json::json;

    fn objects() -> Objects {
        let objects = Objects::default();
        objects.put(
            "clusterroles",
            json!({"metadata": {"name": "viewer"}, "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
                {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]}),
        );
        objects.put(
            "roles",
            json!({"metadata": {"name": "edit", "namespace": "dev"}, "rules": [
                {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"]}]}),
        );
        let subject = |kind: &str, name: &str| json!({"kind": kind, "name": name, "namespace": "dev"});
        objects.put(
            "clusterrolebindings",
            json!({"metadata": {"name": "all-view"}, "roleRef": {"kind": "ClusterRole", "name": "viewer"},
                   "subjects": [subject("Group", "ops")]}),
        );
        objects.put(
            "rolebindings",
            json!({"metadata": {"name": "b", "namespace": "dev"}, "roleRef": {"kind": "Role", "name": "edit"},
                   "subjects": [subject("User", "jane"), subject("ServiceAccount", "bot")]}),
        );
        objects.put(
            "rolebindings",
            json!({"metadata": {"name": "v", "namespace": "dev"}, "roleRef": {"kind": "ClusterRole", "name": "viewer"},
                   "subjects": [subject("User", "jane")]}),
        );
        objects.put(
            "rolebindings",
            json!({"metadata": {"name": "lost", "namespace": "qa"}, "roleRef": {"kind": "ClusterRole", "name": "gone"},
                   "subjects": [subject("User", "jane")]}),
        );
        objects
    }

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        UserInfo {
            name: name.to_owned(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..UserInfo::default()
        }
    }

    #[tokio::test]
    async fn decisions_follow_bindings() {
        let objects = objects();
        let rbac = Rbac::new(Arc::new(objects.clone()));
        let bot = "system:serviceaccount:dev:bot";
        for (who, groups, verb, namespace, group, resource, want) in [
            ("jane", "", "get", "dev", "", "pods", true),
            ("jane", "", "get", "qa", "", "pods", false),
            ("jane", "", "delete", "dev", "", "pods", false),
            ("jane", "", "delete", "dev", "apps", "deployments", true),
            ("jane", "", "get", "", "", "pods", false),
            ("joe", "ops", "list", "", "", "pods", true),
            ("joe", "ops", "list", "qa", "", "pods", true),
            ("joe", "", "list", "qa", "", "pods", false),
            (bot, "", "create", "dev", "apps", "deployments", true),
            ("bot", "", "create", "dev", "apps", "deployments", false),
        ] {
            let asked = Attributes {
                verb: verb.into(),
                namespace: namespace.into(),
                group: group.into(),
                resource: resource.into(),
                ..Attributes::default()
            };
            let got = rbac.authorize(&user(who, &[groups]), &asked).await;
            assert_eq!(
                matches!(got, Decision::Allow(_)),
                want,
                "{who} {verb} {namespace}/{resource}: {got:?}"
            );
        }
        let metrics = Attributes {
            verb: "get".into(),
            path: "/metrics".into(),
            ..Attributes::default()
        };
        assert_eq!(
            rbac.authorize(&user("joe", &["ops"]), &metrics).await,
            Decision::Allow(
                r#"RBAC: allowed by ClusterRoleBinding "all-view" of ClusterRole "viewer" to Group "ops""#
                    .into()
            )
        );
        let asked = Attributes {
            verb: "get".into(),
            namespace: "qa".into(),
            resource: "x".into(),
            ..Attributes::default()
        };
        assert_eq!(
            rbac.authorize(&user("jane", &[]), &asked).await,
            Decision::NoOpinion(r#"RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#.into())
        );
        objects.delete("rolebindings", "dev", "v");
        let asked = Attributes {
            verb: "get".into(),
            namespace: "dev".into(),
            resource: "pods".into(),
            ..Attributes::default()
        };
        assert!(matches!(
            rbac.authorize(&user("jane", &[]), &asked).await,
            Decision::NoOpinion(_)
        ));
    }

    #[test]
    fn rules_are_listed_and_escalation_is_refused_in_upstreams_words() {
        let rbac = Rbac::new(Arc::new(objects()));
        let jane = user("jane", &["dev"]);
        let rules = rbac.rules(&jane, "dev").unwrap();
        assert_eq!(rules.resource_rules.len(), 2);
        assert_eq!(
            rules.non_resource_rules,
            [json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]})]
        );
        let wanted = [Rule {
            verbs: vec!["get".into(), "create".into()],
            groups: vec![String::new()],
            resources: vec!["pods".into()],
            ..Rule::default()
        }];
        let roles = GroupResource::new(GROUP, "roles");
        let error = rbac
            .check_escalation(&jane, &roles, "dev", "r", &wanted)
            .unwrap_err();
        assert_eq!(
            error.message,
            "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[\"dev\"]) is attempting to \
             grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"create\"]}"
        );
    }
}
