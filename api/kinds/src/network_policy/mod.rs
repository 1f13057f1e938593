//! NetworkPolicy.

use crate::fill::{absent, each, empty, spec};
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};
use serde_json::json;

/// NetworkPolicy.
pub(crate) struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        if empty(spec, "policyTypes") {
            let types = if empty(spec, "egress") {
                json!(["Ingress"])
            } else {
                json!(["Ingress", "Egress"])
            };
            spec.insert("policyTypes".to_owned(), types);
        }
        for direction in ["ingress", "egress"] {
            for port in each(spec, direction).flat_map(|rule| each(rule, "ports")) {
                absent(port, "protocol", "TCP");
            }
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, print::text("Pod-Selector", "The pods it is for."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![
            print::name(object),
            Value::from(print::selector(object.at("spec.podSelector"))),
            print::age(object, cx),
        ]
    }
}
