//! PriorityClass.

use crate::fill::absent;
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

/// PriorityClass.
pub(crate) struct PriorityClass;

impl Strategy for PriorityClass {
    fn default_object(&self, object: &mut Value) {
        if let Some(fields) = object.as_object_mut() {
            absent(fields, "preemptionPolicy", "PreemptLowerPriority");
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::integer("Value", "The priority of its pods."),
            print::boolean("Global-Default", "Whether pods without a class get it."),
            AGE,
            print::text("PreemptionPolicy", "Whether its pods push out others."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![
            print::name(object),
            print::count(object, "value"),
            Value::from(object.bool_at("globalDefault").unwrap_or_default()),
            print::age(object, cx),
            Value::from(object.str_at("preemptionPolicy")),
        ]
    }
}
