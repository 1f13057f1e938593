//! Which resources the apiserver serves, built-in and custom, each in its preferred version.

use anyhow::Context as _;
use kube::core::discovery::v2::{APIGroupDiscovery, APIVersionDiscovery};
use kube::discovery::ApiResource;
use std::collections::BTreeMap;

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its names.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with it.
    pub verbs: Vec<String>,
}

impl Served {
    /// Whether all of these verbs are supported.
    pub fn supports(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|v| v == verb))
    }

    /// `resource.group`, or the resource alone in the core group.
    pub fn group_resource(&self) -> String {
        if self.resource.group.is_empty() {
            self.resource.plural.clone()
        } else {
            format!("{}.{}", self.resource.plural, self.resource.group)
        }
    }
}

/// All resources, and the groups whose server didn't say what it serves.
#[derive(Debug, Default)]
pub struct Discovery {
    /// By `resource.group`.
    pub resources: BTreeMap<String, Served>,
    /// `group/version` of servers that could not be asked; what they serve is unknown, not absent.
    pub unknown: Vec<String>,
}

impl Discovery {
    /// The resource of a kind.
    pub fn of_kind(&self, group: &str, kind: &str) -> Option<&Served> {
        self.resources
            .values()
            .find(|s| s.resource.group == group && s.resource.kind == kind)
    }
}

/// Asks the apiserver.
pub async fn discover(client: &kube::Client) -> anyhow::Result<Discovery> {
    let core = client
        .list_core_api_versions_aggregated()
        .await
        .context("asking for the core resources")?;
    let groups = client
        .list_api_groups_aggregated()
        .await
        .context("asking for the resources")?;
    let mut found = Discovery::default();
    for group in core.items.iter().chain(&groups.items) {
        add_group(group, &mut found);
    }
    Ok(found)
}

fn add_group(group: &APIGroupDiscovery, found: &mut Discovery) {
    let name = group
        .metadata
        .as_ref()
        .and_then(|m| m.name.clone())
        .unwrap_or_default();
    for version in &group.versions {
        let number = version.version.clone().unwrap_or_default();
        if version.freshness.as_deref() == Some("Stale") {
            found.unknown.push(format!("{name}/{number}"));
        }
        add_version(&name, &number, version, found);
    }
}

fn add_version(group: &str, version: &str, served: &APIVersionDiscovery, found: &mut Discovery) {
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    for resource in &served.resources {
        let Some(plural) = resource.resource.clone() else {
            continue;
        };
        let kind = resource
            .response_kind
            .as_ref()
            .and_then(|k| k.kind.clone())
            .unwrap_or_default();
        let served = Served {
            resource: ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version: api_version.clone(),
                kind,
                plural: plural.clone(),
            },
            namespaced: resource.scope.as_deref() == Some("Namespaced"),
            verbs: resource.verbs.clone(),
        };
        // The first version that has the resource is the preferred one.
        found.resources.entry(served.group_resource()).or_insert(served);
    }
}
