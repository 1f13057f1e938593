//! PersistentVolume.

use crate::amount::quantity;
use crate::check::{enumerated, name_of, required_text, with_diff};
use crate::fill::{absent, spec, text};
use crate::persistent_volume_claim::access_mode_list;
use crate::podcheck::{csi_driver_name, node_selector, shared_source};
use crate::podspec::default_volume_source;
use crate::print::{self, AGE, NAME, UNSET};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::validation::{At, dns_subdomain};
use rutter_api::{Context, ErrorList, Strategy, Value};
use rutter_api::{FieldError, Quantity};

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

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        if cx.subresource == "status" {
            return ErrorList::new();
        }
        let mut errors = validate(object);
        validate_change(object, old, &mut errors);
        errors
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

/// Sources of volumes, with the texts each requires.
const SOURCES: &[(&str, &[&str])] = &[
    ("hostPath", &[]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("nfs", &["server", "path"]),
    ("rbd", &["monitors", "image"]),
    ("quobyte", &[]),
    ("cephfs", &["monitors"]),
    ("iscsi", &["targetPortal"]),
    ("cinder", &["volumeID"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("local", &["path"]),
    ("storageos", &["volumeName"]),
    ("csi", &["volumeHandle"]),
];

const CSI_SECRETS: [&str; 4] = [
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodePublishSecretRef",
    "nodeExpandSecretRef",
];

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let modes = spec.child("accessModes");
    if modes.is_empty() {
        errors.push(modes.required(""));
    }
    access_mode_list(&modes, &mut errors);
    let capacity = spec.child("capacity");
    if capacity.is_empty() {
        errors.push(capacity.required(""));
    }
    if capacity.key("storage").is_null() || capacity.len() > 1 {
        errors.push(FieldError::not_supported(
            &capacity.path(),
            capacity.value.clone(),
            &["storage"],
        ));
    }
    for (name, value) in capacity.entries() {
        if let Some(amount) = quantity(value)
            && amount <= Quantity::ZERO
        {
            errors.push(
                capacity
                    .key(name)
                    .invalid_as(amount.to_string(), "must be greater than zero"),
            );
        }
    }
    let policy = spec.child("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        enumerated(&policy, &["Delete", "Recycle", "Retain"], &mut errors);
    }
    let affinity = spec.child("nodeAffinity");
    if affinity.is_set() {
        if affinity.child("required").is_set() {
            node_selector(&affinity.child("required"), &mut errors);
        } else {
            errors.push(
                affinity
                    .child("required")
                    .required("must specify required node constraints"),
            );
        }
    }
    source(&spec, &mut errors);
    if spec.child("hostPath.path").text() == "/" && policy.text() == "Recycle" {
        errors.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
    if !spec.child("storageClassName").is_empty() {
        name_of(&spec.child("storageClassName"), dns_subdomain, &mut errors);
    }
    if spec.child("volumeMode").is_set() {
        enumerated(&spec.child("volumeMode"), &["Block", "Filesystem"], &mut errors);
    }
    let class = spec.child("volumeAttributesClassName");
    if class.is_set() {
        if class.is_empty() {
            errors.push(class.required("an empty string is disallowed"));
        } else {
            name_of(&class, dns_subdomain, &mut errors);
        }
        if spec.child("csi").is_null() {
            errors.push(
                spec.child("csi")
                    .required("has to be specified when using volumeAttributesClassName"),
            );
        }
    }
    errors
}

fn source(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let mut found = false;
    for (name, required) in SOURCES {
        let at = spec.child(name);
        if at.is_null() {
            continue;
        }
        if found {
            errors.push(at.forbidden("may not specify more than 1 volume type"));
            continue;
        }
        found = true;
        for field in *required {
            required_text(&at.child(field), errors);
        }
        shared_source(name, &at, errors);
        match *name {
            "csi" => csi(&at, errors),
            "local" => {
                let path = at.child("path");
                crate::podcheck::backsteps(&path, path.text(), errors);
                if spec.child("nodeAffinity").is_null() {
                    let detail = "Local volume requires node affinity";
                    errors.push(spec.child("nodeAffinity").required(detail));
                }
            }
            "azureFile" => {
                let namespace = at.child("secretNamespace");
                if namespace.is_set() && namespace.is_empty() {
                    errors.push(namespace.required(""));
                }
            }
            _ => {}
        }
    }
    if !found {
        errors.push(spec.required("must specify a volume type"));
    }
}

fn csi(at: &At<'_, '_>, errors: &mut ErrorList) {
    csi_driver_name(&at.child("driver"), errors);
    for field in CSI_SECRETS {
        let secret = at.child(field);
        if secret.is_set() {
            required_text(&secret.child("name"), errors);
            required_text(&secret.child("namespace"), errors);
        }
    }
}

fn sources_of(spec: &Value) -> Value {
    let entries = SOURCES
        .iter()
        .filter_map(|(name, _)| Some(((*name).to_owned(), spec.get(*name)?.clone())));
    Value::Object(entries.filter(|(_, value)| !value.is_null()).collect())
}

fn validate_change(object: &Value, old: &Value, errors: &mut ErrorList) {
    let (mut now, before) = (sources_of(object.at("spec")), sources_of(old.at("spec")));
    if before.at("csi.controllerExpandSecretRef").is_null() {
        now.take_at("csi.controllerExpandSecretRef");
    }
    if now != before {
        let detail = "spec.persistentvolumesource is immutable after creation";
        let path = "spec.persistentvolumesource".into();
        errors.push(FieldError::forbidden(&path, with_diff(detail, &before, &now)));
    }
    let root = At::root(object);
    let mode = root.field("volumeMode", object.at("spec.volumeMode"));
    crate::check::immutable(&mode, old.at("spec.volumeMode"), errors);
    let affinity = root.field("nodeAffinity", object.at("spec.nodeAffinity"));
    if !old.at("spec.nodeAffinity").is_null() {
        crate::check::immutable(&affinity, old.at("spec.nodeAffinity"), errors);
    }
    let class = "spec.volumeAttributesClassName";
    if !old.at(class).is_null() && object.at(class).is_null() {
        errors.push(FieldError::forbidden(
            &class.into(),
            "update from non-nil value to nil is forbidden",
        ));
    }
}
