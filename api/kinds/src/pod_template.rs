//! PodTemplate.

use crate::podcheck::{self, Leniency};
use crate::podspec::default_template;
use crate::print::{self, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::At;
use rutter_api::{Context, ErrorList, Strategy, Value};

/// PodTemplate.
pub(crate) struct PodTemplate;

impl Strategy for PodTemplate {
    fn default_object(&self, object: &mut Value) {
        if let Some(fields) = object.as_object_mut() {
            default_template(fields, "template");
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        podcheck::template(
            &At::root(object).child("template"),
            Leniency::default(),
            &mut errors,
        );
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let lenient = Leniency::of(Some(old), "template.spec");
        podcheck::template(&At::root(object).child("template"), lenient, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        crate::podcheck::warnings::template(object, old, "template")
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Containers", "Names of the template's containers."),
            print::text("Images", "Images of the template's containers."),
            print::text("Pod Labels", "Labels of its pods."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, _cx: &Context<'_>) -> Vec<Value> {
        let [names, images] = print::containers(object.at("template.spec"));
        vec![
            print::name(object),
            names,
            images,
            Value::from(print::labels(object.at("template.metadata.labels"))),
        ]
    }
}
