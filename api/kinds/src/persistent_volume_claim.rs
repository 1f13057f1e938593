//! PersistentVolumeClaim.

use crate::amount::quantity;
use crate::check::enumerated;
use crate::fill::{Fields, absent, made, spec, text};
use crate::persistent_volume::{access_modes, class};
use crate::print::{self, AGE, NAME, UNSET};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::validation::{At, dns_subdomain, label_selector};
use rutter_api::{Context, ErrorList, FieldError, Map, Quantity, Strategy, Value};
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

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        claim_spec(&At::root(object).child("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        if cx.subresource.is_empty() {
            validate_update(object, old, &mut errors);
        } else {
            access_mode_list(
                &At::root(object).child("status").child("accessModes"),
                &mut errors,
            );
        }
        errors
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
    if !source.is_null() && reference.is_null() && !is_known_source(&source) {
        object.take_at("spec.dataSource");
    } else if !source.is_null() && reference.is_null() {
        object.set("spec.dataSourceRef", source);
    } else if source.is_null() && !reference.is_null() && reference.str_at("namespace").is_empty() {
        let mut source = reference;
        source.take_at("namespace");
        object.set("spec.dataSource", source);
    }
}

/// What the old field may refer to: a claim or a snapshot.
fn is_known_source(source: &Value) -> bool {
    let group = source.str_at("apiGroup");
    match source.str_at("kind") {
        "PersistentVolumeClaim" => group.is_empty(),
        "VolumeSnapshot" => group == "snapshot.storage.k8s.io",
        _ => false,
    }
}

/// A template of claims in a pod's volume.
pub(crate) fn claim_template(at: &At<'_, '_>, errors: &mut ErrorList) {
    for field in ["labels", "annotations"] {
        let metadata = at.child("metadata");
        match field {
            "labels" => rutter_api::validation::labels(&metadata.child(field), errors),
            _ => rutter_api::validation::annotations(&metadata.child(field), errors),
        }
    }
    for (field, _) in at.child("metadata").entries() {
        if !matches!(field, "labels" | "annotations" | "creationTimestamp") {
            let path = at.child("metadata").path().child(field);
            errors.push(FieldError::forbidden(
                &path,
                "cannot be set for an Ephemeral Container",
            ));
        }
    }
    claim_spec(&at.child("spec"), errors);
}

/// A claim's spec.
pub(crate) fn claim_spec(at: &At<'_, '_>, errors: &mut ErrorList) {
    let modes = at.child("accessModes");
    if modes.is_empty() {
        errors.push(modes.required("at least 1 access mode is required"));
    }
    label_selector(&at.child("selector"), false, errors);
    access_mode_list(&modes, errors);
    let size = at.value.at("resources.requests.storage");
    match quantity(size) {
        None => errors.push(FieldError::required(
            &at.path().child("resources").key("storage"),
            "",
        )),
        Some(amount) if amount <= Quantity::ZERO => {
            let path = at.path().child("resources").key("storage");
            errors.push(FieldError::invalid(
                &path,
                amount.to_string(),
                "must be greater than zero",
            ));
        }
        Some(_) => {}
    }
    let class = at.child("storageClassName");
    if !class.is_empty() {
        class.all(errors, dns_subdomain(class.text()));
    }
    if at.child("volumeMode").is_set() {
        enumerated(&at.child("volumeMode"), &["Block", "Filesystem"], errors);
    }
    data_sources(at, errors);
    let attributes = at.child("volumeAttributesClassName");
    if !attributes.is_empty() {
        attributes.all(errors, dns_subdomain(attributes.text()));
    }
}

/// Access modes, of claims and volumes.
pub(crate) fn access_mode_list(at: &At<'_, '_>, errors: &mut ErrorList) {
    let (mut once_per_pod, mut other) = (false, false);
    for mode in at.items() {
        let supported = &[
            "ReadOnlyMany",
            "ReadWriteMany",
            "ReadWriteOnce",
            "ReadWriteOncePod",
        ];
        if !supported.contains(&mode.text()) {
            errors.push(FieldError::not_supported(&at.path(), mode.text(), supported));
        }
        match mode.text() {
            "ReadWriteOncePod" => once_per_pod = true,
            mode => other |= supported.contains(&mode),
        }
    }
    if once_per_pod && other {
        errors.push(at.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

fn data_sources(at: &At<'_, '_>, errors: &mut ErrorList) {
    for field in ["dataSource", "dataSourceRef"] {
        let source = at.child(field);
        if source.is_null() {
            continue;
        }
        for part in ["name", "kind"] {
            if source.child(part).is_empty() {
                errors.push(source.child(part).required(""));
            }
        }
        let group = source.child("apiGroup");
        if group.is_empty() {
            if source.child("kind").text() != "PersistentVolumeClaim" {
                let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
                errors.push(source.invalid_as(source.child("kind").text(), detail));
            }
        } else {
            group.all(errors, dns_subdomain(group.text()));
        }
        let namespace = source.child("namespace");
        if !namespace.is_empty() {
            namespace.all(errors, rutter_api::validation::dns_label(namespace.text()));
        }
    }
    let (source, reference) = (at.child("dataSource"), at.child("dataSourceRef"));
    if source.is_set() && reference.is_set() {
        let same = ["apiGroup", "kind", "name"]
            .iter()
            .all(|f| source.child(f).value == reference.child(f).value);
        if !reference.child("namespace").is_empty() {
            errors.push(at.invalid("may not be specified when dataSourceRef.namespace is specified"));
        } else if !same {
            errors.push(at.invalid("must match dataSourceRef"));
        }
    }
}

fn validate_update(object: &Value, old: &Value, errors: &mut ErrorList) {
    let root = At::root(object);
    let spec = root.child("spec");
    claim_spec(&spec, errors);
    let mut allowed = old.at("spec").clone();
    let bound = !old.str_at("spec.volumeName").is_empty();
    if !bound {
        copy(&mut allowed, spec.value, "volumeName");
    }
    if bound {
        let requests = spec.child("resources").child("requests").value.clone();
        if allowed.at("resources").is_null() {
            allowed.set("resources", Map::new());
        }
        copy(&mut allowed, spec.value, "resources");
        let (new_size, old_size) = (
            quantity(requests.at("storage")),
            quantity(old.at("spec.resources.requests.storage")),
        );
        let kept = quantity(old.at("status.capacity.storage"));
        if let (Some(new), Some(before)) = (new_size, old_size)
            && new < before
            && kept.is_none_or(|kept| new <= kept)
        {
            let path = spec.path().child("resources").child("requests").child("storage");
            let detail = if kept.is_some() {
                "field can not be less than status.capacity"
            } else {
                "field can not be less than previous value"
            };
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    copy(&mut allowed, spec.value, "volumeAttributesClassName");
    let from_annotation = old.annotation(crate::persistent_volume::CLASS_ANNOTATION);
    if old.at("spec.storageClassName").is_null()
        && (from_annotation.is_none() || from_annotation == Some(object.str_at("spec.storageClassName")))
    {
        copy(&mut allowed, spec.value, "storageClassName");
    }
    if &allowed != spec.value {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(spec.forbidden(crate::check::with_diff(detail, old.at("spec"), spec.value)));
    }
    rutter_api::validation::immutable(&spec.child("volumeMode"), old.at("spec.volumeMode"), errors);
}

fn copy(to: &mut Value, from: &Value, field: &str) {
    match from.at(field) {
        Value::Null => {
            to.take_at(field);
        }
        value => to.set(field, value.clone()),
    }
}
