//! DefaultBinder: binds a pod by writing its node to the pod's `binding` subresource.

use crate::framework::{Plugin, Point, Points};
use crate::model::Pod;

/// See the module.
pub struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Bind])
    }

    fn binds(&self, _: &Pod) -> bool {
        true
    }
}
