//! Secret.

use crate::fill::{made, text};
use crate::print::{self, AGE, NAME};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

/// Secret.
pub(crate) struct Secret;

impl Strategy for Secret {
    fn default_object(&self, object: &mut Value) {
        let Some(secret) = object.as_object_mut() else {
            return;
        };
        if let Some(Value::Object(texts)) = secret.remove("stringData")
            && !texts.is_empty()
            && let Some(data) = made(secret, "data")
        {
            for (key, value) in texts {
                data.insert(
                    key,
                    Value::from(STANDARD.encode(value.as_str().unwrap_or_default())),
                );
            }
        }
        text(secret, "type", "Opaque");
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        vec![object.str_at("type").to_owned()]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Type", "What it is for."),
            print::text("Data", "How many entries it has."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let entries = object.map_at("data").map_or(0, |map| map.len());
        vec![
            print::name(object),
            Value::from(object.str_at("type")),
            Value::from(entries),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}
