//! Lease.

use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::At;
use rutter_api::{Context, ErrorList, Strategy, Value};

/// Lease.
pub(crate) struct Lease;

impl Strategy for Lease {
    /// Coordinated election is not enabled: its fields are dropped.
    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        object.take_at("spec.strategy");
        object.take_at("spec.preferredHolder");
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _cx: &Context<'_>) {
        for field in ["spec.strategy", "spec.preferredHolder"] {
            if old.at(field).is_null() {
                object.take_at(field);
            }
        }
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = (old, cx);
        validate(object)
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, print::text("Holder", "Who holds it."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![
            print::name(object),
            Value::from(object.str_at("spec.holderIdentity")),
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
    let spec = root.child("spec");
    let duration = spec.child("leaseDurationSeconds");
    if duration.int().is_some_and(|n| n <= 0) {
        errors.push(duration.invalid("must be greater than 0"));
    }
    crate::check::not_negative(&spec.child("leaseTransitions"), &mut errors);
    if !spec.child("preferredHolder").is_empty() && spec.child("strategy").is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(spec.child("preferredHolder").forbidden(detail));
    }
    errors
}
