//! ReplicationController.

use crate::check::not_negative;
use crate::fill::{absent, spec};
use crate::podcheck::{self, Leniency};
use crate::podspec::default_template;
use crate::print;
use crate::workload;
use rutter_api::FieldError;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::At;
use rutter_api::{Context, ErrorList, Strategy, Value};

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

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        validate_spec(&At::root(object).child("spec"), Leniency::default(), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let root = At::root(object);
        if cx.subresource == "status" {
            crate::replica_set::replica_status(&root.child("status"), &mut errors);
        } else {
            let lenient = Leniency::of(Some(old), "spec.template.spec");
            validate_spec(&root.child("spec"), lenient, &mut errors);
        }
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        crate::podcheck::warnings::template(object, old, "spec.template")
    }

    fn columns(&self) -> &'static [Column] {
        crate::replica_set::REPLICA_COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        crate::replica_set::replica_row(object, cx, print::labels(object.at("spec.selector")))
    }
}

fn validate_spec(spec: &At<'_, '_>, lenient: Leniency, errors: &mut ErrorList) {
    not_negative(&spec.child("minReadySeconds"), errors);
    let selector = spec.child("selector");
    if selector.is_empty() {
        errors.push(selector.required(""));
    }
    let replicas = spec.child("replicas");
    if replicas.is_null() {
        errors.push(replicas.required(""));
    }
    not_negative(&replicas, errors);
    let template = spec.child("template");
    if template.is_null() {
        errors.push(template.required(""));
        return;
    }
    let labels = template.value.at("metadata.labels");
    if selector
        .entries()
        .any(|(key, value)| labels.get(key) != Some(value))
    {
        let path = template.path().child("metadata.labels");
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&path, labels.clone(), detail));
    }
    podcheck::template(&template, lenient, errors);
    workload::always_restarts(&template, "ReplicationController", errors);
}
