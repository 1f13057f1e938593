//! ComponentStatus, which is only read.

use crate::print::{self, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

/// ComponentStatus.
pub(crate) struct ComponentStatus;

impl Strategy for ComponentStatus {
    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        vec!["v1 ComponentStatus is deprecated in v1.19+".to_owned()]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Status", "Healthy or Unhealthy."),
            print::text("Message", "What the component says."),
            print::text("Error", "What is wrong."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, _cx: &Context<'_>) -> Vec<Value> {
        let healthy = object
            .list_at("conditions")
            .iter()
            .find(|c| c.str_at("type") == "Healthy");
        let word = match healthy.map(|c| c.str_at("status")) {
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
            None => "Unknown",
        };
        let text = |field: &str| Value::from(healthy.map_or("", |c| c.str_at(field)));
        vec![
            print::name(object),
            Value::from(word),
            text("message"),
            text("error"),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}
