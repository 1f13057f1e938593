//! What the server serves, and which resource an argument such as `deploy`, `pods` or `deployments.v1.apps` means.

use crate::error::{Error, Result};
use crate::rest::{Rest, encode};
use serde_json::Value;
use std::rc::Rc;

/// One served resource at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// API group, empty for the core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind of its objects.
    pub kind: String,
    /// Plural, as in paths.
    pub plural: String,
    /// Singular.
    pub singular: String,
    /// Short names.
    pub short: Vec<String>,
    /// Categories such as `all`.
    pub categories: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Names of subresources, with the kind of their objects.
    pub subresources: Vec<(String, String)>,
}

impl Mapping {
    /// `apps/v1`, or `v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
    /// `deployments.apps`, or `pods`.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
    /// `deployment.apps`, or `pod`: how messages name a kind.
    pub fn kind_name(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() {
            kind
        } else {
            format!("{kind}.{}", self.group)
        }
    }
    /// `deployment.apps/web`
    pub fn display(&self, name: &str) -> String {
        format!("{}/{name}", self.kind_name())
    }
    /// The collection's path; all namespaces if `namespace` is empty.
    pub fn collection(&self, namespace: &str) -> String {
        let base = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if self.namespaced && !namespace.is_empty() {
            format!("{base}/namespaces/{}/{}", encode(namespace), self.plural)
        } else {
            format!("{base}/{}", self.plural)
        }
    }
    /// An object's path.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.collection(namespace), encode(name))
    }
    /// A subresource's path.
    pub fn sub_path(&self, namespace: &str, name: &str, subresource: &str) -> String {
        if subresource.is_empty() {
            self.path(namespace, name)
        } else {
            format!("{}/{subresource}", self.path(namespace, name))
        }
    }
    /// Whether it can do this.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
    /// Whether this is `group/plural`.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}

/// One version of a group.
#[derive(Clone, Debug, Default)]
pub struct GroupVersion {
    /// Group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Resources, by the server's order.
    pub resources: Vec<Rc<Mapping>>,
}

/// All that is served: groups in the server's order of priority, versions of each with the preferred one first.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// Group versions.
    pub versions: Vec<GroupVersion>,
    /// Groups whose resources the server couldn't tell.
    pub stale: Vec<String>,
}

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

/// Reads an aggregated answer.
pub fn read_aggregated(list: &Value, out: &mut Discovery) {
    for group in list["items"].as_array().into_iter().flatten() {
        let name = text(&group["metadata"]["name"]);
        for version in group["versions"].as_array().into_iter().flatten() {
            let mut gv = GroupVersion {
                group: name.clone(),
                version: text(&version["version"]),
                resources: Vec::new(),
            };
            if version["freshness"].as_str() == Some("Stale") {
                out.stale.push(format!("{}/{}", gv.group, gv.version));
            }
            for r in version["resources"].as_array().into_iter().flatten() {
                gv.resources.push(Rc::new(Mapping {
                    group: name.clone(),
                    version: gv.version.clone(),
                    kind: text(&r["responseKind"]["kind"]),
                    plural: text(&r["resource"]),
                    singular: text(&r["singularResource"]),
                    short: strings(&r["shortNames"]),
                    categories: strings(&r["categories"]),
                    verbs: strings(&r["verbs"]),
                    namespaced: r["scope"].as_str() == Some("Namespaced"),
                    subresources: r["subresources"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|s| (text(&s["subresource"]), text(&s["responseKind"]["kind"])))
                        .collect(),
                }));
            }
            out.versions.push(gv);
        }
    }
}

/// Reads an `APIResourceList`.
pub fn read_legacy(group: &str, version: &str, list: &Value) -> GroupVersion {
    let mut gv = GroupVersion {
        group: group.to_owned(),
        version: version.to_owned(),
        resources: Vec::new(),
    };
    let mut subs: Vec<(String, String, String)> = Vec::new();
    let mut mappings: Vec<Mapping> = Vec::new();
    for r in list["resources"].as_array().into_iter().flatten() {
        let name = text(&r["name"]);
        let kind = text(&r["kind"]);
        if let Some((parent, sub)) = name.split_once('/') {
            subs.push((parent.to_owned(), sub.to_owned(), kind));
            continue;
        }
        let singular = text(&r["singularName"]);
        mappings.push(Mapping {
            group: group.to_owned(),
            version: version.to_owned(),
            singular: if singular.is_empty() {
                kind.to_lowercase()
            } else {
                singular
            },
            kind,
            plural: name,
            short: strings(&r["shortNames"]),
            categories: strings(&r["categories"]),
            verbs: strings(&r["verbs"]),
            namespaced: r["namespaced"].as_bool().unwrap_or(false),
            subresources: Vec::new(),
        });
    }
    for (parent, sub, kind) in subs {
        if let Some(m) = mappings.iter_mut().find(|m| m.plural == parent) {
            m.subresources.push((sub, kind));
        }
    }
    gv.resources = mappings.into_iter().map(Rc::new).collect();
    gv
}

impl Discovery {
    /// Asks the server.
    pub async fn fetch(rest: &Rest) -> Result<Self> {
        let (core, groups) = futures::try_join!(rest.get_as("/api", ACCEPT), rest.get_as("/apis", ACCEPT))?;
        let mut out = Self::default();
        if core["kind"] == "APIGroupDiscoveryList" {
            read_aggregated(&core, &mut out);
        } else {
            for version in strings(&core["versions"]) {
                let list = rest.get(&format!("/api/{version}")).await?;
                out.versions.push(read_legacy("", &version, &list));
            }
        }
        if groups["kind"] == "APIGroupDiscoveryList" {
            read_aggregated(&groups, &mut out);
        } else {
            for group in groups["groups"].as_array().into_iter().flatten() {
                let name = text(&group["name"]);
                let preferred = text(&group["preferredVersion"]["version"]);
                let mut versions: Vec<String> = group["versions"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|v| text(&v["version"]))
                    .collect();
                versions.sort_by_key(|v| *v != preferred);
                for version in versions {
                    match rest.get(&format!("/apis/{name}/{version}")).await {
                        Ok(list) => out.versions.push(read_legacy(&name, &version, &list)),
                        Err(Error::Status(_)) => out.stale.push(format!("{name}/{version}")),
                        Err(e) => return Err(e),
                    }
                }
            }
        }
        Ok(out)
    }

    /// All resources at all versions.
    pub fn all(&self) -> impl Iterator<Item = &Rc<Mapping>> {
        self.versions.iter().flat_map(|v| v.resources.iter())
    }

    /// The resources at the version that the server prefers for each.
    pub fn preferred(&self) -> Vec<Rc<Mapping>> {
        let mut out: Vec<Rc<Mapping>> = Vec::new();
        for m in self.all() {
            if !out.iter().any(|o| o.group == m.group && o.plural == m.plural) {
                out.push(m.clone());
            }
        }
        out
    }

    /// The resource of a kind at exactly this version.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<Rc<Mapping>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.all()
            .find(|m| m.group == group && m.version == version && m.kind == kind)
            .cloned()
    }

    /// The resource of a group, at the preferred version.
    pub fn by_group_resource(&self, group: &str, plural: &str) -> Option<Rc<Mapping>> {
        self.all()
            .find(|m| m.group == group && m.plural == plural)
            .cloned()
    }

    /// The resources of a category.
    pub fn category(&self, name: &str) -> Vec<Rc<Mapping>> {
        self.preferred()
            .into_iter()
            .filter(|m| m.categories.iter().any(|c| c == name))
            .collect()
    }

    /// What an argument means: plural, singular, short name or kind, with a version and a group behind dots.
    pub fn resolve(&self, argument: &str) -> Result<Rc<Mapping>> {
        let found = self.find(argument);
        if let Some(m) = &found {
            self.warn_ambiguous(argument, m);
        }
        found.ok_or_else(|| Error::new(format!("the server doesn't have a resource type \"{argument}\"")))
    }

    /// Says which other resources a short name could have meant.
    fn warn_ambiguous(&self, argument: &str, found: &Mapping) {
        let lower = argument.to_lowercase();
        if !found.short.contains(&lower) {
            return;
        }
        for other in self.preferred() {
            if other.short.contains(&lower) && (other.group != found.group || other.plural != found.plural) {
                crate::errln!(
                    "Warning: short name {argument:?} could also match lower priority resource {}",
                    other.group_resource()
                );
            }
        }
    }

    /// As [`Discovery::resolve`], None if there is no such resource.
    pub fn find(&self, argument: &str) -> Option<Rc<Mapping>> {
        let lower = argument.to_lowercase();
        let (name, rest) = match lower.split_once('.') {
            Some((n, r)) => (n, Some(r)),
            None => (lower.as_str(), None),
        };
        // `deployments.v1.apps`, also `pods.v1.` with the core's empty group
        if let Some((version, group)) = rest.and_then(|r| r.split_once('.'))
            && let Some(found) = self.matching(name, |m| m.version == version && m.group == group)
        {
            return Some(found);
        }
        match rest {
            Some(group) => {
                let group = group.trim_end_matches('.');
                self.matching(name, |m| m.group == group)
                    .or_else(|| self.matching(name, |m| m.group.starts_with(group)))
                    .or_else(|| self.matching(name, |m| m.group.is_empty() && m.version == group))
            }
            None => self.matching(name, |_| true),
        }
    }

    fn matching(&self, name: &str, test: impl Fn(&Mapping) -> bool) -> Option<Rc<Mapping>> {
        let find = |by: &dyn Fn(&Mapping) -> bool| self.all().find(|m| test(m) && by(m)).cloned();
        find(&|m| m.plural == name || m.singular == name)
            .or_else(|| find(&|m| m.short.iter().any(|s| s == name)))
            .or_else(|| find(&|m| m.kind.eq_ignore_ascii_case(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn served() -> Discovery {
        let resource = |plural: &str, kind: &str, short: &[&str]| {
            json!({"resource": plural, "singularResource": kind.to_lowercase(), "responseKind": {"kind": kind},
                "shortNames": short, "scope": "Namespaced", "verbs": ["get", "list"], "categories": ["all"]})
        };
        let mut out = Discovery::default();
        read_aggregated(
            &json!({"items": [
                {"metadata": {}, "versions": [{"version": "v1", "resources": [
                    resource("pods", "Pod", &["po"]), resource("events", "Event", &["ev"]),
                    resource("endpoints", "Endpoints", &["ep"])]}]},
                {"metadata": {"name": "apps"}, "versions": [
                    {"version": "v1", "resources": [resource("deployments", "Deployment", &["deploy"])]},
                    {"version": "v1beta1", "resources": [resource("deployments", "Deployment", &["deploy"])]}]},
                {"metadata": {"name": "events.k8s.io"}, "versions": [
                    {"version": "v1", "resources": [resource("events", "Event", &["ev"])]}]},
            ]}),
            &mut out,
        );
        out
    }

    #[test]
    fn arguments_find_their_resource() {
        let served = served();
        for (argument, group, version, plural) in [
            ("po", "", "v1", "pods"),
            ("pod", "", "v1", "pods"),
            ("Pods", "", "v1", "pods"),
            ("deploy", "apps", "v1", "deployments"),
            ("deployments.apps", "apps", "v1", "deployments"),
            ("deployments.v1beta1.apps", "apps", "v1beta1", "deployments"),
            ("Deployment.v1.apps", "apps", "v1", "deployments"),
            ("events", "", "v1", "events"),
            ("events.events.k8s.io", "events.k8s.io", "v1", "events"),
            ("events.v1.events.k8s.io", "events.k8s.io", "v1", "events"),
            ("pods.v1.", "", "v1", "pods"),
            ("endpoints", "", "v1", "endpoints"),
        ] {
            let m = served.resolve(argument).unwrap();
            assert_eq!(
                (m.group.as_str(), m.version.as_str(), m.plural.as_str()),
                (group, version, plural),
                "{argument}"
            );
        }
        assert_eq!(
            served.resolve("widgets").unwrap_err().report(),
            "error: the server doesn't have a resource type \"widgets\""
        );
    }

    #[test]
    fn paths_follow_group_and_namespace() {
        let m = served().resolve("deploy").unwrap();
        assert_eq!(m.path("a", "b"), "/apis/apps/v1/namespaces/a/deployments/b");
        assert_eq!(m.collection(""), "/apis/apps/v1/deployments");
        assert_eq!(m.display("b"), "deployment.apps/b");
    }
}
