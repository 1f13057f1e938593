//! One file per built-in kind: defaults, validation, selectable fields, printed columns.
//!
//! [`builtin`] is the whole list. What a kind is made of says its schema (in `rutter_api`); what is special about it
//! says its strategy here. Nothing in this crate does I/O or reads a clock.

mod group;

use group::Group;
use rutter_api::Scheme;
use rutter_api::strategy::Plain;

const PROXY_VERBS: &[&str] = &["create", "delete", "get", "patch", "update"];
const STREAM_VERBS: &[&str] = &["create", "get"];
const CHANGE_VERBS: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];

/// Every resource of Kubernetes' built-in groups that is served by default.
pub fn builtin() -> Scheme {
    let mut scheme = Scheme::new();
    core(&mut scheme);
    workloads(&mut scheme);
    network_and_storage(&mut scheme);
    access(&mut scheme);
    extensions(&mut scheme);
    scheme
}

fn core(scheme: &mut Scheme) {
    let g = &mut Group::new(scheme, "", "v1", "io.k8s.api.core");
    g.namespaced("Binding", "bindings", Plain).question();
    g.cluster("ComponentStatus", "componentstatuses", Plain)
        .short("cs")
        .read_only();
    g.namespaced("ConfigMap", "configmaps", Plain).short("cm");
    g.namespaced("Endpoints", "endpoints", Plain)
        .short("ep")
        .at("/registry/services/endpoints");
    g.namespaced("Event", "events", Plain).short("ev");
    g.namespaced("LimitRange", "limitranges", Plain).short("limits");
    g.cluster("Namespace", "namespaces", Plain)
        .short("ns")
        .without("deletecollection")
        .status()
        .sub("finalize", &["update"]);
    g.cluster("Node", "nodes", Plain)
        .short("no")
        .at("/registry/minions")
        .status()
        .sub_of("proxy", ("", "v1", "NodeProxyOptions"), PROXY_VERBS);
    g.namespaced("PersistentVolumeClaim", "persistentvolumeclaims", Plain)
        .short("pvc")
        .status();
    g.cluster("PersistentVolume", "persistentvolumes", Plain)
        .short("pv")
        .status();
    g.namespaced("Pod", "pods", Plain)
        .short("po")
        .all()
        .status()
        .sub("ephemeralcontainers", CHANGE_VERBS)
        .sub("resize", CHANGE_VERBS)
        .sub("log", &["get"])
        .sub_of("attach", ("", "v1", "PodAttachOptions"), STREAM_VERBS)
        .sub_of("exec", ("", "v1", "PodExecOptions"), STREAM_VERBS)
        .sub_of("portforward", ("", "v1", "PodPortForwardOptions"), STREAM_VERBS)
        .sub_of("proxy", ("", "v1", "PodProxyOptions"), PROXY_VERBS)
        .sub_of("binding", ("", "v1", "Binding"), CREATE)
        .sub_of("eviction", ("policy", "v1", "Eviction"), CREATE);
    g.namespaced("PodTemplate", "podtemplates", Plain);
    g.namespaced("ReplicationController", "replicationcontrollers", Plain)
        .short("rc")
        .all()
        .at("/registry/controllers")
        .status()
        .scale();
    g.namespaced("ResourceQuota", "resourcequotas", Plain)
        .short("quota")
        .status();
    g.namespaced("Secret", "secrets", Plain);
    g.namespaced("ServiceAccount", "serviceaccounts", Plain)
        .short("sa")
        .sub_of("token", ("authentication.k8s.io", "v1", "TokenRequest"), CREATE);
    g.namespaced("Service", "services", Plain)
        .short("svc")
        .all()
        .at("/registry/services/specs")
        .status()
        .sub_of("proxy", ("", "v1", "ServiceProxyOptions"), PROXY_VERBS);

    let g = &mut Group::new(scheme, "events.k8s.io", "v1", "io.k8s.api.events");
    g.namespaced("Event", "events", Plain)
        .short("ev")
        .stored_as("", "v1");
}

fn workloads(scheme: &mut Scheme) {
    let g = &mut Group::new(scheme, "apps", "v1", "io.k8s.api.apps");
    g.namespaced("ControllerRevision", "controllerrevisions", Plain);
    g.namespaced("DaemonSet", "daemonsets", Plain)
        .short("ds")
        .all()
        .status();
    g.namespaced("Deployment", "deployments", Plain)
        .short("deploy")
        .all()
        .status()
        .scale();
    g.namespaced("ReplicaSet", "replicasets", Plain)
        .short("rs")
        .all()
        .status()
        .scale();
    g.namespaced("StatefulSet", "statefulsets", Plain)
        .short("sts")
        .all()
        .status()
        .scale();

    let g = &mut Group::new(scheme, "batch", "v1", "io.k8s.api.batch");
    g.namespaced("CronJob", "cronjobs", Plain)
        .short("cj")
        .all()
        .status();
    g.namespaced("Job", "jobs", Plain).all().status();

    let g = &mut Group::new(scheme, "autoscaling", "v1", "io.k8s.api.autoscaling");
    g.namespaced("HorizontalPodAutoscaler", "horizontalpodautoscalers", Plain)
        .short("hpa")
        .all()
        .status()
        .stored_as("autoscaling", "v2");
    let g = &mut Group::new(scheme, "autoscaling", "v2", "io.k8s.api.autoscaling");
    g.namespaced("HorizontalPodAutoscaler", "horizontalpodautoscalers", Plain)
        .short("hpa")
        .all()
        .status();

    let g = &mut Group::new(scheme, "policy", "v1", "io.k8s.api.policy");
    g.namespaced("PodDisruptionBudget", "poddisruptionbudgets", Plain)
        .short("pdb")
        .status();

    let g = &mut Group::new(scheme, "coordination.k8s.io", "v1", "io.k8s.api.coordination");
    g.namespaced("Lease", "leases", Plain);

    let g = &mut Group::new(scheme, "scheduling.k8s.io", "v1", "io.k8s.api.scheduling");
    g.cluster("PriorityClass", "priorityclasses", Plain).short("pc");

    let g = &mut Group::new(scheme, "node.k8s.io", "v1", "io.k8s.api.node");
    g.cluster("RuntimeClass", "runtimeclasses", Plain);

    let g = &mut Group::new(scheme, "resource.k8s.io", "v1", "io.k8s.api.resource");
    g.cluster("DeviceClass", "deviceclasses", Plain);
    g.namespaced("ResourceClaim", "resourceclaims", Plain).status();
    g.namespaced("ResourceClaimTemplate", "resourceclaimtemplates", Plain);
    g.cluster("ResourceSlice", "resourceslices", Plain);
}

fn network_and_storage(scheme: &mut Scheme) {
    let g = &mut Group::new(scheme, "networking.k8s.io", "v1", "io.k8s.api.networking");
    g.cluster("IngressClass", "ingressclasses", Plain);
    g.namespaced("Ingress", "ingresses", Plain)
        .short("ing")
        .at("/registry/ingress")
        .status();
    g.cluster("IPAddress", "ipaddresses", Plain).short("ip");
    g.namespaced("NetworkPolicy", "networkpolicies", Plain)
        .short("netpol");
    g.cluster("ServiceCIDR", "servicecidrs", Plain).status();

    let g = &mut Group::new(scheme, "discovery.k8s.io", "v1", "io.k8s.api.discovery");
    g.namespaced("EndpointSlice", "endpointslices", Plain);

    let g = &mut Group::new(scheme, "storage.k8s.io", "v1", "io.k8s.api.storage");
    g.cluster("CSIDriver", "csidrivers", Plain);
    g.cluster("CSINode", "csinodes", Plain);
    g.namespaced("CSIStorageCapacity", "csistoragecapacities", Plain);
    g.cluster("StorageClass", "storageclasses", Plain).short("sc");
    g.cluster("VolumeAttachment", "volumeattachments", Plain).status();
    g.cluster("VolumeAttributesClass", "volumeattributesclasses", Plain)
        .short("vac");
}

fn access(scheme: &mut Scheme) {
    let g = &mut Group::new(scheme, "rbac.authorization.k8s.io", "v1", "io.k8s.api.rbac");
    g.cluster("ClusterRoleBinding", "clusterrolebindings", Plain);
    g.cluster("ClusterRole", "clusterroles", Plain);
    g.namespaced("RoleBinding", "rolebindings", Plain);
    g.namespaced("Role", "roles", Plain);

    let g = &mut Group::new(scheme, "certificates.k8s.io", "v1", "io.k8s.api.certificates");
    g.cluster("CertificateSigningRequest", "certificatesigningrequests", Plain)
        .short("csr")
        .status()
        .sub("approval", CHANGE_VERBS);

    let g = &mut Group::new(scheme, "authentication.k8s.io", "v1", "io.k8s.api.authentication");
    g.cluster("SelfSubjectReview", "selfsubjectreviews", Plain)
        .question();
    g.cluster("TokenReview", "tokenreviews", Plain).question();

    let g = &mut Group::new(scheme, "authorization.k8s.io", "v1", "io.k8s.api.authorization");
    g.namespaced("LocalSubjectAccessReview", "localsubjectaccessreviews", Plain)
        .question();
    g.cluster("SelfSubjectAccessReview", "selfsubjectaccessreviews", Plain)
        .question();
    g.cluster("SelfSubjectRulesReview", "selfsubjectrulesreviews", Plain)
        .question();
    g.cluster("SubjectAccessReview", "subjectaccessreviews", Plain)
        .question();
}

fn extensions(scheme: &mut Scheme) {
    let g = &mut Group::new(
        scheme,
        "admissionregistration.k8s.io",
        "v1",
        "io.k8s.api.admissionregistration",
    );
    g.cluster("MutatingAdmissionPolicy", "mutatingadmissionpolicies", Plain)
        .extension();
    g.cluster(
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
        Plain,
    )
    .extension();
    g.cluster(
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        Plain,
    )
    .extension();
    g.cluster("ValidatingAdmissionPolicy", "validatingadmissionpolicies", Plain)
        .extension()
        .status();
    g.cluster(
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        Plain,
    )
    .extension();
    g.cluster(
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        Plain,
    )
    .extension();

    let g = &mut Group::new(
        scheme,
        "apiextensions.k8s.io",
        "v1",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    );
    g.cluster("CustomResourceDefinition", "customresourcedefinitions", Plain)
        .short("crd")
        .short("crds")
        .extension()
        .at("/registry/apiextensions.k8s.io/customresourcedefinitions")
        .status();

    let g = &mut Group::new(
        scheme,
        "apiregistration.k8s.io",
        "v1",
        "io.k8s.kube-aggregator.pkg.apis.apiregistration",
    );
    g.cluster("APIService", "apiservices", Plain)
        .extension()
        .at("/registry/apiregistration.k8s.io/apiservices")
        .status();

    let g = &mut Group::new(
        scheme,
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "io.k8s.api.flowcontrol",
    );
    g.cluster("FlowSchema", "flowschemas", Plain).status();
    g.cluster("PriorityLevelConfiguration", "prioritylevelconfigurations", Plain)
        .status();
}
