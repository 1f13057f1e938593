//! ImageLocality: prefers nodes that have the pod's images, the more the more widely they are spread.

use crate::framework::{Context, MAX_SCORE, Plugin, Point, Points, PreScore, State};
use crate::model::{Pod, Str};
use crate::snapshot::NodeInfo;

const MEGABYTE: i64 = 1024 * 1024;
const LOW: i64 = 23 * MEGABYTE;
const HIGH: i64 = 1000 * MEGABYTE;

/// See the module.
pub struct ImageLocality;

#[derive(Clone)]
struct Spread(Vec<(Str, f64)>);

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::PreScore, Point::Score])
    }

    fn pre_score(&self, cx: Context<'_>, pod: &Pod, _: &[&NodeInfo]) -> PreScore {
        let all = cx.snapshot.len() as f64;
        let spread: Vec<(Str, f64)> = pod
            .template
            .images
            .iter()
            .map(|image| (image.clone(), f64::from(cx.snapshot.image_nodes(image)) / all))
            .filter(|(_, share)| *share > 0.0)
            .collect();
        if spread.is_empty() {
            PreScore::Skip
        } else {
            PreScore::Run(Some(Box::new(Spread(spread))))
        }
    }

    fn score(&self, _: Context<'_>, state: Option<&dyn State>, pod: &Pod, node: &NodeInfo) -> i64 {
        let (Some(Spread(images)), Some(node)) = (crate::framework::own(state), &node.node) else {
            return 0;
        };
        let sum: i64 = images
            .iter()
            .filter_map(|(image, share)| {
                let (_, size) = node.images.iter().find(|(name, _)| name == image)?;
                Some((*size as f64 * share) as i64)
            })
            .sum();
        let high = HIGH * pod.template.containers.max(1);
        MAX_SCORE * (sum.clamp(LOW, high) - LOW) / (high - LOW)
    }
}
