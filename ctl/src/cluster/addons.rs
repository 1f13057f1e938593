//! What a cluster needs among its objects before pods can live in it: the join token, access for the node services, cluster DNS.

use super::layout::Cluster;
use serde_json::{Value, json};

/// The image that cluster DNS runs from; made from the program on this machine.
pub(super) const DNS_IMAGE: &str = "registry.k8s.io/rutter/dns:local";

/// The name of cluster DNS's Deployment, and where it is.
pub(super) const DNS: &str = "rutter-dns";
/// The namespace of what belongs to the cluster itself.
pub(super) const NAMESPACE: &str = "kube-system";

/// What nodes need to join, in the order in which it is applied. Pure.
pub(super) fn objects(cluster: &Cluster) -> Vec<Value> {
    let mut objects = vec![join_token(cluster)];
    objects.extend(access());
    objects
}

fn join_token(cluster: &Cluster) -> Value {
    let (id, secret) = cluster.join_token.split_once('.').unwrap_or_default();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": id,
            "token-secret": secret,
            "description": "Lets the nodes of this cluster join.",
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:rutter:default-node-token",
        },
    })
}

fn binding(name: &str, role: &str, subjects: &[Value]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

fn group(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name})
}

fn user(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

fn access() -> Vec<Value> {
    let bootstrappers = [group("system:bootstrappers:rutter:default-node-token")];
    let nodes = [group("system:nodes")];
    vec![
        binding(
            "rutter:kubelet-bootstrap",
            "system:node-bootstrapper",
            &bootstrappers,
        ),
        binding(
            "rutter:node-autoapprove-bootstrap",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            &bootstrappers,
        ),
        binding(
            "rutter:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            &nodes,
        ),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "rutter:kubelet-api-admin"},
            "rules": [{"apiGroups": [""], "resources": ["nodes/proxy", "nodes/stats", "nodes/log", "nodes/spec", "nodes/metrics", "nodes/healthz", "nodes/configz", "nodes/pods", "nodes/checkpoint"], "verbs": ["*"]}],
        }),
        binding(
            "rutter:apiserver-kubelet-client",
            "rutter:kubelet-api-admin",
            &[user("kube-apiserver-kubelet-client")],
        ),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "rutter:selfnodeserver"},
            "rules": [{"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/selfnodeserver"], "verbs": ["create"]}],
        }),
        binding("rutter:node-autoapprove-serving", "rutter:selfnodeserver", &nodes),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "rutter:serving-certificate-approver"},
            "rules": [
                {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
                {
                    "apiGroups": ["certificates.k8s.io"],
                    "resources": ["signers"],
                    "resourceNames": ["kubernetes.io/kubelet-serving"],
                    "verbs": ["approve"],
                },
            ],
        }),
        binding(
            "rutter:serving-certificate-approver",
            "rutter:serving-certificate-approver",
            &[
                json!({"kind": "ServiceAccount", "name": "certificate-controller", "namespace": "kube-system"}),
            ],
        ),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "rutter:node-network"},
            "rules": [
                {"apiGroups": [""], "resources": ["nodes", "pods", "namespaces"], "verbs": ["get", "list", "watch"]},
                {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "list", "watch"]},
            ],
        }),
        binding(
            "rutter:node-network",
            "rutter:node-network",
            &[user("system:kube-proxy")],
        ),
    ]
}

/// Cluster DNS, in the order in which it is applied. Its image must be on the nodes by then: no registry has it. Pure.
pub(super) fn dns(cluster: &Cluster) -> Vec<Value> {
    let labels = json!({"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"});
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "rutter-dns", "namespace": "kube-system"},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "rutter:dns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces", "nodes"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        }),
        binding(
            "rutter:dns",
            "rutter:dns",
            &[json!({"kind": "ServiceAccount", "name": "rutter-dns", "namespace": "kube-system"})],
        ),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {
                "clusterIP": cluster.dns_service().to_string(),
                "selector": {"k8s-app": "kube-dns"},
                "ports": [
                    {"name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "targetPort": 53, "protocol": "TCP"},
                    {"name": "metrics", "port": 9153, "targetPort": 9153, "protocol": "TCP"},
                ],
            },
        }),
        dns_deployment(),
    ]
}

fn dns_deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": DNS, "namespace": NAMESPACE, "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": {"k8s-app": "kube-dns"}},
                "spec": {
                    "serviceAccountName": "rutter-dns",
                    "priorityClassName": "system-cluster-critical",
                    "dnsPolicy": "Default",
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "tolerations": [
                        {"key": "CriticalAddonsOnly", "operator": "Exists"},
                        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
                    ],
                    "containers": [{
                        "name": "dns",
                        "image": DNS_IMAGE,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["--cluster-domain=cluster.local"],
                        "ports": [
                            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
                            {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
                        ],
                        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8181}, "periodSeconds": 1},
                        "livenessProbe": {"httpGet": {"path": "/livez", "port": 8181}, "initialDelaySeconds": 10},
                        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "170Mi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
                            "readOnlyRootFilesystem": true,
                        },
                    }],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::layout::example;

    #[test]
    fn the_token_and_the_dns_address_are_the_clusters() {
        let objects = objects(&example());
        assert_eq!(objects[0]["metadata"]["name"], "bootstrap-token-abcdef");
        let dns = dns(&example());
        let service = dns.iter().find(|o| o["kind"] == "Service").unwrap();
        assert_eq!(service["spec"]["clusterIP"], "10.96.0.10");
        for object in objects.iter().chain(&dns) {
            assert!(
                object["metadata"]["name"].is_string() && object["apiVersion"].is_string(),
                "{object}"
            );
        }
    }
}
