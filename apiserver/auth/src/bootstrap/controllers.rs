//! The ClusterRoles of the controllers, `system:controller:*`, each for a service account in `kube-system`.

use super::{Role, named, on, role};

/// All of them.
pub(super) fn roles() -> Vec<Role> {
    let mut all = a_to_e();
    all.extend(f_to_r());
    all.extend(s_to_z());
    all
}

fn a_to_e() -> Vec<Role> {
    vec![
        role(
            "system:controller:attachdetach-controller",
            vec![
                on("", "persistentvolumeclaims,persistentvolumes", "list,watch"),
                on("", "nodes", "get,list,watch"),
                on("", "nodes/status", "patch,update"),
                on("", "pods", "list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
                on(
                    "storage.k8s.io",
                    "volumeattachments",
                    "create,delete,get,list,watch",
                ),
                on("storage.k8s.io", "csidrivers", "get,list,watch"),
                on("storage.k8s.io", "csinodes", "get,list,watch"),
            ],
        ),
        role(
            "system:controller:certificate-controller",
            vec![
                on(
                    "certificates.k8s.io",
                    "certificatesigningrequests",
                    "delete,get,list,watch",
                ),
                on(
                    "certificates.k8s.io",
                    "certificatesigningrequests/approval,certificatesigningrequests/status",
                    "update",
                ),
                named(
                    "certificates.k8s.io",
                    "signers",
                    "kubernetes.io/kube-apiserver-client-kubelet",
                    "approve",
                ),
                named(
                    "certificates.k8s.io",
                    "signers",
                    "kubernetes.io/kube-apiserver-client,kubernetes.io/kube-apiserver-client-kubelet,kubernetes.io/kubelet-serving,kubernetes.io/legacy-unknown",
                    "sign",
                ),
                on("authorization.k8s.io", "subjectaccessreviews", "create"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:clusterrole-aggregation-controller",
            vec![on(
                "rbac.authorization.k8s.io",
                "clusterroles",
                "escalate,get,list,patch,update,watch",
            )],
        ),
        role(
            "system:controller:cronjob-controller",
            vec![
                on("batch", "cronjobs", "get,list,update,watch"),
                on("batch", "jobs", "create,delete,get,list,patch,update,watch"),
                on("batch", "cronjobs/status", "update"),
                on("batch", "cronjobs/finalizers", "update"),
                on("", "pods", "delete,list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:daemon-set-controller",
            vec![
                on("apps,extensions", "daemonsets", "get,list,watch"),
                on("apps,extensions", "daemonsets/status", "update"),
                on("apps,extensions", "daemonsets/finalizers", "update"),
                on("", "nodes", "list,watch"),
                on("", "pods", "create,delete,list,patch,watch"),
                on("", "pods/binding", "create"),
                on(
                    "apps",
                    "controllerrevisions",
                    "create,delete,get,list,patch,update,watch",
                ),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:deployment-controller",
            vec![
                on("apps,extensions", "deployments", "get,list,update,watch"),
                on("apps,extensions", "deployments/status", "update"),
                on("apps,extensions", "deployments/finalizers", "update"),
                on(
                    "apps,extensions",
                    "replicasets",
                    "create,delete,get,list,patch,update,watch",
                ),
                on("", "pods", "get,list,update,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:device-taint-eviction-controller",
            vec![
                on("", "pods", "delete,get,list,watch"),
                on("", "pods/status", "patch,update"),
                on("resource.k8s.io", "resourceclaims", "get,list,watch"),
                on("resource.k8s.io", "resourceslices", "get,list,watch"),
                on("resource.k8s.io", "deviceclasses", "get,list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:disruption-controller",
            vec![
                on("apps,extensions", "deployments", "get,list,watch"),
                on("apps,extensions", "replicasets", "get,list,watch"),
                on("", "replicationcontrollers", "get,list,watch"),
                on("policy", "poddisruptionbudgets", "get,list,watch"),
                on("apps", "statefulsets", "get,list,watch"),
                on("policy", "poddisruptionbudgets/status", "update"),
                on("", "pods/status", "patch,update"),
                on("*", "*/scale", "get"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:endpoint-controller",
            vec![
                on("", "pods,services", "get,list,watch"),
                on("", "endpoints", "create,delete,get,list,update,watch"),
                on("", "endpoints/restricted", "create"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:endpointslice-controller",
            vec![
                on("", "nodes,pods,services", "get,list,watch"),
                on("", "services/finalizers", "update"),
                on(
                    "discovery.k8s.io",
                    "endpointslices",
                    "create,delete,get,list,update,watch",
                ),
                on("discovery.k8s.io", "endpointslices/restricted", "create"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:endpointslicemirroring-controller",
            vec![
                on("", "endpoints,services", "get,list,watch"),
                on("", "services/finalizers", "update"),
                on("", "endpoints/finalizers", "update"),
                on(
                    "discovery.k8s.io",
                    "endpointslices",
                    "create,delete,get,list,update,watch",
                ),
                on("discovery.k8s.io", "endpointslices/restricted", "create"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:ephemeral-volume-controller",
            vec![
                on("", "pods", "get,list,watch"),
                on("", "pods/finalizers", "update"),
                on("", "persistentvolumeclaims", "create,get,list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:expand-controller",
            vec![
                on("", "persistentvolumes", "get,list,patch,update,watch"),
                on("", "persistentvolumeclaims/status", "patch,update"),
                on("", "persistentvolumeclaims", "get,list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
    ]
}

fn f_to_r() -> Vec<Role> {
    vec![
        role(
            "system:controller:generic-garbage-collector",
            vec![
                on("*", "*", "delete,get,list,patch,update,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:horizontal-pod-autoscaler",
            vec![
                on("autoscaling", "horizontalpodautoscalers", "get,list,watch"),
                on("autoscaling", "horizontalpodautoscalers/status", "update"),
                on("*", "*/scale", "get,update"),
                on("", "pods", "list,watch"),
                on("metrics.k8s.io", "pods", "list,watch"),
                on("custom.metrics.k8s.io", "*", "get,list,watch"),
                on("external.metrics.k8s.io", "*", "get,list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:job-controller",
            vec![
                on("batch", "jobs", "get,list,patch,update,watch"),
                on("batch", "jobs/status", "update"),
                on("batch", "jobs/finalizers", "update"),
                on("", "pods", "create,delete,list,patch,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:legacy-service-account-token-cleaner",
            vec![
                named(
                    "",
                    "configmaps",
                    "kube-apiserver-legacy-service-account-token-tracking",
                    "get",
                ),
                on("", "secrets", "delete,patch"),
            ],
        ),
        role(
            "system:controller:namespace-controller",
            vec![
                on("", "namespaces", "delete,get,list,watch"),
                on("", "namespaces/finalize,namespaces/status", "update"),
                on("*", "*", "delete,deletecollection,get,list,watch"),
            ],
        ),
        role(
            "system:controller:node-controller",
            vec![
                on("", "nodes", "delete,get,list,patch,update,watch"),
                on("", "nodes/status", "patch,update"),
                on("", "pods/status", "patch,update"),
                on("", "pods", "delete,get,list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:persistent-volume-binder",
            vec![
                on("", "persistentvolumes", "create,delete,get,list,update,watch"),
                on("", "persistentvolumes/status", "update"),
                on("", "persistentvolumeclaims", "get,list,update,watch"),
                on("", "persistentvolumeclaims/status", "update"),
                on("", "pods", "create,delete,get,list,watch"),
                on("storage.k8s.io", "storageclasses", "get,list,watch"),
                on("", "nodes", "list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
                on("", "events", "watch"),
            ],
        ),
        role(
            "system:controller:pod-garbage-collector",
            vec![
                on("", "pods", "delete,list,watch"),
                on("", "nodes", "get,list,watch"),
                on("", "pods/status", "patch"),
            ],
        ),
        role(
            "system:controller:pv-protection-controller",
            vec![
                on("", "persistentvolumes", "get,list,update,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:pvc-protection-controller",
            vec![
                on("", "persistentvolumeclaims", "get,list,update,watch"),
                on("", "persistentvolumeclaims/status", "update"),
                on("", "pods", "get,list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:replicaset-controller",
            vec![
                on("apps,extensions", "replicasets", "get,list,update,watch"),
                on("apps,extensions", "replicasets/status", "update"),
                on("apps,extensions", "replicasets/finalizers", "update"),
                on("", "pods", "create,delete,list,patch,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:replication-controller",
            vec![
                on("", "replicationcontrollers", "get,list,update,watch"),
                on("", "replicationcontrollers/status", "update"),
                on("", "replicationcontrollers/finalizers", "update"),
                on("", "pods", "create,delete,list,patch,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:resource-claim-controller",
            vec![
                on("", "pods", "get,list,watch"),
                on("", "pods/finalizers", "update"),
                on(
                    "resource.k8s.io",
                    "resourceclaims",
                    "create,delete,get,list,watch",
                ),
                on(
                    "resource.k8s.io",
                    "resourceclaims,resourceclaims/status",
                    "patch,update",
                ),
                on("", "pods/status", "patch,update"),
                on(",events.k8s.io", "events", "create,patch,update"),
                on("resource.k8s.io", "resourceclaims/binding", "patch,update"),
            ],
        ),
        role(
            "system:controller:resourcequota-controller",
            vec![
                on("*", "*", "list,watch"),
                on("", "resourcequotas/status", "update"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:root-ca-cert-publisher",
            vec![
                on("", "configmaps", "create,update"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:route-controller",
            vec![
                on("", "nodes", "list,watch"),
                on("", "nodes/status", "patch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
    ]
}

fn s_to_z() -> Vec<Role> {
    vec![
        role(
            "system:controller:selinux-warning-controller",
            vec![
                on(",events.k8s.io", "events", "create,patch,update"),
                on("", "persistentvolumes", "get,list,watch"),
                on("", "persistentvolumeclaims", "get,list,watch"),
                on("", "pods", "get,list,watch"),
                on("storage.k8s.io", "csidrivers", "get,list,watch"),
            ],
        ),
        role(
            "system:controller:service-account-controller",
            vec![
                on("", "serviceaccounts", "create"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:service-cidrs-controller",
            vec![
                on("networking.k8s.io", "servicecidrs", "get,list,patch,update,watch"),
                on("networking.k8s.io", "servicecidrs/finalizers", "patch,update"),
                on("networking.k8s.io", "servicecidrs/status", "patch,update"),
                on("networking.k8s.io", "ipaddresses", "get,list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:service-controller",
            vec![
                on("", "services", "get,list,watch"),
                on("", "services/status", "patch,update"),
                on("", "nodes", "list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:statefulset-controller",
            vec![
                on("", "pods", "list,watch"),
                on("apps", "statefulsets", "get,list,watch"),
                on("apps", "statefulsets/status", "update"),
                on("apps", "statefulsets/finalizers", "update"),
                on("", "pods", "create,delete,get,patch,update"),
                on(
                    "apps",
                    "controllerrevisions",
                    "create,delete,get,list,patch,update,watch",
                ),
                on("", "persistentvolumeclaims", "create,get,list,watch"),
                on("", "persistentvolumeclaims", "delete,update"),
                on("", "pods/finalizers", "update"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:ttl-after-finished-controller",
            vec![
                on("batch", "jobs", "delete,get,list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:ttl-controller",
            vec![
                on("", "nodes", "list,patch,update,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:validatingadmissionpolicy-status-controller",
            vec![
                on(
                    "admissionregistration.k8s.io",
                    "validatingadmissionpolicies",
                    "get,list,watch",
                ),
                on(
                    "admissionregistration.k8s.io",
                    "validatingadmissionpolicies/status",
                    "get,patch,update",
                ),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:controller:volumeattributesclass-protection-controller",
            vec![
                on("", "persistentvolumeclaims", "get,list,watch"),
                on("", "persistentvolumes", "get,list,watch"),
                on(
                    "storage.k8s.io",
                    "volumeattributesclasses",
                    "get,list,update,watch",
                ),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
    ]
}
