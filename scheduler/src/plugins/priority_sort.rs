//! PrioritySort: a higher priority first, then who has waited longer. The queue itself keeps this order.

use crate::framework::{Plugin, Point, Points};

/// See the module.
pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::QueueSort])
    }
}
