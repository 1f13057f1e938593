//! ConfigMap.

use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

/// ConfigMap.
pub(crate) struct ConfigMap;

impl Strategy for ConfigMap {
    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, print::text("Data", "How many entries it has."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let entries = ["data", "binaryData"].map(|field| object.map_at(field).map_or(0, |map| map.len()));
        vec![
            print::name(object),
            Value::from(entries.iter().sum::<usize>()),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}
