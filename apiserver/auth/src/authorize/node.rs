//! The Node authorizer: a kubelet reads what the pods on its node need, and writes what is its own.
//!
//! There is no graph to keep: whether an object belongs to a node is answered from the pods of its namespace as they are now.
//! A pod that is only scheduled to the node counts at once, and one that is gone no longer counts.

use super::rule::Rule;
use crate::{Attributes, Authorizer, Decision, Rules, bootstrap, names};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, UserInfo, Value};
use std::sync::Arc;

const MIRROR: &str = "kubernetes.io/config.mirror";

/// The Node authorizer (`--authorization-mode=Node`).
pub struct NodeAuthorizer {
    reader: Arc<dyn ObjectReader>,
    rules: Vec<Rule>,
}

/// What a pod can refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Secret,
    ConfigMap,
    Claim,
    ResourceClaim,
    ServiceAccount,
}

impl NodeAuthorizer {
    /// Reads pods and volumes through `reader`.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self {
            reader,
            rules: bootstrap::node_rules(),
        }
    }

    fn decide(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Result<(), String> {
        let Some(node) = names::node_identity(user) else {
            return Err(String::new());
        };
        if node.is_empty() {
            return Err(format!("unknown node for user {:?}", user.name));
        }
        let (verb, sub) = (&*attributes.verb, &*attributes.subresource);
        match (&*attributes.group, &*attributes.resource) {
            ("", "secrets") => self.read(node, Kind::Secret, attributes),
            ("", "configmaps") => self.read(node, Kind::ConfigMap, attributes),
            ("", "persistentvolumeclaims") if sub == "status" => match verb {
                "update" | "patch" => self.related(node, Kind::Claim, attributes),
                _ => no("can only get/update/patch this type"),
            },
            ("", "persistentvolumeclaims") => {
                only_get(attributes)?;
                self.related(node, Kind::Claim, attributes)
            }
            ("", "persistentvolumes") => {
                only_get(attributes)?;
                relation(node, self.has_volume(node, &attributes.name))
            }
            ("resource.k8s.io", "resourceclaims") => {
                only_get(attributes)?;
                self.related(node, Kind::ResourceClaim, attributes)
            }
            ("storage.k8s.io", "volumeattachments") => {
                only_get(attributes)?;
                self.names_node(node, "spec.nodeName", attributes)
            }
            ("", "serviceaccounts") => self.service_account(node, attributes),
            ("coordination.k8s.io", "leases") => lease(node, attributes),
            ("storage.k8s.io", "csinodes") => csi_node(node, attributes),
            ("resource.k8s.io", "resourceslices") => self.resource_slice(node, attributes),
            ("", "nodes") => own_node(node, attributes),
            ("", "pods") => self.pod(node, attributes),
            ("certificates.k8s.io", "podcertificaterequests") => self.pod_certificate(node, attributes),
            _ if self.rules.iter().any(|rule| rule.allows(attributes)) => Ok(()),
            _ => Err(String::new()),
        }
    }

    fn read(&self, node: &str, kind: Kind, attributes: &Attributes<'_>) -> Result<(), String> {
        if !matches!(&*attributes.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !attributes.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if attributes.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(node, kind, attributes)
    }

    fn related(&self, node: &str, kind: Kind, attributes: &Attributes<'_>) -> Result<(), String> {
        if attributes.name.is_empty() {
            return no("No Object name found");
        }
        let (namespace, name) = (&*attributes.namespace, &*attributes.name);
        let found = self.pods_refer(node, kind, namespace, name)
            || (kind == Kind::Secret && self.volumes_refer(node, namespace, name));
        relation(node, found)
    }

    /// Whether a pod on the node refers to an object of its namespace.
    fn pods_refer(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let pods = GroupResource::new("", "pods");
        let on_node = self.reader.select(&pods, Some(namespace), "spec.nodeName", node);
        on_node.iter().any(|pod| refers(pod, kind, name))
    }

    /// Whether a volume that a pod on the node claims needs a Secret.
    fn volumes_refer(&self, node: &str, namespace: &str, name: &str) -> bool {
        let volumes = self
            .reader
            .list(&GroupResource::new("", "persistentvolumes"), None);
        volumes
            .iter()
            .any(|volume| volume_secrets(volume).contains(&(namespace, name)) && self.claims(node, volume))
    }

    fn has_volume(&self, node: &str, name: &str) -> bool {
        let volume = self
            .reader
            .get(&GroupResource::new("", "persistentvolumes"), "", name);
        volume.is_some_and(|volume| self.claims(node, &volume))
    }

    fn claims(&self, node: &str, volume: &Value) -> bool {
        let claim = volume.at("spec.claimRef");
        claim.is_object()
            && self.pods_refer(node, Kind::Claim, claim.str_at("namespace"), claim.str_at("name"))
    }

    /// Whether the object says itself that it is the node's.
    fn names_node(&self, node: &str, path: &str, attributes: &Attributes<'_>) -> Result<(), String> {
        if attributes.name.is_empty() {
            return no("No Object name found");
        }
        let resource = GroupResource::new(&*attributes.group, &*attributes.resource);
        let object = self
            .reader
            .get(&resource, &attributes.namespace, &attributes.name);
        relation(node, object.is_some_and(|object| object.str_at(path) == node))
    }

    fn service_account(&self, node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
        let (verb, sub) = (&*attributes.verb, &*attributes.subresource);
        if verb == "get" && sub.is_empty() {
            return self.read(node, Kind::ServiceAccount, attributes);
        }
        if verb != "create" || attributes.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if sub != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(node, Kind::ServiceAccount, attributes)
    }

    fn resource_slice(&self, node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
        if !attributes.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match &*attributes.verb {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.names_node(node, "spec.nodeName", attributes),
            "watch" | "list" | "deletecollection" if selects(attributes, "spec.nodeName", node) => Ok(()),
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn pod_certificate(&self, node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
        if !attributes.subresource.is_empty() {
            return no("nodes may not access the status subresource of PodCertificateRequests");
        }
        match &*attributes.verb {
            "create" => Ok(()),
            "get" => self.names_node(node, "spec.nodeName", attributes),
            "list" | "watch" if selects(attributes, "spec.nodeName", node) => Ok(()),
            "list" | "watch" => no("can only list/watch podcertificaterequests with nodeName field selector"),
            verb => Err(format!("nodes may not {verb} podcertificaterequests")),
        }
    }

    fn pod(&self, node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
        match (&*attributes.subresource, &*attributes.verb) {
            ("", "get") => self.names_node(node, "spec.nodeName", attributes),
            ("", "list" | "watch") if selects(attributes, "spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") if !attributes.name.is_empty() => {
                self.names_node(node, "spec.nodeName", attributes)
            }
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }
}

fn no(why: &str) -> Result<(), String> {
    Err(why.to_owned())
}

fn relation(node: &str, found: bool) -> Result<(), String> {
    if found {
        Ok(())
    } else {
        Err(format!(
            "no relationship found between node '{node}' and this object"
        ))
    }
}

fn only_get(attributes: &Attributes<'_>) -> Result<(), String> {
    if attributes.verb != "get" {
        return no("can only get individual resources of this type");
    }
    if !attributes.subresource.is_empty() {
        return no("cannot get subresource");
    }
    if attributes.name.is_empty() {
        return no("No Object name found");
    }
    Ok(())
}

fn own_node(node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
    match (&*attributes.subresource, &*attributes.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") => match &*attributes.name {
            own if own == node => Ok(()),
            "" => Err(format!(
                "node '{node}' cannot read all nodes, only its own Node object"
            )),
            other => Err(format!(
                "node '{node}' cannot read '{other}', only its own Node object"
            )),
        },
        _ => Err(String::new()),
    }
}

fn lease(node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
    match &*attributes.verb {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return no("can only get, create, update, patch, or delete a node lease"),
    }
    if attributes.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    if attributes.verb != "create" && attributes.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn csi_node(node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
    match &*attributes.verb {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return no("can only get, create, update, patch, or delete a CSINode"),
    }
    if !attributes.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if attributes.verb != "create" && attributes.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}

/// Whether a request's field selector demands `field=value`.
pub(crate) fn selects(attributes: &Attributes<'_>, field: &str, value: &str) -> bool {
    attributes.field_selector.split(',').any(|term| {
        let Some((left, right)) = term.split_once('=') else {
            return false;
        };
        let right = right.strip_prefix('=').unwrap_or(right);
        left.trim() == field && right.trim() == value
    })
}

/// Whether a pod refers to an object. A mirror pod's words count for nothing: it was not admitted by anybody.
fn refers(pod: &Value, kind: Kind, name: &str) -> bool {
    if pod.annotation(MIRROR).is_some() {
        return false;
    }
    let spec = pod.at("spec");
    match kind {
        Kind::ServiceAccount => spec.str_at("serviceAccountName") == name,
        Kind::Secret => {
            spec.list_at("imagePullSecrets")
                .iter()
                .any(|s| s.str_at("name") == name)
                || containers(spec).any(|c| environment(c, "secretRef", "secretKeyRef", name))
                || spec.list_at("volumes").iter().any(|v| volume_secret(v, name))
        }
        Kind::ConfigMap => {
            containers(spec).any(|c| environment(c, "configMapRef", "configMapKeyRef", name))
                || spec.list_at("volumes").iter().any(|volume| {
                    volume.str_at("configMap.name") == name
                        || volume
                            .list_at("projected.sources")
                            .iter()
                            .any(|source| source.str_at("configMap.name") == name)
                })
        }
        Kind::Claim => spec.list_at("volumes").iter().any(|volume| {
            volume.str_at("persistentVolumeClaim.claimName") == name
                || (!volume.at("ephemeral").is_null()
                    && name
                        .strip_prefix(pod.name())
                        .and_then(|rest| rest.strip_prefix('-'))
                        == Some(volume.str_at("name")))
        }),
        Kind::ResourceClaim => {
            spec.list_at("resourceClaims")
                .iter()
                .any(|claim| claim.str_at("resourceClaimName") == name)
                || pod
                    .list_at("status.resourceClaimStatuses")
                    .iter()
                    .any(|status| status.str_at("resourceClaimName") == name)
                || pod.str_at("status.extendedResourceClaimStatus.resourceClaimName") == name
        }
    }
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|key| spec.list_at(key))
}

fn environment(container: &Value, whole: &str, key: &str, name: &str) -> bool {
    let named = |value: &Value| value.str_at("name") == name;
    container
        .list_at("envFrom")
        .iter()
        .any(|from| from.get(whole).is_some_and(named))
        || container
            .list_at("env")
            .iter()
            .any(|env| env.at("valueFrom").get(key).is_some_and(named))
}

fn volume_secret(volume: &Value, name: &str) -> bool {
    volume.str_at("secret.secretName") == name
        || volume.str_at("azureFile.secretName") == name
        || volume.str_at("csi.nodePublishSecretRef.name") == name
        || volume
            .list_at("projected.sources")
            .iter()
            .any(|source| source.str_at("secret.name") == name)
        || [
            "cephfs",
            "cinder",
            "flexVolume",
            "rbd",
            "scaleIO",
            "iscsi",
            "storageos",
        ]
        .iter()
        .any(|kind| volume.at(kind).str_at("secretRef.name") == name)
}

/// The Secrets that a kubelet needs to mount a volume, with their namespaces.
fn volume_secrets(volume: &Value) -> Vec<(&str, &str)> {
    let spec = volume.at("spec");
    let own = spec.str_at("claimRef.namespace");
    let mut found = Vec::new();
    let azure = spec.at("azureFile");
    if !azure.str_at("secretName").is_empty() {
        let namespace = azure.str_at("secretNamespace");
        found.push((
            if namespace.is_empty() { own } else { namespace },
            azure.str_at("secretName"),
        ));
    }
    for kind in [
        "cephfs",
        "cinder",
        "flexVolume",
        "rbd",
        "scaleIO",
        "iscsi",
        "storageos",
    ] {
        let reference = spec.at(kind).at("secretRef");
        if !reference.str_at("name").is_empty() {
            let namespace = reference.str_at("namespace");
            found.push((
                if namespace.is_empty() { own } else { namespace },
                reference.str_at("name"),
            ));
        }
    }
    for key in [
        "nodePublishSecretRef",
        "nodeStageSecretRef",
        "nodeExpandSecretRef",
    ] {
        let reference = spec.at("csi").at(key);
        if !reference.str_at("name").is_empty() {
            found.push((reference.str_at("namespace"), reference.str_at("name")));
        }
    }
    found
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        match self.decide(user, attributes) {
            Ok(()) => Decision::Allow(String::new()),
            Err(reason) => Decision::NoOpinion(reason),
        }
    }

    fn rules(&self, user: &UserInfo, _namespace: &str) -> Option<Rules> {
        let incomplete = names::node_identity(user)
            .map(|_| "node authorizer does not support user rule resolution".to_owned());
        Some(Rules {
            incomplete,
            ..Rules::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Objects;
    use super::*;
    use serde_json::json;

    fn authorizer() -> NodeAuthorizer {
        let objects = Objects::default();
        let pod = |name: &str, node: &str, suffix: &str| {
            json!({"metadata": {"name": name, "namespace": "a"}, "spec": {
                "nodeName": node, "serviceAccountName": format!("sa{suffix}"),
                "imagePullSecrets": [{"name": format!("pull{suffix}")}],
                "containers": [{"envFrom": [{"secretRef": {"name": format!("env{suffix}")}}],
                                "env": [{"valueFrom": {"configMapKeyRef": {"name": format!("cm{suffix}")}}}]}],
                "volumes": [{"name": "v", "secret": {"secretName": format!("vol{suffix}")}},
                            {"name": "p", "projected": {"sources": [{"configMap": {"name": format!("root{suffix}")}}]}},
                            {"name": "c", "persistentVolumeClaim": {"claimName": format!("claim{suffix}")}},
                            {"name": "tmp", "ephemeral": {}}]}})
        };
        objects.put("pods", pod("p1", "n1", "1"));
        objects.put("pods", pod("p2", "n2", "2"));
        let mut mirror = pod("m", "n1", "-mirror");
        mirror.set("metadata.annotations", json!({MIRROR: "x"}));
        objects.put("pods", mirror);
        objects.put(
            "persistentvolumes",
            json!({"metadata": {"name": "pv1"}, "spec": {"claimRef": {"namespace": "a", "name": "claim1"},
                   "csi": {"nodeStageSecretRef": {"namespace": "sys", "name": "stage"},
                           "controllerPublishSecretRef": {"namespace": "sys", "name": "controller"}}}}),
        );
        objects.put(
            "volumeattachments",
            json!({"metadata": {"name": "va1"}, "spec": {"nodeName": "n1"}}),
        );
        NodeAuthorizer::new(Arc::new(objects))
    }

    #[test]
    fn a_node_gets_what_its_pods_need_and_nothing_else() {
        let authorizer = authorizer();
        let node = UserInfo {
            name: "system:node:n1".into(),
            groups: vec!["system:nodes".into()],
            ..UserInfo::default()
        };
        for (verb, group, resource, namespace, name, selector, want) in [
            ("get", "", "secrets", "a", "pull1", "", true),
            ("watch", "", "secrets", "a", "env1", "", true),
            ("get", "", "secrets", "a", "vol1", "", true),
            ("get", "", "secrets", "a", "vol2", "", false),
            ("get", "", "secrets", "b", "vol1", "", false),
            ("get", "", "secrets", "a", "vol-mirror", "", false),
            ("list", "", "secrets", "a", "", "", false),
            ("delete", "", "secrets", "a", "vol1", "", false),
            ("get", "", "secrets", "sys", "stage", "", true),
            ("get", "", "secrets", "sys", "controller", "", false),
            ("get", "", "configmaps", "a", "cm1", "", true),
            ("get", "", "configmaps", "a", "root1", "", true),
            ("get", "", "configmaps", "a", "cm2", "", false),
            ("get", "", "persistentvolumeclaims", "a", "claim1", "", true),
            ("get", "", "persistentvolumeclaims", "a", "p1-tmp", "", true),
            ("get", "", "persistentvolumeclaims", "a", "p2-tmp", "", false),
            (
                "patch",
                "",
                "persistentvolumeclaims/status",
                "a",
                "claim1",
                "",
                true,
            ),
            ("get", "", "persistentvolumes", "", "pv1", "", true),
            ("get", "storage.k8s.io", "volumeattachments", "", "va1", "", true),
            ("create", "", "serviceaccounts/token", "a", "sa1", "", true),
            ("create", "", "serviceaccounts/token", "a", "sa2", "", false),
            ("create", "", "serviceaccounts", "a", "", "", false),
            ("get", "", "nodes", "", "n1", "", true),
            ("get", "", "nodes", "", "n2", "", false),
            ("list", "", "nodes", "", "", "", false),
            ("patch", "", "nodes/status", "", "n1", "", true),
            ("list", "", "pods", "", "", "spec.nodeName=n1", true),
            ("list", "", "pods", "", "", "spec.nodeName=n2", false),
            ("list", "", "pods", "", "", "spec.nodeName!=n1", false),
            ("get", "", "pods", "a", "p1", "", true),
            ("get", "", "pods", "a", "p2", "", false),
            ("delete", "", "pods", "a", "p2", "", true),
            (
                "update",
                "coordination.k8s.io",
                "leases",
                "kube-node-lease",
                "n1",
                "",
                true,
            ),
            (
                "update",
                "coordination.k8s.io",
                "leases",
                "kube-node-lease",
                "n2",
                "",
                false,
            ),
            (
                "update",
                "coordination.k8s.io",
                "leases",
                "default",
                "n1",
                "",
                false,
            ),
            ("create", "storage.k8s.io", "csinodes", "", "", "", true),
            (
                "create",
                "certificates.k8s.io",
                "certificatesigningrequests",
                "",
                "",
                "",
                true,
            ),
            ("list", "", "services", "", "", "", true),
            ("create", "", "events", "a", "", "", true),
            ("create", "apps", "deployments", "a", "", "", false),
        ] {
            let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
            let asked = Attributes {
                verb: verb.into(),
                group: group.into(),
                resource: resource.into(),
                subresource: sub.into(),
                namespace: namespace.into(),
                name: name.into(),
                field_selector: selector.into(),
                ..Attributes::default()
            };
            let got = authorizer.decide(&node, &asked);
            assert_eq!(
                got.is_ok(),
                want,
                "{verb} {resource}/{sub} {namespace}/{name} {selector}: {got:?}"
            );
        }
        let nobody = UserInfo {
            name: "system:node:n1".into(),
            ..UserInfo::default()
        };
        let asked = Attributes {
            verb: "list".into(),
            resource: "services".into(),
            ..Attributes::default()
        };
        assert!(authorizer.decide(&nobody, &asked).is_err());
    }
}
