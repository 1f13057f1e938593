//! NodeResourcesBalancedAllocation: prefers nodes whose resources the pod brings into balance.

use super::args::BalancedAllocationArgs;
use super::resources_fit::{weighted, with_pod};
use crate::framework::{Context, MAX_SCORE, Plugin, Point, Points, PreScore, State};
use crate::model::{Pod, Str};
use crate::snapshot::NodeInfo;
use smallvec::SmallVec;

/// See the module.
pub struct BalancedAllocation {
    resources: Vec<(Str, i64)>,
}

impl BalancedAllocation {
    /// From its arguments, which have been checked.
    pub fn new(args: BalancedAllocationArgs) -> Self {
        Self {
            resources: weighted(args.resources),
        }
    }
}

/// 100 when all fractions are equal, less the more they differ.
fn balance(fractions: &[f64]) -> i64 {
    let deviation = match fractions {
        [] | [_] => 0.0,
        [a, b] => ((a - b) / 2.0).abs(),
        many => {
            let mean = many.iter().sum::<f64>() / many.len() as f64;
            (many.iter().map(|f| (f - mean) * (f - mean)).sum::<f64>() / many.len() as f64).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreScore, Point::Score])
    }

    fn pre_score(&self, _: Context<'_>, pod: &Pod, _: &[&NodeInfo]) -> PreScore {
        let wanted = &pod.template.requests.total;
        // A pod that asks for nothing would always go to the same node.
        if self.resources.iter().all(|(name, _)| wanted.get(name) == 0) {
            return PreScore::Skip;
        }
        PreScore::Run(None)
    }

    fn score(&self, _: Context<'_>, _: Option<&dyn State>, pod: &Pod, info: &NodeInfo) -> i64 {
        let Some(node) = &info.node else { return 0 };
        let (mut before, mut after) = (SmallVec::<[f64; 4]>::new(), SmallVec::<[f64; 4]>::new());
        for (name, _) in &self.resources {
            if let Some((used, wanted, have)) = with_pod(name, &pod.template, info, node, false) {
                before.push((used as f64 / have as f64).min(1.0));
                after.push((wanted as f64 / have as f64).min(1.0));
            }
        }
        MAX_SCORE / 2 + (MAX_SCORE / 2 + balance(&after) - balance(&before)) / 2
    }
}
