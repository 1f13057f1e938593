//! What aggregated servers say they serve, and its place among our own in the discovery documents.

use super::Routes;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupVersion, Value, discovery};
use serde_json::{Map, json};
use std::cmp::Reverse;

/// What a server is asked for, the best form first.
pub const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,\
                          application/json;q=0.9";

/// A version out of a server's `/apis`, when that is an `APIGroupDiscoveryList`.
pub fn of_aggregated(list: &Value, group_version: &GroupVersion) -> Option<Value> {
    if list.str_at("kind") != "APIGroupDiscoveryList" {
        return None;
    }
    let mut groups = list.list_at("items").iter();
    let group = groups.find(|group| group.str_at("metadata.name") == group_version.group)?;
    let mut versions = group.list_at("versions").iter();
    let mut version = versions
        .find(|version| version.str_at("version") == group_version.version)?
        .clone();
    version.set("freshness", "Current");
    Some(version)
}

/// A version out of a server's `/apis/<group>/<version>`, an `APIResourceList`.
pub fn of_legacy(list: &Value, group_version: &GroupVersion) -> Option<Value> {
    if list.str_at("kind") != "APIResourceList" {
        return None;
    }
    let kind_of = |resource: &Value| {
        let or_own = |key: &str, own: &str| match resource.str_at(key) {
            "" => own.to_owned(),
            given => given.to_owned(),
        };
        let version = or_own("version", &group_version.version);
        // A group alone may be left out, but not once the version says that the kind is another's.
        let group = match (resource.str_at("group"), resource.str_at("version")) {
            ("", "") => group_version.group.clone(),
            (given, _) => given.to_owned(),
        };
        json!({"group": group, "version": version, "kind": resource.str_at("kind")})
    };
    let mut resources: Vec<Value> = Vec::new();
    for resource in list.list_at("resources") {
        let name = resource.str_at("name");
        if let Some((of, subresource)) = name.split_once('/') {
            let said = json!({
                "subresource": subresource, "responseKind": kind_of(resource), "verbs": resource.at("verbs"),
            });
            if let Some(parent) = resources.iter_mut().find(|r| r.str_at("resource") == of) {
                match parent.list_at_mut("subresources") {
                    Some(list) => list.push(said),
                    None => parent.set("subresources", json!([said])),
                }
            }
            continue;
        }
        let mut said = json!({
            "resource": name,
            "responseKind": kind_of(resource),
            "scope": if resource.bool_at("namespaced") == Some(true) { "Namespaced" } else { "Cluster" },
            "singularResource": resource.str_at("singularName"),
            "verbs": resource.at("verbs"),
        });
        for key in ["shortNames", "categories"] {
            if resource.at(key).is_array() {
                said.set(key, resource.at(key).clone());
            }
        }
        resources.push(said);
    }
    Some(json!({"version": group_version.version, "resources": resources, "freshness": "Current"}))
}

/// Groups with their versions, the aggregated ones among our own by their priority.
pub fn groups(own: Vec<(String, Vec<GroupVersion>)>, routes: &Routes) -> Vec<(String, Vec<GroupVersion>)> {
    let mut all = own;
    // Our own groups stay in their order; who has no APIService yet is a custom resource's.
    let rank = |group: &str, versions: &[GroupVersion]| {
        let known = versions.iter().filter_map(|version| routes.priority(version));
        match group {
            "" | "apiregistration.k8s.io" => i64::MAX,
            _ => known.map(|(group, _)| group).max().unwrap_or(1000),
        }
    };
    for route in routes.all() {
        let version = &route.group_version;
        match all.iter_mut().find(|(group, _)| *group == version.group) {
            Some((_, versions)) if versions.contains(version) => {}
            Some((_, versions)) => {
                versions.push(version.clone());
                versions.sort_by(|a, b| {
                    let priority =
                        |v: &GroupVersion| Reverse(routes.priority(v).map_or(100, |(_, version)| version));
                    let by_priority = priority(a).cmp(&priority(b));
                    by_priority.then_with(|| discovery::compare_versions(&a.version, &b.version))
                });
            }
            None => {
                let (priority, name) = (route.priority.0, &version.group);
                let before = |(group, versions): &(String, Vec<GroupVersion>)| {
                    let other = rank(group, versions);
                    other > priority || (other == priority && group < name)
                };
                let place = all.iter().rposition(before).map_or(0, |last| last + 1);
                all.insert(place, (version.group.clone(), vec![version.clone()]));
            }
        }
    }
    all
}

/// A version as an `APIGroupDiscoveryList` has it: what its server last said, stale while it is away.
pub fn version(routes: &Routes, group_version: &GroupVersion) -> Option<Value> {
    let route = routes.get(group_version)?;
    let discovered = route.discovered.load();
    let known = discovered
        .as_ref()
        .and_then(|discovered| discovered.version.clone());
    let (mut version, known) = match known {
        Some(version) => (version, true),
        None => (json!({"version": group_version.version}), false),
    };
    if !route.is_available() || !known {
        version.set("freshness", "Stale");
    }
    Some(version)
}

/// A list of the aggregated form, of groups that are given with their versions.
pub fn list(groups: Vec<(String, Vec<Value>)>) -> Value {
    let items: Vec<Value> = groups
        .into_iter()
        .map(|(name, versions)| {
            let mut metadata = Map::new();
            if !name.is_empty() {
                metadata.insert("name".to_owned(), Value::from(name));
            }
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::Route;
    use rutter_outbound::ServiceReference;
    use std::sync::Arc;

    fn route(group: &str, version: &str, priority: (i64, i64), available: bool) -> Arc<Route> {
        Arc::new(Route {
            name: format!("{version}.{group}"),
            group_version: GroupVersion::new(group, version),
            priority,
            available: available.into(),
            service: ServiceReference {
                namespace: "n".to_owned(),
                name: "s".to_owned(),
                port: 443,
            },
            caller: Err(String::new()),
            discovered: Arc::default(),
        })
    }

    fn routes(all: Vec<Arc<Route>>, own: &[(&str, &str, i64)]) -> Routes {
        let mut routes = Routes::default();
        for route in all {
            let version = route.group_version.clone();
            let key = (version.group.clone(), version.version.clone());
            routes.priorities.insert(key, route.priority);
            routes.routes.insert(version, route);
        }
        for (group, version, priority) in own {
            let key = ((*group).to_owned(), (*version).to_owned());
            routes.priorities.insert(key, (*priority, 15));
        }
        routes
    }

    #[test]
    fn aggregated_groups_stand_where_their_priority_puts_them() {
        let version = GroupVersion::new;
        let own = vec![
            (String::new(), vec![version("", "v1")]),
            ("apps".to_owned(), vec![version("apps", "v1")]),
            ("custom.io".to_owned(), vec![version("custom.io", "v1")]),
        ];
        let routes = routes(
            vec![
                route("wardle.example.com", "v1alpha1", (2000, 200), true),
                route("metrics.k8s.io", "v1beta1", (100, 100), true),
                route("custom.io", "v2", (1000, 15), true),
            ],
            &[("", "v1", 18000), ("apps", "v1", 17800)],
        );
        let got: Vec<String> = groups(own, &routes)
            .into_iter()
            .map(|(group, versions)| {
                let versions: Vec<String> = versions.into_iter().map(|v| v.version).collect();
                format!("{group}:{}", versions.join(","))
            })
            .collect();
        assert_eq!(
            got,
            [
                ":v1",
                "apps:v1",
                "wardle.example.com:v1alpha1",
                "custom.io:v1,v2",
                "metrics.k8s.io:v1beta1"
            ]
        );
    }

    #[test]
    fn a_server_is_understood_in_the_new_form_and_in_the_old() {
        let of = GroupVersion::new("wardle.example.com", "v1alpha1");
        let resources = json!([{
            "resource": "flunders", "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get"],
            "responseKind": {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"},
            "subresources": [{
                "subresource": "scale", "verbs": ["get"],
                "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
            }],
        }]);
        let want = json!({"version": "v1alpha1", "resources": resources, "freshness": "Current"});
        let new = json!({"kind": "APIGroupDiscoveryList", "items": [
            {"metadata": {"name": "other"}, "versions": []},
            {"metadata": {"name": "wardle.example.com"}, "versions": [
                {"version": "v1beta1"}, {"version": "v1alpha1", "resources": resources},
            ]},
        ]});
        assert_eq!(of_aggregated(&new, &of), Some(want.clone()));
        let old = json!({"kind": "APIResourceList", "resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
            {"name": "flunders/scale", "namespaced": true, "kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": ["get"]},
        ]});
        assert_eq!(of_legacy(&old, &of), Some(want));
        assert_eq!(of_aggregated(&old, &of), None);
        assert_eq!(of_legacy(&new, &of), None);
    }

    #[test]
    fn what_was_known_of_a_server_that_is_away_is_stale() {
        let of = GroupVersion::new("a", "v1");
        let away = routes(vec![route("a", "v1", (1, 1), false)], &[]);
        assert_eq!(
            version(&away, &of),
            Some(json!({"version": "v1", "freshness": "Stale"}))
        );
        let there = route("a", "v1", (1, 1), true);
        let known = super::super::Discovered {
            version: Some(json!({"version": "v1", "resources": [], "freshness": "Current"})),
            ..Default::default()
        };
        there.discovered.store(Some(Arc::new(known)));
        let got = version(&routes(vec![there], &[]), &of).unwrap();
        assert_eq!(got.str_at("freshness"), "Current");
        assert_eq!(version(&away, &GroupVersion::new("b", "v1")), None);
    }
}
