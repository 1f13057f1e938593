//! API versions that Kubernetes no longer serves, and what to write instead.

/// (old version, kind, new version, what else changed)
const REMOVED: &[(&str, &str, &str, &str)] = &[
    (
        "extensions/v1beta1",
        "Ingress",
        "networking.k8s.io/v1",
        "spec.backend is spec.defaultBackend, a backend's serviceName and servicePort are service.name and service.port, and every path needs a pathType",
    ),
    (
        "networking.k8s.io/v1beta1",
        "Ingress",
        "networking.k8s.io/v1",
        "spec.backend is spec.defaultBackend, a backend's serviceName and servicePort are service.name and service.port, and every path needs a pathType",
    ),
    (
        "networking.k8s.io/v1beta1",
        "IngressClass",
        "networking.k8s.io/v1",
        "",
    ),
    (
        "extensions/v1beta1",
        "Deployment",
        "apps/v1",
        "spec.selector is required",
    ),
    (
        "apps/v1beta1",
        "Deployment",
        "apps/v1",
        "spec.selector is required",
    ),
    ("apps/v1beta2", "Deployment", "apps/v1", ""),
    (
        "extensions/v1beta1",
        "DaemonSet",
        "apps/v1",
        "spec.selector is required",
    ),
    ("apps/v1beta2", "DaemonSet", "apps/v1", ""),
    (
        "extensions/v1beta1",
        "ReplicaSet",
        "apps/v1",
        "spec.selector is required",
    ),
    ("apps/v1beta2", "ReplicaSet", "apps/v1", ""),
    (
        "apps/v1beta1",
        "StatefulSet",
        "apps/v1",
        "spec.selector is required",
    ),
    ("apps/v1beta2", "StatefulSet", "apps/v1", ""),
    ("extensions/v1beta1", "NetworkPolicy", "networking.k8s.io/v1", ""),
    ("batch/v1beta1", "CronJob", "batch/v1", ""),
    ("batch/v2alpha1", "CronJob", "batch/v1", ""),
    ("policy/v1beta1", "PodDisruptionBudget", "policy/v1", ""),
    (
        "autoscaling/v2beta1",
        "HorizontalPodAutoscaler",
        "autoscaling/v2",
        "a metric's target is in .target",
    ),
    (
        "autoscaling/v2beta2",
        "HorizontalPodAutoscaler",
        "autoscaling/v2",
        "",
    ),
    (
        "rbac.authorization.k8s.io/v1beta1",
        "Role",
        "rbac.authorization.k8s.io/v1",
        "",
    ),
    (
        "rbac.authorization.k8s.io/v1beta1",
        "RoleBinding",
        "rbac.authorization.k8s.io/v1",
        "",
    ),
    (
        "rbac.authorization.k8s.io/v1beta1",
        "ClusterRole",
        "rbac.authorization.k8s.io/v1",
        "",
    ),
    (
        "rbac.authorization.k8s.io/v1beta1",
        "ClusterRoleBinding",
        "rbac.authorization.k8s.io/v1",
        "",
    ),
    (
        "apiextensions.k8s.io/v1beta1",
        "CustomResourceDefinition",
        "apiextensions.k8s.io/v1",
        "each version needs a structural schema",
    ),
    (
        "apiregistration.k8s.io/v1beta1",
        "APIService",
        "apiregistration.k8s.io/v1",
        "",
    ),
    (
        "admissionregistration.k8s.io/v1beta1",
        "MutatingWebhookConfiguration",
        "admissionregistration.k8s.io/v1",
        "sideEffects and admissionReviewVersions are required",
    ),
    (
        "admissionregistration.k8s.io/v1beta1",
        "ValidatingWebhookConfiguration",
        "admissionregistration.k8s.io/v1",
        "sideEffects and admissionReviewVersions are required",
    ),
    (
        "certificates.k8s.io/v1beta1",
        "CertificateSigningRequest",
        "certificates.k8s.io/v1",
        "spec.signerName and spec.usages are required",
    ),
    (
        "coordination.k8s.io/v1beta1",
        "Lease",
        "coordination.k8s.io/v1",
        "",
    ),
    (
        "discovery.k8s.io/v1beta1",
        "EndpointSlice",
        "discovery.k8s.io/v1",
        "",
    ),
    ("events.k8s.io/v1beta1", "Event", "events.k8s.io/v1", ""),
    ("node.k8s.io/v1beta1", "RuntimeClass", "node.k8s.io/v1", ""),
    (
        "scheduling.k8s.io/v1beta1",
        "PriorityClass",
        "scheduling.k8s.io/v1",
        "",
    ),
    ("storage.k8s.io/v1beta1", "StorageClass", "storage.k8s.io/v1", ""),
    ("storage.k8s.io/v1beta1", "CSIDriver", "storage.k8s.io/v1", ""),
    ("storage.k8s.io/v1beta1", "CSINode", "storage.k8s.io/v1", ""),
    (
        "storage.k8s.io/v1beta1",
        "VolumeAttachment",
        "storage.k8s.io/v1",
        "",
    ),
    (
        "storage.k8s.io/v1beta1",
        "CSIStorageCapacity",
        "storage.k8s.io/v1",
        "",
    ),
    (
        "authentication.k8s.io/v1beta1",
        "TokenReview",
        "authentication.k8s.io/v1",
        "",
    ),
    (
        "authorization.k8s.io/v1beta1",
        "SubjectAccessReview",
        "authorization.k8s.io/v1",
        "",
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1beta3",
        "FlowSchema",
        "flowcontrol.apiserver.k8s.io/v1",
        "",
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1beta3",
        "PriorityLevelConfiguration",
        "flowcontrol.apiserver.k8s.io/v1",
        "",
    ),
];

/// What to write instead of a version that is gone; None if the kind was never removed.
pub fn replacement(api_version: &str, kind: &str) -> Option<String> {
    if kind == "PodSecurityPolicy" {
        return Some(
            "PodSecurityPolicy was removed in Kubernetes 1.25: label the namespace with pod-security.kubernetes.io/enforce instead".to_owned(),
        );
    }
    let (_, _, new, note) = REMOVED
        .iter()
        .find(|(v, k, _, _)| *v == api_version && *k == kind)?;
    let note = if note.is_empty() {
        String::new()
    } else {
        format!(" ({note})")
    };
    Some(format!(
        "{kind} in {api_version} was removed from Kubernetes: use apiVersion: {new}{note}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_name_their_replacement() {
        assert!(
            replacement("extensions/v1beta1", "Ingress")
                .unwrap()
                .contains("use apiVersion: networking.k8s.io/v1")
        );
        assert_eq!(replacement("apps/v1", "Deployment"), None);
    }
}
