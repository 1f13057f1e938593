//! Namespace.

use crate::fill::{made, text};
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, NameRule};
use rutter_api::validation::{At, qualified_name};
use rutter_api::{Context, ErrorList, Strategy, Value};

use serde_json::json;

/// The label by which a namespace can be selected by name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Who empties a namespace before it goes.
const FINALIZER: &str = "kubernetes";

/// Namespace.
pub(crate) struct Namespace;

impl Strategy for Namespace {
    fn default_object(&self, object: &mut Value) {
        label_with_name(object);
        if let Some(status) = object.as_object_mut().and_then(|fields| made(fields, "status")) {
            text(status, "phase", "Active");
        }
        if let Some(fields) = object.as_object_mut() {
            made(fields, "spec");
        }
    }

    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        label_with_name(object);
        object.set("status", json!({"phase": "Active"}));
        let mut finalizers = object.list_at("spec.finalizers").to_vec();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(Value::from(FINALIZER));
        }
        object.set("spec.finalizers", finalizers);
    }

    /// Finalizers change by `finalize` alone, the status by `status` alone.
    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        label_with_name(object);
        let kept: &[&str] = match cx.subresource {
            "status" => &["spec"],
            "finalize" => &["status"],
            _ => &["status", "spec"],
        };
        for field in kept {
            match old.get(*field) {
                Some(value) => object.set(field, value.clone()),
                None => {
                    object.take_at(field);
                }
            }
        }
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.phase", "name"]
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        vec![object.str_at("status.phase").to_owned(), object.name().to_owned()]
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object, false)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = old;
        match cx.subresource {
            "finalize" => validate(object, true),
            "status" => validate_phase(object),
            _ => validate(object, false),
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, print::text("Status", "Active or Terminating."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![
            print::name(object),
            Value::from(object.str_at("status.phase")),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

fn label_with_name(object: &mut Value) {
    let name = object.name().to_owned();
    if name.is_empty() || object.label(NAME_LABEL) == Some(name.as_str()) {
        return;
    }
    if let Some(labels) = object
        .as_object_mut()
        .and_then(|fields| made(fields, "metadata"))
        .and_then(|metadata| made(metadata, "labels"))
    {
        labels.insert(NAME_LABEL.to_owned(), Value::from(name));
    }
}

fn validate(object: &Value, indexed: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let list = spec.child("finalizers");
    for finalizer in list.items() {
        let name = finalizer.text();
        let at = if indexed {
            finalizer
        } else {
            spec.field("finalizers", finalizer.value)
        };
        errors.extend(qualified_name(name).into_iter().map(|e| at.invalid(e)));
        let standard = matches!(name, "kubernetes" | "orphan" | "foregroundDeletion");
        if !name.contains('/') && !standard {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(at.invalid(detail));
        }
    }
    errors
}

fn validate_phase(object: &Value) -> ErrorList {
    let phase = object.str_at("status.phase");
    let root = At::root(object);
    let status = root.child("status");
    let at = status.field("Phase", object.at("status.phase"));
    match (object.is_deleting(), phase) {
        (false, "Active") | (true, "Terminating") => ErrorList::new(),
        (false, _) => vec![at.invalid("may only be 'Active' if `deletionTimestamp` is empty")],
        (true, _) => vec![at.invalid("may only be 'Terminating' if `deletionTimestamp` is not empty")],
    }
}
