//! DefaultPreemption: makes room for a pod by sending pods of a lower priority away, as few and as unimportant ones as will do.

use super::args::PreemptionArgs;
use crate::framework::{
    Code, Context, CycleState, Diagnosis, Plugin, Point, Points, PostFilter, Profile, Rejection, Rng,
};
use crate::model::{Pod, Str};
use crate::snapshot::{Budget, NodeInfo};
use std::cmp::Reverse;
use std::sync::Arc;

/// See the module.
pub struct DefaultPreemption {
    args: PreemptionArgs,
}

/// What it would take to make room on a node.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The node.
    pub node: Str,
    /// Who has to go, the most important first.
    pub victims: Vec<Arc<Pod>>,
    /// How many of them a PodDisruptionBudget protects.
    pub violations: usize,
}

impl DefaultPreemption {
    /// From its arguments, which have been checked.
    pub fn new(args: PreemptionArgs) -> Self {
        Self { args }
    }

    fn candidates_wanted(&self, nodes: usize) -> usize {
        (nodes * self.args.min_candidate_nodes_percentage / 100)
            .max(self.args.min_candidate_nodes_absolute)
            .min(nodes)
    }
}

/// Why a pod may not send others away now.
fn ineligible(cx: Context<'_>, pod: &Pod, diagnosis: &Diagnosis) -> Option<&'static str> {
    if !pod.template.preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let info = cx.snapshot.node(pod.nominated.as_ref()?)?;
    if diagnosis
        .of(info.slot)
        .is_some_and(|r| r.code == Code::Unresolvable)
    {
        return None;
    }
    info.pods
        .iter()
        .any(|p| p.priority() < pod.priority() && p.preempted)
        .then_some("not eligible due to a terminating pod on the nominated node.")
}

/// Pods in the order of importance: a higher priority first, then who has run longer.
fn by_importance(pods: &mut [Arc<Pod>]) {
    pods.sort_by_key(|p| (Reverse(p.priority()), p.started.unwrap_or(i64::MAX)));
}

/// Splits pods into those whose going would break a budget, and the others.
pub fn split_by_budgets<'a>(
    pods: &[Arc<Pod>],
    budgets: impl Iterator<Item = &'a Budget>,
) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut left: Vec<(&Budget, i32)> = budgets.map(|b| (b, b.allowed)).collect();
    let (mut violating, mut other) = (Vec::new(), Vec::new());
    for pod in pods {
        let mut violates = false;
        for (budget, left) in &mut left {
            let protects = !pod.template.labels.is_empty()
                && budget.namespace == *pod.namespace()
                && !budget.selector.is_everything()
                && budget.selector.matches(&pod.template.labels)
                && !budget.disrupted.iter().any(|n| **n == *pod.name);
            if protects {
                *left -= 1;
                violates |= *left < 0;
            }
        }
        if violates { &mut violating } else { &mut other }.push(pod.clone());
    }
    (violating, other)
}

/// Who would have to go from a node for the pod to fit.
fn victims_on(
    cx: Context<'_>,
    profile: &Profile,
    state: &CycleState,
    pod: &Pod,
    info: &NodeInfo,
) -> Result<Candidate, Rejection> {
    let (mut state, mut node) = (state.copy_for_filter(), info.clone());
    let mut lower: Vec<Arc<Pod>> = info
        .pods
        .iter()
        .filter(|p| p.priority() < pod.priority())
        .cloned()
        .collect();
    if lower.is_empty() {
        return Err(Rejection::unresolvable(
            "No preemption victims found for incoming pod",
        ));
    }
    for other in &lower {
        profile.remove_pod(cx, &mut state, pod, other, &mut node);
    }
    profile.filter_with_nominated(cx, &state, pod, &node)?;
    by_importance(&mut lower);
    let (violating, other) = split_by_budgets(&lower, cx.snapshot.budgets.values());
    let mut victims = Vec::new();
    let mut violations = 0;
    // The important ones are let off first, as long as the pod still fits.
    for (candidates, protected) in [(&violating, true), (&other, false)] {
        for victim in candidates {
            profile.add_pod(cx, &mut state, pod, victim, &mut node);
            if profile.filter_with_nominated(cx, &state, pod, &node).is_err() {
                profile.remove_pod(cx, &mut state, pod, victim, &mut node);
                violations += usize::from(protected);
                victims.push(victim.clone());
            }
        }
    }
    by_importance(&mut victims);
    Ok(Candidate {
        node: info.name(),
        victims,
        violations,
    })
}

/// The candidate that hurts least: the fewest broken budgets, the lowest highest priority, the lowest sum of priorities, the fewest victims, and
/// the victims that started last.
pub fn pick(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|c| {
        let highest = c.victims.first().map_or(i32::MIN, |p| p.priority());
        let sum: i64 = c
            .victims
            .iter()
            .map(|p| i64::from(p.priority()) + i64::from(i32::MAX) + 1)
            .sum();
        let earliest = c
            .victims
            .iter()
            .filter(|p| p.priority() == highest)
            .map(|p| p.started.unwrap_or(i64::MAX))
            .min();
        (c.violations, highest, sum, c.victims.len(), Reverse(earliest))
    })
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PostFilter])
    }

    fn post_filter(
        &self,
        cx: Context<'_>,
        profile: &Profile,
        state: &CycleState,
        pod: &Pod,
        diagnosis: &Diagnosis,
        rng: &mut Rng,
    ) -> PostFilter {
        if let Some(why) = ineligible(cx, pod, diagnosis) {
            return PostFilter {
                message: format!("preemption: {why}"),
                ..PostFilter::default()
            };
        }
        let hopeful = diagnosis.nodes_with(cx.snapshot, Code::Unschedulable);
        let wanted = self.candidates_wanted(hopeful.len());
        let offset = rng.below(hopeful.len());
        let mut refused = Diagnosis::default();
        let (mut clean, mut violating) = (Vec::new(), Vec::new());
        for i in 0..hopeful.len() {
            let slot = hopeful[(offset + i) % hopeful.len()];
            let Some(info) = cx.snapshot.by_slot(slot) else {
                continue;
            };
            match victims_on(cx, profile, state, pod, info) {
                Ok(candidate) if candidate.victims.is_empty() => {
                    refused.nodes.push((
                        slot,
                        Rejection::error(format!(
                            "expected at least one victim pod on node {:?}",
                            info.name()
                        )),
                    ));
                }
                Ok(candidate) if candidate.violations == 0 => clean.push(candidate),
                Ok(candidate) => violating.push(candidate),
                Err(rejection) => refused.nodes.push((slot, rejection)),
            }
            if !clean.is_empty() && clean.len() + violating.len() >= wanted {
                break;
            }
        }
        clean.append(&mut violating);
        match pick(clean) {
            Some(best) => PostFilter {
                nominate: Some(Some(best.node)),
                victims: best.victims,
                message: String::new(),
            },
            None => {
                refused.absent = Some(Rejection::unresolvable(
                    "Preemption is not helpful for scheduling",
                ));
                PostFilter {
                    nominate: Some(None),
                    victims: Vec::new(),
                    message: format!("preemption: {}", refused.message(cx.snapshot.len())),
                }
            }
        }
    }
}
