//! ResourceQuota.

use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

/// ResourceQuota.
pub(crate) struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Request", "Counts and requests: used of allowed."),
            print::text("Limit", "Limits: used of allowed."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in object.map_at("status.hard").into_iter().flatten() {
            let used = object
                .at("status.used")
                .get(name)
                .map_or("0".to_owned(), print::int_or_text);
            let cell = format!("{name}: {used}/{}", print::int_or_text(hard));
            if name.starts_with("limits.") {
                limits.push(cell)
            } else {
                requests.push(cell)
            }
        }
        vec![
            print::name(object),
            Value::from(requests.join(", ")),
            Value::from(limits.join(", ")),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}
