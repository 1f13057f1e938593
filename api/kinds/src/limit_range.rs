//! LimitRange.

use crate::fill::{each, made, spec, text_of};
use rutter_api::strategy::Column;
use rutter_api::{Context, Map, Strategy, Value};

/// LimitRange.
pub(crate) struct LimitRange;

impl Strategy for LimitRange {
    /// Limits of containers: what isn't given defaults to the maximum, and requests to the default or the minimum.
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        for item in each(spec, "limits") {
            if text_of(item, "type") != "Container" {
                continue;
            }
            let list = |item: &Map<String, Value>, field: &str| {
                item.get(field)
                    .and_then(Value::as_object)
                    .cloned()
                    .unwrap_or_default()
            };
            let mut limits = list(item, "default");
            for (name, value) in list(item, "max") {
                limits.entry(name).or_insert(value);
            }
            let mut requests = list(item, "defaultRequest");
            for (name, value) in limits.clone().into_iter().chain(list(item, "min")) {
                requests.entry(name).or_insert(value);
            }
            for (field, values) in [("default", limits), ("defaultRequest", requests)] {
                if !values.is_empty()
                    && let Some(present) = made(item, field)
                {
                    *present = values;
                }
            }
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn columns(&self) -> &'static [Column] {
        crate::print::CREATED_AT
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        crate::print::created_at(object, cx)
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
