//! Old manifests and what becomes of them.

use super::*;
use rutter_api::codec::yaml::parse_text;

fn run(old: &str) -> (String, Vec<String>) {
    let done = convert(parse_text(old).unwrap(), None).unwrap();
    (
        crate::print::yaml::to_string(&done.object),
        done.notes.iter().map(|n| n.path.clone()).collect(),
    )
}

/// Old and new by field, and the paths that notes are about.
const TABLE: &[(&str, &str, &[&str])] = &[
    (
        "{apiVersion: extensions/v1beta1, kind: Ingress, metadata: {name: a}, spec: {backend: {serviceName: d, servicePort: 80}, rules: [{host: h, http: {paths: [{path: /x, backend: {serviceName: s, servicePort: web}}, {pathType: Prefix, backend: {serviceName: s, servicePort: '81'}}]}}, {host: bare}]}}",
        "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a}, spec: {defaultBackend: {service: {name: d, port: {number: 80}}}, rules: [{host: h, http: {paths: [{path: /x, pathType: ImplementationSpecific, backend: {service: {name: s, port: {name: web}}}}, {pathType: Prefix, backend: {service: {name: s, port: {number: 81}}}}]}}, {host: bare}]}}",
        &["spec.rules[0].http.paths[0].pathType"],
    ),
    (
        "{apiVersion: networking.k8s.io/v1beta1, kind: Ingress, spec: {backend: {resource: {kind: B, name: b}}}}",
        "{apiVersion: networking.k8s.io/v1, kind: Ingress, spec: {defaultBackend: {resource: {kind: B, name: b}}}}",
        &[],
    ),
    (
        "{apiVersion: extensions/v1beta1, kind: Deployment, spec: {rollbackTo: {revision: 1}, template: {metadata: {labels: {a: b}}, spec: {containers: []}}}}",
        "{apiVersion: apps/v1, kind: Deployment, spec: {selector: {matchLabels: {a: b}}, strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 1}}, revisionHistoryLimit: 2147483647, progressDeadlineSeconds: 2147483647, template: {metadata: {labels: {a: b}}, spec: {containers: []}}}}",
        &[
            "spec.selector",
            "spec.rollbackTo",
            "spec.strategy.rollingUpdate.maxSurge",
            "spec.strategy.rollingUpdate.maxUnavailable",
            "spec.revisionHistoryLimit",
            "spec.progressDeadlineSeconds",
        ],
    ),
    (
        "{apiVersion: apps/v1beta1, kind: Deployment, spec: {selector: {matchLabels: {a: b}}, strategy: {type: Recreate}}}",
        "{apiVersion: apps/v1, kind: Deployment, spec: {selector: {matchLabels: {a: b}}, strategy: {type: Recreate}, revisionHistoryLimit: 2}}",
        &["spec.revisionHistoryLimit"],
    ),
    (
        "{apiVersion: apps/v1beta2, kind: Deployment, spec: {selector: {matchLabels: {a: b}}}}",
        "{apiVersion: apps/v1, kind: Deployment, spec: {selector: {matchLabels: {a: b}}}}",
        &[],
    ),
    (
        "{apiVersion: extensions/v1beta1, kind: DaemonSet, spec: {templateGeneration: 3, template: {metadata: {labels: {a: b}}}}}",
        "{apiVersion: apps/v1, kind: DaemonSet, spec: {selector: {matchLabels: {a: b}}, updateStrategy: {type: OnDelete}, template: {metadata: {labels: {a: b}}}}}",
        &[
            "spec.selector",
            "spec.templateGeneration",
            "spec.updateStrategy.type",
        ],
    ),
    (
        "{apiVersion: apps/v1beta1, kind: StatefulSet, spec: {serviceName: s, template: {metadata: {labels: {a: b}}}}}",
        "{apiVersion: apps/v1, kind: StatefulSet, spec: {serviceName: s, selector: {matchLabels: {a: b}}, updateStrategy: {type: OnDelete}, template: {metadata: {labels: {a: b}}}}}",
        &["spec.selector", "spec.updateStrategy.type"],
    ),
    (
        "{apiVersion: extensions/v1beta1, kind: ReplicaSet, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {annotations: {seccomp.security.alpha.kubernetes.io/pod: runtime/default, container.apparmor.security.beta.kubernetes.io/c: localhost/p, scheduler.alpha.kubernetes.io/tolerations: '[{\"key\":\"k\"}]', keep: me}}, spec: {containers: [{name: c}], volumes: [{name: v, glusterfs: {path: p}}]}}}}",
        "{apiVersion: apps/v1, kind: ReplicaSet, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {annotations: {keep: me}}, spec: {securityContext: {seccompProfile: {type: RuntimeDefault}}, tolerations: [{key: k}], containers: [{name: c, securityContext: {appArmorProfile: {type: Localhost, localhostProfile: p}}}], volumes: [{name: v, glusterfs: {path: p}}]}}}}",
        &[
            "spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]",
            "spec.template.metadata.annotations[scheduler.alpha.kubernetes.io/tolerations]",
            "spec.template.metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]",
            "spec.template.spec.volumes[v].glusterfs",
        ],
    ),
    (
        "{apiVersion: extensions/v1beta1, kind: NetworkPolicy, spec: {podSelector: {}}}",
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, spec: {podSelector: {}}}",
        &[],
    ),
    (
        "{apiVersion: batch/v1beta1, kind: CronJob, spec: {schedule: '* * * * *', jobTemplate: {spec: {template: {spec: {restartPolicy: Never}}}}}}",
        "{apiVersion: batch/v1, kind: CronJob, spec: {schedule: '* * * * *', jobTemplate: {spec: {template: {spec: {restartPolicy: Never}}}}}}",
        &[],
    ),
    (
        "{apiVersion: policy/v1beta1, kind: PodDisruptionBudget, spec: {minAvailable: 1, selector: {}}}",
        "{apiVersion: policy/v1, kind: PodDisruptionBudget, spec: {minAvailable: 1, selector: {matchExpressions: [{key: pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match, operator: Exists}]}}}",
        &["spec.selector"],
    ),
    (
        "{apiVersion: autoscaling/v2beta1, kind: HorizontalPodAutoscaler, spec: {scaleTargetRef: {apiVersion: extensions/v1beta1, kind: Deployment, name: d}, metrics: [{type: Resource, resource: {name: cpu, targetAverageUtilization: 50}}, {type: Pods, pods: {metricName: m, selector: {matchLabels: {a: b}}, targetAverageValue: 1k}}, {type: Object, object: {target: {kind: Service, name: s}, metricName: q, targetValue: '5'}}, {type: External, external: {metricName: e, metricSelector: {matchLabels: {c: d}}, targetAverageValue: '2'}}]}}",
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}, {type: Pods, pods: {metric: {name: m, selector: {matchLabels: {a: b}}}, target: {type: AverageValue, averageValue: 1k}}}, {type: Object, object: {describedObject: {kind: Service, name: s}, metric: {name: q}, target: {type: Value, value: '5'}}}, {type: External, external: {metric: {name: e, selector: {matchLabels: {c: d}}}, target: {type: AverageValue, averageValue: '2'}}}]}}",
        &["spec.scaleTargetRef.apiVersion"],
    ),
    (
        "{apiVersion: autoscaling/v2beta2, kind: HorizontalPodAutoscaler, spec: {metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}}",
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, spec: {metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}}",
        &[],
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1alpha1, kind: ClusterRoleBinding, roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: User, apiVersion: rbac.authorization.k8s.io/v1alpha1, name: '*'}, {kind: ServiceAccount, name: s, namespace: n}]}",
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: r}, subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: 'system:authenticated'}, {kind: ServiceAccount, name: s, namespace: n}]}",
        &["subjects[0]"],
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1beta1, kind: Role, rules: [{apiGroups: [extensions], resources: [deployments], verbs: [get]}]}",
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, rules: [{apiGroups: [extensions], resources: [deployments], verbs: [get]}]}",
        &["rules[0].apiGroups"],
    ),
    (
        "{apiVersion: storage.k8s.io/v1beta1, kind: StorageClass, provisioner: p}",
        "{apiVersion: storage.k8s.io/v1, kind: StorageClass, provisioner: p}",
        &[],
    ),
    (
        "{apiVersion: apiextensions.k8s.io/v1beta1, kind: CustomResourceDefinition, spec: {group: g, version: v1, names: {plural: xs, kind: X}, subresources: {status: {}}, additionalPrinterColumns: [{name: n, type: string, JSONPath: .spec.n}], validation: {openAPIV3Schema: {properties: {spec: {properties: {port: {format: int-or-string}, list: {items: {type: string}}, any: {}}}}}}}}",
        "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, spec: {group: g, scope: Namespaced, names: {plural: xs, kind: X}, versions: [{name: v1, served: true, storage: true, subresources: {status: {}}, additionalPrinterColumns: [{name: n, type: string, jsonPath: .spec.n}], schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {spec: {type: object, properties: {port: {x-kubernetes-int-or-string: true}, list: {type: array, items: {type: string}}, any: {x-kubernetes-preserve-unknown-fields: true}}}}}}}]}}",
        &[
            "spec.versions[v1].schema.openAPIV3Schema.properties[spec].properties[any]",
            "spec.versions[v1].schema.openAPIV3Schema",
            "spec.scope",
        ],
    ),
    (
        "{apiVersion: apiextensions.k8s.io/v1beta1, kind: CustomResourceDefinition, spec: {scope: Cluster, preserveUnknownFields: false, versions: [{name: v1, schema: {openAPIV3Schema: {type: object}}}], conversion: {strategy: Webhook, webhookClientConfig: {url: u}}}}",
        "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, spec: {scope: Cluster, versions: [{name: v1, schema: {openAPIV3Schema: {type: object}}}], conversion: {strategy: Webhook, webhook: {clientConfig: {url: u}, conversionReviewVersions: [v1beta1]}}}}",
        &[],
    ),
    (
        "{apiVersion: admissionregistration.k8s.io/v1beta1, kind: ValidatingWebhookConfiguration, webhooks: [{name: w, failurePolicy: Fail, matchPolicy: Equivalent, timeoutSeconds: 5}]}",
        "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, webhooks: [{name: w, failurePolicy: Fail, matchPolicy: Equivalent, timeoutSeconds: 5, admissionReviewVersions: [v1beta1], sideEffects: None}]}",
        &["webhooks[w].admissionReviewVersions", "webhooks[w].sideEffects"],
    ),
    (
        "{apiVersion: scheduling.k8s.io/v1alpha1, kind: PriorityClass, value: 5}",
        "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, value: 5}",
        &[],
    ),
    (
        "{apiVersion: discovery.k8s.io/v1beta1, kind: EndpointSlice, addressType: IPv4, endpoints: [{addresses: [10.0.0.1], topology: {kubernetes.io/hostname: n, topology.kubernetes.io/zone: z, other: o}}]}",
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, endpoints: [{addresses: [10.0.0.1], nodeName: n, zone: z, deprecatedTopology: {other: o}}]}",
        &["endpoints[0].topology"],
    ),
    (
        "{apiVersion: events.k8s.io/v1beta1, kind: Event, eventTime: t, action: a, reason: r, reportingController: c, reportingInstance: i, series: {count: 2, state: Ongoing}}",
        "{apiVersion: events.k8s.io/v1, kind: Event, eventTime: t, action: a, reason: r, reportingController: c, reportingInstance: i, series: {count: 2}}",
        &["series.state"],
    ),
    (
        "{apiVersion: flowcontrol.apiserver.k8s.io/v1beta2, kind: PriorityLevelConfiguration, spec: {type: Limited, limited: {assuredConcurrencyShares: 20}}}",
        "{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: PriorityLevelConfiguration, spec: {type: Limited, limited: {nominalConcurrencyShares: 20}}}",
        &[],
    ),
    (
        "{apiVersion: flowcontrol.apiserver.k8s.io/v1beta3, kind: PriorityLevelConfiguration, spec: {limited: {nominalConcurrencyShares: 0}}}",
        "{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: PriorityLevelConfiguration, spec: {limited: {nominalConcurrencyShares: 30}}}",
        &["spec.limited.nominalConcurrencyShares"],
    ),
    (
        "{apiVersion: certificates.k8s.io/v1beta1, kind: CertificateSigningRequest, spec: {request: r}}",
        "{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, spec: {request: r, usages: [digital signature, key encipherment]}}",
        &["spec.signerName", "spec.usages"],
    ),
    (
        "{apiVersion: coordination.k8s.io/v1beta1, kind: Lease, spec: {holderIdentity: h}}",
        "{apiVersion: coordination.k8s.io/v1, kind: Lease, spec: {holderIdentity: h}}",
        &[],
    ),
    (
        "{apiVersion: node.k8s.io/v1alpha1, kind: RuntimeClass, spec: {runtimeHandler: runsc, scheduling: {nodeSelector: {a: b}}}}",
        "{apiVersion: node.k8s.io/v1, kind: RuntimeClass, handler: runsc, scheduling: {nodeSelector: {a: b}}}",
        &[],
    ),
    (
        "{apiVersion: authorization.k8s.io/v1beta1, kind: SubjectAccessReview, spec: {user: u, group: [g]}}",
        "{apiVersion: authorization.k8s.io/v1, kind: SubjectAccessReview, spec: {user: u, groups: [g]}}",
        &[],
    ),
    (
        "{apiVersion: v1, kind: Pod, spec: {}}",
        "{apiVersion: v1, kind: Pod, spec: {}}",
        &[],
    ),
];

#[test]
fn old_manifests_are_rewritten_field_by_field() {
    for (old, new, notes) in TABLE {
        let (got, paths) = run(old);
        assert_eq!(
            got,
            crate::print::yaml::to_string(&parse_text(new).unwrap()),
            "{old}"
        );
        assert_eq!(paths, *notes, "{old}");
        // What is converted stays as it is.
        assert_eq!(run(new).0, got, "{new}");
    }
}

#[test]
fn every_removed_kind_is_converted_or_refused() {
    for entry in removed::REMOVED {
        let version = format!("{}/{}", entry.group, entry.version);
        for kind in [entry.kind, "Other"].into_iter().filter(|k| !k.is_empty()) {
            if kind == "Other" && !entry.kind.is_empty() {
                continue;
            }
            let done = convert(json!({"apiVersion": version, "kind": kind}), None);
            match done {
                Ok(done) => assert_eq!(done.object["apiVersion"], entry.replacement, "{version} {kind}"),
                Err(why) => {
                    assert!(entry.replacement.is_empty(), "{version} {kind}: {why}");
                    assert!(why.contains("nothing replaces it"), "{why}");
                }
            }
        }
    }
}

#[test]
fn versions_that_an_object_cannot_have_are_refused() {
    let to = |old: &str, wanted: &str| convert(parse_text(old).unwrap(), Some(wanted));
    let cron = "{apiVersion: batch/v1beta1, kind: CronJob}";
    assert!(to(cron, "batch/v1").is_ok());
    assert_eq!(
        to(cron, "apps/v1").unwrap_err(),
        "CronJob in batch/v1beta1 can't be converted to apps/v1: its version is now batch/v1"
    );
    assert_eq!(
        to("{apiVersion: apps/v1, kind: Deployment}", "apps/v1beta1").unwrap_err(),
        "Deployment in apps/v1 can't be converted to apps/v1beta1: only versions that are no longer served are converted"
    );
    let old = "{apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler, spec: {targetCPUUtilizationPercentage: 70}}";
    assert_eq!(
        to(old, "autoscaling/v2").unwrap().object["spec"]["metrics"][0]["resource"]["target"],
        json!({"type": "Utilization", "averageUtilization": 70})
    );
}

#[test]
fn refusals_name_the_replacement_and_the_command() {
    assert_eq!(
        advice("extensions/v1beta1", "NetworkPolicy", "old.yaml").as_deref(),
        Some(
            "extensions/v1beta1 NetworkPolicy is not served since Kubernetes 1.16; use apiVersion: networking.k8s.io/v1\nto rewrite the manifest, run: rctl convert -f old.yaml"
        )
    );
    assert!(
        !advice("policy/v1beta1", "PodSecurityPolicy", "x")
            .unwrap()
            .contains("convert")
    );
    assert_eq!(advice("apps/v1", "Deployment", "x"), None);
}
