//! ServiceAccount.

use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};
use serde_json::json;

/// ServiceAccount.
pub(crate) struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        keep_names_of_secrets(object);
    }

    fn prepare_update(&self, object: &mut Value, _old: &Value, _cx: &Context<'_>) {
        keep_names_of_secrets(object);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![print::name(object), print::age(object, cx)]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

fn keep_names_of_secrets(object: &mut Value) {
    for secret in object.list_at_mut("secrets").into_iter().flatten() {
        *secret = match secret.str_at("name") {
            "" => json!({}),
            name => json!({"name": name}),
        };
    }
}
