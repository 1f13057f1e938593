//! PriorityClass.

use crate::check::required_enum;
use crate::fill::absent;
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::At;
use rutter_api::{Context, ErrorList, Strategy, Value};

/// PriorityClass.
pub(crate) struct PriorityClass;

impl Strategy for PriorityClass {
    fn default_object(&self, object: &mut Value) {
        if let Some(fields) = object.as_object_mut() {
            absent(fields, "preemptionPolicy", "PreemptLowerPriority");
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        let mut errors = ErrorList::new();
        let root = At::root(object);
        if object.int_at("value").unwrap_or_default() != old.int_at("value").unwrap_or_default() {
            errors.push(root.child("value").forbidden("may not be changed in an update."));
        }
        crate::check::immutable(
            &root.child("preemptionPolicy"),
            old.at("preemptionPolicy"),
            &mut errors,
        );
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::integer("Value", "The priority of its pods."),
            print::boolean("Global-Default", "Whether pods without a class get it."),
            AGE,
            print::text("PreemptionPolicy", "Whether its pods push out others."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![
            print::name(object),
            print::count(object, "value"),
            Value::from(object.bool_at("globalDefault").unwrap_or_default()),
            print::age(object, cx),
            Value::from(object.str_at("preemptionPolicy")),
        ]
    }
}

/// The highest priority that people can give.
const HIGHEST: i64 = 1_000_000_000;

/// The classes that every cluster has.
const SYSTEM: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let value = object.int_at("value").unwrap_or_default();
    let name = object.name();
    if name.starts_with("system-") {
        let wrong = match SYSTEM.iter().find(|(known, _)| *known == name) {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, want)) if *want != value => {
                Some(format!("value of {name} PriorityClass must be {want}"))
            }
            Some(_) if object.bool_at("globalDefault") == Some(true) => {
                Some(format!("globalDefault of {name} PriorityClass must be false"))
            }
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            let metadata = root.child("metadata");
            errors.push(metadata.child("name").forbidden(format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {wrong}"
            )));
        }
    } else if value > HIGHEST {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.push(root.child("value").forbidden(detail));
    }
    if root.child("preemptionPolicy").is_set() {
        required_enum(
            &root.child("preemptionPolicy"),
            &["PreemptLowerPriority", "Never"],
            &mut errors,
        );
    }
    errors
}
