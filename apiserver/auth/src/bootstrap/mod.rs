//! The roles and bindings that every cluster has, and how they are kept.
//!
//! The names and rules are Kubernetes 1.36's, with the bindings that kubeadm makes for joining nodes. At start the apiserver
//! brings each stored object up to them ([`reconcile_role`], [`reconcile_binding`]): missing rights are added, additional
//! ones stay, and an object annotated `rbac.authorization.kubernetes.io/autoupdate=false` is left alone.

mod bindings;
mod controllers;
mod roles;

use crate::authorize::rule::{self, Rule};
use rutter_api::Value;
use rutter_api::object::ObjectExt;
use serde_json::{Map, json};

const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// The ClusterRoles.
pub fn cluster_roles() -> Vec<Value> {
    let mut all: Vec<Role> = roles::roles();
    all.extend(controllers::roles());
    all.iter().map(Role::to_value).collect()
}

/// The ClusterRoleBindings.
pub fn cluster_role_bindings() -> Vec<Value> {
    bindings::cluster_role_bindings()
}

/// The Roles, in `kube-system` and `kube-public`.
pub fn roles() -> Vec<Value> {
    bindings::roles()
}

/// The RoleBindings, in `kube-system` and `kube-public`.
pub fn role_bindings() -> Vec<Value> {
    bindings::role_bindings()
}

/// What any node may do, objects that depend on its pods aside.
pub fn node_rules() -> Vec<Rule> {
    roles::node_rules()
}

/// A role in the making.
struct Role {
    name: &'static str,
    rules: Vec<Rule>,
    /// It is made of the roles labelled to aggregate to this.
    aggregates: Option<&'static str>,
    /// It aggregates to this role.
    aggregates_to: Option<&'static str>,
}

impl Role {
    fn labelled(mut self, to: &'static str) -> Self {
        self.aggregates_to = Some(to);
        self
    }

    fn to_value(&self) -> Value {
        let mut object = json!({
            "apiVersion": API_VERSION,
            "kind": "ClusterRole",
            "metadata": metadata(self.name, ""),
        });
        let label = |to: &str| format!("rbac.authorization.k8s.io/aggregate-to-{to}");
        if let Some(to) = self.aggregates_to {
            object["metadata"]["labels"][label(to)] = json!("true");
        }
        match self.aggregates {
            Some(to) => {
                object["aggregationRule"] =
                    json!({"clusterRoleSelectors": [{"matchLabels": {label(to): "true"}}]});
                object["rules"] = Value::Null;
            }
            None => object["rules"] = self.rules.iter().map(Rule::to_value).collect(),
        }
        object
    }
}

fn metadata(name: &str, namespace: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {AUTOUPDATE: "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = Value::from(namespace);
    }
    metadata
}

fn role(name: &'static str, rules: Vec<Rule>) -> Role {
    Role {
        name,
        rules,
        aggregates: None,
        aggregates_to: None,
    }
}

fn aggregate(name: &'static str, from: &'static str) -> Role {
    Role {
        name,
        rules: Vec::new(),
        aggregates: Some(from),
        aggregates_to: None,
    }
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// `verbs` on `resources` of API `groups`, each separated by commas.
fn on(groups: &str, resources: &str, verbs: &str) -> Rule {
    Rule {
        verbs: split(verbs),
        groups: split(groups),
        resources: split(resources),
        ..Rule::default()
    }
}

/// The same, on some objects alone.
fn named(groups: &str, resources: &str, names: &str, verbs: &str) -> Rule {
    Rule {
        names: split(names),
        ..on(groups, resources, verbs)
    }
}

/// `verbs` on paths that are no resource.
fn urls(paths: &str, verbs: &str) -> Rule {
    Rule {
        verbs: split(verbs),
        urls: split(paths),
        ..Rule::default()
    }
}

/// What is to be done to bring a stored object to what it should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Reconcile {
    /// Nothing.
    Keep,
    /// Create it.
    Create(Value),
    /// Store the changed object.
    Update(Value),
    /// Delete the stored object and create this one: a binding's role cannot be changed.
    Recreate(Value),
}

/// Adds what is missing to a role.
pub fn reconcile_role(stored: Option<&Value>, expected: &Value) -> Reconcile {
    let Some(stored) = stored else {
        return Reconcile::Create(expected.clone());
    };
    if stored.annotation(AUTOUPDATE) == Some("false") {
        return Reconcile::Keep;
    }
    let mut object = stored.clone();
    merge_metadata(&mut object, expected);
    let missing = rule::uncovered(&Rule::of_role(stored), &Rule::of_role(expected));
    if !missing.is_empty() {
        let mut rules = stored.list_at("rules").to_vec();
        rules.extend(rule::compact(&missing).iter().map(Rule::to_value));
        object.set("rules", rules);
    }
    let wanted = expected.list_at("aggregationRule.clusterRoleSelectors");
    if wanted.is_empty() {
        object.take_at("aggregationRule");
    } else {
        let mut selectors = stored.list_at("aggregationRule.clusterRoleSelectors").to_vec();
        let new: Vec<Value> = wanted
            .iter()
            .filter(|s| !selectors.contains(s))
            .cloned()
            .collect();
        if !new.is_empty() {
            selectors.extend(new);
            object.set("aggregationRule.clusterRoleSelectors", selectors);
        }
    }
    if object == *stored {
        Reconcile::Keep
    } else {
        Reconcile::Update(object)
    }
}

/// Adds missing subjects to a binding.
pub fn reconcile_binding(stored: Option<&Value>, expected: &Value) -> Reconcile {
    let Some(stored) = stored else {
        return Reconcile::Create(expected.clone());
    };
    if stored.annotation(AUTOUPDATE) == Some("false") {
        return Reconcile::Keep;
    }
    let mut object = stored.clone();
    merge_metadata(&mut object, expected);
    let mut subjects = stored.list_at("subjects").to_vec();
    let key = |subject: &Value| {
        let part = |field: &str| subject.str_at(field).to_owned();
        (part("kind"), part("namespace"), part("name"))
    };
    let new: Vec<Value> = expected
        .list_at("subjects")
        .iter()
        .filter(|wanted| !subjects.iter().any(|have| key(have) == key(wanted)))
        .cloned()
        .collect();
    if !new.is_empty() {
        subjects.extend(new);
        object.set("subjects", subjects);
    }
    let role = |object: &Value| {
        let part = |field: &str| object.at("roleRef").str_at(field).to_owned();
        (part("kind"), part("name"))
    };
    if role(stored) != role(expected) {
        object.set("roleRef", expected.at("roleRef").clone());
        for field in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
            "managedFields",
        ] {
            object.take_at(&format!("metadata.{field}"));
        }
        return Reconcile::Recreate(object);
    }
    if object == *stored {
        Reconcile::Keep
    } else {
        Reconcile::Update(object)
    }
}

/// Adds the expected labels and annotations where the stored object has none of that name.
fn merge_metadata(object: &mut Value, expected: &Value) {
    for field in ["labels", "annotations"] {
        let path = format!("metadata.{field}");
        let Some(wanted) = expected.map_at(&path) else {
            continue;
        };
        if !object.at(&path).is_object() {
            object.set(&path, Map::new());
        }
        let Some(held) = object.at_mut(&path).as_object_mut() else {
            continue;
        };
        for (key, value) in wanted {
            held.entry(key.as_str()).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_binding_binds_a_role_that_exists() {
        let cluster = cluster_roles();
        let roles = roles();
        for binding in cluster_role_bindings().iter().chain(&role_bindings()) {
            let (kind, name) = (binding.str_at("roleRef.kind"), binding.str_at("roleRef.name"));
            let found = if kind == "ClusterRole" {
                cluster.iter().any(|role| role.name() == name)
            } else {
                roles
                    .iter()
                    .any(|role| role.name() == name && role.namespace() == binding.namespace())
            };
            assert!(found, "{} binds {kind} {name}", binding.name());
        }
        let mut names: Vec<_> = cluster.iter().map(|role| role.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cluster.len());
    }

    #[test]
    fn a_role_gains_what_it_lacks_and_keeps_what_it_has() {
        let expected = role("r", vec![on("", "pods", "get,list")]).to_value();
        assert_eq!(
            reconcile_role(None, &expected),
            Reconcile::Create(expected.clone())
        );
        assert_eq!(reconcile_role(Some(&expected), &expected), Reconcile::Keep);
        let mut stored = role("r", vec![on("", "pods", "get"), on("", "secrets", "get")]).to_value();
        let Reconcile::Update(updated) = reconcile_role(Some(&stored), &expected) else {
            panic!()
        };
        let rules = Rule::of_role(&updated);
        assert_eq!(
            rules,
            [
                on("", "pods", "get"),
                on("", "secrets", "get"),
                on("", "pods", "list")
            ]
        );
        stored["metadata"]["annotations"][AUTOUPDATE] = json!("false");
        assert_eq!(reconcile_role(Some(&stored), &expected), Reconcile::Keep);
        let aggregated = aggregate("admin", "admin").to_value();
        let mut filled = aggregated.clone();
        filled["rules"] = json!([on("", "pods", "get").to_value()]);
        assert_eq!(reconcile_role(Some(&filled), &aggregated), Reconcile::Keep);
    }

    #[test]
    fn a_binding_gains_subjects_and_is_recreated_for_another_role() {
        let expected = cluster_role_bindings()
            .into_iter()
            .find(|b| b.name() == "cluster-admin")
            .unwrap();
        let mut stored = expected.clone();
        stored["subjects"] = json!([{"kind": "User", "name": "jane"}]);
        let Reconcile::Update(updated) = reconcile_binding(Some(&stored), &expected) else {
            panic!()
        };
        assert_eq!(updated.list_at("subjects").len(), 2);
        stored["roleRef"]["name"] = json!("view");
        assert!(matches!(
            reconcile_binding(Some(&stored), &expected),
            Reconcile::Recreate(_)
        ));
    }
}
