//! Counts what a namespace uses of what a ResourceQuota limits.

use crate::common::owners::annotation;
use crate::common::pods::is_terminal;
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, Pod, ResourceQuota, ResourceRequirements, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use rutter_api::quantity::{Format, Quantity};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

const CLASS: &str = ".storageclass.storage.k8s.io/";

/// What is in the namespace.
#[derive(Default)]
pub struct Contents {
    /// Its pods.
    pub pods: Vec<Arc<Pod>>,
    /// Its Services.
    pub services: Vec<Arc<Service>>,
    /// Its claims.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// How many objects of other resources there are, by `resource.group`.
    pub counts: BTreeMap<String, i64>,
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

fn zero() -> Quantity {
    Quantity::new(0, Format::DecimalSi)
}

fn add(to: &mut Amounts, name: impl Into<String>, amount: Quantity) {
    let entry = to.entry(name.into()).or_insert_with(zero);
    // The format of what is counted, not that of the zero it began with.
    *entry = if entry.is_zero() { amount } else { *entry + amount };
}

/// The resources other than pods, Services and claims whose objects a quota counts.
pub fn other_counts(quota: &ResourceQuota) -> Vec<String> {
    let hard = quota.spec.iter().flat_map(|s| s.hard.iter().flatten());
    hard.filter_map(|(key, _)| match key.as_str() {
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => Some(key.clone()),
        _ => key
            .strip_prefix("count/")
            .filter(|r| !matches!(*r, "pods" | "services" | "persistentvolumeclaims"))
            .map(str::to_owned),
    })
    .collect()
}

fn amounts(requirements: Option<&ResourceRequirements>, limits: bool) -> Amounts {
    let Some(requirements) = requirements else {
        return Amounts::new();
    };
    let map = if limits {
        &requirements.limits
    } else {
        &requirements.requests
    };
    map.iter()
        .flatten()
        .filter_map(|(k, v)| Some((k.clone(), v.0.parse().ok()?)))
        .collect()
}

fn maximum(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = into.entry(name.clone()).or_insert(*amount);
        *entry = (*entry).max(*amount);
    }
}

fn sum(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        add(into, name.clone(), *amount);
    }
}

/// What a pod asks for, or may use at most: its containers together, or its greediest init container with the sidecars before it, and the overhead.
pub fn pod_amounts(pod: &Pod, limits: bool) -> Amounts {
    let Some(spec) = &pod.spec else {
        return Amounts::new();
    };
    let of = |c: &Container| amounts(c.resources.as_ref(), limits);
    let mut total = Amounts::new();
    spec.containers.iter().for_each(|c| sum(&mut total, &of(c)));
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            sum(&mut sidecars, &of(container));
            maximum(&mut starting, &sidecars);
        } else {
            let mut together = of(container);
            sum(&mut together, &sidecars);
            maximum(&mut starting, &together);
        }
    }
    sum(&mut total, &sidecars);
    maximum(&mut total, &starting);
    maximum(&mut total, &amounts(spec.resources.as_ref(), limits));
    for (name, amount) in spec.overhead.iter().flatten() {
        if let Ok(amount) = amount.0.parse::<Quantity>()
            && (!limits || total.contains_key(name))
        {
            add(&mut total, name.clone(), amount);
        }
    }
    total
}

fn is_best_effort(pod: &Pod) -> bool {
    pod_amounts(pod, false)
        .values()
        .chain(pod_amounts(pod, true).values())
        .all(Quantity::is_zero)
}

fn crosses_namespaces(pod: &Pod) -> bool {
    let affinity = pod
        .spec
        .as_ref()
        .and_then(|s| s.affinity.as_ref())
        .map(crate::common::hash::canonical);
    affinity.is_some_and(|a| {
        ["podAffinity", "podAntiAffinity"]
            .iter()
            .any(|kind| a.get(kind).is_some_and(mentions_namespaces))
    })
}

fn mentions_namespaces(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(map) => {
            map.contains_key("namespaceSelector")
                || map.contains_key("namespaces")
                || map.values().any(mentions_namespaces)
        }
        serde_json::Value::Array(list) => list.iter().any(mentions_namespaces),
        _ => false,
    }
}

/// Whether a quota's scopes take a pod in.
fn in_scope(quota: &ResourceQuota, pod: &Pod) -> bool {
    let Some(spec) = &quota.spec else { return false };
    let terminating = pod
        .spec
        .as_ref()
        .and_then(|s| s.active_deadline_seconds)
        .is_some_and(|s| s >= 0);
    let class = pod
        .spec
        .as_ref()
        .and_then(|s| s.priority_class_name.clone())
        .unwrap_or_default();
    let fits = |scope: &str, operator: &str, values: &[String]| match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        "PriorityClass" => match operator {
            "In" => values.contains(&class),
            "NotIn" => !values.contains(&class),
            "DoesNotExist" => class.is_empty(),
            _ => !class.is_empty(),
        },
        _ => false,
    };
    let selected = spec
        .scope_selector
        .iter()
        .flat_map(|s| s.match_expressions.iter().flatten());
    spec.scopes.iter().flatten().all(|s| fits(s, "Exists", &[]))
        && selected.into_iter().all(|r| {
            fits(
                &r.scope_name,
                &r.operator,
                r.values.as_deref().unwrap_or_default(),
            )
        })
}

fn has_scopes(quota: &ResourceQuota) -> bool {
    quota
        .spec
        .as_ref()
        .is_some_and(|s| s.scopes.as_ref().is_some_and(|s| !s.is_empty()) || s.scope_selector.is_some())
}

fn count_pods(quota: &ResourceQuota, pods: &[Arc<Pod>], used: &mut Amounts) {
    let holds = |p: &&Arc<Pod>| !is_terminal(p) && in_scope(quota, p);
    for pod in pods.iter().filter(holds) {
        add(used, "pods", one());
        for (name, amount) in pod_amounts(pod, false) {
            if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
                || name.starts_with("hugepages-")
            {
                add(used, name.clone(), amount);
            }
            add(used, format!("requests.{name}"), amount);
        }
        for (name, amount) in pod_amounts(pod, true) {
            add(used, format!("limits.{name}"), amount);
        }
    }
    for _ in pods.iter().filter(|p| in_scope(quota, p)) {
        add(used, "count/pods", one());
    }
}

fn count_services(services: &[Arc<Service>], used: &mut Amounts) {
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let ports = i64::try_from(spec.ports.as_ref().map_or(0, Vec::len)).unwrap_or(0);
        for key in ["services", "count/services"] {
            add(used, key, one());
        }
        match spec.type_.as_deref() {
            Some("NodePort") => add(
                used,
                "services.nodeports",
                Quantity::new(ports, Format::DecimalSi),
            ),
            Some("LoadBalancer") => {
                add(used, "services.loadbalancers", one());
                let given = spec
                    .ports
                    .iter()
                    .flatten()
                    .filter(|p| p.node_port.is_some_and(|n| n > 0))
                    .count();
                let ports = if spec.allocate_load_balancer_node_ports == Some(false) {
                    i64::try_from(given).unwrap_or(0)
                } else {
                    ports
                };
                add(
                    used,
                    "services.nodeports",
                    Quantity::new(ports, Format::DecimalSi),
                );
            }
            _ => {}
        }
    }
}

fn count_claims(claims: &[Arc<PersistentVolumeClaim>], used: &mut Amounts) {
    for claim in claims {
        let spec = claim.spec.as_ref();
        let beta = annotation(&claim.metadata, "volume.beta.kubernetes.io/storage-class").map(str::to_owned);
        let class = beta
            .or_else(|| spec?.storage_class_name.clone())
            .filter(|c| !c.is_empty());
        let asked = spec.and_then(|s| {
            s.resources
                .as_ref()?
                .requests
                .as_ref()?
                .get("storage")?
                .0
                .parse::<Quantity>()
                .ok()
        });
        // While a claim grows, the larger of what it has been given and what it asks for counts.
        let given = claim.status.as_ref().and_then(|s| {
            s.allocated_resources
                .as_ref()?
                .get("storage")?
                .0
                .parse::<Quantity>()
                .ok()
        });
        let storage = asked.max(given).unwrap_or_else(zero);
        for key in ["persistentvolumeclaims", "count/persistentvolumeclaims"] {
            add(used, key, one());
        }
        add(used, "requests.storage", storage);
        if let Some(class) = class {
            add(used, format!("{class}{CLASS}persistentvolumeclaims"), one());
            add(used, format!("{class}{CLASS}requests.storage"), storage);
        }
    }
}

/// What is used of each limited resource.
pub fn usage(quota: &ResourceQuota, contents: &Contents) -> BTreeMap<String, Text> {
    let mut used = Amounts::new();
    count_pods(quota, &contents.pods, &mut used);
    if !has_scopes(quota) {
        count_services(&contents.services, &mut used);
        count_claims(&contents.claims, &mut used);
        for (resource, count) in &contents.counts {
            let count = Quantity::new(*count, Format::DecimalSi);
            add(&mut used, format!("count/{resource}"), count);
            add(&mut used, resource.clone(), count);
        }
    }
    let hard = quota.spec.iter().flat_map(|s| s.hard.iter().flatten());
    hard.map(|(key, _)| {
        (
            key.clone(),
            Text(used.get(key).copied().unwrap_or_else(zero).to_string()),
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(resources: Value, phase: &str, more: Value) -> Arc<Pod> {
        let mut spec = json!({"containers": [{"name": "c", "resources": resources}]});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": "p"}, "spec": spec, "status": {"phase": phase}}),
            )
            .unwrap(),
        )
    }

    fn quota(hard: &[&str], more: Value) -> ResourceQuota {
        let hard: BTreeMap<&str, &str> = hard.iter().map(|k| (*k, "10")).collect();
        let mut spec = json!({"hard": hard});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": spec})).unwrap()
    }

    fn used(quota: &ResourceQuota, contents: &Contents) -> Vec<(String, String)> {
        usage(quota, contents)
            .into_iter()
            .map(|(k, v)| (k, v.0))
            .collect()
    }

    fn pairs(want: &[(&str, &str)]) -> Vec<(String, String)> {
        want.iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn pods_that_have_not_ended_are_counted_with_what_they_ask_for() {
        let wants = || json!({"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "1"}});
        let init = json!({"initContainers": [{"name": "i", "resources": {"requests": {"cpu": "2"}}}]});
        let contents = Contents {
            pods: vec![
                pod(wants(), "Running", json!({})),
                pod(wants(), "Succeeded", json!({})),
                pod(wants(), "Pending", init),
            ],
            ..Contents::default()
        };
        let quota = quota(
            &[
                "pods",
                "count/pods",
                "requests.cpu",
                "memory",
                "limits.cpu",
                "requests.nvidia.com/gpu",
            ],
            json!({}),
        );
        let want = [
            ("count/pods", "3"),
            ("limits.cpu", "2"),
            ("memory", "2Gi"),
            ("pods", "2"),
            ("requests.cpu", "2250m"),
            ("requests.nvidia.com/gpu", "0"),
        ];
        assert_eq!(used(&quota, &contents), pairs(&want));
    }

    #[test]
    fn scopes_choose_pods_and_leave_the_rest_out() {
        let contents = Contents {
            pods: vec![
                pod(json!({}), "Running", json!({})),
                pod(
                    json!({"requests": {"cpu": "1"}}),
                    "Running",
                    json!({"activeDeadlineSeconds": 5, "priorityClassName": "high"}),
                ),
            ],
            services: vec![Arc::new(Service::default())],
            ..Contents::default()
        };
        let high = json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}});
        for (what, more, want) in [
            ("none", json!({}), "2"),
            ("best effort", json!({"scopes": ["BestEffort"]}), "1"),
            ("terminating", json!({"scopes": ["Terminating"]}), "1"),
            ("both", json!({"scopes": ["BestEffort", "Terminating"]}), "0"),
            ("a class", high, "1"),
        ] {
            assert_eq!(
                used(&quota(&["pods"], more), &contents),
                pairs(&[("pods", want)]),
                "{what}"
            );
        }
    }

    #[test]
    fn services_claims_and_other_objects_are_counted() {
        let service =
            |spec: Value| Arc::new(serde_json::from_value::<Service>(json!({"spec": spec})).unwrap());
        let claim =
            json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}}}});
        let contents = Contents {
            services: vec![
                service(json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]})),
                service(json!({"type": "LoadBalancer", "ports": [{"port": 1}]})),
            ],
            claims: vec![Arc::new(serde_json::from_value(claim).unwrap())],
            counts: [("secrets".to_owned(), 4), ("deployments.apps".to_owned(), 2)].into(),
            ..Contents::default()
        };
        let storage = "fast.storageclass.storage.k8s.io/requests.storage";
        let quota = quota(
            &[
                "services",
                "services.nodeports",
                "services.loadbalancers",
                storage,
                "secrets",
                "count/deployments.apps",
            ],
            json!({}),
        );
        let want = [
            ("count/deployments.apps", "2"),
            (storage, "5Gi"),
            ("secrets", "4"),
            ("services", "2"),
            ("services.loadbalancers", "1"),
            ("services.nodeports", "3"),
        ];
        assert_eq!(used(&quota, &contents), pairs(&want));
        assert_eq!(
            other_counts(&quota),
            ["count/deployments.apps".trim_start_matches("count/"), "secrets"]
        );
    }
}
