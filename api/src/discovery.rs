//! Discovery documents: what is served, for `kubectl api-resources` and every client's REST mapper.

use crate::meta::{GroupVersion, GroupVersionKind};
use crate::resource::{Resource, Scheme, Subresource};
use serde_json::{Map, Value, json};
use std::cmp::{Ordering, Reverse};

/// Groups of the control plane itself come before all others, in this order: where two groups have a resource of one
/// name, clients take the first.
const GROUPS: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "resource.k8s.io",
    "storagemigration.k8s.io",
];

/// Orders versions as Kubernetes prefers them: stable before beta before alpha, newer first, other names last.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let key = |version: &str| -> Option<(Reverse<u8>, Reverse<u64>, Reverse<u64>)> {
        let rest = version.strip_prefix('v')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u64 = rest[..end].parse().ok()?;
        let (stability, minor) = match &rest[end..] {
            "" => (2, 0),
            tail => match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
                (Some(minor), _) => (1, minor.parse().ok()?),
                (_, Some(minor)) => (0, minor.parse().ok()?),
                _ => return None,
            },
        };
        Some((Reverse(stability), Reverse(major), Reverse(minor)))
    };
    match (key(a), key(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// The groups served and their versions, both in order of preference; the core group comes first, where it is served.
pub fn groups(scheme: &Scheme) -> Vec<(String, Vec<GroupVersion>)> {
    let mut groups: Vec<(String, Vec<GroupVersion>)> = Vec::new();
    for version in scheme.group_versions() {
        match groups.iter_mut().find(|(group, _)| *group == version.group) {
            Some((_, versions)) => versions.push(version.clone()),
            None => groups.push((version.group.clone(), vec![version.clone()])),
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by(|a, b| compare_versions(&a.version, &b.version));
    }
    let rank = |group: &str| GROUPS.iter().position(|g| *g == group).unwrap_or(GROUPS.len());
    groups.sort_by(|(a, _), (b, _)| (rank(a), a).cmp(&(rank(b), b)));
    groups
}

/// `/api`: `APIVersions`. `server_address` is where clients reach this server, `host:port`.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

fn group_body(name: &str, versions: &[GroupVersion]) -> Map<String, Value> {
    let version = |v: &GroupVersion| json!({"groupVersion": v.to_string(), "version": v.version});
    let mut body = Map::new();
    body.insert("name".to_owned(), Value::from(name));
    body.insert(
        "versions".to_owned(),
        Value::Array(versions.iter().map(version).collect()),
    );
    body.insert(
        "preferredVersion".to_owned(),
        versions.first().map_or(Value::Null, version),
    );
    body
}

/// `/apis`: `APIGroupList`.
pub fn group_list(scheme: &Scheme) -> Value {
    group_list_of(&groups(scheme))
}

/// `/apis` of groups that are given, in their order.
pub fn group_list_of(groups: &[(String, Vec<GroupVersion>)]) -> Value {
    let groups: Vec<Value> = groups
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, versions)| Value::Object(group_body(name, versions)))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`: `APIGroup`.
pub fn group(scheme: &Scheme, group: &str) -> Option<Value> {
    group_of(&groups(scheme), group)
}

/// `/apis/<group>` of groups that are given.
pub fn group_of(groups: &[(String, Vec<GroupVersion>)], group: &str) -> Option<Value> {
    let (name, versions) = groups.iter().find(|(name, _)| name == group)?;
    let mut body = group_body(name, versions);
    body.insert("kind".to_owned(), Value::from("APIGroup"));
    body.insert("apiVersion".to_owned(), Value::from("v1"));
    Some(Value::Object(body))
}

fn verbs<S: AsRef<str>>(verbs: &[S]) -> Value {
    let mut verbs: Vec<&str> = verbs.iter().map(AsRef::as_ref).collect();
    verbs.sort_unstable();
    Value::from(verbs)
}

fn texts<S: AsRef<str>>(texts: &[S]) -> Value {
    Value::Array(texts.iter().map(|t| Value::from(t.as_ref())).collect())
}

/// What is sent and received at a subresource.
fn subresource_kind(resource: &Resource, subresource: &Subresource) -> GroupVersionKind {
    subresource.kind.clone().unwrap_or_else(|| resource.gvk())
}

/// `/api/v1` and `/apis/<group>/<version>`: `APIResourceList`.
pub fn resource_list(scheme: &Scheme, group_version: &GroupVersion) -> Option<Value> {
    if !scheme.has(group_version) {
        return None;
    }
    let mut resources = Vec::new();
    for resource in scheme.resources(group_version) {
        let mut body = Map::new();
        body.insert("name".to_owned(), Value::from(&*resource.plural));
        body.insert("singularName".to_owned(), Value::from(&*resource.singular));
        body.insert("namespaced".to_owned(), Value::from(resource.namespaced));
        body.insert("kind".to_owned(), Value::from(&*resource.kind));
        body.insert("verbs".to_owned(), verbs(&resource.verbs));
        if !resource.short_names.is_empty() {
            body.insert("shortNames".to_owned(), texts(&resource.short_names));
        }
        if !resource.categories.is_empty() {
            body.insert("categories".to_owned(), texts(&resource.categories));
        }
        resources.push(Value::Object(body));
        for subresource in &resource.subresources {
            let kind = subresource_kind(resource, subresource);
            let mut body = json!({
                "name": format!("{}/{}", resource.plural, subresource.name),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind.kind,
                "verbs": verbs(&subresource.verbs),
            });
            if kind.group_version() != *group_version
                && let Some(body) = body.as_object_mut()
            {
                if !kind.group.is_empty() {
                    body.insert("group".to_owned(), Value::from(kind.group));
                }
                body.insert("version".to_owned(), Value::from(kind.version));
            }
            resources.push(body);
        }
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version.to_string(),
        "resources": resources,
    }))
}

/// Aggregated discovery of `/api` (`core`) or `/apis`: `APIGroupDiscoveryList` of `apidiscovery.k8s.io/v2`.
pub fn aggregated(scheme: &Scheme, core: bool) -> Value {
    let items: Vec<Value> = groups(scheme)
        .iter()
        .filter(|(name, _)| name.is_empty() == core)
        .map(|(name, versions)| aggregated_group(scheme, name, versions))
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

/// One item of [`aggregated`].
fn aggregated_group(scheme: &Scheme, name: &str, versions: &[GroupVersion]) -> Value {
    let metadata = if name.is_empty() {
        json!({})
    } else {
        json!({"name": name})
    };
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| aggregated_version(scheme, version))
        .collect();
    json!({"metadata": metadata, "versions": versions})
}

/// One version of an item of [`aggregated`].
pub fn aggregated_version(scheme: &Scheme, version: &GroupVersion) -> Value {
    let resources: Vec<Value> = scheme
        .resources(version)
        .map(|r| aggregated_resource(r))
        .collect();
    json!({"version": version.version, "resources": resources, "freshness": "Current"})
}

fn response_kind(kind: &GroupVersionKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn aggregated_resource(resource: &Resource) -> Value {
    let mut body = json!({
        "resource": resource.plural,
        "responseKind": response_kind(&resource.gvk()),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(&resource.verbs),
    });
    if let Some(body) = body.as_object_mut() {
        if !resource.short_names.is_empty() {
            body.insert("shortNames".to_owned(), texts(&resource.short_names));
        }
        if !resource.categories.is_empty() {
            body.insert("categories".to_owned(), texts(&resource.categories));
        }
        if !resource.subresources.is_empty() {
            let subresources = resource.subresources.iter().map(|subresource| {
                json!({
                    "subresource": subresource.name,
                    "responseKind": response_kind(&subresource_kind(resource, subresource)),
                    "verbs": verbs(&subresource.verbs),
                })
            });
            body.insert("subresources".to_owned(), subresources.collect());
        }
    }
    body
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::strategy::Plain;
    use std::sync::Arc;

    pub(crate) fn resource(
        group: &str,
        version: &str,
        kind: &'static str,
        plural: &'static str,
        schema: &'static str,
    ) -> Resource {
        Resource {
            group_version: GroupVersion::new(group, version),
            kind: kind.into(),
            list_kind: format!("{kind}List").into(),
            plural: plural.into(),
            singular: kind.to_lowercase().into(),
            short_names: vec!["x".into()],
            categories: vec!["all".into()],
            namespaced: true,
            verbs: [
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ]
            .map(Into::into)
            .into(),
            subresources: vec![
                Subresource {
                    name: "status".into(),
                    kind: None,
                    verbs: vec!["get".into(), "update".into(), "patch".into()].into(),
                },
                Subresource {
                    name: "scale".into(),
                    kind: Some(GroupVersionKind::new("autoscaling", "v1", "Scale")),
                    verbs: vec!["get".into(), "update".into(), "patch".into()].into(),
                },
            ],
            storage_prefix: Some("/registry/x".into()),
            storage_version: GroupVersion::new(group, version),
            schema: schema.into(),
            strategy: Arc::new(Plain),
        }
    }

    pub(crate) fn scheme() -> Scheme {
        let mut scheme = Scheme::new();
        scheme.insert(resource("", "v1", "Pod", "pods", "io.k8s.api.core.v1.Pod"));
        scheme.insert(resource(
            "apps",
            "v1",
            "Deployment",
            "deployments",
            "io.k8s.api.apps.v1.Deployment",
        ));
        scheme.insert(resource("a.example.com", "v1", "A", "as", ""));
        scheme.insert(resource("a.example.com", "v1beta1", "A", "as", ""));
        scheme
    }

    #[test]
    fn versions_are_preferred_by_stability_and_age() {
        let mut versions = [
            "v1", "v10", "v2beta1", "v1alpha1", "v2", "foo", "v2beta2", "v1beta1",
        ];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(
            versions,
            [
                "v10", "v2", "v1", "v2beta2", "v2beta1", "v1beta1", "v1alpha1", "foo"
            ]
        );
    }

    #[test]
    fn documents_list_groups_versions_resources_and_subresources() {
        let scheme = scheme();
        let list = group_list(&scheme);
        assert_eq!(list["groups"][0]["name"], "apps");
        assert_eq!(
            list["groups"][1]["preferredVersion"],
            json!({"groupVersion": "a.example.com/v1", "version": "v1"})
        );
        assert_eq!(group(&scheme, "apps").unwrap()["kind"], "APIGroup");
        assert!(group(&scheme, "nothing").is_none());
        let list = resource_list(&scheme, &GroupVersion::new("apps", "v1")).unwrap();
        assert_eq!(list["resources"][0]["verbs"][7], "watch");
        assert_eq!(list["resources"][1]["name"], "deployments/status");
        assert_eq!(
            list["resources"][2],
            json!({"name": "deployments/scale", "singularName": "", "namespaced": true, "kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": ["get", "patch", "update"]})
        );
        let core = aggregated(&scheme, true);
        assert_eq!(core["items"][0]["metadata"], json!({}));
        assert_eq!(
            core["items"][0]["versions"][0]["resources"][0]["scope"],
            "Namespaced"
        );
        let all = aggregated(&scheme, false);
        assert_eq!(all["items"][1]["versions"][1]["version"], "v1beta1");
        assert_eq!(
            all["items"][0]["versions"][0]["resources"][0]["subresources"][1]["responseKind"],
            json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})
        );
    }
}
