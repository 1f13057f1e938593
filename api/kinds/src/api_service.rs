//! APIService.

use crate::fill::{absent, inside, spec};
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};
use serde_json::json;

/// APIService.
pub(crate) struct ApiService;

impl Strategy for ApiService {
    fn default_object(&self, object: &mut Value) {
        if let Some(service) = spec(object).and_then(|spec| inside(spec, "service")) {
            absent(service, "port", 443);
        }
    }

    /// What this server serves itself is available from the start.
    fn prepare_create(&self, object: &mut Value, cx: &Context<'_>) {
        object.take_at("status");
        if object.at("spec.service").is_null() {
            object.set(
                "status.conditions",
                json!([{
                    "type": "Available",
                    "status": "True",
                    "lastTransitionTime": print::rfc3339(cx.now),
                    "reason": "Local",
                    "message": "Local APIServices are always available",
                }]),
            );
        }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Service", "The service that serves it."),
            print::text("Available", "Whether it can be reached."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let service = match object.at("spec.service") {
            Value::Null => "Local".to_owned(),
            service => format!("{}/{}", service.str_at("namespace"), service.str_at("name")),
        };
        let available = object
            .list_at("status.conditions")
            .iter()
            .find(|c| c.str_at("type") == "Available");
        let available = match available {
            None => "Unknown".to_owned(),
            Some(condition) if condition.str_at("status") == "True" => "True".to_owned(),
            Some(condition) => format!("{} ({})", condition.str_at("status"), condition.str_at("reason")),
        };
        vec![
            print::name(object),
            Value::from(service),
            Value::from(available),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}
