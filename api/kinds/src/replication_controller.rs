//! ReplicationController.

use crate::fill::{absent, spec};
use crate::podspec::default_template;
use crate::print::{self, AGE, CONTAINERS, IMAGES, NAME, SELECTOR};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

/// ReplicationController.
pub(crate) struct ReplicationController;

impl Strategy for ReplicationController {
    fn default_object(&self, object: &mut Value) {
        let labels = object.at("spec.template.metadata.labels").clone();
        if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
            for path in ["spec.selector", "metadata.labels"] {
                if object.map_at(path).is_none_or(|map| map.is_empty()) {
                    object.set(path, labels.clone());
                }
            }
        }
        let Some(spec) = spec(object) else { return };
        absent(spec, "replicas", 1);
        default_template(spec, "template");
    }

    fn default_orphans(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        vec![object.int_at("status.replicas").unwrap_or_default().to_string()]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::integer("Desired", "How many pods there should be."),
            print::integer("Current", "How many pods there are."),
            print::integer("Ready", "How many pods are ready."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let [names, images] = print::containers(object.at("spec.template.spec"));
        vec![
            print::name(object),
            print::count(object, "spec.replicas"),
            print::count(object, "status.replicas"),
            print::count(object, "status.readyReplicas"),
            print::age(object, cx),
            names,
            images,
            Value::from(print::labels(object.at("spec.selector"))),
        ]
    }
}
