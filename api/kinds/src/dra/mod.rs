//! The kinds of `resource.k8s.io`: devices and claims to them.

mod check;
mod slice;
#[cfg(test)]
mod tests;

use crate::check::immutable;
use crate::fill::{Fields, absent, each, inside, made, number, spec, text, text_of};
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::validation::At;
use rutter_api::{Context, ErrorList, Strategy, Value};

/// DeviceClass.
pub(crate) struct DeviceClass;

/// ResourceClaim.
pub(crate) struct ResourceClaim;

/// ResourceClaimTemplate.
pub(crate) struct ResourceClaimTemplate;

/// ResourceSlice.
pub(crate) struct ResourceSlice;

fn default_request(request: &mut Fields) {
    text(request, "allocationMode", "ExactCount");
    if text_of(request, "allocationMode") == "ExactCount" {
        number(request, "count", 1);
    }
    for toleration in each(request, "tolerations") {
        text(toleration, "operator", "Equal");
    }
}

fn default_claim_spec(spec: &mut Fields) {
    let Some(devices) = inside(spec, "devices") else {
        return;
    };
    for request in each(devices, "requests") {
        if let Some(exactly) = inside(request, "exactly") {
            default_request(exactly);
        }
        each(request, "firstAvailable").for_each(default_request);
    }
}

impl Strategy for DeviceClass {
    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        check::class_spec(&At::root(object).child("spec"), None, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        check::class_spec(&At::root(object).child("spec"), Some(old.at("spec")), &mut errors);
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![print::name(object), print::age(object, cx)]
    }
}

impl Strategy for ResourceClaim {
    fn default_object(&self, object: &mut Value) {
        if let Some(spec) = spec(object) {
            default_claim_spec(spec);
        }
        for result in object
            .list_at_mut("status.allocation.devices.results")
            .into_iter()
            .flatten()
        {
            for toleration in result
                .as_object_mut()
                .into_iter()
                .flat_map(|r| each(r, "tolerations"))
            {
                text(toleration, "operator", "Equal");
            }
        }
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        prepare_plain_update(object, old, cx);
        if cx.subresource == "status" {
            drop_released_devices(object, old);
        }
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        check::claim_spec(&At::root(object).child("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        if cx.subresource == "status" {
            check::claim_status(object, old, &mut errors);
        } else {
            immutable(&At::root(object).child("spec"), old.at("spec"), &mut errors);
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, print::text("State", "Pending, allocated, reserved."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let mut states = Vec::new();
        if object.is_deleting() {
            states.push("deleted");
        }
        if object.at("status.allocation").is_null() {
            if !object.is_deleting() {
                states.push("pending");
            }
        } else {
            states.push("allocated");
            if !object.list_at("status.reservedFor").is_empty() {
                states.push("reserved");
            }
        }
        vec![
            print::name(object),
            Value::from(states.join(",")),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

/// What drivers said of devices that are no longer allocated goes with the allocation.
fn drop_released_devices(object: &mut Value, old: &Value) {
    let key =
        |device: &Value| ["driver", "pool", "device", "shareID"].map(|field| device.str_at(field).to_owned());
    let allocated = |claim: &Value| -> Vec<[String; 4]> {
        claim
            .list_at("status.allocation.devices.results")
            .iter()
            .map(key)
            .collect()
    };
    let kept = allocated(object);
    let released: Vec<[String; 4]> = allocated(old).into_iter().filter(|k| !kept.contains(k)).collect();
    if let Some(devices) = object.list_at_mut("status.devices") {
        devices.retain(|device| !released.contains(&key(device)));
        if devices.is_empty() {
            object.take_at("status.devices");
        }
    }
}

impl Strategy for ResourceClaimTemplate {
    fn default_object(&self, object: &mut Value) {
        if let Some(claim) = spec(object).and_then(|spec| made(spec, "spec")) {
            default_claim_spec(claim);
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let root = At::root(object);
        let spec = root.child("spec");
        check::claim_spec(&spec.child("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        immutable(&At::root(object).child("spec"), old.at("spec"), &mut errors);
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![print::name(object), print::age(object, cx)]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

impl Strategy for ResourceSlice {
    fn prepare_create(&self, object: &mut Value, cx: &Context<'_>) {
        stamp_taints(object, cx);
    }

    fn prepare_update(&self, object: &mut Value, _old: &Value, cx: &Context<'_>) {
        stamp_taints(object, cx);
    }

    fn default_object(&self, object: &mut Value) {
        for device in object.list_at_mut("spec.devices").into_iter().flatten() {
            let mappings = device
                .get_mut("nodeAllocatableResourceMappings")
                .and_then(Value::as_object_mut);
            for mapping in mappings
                .into_iter()
                .flat_map(|m| m.values_mut())
                .filter_map(Value::as_object_mut)
            {
                absent(mapping, "allocationMultiplier", "1");
            }
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.nodeName", "spec.driver"]
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        vec![
            object.str_at("spec.nodeName").to_owned(),
            object.str_at("spec.driver").to_owned(),
        ]
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        slice::slice_spec(&At::root(object).child("spec"), None, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        slice::slice_spec(&At::root(object).child("spec"), Some(old.at("spec")), &mut errors);
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Node", "The node its devices are on."),
            print::text("Driver", "The driver of its devices."),
            print::text("Pool", "The pool its devices are in."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![
            print::name(object),
            Value::from(object.str_at("spec.nodeName")),
            Value::from(object.str_at("spec.driver")),
            Value::from(object.str_at("spec.pool.name")),
            print::age(object, cx),
        ]
    }
}

/// A taint without a time is from now.
fn stamp_taints(object: &mut Value, cx: &Context<'_>) {
    let now = print::rfc3339(cx.now);
    for device in object.list_at_mut("spec.devices").into_iter().flatten() {
        for taint in device.list_at_mut("taints").into_iter().flatten() {
            taint.set_default("timeAdded", now.clone());
        }
    }
}
