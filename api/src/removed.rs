//! API versions of older eras, and what replaced each: the one table, for servers and clients alike.

/// A kind in a version that Kubernetes no longer serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The group; empty for the core group.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
    /// The kind; empty for every kind of the version.
    pub kind: &'static str,
    /// The lower-case plural; empty for every resource of the version.
    pub resource: &'static str,
    /// The release that stopped serving it.
    pub since: &'static str,
    /// The group and version to use instead; empty where nothing replaced it.
    pub replacement: &'static str,
    /// What else a manifest has to change, or what to do instead; empty if nothing.
    pub note: &'static str,
}

const fn gone(
    (group, version): (&'static str, &'static str),
    (kind, resource): (&'static str, &'static str),
    since: &'static str,
    replacement: &'static str,
) -> Removed {
    Removed {
        group,
        version,
        kind,
        resource,
        since,
        replacement,
        note: "",
    }
}

impl Removed {
    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }
}

const BACKENDS: &str = "spec.backend is spec.defaultBackend, a backend's serviceName and servicePort are service.name and service.port, and every path needs a pathType";
const SELECTOR: &str = "spec.selector is required";
const POD_SECURITY: &str = "label namespaces with pod-security.kubernetes.io/enforce instead";
const WEBHOOKS: &str = "sideEffects and admissionReviewVersions are required";
const METRICS: &str = "a metric's target is in .target";

const EXTENSIONS: (&str, &str) = ("extensions", "v1beta1");
const APPS_BETA1: (&str, &str) = ("apps", "v1beta1");
const APPS_BETA2: (&str, &str) = ("apps", "v1beta2");
const NETWORKING: (&str, &str) = ("networking.k8s.io", "v1beta1");
const STORAGE: (&str, &str) = ("storage.k8s.io", "v1beta1");
const RBAC_ALPHA: (&str, &str) = ("rbac.authorization.k8s.io", "v1alpha1");
const RBAC_BETA: (&str, &str) = ("rbac.authorization.k8s.io", "v1beta1");
const ADMISSION: (&str, &str) = ("admissionregistration.k8s.io", "v1beta1");
const POLICY: (&str, &str) = ("policy", "v1beta1");

/// All of them.
pub const REMOVED: &[Removed] = &[
    gone(EXTENSIONS, ("Deployment", "deployments"), "1.16", "apps/v1").note(SELECTOR),
    gone(EXTENSIONS, ("DaemonSet", "daemonsets"), "1.16", "apps/v1").note(SELECTOR),
    gone(EXTENSIONS, ("ReplicaSet", "replicasets"), "1.16", "apps/v1").note(SELECTOR),
    gone(
        EXTENSIONS,
        ("NetworkPolicy", "networkpolicies"),
        "1.16",
        "networking.k8s.io/v1",
    ),
    gone(
        EXTENSIONS,
        ("PodSecurityPolicy", "podsecuritypolicies"),
        "1.16",
        "",
    )
    .note(POD_SECURITY),
    gone(
        EXTENSIONS,
        ("Ingress", "ingresses"),
        "1.22",
        "networking.k8s.io/v1",
    )
    .note(BACKENDS),
    gone(APPS_BETA1, ("Deployment", "deployments"), "1.16", "apps/v1").note(SELECTOR),
    gone(APPS_BETA1, ("StatefulSet", "statefulsets"), "1.16", "apps/v1").note(SELECTOR),
    gone(
        APPS_BETA1,
        ("ControllerRevision", "controllerrevisions"),
        "1.16",
        "apps/v1",
    ),
    gone(APPS_BETA2, ("Deployment", "deployments"), "1.16", "apps/v1"),
    gone(APPS_BETA2, ("StatefulSet", "statefulsets"), "1.16", "apps/v1"),
    gone(APPS_BETA2, ("DaemonSet", "daemonsets"), "1.16", "apps/v1"),
    gone(APPS_BETA2, ("ReplicaSet", "replicasets"), "1.16", "apps/v1"),
    gone(
        APPS_BETA2,
        ("ControllerRevision", "controllerrevisions"),
        "1.16",
        "apps/v1",
    ),
    gone(
        NETWORKING,
        ("Ingress", "ingresses"),
        "1.22",
        "networking.k8s.io/v1",
    )
    .note(BACKENDS),
    gone(
        NETWORKING,
        ("IngressClass", "ingressclasses"),
        "1.22",
        "networking.k8s.io/v1",
    ),
    gone(("batch", "v1beta1"), ("CronJob", "cronjobs"), "1.25", "batch/v1"),
    gone(("batch", "v2alpha1"), ("CronJob", "cronjobs"), "1.21", "batch/v1"),
    gone(
        POLICY,
        ("PodDisruptionBudget", "poddisruptionbudgets"),
        "1.25",
        "policy/v1",
    ),
    gone(POLICY, ("Eviction", "evictions"), "1.25", "policy/v1"),
    gone(POLICY, ("PodSecurityPolicy", "podsecuritypolicies"), "1.25", "").note(POD_SECURITY),
    gone(
        RBAC_ALPHA,
        ("ClusterRole", "clusterroles"),
        "1.22",
        "rbac.authorization.k8s.io/v1",
    ),
    gone(
        RBAC_ALPHA,
        ("ClusterRoleBinding", "clusterrolebindings"),
        "1.22",
        "rbac.authorization.k8s.io/v1",
    ),
    gone(
        RBAC_ALPHA,
        ("Role", "roles"),
        "1.22",
        "rbac.authorization.k8s.io/v1",
    ),
    gone(
        RBAC_ALPHA,
        ("RoleBinding", "rolebindings"),
        "1.22",
        "rbac.authorization.k8s.io/v1",
    ),
    gone(
        RBAC_BETA,
        ("ClusterRole", "clusterroles"),
        "1.22",
        "rbac.authorization.k8s.io/v1",
    ),
    gone(
        RBAC_BETA,
        ("ClusterRoleBinding", "clusterrolebindings"),
        "1.22",
        "rbac.authorization.k8s.io/v1",
    ),
    gone(
        RBAC_BETA,
        ("Role", "roles"),
        "1.22",
        "rbac.authorization.k8s.io/v1",
    ),
    gone(
        RBAC_BETA,
        ("RoleBinding", "rolebindings"),
        "1.22",
        "rbac.authorization.k8s.io/v1",
    ),
    gone(STORAGE, ("CSIDriver", "csidrivers"), "1.22", "storage.k8s.io/v1"),
    gone(STORAGE, ("CSINode", "csinodes"), "1.22", "storage.k8s.io/v1"),
    gone(
        STORAGE,
        ("StorageClass", "storageclasses"),
        "1.22",
        "storage.k8s.io/v1",
    ),
    gone(
        STORAGE,
        ("VolumeAttachment", "volumeattachments"),
        "1.22",
        "storage.k8s.io/v1",
    ),
    gone(
        STORAGE,
        ("CSIStorageCapacity", "csistoragecapacities"),
        "1.27",
        "storage.k8s.io/v1",
    ),
    gone(
        ADMISSION,
        ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
        "1.22",
        "admissionregistration.k8s.io/v1",
    )
    .note(WEBHOOKS),
    gone(
        ADMISSION,
        (
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
        ),
        "1.22",
        "admissionregistration.k8s.io/v1",
    )
    .note(WEBHOOKS),
    gone(
        ADMISSION,
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        "1.34",
        "admissionregistration.k8s.io/v1",
    ),
    gone(
        ADMISSION,
        (
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
        ),
        "1.34",
        "admissionregistration.k8s.io/v1",
    ),
    gone(
        ("apiextensions.k8s.io", "v1beta1"),
        ("CustomResourceDefinition", "customresourcedefinitions"),
        "1.22",
        "apiextensions.k8s.io/v1",
    )
    .note("spec.versions takes the place of spec.version, and each needs a structural schema"),
    gone(
        ("apiregistration.k8s.io", "v1beta1"),
        ("APIService", "apiservices"),
        "1.22",
        "apiregistration.k8s.io/v1",
    ),
    gone(
        ("authentication.k8s.io", "v1beta1"),
        ("TokenReview", "tokenreviews"),
        "1.22",
        "authentication.k8s.io/v1",
    ),
    gone(
        ("authorization.k8s.io", "v1beta1"),
        ("", ""),
        "1.22",
        "authorization.k8s.io/v1",
    ),
    gone(
        ("autoscaling", "v2beta1"),
        ("HorizontalPodAutoscaler", "horizontalpodautoscalers"),
        "1.25",
        "autoscaling/v2",
    )
    .note(METRICS),
    gone(
        ("autoscaling", "v2beta2"),
        ("HorizontalPodAutoscaler", "horizontalpodautoscalers"),
        "1.26",
        "autoscaling/v2",
    ),
    gone(
        ("certificates.k8s.io", "v1beta1"),
        ("CertificateSigningRequest", "certificatesigningrequests"),
        "1.22",
        "certificates.k8s.io/v1",
    )
    .note("spec.signerName and spec.usages are required"),
    gone(
        ("coordination.k8s.io", "v1beta1"),
        ("Lease", "leases"),
        "1.22",
        "coordination.k8s.io/v1",
    ),
    gone(
        ("discovery.k8s.io", "v1beta1"),
        ("EndpointSlice", "endpointslices"),
        "1.25",
        "discovery.k8s.io/v1",
    ),
    gone(
        ("events.k8s.io", "v1beta1"),
        ("Event", "events"),
        "1.25",
        "events.k8s.io/v1",
    ),
    gone(
        ("flowcontrol.apiserver.k8s.io", "v1beta1"),
        ("", ""),
        "1.26",
        "flowcontrol.apiserver.k8s.io/v1",
    ),
    gone(
        ("flowcontrol.apiserver.k8s.io", "v1beta2"),
        ("", ""),
        "1.29",
        "flowcontrol.apiserver.k8s.io/v1",
    ),
    gone(
        ("flowcontrol.apiserver.k8s.io", "v1beta3"),
        ("", ""),
        "1.32",
        "flowcontrol.apiserver.k8s.io/v1",
    ),
    gone(
        ("node.k8s.io", "v1alpha1"),
        ("RuntimeClass", "runtimeclasses"),
        "1.22",
        "node.k8s.io/v1",
    ),
    gone(
        ("node.k8s.io", "v1beta1"),
        ("RuntimeClass", "runtimeclasses"),
        "1.25",
        "node.k8s.io/v1",
    ),
    gone(
        ("flowcontrol.apiserver.k8s.io", "v1alpha1"),
        ("", ""),
        "1.24",
        "flowcontrol.apiserver.k8s.io/v1",
    ),
    gone(
        ("discovery.k8s.io", "v1alpha1"),
        ("EndpointSlice", "endpointslices"),
        "1.19",
        "discovery.k8s.io/v1",
    ),
    gone(
        ("settings.k8s.io", "v1alpha1"),
        ("PodPreset", "podpresets"),
        "1.20",
        "",
    )
    .note("an admission webhook or policy can fill in pods"),
    gone(
        ("scheduling.k8s.io", "v1alpha1"),
        ("PriorityClass", "priorityclasses"),
        "1.22",
        "scheduling.k8s.io/v1",
    ),
    gone(
        ("scheduling.k8s.io", "v1beta1"),
        ("PriorityClass", "priorityclasses"),
        "1.22",
        "scheduling.k8s.io/v1",
    ),
];

/// What became of a kind in a version, by the kind's name.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Removed> {
    find(group, version, |removed| {
        removed.kind.is_empty() || removed.kind == kind
    })
}

/// What became of a resource in a version, by its plural.
pub fn by_resource(group: &str, version: &str, resource: &str) -> Option<&'static Removed> {
    find(group, version, |removed| {
        removed.resource.is_empty() || removed.resource == resource
    })
}

fn find(group: &str, version: &str, which: impl Fn(&Removed) -> bool) -> Option<&'static Removed> {
    REMOVED
        .iter()
        .find(|removed| removed.group == group && removed.version == version && which(removed))
}

impl Removed {
    /// A sentence for people: what to write instead.
    pub fn advice(&self) -> String {
        let what = if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        };
        let kind = if self.kind.is_empty() {
            "this kind"
        } else {
            self.kind
        };
        let instead = match (self.replacement, self.note) {
            ("", "") => ", and nothing replaces it".to_owned(),
            ("", note) => format!(", and nothing replaces it: {note}"),
            (version, "") => format!("; use apiVersion: {version}"),
            (version, note) => format!("; use apiVersion: {version} ({note})"),
        };
        format!(
            "{what} {kind} is not served since Kubernetes {}{instead}",
            self.since
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_manifests_get_the_exact_replacement() {
        for (group, version, kind, want) in [
            ("extensions", "v1beta1", "Ingress", Some("networking.k8s.io/v1")),
            ("extensions", "v1beta1", "Deployment", Some("apps/v1")),
            ("batch", "v1beta1", "CronJob", Some("batch/v1")),
            ("policy", "v1beta1", "PodSecurityPolicy", Some("")),
            (
                "authorization.k8s.io",
                "v1beta1",
                "SubjectAccessReview",
                Some("authorization.k8s.io/v1"),
            ),
            ("apps", "v1", "Deployment", None),
        ] {
            assert_eq!(
                by_kind(group, version, kind).map(|r| r.replacement),
                want,
                "{group} {kind}"
            );
        }
        assert_eq!(
            by_resource("batch", "v1beta1", "cronjobs")
                .map(Removed::advice)
                .as_deref(),
            Some("batch/v1beta1 CronJob is not served since Kubernetes 1.25; use apiVersion: batch/v1")
        );
        assert_eq!(
            by_kind("policy", "v1beta1", "PodSecurityPolicy")
                .map(Removed::advice)
                .as_deref(),
            Some(
                "policy/v1beta1 PodSecurityPolicy is not served since Kubernetes 1.25, and nothing replaces it: label namespaces with pod-security.kubernetes.io/enforce instead"
            )
        );
    }
}
