//! PersistentVolume.

use crate::fill::{absent, spec, text};
use crate::podspec::default_volume_source;
use crate::print::{self, AGE, NAME, UNSET};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::{Context, Strategy, Value};
use serde_json::json;

/// The old place of a storage class's name.
pub(crate) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// PersistentVolume.
pub(crate) struct PersistentVolume;

impl Strategy for PersistentVolume {
    fn default_object(&self, object: &mut Value) {
        if let Some(status) = object
            .as_object_mut()
            .and_then(|fields| crate::fill::made(fields, "status"))
        {
            text(status, "phase", "Pending");
        }
        let Some(spec) = spec(object) else { return };
        text(spec, "persistentVolumeReclaimPolicy", "Retain");
        absent(spec, "volumeMode", "Filesystem");
        default_volume_source(spec);
    }

    fn prepare_create(&self, object: &mut Value, cx: &Context<'_>) {
        object.set(
            "status",
            json!({"phase": "Pending", "lastPhaseTransitionTime": print::rfc3339(cx.now)}),
        );
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        prepare_plain_update(object, old, cx);
        if cx.subresource != "status" {
            return;
        }
        const TIME: &str = "status.lastPhaseTransitionTime";
        let same_phase = object.str_at("status.phase") == old.str_at("status.phase");
        let same_time = object.at(TIME).is_null() || object.at(TIME) == old.at(TIME);
        if same_phase && object.at(TIME).is_null() && !old.at(TIME).is_null() {
            object.set(TIME, old.at(TIME).clone());
        } else if !same_phase && same_time {
            object.set(TIME, print::rfc3339(cx.now));
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
            print::text("Capacity", "How much it holds."),
            print::text("Access Modes", "How it can be mounted."),
            print::text("Reclaim Policy", "What becomes of it when its claim goes."),
            print::text("Status", "Whether it is free, bound or released."),
            print::text("Claim", "The claim it is bound to."),
            print::text("StorageClass", "Its storage class."),
            print::text("VolumeAttributesClass", "Its class of volume attributes."),
            print::text("Reason", "Why it is in this status, in one word."),
            AGE,
            print::wide("VolumeMode", "A file system or a raw block device."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let spec = object.at("spec");
        let claim = match spec.at("claimRef") {
            Value::Null => String::new(),
            claim => format!("{}/{}", claim.str_at("namespace"), claim.str_at("name")),
        };
        vec![
            print::name(object),
            print::text_or(spec, "capacity.storage", "0"),
            Value::from(access_modes(spec.list_at("accessModes"))),
            Value::from(spec.str_at("persistentVolumeReclaimPolicy")),
            Value::from(if object.is_deleting() {
                "Terminating"
            } else {
                object.str_at("status.phase")
            }),
            Value::from(claim),
            Value::from(class(object)),
            print::text_or(spec, "volumeAttributesClassName", UNSET),
            Value::from(object.str_at("status.reason")),
            print::age(object, cx),
            print::text_or(spec, "volumeMode", UNSET),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

/// The storage class of a volume or a claim, from the old annotation or the field.
pub(crate) fn class(object: &Value) -> &str {
    object
        .annotation(CLASS_ANNOTATION)
        .unwrap_or_else(|| object.str_at("spec.storageClassName"))
}

/// `RWO,ROX,RWX,RWOP`
pub(crate) fn access_modes(modes: &[Value]) -> String {
    let mut texts = Vec::new();
    for (mode, short) in [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ] {
        if modes.iter().any(|m| m == mode) {
            texts.push(short);
        }
    }
    texts.join(",")
}
