//! PodDisruptionBudget.

use crate::check::enumerated;
use crate::print::{self, AGE, NAME};
use crate::workload::{at_most_all, int_or_percent};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{At, label_selector};
use rutter_api::{Context, ErrorList, Strategy, Value};

/// PodDisruptionBudget.
pub(crate) struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = old;
        if cx.subresource == "status" {
            ErrorList::new()
        } else {
            validate(object)
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Min Available", "How many pods must stay available."),
            print::text("Max Unavailable", "How many pods may be away."),
            print::integer("Allowed Disruptions", "How many pods may be evicted now."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let bound = |path: &str| match object.at(path) {
            Value::Null => Value::from("N/A"),
            value => Value::from(print::int_or_text(value)),
        };
        vec![
            print::name(object),
            bound("spec.minAvailable"),
            bound("spec.maxUnavailable"),
            print::count(object, "status.disruptionsAllowed"),
            print::age(object, cx),
        ]
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let (least, most) = (spec.child("minAvailable"), spec.child("maxUnavailable"));
    if least.is_set() && most.is_set() {
        errors.push(spec.invalid("minAvailable and maxUnavailable cannot be both set"));
    }
    for bound in [least, most] {
        if bound.is_set() {
            int_or_percent(&bound, &mut errors);
            at_most_all(&bound, &mut errors);
        }
    }
    let eviction = spec.child("unhealthyPodEvictionPolicy");
    if eviction.is_set() {
        enumerated(&eviction, &["AlwaysAllow", "IfHealthyBudget"], &mut errors);
    }
    label_selector(&spec.child("selector"), false, &mut errors);
    errors
}
