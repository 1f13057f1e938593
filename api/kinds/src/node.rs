//! Node.

use crate::print::{self, AGE, NAME, NONE};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::{Context, Strategy, Value};
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
