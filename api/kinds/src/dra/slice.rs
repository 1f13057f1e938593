//! What ResourceSlices must be: the devices that a driver offers, with their attributes, capacities and counters.

use super::check::{EFFECTS, at_most, binding_conditions, pool_name, qualified, unique};
use crate::amount::quantity;
use crate::check::{immutable, name_of, not_negative, positive, required_enum, required_text};
use crate::podcheck::{csi_driver_name, node_selector};
use rutter_api::object::ObjectExt;
use rutter_api::validation::{At, dns_label, dns_subdomain, label_value, qualified_name};
use rutter_api::{ErrorList, FieldError, Value};

const DEVICES: usize = 128;
const DEVICES_WITH_MORE: usize = 64;
const ATTRIBUTES: usize = 32;
const ATTRIBUTE: usize = 64;
const TAINTS: usize = 16;
const COUNTER_SETS: usize = 8;
const COUNTERS: usize = 32;
const CONSUMPTIONS: usize = 2;
const POLICY_VALUES: usize = 10;

/// A ResourceSlice's `spec`.
pub(super) fn slice_spec(spec: &At<'_, '_>, old: Option<&Value>, errors: &mut ErrorList) {
    csi_driver_name(&spec.child("driver"), errors);
    let pool = spec.child("pool");
    pool_name(&pool.child("name"), errors);
    positive(&pool.child("resourceSliceCount"), errors);
    not_negative(&pool.child("generation"), errors);
    if let Some(old) = old {
        for field in ["pool.name", "driver", "nodeName"] {
            immutable(&spec.child(field), old.at(field), errors);
        }
    }
    let by_device = nodes_of_slice(spec, errors);
    let (devices, counters) = (spec.child("devices"), spec.child("sharedCounters"));
    if devices.is_set() && counters.is_set() {
        errors.push(spec.invalid_as("", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let more =
        devices.value.as_array().into_iter().flatten().any(|device| {
            !device.list_at("taints").is_empty() || !device.list_at("consumesCounters").is_empty()
        });
    if at_most(&devices, if more { DEVICES_WITH_MORE } else { DEVICES }, errors) {
        for one in devices.items() {
            slice_device(&one, by_device, errors);
        }
        unique(&devices, |device| device.str_at("name").to_owned(), errors);
    }
    if at_most(&counters, COUNTER_SETS, errors) {
        for set in counters.items() {
            counter_set(&set, "name", errors);
        }
        unique(&counters, |set| set.str_at("name").to_owned(), errors);
    }
}

/// Which nodes a slice's devices are for. Whether each device says it itself.
fn nodes_of_slice(spec: &At<'_, '_>, errors: &mut ErrorList) -> bool {
    let mut set = Vec::new();
    let node = spec.child("nodeName");
    if node.is_set() {
        if node.is_empty() {
            errors.push(node.invalid("must be either unset or set to a non-empty string"));
        } else {
            set.push("`nodeName`");
            name_of(&node, dns_subdomain, errors);
        }
    }
    let nodes = spec.child("nodeSelector");
    if nodes.is_set() {
        set.push("`nodeSelector`");
        node_selector(&nodes, errors);
        let terms = nodes.child("nodeSelectorTerms");
        if terms.len() != 1 {
            errors.push(terms.invalid("must have exactly one node selector term"));
        }
    }
    for (field, name) in [
        ("allNodes", "`allNodes`"),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`"),
    ] {
        let flag = spec.child(field);
        if flag.flag() {
            set.push(name);
        } else if flag.is_set() {
            errors.push(flag.invalid("must be either unset or set to true"));
        }
    }
    let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    one_of(spec, &set, why, errors);
    spec.child("perDeviceNodeSelection").flag()
}

fn one_of(at: &At<'_, '_>, set: &[&str], why: &str, errors: &mut ErrorList) {
    match set.len() {
        0 => errors.push(at.required(why)),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            let why = if why.ends_with("is required") {
                format!("{why}, but multiple fields are set")
            } else {
                why.to_owned()
            };
            errors.push(at.invalid_as(shown, why));
        }
    }
}

fn slice_device(device: &At<'_, '_>, says_nodes: bool, errors: &mut ErrorList) {
    name_of(&device.child("name"), dns_label, errors);
    let (attributes, capacity) = (device.child("attributes"), device.child("capacity"));
    let count = attributes.len() + capacity.len();
    if count > ATTRIBUTES {
        errors.push(device.invalid_as(
            count,
            format!("the total number of attributes and capacities must not exceed {ATTRIBUTES}"),
        ));
    }
    for (key, _) in attributes.entries() {
        let entry = attributes.key(key);
        qualified(&entry, key, errors);
        attribute(&entry, errors);
    }
    let shared = device.child("allowMultipleAllocations").flag();
    for (key, _) in capacity.entries() {
        let entry = capacity.key(key);
        qualified(&entry, key, errors);
        let policy = entry.child("requestPolicy");
        if policy.is_set() && !shared {
            errors.push(policy.forbidden("allowMultipleAllocations must be true"));
        } else if policy.is_set() {
            request_policy(entry.value.at("value"), &policy, errors);
        }
    }
    let taints = device.child("taints");
    if at_most(&taints, TAINTS, errors) {
        for taint in taints.items() {
            name_of(&taint.child("key"), qualified_name, errors);
            name_of(&taint.child("value"), label_value, errors);
            required_enum(&taint.child("effect"), EFFECTS, errors);
        }
    }
    let consumed = device.child("consumesCounters");
    if at_most(&consumed, CONSUMPTIONS, errors) {
        for set in consumed.items() {
            counter_set(&set, "counterSet", errors);
        }
        unique(&consumed, |set| set.str_at("counterSet").to_owned(), errors);
    }
    nodes_of_device(device, says_nodes, errors);
    binding_conditions(device, errors);
}

fn nodes_of_device(device: &At<'_, '_>, says_nodes: bool, errors: &mut ErrorList) {
    let (node, nodes, all) = (
        device.child("nodeName"),
        device.child("nodeSelector"),
        device.child("allNodes"),
    );
    if !says_nodes {
        if node.is_set() || nodes.is_set() || all.is_set() {
            errors.push(device.invalid_as(
                Value::Null,
                "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
            ));
        }
        return;
    }
    let mut set = Vec::new();
    if node.is_set() && node.is_empty() {
        errors.push(node.invalid("must not be empty"));
    } else if node.is_set() {
        set.push("`nodeName`");
        name_of(&node, dns_subdomain, errors);
    }
    if nodes.is_set() {
        set.push("`nodeSelector`");
        node_selector(&nodes, errors);
    }
    if all.flag() {
        set.push("`allNodes`");
    } else if all.is_set() {
        errors.push(all.invalid("must be either unset or set to true"));
    }
    let why = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    one_of(device, &set, why, errors);
}

fn counter_set(set: &At<'_, '_>, name: &str, errors: &mut ErrorList) {
    let name = set.child(name);
    required_text(&name, errors);
    if !name.is_empty() {
        name_of(&name, dns_label, errors);
    }
    let counters = set.child("counters");
    if counters.is_empty() {
        errors.push(counters.required(""));
    } else if at_most(&counters, COUNTERS, errors) {
        for (key, _) in counters.entries() {
            counters.key(key).all(errors, dns_label(key));
        }
    }
}

fn attribute(at: &At<'_, '_>, errors: &mut ErrorList) {
    let mut set = 0;
    for field in ["bool", "int", "string", "version"] {
        let value = at.child(field);
        if value.is_set() {
            set += 1;
            attribute_text(field, &value, errors);
        }
    }
    for (field, of) in [
        ("bools", "bool"),
        ("ints", "int"),
        ("strings", "string"),
        ("versions", "version"),
    ] {
        let values = at.child(field);
        if values.is_null() {
            continue;
        }
        set += 1;
        if values.is_empty() {
            errors.push(values.invalid("must not be empty if specified"));
        }
        for value in values.items() {
            attribute_text(of, &value, errors);
        }
    }
    if set != 1 {
        let shown = if set == 0 {
            Value::from("")
        } else {
            at.value.clone()
        };
        errors.push(at.invalid_as(shown, "exactly one value must be specified"));
    }
}

fn attribute_text(field: &str, value: &At<'_, '_>, errors: &mut ErrorList) {
    if field == "version" && !is_version(value.text()) {
        errors.push(value.invalid("must be a string compatible with semver.org spec 2.0.0"));
    }
    if matches!(field, "version" | "string") && value.text().len() > ATTRIBUTE {
        errors.push(FieldError::too_long(&value.path(), ATTRIBUTE));
    }
}

/// A version by semver.org 2.0.0.
fn is_version(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(a, b)| (a, Some(b)));
    let (core, before) = text.split_once('-').map_or((text, None), |(a, b)| (a, Some(b)));
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    core.split('.').count() == 3
        && core.split('.').all(number)
        && before.is_none_or(|before| {
            before
                .split('.')
                .all(|part| word(part) && (!digits(part) || number(part)))
        })
        && build.is_none_or(|build| build.split('.').all(word))
}

fn request_policy(most: &Value, policy: &At<'_, '_>, errors: &mut ErrorList) {
    let (values, range, default) = (
        policy.child("validValues"),
        policy.child("validRange"),
        policy.child("default"),
    );
    if !values.is_empty() && range.is_set() {
        errors.push(policy.forbidden(
            "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time",
        ));
        return;
    }
    if default.is_null() {
        for (given, name) in [
            (!values.is_empty(), "validValues"),
            (range.is_set(), "validRange"),
        ] {
            if given {
                errors.push(default.required(format!("required when {name} is defined")));
            }
        }
        return;
    }
    let (Some(most), Some(default)) = (quantity(most), quantity(default.value)) else {
        return;
    };
    if !values.is_empty() && at_most(&values, POLICY_VALUES, errors) {
        let mut last = None;
        let mut found = false;
        for value in values.items() {
            let Some(amount) = quantity(value.value) else {
                continue;
            };
            if last.is_some_and(|last| amount < last) {
                errors.push(value.invalid("values must be sorted in ascending order"));
            }
            if amount > most {
                errors.push(value.invalid(format!("option is larger than capacity value: {most}")));
            }
            found |= amount == default;
            last = Some(amount);
        }
        if !found {
            let why = "default value is not valid according to the requestPolicy";
            errors.push(values.invalid_as(default.to_string(), why));
        }
    }
    if range.is_set() {
        policy_range(&range, most, default, errors);
    }
}

fn policy_range(
    range: &At<'_, '_>,
    capacity: rutter_api::Quantity,
    default: rutter_api::Quantity,
    errors: &mut ErrorList,
) {
    let (least, most) = (range.child("min"), range.child("max"));
    let Some(min) = quantity(least.value) else {
        errors.push(least.required("required when validRange is defined"));
        return;
    };
    if min > capacity {
        errors.push(least.invalid(format!("min is larger than capacity value: {capacity}")));
    }
    if default < min {
        errors.push(least.invalid_as(default.to_string(), format!("default is less than min: {min}")));
    }
    let max = quantity(most.value);
    if let Some(max) = max {
        if min > max {
            errors.push(most.invalid_as(min.to_string(), format!("min is larger than max: {max}")));
        }
        if max > capacity {
            errors.push(most.invalid(format!("max is larger than capacity value: {capacity}")));
        }
        if default > max {
            errors.push(most.invalid_as(default.to_string(), format!("default is more than max: {max}")));
        }
    }
    let at = range.child("step");
    let Some(step) = quantity(at.value) else { return };
    if min.value().saturating_add(step.value()) > capacity.value() {
        let why = format!("one step is larger than capacity value: {capacity}");
        errors.push(at.invalid(why));
    }
    for value in [Some(default), max].into_iter().flatten() {
        let beyond = value.value().saturating_sub(min.value());
        if beyond.checked_rem(step.value()) != Some(0) {
            let why = format!("value is not a multiple of a given step ({step}) from ({min})");
            errors.push(at.invalid_as(value.to_string(), why));
        }
    }
}
