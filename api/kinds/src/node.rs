//! Node.

use crate::check::required_enum;
use crate::podcheck::quantity_value;
use crate::print::{self, AGE, NAME, NONE};
use rutter_api::FieldError;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::validation::{At, cidr, label_value, qualified_name};
use rutter_api::{Context, ErrorList, Strategy, Value};

use serde_json::json;
use std::collections::BTreeSet;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

/// Node.
pub(crate) struct Node;

impl Strategy for Node {
    /// `podCIDR` is the first of `podCIDRs`; what isn't said to be reserved is allocatable.
    fn default_object(&self, object: &mut Value) {
        let first = object
            .list_at("spec.podCIDRs")
            .first()
            .and_then(Value::as_str)
            .map(str::to_owned);
        match (first, object.str_at("spec.podCIDR").to_owned()) {
            (Some(first), one) if first != one => object.set("spec.podCIDR", first),
            (None, one) if !one.is_empty() => object.set("spec.podCIDRs", json!([one])),
            _ => {}
        }
        if !object.at("status.capacity").is_null() && object.at("status.allocatable").is_null() {
            object.set("status.allocatable", object.at("status.capacity").clone());
        }
    }

    /// A kubelet registers its node with its status.
    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        object.take_at("spec.configSource");
        object.take_at("status.config");
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        prepare_plain_update(object, old, cx);
        if old.at("spec.configSource").is_null() {
            object.take_at("spec.configSource");
        }
        if old.at("status.config").is_null() {
            object.take_at("status.config");
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if !object.at("spec.configSource").is_null() {
            warnings.push("spec.configSource: the feature is removed".to_owned());
        }
        if !object.str_at("spec.externalID").is_empty() {
            warnings
                .push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
        }
        warnings
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        vec![
            object
                .bool_at("spec.unschedulable")
                .unwrap_or_default()
                .to_string(),
        ]
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let mut errors = if cx.subresource.is_empty() {
            validate(object)
        } else {
            ErrorList::new()
        };
        validate_change(object, old, &mut errors);
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Status", "Whether it is ready and takes pods."),
            print::text("Roles", "Its roles, from its labels."),
            AGE,
            print::text("Version", "The kubelet's version."),
            print::wide("Internal-IP", "Its address in the cluster."),
            print::wide("External-IP", "Its address outside."),
            print::wide("OS-Image", "Its operating system."),
            print::wide("Kernel-Version", "Its kernel."),
            print::wide("Container-Runtime", "Its container runtime and version."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        const UNKNOWN: &str = "<unknown>";
        let info = object.at("status.nodeInfo");
        let mut kernel = match info.str_at("kernelVersion") {
            "" => UNKNOWN.to_owned(),
            version => version.to_owned(),
        };
        if !info.str_at("architecture").is_empty() {
            kernel = format!("{kernel} ({})", info.str_at("architecture"));
        }
        vec![
            print::name(object),
            Value::from(status(object)),
            Value::from(roles(object)),
            print::age(object, cx),
            Value::from(info.str_at("kubeletVersion")),
            address(object, "InternalIP"),
            address(object, "ExternalIP"),
            print::text_or(info, "osImage", UNKNOWN),
            Value::from(kernel),
            print::text_or(info, "containerRuntimeVersion", UNKNOWN),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

fn status(node: &Value) -> String {
    let ready = node
        .list_at("status.conditions")
        .iter()
        .rev()
        .find(|c| c.str_at("type") == "Ready");
    let word = match ready.map(|c| c.str_at("status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if node.bool_at("spec.unschedulable") == Some(true) {
        format!("{word},SchedulingDisabled")
    } else {
        word.to_owned()
    }
}

fn roles(node: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in node.map_at("metadata.labels").into_iter().flatten() {
        if let Some(role) = key.strip_prefix(ROLE_PREFIX) {
            if !role.is_empty() {
                roles.insert(role);
            }
        } else if key == ROLE_LABEL
            && let Some(role) = value.as_str().filter(|role| !role.is_empty())
        {
            roles.insert(role);
        }
    }
    if roles.is_empty() {
        NONE.to_owned()
    } else {
        roles.into_iter().collect::<Vec<_>>().join(",")
    }
}

fn address(node: &Value, kind: &str) -> Value {
    let address = node
        .list_at("status.addresses")
        .iter()
        .find(|a| a.str_at("type") == kind);
    Value::from(address.map_or(NONE, |a| a.str_at("address")))
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    taints(&root, &mut errors);
    resources(&root, &mut errors);
    let spec = root.child("spec");
    let ranges = spec.child("podCIDRs");
    let mut families = [0, 0];
    for range in ranges.items() {
        match cidr(range.text()) {
            None => {
                let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errors.push(range.invalid(detail));
            }
            Some((address, _)) => families[usize::from(address.is_ipv6())] += 1,
        }
    }
    if families.iter().any(|count| *count > 1) {
        errors.push(ranges.invalid("may specify no more than one CIDR for each IP family"));
    }
    errors
}

/// Taints are said to stand in the metadata, as they once did.
fn taints(root: &At<'_, '_>, errors: &mut ErrorList) {
    let metadata = root.child("metadata");
    let taints = metadata.field("taints", root.value.at("spec.taints"));
    let mut seen = BTreeSet::new();
    for taint in taints.items() {
        let key = taint.child("key");
        errors.extend(
            qualified_name(key.text())
                .into_iter()
                .map(|e| key.invalid_as(key.text(), e)),
        );
        let value = taint.child("value");
        let wrong = label_value(value.text());
        if !wrong.is_empty() {
            errors.push(value.invalid(wrong.join(";")));
        }
        let effects = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
        required_enum(&taint.child("effect"), effects, errors);
        if !seen.insert((taint.child("effect").text(), key.text())) {
            let mut error = FieldError::duplicate(&taint.path(), taint.value.clone());
            "taints must be unique by key and effect pair".clone_into(&mut error.detail);
            errors.push(error);
        }
    }
}

fn resources(root: &At<'_, '_>, errors: &mut ErrorList) {
    let status = root.child("status");
    for list in ["capacity", "allocatable"] {
        let list = status.child(list);
        for (name, value) in list.entries() {
            quantity_value(&list.field(name, value), name, errors);
        }
    }
}

fn validate_change(object: &Value, old: &Value, errors: &mut ErrorList) {
    let root = At::root(object);
    resources(&root, errors);
    let status = root.child("status");
    let mut seen = BTreeSet::new();
    for address in status.child("addresses").items() {
        if !seen.insert((address.child("type").text(), address.child("address").text())) {
            errors.push(address.duplicate());
        }
    }
    let spec = root.child("spec");
    let before = old.list_at("spec.podCIDRs");
    if !before.is_empty() && before != object.list_at("spec.podCIDRs") {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(spec.child("podCIDRs").forbidden(detail));
    }
    let provider = old.str_at("spec.providerID");
    if !provider.is_empty() && provider != object.str_at("spec.providerID") {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(spec.child("providerID").forbidden(detail));
    }
    taints(&root, errors);
    if old.str_at("spec.externalID") != object.str_at("spec.externalID") {
        errors.push(spec.child("externalID").forbidden("may not be updated"));
    }
}
