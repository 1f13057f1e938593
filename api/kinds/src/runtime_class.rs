//! RuntimeClass.

use crate::check::{name_of, required_text};
use crate::podcheck::tolerations;
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{At, dns_label, labels};
use rutter_api::{Context, ErrorList, Strategy, Value};

/// RuntimeClass.
pub(crate) struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        let mut errors = ErrorList::new();
        crate::check::immutable(&At::root(object).child("handler"), old.at("handler"), &mut errors);
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Handler", "The runtime's configuration for it."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![
            print::name(object),
            Value::from(object.str_at("handler")),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let handler = root.child("handler");
    if handler.is_empty() {
        required_text(&handler, &mut errors);
    } else {
        name_of(&handler, dns_label, &mut errors);
    }
    let scheduling = root.child("scheduling");
    labels(&scheduling.child("nodeSelector"), &mut errors);
    tolerations(&scheduling.child("tolerations"), &mut errors);
    errors
}
