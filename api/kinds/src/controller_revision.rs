//! ControllerRevision.

use crate::check::not_negative;
use crate::print::{self, AGE, NAME, NONE};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::At;
use rutter_api::{Context, ErrorList, Strategy, Value};

/// ControllerRevision.
pub(crate) struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let root = At::root(object);
        not_negative(&root.child("revision"), &mut errors);
        match root.child("data").value {
            Value::Null => errors.push(root.child("data").required("data is mandatory")),
            Value::Object(_) => {}
            _ => errors.push(root.child("data").required("data must be a valid JSON object")),
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let root = At::root(object);
        not_negative(&root.child("revision"), &mut errors);
        crate::check::immutable(&root.child("data"), old.at("data"), &mut errors);
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Controller", "Whose revision it is."),
            print::text("Revision", "Its number."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let owners = object.list_at("metadata.ownerReferences");
        let controller = owners
            .iter()
            .find(|o| o.bool_at("controller") == Some(true))
            .map(|owner| {
                let kind = owner.str_at("kind").to_lowercase();
                match owner.str_at("apiVersion").split_once('/') {
                    Some((group, _)) => format!("{kind}.{group}/{}", owner.str_at("name")),
                    None => format!("{kind}/{}", owner.str_at("name")),
                }
            });
        vec![
            print::name(object),
            Value::from(controller.unwrap_or_else(|| NONE.to_owned())),
            print::count(object, "revision"),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}
