//! What an autoscaler does about its target now. Pure: everything that was measured is given, failures included.

use super::replicas::{self, PodTarget, Samples, Tolerances, Warmup, milli};
use super::scaling::{Bounds, History};
use crate::common::time::time;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricIdentifier, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus,
    ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use rutter_api::quantity::{self, Format};
use std::sync::Arc;

/// The flags that decide.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `--horizontal-pod-autoscaler-tolerance`
    pub tolerance: f64,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`
    pub window: SignedDuration,
    /// When CPU samples of starting pods count.
    pub warmup: Warmup,
}

/// What was measured for one metric.
#[derive(Clone, Debug)]
pub enum Measured {
    /// Of each pod.
    Pods(Samples),
    /// One value, in thousandths.
    Value(i64),
}

/// All that a decision needs.
pub struct Observed<'a> {
    /// The autoscaler.
    pub autoscaler: &'a HorizontalPodAutoscaler,
    /// Its target.
    pub scale: &'a Scale,
    /// The target's pods.
    pub pods: &'a [Arc<Pod>],
    /// For each metric of the specification what was measured, or why nothing was.
    pub measured: &'a [Result<Measured, String>],
}

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// The new size and the reason, when the target is to change.
    pub rescale: Option<(i32, String)>,
    /// The new status.
    pub status: HorizontalPodAutoscalerStatus,
    /// Warnings: reason and message.
    pub events: Vec<(&'static str, String)>,
}

/// What one metric proposes.
struct Proposal {
    replicas: i32,
    name: String,
    status: MetricStatus,
}

/// The metrics of an autoscaler.
pub fn metrics(autoscaler: &HorizontalPodAutoscaler) -> &[MetricSpec] {
    autoscaler.spec.metrics.as_deref().unwrap_or_default()
}

/// Sets a condition; its time changes only with its status.
pub fn set_condition(
    status: &mut HorizontalPodAutoscalerStatus,
    kind: &str,
    on: bool,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) {
    let value = if on { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let mut condition = HorizontalPodAutoscalerCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.into()),
        last_transition_time: Some(time(now)),
    };
    match conditions.iter_mut().find(|c| c.type_ == kind) {
        Some(known) => {
            if known.status == value && known.last_transition_time.is_some() {
                condition.last_transition_time = known.last_transition_time.take();
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
}

/// Decides, and remembers in the history what was recommended.
pub fn plan(observed: &Observed<'_>, history: &mut History, settings: Settings, now: Timestamp) -> Plan {
    let autoscaler = observed.autoscaler;
    let mut plan = Plan {
        rescale: None,
        status: autoscaler.status.clone().unwrap_or_default(),
        events: Vec::new(),
    };
    let spec = &autoscaler.spec;
    let current = observed.scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
    let got = "the HPA controller was able to get the target's current scale";
    set_condition(
        &mut plan.status,
        "AbleToScale",
        true,
        "SucceededGetScale",
        got,
        now,
    );
    history.start(current, now);
    let min = spec.min_replicas.unwrap_or(1);
    let (mut desired, mut statuses) = (current, Vec::new());
    let mut reason = String::new();
    if current == 0 && min != 0 {
        let off = "scaling is disabled since the replica count of the target is zero";
        set_condition(
            &mut plan.status,
            "ScalingActive",
            false,
            "ScalingDisabled",
            off,
            now,
        );
    } else if current > spec.max_replicas {
        (desired, reason) = (
            spec.max_replicas,
            "Current number of replicas above Spec.MaxReplicas".to_owned(),
        );
    } else if current < min {
        (desired, reason) = (
            min,
            "Current number of replicas below Spec.MinReplicas".to_owned(),
        );
    } else {
        let proposed = propose(observed, settings, current, &mut plan, now);
        statuses = proposed.1;
        let Some((replicas, metric)) = proposed.0 else {
            plan.status.current_replicas = Some(current);
            plan.status.current_metrics = Some(statuses);
            return plan;
        };
        if replicas > current {
            reason = format!("{metric} above target");
        } else if replicas < current {
            reason = "All metrics below target".to_owned();
        }
        let bounds = Bounds {
            min,
            max: spec.max_replicas,
            window: settings.window,
        };
        let allowed = history.allow(spec.behavior.as_ref(), current, replicas, bounds, now);
        let (able, limit) = (allowed.able, allowed.limit);
        set_condition(&mut plan.status, "AbleToScale", true, able.0, able.1, now);
        set_condition(
            &mut plan.status,
            "ScalingLimited",
            allowed.limited,
            limit.0,
            limit.1,
            now,
        );
        desired = allowed.replicas;
    }
    plan.status.current_replicas = Some(current);
    plan.status.desired_replicas = desired;
    plan.status.current_metrics = Some(statuses);
    plan.rescale = (desired != current).then_some((desired, reason));
    plan
}

type Proposed = (Option<(i32, String)>, Vec<MetricStatus>);

/// The highest proposal of all metrics. None when no metric says anything, or when some don't and the others would shrink the target.
fn propose(
    observed: &Observed<'_>,
    settings: Settings,
    current: i32,
    plan: &mut Plan,
    now: Timestamp,
) -> Proposed {
    let specs = metrics(observed.autoscaler);
    let (mut best, mut statuses) = (None::<(i32, String)>, Vec::new());
    let mut failures: Vec<(&'static str, String, String)> = Vec::new();
    for (spec, measured) in specs.iter().zip(observed.measured) {
        match of_metric(spec, measured, observed, settings, now) {
            Ok(proposal) => {
                statuses.push(proposal.status);
                if best
                    .as_ref()
                    .is_none_or(|(replicas, _)| proposal.replicas > *replicas)
                {
                    best = Some((proposal.replicas, proposal.name));
                }
            }
            Err((inner, outer)) => {
                plan.events.push((failed(spec), inner.clone()));
                failures.push((failed(spec), inner, outer));
            }
        }
    }
    let shrinks = best.as_ref().is_none_or(|(replicas, _)| *replicas < current);
    if let Some((reason, inner, outer)) = failures.first()
        && (failures.len() == specs.len() || shrinks)
    {
        let message = format!("the HPA was unable to compute the replica count: {inner}");
        set_condition(&mut plan.status, "ScalingActive", false, reason, message, now);
        let (count, of) = (failures.len(), specs.len());
        let text = format!("invalid metrics ({count} invalid out of {of}), first error is: {outer}");
        plan.events.push(("FailedComputeMetricsReplicas", text));
        return (None, statuses);
    }
    if let Some((_, metric)) = &best {
        let found = format!("the HPA was able to successfully calculate a replica count from {metric}");
        set_condition(
            &mut plan.status,
            "ScalingActive",
            true,
            "ValidMetricFound",
            found,
            now,
        );
    }
    (best, statuses)
}

/// The reason of a metric's failure.
fn failed(spec: &MetricSpec) -> &'static str {
    match spec.type_.as_str() {
        "Object" => "FailedGetObjectMetric",
        "Pods" => "FailedGetPodsMetric",
        "Resource" => "FailedGetResourceMetric",
        "ContainerResource" => "FailedGetContainerResourceMetric",
        "External" => "FailedGetExternalMetric",
        _ => "InvalidMetricSourceType",
    }
}

fn tolerances(autoscaler: &HorizontalPodAutoscaler, settings: Settings) -> Tolerances {
    let behavior = autoscaler.spec.behavior.as_ref();
    let own = |quantity: Option<&Quantity>| {
        quantity
            .and_then(|quantity| quantity.0.parse::<rutter_api::Quantity>().ok())
            .map_or(settings.tolerance, |quantity| quantity.as_f64())
    };
    let rules = |up: bool| {
        behavior.and_then(|b| {
            if up {
                b.scale_up.as_ref()
            } else {
                b.scale_down.as_ref()
            }
        })
    };
    Tolerances {
        up: own(rules(true).and_then(|rules| rules.tolerance.as_ref())),
        down: own(rules(false).and_then(|rules| rules.tolerance.as_ref())),
    }
}

/// What one metric proposes; otherwise the cause, and the cause as the summary tells it.
fn of_metric(
    spec: &MetricSpec,
    measured: &Result<Measured, String>,
    observed: &Observed<'_>,
    settings: Settings,
    now: Timestamp,
) -> Result<Proposal, (String, String)> {
    let (inner, outer) = match (
        &spec.resource,
        &spec.container_resource,
        &spec.pods,
        &spec.object,
        &spec.external,
    ) {
        (Some(source), ..) => (
            of_resource(
                &source.name,
                None,
                &source.target,
                measured,
                observed,
                settings,
                now,
            ),
            format!("failed to get {} resource metric value", source.name),
        ),
        (_, Some(source), ..) => (
            of_resource(
                &source.name,
                Some(&source.container),
                &source.target,
                measured,
                observed,
                settings,
                now,
            ),
            format!("failed to get {} container metric value", source.container),
        ),
        (_, _, Some(source), ..) => (
            of_pods(&source.metric, &source.target, measured, observed, settings),
            "failed to get pods metric value".to_owned(),
        ),
        (_, _, _, Some(source), _) => {
            let value = one_value(
                "object",
                &source.metric,
                &source.target,
                measured,
                observed,
                settings,
            );
            let proposal = value.map(|(replicas, current)| Proposal {
                replicas,
                name: format!("{} metric {}", source.described_object.kind, source.metric.name),
                status: MetricStatus {
                    type_: "Object".to_owned(),
                    object: Some(ObjectMetricStatus {
                        current,
                        described_object: source.described_object.clone(),
                        metric: source.metric.clone(),
                    }),
                    ..MetricStatus::default()
                },
            });
            (proposal, "failed to get object metric value".to_owned())
        }
        (.., Some(source)) => {
            let value = one_value(
                "external",
                &source.metric,
                &source.target,
                measured,
                observed,
                settings,
            );
            let proposal = value.map(|(replicas, current)| Proposal {
                replicas,
                name: format!("external metric {}", source.metric.name),
                status: MetricStatus {
                    type_: "External".to_owned(),
                    external: Some(ExternalMetricStatus {
                        current,
                        metric: source.metric.clone(),
                    }),
                    ..MetricStatus::default()
                },
            });
            (
                proposal,
                format!("failed to get {} external metric value", source.metric.name),
            )
        }
        _ => {
            let text = format!("unknown metric source type {:?}", spec.type_);
            return Err((text.clone(), text));
        }
    };
    inner.map_err(|text| {
        let outer = format!("{outer}: {text}");
        (text, outer)
    })
}

fn of_resource(
    resource: &str,
    container: Option<&str>,
    target: &MetricTarget,
    measured: &Result<Measured, String>,
    observed: &Observed<'_>,
    settings: Settings,
    now: Timestamp,
) -> Result<Proposal, String> {
    let (wanted, what, name) = match (&target.average_value, target.average_utilization) {
        (Some(value), _) => (
            PodTarget::Average(milli(&value.0).unwrap_or_default().max(1)),
            "usage",
            format!("{resource} resource"),
        ),
        (None, Some(percent)) => (
            PodTarget::Utilization {
                percent,
                resource,
                container,
            },
            "utilization",
            match container {
                None => format!("{resource} resource utilization (percentage of request)"),
                Some(_) => format!("{resource} container resource utilization (percentage of request)"),
            },
        ),
        _ => {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".to_owned());
        }
    };
    let fail = |text: &str| format!("failed to get {resource} {what}: {text}");
    let samples = match measured {
        Ok(Measured::Pods(samples)) => samples.clone(),
        Ok(Measured::Value(_)) => return Err(fail("the metric has one value for all pods")),
        Err(text) => return Err(fail(text)),
    };
    let doubt = (resource == "cpu").then_some((settings.warmup, now));
    let current = size(observed.scale);
    let tolerances = tolerances(observed.autoscaler, settings);
    let got = replicas::of_pods(current, observed.pods, samples, wanted, tolerances, doubt)
        .map_err(|text| fail(&text))?;
    let format = if resource == "memory" {
        Format::BinarySi
    } else {
        Format::DecimalSi
    };
    let value = MetricValueStatus {
        average_utilization: got.percent,
        average_value: Some(of_milli(got.average, format)),
        value: None,
    };
    let mut status = MetricStatus::default();
    match container {
        None => {
            status.type_ = "Resource".to_owned();
            status.resource = Some(ResourceMetricStatus {
                current: value,
                name: resource.to_owned(),
            });
        }
        Some(container) => {
            status.type_ = "ContainerResource".to_owned();
            status.container_resource = Some(ContainerResourceMetricStatus {
                container: container.to_owned(),
                current: value,
                name: resource.to_owned(),
            });
        }
    }
    Ok(Proposal {
        replicas: got.replicas,
        name,
        status,
    })
}

fn of_pods(
    metric: &MetricIdentifier,
    target: &MetricTarget,
    measured: &Result<Measured, String>,
    observed: &Observed<'_>,
    settings: Settings,
) -> Result<Proposal, String> {
    let samples = match measured {
        Ok(Measured::Pods(samples)) => samples.clone(),
        Ok(Measured::Value(_)) => return Err(format!("metric {} has one value for all pods", metric.name)),
        Err(text) => return Err(format!("unable to get metric {}: {text}", metric.name)),
    };
    let average = target
        .average_value
        .as_ref()
        .and_then(|q| milli(&q.0))
        .unwrap_or_default()
        .max(1);
    let got = replicas::of_pods(
        size(observed.scale),
        observed.pods,
        samples,
        PodTarget::Average(average),
        tolerances(observed.autoscaler, settings),
        None,
    )?;
    Ok(Proposal {
        replicas: got.replicas,
        name: format!("pods metric {}", metric.name),
        status: MetricStatus {
            type_: "Pods".to_owned(),
            pods: Some(PodsMetricStatus {
                current: MetricValueStatus {
                    average_value: Some(of_milli(got.average, Format::DecimalSi)),
                    ..MetricValueStatus::default()
                },
                metric: metric.clone(),
            }),
            ..MetricStatus::default()
        },
    })
}

/// Replicas for a metric with one value for all, and the value as the status shows it.
fn one_value(
    kind: &str,
    metric: &MetricIdentifier,
    target: &MetricTarget,
    measured: &Result<Measured, String>,
    observed: &Observed<'_>,
    settings: Settings,
) -> Result<(i32, MetricValueStatus), String> {
    let usage = match measured {
        Ok(Measured::Value(milli)) => *milli,
        Ok(Measured::Pods(_)) => return Err(format!("metric {} has a value for each pod", metric.name)),
        Err(text) => return Err(format!("unable to get {kind} metric {}: {text}", metric.name)),
    };
    let tolerances = tolerances(observed.autoscaler, settings);
    let goal = |quantity: &Quantity| milli(&quantity.0).unwrap_or_default().max(1);
    if let Some(share) = &target.average_value {
        let replicas = observed.scale.status.as_ref().map_or(0, |status| status.replicas);
        let (replicas, average) = replicas::of_share(replicas, usage, goal(share), tolerances);
        let current = MetricValueStatus {
            average_value: Some(of_milli(average, Format::DecimalSi)),
            ..MetricValueStatus::default()
        };
        return Ok((replicas, current));
    }
    let Some(value) = &target.value else {
        return Err(format!(
            "invalid {kind} metric source: neither a value target nor an average value target was set"
        ));
    };
    let replicas = replicas::of_value(
        size(observed.scale),
        observed.pods,
        usage,
        goal(value),
        tolerances,
    )?;
    let current = MetricValueStatus {
        value: Some(of_milli(usage, Format::DecimalSi)),
        ..MetricValueStatus::default()
    };
    Ok((replicas, current))
}

fn size(scale: &Scale) -> i32 {
    scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
}

fn of_milli(value: i64, format: Format) -> Quantity {
    Quantity(quantity::Quantity::from_milli(value, format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-01-01T01:00:00Z";

    fn settings() -> Settings {
        Settings {
            tolerance: 0.1,
            window: SignedDuration::from_mins(5),
            warmup: Warmup {
                cpu_initialization: SignedDuration::from_mins(5),
                readiness_delay: SignedDuration::from_secs(30),
            },
        }
    }

    fn decide(spec: serde_json::Value, replicas: i32, measured: &[Result<Measured, String>]) -> Plan {
        let autoscaler: HorizontalPodAutoscaler =
            serde_json::from_value(json!({"metadata": {"name": "h"}, "spec": spec})).unwrap();
        let scale: Scale = serde_json::from_value(
            json!({"spec": {"replicas": replicas}, "status": {"replicas": replicas, "selector": "a=b"}}),
        )
        .unwrap();
        let observed = Observed {
            autoscaler: &autoscaler,
            scale: &scale,
            pods: &[],
            measured,
        };
        plan(
            &observed,
            &mut History::default(),
            settings(),
            NOW.parse().unwrap(),
        )
    }

    fn external(min: i32) -> serde_json::Value {
        json!({"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": min, "maxReplicas": 10, "metrics": [
            {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}}]})
    }

    fn conditions(plan: &Plan) -> Vec<String> {
        let conditions = plan.status.conditions.iter().flatten();
        conditions
            .map(|c| {
                format!(
                    "{}={} {}",
                    c.type_,
                    c.status,
                    c.reason.as_deref().unwrap_or_default()
                )
            })
            .collect()
    }

    #[test]
    fn bounds_come_first_then_metrics() {
        let value = |milli| [Ok(Measured::Value(milli))];
        for (min, replicas, measured, want, why) in [
            (1, 0, value(0), None, "ScalingActive=False ScalingDisabled"),
            (
                1,
                12,
                value(0),
                Some((10, "Current number of replicas above Spec.MaxReplicas")),
                "",
            ),
            (
                2,
                1,
                value(0),
                Some((2, "Current number of replicas below Spec.MinReplicas")),
                "",
            ),
            (
                1,
                2,
                value(40_000),
                Some((4, "external metric queue above target")),
                "ScalingLimited=False DesiredWithinRange",
            ),
            (
                1,
                2,
                value(400_000),
                Some((4, "external metric queue above target")),
                "ScalingLimited=True ScaleUpLimit",
            ),
            (1, 2, value(21_000), None, "AbleToScale=True ReadyForNewScale"),
            (1, 2, value(1_000), None, "AbleToScale=True ScaleDownStabilized"),
        ] {
            let plan = decide(external(min), replicas, &measured);
            let want = want.map(|(size, reason)| (size, reason.to_owned()));
            assert_eq!(plan.rescale, want, "{replicas} replicas, {measured:?}");
            let found = conditions(&plan);
            assert!(why.is_empty() || found.iter().any(|c| c == why), "{found:?}");
        }
    }

    #[test]
    fn a_metric_that_is_not_to_be_had_stops_scaling_and_says_so() {
        let plan = decide(
            external(1),
            3,
            &[Err("no metrics returned from external metrics API".to_owned())],
        );
        assert!(plan.rescale.is_none());
        assert_eq!(
            conditions(&plan),
            [
                "AbleToScale=True SucceededGetScale",
                "ScalingActive=False FailedGetExternalMetric"
            ]
        );
        let reasons: Vec<_> = plan.events.iter().map(|(reason, _)| *reason).collect();
        assert_eq!(
            reasons,
            ["FailedGetExternalMetric", "FailedComputeMetricsReplicas"]
        );
    }

    #[test]
    fn conditions_keep_their_order_and_their_times() {
        let mut status = HorizontalPodAutoscalerStatus::default();
        let now = NOW.parse().unwrap();
        for kind in ["A", "B", "C", "D"] {
            set_condition(&mut status, kind, true, "x", "", now);
        }
        let later = now + SignedDuration::from_secs(1);
        set_condition(&mut status, "B", true, "y", "", later);
        set_condition(&mut status, "C", false, "z", "", later);
        let list = status.conditions.unwrap();
        let kinds: Vec<_> = list.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(kinds, ["A", "B", "C", "D"]);
        let changed: Vec<_> = list
            .iter()
            .map(|c| c.last_transition_time.as_ref().unwrap().0 == later)
            .collect();
        assert_eq!(changed, [false, false, true, false]);
    }
}
