//! CSIDriver, CSINode and CSIStorageCapacity.

use crate::fill::{absent, empty, spec};
use crate::print::{self, AGE, NAME, NONE, UNSET};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};
use serde_json::json;

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
