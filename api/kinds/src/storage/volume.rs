//! StorageClass, VolumeAttachment and VolumeAttributesClass.

use crate::check::{enumerated, immutable};
use crate::fill::absent;
use crate::print::{self, AGE, NAME};
use rutter_api::FieldError;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{At, dns_subdomain, qualified_name};
use rutter_api::{Context, ErrorList, Strategy, Value};

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

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_class(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        let mut errors = validate_class(object);
        let root = At::root(object);
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            immutable(&root.child(field), old.at(field), &mut errors);
        }
        errors
    }

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
    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_attachment(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        if cx.subresource == "status" {
            return ErrorList::new();
        }
        let mut errors = validate_attachment(object);
        immutable(&At::root(object).child("spec"), old.at("spec"), &mut errors);
        errors
    }

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

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_attributes(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        let mut errors = ErrorList::new();
        let root = At::root(object);
        for field in ["driverName", "parameters"] {
            if object.at(field) != old.at(field) {
                errors.push(
                    root.child(field)
                        .forbidden(format!("updates to {field} are forbidden.")),
                );
            }
        }
        errors
    }

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

fn provisioner(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_empty() {
        errors.push(at.required(""));
        return;
    }
    errors.extend(
        qualified_name(&at.text().to_lowercase())
            .into_iter()
            .map(|e| at.invalid(e)),
    );
}

fn parameters(at: &At<'_, '_>, may_be_empty: bool, errors: &mut ErrorList) {
    if at.len() > 512 {
        errors.push(FieldError::too_long(&at.path(), 512));
        return;
    }
    let mut size = 0;
    for (key, value) in at.entries() {
        if key.is_empty() {
            errors.push(at.invalid_as(key, "field can not be empty."));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > 256 * 1024 {
        errors.push(FieldError::too_long(&at.path(), 256 * 1024));
    }
    if !may_be_empty && at.is_empty() {
        errors.push(at.required("must contain at least one key/value pair"));
    }
}

fn validate_class(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    provisioner(&root.child("provisioner"), &mut errors);
    parameters(&root.child("parameters"), true, &mut errors);
    if !root.child("reclaimPolicy").is_empty() {
        enumerated(&root.child("reclaimPolicy"), &["Delete", "Retain"], &mut errors);
    }
    enumerated(
        &root.child("volumeBindingMode"),
        &["Immediate", "WaitForFirstConsumer"],
        &mut errors,
    );
    for term in root.child("allowedTopologies").items() {
        let mut keys = std::collections::BTreeSet::new();
        for expression in term.child("matchLabelExpressions").items() {
            let (key, values) = (expression.child("key"), expression.child("values"));
            if values.is_empty() {
                errors.push(values.required(""));
            }
            let mut seen = std::collections::BTreeSet::new();
            for value in values.items() {
                if !seen.insert(value.text()) {
                    errors.push(value.duplicate());
                }
            }
            errors.extend(
                qualified_name(key.text())
                    .into_iter()
                    .map(|e| key.invalid_as(key.text(), e)),
            );
            if !keys.insert(key.text()) {
                errors.push(key.duplicate());
            }
        }
    }
    errors
}

fn validate_attachment(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    crate::podcheck::csi_driver_name(&spec.child("attacher"), &mut errors);
    let source = spec.child("source");
    let (inline, name) = (
        source.child("inlineVolumeSpec"),
        source.child("persistentVolumeName"),
    );
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.is_set(), name.is_set()) {
        (false, false) => errors.push(source.required(detail)),
        (true, true) => errors.push(source.forbidden(detail)),
        (false, true) if name.is_empty() => {
            errors.push(name.required("must specify non empty persistentVolumeName"));
        }
        (false, true) => name.all(&mut errors, dns_subdomain(name.text())),
        (true, false) => {}
    }
    let node = spec.child("nodeName");
    errors.extend(
        dns_subdomain(node.text())
            .into_iter()
            .map(|e| node.invalid_as(node.text(), e)),
    );
    errors
}

fn validate_attributes(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    provisioner(&root.child("driverName"), &mut errors);
    parameters(&root.child("parameters"), false, &mut errors);
    errors
}
