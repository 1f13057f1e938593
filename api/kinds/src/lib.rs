//! One file per built-in kind: defaults, validation, selectable fields, printed columns.
//!
//! [`builtin`] is the whole list. What a kind is made of says its schema (in `rutter_api`); what is special about it
//! says its strategy here. Nothing in this crate does I/O or reads a clock.

mod admission;
mod amount;
mod api_service;
mod check;
mod component_status;
mod config_map;
mod controller_revision;
mod crd;
mod cron_job;
mod csr;
mod daemon_set;
mod deployment;
mod dra;
mod endpoint_slice;
mod endpoints;
mod event;
mod fill;
mod flow_control;
mod group;
mod horizontal_pod_autoscaler;
mod ingress;
mod ip_address;
mod job;
mod lease;
mod limit_range;
mod namespace;
mod network_policy;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_disruption_budget;
mod pod_template;
mod podcheck;
mod podspec;
mod print;
mod priority_class;
mod rbac;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod runtime_class;
mod secret;
mod service;
mod service_account;
mod stateful_set;
mod storage;
mod workload;

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
    g.cluster(
        "ComponentStatus",
        "componentstatuses",
        component_status::ComponentStatus,
    )
    .short("cs")
    .read_only();
    g.namespaced("ConfigMap", "configmaps", config_map::ConfigMap)
        .short("cm");
    g.namespaced("Endpoints", "endpoints", endpoints::Endpoints)
        .short("ep")
        .at("/registry/services/endpoints");
    g.namespaced("Event", "events", event::Event).short("ev");
    g.namespaced("LimitRange", "limitranges", limit_range::LimitRange)
        .short("limits");
    g.cluster("Namespace", "namespaces", namespace::Namespace)
        .short("ns")
        .without("deletecollection")
        .status()
        .sub("finalize", &["update"]);
    g.cluster("Node", "nodes", node::Node)
        .short("no")
        .at("/registry/minions")
        .status()
        .sub_of("proxy", ("", "v1", "NodeProxyOptions"), PROXY_VERBS);
    g.namespaced(
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        persistent_volume_claim::PersistentVolumeClaim,
    )
    .short("pvc")
    .status();
    g.cluster(
        "PersistentVolume",
        "persistentvolumes",
        persistent_volume::PersistentVolume,
    )
    .short("pv")
    .status();
    g.namespaced("Pod", "pods", pod::Pod)
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
    g.namespaced("PodTemplate", "podtemplates", pod_template::PodTemplate);
    g.namespaced(
        "ReplicationController",
        "replicationcontrollers",
        replication_controller::ReplicationController,
    )
    .short("rc")
    .all()
    .at("/registry/controllers")
    .status()
    .scale();
    g.namespaced("ResourceQuota", "resourcequotas", resource_quota::ResourceQuota)
        .short("quota")
        .status();
    g.namespaced("Secret", "secrets", secret::Secret);
    g.namespaced(
        "ServiceAccount",
        "serviceaccounts",
        service_account::ServiceAccount,
    )
    .short("sa")
    .sub_of("token", ("authentication.k8s.io", "v1", "TokenRequest"), CREATE);
    g.namespaced("Service", "services", service::Service)
        .short("svc")
        .all()
        .at("/registry/services/specs")
        .status()
        .sub_of("proxy", ("", "v1", "ServiceProxyOptions"), PROXY_VERBS);

    let g = &mut Group::new(scheme, "events.k8s.io", "v1", "io.k8s.api.events");
    g.namespaced("Event", "events", event::NewEvent)
        .short("ev")
        .stored_as("", "v1");
}

fn workloads(scheme: &mut Scheme) {
    let g = &mut Group::new(scheme, "apps", "v1", "io.k8s.api.apps");
    g.namespaced(
        "ControllerRevision",
        "controllerrevisions",
        controller_revision::ControllerRevision,
    );
    g.namespaced("DaemonSet", "daemonsets", daemon_set::DaemonSet)
        .short("ds")
        .all()
        .status();
    g.namespaced("Deployment", "deployments", deployment::Deployment)
        .short("deploy")
        .all()
        .status()
        .scale();
    g.namespaced("ReplicaSet", "replicasets", replica_set::ReplicaSet)
        .short("rs")
        .all()
        .status()
        .scale();
    g.namespaced("StatefulSet", "statefulsets", stateful_set::StatefulSet)
        .short("sts")
        .all()
        .status()
        .scale();

    let g = &mut Group::new(scheme, "batch", "v1", "io.k8s.api.batch");
    g.namespaced("CronJob", "cronjobs", cron_job::CronJob)
        .short("cj")
        .all()
        .status();
    g.namespaced("Job", "jobs", job::Job).all().status();

    let g = &mut Group::new(scheme, "autoscaling", "v1", "io.k8s.api.autoscaling");
    g.namespaced(
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        horizontal_pod_autoscaler::HorizontalPodAutoscalerV1,
    )
    .short("hpa")
    .all()
    .status()
    .stored_as("autoscaling", "v2");
    let g = &mut Group::new(scheme, "autoscaling", "v2", "io.k8s.api.autoscaling");
    g.namespaced(
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        horizontal_pod_autoscaler::HorizontalPodAutoscaler,
    )
    .short("hpa")
    .all()
    .status();

    let g = &mut Group::new(scheme, "policy", "v1", "io.k8s.api.policy");
    g.namespaced(
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        pod_disruption_budget::PodDisruptionBudget,
    )
    .short("pdb")
    .status();

    let g = &mut Group::new(scheme, "coordination.k8s.io", "v1", "io.k8s.api.coordination");
    g.namespaced("Lease", "leases", lease::Lease);

    let g = &mut Group::new(scheme, "scheduling.k8s.io", "v1", "io.k8s.api.scheduling");
    g.cluster("PriorityClass", "priorityclasses", priority_class::PriorityClass)
        .short("pc");

    let g = &mut Group::new(scheme, "node.k8s.io", "v1", "io.k8s.api.node");
    g.cluster("RuntimeClass", "runtimeclasses", runtime_class::RuntimeClass);

    let g = &mut Group::new(scheme, "resource.k8s.io", "v1", "io.k8s.api.resource");
    g.cluster("DeviceClass", "deviceclasses", dra::DeviceClass);
    g.namespaced("ResourceClaim", "resourceclaims", dra::ResourceClaim)
        .status();
    g.namespaced(
        "ResourceClaimTemplate",
        "resourceclaimtemplates",
        dra::ResourceClaimTemplate,
    );
    g.cluster("ResourceSlice", "resourceslices", dra::ResourceSlice);
}

fn network_and_storage(scheme: &mut Scheme) {
    let g = &mut Group::new(scheme, "networking.k8s.io", "v1", "io.k8s.api.networking");
    g.cluster("IngressClass", "ingressclasses", ingress::IngressClass);
    g.namespaced("Ingress", "ingresses", ingress::Ingress)
        .short("ing")
        .at("/registry/ingress")
        .status();
    g.cluster("IPAddress", "ipaddresses", ip_address::IpAddress)
        .short("ip");
    g.namespaced("NetworkPolicy", "networkpolicies", network_policy::NetworkPolicy)
        .short("netpol");
    g.cluster("ServiceCIDR", "servicecidrs", ip_address::ServiceCidr)
        .status();

    let g = &mut Group::new(scheme, "discovery.k8s.io", "v1", "io.k8s.api.discovery");
    g.namespaced("EndpointSlice", "endpointslices", endpoint_slice::EndpointSlice);

    let g = &mut Group::new(scheme, "storage.k8s.io", "v1", "io.k8s.api.storage");
    g.cluster("CSIDriver", "csidrivers", storage::CsiDriver);
    g.cluster("CSINode", "csinodes", storage::CsiNode);
    g.namespaced(
        "CSIStorageCapacity",
        "csistoragecapacities",
        storage::CsiStorageCapacity,
    );
    g.cluster("StorageClass", "storageclasses", storage::StorageClass)
        .short("sc");
    g.cluster("VolumeAttachment", "volumeattachments", storage::VolumeAttachment)
        .status();
    g.cluster(
        "VolumeAttributesClass",
        "volumeattributesclasses",
        storage::VolumeAttributesClass,
    )
    .short("vac");
}

fn access(scheme: &mut Scheme) {
    let g = &mut Group::new(scheme, "rbac.authorization.k8s.io", "v1", "io.k8s.api.rbac");
    g.cluster(
        "ClusterRoleBinding",
        "clusterrolebindings",
        rbac::RoleBinding { cluster: true },
    );
    g.cluster("ClusterRole", "clusterroles", rbac::Role { cluster: true });
    g.namespaced(
        "RoleBinding",
        "rolebindings",
        rbac::RoleBinding { cluster: false },
    );
    g.namespaced("Role", "roles", rbac::Role { cluster: false });

    let g = &mut Group::new(scheme, "certificates.k8s.io", "v1", "io.k8s.api.certificates");
    g.cluster(
        "CertificateSigningRequest",
        "certificatesigningrequests",
        csr::CertificateSigningRequest,
    )
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
    g.cluster(
        "MutatingAdmissionPolicy",
        "mutatingadmissionpolicies",
        admission::AdmissionPolicy { mutating: true },
    )
    .extension();
    g.cluster(
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
        admission::AdmissionPolicyBinding { mutating: true },
    )
    .extension();
    g.cluster(
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        admission::WebhookConfiguration { mutating: true },
    )
    .extension();
    g.cluster(
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        admission::AdmissionPolicy { mutating: false },
    )
    .extension()
    .status();
    g.cluster(
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        admission::AdmissionPolicyBinding { mutating: false },
    )
    .extension();
    g.cluster(
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        admission::WebhookConfiguration { mutating: false },
    )
    .extension();

    let g = &mut Group::new(
        scheme,
        "apiextensions.k8s.io",
        "v1",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    );
    g.cluster(
        "CustomResourceDefinition",
        "customresourcedefinitions",
        crd::CustomResourceDefinition,
    )
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
    g.cluster("APIService", "apiservices", api_service::ApiService)
        .extension()
        .at("/registry/apiregistration.k8s.io/apiservices")
        .status();

    let g = &mut Group::new(
        scheme,
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "io.k8s.api.flowcontrol",
    );
    g.cluster("FlowSchema", "flowschemas", flow_control::FlowSchema)
        .status();
    g.cluster(
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        flow_control::PriorityLevelConfiguration,
    )
    .status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replaces_removed_versions_is_served() {
        let scheme = builtin();
        for removed in rutter_api::removed::REMOVED
            .iter()
            .filter(|r| !r.replacement.is_empty())
        {
            let version = rutter_api::GroupVersion::parse(removed.replacement).expect("a version");
            assert!(scheme.has(&version), "{removed:?}");
            if !removed.resource.is_empty() && removed.resource != "evictions" {
                assert!(scheme.get(&version, removed.resource).is_some(), "{removed:?}");
            }
        }
    }

    #[test]
    fn every_resource_is_complete() {
        let scheme = builtin();
        let types = rutter_api::schema::builtin();
        assert_eq!(scheme.iter().count(), 68);
        for resource in scheme.iter() {
            assert!(
                types.struct_named(&resource.schema).is_some(),
                "{resource:?} has no schema {}",
                resource.schema
            );
            let is_question = resource.verbs == ["create"];
            assert!(
                is_question || !resource.strategy.columns().is_empty(),
                "{resource:?} has no columns"
            );
            let strategy = &resource.strategy;
            let empty = rutter_api::Value::Object(rutter_api::Map::new());
            assert_eq!(
                strategy.field_values(&empty).len(),
                strategy.selectable_fields().len(),
                "{resource:?}"
            );
            let now = jiff::Timestamp::UNIX_EPOCH;
            let cx = rutter_api::Context {
                now,
                user: "",
                subresource: "",
                dry_run: false,
            };
            assert_eq!(
                strategy.row(&empty, &cx).len(),
                strategy.columns().len(),
                "{resource:?}"
            );
        }
    }
}
