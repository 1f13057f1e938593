//! NodeResourcesFit: a node must have what the pod asks for; emptier (or fuller) nodes are better.

use super::args::{ResourceSpec, ResourcesFitArgs, StrategyType, default_resources};
use crate::framework::{
    ClusterEvent, Code, Context, Interest, MAX_SCORE, Plugin, Point, Points, PreFilter, Rejection, State,
};
use crate::model::resources::{is_extended, is_scalar};
use crate::model::{Node, Pod, Resources, Str, Template};
use crate::snapshot::NodeInfo;
use smallvec::SmallVec;
use std::borrow::Cow;

/// See the module.
pub struct ResourcesFit {
    ignored: Vec<String>,
    ignored_groups: Vec<String>,
    strategy: StrategyType,
    resources: Vec<(Str, i64)>,
    shape: Vec<(i64, i64)>,
}

/// Names and weights, with 1 for those that have none.
pub(super) fn weighted(specs: Vec<ResourceSpec>) -> Vec<(Str, i64)> {
    let specs = if specs.is_empty() {
        default_resources()
    } else {
        specs
    };
    specs
        .iter()
        .map(|s| (Str::new(&s.name), if s.weight == 0 { 1 } else { s.weight }))
        .collect()
}

impl ResourcesFit {
    /// From its arguments, which have been checked.
    pub fn new(args: ResourcesFitArgs) -> Self {
        let strategy = args.scoring_strategy;
        let shape = strategy
            .as_ref()
            .and_then(|s| s.requested_to_capacity_ratio.as_ref())
            .map(|r| r.shape.iter().map(|p| (p.utilization, p.score * 10)).collect())
            .unwrap_or_default();
        Self {
            ignored: args.ignored_resources,
            ignored_groups: args.ignored_resource_groups,
            strategy: strategy.as_ref().map(|s| s.kind).unwrap_or_default(),
            resources: weighted(strategy.map(|s| s.resources).unwrap_or_default()),
            shape,
        }
    }

    fn ignores(&self, name: &str) -> bool {
        is_extended(name)
            && (self.ignored.iter().any(|i| i == name)
                || self
                    .ignored_groups
                    .iter()
                    .any(|g| name.split('/').next() == Some(g.as_str())))
    }

    fn shortages(
        &self,
        template: &Template,
        node: &Node,
        used: &Resources,
        pods: usize,
    ) -> Option<Rejection> {
        let mut reasons: SmallVec<[Cow<'static, str>; 1]> = SmallVec::new();
        let mut code = Code::Unschedulable;
        if i64::try_from(pods).unwrap_or(i64::MAX) >= node.max_pods {
            reasons.push("Too many pods".into());
        }
        let wanted = &template.requests.total;
        let have = &node.allocatable;
        let mut check = |wanted: i64, have: i64, used: i64, reason: &dyn Fn() -> Cow<'static, str>| {
            if wanted > 0 && wanted > have - used {
                reasons.push(reason());
                if wanted > have {
                    code = Code::Unresolvable;
                }
            }
        };
        check(wanted.cpu, have.cpu, used.cpu, &|| "Insufficient cpu".into());
        check(wanted.memory, have.memory, used.memory, &|| {
            "Insufficient memory".into()
        });
        check(wanted.ephemeral, have.ephemeral, used.ephemeral, &|| {
            "Insufficient ephemeral-storage".into()
        });
        for (name, amount) in &wanted.scalars {
            if !self.ignores(name) {
                check(*amount, have.scalar(name), used.scalar(name), &|| {
                    format!("Insufficient {name}").into()
                });
            }
        }
        (!reasons.is_empty()).then_some(Rejection {
            code,
            reasons,
            plugin: "",
        })
    }

    fn by_shape(&self, utilization: i64) -> i64 {
        let mut before: Option<(i64, i64)> = None;
        for &(at, score) in &self.shape {
            if utilization <= at {
                return match before {
                    None => score,
                    Some((from, low)) => low + (score - low) * (utilization - from) / (at - from).max(1),
                };
            }
            before = Some((at, score));
        }
        before.map_or(0, |(_, score)| score)
    }

    fn rate(&self, wanted: i64, have: i64) -> i64 {
        match self.strategy {
            StrategyType::LeastAllocated if wanted > have => 0,
            StrategyType::LeastAllocated => (have - wanted) * MAX_SCORE / have,
            StrategyType::MostAllocated => wanted.min(have) * MAX_SCORE / have,
            StrategyType::RequestedToCapacityRatio if wanted > have => self.by_shape(100),
            StrategyType::RequestedToCapacityRatio => self.by_shape(wanted * 100 / have),
        }
    }
}

/// What a node would have given away of a resource with the pod on it, and what it has. Nothing when the resource doesn't count.
pub(super) fn with_pod(
    name: &Str,
    template: &Template,
    info: &NodeInfo,
    node: &Node,
    scored: bool,
) -> Option<(i64, i64, i64)> {
    let have = node.allocatable.get(name);
    let wanted = match name.as_str() {
        "cpu" if scored => template.requests.scored.0,
        "memory" if scored => template.requests.scored.1,
        _ => template.requests.total.get(name),
    };
    if have == 0 || (wanted == 0 && is_scalar(name)) {
        return None;
    }
    let used = match name.as_str() {
        "cpu" if scored => info.scored.0,
        "memory" if scored => info.scored.1,
        _ => info.requested.get(name),
    };
    Some((used, used + wanted, have))
}

impl Plugin for ResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score])
    }

    fn interests(&self) -> Interest {
        Interest::POD_DELETE
            .and(Interest::POD_SCALE_DOWN)
            .and(Interest::NODE_ADD)
            .and(Interest::NODE_ALLOCATABLE)
    }

    fn hint(&self, _: Context<'_>, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        let wanted = &pod.template.requests.total;
        let fits = |node: &Node| {
            self.shortages(&pod.template, node, &Resources::default(), 0)
                .is_none()
        };
        let any = |before: &Resources, after: &Resources| {
            (wanted.cpu > 0 && after.cpu > before.cpu)
                || (wanted.memory > 0 && after.memory > before.memory)
                || (wanted.ephemeral > 0 && after.ephemeral > before.ephemeral)
                || wanted
                    .scalars
                    .iter()
                    .any(|(name, v)| *v > 0 && after.scalar(name) > before.scalar(name))
        };
        match event {
            ClusterEvent::NodeAdded(node) => fits(node),
            ClusterEvent::NodeUpdated(old, new) => {
                fits(new) && (new.max_pods > old.max_pods || any(&old.allocatable, &new.allocatable))
            }
            ClusterEvent::PodDeleted(gone) => gone.node.is_some() || gone.nominated.is_some(),
            ClusterEvent::PodUpdated(old, new) => {
                any(&new.template.requests.total, &old.template.requests.total)
            }
            _ => true,
        }
    }

    fn pre_filter(&self, _: Context<'_>, _: &Pod) -> PreFilter {
        PreFilter::Run(None)
    }

    fn filter(
        &self,
        _: Context<'_>,
        _: Option<&dyn State>,
        pod: &Pod,
        info: &NodeInfo,
    ) -> Result<(), Rejection> {
        let Some(node) = &info.node else { return Ok(()) };
        match self.shortages(&pod.template, node, &info.requested, info.pods.len()) {
            None => Ok(()),
            Some(rejection) => Err(rejection),
        }
    }

    fn score(&self, _: Context<'_>, _: Option<&dyn State>, pod: &Pod, info: &NodeInfo) -> i64 {
        let Some(node) = &info.node else { return 0 };
        let (mut sum, mut weights) = (0, 0);
        for (name, weight) in &self.resources {
            if let Some((_, wanted, have)) = with_pod(name, &pod.template, info, node, true) {
                let rate = self.rate(wanted, have);
                if self.strategy == StrategyType::RequestedToCapacityRatio && rate <= 0 {
                    continue;
                }
                sum += rate * weight;
                weights += weight;
            }
        }
        match self.strategy {
            _ if weights == 0 => 0,
            StrategyType::RequestedToCapacityRatio => (sum as f64 / weights as f64).round() as i64,
            _ => sum / weights,
        }
    }
}
