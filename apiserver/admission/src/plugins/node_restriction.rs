//! `NodeRestriction`: what a kubelet writes is about its own node and the pods on it.

use super::MIRROR;
use crate::plugins::certificates::subject;
use crate::{Attributes, Operation, Plugin};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Resource, StatusError, Value};
use rutter_auth::names::node_identity;
use rutter_auth::{Authorizer, Decision};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The plugin.
pub struct NodeRestriction {
    reader: Arc<dyn ObjectReader>,
    authorizer: Arc<dyn Authorizer>,
}

type Verdict = Result<(), StatusError>;

impl NodeRestriction {
    /// Reads pods and nodes through `reader`.
    pub fn new(reader: Arc<dyn ObjectReader>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { reader, authorizer }
    }

    fn find(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Value>, StatusError> {
        let resource = GroupResource::new(group, plural);
        self.reader
            .get(&resource, namespace, name)
            .ok_or_else(|| StatusError::not_found(&resource, name))
    }

    fn pod_create(&self, node: &str, a: &Attributes<'_>) -> Verdict {
        let no = |why: String| Err(a.forbidden(why));
        let pod = &a.object;
        if pod.annotation(MIRROR).is_none() {
            return no(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        if pod.str_at("spec.nodeName") != node {
            return no(format!(
                "node {node:?} can only create pods with spec.nodeName set to itself"
            ));
        }
        let owner = match pod.list_at("metadata.ownerReferences") {
            [] => {
                return no(format!(
                    "node {node:?} can only create pods with an owner reference set to itself"
                ));
            }
            [owner] => owner,
            _ => {
                return no(format!(
                    "node {node:?} can only create pods with a single owner reference set to itself"
                ));
            }
        };
        if (
            owner.str_at("apiVersion"),
            owner.str_at("kind"),
            owner.str_at("name"),
        ) != ("v1", "Node", node)
        {
            return no(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        }
        if owner.bool_at("controller") != Some(true) {
            return no(format!(
                "node {node:?} can only create pods with a controller owner reference set to itself"
            ));
        }
        if owner.bool_at("blockOwnerDeletion") == Some(true) {
            return no(format!(
                "node {node:?} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let (own, given) = (self.find("", "nodes", "", node)?, owner.str_at("uid"));
        if own.uid() != given {
            return no(format!(
                "node {node} UID mismatch: expected {given} got {}",
                own.uid()
            ));
        }
        match api_reference(pod.at("spec")) {
            Some(resource) => no(format!(
                "node {node:?} can not create pods that reference {resource}"
            )),
            None => Ok(()),
        }
    }

    fn pod(&self, node: &str, a: &Attributes<'_>) -> Verdict {
        let no = |why: String| Err(a.forbidden(why));
        match (a.subresource, a.operation) {
            ("", Operation::Create) => self.pod_create(node, a),
            ("", Operation::Delete) => {
                if self
                    .find("", "pods", a.namespace, a.name)?
                    .str_at("spec.nodeName")
                    == node
                {
                    return Ok(());
                }
                no(format!(
                    "node {node:?} can only delete pods with spec.nodeName set to itself"
                ))
            }
            ("", operation) => no(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                operation.as_str()
            )),
            ("status", Operation::Update) => {
                if a.old.str_at("spec.nodeName") != node {
                    return no(format!(
                        "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                    ));
                }
                let changed = |path: &str| !same(a.object.at(path), a.old.at(path));
                if changed("metadata.labels") {
                    return no(format!("node {node:?} cannot update labels through pod status"));
                }
                if changed("status.resourceClaimStatuses") {
                    return no(format!("node {node:?} cannot update resource claim statues"));
                }
                if changed("status.extendedResourceClaimStatus") {
                    return no(format!(
                        "node {node:?} cannot update extended resource claim status"
                    ));
                }
                Ok(())
            }
            ("eviction", Operation::Create) => {
                let name = if a.name.is_empty() {
                    a.object.name()
                } else {
                    a.name
                };
                if name.is_empty() {
                    return no("could not determine pod from request data".to_owned());
                }
                if self.find("", "pods", a.namespace, name)?.str_at("spec.nodeName") == node {
                    return Ok(());
                }
                no(format!(
                    "node {node} can only evict pods with spec.nodeName set to itself"
                ))
            }
            ("status" | "eviction", operation) => {
                no(format!("unexpected operation {:?}", operation.as_str()))
            }
            (other, _) => no(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
        }
    }

    async fn token(&self, node: &str, a: &Attributes<'_>) -> Verdict {
        if a.operation != Operation::Create || a.subresource != "token" {
            return Ok(());
        }
        let no = |why: String| Err(a.forbidden(why));
        let reference = a.object.at("spec.boundObjectRef");
        let (name, uid) = (reference.str_at("name"), reference.str_at("uid"));
        if (reference.str_at("apiVersion"), reference.str_at("kind")) != ("v1", "Pod") || name.is_empty() {
            return no("node requested token not bound to a pod".to_owned());
        }
        if uid.is_empty() {
            return no("node requested token with a pod binding without a uid".to_owned());
        }
        let pod = self.find("", "pods", a.namespace, name)?;
        if pod.uid() != uid {
            return no(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ));
        }
        if pod.str_at("spec.nodeName") != node {
            return no("node requested token bound to a pod scheduled on a different node".to_owned());
        }
        let audience = match a.object.list_at("spec.audiences") {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return no("node may only request 0 or 1 audiences".to_owned()),
        };
        if self.uses_audience(&pod, audience) {
            return Ok(());
        }
        let asked = rutter_auth::Attributes {
            verb: "request-serviceaccounts-token-audience".into(),
            namespace: a.namespace.into(),
            version: "v1".into(),
            resource: audience.into(),
            name: a.name.into(),
            ..Default::default()
        };
        match self.authorizer.authorize(a.user, &asked).await {
            Decision::Allow(_) => Ok(()),
            _ => no(format!(
                "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
                a.user.name
            )),
        }
    }

    /// Whether a volume of the pod, or the CSI driver behind one, asks for tokens of this audience.
    fn uses_audience(&self, pod: &Value, audience: &str) -> bool {
        let asks = |list: &[Value]| list.iter().any(|request| request.str_at("audience") == audience);
        pod.list_at("spec.volumes").iter().any(|volume| {
            let projected = volume.list_at("projected.sources").iter().any(|source| {
                let token = source.at("serviceAccountToken");
                !token.is_null() && token.str_at("audience") == audience
            });
            let claim = match volume.str_at("persistentVolumeClaim.claimName") {
                "" if !volume.at("ephemeral").is_null() => {
                    format!("{}-{}", pod.name(), volume.str_at("name"))
                }
                name => name.to_owned(),
            };
            let driver = match volume.str_at("csi.driver") {
                "" => self.driver_of_claim(pod.namespace(), &claim),
                driver => Some(driver.to_owned()),
            };
            let by_driver = driver.is_some_and(|driver| {
                self.find("storage.k8s.io", "csidrivers", "", &driver)
                    .is_ok_and(|driver| asks(driver.list_at("spec.tokenRequests")))
            });
            projected || by_driver
        })
    }

    fn driver_of_claim(&self, namespace: &str, claim: &str) -> Option<String> {
        if claim.is_empty() {
            return None;
        }
        let claim = self.find("", "persistentvolumeclaims", namespace, claim).ok()?;
        let volume = self
            .find("", "persistentvolumes", "", claim.str_at("spec.volumeName"))
            .ok()?;
        Some(volume.str_at("spec.csi.driver").to_owned()).filter(|driver| !driver.is_empty())
    }
}

/// Whether two fields are equal, where empty is the same as absent.
fn same(a: &Value, b: &Value) -> bool {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    a == b || (empty(a) && empty(b))
}

/// The first API resource that a pod's spec refers to.
fn api_reference(spec: &Value) -> Option<&'static str> {
    if !spec.str_at("serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    let from = |key: &str, reference: &str| {
        super::containers(spec).any(|container| {
            container
                .list_at("envFrom")
                .iter()
                .any(|e| e.get(key).is_some_and(Value::is_object))
                || container
                    .list_at("env")
                    .iter()
                    .any(|e| e.at("valueFrom").get(reference).is_some_and(Value::is_object))
        })
    };
    if from("secretRef", "secretKeyRef") || !spec.list_at("imagePullSecrets").is_empty() {
        return Some("secrets");
    }
    if from("configMapRef", "configMapKeyRef") {
        return Some("configmaps");
    }
    if !spec.list_at("resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    for volume in spec.list_at("volumes") {
        let is = |key: &str| volume.get(key).is_some_and(Value::is_object);
        let has = |key: &str| {
            volume
                .as_object()
                .into_iter()
                .flatten()
                .any(|(_, source)| source.get(key).is_some_and(Value::is_object))
        };
        if is("secret") || is("azureFile") || has("secretRef") || has("nodePublishSecretRef") {
            return Some("secrets");
        }
        if is("configMap") {
            return Some("configmaps");
        }
        if is("persistentVolumeClaim") || is("ephemeral") {
            return Some("persistentvolumeclaims");
        }
        if is("csi") {
            return Some("csidrivers");
        }
        for source in volume.list_at("projected.sources") {
            for (key, resource) in [
                ("secret", "secrets"),
                ("configMap", "configmaps"),
                ("serviceAccountToken", "serviceaccounts"),
                ("clusterTrustBundle", "clustertrustbundles"),
                ("podCertificate", "podcertificates"),
            ] {
                if source.get(key).is_some_and(Value::is_object) {
                    return Some(resource);
                }
            }
        }
    }
    None
}

fn node(own: &str, a: &Attributes<'_>) -> Verdict {
    let no = |why: String| Err(a.forbidden(why));
    let asked = if a.name.is_empty() {
        a.object.name()
    } else {
        a.name
    };
    if asked != own {
        return no(format!("node {own:?} is not allowed to modify node {asked:?}"));
    }
    let labels = |value: &Value| value.map_at("metadata.labels").cloned().unwrap_or_default();
    let (new, old) = (labels(&a.object), labels(a.old));
    let changed = new
        .iter()
        .filter(|(k, v)| old.get(*k) != Some(*v))
        .chain(old.iter().filter(|(k, v)| new.get(*k) != Some(*v)));
    let bad: BTreeSet<&str> = changed
        .map(|(key, _)| key.as_str())
        .filter(|key| !may_label(key))
        .collect();
    let bad: Vec<&str> = bad.into_iter().collect();
    match a.operation {
        Operation::Create => {
            if !a.object.at("spec.configSource").is_null() {
                return no(format!(
                    "node {own:?} is not allowed to create pods with a non-nil configSource"
                ));
            }
            if !bad.is_empty() {
                return no(format!(
                    "node {own:?} is not allowed to set the following labels: {}",
                    bad.join(", ")
                ));
            }
        }
        Operation::Update => {
            let config = a.object.at("spec.configSource");
            if !config.is_null() && config != a.old.at("spec.configSource") {
                return no(format!(
                    "node {own:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if !same(a.object.at("spec.taints"), a.old.at("spec.taints")) {
                return no(format!("node {own:?} is not allowed to modify taints"));
            }
            if !same(
                a.object.at("metadata.ownerReferences"),
                a.old.at("metadata.ownerReferences"),
            ) {
                return no(format!("node {own:?} is not allowed to modify ownerReferences"));
            }
            if !bad.is_empty() {
                return no(format!("is not allowed to modify labels: {}", bad.join(", ")));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether a kubelet may set a label on its node.
fn may_label(key: &str) -> bool {
    const OWN: [&str; 14] = [
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "node.kubernetes.io/windows-build",
    ];
    let Some((domain, _)) = key.split_once('/') else {
        return true;
    };
    let within = |parent: &str| {
        domain
            .strip_suffix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    let reserved = within("kubernetes.io") || within("k8s.io");
    !reserved || OWN.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

fn claim_status(node: &str, a: &Attributes<'_>) -> Verdict {
    if a.subresource != "status" {
        return Err(a.forbidden("may only update PVC status"));
    }
    if a.operation != Operation::Update {
        return Err(a.forbidden(format!("unexpected operation {:?}", a.operation.as_str())));
    }
    let strip = |value: &Value| {
        let mut value = value.clone();
        for path in [
            "metadata.resourceVersion",
            "metadata.managedFields",
            "status.capacity",
            "status.conditions",
            "status.allocatedResourceStatuses",
            "status.allocatedResources",
        ] {
            value.take_at(path);
        }
        value
    };
    if strip(&a.object) == strip(a.old) {
        return Ok(());
    }
    Err(a.forbidden(format!(
        "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
    )))
}

fn lease(node: &str, a: &Attributes<'_>) -> Verdict {
    if a.namespace != "kube-node-lease" {
        return Err(a.forbidden("can only access leases in the \"kube-node-lease\" system namespace"));
    }
    own_name(
        node,
        a,
        "can only access node lease with the same name as the requesting node",
    )
}

fn own_name(node: &str, a: &Attributes<'_>, why: &str) -> Verdict {
    let name = if a.operation == Operation::Create {
        a.object.name()
    } else {
        a.name
    };
    if name == node {
        Ok(())
    } else {
        Err(a.forbidden(why))
    }
}

fn resource_slice(node: &str, a: &Attributes<'_>) -> Verdict {
    let (object, verb) = match a.operation {
        Operation::Create => (&a.object, "create"),
        Operation::Delete => (a.old, "delete"),
        _ => return Ok(()),
    };
    if object.str_at("spec.nodeName") == node {
        return Ok(());
    }
    Err(a.forbidden(format!(
        "can only {verb} ResourceSlice with the same NodeName as the requesting node"
    )))
}

fn signing_request(node: &str, a: &Attributes<'_>) -> Verdict {
    let kubelet = matches!(
        a.object.str_at("spec.signerName"),
        "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet"
    );
    if a.operation != Operation::Create || !kubelet {
        return Ok(());
    }
    match subject(a.object.str_at("spec.request")) {
        Err(why) => Err(a.forbidden(format!("unable to parse csr: {why}"))),
        Ok(subject) if subject.common_name == format!("system:node:{node}") => Ok(()),
        Ok(_) => Err(a.forbidden(format!("can only create a node CSR with CN=system:node:{node}"))),
    }
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, operation: Operation, resource: &Resource, _: &str) -> bool {
        operation != Operation::Connect
            && matches!(
                (resource.group_version.group.as_str(), &*resource.plural),
                (
                    "",
                    "pods" | "nodes" | "persistentvolumeclaims" | "serviceaccounts"
                ) | ("coordination.k8s.io", "leases")
                    | ("storage.k8s.io", "csinodes")
                    | ("resource.k8s.io", "resourceslices")
                    | ("certificates.k8s.io", "certificatesigningrequests")
            )
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let a = &*attributes;
        let Some(own) = node_identity(a.user) else {
            return Ok(());
        };
        if own.is_empty() {
            return Err(a.forbidden(format!("could not determine node from user {:?}", a.user.name)));
        }
        match &*a.resource.plural {
            "pods" => self.pod(own, a),
            "nodes" => node(own, a),
            "persistentvolumeclaims" => claim_status(own, a),
            "serviceaccounts" => self.token(own, a).await,
            "leases" => lease(own, a),
            "csinodes" => own_name(
                own,
                a,
                "can only access CSINode with the same name as the requesting node",
            ),
            "resourceslices" => resource_slice(own, a),
            _ => signing_request(own, a),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Objects, admit_as, pods, resource};
    use rutter_api::UserInfo;
    use serde_json::json;

    #[test]
    fn a_kubelet_labels_its_node_with_its_own_labels() {
        for (key, want) in [
            ("app", true),
            ("example.com/x", true),
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/anything", true),
            ("kubelet.kubernetes.io/x", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
            ("topology.kubernetes.io/zone", true),
            ("x.k8s.io/y", false),
        ] {
            assert_eq!(may_label(key), want, "{key}");
        }
    }

    #[tokio::test]
    async fn a_kubelet_writes_what_is_its_own() {
        let objects = Objects::default();
        objects.put("nodes", json!({"metadata": {"name": "n1", "uid": "u1"}}));
        let pod = |name: &str, node: &str| {
            json!({"metadata": {"name": name, "namespace": "a", "uid": name}, "spec": {"nodeName": node,
                "volumes": [{"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}})
        };
        objects.put("pods", pod("mine", "n1"));
        objects.put("pods", pod("other", "n2"));
        let plugin = NodeRestriction::new(Arc::new(objects), Arc::new(rutter_auth::authorize::AlwaysDeny));
        let user = UserInfo {
            name: "system:node:n1".into(),
            groups: vec!["system:nodes".into()],
            ..Default::default()
        };
        let (nodes, accounts) = (
            resource("", "nodes", "Node", false),
            resource("", "serviceaccounts", "ServiceAccount", true),
        );
        let mirror = |node: &str, spec: Value| {
            let mut pod = json!({"metadata": {"name": "m", "namespace": "a", "annotations": {MIRROR: "h"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": "u1", "controller": true}]}, "spec": spec});
            pod.set("spec.nodeName", node);
            pod
        };
        let token = |pod: &str, audiences: Value| {
            json!({"metadata": {"name": "sa", "namespace": "a"}, "spec": {"audiences": audiences,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": pod}}})
        };
        let bare = json!({"metadata": {"name": "n1"}});
        let tainted = json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "x"}]}});
        use Operation::{Create, Delete, Update};
        let cases = [
            (
                "mirror",
                Create,
                &pods(),
                "",
                mirror("n1", json!({})),
                Value::Null,
                true,
            ),
            (
                "another's mirror",
                Create,
                &pods(),
                "",
                mirror("n2", json!({})),
                Value::Null,
                false,
            ),
            (
                "mirror with secret",
                Create,
                &pods(),
                "",
                mirror("n1", json!({"imagePullSecrets": [{"name": "s"}]})),
                Value::Null,
                false,
            ),
            (
                "plain pod",
                Create,
                &pods(),
                "",
                pod("p", "n1"),
                Value::Null,
                false,
            ),
            (
                "delete mine",
                Delete,
                &pods(),
                "",
                Value::Null,
                pod("mine", "n1"),
                true,
            ),
            (
                "delete other",
                Delete,
                &pods(),
                "",
                Value::Null,
                pod("other", "n2"),
                false,
            ),
            (
                "status mine",
                Update,
                &pods(),
                "status",
                pod("mine", "n1"),
                pod("mine", "n1"),
                true,
            ),
            (
                "status other",
                Update,
                &pods(),
                "status",
                pod("other", "n2"),
                pod("other", "n2"),
                false,
            ),
            ("own node", Create, &nodes, "", bare.clone(), Value::Null, true),
            (
                "other node",
                Create,
                &nodes,
                "",
                json!({"metadata": {"name": "n2"}}),
                Value::Null,
                false,
            ),
            ("taint", Update, &nodes, "", tainted.clone(), bare.clone(), false),
            (
                "token mine",
                Create,
                &accounts,
                "token",
                token("mine", json!([""])),
                Value::Null,
                true,
            ),
            (
                "token no audience",
                Create,
                &accounts,
                "token",
                token("mine", json!([])),
                Value::Null,
                true,
            ),
            (
                "token foreign audience",
                Create,
                &accounts,
                "token",
                token("mine", json!(["vault"])),
                Value::Null,
                false,
            ),
            (
                "token other",
                Create,
                &accounts,
                "token",
                token("other", json!([])),
                Value::Null,
                false,
            ),
        ];
        for (name, operation, resource, sub, object, old, want) in cases {
            let got = admit_as(&plugin, &user, operation, resource, sub, object, old).await;
            assert_eq!(got.is_ok(), want, "{name}: {got:?}");
        }
        let admin = UserInfo::default();
        assert!(
            admit_as(&plugin, &admin, Create, &pods(), "", pod("p", "n1"), Value::Null)
                .await
                .is_ok()
        );
    }
}
