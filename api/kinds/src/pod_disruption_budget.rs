//! PodDisruptionBudget.

use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

/// PodDisruptionBudget.
pub(crate) struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Min Available", "How many pods must stay available."),
            print::text("Max Unavailable", "How many pods may be away."),
            print::integer("Allowed Disruptions", "How many pods may be evicted now."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let bound = |path: &str| match object.at(path) {
            Value::Null => Value::from("N/A"),
            value => Value::from(print::int_or_text(value)),
        };
        vec![
            print::name(object),
            bound("spec.minAvailable"),
            bound("spec.maxUnavailable"),
            print::count(object, "status.disruptionsAllowed"),
            print::age(object, cx),
        ]
    }
}
