//! MutatingWebhookConfiguration and ValidatingWebhookConfiguration.

use crate::fill::{Fields, absent, each, inside};
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, ErrorList, Map, Strategy, Value};

/// MutatingWebhookConfiguration and ValidatingWebhookConfiguration.
pub(crate) struct WebhookConfiguration {
    /// Whether its webhooks may change objects.
    pub(crate) mutating: bool,
}

/// Rules apply to objects in namespaces and to those in none.
pub(super) fn default_rules(fields: &mut Fields, name: &str) {
    for rule in each(fields, name) {
        absent(rule, "scope", "*");
    }
}

/// What webhooks and match resources share.
pub(super) fn default_match(fields: &mut Fields) {
    absent(fields, "matchPolicy", "Equivalent");
    absent(fields, "namespaceSelector", Map::new());
    absent(fields, "objectSelector", Map::new());
}

impl Strategy for WebhookConfiguration {
    fn default_object(&self, object: &mut Value) {
        let Some(fields) = object.as_object_mut() else {
            return;
        };
        for webhook in each(fields, "webhooks") {
            absent(webhook, "failurePolicy", "Fail");
            default_match(webhook);
            absent(webhook, "timeoutSeconds", 10);
            if self.mutating {
                absent(webhook, "reinvocationPolicy", "Never");
            }
            if let Some(service) =
                inside(webhook, "clientConfig").and_then(|config| inside(config, "service"))
            {
                absent(service, "port", 443);
            }
            default_rules(webhook, "rules");
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        super::check::configuration(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        if object.at("webhooks") == old.at("webhooks") {
            ErrorList::new()
        } else {
            super::check::configuration(object)
        }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, print::integer("Webhooks", "How many webhooks it has."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let webhooks = object.list_at("webhooks").len();
        vec![print::name(object), Value::from(webhooks), print::age(object, cx)]
    }
}
