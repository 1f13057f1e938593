//! PersistentVolumeClaim.

use crate::fill::{Fields, absent, made, spec, text};
use crate::persistent_volume::{access_modes, class};
use crate::print::{self, AGE, NAME, UNSET};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::{Context, Map, Strategy, Value};
use serde_json::json;

/// PersistentVolumeClaim.
pub(crate) struct PersistentVolumeClaim;

/// The defaults of a claim's spec, also in templates of claims.
pub(crate) fn default_claim_spec(spec: &mut Fields) {
    absent(spec, "volumeMode", "Filesystem");
    absent(spec, "resources", Map::new());
}

impl Strategy for PersistentVolumeClaim {
    fn default_object(&self, object: &mut Value) {
        if let Some(status) = object.as_object_mut().and_then(|fields| made(fields, "status")) {
            text(status, "phase", "Pending");
        }
        if let Some(spec) = spec(object) {
            default_claim_spec(spec);
        }
    }

    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        object.set("status", json!({"phase": "Pending"}));
        same_data_sources(object);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        prepare_plain_update(object, old, cx);
        if cx.subresource != "status" {
            same_data_sources(object);
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["name"]
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        vec![object.name().to_owned()]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Status", "Whether it is bound."),
            print::text("Volume", "The volume it is bound to."),
            print::text("Capacity", "How much the volume holds."),
            print::text("Access Modes", "How the volume can be mounted."),
            print::text("StorageClass", "Its storage class."),
            print::text("VolumeAttributesClass", "Its class of volume attributes."),
            AGE,
            print::wide("VolumeMode", "A file system or a raw block device."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let volume = object.str_at("spec.volumeName");
        let (capacity, modes) = if volume.is_empty() {
            (Value::from(""), String::new())
        } else {
            let modes = access_modes(object.list_at("status.accessModes"));
            (print::text_or(object, "status.capacity.storage", "0"), modes)
        };
        vec![
            print::name(object),
            Value::from(if object.is_deleting() {
                "Terminating"
            } else {
                object.str_at("status.phase")
            }),
            Value::from(volume),
            capacity,
            Value::from(modes),
            Value::from(class(object)),
            print::text_or(object, "spec.volumeAttributesClassName", UNSET),
            print::age(object, cx),
            print::text_or(object, "spec.volumeMode", UNSET),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

/// `dataSource` and `dataSourceRef` say the same, unless the second names another namespace.
fn same_data_sources(object: &mut Value) {
    let source = object.at("spec.dataSource").clone();
    let reference = object.at("spec.dataSourceRef").clone();
    if !source.is_null() && reference.is_null() {
        object.set("spec.dataSourceRef", source);
    } else if source.is_null() && !reference.is_null() && reference.str_at("namespace").is_empty() {
        let mut source = reference;
        source.take_at("namespace");
        object.set("spec.dataSource", source);
    }
}
