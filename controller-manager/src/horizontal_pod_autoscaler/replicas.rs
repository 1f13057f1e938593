//! How many replicas a metric asks for. Pure: samples, pods and targets in, a number out.
//!
//! Follows the algorithm of the Kubernetes document "Horizontal Pod Autoscaling": the ratio of usage to target, with pods that aren't ready and
//! pods without samples counted so that they damp a change and never turn it round. Amounts are in thousandths.

use crate::common::pods::{condition, is_ready, phase};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use rutter_api::quantity::Quantity;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was measured of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// In thousandths of the metric's unit.
    pub milli: i64,
    /// The end of the window.
    pub at: Timestamp,
    /// How long was measured.
    pub window: SignedDuration,
}

/// Samples by the pod's name.
pub type Samples = BTreeMap<String, Sample>;

/// How far usage may be from the target without a change, as fractions of it.
#[derive(Clone, Copy, Debug)]
pub struct Tolerances {
    /// Below.
    pub down: f64,
    /// Above.
    pub up: f64,
}

impl Tolerances {
    fn cover(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// When a starting pod's CPU samples count.
#[derive(Clone, Copy, Debug)]
pub struct Warmup {
    /// `--horizontal-pod-autoscaler-cpu-initialization-period`
    pub cpu_initialization: SignedDuration,
    /// `--horizontal-pod-autoscaler-initial-readiness-delay`
    pub readiness_delay: SignedDuration,
}

/// The target of a metric that is measured pod by pod.
#[derive(Clone, Copy, Debug)]
pub enum PodTarget<'a> {
    /// An average of so many thousandths a pod.
    Average(i64),
    /// So many percent of what the pods request of a resource.
    Utilization {
        /// Percent.
        percent: i32,
        /// The resource.
        resource: &'a str,
        /// The container, when it isn't the whole pod.
        container: Option<&'a str>,
    },
}

/// What a metric asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Replicas.
    pub replicas: i32,
    /// The average usage in thousandths.
    pub average: i64,
    /// The usage in percent of the requests; none unless the target is one.
    pub percent: Option<i32>,
}

/// Pods sorted by whether and how their samples count.
#[derive(Debug, Default, PartialEq, Eq)]
struct Groups<'a> {
    ready: usize,
    unready: BTreeSet<&'a str>,
    missing: BTreeSet<&'a str>,
    ignored: BTreeSet<&'a str>,
}

/// The replicas that a metric measured pod by pod asks for. `cpu` says whether samples of starting pods are to be doubted.
///
/// # Errors
/// When nothing can be said: no pods, no samples, or a container without a request. The text is for people.
pub fn of_pods(
    current: i32,
    pods: &[Arc<Pod>],
    mut samples: Samples,
    target: PodTarget<'_>,
    tolerances: Tolerances,
    doubt: Option<(Warmup, Timestamp)>,
) -> Result<Proposal, String> {
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let groups = group(pods, &samples, doubt);
    samples
        .retain(|name, _| !groups.ignored.contains(name.as_str()) && !groups.unready.contains(name.as_str()));
    if samples.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    let requests = match target {
        PodTarget::Average(_) => BTreeMap::new(),
        PodTarget::Utilization {
            resource, container, ..
        } => requests(pods, resource, container)?,
    };
    let (ratio, average, percent) = usage(&samples, &requests, target)?;
    let proposal = |replicas| Proposal {
        replicas,
        average,
        percent,
    };
    let unready_count = ratio > 1.0 && !groups.unready.is_empty();
    if !unready_count && groups.missing.is_empty() {
        let replicas = match tolerances.cover(ratio) {
            true => current,
            false => ceil(ratio * groups.ready as f64),
        };
        return Ok(proposal(replicas));
    }
    let mut suppose = |name: &str, milli: i64| {
        let sample = Sample {
            milli,
            at: Timestamp::UNIX_EPOCH,
            window: SignedDuration::ZERO,
        };
        samples.insert(name.to_owned(), sample);
    };
    for name in &groups.missing {
        if ratio > 1.0 {
            suppose(name, 0);
        } else if ratio < 1.0 {
            let full = match target {
                PodTarget::Average(milli) => milli,
                PodTarget::Utilization { percent, .. } => {
                    requests.get(*name).copied().unwrap_or_default() * i64::from(percent.max(100)) / 100
                }
            };
            suppose(name, full);
        }
    }
    if unready_count {
        groups.unready.iter().for_each(|name| suppose(name, 0));
    }
    let (again, ..) = usage(&samples, &requests, target)?;
    let turned = (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0);
    if tolerances.cover(again) || turned {
        return Ok(proposal(current));
    }
    let replicas = ceil(again * samples.len() as f64);
    let turned = (again < 1.0 && replicas > current) || (again > 1.0 && replicas < current);
    Ok(proposal(if turned { current } else { replicas }))
}

/// The replicas that one value for all pods asks for; `usage` and `target` in thousandths.
///
/// # Errors
/// When there are replicas and no pods to count.
pub fn of_value(
    current: i32,
    pods: &[Arc<Pod>],
    usage: i64,
    target: i64,
    tolerances: Tolerances,
) -> Result<i32, String> {
    let ratio = usage as f64 / target as f64;
    if current == 0 {
        return Ok(ceil(ratio));
    }
    if tolerances.cover(ratio) {
        return Ok(current);
    }
    if pods.is_empty() {
        return Err(
            "unable to calculate ready pods: no pods returned by selector while calculating replica count"
                .to_owned(),
        );
    }
    let ready = pods
        .iter()
        .filter(|pod| phase(pod) == "Running" && is_ready(pod))
        .count();
    Ok(ceil(ratio * ready as f64))
}

/// The replicas that one value, to be shared by all pods, asks for, and each pod's share in thousandths.
pub fn of_share(replicas: i32, usage: i64, share: i64, tolerances: Tolerances) -> (i32, i64) {
    let ratio = usage as f64 / (share as f64 * f64::from(replicas));
    let proposed = match tolerances.cover(ratio) {
        true => replicas,
        false => ceil(usage as f64 / share as f64),
    };
    // A float's cast saturates, also where nobody is there to share.
    (proposed, (usage as f64 / f64::from(replicas)).ceil() as i64)
}

/// Up to the next whole number, within what a number of replicas can be.
fn ceil(value: f64) -> i32 {
    value.ceil() as i32
}

fn group<'a>(pods: &'a [Arc<Pod>], samples: &Samples, doubt: Option<(Warmup, Timestamp)>) -> Groups<'a> {
    let mut groups = Groups::default();
    for pod in pods {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() || phase(pod) == "Failed" {
            groups.ignored.insert(name);
        } else if phase(pod) == "Pending" {
            groups.unready.insert(name);
        } else {
            match samples.get(name) {
                None => _ = groups.missing.insert(name),
                Some(sample)
                    if doubt.is_some_and(|(warmup, now)| is_warming_up(pod, sample, warmup, now)) =>
                {
                    groups.unready.insert(name);
                }
                Some(_) => groups.ready += 1,
            }
        }
    }
    groups
}

/// Whether a pod's CPU sample says more about its start than about its work.
fn is_warming_up(pod: &Pod, sample: &Sample, warmup: Warmup, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(ready), Some(started)) = (condition(pod, "Ready"), started) else {
        return true;
    };
    let changed = ready
        .last_transition_time
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let not_ready = ready.status == "False";
    if started.0.saturating_add(warmup.cpu_initialization).unwrap_or(now) > now {
        return not_ready || sample.at < changed.saturating_add(sample.window).unwrap_or(changed);
    }
    not_ready
        && started
            .0
            .saturating_add(warmup.readiness_delay)
            .unwrap_or(changed)
            > changed
}

/// Ratio of usage to target, average usage, and percent of requests.
fn usage(
    samples: &Samples,
    requests: &BTreeMap<&str, i64>,
    target: PodTarget<'_>,
) -> Result<(f64, i64, Option<i32>), String> {
    let percent = match target {
        PodTarget::Average(milli) => {
            let total: i64 = samples.values().map(|sample| sample.milli).sum();
            let average = total / samples.len().max(1) as i64;
            return Ok((average as f64 / milli as f64, average, None));
        }
        PodTarget::Utilization { percent, .. } => percent,
    };
    let (mut used, mut requested, mut count) = (0_i64, 0_i64, 0_i64);
    for (name, sample) in samples {
        if let Some(request) = requests.get(name.as_str()) {
            used = used.saturating_add(sample.milli);
            requested = requested.saturating_add(*request);
            count += 1;
        }
    }
    if requested == 0 {
        return Err("no metrics returned matched known pods".to_owned());
    }
    let current = i32::try_from(used.saturating_mul(100) / requested).unwrap_or(i32::MAX);
    Ok((
        f64::from(current) / f64::from(percent),
        used / count,
        Some(current),
    ))
}

fn requests<'a>(
    pods: &'a [Arc<Pod>],
    resource: &str,
    container: Option<&str>,
) -> Result<BTreeMap<&'a str, i64>, String> {
    let mut all = BTreeMap::new();
    for pod in pods {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        all.insert(name, request(pod, resource, container)?);
    }
    Ok(all)
}

/// What a pod requests in thousandths: as a whole where its specification says so, otherwise as the sum of the containers that run on.
fn request(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = &pod.spec else { return Ok(0) };
    if container.is_none()
        && let Some(whole) = spec.resources.as_ref().and_then(|r| r.requests.as_ref())
        && !whole.is_empty()
    {
        let found = whole.get(resource).and_then(|quantity| milli(&quantity.0));
        return found.ok_or_else(|| format!("missing pod-level request for {resource} in Pod {name}"));
    }
    let stays = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let running = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten().filter(stays));
    let mut total = 0_i64;
    for one in running.filter(|c| container.is_none_or(|wanted| c.name == wanted)) {
        let found = one
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref())
            .and_then(|requests| requests.get(resource))
            .and_then(|quantity| milli(&quantity.0));
        let missing = || {
            format!(
                "missing request for {resource} in container {} of Pod {name}",
                one.name
            )
        };
        total = total.saturating_add(found.ok_or_else(missing)?);
    }
    Ok(total)
}

/// A quantity in thousandths.
pub fn milli(text: &str) -> Option<i64> {
    text.parse::<Quantity>()
        .ok()
        .map(|quantity| quantity.milli_value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-01-01T01:00:00Z";

    fn pod(name: &str, phase: &str, ready: bool) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"containers": [
                    {"name": "a", "resources": {"requests": {"cpu": "1"}}},
                    {"name": "b", "resources": {"requests": {"cpu": "500m"}}},
                ]},
                "status": {"phase": phase, "startTime": "2026-01-01T00:00:00Z", "conditions": [
                    {"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": "2026-01-01T00:00:10Z"},
                ]},
            }))
            .unwrap(),
        )
    }

    fn samples(values: &[(&str, i64)]) -> Samples {
        let sample = |milli| Sample {
            milli,
            at: NOW.parse().unwrap(),
            window: SignedDuration::from_secs(60),
        };
        values
            .iter()
            .map(|(name, milli)| ((*name).to_owned(), sample(*milli)))
            .collect()
    }

    fn cpu(pods: &[Arc<Pod>], values: &[(&str, i64)], percent: i32) -> Result<Proposal, String> {
        let warmup = Warmup {
            cpu_initialization: SignedDuration::from_mins(5),
            readiness_delay: SignedDuration::from_secs(30),
        };
        let target = PodTarget::Utilization {
            percent,
            resource: "cpu",
            container: None,
        };
        let tolerances = Tolerances { down: 0.1, up: 0.1 };
        let doubt = Some((warmup, NOW.parse().unwrap()));
        of_pods(
            pods.len() as i32,
            pods,
            samples(values),
            target,
            tolerances,
            doubt,
        )
    }

    #[test]
    fn utilization_scales_both_ways_and_damps_by_pods_that_say_nothing() {
        let ready: Vec<_> = ["a", "b", "c"].map(|name| pod(name, "Running", true)).into();
        let mut pending = ready.clone();
        pending.push(pod("d", "Pending", false));
        for (pods, values, percent, want) in [
            // 1.5 CPU are requested of each.
            (&ready, vec![("a", 1500), ("b", 1500), ("c", 1500)], 50, Ok(6)),
            (&ready, vec![("a", 150), ("b", 150), ("c", 150)], 50, Ok(1)),
            (&ready, vec![("a", 780), ("b", 780), ("c", 780)], 50, Ok(3)),
            // Without a sample: nothing used on the way up, all on the way down.
            (&ready, vec![("a", 1500), ("b", 1500)], 50, Ok(4)),
            (&ready, vec![("a", 150), ("b", 150)], 50, Ok(3)),
            // Pending pods count as idle on the way up and not at all on the way down.
            (&pending, vec![("a", 1500), ("b", 1500), ("c", 1500)], 50, Ok(6)),
            (&pending, vec![("a", 150), ("b", 150), ("c", 150)], 50, Ok(1)),
            (
                &ready,
                vec![],
                50,
                Err("did not receive metrics for targeted pods (pods might be unready)"),
            ),
            (
                &vec![],
                vec![],
                50,
                Err("no pods returned by selector while calculating replica count"),
            ),
        ] {
            let got = cpu(pods, &values, percent).map(|proposal| proposal.replicas);
            assert_eq!(
                got,
                want.map_err(str::to_owned),
                "{values:?} of {} pods",
                pods.len()
            );
        }
    }

    #[test]
    fn a_pod_that_never_was_ready_is_not_asked() {
        let pods = [pod("a", "Running", true), pod("b", "Running", false)];
        let got = cpu(&pods, &[("a", 1500), ("b", 1500)], 50).unwrap();
        // a alone is at twice the target; with b counted as idle, both together are at it.
        assert_eq!((got.replicas, got.percent, got.average), (2, Some(100), 1500));
    }

    #[test]
    fn a_request_that_is_missing_is_named() {
        let target = PodTarget::Utilization {
            percent: 50,
            resource: "memory",
            container: Some("b"),
        };
        let tolerances = Tolerances { down: 0.1, up: 0.1 };
        let got = of_pods(
            1,
            &[pod("a", "Running", true)],
            samples(&[("a", 1)]),
            target,
            tolerances,
            None,
        );
        assert_eq!(
            got,
            Err("missing request for memory in container b of Pod a".to_owned())
        );
    }

    #[test]
    fn one_value_scales_by_ready_pods_and_a_share_by_all() {
        let pods = [pod("a", "Running", true), pod("b", "Running", false)];
        let tolerances = Tolerances { down: 0.1, up: 0.1 };
        assert_eq!(of_value(2, &pods, 4000, 1000, tolerances), Ok(4));
        assert_eq!(of_value(2, &pods, 1050, 1000, tolerances), Ok(2));
        assert_eq!(of_value(0, &[], 4000, 1000, tolerances), Ok(4));
        assert!(of_value(2, &[], 4000, 1000, tolerances).is_err());
        assert_eq!(of_share(2, 10_000, 1000, tolerances), (10, 5000));
        assert_eq!(of_share(2, 2_100, 1000, tolerances), (2, 1050));
    }
}
