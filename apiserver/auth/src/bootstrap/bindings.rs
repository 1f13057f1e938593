//! Who has the default roles, and the few namespaced ones.

use super::{API_VERSION, controllers, metadata, named, on};
use crate::authorize::rule::Rule;
use crate::names;
use rutter_api::Value;
use serde_json::json;

/// The group in which kubeadm's and our bootstrap tokens put a joining node.
const JOINING_NODES: &str = "system:bootstrappers:kubeadm:default-node-token";
const GROUP: &str = "rbac.authorization.k8s.io";

enum Subject {
    User(&'static str),
    Group(&'static str),
    /// A service account in `kube-system`.
    Account(&'static str),
}
use Subject::{Account, Group, User};

impl Subject {
    fn to_value(&self) -> Value {
        match self {
            User(name) => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
            Group(name) => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
            Account(name) => json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
        }
    }
}

fn binding(namespace: &str, name: &str, role_kind: &str, role: &str, subjects: &[Subject]) -> Value {
    let kind = if namespace.is_empty() {
        "ClusterRoleBinding"
    } else {
        "RoleBinding"
    };
    let mut object = json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": metadata(name, namespace),
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
    });
    if !subjects.is_empty() {
        object["subjects"] = subjects.iter().map(Subject::to_value).collect();
    }
    object
}

/// The ClusterRoleBindings.
pub(super) fn cluster_role_bindings() -> Vec<Value> {
    let everybody = || vec![Group(names::AUTHENTICATED), Group(names::UNAUTHENTICATED)];
    let general: [(&str, &str, Vec<Subject>); 16] = [
        ("cluster-admin", "cluster-admin", vec![Group(names::MASTERS)]),
        (
            "system:monitoring",
            "system:monitoring",
            vec![Group("system:monitoring")],
        ),
        (
            "system:discovery",
            "system:discovery",
            vec![Group(names::AUTHENTICATED)],
        ),
        (
            "system:basic-user",
            "system:basic-user",
            vec![Group(names::AUTHENTICATED)],
        ),
        (
            "system:public-info-viewer",
            "system:public-info-viewer",
            everybody(),
        ),
        (
            "system:node-proxier",
            "system:node-proxier",
            vec![User("system:kube-proxy")],
        ),
        (
            "system:kube-controller-manager",
            "system:kube-controller-manager",
            vec![User("system:kube-controller-manager")],
        ),
        ("system:kube-dns", "system:kube-dns", vec![Account("kube-dns")]),
        (
            "system:kube-scheduler",
            "system:kube-scheduler",
            vec![User("system:kube-scheduler")],
        ),
        (
            "system:volume-scheduler",
            "system:volume-scheduler",
            vec![User("system:kube-scheduler")],
        ),
        ("system:node", "system:node", Vec::new()),
        (
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            vec![Group(names::SERVICE_ACCOUNTS)],
        ),
        (
            "kubeadm:kubelet-bootstrap",
            "system:node-bootstrapper",
            vec![Group(JOINING_NODES)],
        ),
        (
            "kubeadm:node-autoapprove-bootstrap",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            vec![Group(JOINING_NODES)],
        ),
        (
            "kubeadm:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            vec![Group(names::NODES)],
        ),
        (
            "kubeadm:cluster-admins",
            "cluster-admin",
            vec![Group("kubeadm:cluster-admins")],
        ),
    ];
    let mut all: Vec<Value> = general
        .iter()
        .map(|(name, role, subjects)| binding("", name, "ClusterRole", role, subjects))
        .collect();
    all.extend(controllers::roles().iter().filter_map(|role| {
        let account = role.name.strip_prefix("system:controller:")?;
        Some(binding(
            "",
            role.name,
            "ClusterRole",
            role.name,
            &[Account(account)],
        ))
    }));
    all
}

fn role(namespace: &str, name: &str, rules: &[Rule]) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "Role",
        "metadata": metadata(name, namespace),
        "rules": rules.iter().map(Rule::to_value).collect::<Vec<_>>(),
    })
}

/// The Roles.
pub(super) fn roles() -> Vec<Value> {
    let events = || on(",events.k8s.io", "events", "create,patch,update");
    let leader = || {
        ["leases", "leasecandidates"]
            .map(|what| on("coordination.k8s.io", what, "create,get,list,update,watch"))
    };
    let system = "kube-system";
    vec![
        role(
            system,
            "extension-apiserver-authentication-reader",
            &[named(
                "",
                "configmaps",
                "extension-apiserver-authentication",
                "get,list,watch",
            )],
        ),
        role(
            system,
            "system:controller:bootstrap-signer",
            &[on("", "secrets", "get,list,watch")],
        ),
        role(
            system,
            "system:controller:cloud-provider",
            &[on("", "configmaps", "create,get,list,watch")],
        ),
        role(
            system,
            "system:controller:token-cleaner",
            &[on("", "secrets", "delete,get,list,watch"), events()],
        ),
        role(
            system,
            "system::leader-locking-kube-controller-manager",
            &leader(),
        ),
        role(system, "system::leader-locking-kube-scheduler", &leader()),
        role(
            "kube-public",
            "system:controller:bootstrap-signer",
            &[
                on("", "configmaps", "get,list,watch"),
                named("", "configmaps", "cluster-info", "update"),
                events(),
            ],
        ),
    ]
}

/// The RoleBindings.
pub(super) fn role_bindings() -> Vec<Value> {
    let (manager, scheduler) = ("system:kube-controller-manager", "system:kube-scheduler");
    let system: [(&str, &str, Vec<Subject>); 6] = [
        (
            "system::extension-apiserver-authentication-reader",
            "extension-apiserver-authentication-reader",
            vec![User(manager), User(scheduler)],
        ),
        (
            "system::leader-locking-kube-controller-manager",
            "system::leader-locking-kube-controller-manager",
            vec![
                User(manager),
                Account("kube-controller-manager"),
                Account("leader-election-controller"),
            ],
        ),
        (
            "system::leader-locking-kube-scheduler",
            "system::leader-locking-kube-scheduler",
            vec![User(scheduler), Account("kube-scheduler")],
        ),
        (
            "system:controller:bootstrap-signer",
            "system:controller:bootstrap-signer",
            vec![Account("bootstrap-signer")],
        ),
        (
            "system:controller:cloud-provider",
            "system:controller:cloud-provider",
            vec![Account("cloud-provider")],
        ),
        (
            "system:controller:token-cleaner",
            "system:controller:token-cleaner",
            vec![Account("token-cleaner")],
        ),
    ];
    let mut all: Vec<Value> = system
        .iter()
        .map(|(name, role, subjects)| binding("kube-system", name, "Role", role, subjects))
        .collect();
    let signer = "system:controller:bootstrap-signer";
    all.push(binding(
        "kube-public",
        signer,
        "Role",
        signer,
        &[Account("bootstrap-signer")],
    ));
    all
}
