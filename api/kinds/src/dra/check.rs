//! What the kinds of `resource.k8s.io` must be.

use crate::amount::quantity;
use crate::check::{enumerated, immutable, name_of, not_negative, positive, required_enum, required_text};
use crate::podcheck::{csi_driver_name, is_extended, node_selector};
use rutter_api::object::ObjectExt;
use rutter_api::validation::{At, dns_label, dns_subdomain, label_value, qualified_name, strict_cidr};
use rutter_api::{ErrorList, FieldError, Value};
use rutter_cel::conditions::expression_error;
use rutter_cel::{Env, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const REQUESTS: usize = 32;
const CONSTRAINTS: usize = 32;
const CONFIGS: usize = 32;
const SELECTORS: usize = 32;
const ALTERNATIVES: usize = 8;
const TOLERATIONS: usize = 16;
const EXPRESSION: usize = 10 * 1024;
const PARAMETERS: usize = 10 * 1024;
const RESERVED_FOR: usize = 256;
const POOL_NAME: usize = 253;
const DEVICES: usize = 128;
const DEVICES_WITH_MORE: usize = 64;
const ATTRIBUTES: usize = 32;
const ATTRIBUTE: usize = 64;
const IDENTIFIER: usize = 32;
const TAINTS: usize = 16;
const BINDING_CONDITIONS: usize = 4;
const COUNTER_SETS: usize = 8;
const COUNTERS: usize = 32;
const CONSUMPTIONS: usize = 2;
const POLICY_VALUES: usize = 10;

const REFERENCE: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// A ResourceClaim's `spec`.
pub(super) fn claim_spec(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let devices = spec.child("devices");
    let names = request_names(devices.value);
    let requests = devices.child("requests");
    if at_most(&requests, REQUESTS, errors) {
        for request in requests.items() {
            device_request(&request, errors);
        }
        unique(&requests, |request| request.str_at("name").to_owned(), errors);
    }
    let constraints = devices.child("constraints");
    if at_most(&constraints, CONSTRAINTS, errors) {
        for constraint in constraints.items() {
            device_constraint(&constraint, &names, errors);
        }
    }
    let configs = devices.child("config");
    if at_most(&configs, CONFIGS, errors) {
        for config in configs.items() {
            references(&config.child("requests"), &names, errors);
            configuration(&config, false, errors);
        }
    }
}

/// The names that `requests` lists may refer to: of requests, and of their alternatives.
fn request_names(devices: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for request in devices.list_at("requests") {
        let name = request.str_at("name");
        names.insert(name.to_owned());
        for alternative in request.list_at("firstAvailable") {
            names.insert(format!("{name}/{}", alternative.str_at("name")));
        }
    }
    names
}

fn device_request(request: &At<'_, '_>, errors: &mut ErrorList) {
    name_of(&request.child("name"), dns_label, errors);
    let (exactly, alternatives) = (request.child("exactly"), request.child("firstAvailable"));
    match (exactly.is_set(), alternatives.len()) {
        (false, 0) => {
            errors.push(request.required("exactly one of `exactly` or `firstAvailable` is required"));
        }
        (true, 0) => request_details(&exactly, errors),
        (true, _) => errors.push(crate::check::plain(
            request,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        )),
        (false, _) => {
            if at_most(&alternatives, ALTERNATIVES, errors) {
                for alternative in alternatives.items() {
                    name_of(&alternative.child("name"), dns_label, errors);
                    request_details(&alternative, errors);
                }
                unique(&alternatives, |sub| sub.str_at("name").to_owned(), errors);
            }
        }
    }
}

fn request_details(request: &At<'_, '_>, errors: &mut ErrorList) {
    let class = request.child("deviceClassName");
    required_text(&class, errors);
    if !class.is_empty() {
        name_of(&class, dns_subdomain, errors);
    }
    selectors(&request.child("selectors"), errors);
    let (mode, count) = (request.child("allocationMode"), request.child("count"));
    match mode.text() {
        "All" if count.int().unwrap_or_default() != 0 => {
            errors.push(count.invalid("must not be specified when allocationMode is 'All'"));
        }
        "ExactCount" => positive(&count, errors),
        _ => enumerated(&mode, &["All", "ExactCount"], errors),
    }
    let tolerations = request.child("tolerations");
    if at_most(&tolerations, TOLERATIONS, errors) {
        for toleration in tolerations.items() {
            device_toleration(&toleration, errors);
        }
    }
}

fn device_toleration(toleration: &At<'_, '_>, errors: &mut ErrorList) {
    let (key, value) = (toleration.child("key"), toleration.child("value"));
    if !key.is_empty() {
        name_of(&key, qualified_name, errors);
    }
    let operator = toleration.child("operator");
    match operator.text() {
        "Exists" if !value.is_empty() => errors.push(value.invalid("must be empty for operator `Exists`")),
        "Equal" => name_of(&value, label_value, errors),
        _ => required_enum(&operator, &["Equal", "Exists"], errors),
    }
    let effect = toleration.child("effect");
    if !effect.is_empty() {
        enumerated(&effect, EFFECTS, errors);
    }
}

const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// A list of CEL selectors.
pub(super) fn selectors(list: &At<'_, '_>, errors: &mut ErrorList) {
    if !at_most(list, SELECTORS, errors) {
        return;
    }
    for selector in list.items() {
        let cel = selector.child("cel");
        if cel.is_null() {
            errors.push(cel.required(""));
            continue;
        }
        let expression = cel.child("expression");
        if expression.text().len() > EXPRESSION {
            errors.push(FieldError::too_long(&expression.path(), EXPRESSION));
        } else if !expression.text().contains("cel.bind(") {
            // What binds names is understood by schedulers only.
            let found = expression_error(&device(), &expression.path(), expression.text(), &[Type::Bool]);
            errors.extend(found);
        }
    }
}

/// What selectors may refer to. Attributes have the type of their value.
fn device() -> Env {
    let of = |value: Type| Type::map(Type::String, Type::map(Type::String, value));
    let fields: BTreeMap<Box<str>, Type> = [
        ("driver", Type::String),
        ("attributes", of(Type::Dyn)),
        ("capacity", of(Type::Dyn)),
        ("allowMultipleAllocations", Type::Bool),
    ]
    .into_iter()
    .map(|(name, ty)| (name.into(), ty))
    .collect();
    Env::new().with_fields("device", "kubernetes.DRADevice", &fields)
}

fn device_constraint(constraint: &At<'_, '_>, names: &BTreeSet<String>, errors: &mut ErrorList) {
    references(&constraint.child("requests"), names, errors);
    let (same, distinct) = (
        constraint.child("matchAttribute"),
        constraint.child("distinctAttribute"),
    );
    let attribute = match (same.is_set(), distinct.is_set()) {
        (true, _) => same,
        (false, true) => distinct,
        (false, false) => {
            let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            errors.push(constraint.required(why));
            return;
        }
    };
    qualified(&attribute, attribute.text(), errors);
    if !attribute.text().contains('/') {
        errors.push(
            attribute.invalid("a fully qualified name must be a domain and a name separated by a slash"),
        );
    }
}

/// A list of names of requests.
fn references(list: &At<'_, '_>, names: &BTreeSet<String>, errors: &mut ErrorList) {
    if !at_most(list, REQUESTS, errors) {
        return;
    }
    for name in list.items() {
        reference(&name, names, errors);
    }
    unique(list, |name| name.as_str().unwrap_or_default().to_owned(), errors);
}

fn reference(name: &At<'_, '_>, names: &BTreeSet<String>, errors: &mut ErrorList) {
    let parts: Vec<&str> = name.text().split('/').collect();
    if parts.len() <= 2 {
        for part in parts {
            name.all(errors, dns_label(part));
        }
    }
    if !names.contains(name.text()) {
        errors.push(name.invalid(REFERENCE));
    }
}

/// The `opaque` of a configuration. `stored` parameters may be larger than new ones.
pub(super) fn configuration(config: &At<'_, '_>, stored: bool, errors: &mut ErrorList) {
    let opaque = config.child("opaque");
    if opaque.is_null() {
        errors.push(opaque.required(""));
        return;
    }
    csi_driver_name(&opaque.child("driver"), errors);
    raw(&opaque.child("parameters"), stored, errors);
}

fn raw(at: &At<'_, '_>, stored: bool, errors: &mut ErrorList) {
    match at.value {
        Value::Null => errors.push(at.required("")),
        Value::Object(_) => {
            if !stored && rutter_api::codec::json::to_vec(at.value).len() > PARAMETERS {
                errors.push(FieldError::too_long(&at.path(), PARAMETERS));
            }
        }
        _ => errors.push(at.invalid_as("<value omitted>", "must be a valid JSON object")),
    }
}

/// A DeviceClass's `spec`; what is as it was in `old` was checked before.
pub(super) fn class_spec(spec: &At<'_, '_>, old: Option<&Value>, errors: &mut ErrorList) {
    let same = |field: &str| old.is_some_and(|old| old.at(field) == spec.value.at(field));
    if !same("selectors") {
        selectors(&spec.child("selectors"), errors);
    }
    let configs = spec.child("config");
    if at_most(&configs, CONFIGS, errors) {
        for config in configs.items() {
            configuration(&config, same("config"), errors);
        }
    }
    let extended = spec.child("extendedResourceName");
    if extended.is_set() && !is_extended(extended.text()) {
        errors.push(extended.invalid("must be a valid extended resource name"));
    }
}

/// A ResourceClaim's `status`, as it changes.
pub(super) fn claim_status(object: &Value, old: &Value, errors: &mut ErrorList) {
    let root = At::root(object);
    let status = root.child("status");
    let names = request_names(object.at("spec.devices"));
    let reserved = status.child("reservedFor");
    if at_most(&reserved, RESERVED_FOR, errors) {
        for user in reserved.items() {
            for field in ["resource", "name", "uid"] {
                required_text(&user.child(field), errors);
            }
        }
        unique(&reserved, |user| user.str_at("uid").to_owned(), errors);
    }
    let allocation = status.child("allocation");
    allocated_devices(&status.child("devices"), allocation.value, errors);
    if !reserved.is_empty() && allocation.is_null() {
        errors.push(reserved.forbidden("may not be specified when `allocated` is not set"));
    } else if object.is_deleting() {
        let before = old.list_at("status.reservedFor");
        if object
            .list_at("status.reservedFor")
            .iter()
            .any(|user| !before.contains(user))
        {
            errors.push(reserved.forbidden(
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
            ));
        }
    }
    match (old.at("status.allocation"), allocation.is_set()) {
        (Value::Null, true) => allocation_result(&allocation, &names, errors),
        (before, true) => immutable(&allocation, before, errors),
        (_, false) => {}
    }
}

fn allocation_result(allocation: &At<'_, '_>, names: &BTreeSet<String>, errors: &mut ErrorList) {
    let devices = allocation.child("devices");
    let results = devices.child("results");
    if at_most(&results, REQUESTS, errors) {
        for result in results.items() {
            reference(&result.child("request"), names, errors);
            device_id(&result, errors);
            binding_conditions(&result, errors);
        }
    }
    let configs = devices.child("config");
    if at_most(&configs, 2 * CONFIGS, errors) {
        for config in configs.items() {
            required_enum(&config.child("source"), &["FromClaim", "FromClass"], errors);
            references(&config.child("requests"), names, errors);
            configuration(&config, false, errors);
        }
    }
    let nodes = allocation.child("nodeSelector");
    if nodes.is_set() {
        node_selector(&nodes, errors);
    }
}

fn device_id(of: &At<'_, '_>, errors: &mut ErrorList) {
    csi_driver_name(&of.child("driver"), errors);
    pool_name(&of.child("pool"), errors);
    name_of(&of.child("device"), dns_label, errors);
}

fn device_key(of: &Value) -> [String; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| of.str_at(field).to_owned())
}

/// What drivers say of allocated devices.
fn allocated_devices(devices: &At<'_, '_>, allocation: &Value, errors: &mut ErrorList) {
    let allocated: Vec<_> = allocation
        .list_at("devices.results")
        .iter()
        .map(device_key)
        .collect();
    for device in devices.items() {
        device_id(&device, errors);
        let key = device_key(device.value);
        if !allocated.contains(&key) {
            let shown = key
                .iter()
                .filter(|part| !part.is_empty())
                .fold(String::new(), |mut out, part| {
                    let _ = write!(out, "{}{part}", if out.is_empty() { "" } else { "/" });
                    out
                });
            errors.push(device.invalid_as(shown, "must be an allocated device in the claim"));
        }
        at_most(&device.child("conditions"), 8, errors);
        let data = device.child("data");
        if data.is_set() {
            raw(&data, false, errors);
        }
        let network = device.child("networkData");
        for (field, most) in [("interfaceName", 256), ("hardwareAddress", 128)] {
            let text = network.child(field);
            if text.text().len() > most {
                errors.push(FieldError::too_long(&text.path(), most));
            }
        }
        let addresses = network.child("ips");
        if at_most(&addresses, 16, errors) {
            for address in addresses.items() {
                interface_address(&address, errors);
            }
            unique(
                &addresses,
                |ip| ip.as_str().unwrap_or_default().to_owned(),
                errors,
            );
        }
    }
    let mut seen = BTreeSet::new();
    for device in devices.items() {
        if !seen.insert(device_key(device.value)) {
            errors.push(device.duplicate());
        }
    }
}

/// An address with the length of its network's prefix, such as `192.0.2.7/24`: unlike a range, it may have bits beyond that.
fn interface_address(at: &At<'_, '_>, errors: &mut ErrorList) {
    let text = at.text();
    let canonical = text.split_once('/').is_some_and(|(address, length)| {
        let parsed = address.parse::<std::net::IpAddr>();
        parsed.is_ok_and(|parsed| {
            let most = if parsed.is_ipv4() { 32 } else { 128 };
            parsed.to_string() == address
                && length
                    .parse::<u8>()
                    .is_ok_and(|bits| bits <= most && bits.to_string() == length)
        })
    });
    if !canonical {
        let why = strict_cidr(text);
        let known = why.into_iter().next();
        let other =
            || "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".to_owned();
        errors.push(at.invalid(known.unwrap_or_else(other)));
    }
}

fn pool_name(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_empty() {
        errors.push(at.required(""));
        return;
    }
    if at.text().len() > POOL_NAME {
        errors.push(FieldError::too_long(&at.path(), POOL_NAME));
    }
    for part in at.text().split('/') {
        at.all(errors, dns_subdomain(part));
    }
}

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

/// `name`, or `domain/name`.
fn qualified(at: &At<'_, '_>, text: &str, errors: &mut ErrorList) {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    match domain {
        Some("") => errors.push(at.invalid_as("", "the domain must not be empty")),
        Some(domain) => {
            if domain.len() > 63 {
                errors.push(FieldError::too_long(&at.path(), 63));
            }
            let wrong = dns_subdomain(&domain.to_lowercase());
            errors.extend(wrong.into_iter().map(|why| at.invalid_as(domain, why)));
        }
        None => {}
    }
    if domain.is_some() && name.is_empty() {
        errors.push(at.invalid_as("", "the name must not be empty"));
        return;
    }
    if name.len() > IDENTIFIER {
        errors.push(FieldError::too_long(&at.path(), IDENTIFIER));
    }
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        errors.push(at.invalid_as(name, "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')"));
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

fn binding_conditions(of: &At<'_, '_>, errors: &mut ErrorList) {
    let (good, bad) = (
        of.child("bindingConditions"),
        of.child("bindingFailureConditions"),
    );
    for list in [&good, &bad] {
        if at_most(list, BINDING_CONDITIONS, errors) {
            for condition in list.items() {
                name_of(&condition, qualified_name, errors);
            }
            unique(list, |text| text.as_str().unwrap_or_default().to_owned(), errors);
        }
    }
    for condition in bad.items() {
        if good.items().any(|other| other.value == condition.value) {
            errors
                .push(condition.invalid("bindingFailureConditions must not overlap with bindingConditions"));
        }
    }
    match (good.is_empty(), bad.is_empty()) {
        (true, false) => {
            errors.push(good.invalid("bindingConditions are required to use bindingFailureConditions"));
        }
        (false, true) => {
            errors.push(bad.invalid("bindingFailureConditions are required to use bindingConditions"));
        }
        _ => {}
    }
}

/// Whether a list isn't too long; one that is isn't looked at further.
fn at_most(list: &At<'_, '_>, most: usize, errors: &mut ErrorList) -> bool {
    let fits = list.len() <= most;
    if !fits {
        errors.push(FieldError::too_many(&list.path(), list.len(), most));
    }
    fits
}

fn unique(list: &At<'_, '_>, key: impl Fn(&Value) -> String, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for item in list.items() {
        let key = key(item.value);
        if !seen.insert(key.clone()) {
            errors.push(FieldError::duplicate(&item.path(), key));
        }
    }
}
