//! StorageClass, VolumeAttachment and VolumeAttributesClass.

use crate::fill::absent;
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

const DEFAULT_ANNOTATIONS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// StorageClass.
pub(crate) struct StorageClass;

/// VolumeAttachment.
pub(crate) struct VolumeAttachment;

/// VolumeAttributesClass.
pub(crate) struct VolumeAttributesClass;

impl Strategy for StorageClass {
    fn default_object(&self, object: &mut Value) {
        let Some(fields) = object.as_object_mut() else {
            return;
        };
        absent(fields, "reclaimPolicy", "Delete");
        absent(fields, "volumeBindingMode", "Immediate");
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Provisioner", "Who makes its volumes."),
            print::text("ReclaimPolicy", "What becomes of a volume when its claim goes."),
            print::text("VolumeBindingMode", "When volumes are made and bound."),
            print::text("AllowVolumeExpansion", "Whether its volumes can grow."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let default = DEFAULT_ANNOTATIONS
            .iter()
            .any(|key| object.annotation(key) == Some("true"));
        vec![
            Value::from(format!(
                "{}{}",
                object.name(),
                if default { " (default)" } else { "" }
            )),
            Value::from(object.str_at("provisioner")),
            print::text_or(object, "reclaimPolicy", "Delete"),
            print::text_or(object, "volumeBindingMode", "Immediate"),
            Value::from(object.bool_at("allowVolumeExpansion").unwrap_or_default()),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

impl Strategy for VolumeAttachment {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            Column {
                format: "name",
                ..print::text("Attacher", "The driver that attaches it.")
            },
            print::text("PV", "The volume."),
            print::text("Node", "The node."),
            print::boolean("Attached", "Whether it is attached."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![
            print::name(object),
            Value::from(object.str_at("spec.attacher")),
            Value::from(object.str_at("spec.source.persistentVolumeName")),
            Value::from(object.str_at("spec.nodeName")),
            Value::from(object.bool_at("status.attached").unwrap_or_default()),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

impl Strategy for VolumeAttributesClass {
    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, print::text("DriverName", "The driver that knows it."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![
            print::name(object),
            Value::from(object.str_at("driverName")),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}
