//! CSIDriver, CSINode and CSIStorageCapacity.

use crate::check::{enumerated, immutable};
use crate::fill::{absent, empty, spec};
use crate::podcheck::csi_driver_name;
use crate::print::{self, AGE, NAME, NONE, UNSET};
use rutter_api::FieldError;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{At, dns_subdomain, label_selector, qualified_name};
use rutter_api::{Context, ErrorList, Strategy, Value};
use serde_json::json;
use std::collections::BTreeSet;

/// CSIDriver.
pub(crate) struct CsiDriver;

/// CSINode.
pub(crate) struct CsiNode;

/// CSIStorageCapacity.
pub(crate) struct CsiStorageCapacity;

impl Strategy for CsiDriver {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        absent(spec, "attachRequired", true);
        absent(spec, "podInfoOnMount", false);
        absent(spec, "storageCapacity", false);
        absent(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        absent(spec, "requiresRepublish", false);
        absent(spec, "seLinuxMount", false);
        if empty(spec, "volumeLifecycleModes") {
            spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_driver(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        let mut errors = validate_driver(object);
        let root = At::root(object);
        let spec = root.child("spec");
        let attach = spec.field("attachedRequired", object.at("spec.attachRequired"));
        immutable(&attach, old.at("spec.attachRequired"), &mut errors);
        let modes = spec.child("volumeLifecycleModes");
        immutable(&modes, old.at("spec.volumeLifecycleModes"), &mut errors);
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::boolean(
                "AttachRequired",
                "Whether volumes are attached before they are mounted.",
            ),
            print::boolean("PodInfoOnMount", "Whether it is told about the pod."),
            print::boolean("StorageCapacity", "Whether it publishes capacities."),
            print::text("TokenRequests", "Audiences of the tokens it wants."),
            print::boolean(
                "RequiresRepublish",
                "Whether mounts are repeated from time to time.",
            ),
            print::text("Modes", "The lifecycles of its volumes."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let flag =
            |name: &str, default: bool| Value::from(object.at("spec").bool_at(name).unwrap_or(default));
        let tokens = match object.at("spec.tokenRequests") {
            Value::Null => UNSET.to_owned(),
            _ => {
                let audiences = object
                    .list_at("spec.tokenRequests")
                    .iter()
                    .map(|t| t.str_at("audience"));
                audiences.collect::<Vec<_>>().join(",")
            }
        };
        let modes = match print::joined(object.list_at("spec.volumeLifecycleModes")) {
            modes if modes.is_empty() => NONE.to_owned(),
            modes => modes,
        };
        vec![
            print::name(object),
            flag("attachRequired", true),
            flag("podInfoOnMount", false),
            flag("storageCapacity", false),
            Value::from(tokens),
            flag("requiresRepublish", false),
            Value::from(modes),
            print::age(object, cx),
        ]
    }
}

impl Strategy for CsiNode {
    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_node(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        validate_node_change(object, old)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::integer("Drivers", "How many drivers the node has."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let drivers = object.list_at("spec.drivers").len();
        vec![print::name(object), Value::from(drivers), print::age(object, cx)]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

impl Strategy for CsiStorageCapacity {
    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_capacity(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        let mut errors = validate_capacity(object);
        let root = At::root(object);
        for field in ["nodeTopology", "storageClassName"] {
            immutable(&root.child(field), old.at(field), &mut errors);
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("StorageClassName", "The storage class it is about."),
            print::text("Capacity", "How much there is."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, _cx: &Context<'_>) -> Vec<Value> {
        vec![
            print::name(object),
            Value::from(object.str_at("storageClassName")),
            print::text_or(object, "capacity", UNSET),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

fn validate_driver(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let metadata = root.child("metadata");
    csi_driver_name(&metadata.child("name"), &mut errors);
    let spec = root.child("spec");
    let policy = spec.child("fsGroupPolicy");
    if policy.is_set() {
        enumerated(&policy, &["File", "None", "ReadWriteOnceWithFSType"], &mut errors);
    }
    let mut audiences = BTreeSet::new();
    for request in spec.child("tokenRequests").items() {
        let audience = request.child("audience");
        if !audiences.insert(audience.text()) {
            errors.push(FieldError::duplicate(&audience.path(), audience.text()));
        }
        let seconds = request.child("expirationSeconds");
        match seconds.int() {
            Some(n) if n < 600 => {
                errors.push(seconds.invalid("may not specify a duration less than 10 minutes"))
            }
            Some(n) if n > 1 << 32 => {
                errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
            }
            _ => {}
        }
    }
    let modes = spec.child("volumeLifecycleModes");
    for mode in modes.items() {
        if !matches!(mode.text(), "Persistent" | "Ephemeral") {
            errors.push(FieldError::not_supported(
                &modes.path(),
                mode.text(),
                &["Persistent", "Ephemeral"],
            ));
        }
    }
    let period = spec.child("nodeAllocatableUpdatePeriodSeconds");
    if period.int().is_some_and(|n| n < 10) {
        errors.push(period.invalid("must be greater than or equal to 10 seconds"));
    }
    let secrets = spec.child("serviceAccountTokenInSecrets");
    if secrets.is_set() && spec.child("tokenRequests").is_empty() {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(secrets.invalid(detail));
    }
    errors
}

fn validate_node(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let mut names = BTreeSet::new();
    for driver in spec.child("drivers").items() {
        let (name, node) = (driver.child("name"), driver.child("nodeID"));
        csi_driver_name(&name, &mut errors);
        if node.is_empty() {
            errors.push(node.required(""));
        }
        if node.text().len() > 192 {
            errors.push(node.invalid("must be 192 characters or less"));
        }
        crate::check::not_negative(&driver.child("allocatable.count"), &mut errors);
        if !names.insert(name.text()) {
            errors.push(name.duplicate());
        }
        let mut keys = BTreeSet::new();
        let topology = driver.child("topologyKeys");
        for key in topology.items() {
            if key.is_empty() {
                errors.push(driver.required(""));
            }
            if !keys.insert(key.text()) {
                errors.push(FieldError::duplicate(&driver.path(), key.text()));
            }
            errors.extend(
                qualified_name(key.text())
                    .into_iter()
                    .map(|e| driver.invalid_as(key.text(), e)),
            );
        }
    }
    errors
}

fn validate_node_change(object: &Value, old: &Value) -> ErrorList {
    let mut errors = validate_node(object);
    let root = At::root(object);
    let spec = root.child("spec");
    let drivers = spec.child("drivers");
    for driver in drivers.items() {
        let name = driver.child("name").text();
        let mut new = driver.value.clone();
        new.take_at("allocatable");
        let before = old
            .list_at("spec.drivers")
            .iter()
            .find(|d| d.str_at("name") == name)
            .cloned();
        if let Some(mut before) = before {
            before.take_at("allocatable");
            if before != new {
                errors.push(drivers.invalid_as(driver.value.clone(), "field is immutable"));
            }
        }
    }
    errors
}

fn validate_capacity(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    label_selector(&root.child("nodeTopology"), false, &mut errors);
    let class = root.child("storageClassName");
    errors.extend(
        dns_subdomain(class.text())
            .into_iter()
            .map(|e| class.invalid_as(class.text(), e)),
    );
    crate::podcheck::quantity_value(&root.child("capacity"), "", &mut errors);
    crate::podcheck::quantity_value(&root.child("maximumVolumeSize"), "", &mut errors);
    errors
}
