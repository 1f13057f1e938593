//! Requests and limits as the kernel wants them: quality of service, shares and quotas, the out-of-memory score, and what a
//! pod asks for in all. Pure.

use crate::pods::{PodExt, is_sidecar};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use rutter_api::quantity::{Format, Quantity as Amount};
use rutter_proto::cri::LinuxContainerResources;
use std::collections::BTreeMap;

/// Resource names with their amounts.
pub(crate) type ResourceList = BTreeMap<String, Quantity>;

/// The amount in thousandths, rounded up; none for text that is no quantity.
pub(crate) fn milli(quantity: &Quantity) -> Option<i64> {
    quantity.0.parse::<Amount>().ok().map(|a| a.milli_value())
}

/// The amount in whole units, rounded up; none for text that is no quantity.
pub(crate) fn value(quantity: &Quantity) -> Option<i64> {
    quantity.0.parse::<Amount>().ok().map(|a| a.value())
}

/// Milli-units of a resource in a list.
pub(crate) fn milli_of(list: Option<&ResourceList>, name: &str) -> Option<i64> {
    list?.get(name).and_then(milli)
}

/// Units of a resource in a list.
pub(crate) fn value_of(list: Option<&ResourceList>, name: &str) -> Option<i64> {
    list?.get(name).and_then(value)
}

/// A quantity of whole units.
pub(crate) fn units(amount: i64) -> Quantity {
    Quantity(Amount::new(amount, Format::DecimalSi).to_string())
}

/// A quantity of milli-units.
pub(crate) fn millis(amount: i64) -> Quantity {
    Quantity(Amount::from_milli(amount, Format::DecimalSi).to_string())
}

/// A quantity of bytes, with binary suffixes.
pub(crate) fn bytes(amount: i64) -> Quantity {
    Quantity(Amount::bytes(amount).to_string())
}

const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const MIN_QUOTA_MICROS: i64 = 1000;

/// A pod's quality of service class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QosClass {
    /// Every container has equal requests and limits for CPU and memory.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// As the API writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

fn requests(c: &Container) -> Option<&ResourceList> {
    c.resources.as_ref().and_then(|r| r.requests.as_ref())
}

fn limits(c: &Container) -> Option<&ResourceList> {
    c.resources.as_ref().and_then(|r| r.limits.as_ref())
}

/// The class of a pod, the one its status says if any.
pub(crate) fn qos(pod: &Pod) -> QosClass {
    match pod.status().qos_class.as_deref() {
        Some("Guaranteed") => return QosClass::Guaranteed,
        Some("Burstable") => return QosClass::Burstable,
        Some("BestEffort") => return QosClass::BestEffort,
        _ => {}
    }
    let of = |r: Option<&ResourceRequirements>| {
        let amount = |list: Option<&ResourceList>, name| milli_of(list, name).filter(|a| *a > 0);
        let requests = r.and_then(|r| r.requests.as_ref());
        let limits = r.and_then(|r| r.limits.as_ref());
        let any = ["cpu", "memory"]
            .iter()
            .any(|n| amount(requests, n).is_some() || amount(limits, n).is_some());
        let guaranteed = ["cpu", "memory"].iter().all(|n| {
            let limit = amount(limits, n);
            limit.is_some() && amount(requests, n).is_none_or(|r| Some(r) == limit)
        });
        (any, guaranteed)
    };
    let classes: Vec<(bool, bool)> = match pod.spec().resources.as_ref() {
        Some(resources) if resources.requests.is_some() || resources.limits.is_some() => {
            vec![of(Some(resources))]
        }
        _ => pod
            .spec()
            .containers
            .iter()
            .chain(pod.init_containers())
            .map(|c| of(c.resources.as_ref()))
            .collect(),
    };
    if !classes.iter().any(|(any, _)| *any) {
        QosClass::BestEffort
    } else if classes.iter().all(|(_, guaranteed)| *guaranteed) {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

/// What a pod asks the node for, in milli-units (bytes for memory and the like in whole units times 1000 would overflow, so
/// only CPU is in milli-units).
fn total(pod: &Pod, pick: fn(&Container) -> Option<&ResourceList>) -> BTreeMap<String, i64> {
    let amounts = |c: &Container| -> BTreeMap<String, i64> {
        pick(c)
            .map(|list| {
                list.keys()
                    .filter_map(|n| amount(Some(list), n).map(|a| (n.clone(), a)))
                    .collect()
            })
            .unwrap_or_default()
    };
    let add = |to: &mut BTreeMap<String, i64>, more: &BTreeMap<String, i64>| {
        for (name, amount) in more {
            let entry = to.entry(name.clone()).or_default();
            *entry = entry.saturating_add(*amount);
        }
    };
    let max = |to: &mut BTreeMap<String, i64>, other: &BTreeMap<String, i64>| {
        for (name, amount) in other {
            let entry = to.entry(name.clone()).or_default();
            *entry = (*entry).max(*amount);
        }
    };
    let mut sum = BTreeMap::new();
    for container in &pod.spec().containers {
        add(&mut sum, &amounts(container));
    }
    let mut sidecars = BTreeMap::new();
    let mut peak = BTreeMap::new();
    for container in pod.init_containers() {
        let own = amounts(container);
        if is_sidecar(container) {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            max(&mut peak, &sidecars.clone());
        } else {
            let mut with = sidecars.clone();
            add(&mut with, &own);
            max(&mut peak, &with);
        }
    }
    max(&mut sum, &peak);
    sum
}

/// CPU in milli-units, everything else in whole units.
pub(crate) fn amount(list: Option<&ResourceList>, name: &str) -> Option<i64> {
    if name == "cpu" {
        milli_of(list, name)
    } else {
        value_of(list, name)
    }
}

/// What a pod requests in all: CPU in milli-units, everything else in whole units.
pub(crate) fn pod_requests(pod: &Pod) -> BTreeMap<String, i64> {
    let mut out = total(pod, requests);
    overlay_pod_level(pod, &mut out, |r| r.requests.as_ref());
    if let Some(overhead) = &pod.spec().overhead {
        for name in overhead.keys() {
            if let Some(more) = amount(Some(overhead), name) {
                *out.entry(name.clone()).or_default() += more;
            }
        }
    }
    out
}

/// What a pod is limited to in all.
pub(crate) fn pod_limits(pod: &Pod) -> BTreeMap<String, i64> {
    let mut out = total(pod, limits);
    overlay_pod_level(pod, &mut out, |r| r.limits.as_ref());
    out
}

fn overlay_pod_level(
    pod: &Pod,
    out: &mut BTreeMap<String, i64>,
    pick: fn(&ResourceRequirements) -> Option<&ResourceList>,
) {
    if let Some(list) = pod.spec().resources.as_ref().and_then(pick) {
        for name in list.keys() {
            if let Some(own) = amount(Some(list), name) {
                out.insert(name.clone(), own);
            }
        }
    }
}

/// CPU shares for a request.
pub(crate) fn shares(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 {
        MIN_SHARES
    } else {
        (milli_cpu.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
    }
}

/// Microseconds of CPU time per period for a limit; zero means no limit.
pub(crate) fn quota(milli_cpu: i64, period_micros: i64) -> i64 {
    if milli_cpu == 0 {
        0
    } else {
        (milli_cpu.saturating_mul(period_micros) / 1000).max(MIN_QUOTA_MICROS)
    }
}

/// How the node wants limits applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitRules {
    /// Whether CPU limits are enforced.
    pub(crate) cpu_quota: bool,
    /// The period of CPU limits in microseconds.
    pub(crate) period_micros: i64,
    /// The node's memory in bytes.
    pub(crate) memory_capacity: i64,
    /// Whether this is cgroup v2.
    pub(crate) unified: bool,
    /// Whether the kernel may kill single processes of a container on cgroup v2.
    pub(crate) single_process_oom_kill: bool,
}

/// A container's limit: its own, or else the pod's; zero for none.
pub(crate) fn limits_of(
    pod: Option<&ResourceRequirements>,
    own: Option<&ResourceRequirements>,
    name: &str,
) -> i64 {
    let of = |r: Option<&ResourceRequirements>| amount(r.and_then(|r| r.limits.as_ref()), name);
    of(own).filter(|a| *a > 0).or_else(|| of(pod)).unwrap_or(0)
}

/// The kernel's settings for a container.
pub(crate) fn container_resources(
    pod: &Pod,
    container: &Container,
    rules: &LimitRules,
) -> LinuxContainerResources {
    let limit = |name| limits_of(pod.spec().resources.as_ref(), container.resources.as_ref(), name);
    let cpu_limit = limit("cpu");
    let cpu_request = milli_of(requests(container), "cpu").unwrap_or(cpu_limit);
    let mut out = LinuxContainerResources {
        cpu_shares: shares(cpu_request),
        memory_limit_in_bytes: limit("memory"),
        oom_score_adj: oom_score(pod, container, rules.memory_capacity),
        ..LinuxContainerResources::default()
    };
    if rules.cpu_quota {
        out.cpu_quota = quota(cpu_limit, rules.period_micros);
        out.cpu_period = rules.period_micros;
    }
    if rules.unified && !rules.single_process_oom_kill {
        out.unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    out
}

/// How ready the kernel is to kill the container when memory runs out.
pub(crate) fn oom_score(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    if pod.spec().priority.is_some_and(|p| p >= 2_000_001_000) {
        return -997;
    }
    match qos(pod) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = value_of(requests(container), "memory").unwrap_or(0);
            if memory_capacity <= 0 {
                return 999;
            }
            let share =
                i64::try_from(i128::from(request) * 1000 / i128::from(memory_capacity)).unwrap_or(1000);
            (1000 - share).clamp(3, 999)
        }
    }
}

/// Settings of a pod's cgroup; none means untouched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CgroupSettings {
    pub(crate) cpu_shares: Option<i64>,
    pub(crate) cpu_quota: Option<i64>,
    pub(crate) cpu_period: Option<i64>,
    pub(crate) memory: Option<i64>,
    pub(crate) pids: Option<i64>,
}

/// The settings of a pod's cgroup.
pub(crate) fn pod_cgroup(pod: &Pod, rules: &LimitRules, pids: Option<i64>) -> CgroupSettings {
    let requests = pod_requests(pod);
    let limits_sum = pod_limits(pod);
    let own = pod.spec().resources.as_ref().and_then(|r| r.limits.as_ref());
    let declared = |name: &str| {
        amount(own, name).is_some_and(|a| a > 0)
            || pod
                .spec()
                .containers
                .iter()
                .chain(pod.init_containers())
                .all(|c| amount(limits(c), name).is_some_and(|a| a > 0))
    };
    let class = qos(pod);
    let mut out = CgroupSettings {
        pids,
        ..CgroupSettings::default()
    };
    out.cpu_shares = Some(match class {
        QosClass::BestEffort => MIN_SHARES,
        _ => shares(requests.get("cpu").copied().unwrap_or(0)),
    });
    if class != QosClass::BestEffort && declared("cpu") {
        let limit = limits_sum.get("cpu").copied().unwrap_or(0);
        out.cpu_quota = Some(if rules.cpu_quota {
            quota(limit, rules.period_micros)
        } else {
            -1
        });
        out.cpu_period = Some(rules.period_micros);
    }
    if class != QosClass::BestEffort && declared("memory") {
        out.memory = limits_sum.get("memory").copied();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": containers}})).expect("a pod")
    }

    #[test]
    fn the_quality_of_service_follows_requests_and_limits() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, class) in [
            (json!({}), QosClass::BestEffort),
            (json!({"requests": {"cpu": "1"}}), QosClass::Burstable),
            (json!({"limits": both, "requests": both}), QosClass::Guaranteed),
            (json!({"limits": both}), QosClass::Guaranteed),
            (
                json!({"limits": both, "requests": {"cpu": "500m", "memory": "1Gi"}}),
                QosClass::Burstable,
            ),
            (
                json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}),
                QosClass::Burstable,
            ),
        ] {
            let pod = pod(json!([{"name": "a", "resources": resources}]));
            assert_eq!(qos(&pod), class, "{resources}");
        }
    }

    #[test]
    fn shares_and_quotas_have_the_kernels_bounds() {
        assert_eq!(
            [0, 1, 100, 1000, 1_000_000].map(shares),
            [2, 2, 102, 1024, 262_144]
        );
        assert_eq!(
            [0, 5, 500, 2000].map(|m| quota(m, 100_000)),
            [0, 1000, 50_000, 200_000]
        );
    }

    #[test]
    fn a_pod_asks_for_its_sidecars_and_its_largest_init_container() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "initContainers": [
                {"name": "sidecar", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "big", "resources": {"requests": {"cpu": "2"}}}
            ],
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}],
            "overhead": {"cpu": "10m"}
        }}))
        .expect("a pod");
        let requests = pod_requests(&pod);
        assert_eq!(requests.get("cpu"), Some(&2110));
        assert_eq!(requests.get("memory"), Some(&(1 << 30)));
    }
}
