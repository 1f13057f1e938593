//! What classes of devices and claims to devices must be, and what ResourceSlices have in common with them.

use crate::check::{enumerated, immutable, name_of, positive, required_enum, required_text};
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
const IDENTIFIER: usize = 32;
const BINDING_CONDITIONS: usize = 4;

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

pub(super) const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

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
        } else {
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
    Env::new()
        .with_bindings()
        .with_fields("device", "kubernetes.DRADevice", &fields)
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

pub(super) fn pool_name(at: &At<'_, '_>, errors: &mut ErrorList) {
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

/// `name`, or `domain/name`.
pub(super) fn qualified(at: &At<'_, '_>, text: &str, errors: &mut ErrorList) {
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

pub(super) fn binding_conditions(of: &At<'_, '_>, errors: &mut ErrorList) {
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
pub(super) fn at_most(list: &At<'_, '_>, most: usize, errors: &mut ErrorList) -> bool {
    let fits = list.len() <= most;
    if !fits {
        errors.push(FieldError::too_many(&list.path(), list.len(), most));
    }
    fits
}

pub(super) fn unique(list: &At<'_, '_>, key: impl Fn(&Value) -> String, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for item in list.items() {
        let key = key(item.value);
        if !seen.insert(key.clone()) {
            errors.push(FieldError::duplicate(&item.path(), key));
        }
    }
}
