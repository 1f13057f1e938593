//! The ClusterRoles for people, components and nodes.

use super::{Role, aggregate, named, on, role, urls};
use crate::authorize::rule::Rule;

/// All of them.
pub(super) fn roles() -> Vec<Role> {
    let mut all = people();
    all.extend(certificates());
    all.extend(components());
    all.push(role("system:node", node_rules()));
    all
}

/// What any node may do.
pub(super) fn node_rules() -> Vec<Rule> {
    vec![
        on("authentication.k8s.io", "tokenreviews", "create"),
        on(
            "authorization.k8s.io",
            "localsubjectaccessreviews,subjectaccessreviews",
            "create",
        ),
        on("", "services", "get,list,watch"),
        on("", "nodes", "create,get,list,watch"),
        on("", "nodes/status", "patch,update"),
        on("", "nodes", "patch,update"),
        on(",events.k8s.io", "events", "create,patch,update"),
        on("", "pods", "get,list,watch"),
        on("", "pods", "create,delete"),
        on("", "pods/status", "patch,update"),
        on("", "pods/eviction", "create"),
        on("", "configmaps,secrets", "get,list,watch"),
        on("", "persistentvolumeclaims,persistentvolumes", "get"),
        on("", "endpoints", "get"),
        on(
            "certificates.k8s.io",
            "certificatesigningrequests",
            "create,get,list,watch",
        ),
        on("coordination.k8s.io", "leases", "create,delete,get,patch,update"),
        on("storage.k8s.io", "volumeattachments", "get"),
        on("", "serviceaccounts/token", "create"),
        on("", "persistentvolumeclaims/status", "get,patch,update"),
        on("storage.k8s.io", "csidrivers", "get,list,watch"),
        on("storage.k8s.io", "csinodes", "create,delete,get,patch,update"),
        on("node.k8s.io", "runtimeclasses", "get,list,watch"),
        on("resource.k8s.io", "resourceclaims", "get"),
        on("resource.k8s.io", "resourceslices", "deletecollection"),
        on("", "serviceaccounts", "get"),
    ]
}

/// For people.
fn people() -> Vec<Role> {
    vec![
  aggregate("admin", "admin"),
  role("cluster-admin", vec![
    on("*", "*", "*"),
    urls("*", "*"),
  ]),
  aggregate("edit", "edit").labelled("admin"),
  role("system:aggregate-to-admin", vec![
    on("authorization.k8s.io", "localsubjectaccessreviews", "create"),
    on("rbac.authorization.k8s.io", "rolebindings,roles", "create,delete,deletecollection,get,list,patch,update,watch"),
  ]).labelled("admin"),
  role("system:aggregate-to-edit", vec![
    on("", "pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy", "get,list,watch"),
    on("", "serviceaccounts", "impersonate"),
    on("", "pods,pods/attach,pods/exec,pods/portforward,pods/proxy", "create,delete,deletecollection,patch,update"),
    on("", "pods/eviction", "create"),
    on("", "configmaps,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,secrets,serviceaccounts,services,services/proxy", "create,delete,deletecollection,patch,update"),
    on("", "serviceaccounts/token", "create"),
    on(",events.k8s.io", "events", "create,delete,deletecollection,patch,update"),
    on("apps", "daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale,statefulsets,statefulsets/scale", "create,delete,deletecollection,patch,update"),
    on("autoscaling", "horizontalpodautoscalers", "create,delete,deletecollection,patch,update"),
    on("batch", "cronjobs,jobs", "create,delete,deletecollection,patch,update"),
    on("extensions", "daemonsets,deployments,deployments/rollback,deployments/scale,ingresses,networkpolicies,replicasets,replicasets/scale,replicationcontrollers/scale", "create,delete,deletecollection,patch,update"),
    on("policy", "poddisruptionbudgets", "create,delete,deletecollection,patch,update"),
    on("networking.k8s.io", "ingresses,networkpolicies", "create,delete,deletecollection,patch,update"),
    on("coordination.k8s.io", "leases", "create,delete,deletecollection,get,list,patch,update,watch"),
    on("resource.k8s.io", "resourceclaims,resourceclaimtemplates", "create,delete,deletecollection,patch,update"),
  ]).labelled("edit"),
  role("system:aggregate-to-view", vec![
    on("", "configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods,replicationcontrollers,replicationcontrollers/scale,serviceaccounts,services,services/status", "get,list,watch"),
    on("", "bindings,limitranges,namespaces/status,pods/log,pods/status,replicationcontrollers/status,resourcequotas,resourcequotas/status", "get,list,watch"),
    on("", "namespaces", "get,list,watch"),
    on(",events.k8s.io", "events", "get,list,watch"),
    on("discovery.k8s.io", "endpointslices", "get,list,watch"),
    on("apps", "controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,replicasets,replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,statefulsets/status", "get,list,watch"),
    on("autoscaling", "horizontalpodautoscalers,horizontalpodautoscalers/status", "get,list,watch"),
    on("batch", "cronjobs,cronjobs/status,jobs,jobs/status", "get,list,watch"),
    on("extensions", "daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,ingresses,ingresses/status,networkpolicies,replicasets,replicasets/scale,replicasets/status,replicationcontrollers/scale", "get,list,watch"),
    on("policy", "poddisruptionbudgets,poddisruptionbudgets/status", "get,list,watch"),
    on("networking.k8s.io", "ingresses,ingresses/status,networkpolicies", "get,list,watch"),
    on("resource.k8s.io", "resourceclaims,resourceclaims/status,resourceclaimtemplates", "get,list,watch"),
  ]).labelled("view"),
  role("system:auth-delegator", vec![
    on("authentication.k8s.io", "tokenreviews", "create"),
    on("authorization.k8s.io", "subjectaccessreviews", "create"),
  ]),
  role("system:basic-user", vec![
    on("authorization.k8s.io", "selfsubjectaccessreviews,selfsubjectrulesreviews", "create"),
    on("authentication.k8s.io", "selfsubjectreviews", "create"),
  ]),
  role("system:discovery", vec![
    urls("/api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/", "get"),
  ]),
  role("system:monitoring", vec![
    urls("/flagz,/healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*,/statusz", "get"),
    on("", "nodes/metrics", "get"),
  ]),
  role("system:public-info-viewer", vec![
    urls("/healthz,/livez,/readyz,/version,/version/", "get"),
  ]),
  aggregate("view", "view").labelled("edit"),
    ]
}

/// For those who approve and ask for certificates.
fn certificates() -> Vec<Role> {
    vec![
        role(
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            vec![on(
                "certificates.k8s.io",
                "certificatesigningrequests/nodeclient",
                "create",
            )],
        ),
        role(
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            vec![on(
                "certificates.k8s.io",
                "certificatesigningrequests/selfnodeclient",
                "create",
            )],
        ),
        role(
            "system:certificates.k8s.io:kube-apiserver-client-approver",
            vec![named(
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/kube-apiserver-client",
                "approve",
            )],
        ),
        role(
            "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
            vec![named(
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/kube-apiserver-client-kubelet",
                "approve",
            )],
        ),
        role(
            "system:certificates.k8s.io:kubelet-serving-approver",
            vec![named(
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/kubelet-serving",
                "approve",
            )],
        ),
        role(
            "system:certificates.k8s.io:legacy-unknown-approver",
            vec![named(
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/legacy-unknown",
                "approve",
            )],
        ),
    ]
}

/// For components and add-ons.
fn components() -> Vec<Role> {
    vec![
        role(
            "system:heapster",
            vec![
                on("", "events,namespaces,nodes,pods", "get,list,watch"),
                on("extensions", "deployments", "get,list,watch"),
            ],
        ),
        role(
            "system:kube-aggregator",
            vec![on("", "endpoints,services", "get,list,watch")],
        ),
        role(
            "system:kube-controller-manager",
            vec![
                on(",events.k8s.io", "events", "create,patch,update"),
                on("coordination.k8s.io", "leases", "create"),
                named(
                    "coordination.k8s.io",
                    "leases",
                    "kube-controller-manager",
                    "get,update",
                ),
                on("", "secrets,serviceaccounts", "create"),
                on("", "secrets", "delete"),
                on("", "configmaps,namespaces,secrets,serviceaccounts", "get"),
                on("", "secrets,serviceaccounts", "update"),
                on("authentication.k8s.io", "tokenreviews", "create"),
                on("authorization.k8s.io", "subjectaccessreviews", "create"),
                on("*", "*", "list,watch"),
                on("", "serviceaccounts/token", "create"),
            ],
        ),
        role(
            "system:kube-dns",
            vec![on("", "endpoints,services", "list,watch")],
        ),
        role(
            "system:kube-scheduler",
            vec![
                on(",events.k8s.io", "events", "create,patch,update"),
                on("coordination.k8s.io", "leases", "create"),
                named(
                    "coordination.k8s.io",
                    "leases",
                    "kube-scheduler",
                    "get,list,update,watch",
                ),
                on(
                    "coordination.k8s.io",
                    "leasecandidates",
                    "create,delete,deletecollection,get,list,patch,update,watch",
                ),
                on("", "nodes", "get,list,watch"),
                on("", "pods", "delete,get,list,watch"),
                on("", "bindings,pods/binding", "create"),
                on("", "pods/status", "patch,update"),
                on("", "replicationcontrollers,services", "get,list,watch"),
                on("apps,extensions", "replicasets", "get,list,watch"),
                on("apps", "statefulsets", "get,list,watch"),
                on("policy", "poddisruptionbudgets", "get,list,watch"),
                on("", "persistentvolumeclaims,persistentvolumes", "get,list,watch"),
                on("authentication.k8s.io", "tokenreviews", "create"),
                on("authorization.k8s.io", "subjectaccessreviews", "create"),
                on("storage.k8s.io", "csinodes", "get,list,watch"),
                on("storage.k8s.io", "volumeattachments", "get,list,watch"),
                on("", "namespaces", "get,list,watch"),
                on("storage.k8s.io", "csidrivers", "get,list,watch"),
                on("storage.k8s.io", "csistoragecapacities", "get,list,watch"),
                on("resource.k8s.io", "deviceclasses", "get,list,watch"),
                on("resource.k8s.io", "resourceclaims", "get,list,patch,update,watch"),
                on(
                    "resource.k8s.io",
                    "resourceclaims/status",
                    "get,list,patch,update,watch",
                ),
                on("", "pods/finalizers", "update"),
                on("resource.k8s.io", "resourceslices", "get,list,watch"),
                on("resource.k8s.io", "resourceclaims", "create,delete"),
                on("resource.k8s.io", "resourceclaims/binding", "patch,update"),
            ],
        ),
        role(
            "system:kubelet-api-admin",
            vec![
                on("", "nodes", "get,list,watch"),
                on("", "nodes", "proxy"),
                on("", "nodes/log,nodes/metrics,nodes/proxy,nodes/stats", "*"),
                on("", "nodes/configz,nodes/healthz,nodes/pods", "*"),
            ],
        ),
        role(
            "system:node-bootstrapper",
            vec![on(
                "certificates.k8s.io",
                "certificatesigningrequests",
                "create,get,list,watch",
            )],
        ),
        role(
            "system:node-problem-detector",
            vec![
                on("", "nodes", "get"),
                on("", "nodes/status", "patch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:node-proxier",
            vec![
                on("", "endpoints,services", "list,watch"),
                on("", "nodes", "get,list,watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
                on("networking.k8s.io", "servicecidrs", "list,watch"),
                on("discovery.k8s.io", "endpointslices", "list,watch"),
            ],
        ),
        role(
            "system:persistent-volume-provisioner",
            vec![
                on("", "persistentvolumes", "create,delete,get,list,watch"),
                on("", "persistentvolumeclaims", "get,list,update,watch"),
                on("storage.k8s.io", "storageclasses", "get,list,watch"),
                on("", "events", "watch"),
                on(",events.k8s.io", "events", "create,patch,update"),
            ],
        ),
        role(
            "system:service-account-issuer-discovery",
            vec![urls(
                "/.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/",
                "get",
            )],
        ),
        role(
            "system:volume-scheduler",
            vec![
                on("", "persistentvolumes", "get,list,patch,update,watch"),
                on("storage.k8s.io", "storageclasses", "get,list,watch"),
                on("", "persistentvolumeclaims", "get,list,patch,update,watch"),
            ],
        ),
    ]
}
