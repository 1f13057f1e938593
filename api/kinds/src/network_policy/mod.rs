//! NetworkPolicy.

use crate::check::enumerated;
use crate::fill::{absent, each, empty, spec};
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{At, cidr, label_selector, port_name, port_number};
use rutter_api::{Context, ErrorList, Strategy, Value};
use serde_json::json;

/// NetworkPolicy.
pub(crate) struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        if empty(spec, "policyTypes") {
            let types = if empty(spec, "egress") {
                json!(["Ingress"])
            } else {
                json!(["Ingress", "Egress"])
            };
            spec.insert("policyTypes".to_owned(), types);
        }
        for direction in ["ingress", "egress"] {
            for port in each(spec, direction).flat_map(|rule| each(rule, "ports")) {
                absent(port, "protocol", "TCP");
            }
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = (old, cx);
        validate(object)
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, print::text("Pod-Selector", "The pods it is for."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![
            print::name(object),
            Value::from(print::selector(object.at("spec.podSelector"))),
            print::age(object, cx),
        ]
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    label_selector(&spec.child("podSelector"), false, &mut errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.child(direction).items() {
            for port in rule.child("ports").items() {
                validate_port(&port, &mut errors);
            }
            for peer in rule.child(peers).items() {
                validate_peer(&peer, &mut errors);
            }
        }
    }
    let types = spec.child("policyTypes");
    if types.len() > 2 {
        errors.push(types.invalid("may not specify more than two policyTypes"));
        return errors;
    }
    for kind in types.items() {
        enumerated(&kind, &["Ingress", "Egress"], &mut errors);
    }
    errors
}

fn validate_port(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.child("protocol").is_set() {
        enumerated(&at.child("protocol"), &["TCP", "UDP", "SCTP"], errors);
    }
    let (port, end) = (at.child("port"), at.child("endPort"));
    match port.value {
        Value::Null => {
            if end.is_set() {
                errors.push(end.invalid("may not be specified when `port` is not specified"));
            }
        }
        Value::String(name) => {
            if end.is_set() {
                errors.push(end.invalid("may not be specified when `port` is non-numeric"));
            }
            port.all(errors, port_name(name));
        }
        value => {
            let number = value.as_i64().unwrap_or_default();
            port.all(errors, port_number(number));
            if let Some(last) = end.int() {
                if last < number {
                    errors.push(end.invalid_as(number, "must be greater than or equal to `port`"));
                }
                end.all(errors, port_number(last));
            }
        }
    }
}

fn validate_peer(at: &At<'_, '_>, errors: &mut ErrorList) {
    let block = at.child("ipBlock");
    let mut count = 0;
    for selector in ["podSelector", "namespaceSelector"] {
        if at.child(selector).is_set() {
            count += 1;
            label_selector(&at.child(selector), false, errors);
        }
    }
    if block.is_set() {
        count += 1;
        ip_block(&block, errors);
    }
    if count == 0 {
        errors.push(at.required("must specify a peer"));
    } else if count > 1 && block.is_set() {
        errors.push(at.forbidden("may not specify both ipBlock and another peer"));
    }
}

fn ip_block(at: &At<'_, '_>, errors: &mut ErrorList) {
    const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let whole = at.child("cidr");
    if whole.is_empty() {
        errors.push(whole.required(""));
        return;
    }
    let Some((net, length)) = cidr(whole.text()) else {
        errors.push(whole.invalid(CIDR));
        return;
    };
    for part in at.child("except").items() {
        let Some((address, part_length)) = cidr(part.text()) else {
            errors.push(part.invalid(CIDR));
            continue;
        };
        let inside = ipnet::IpNet::new(net, length).is_ok_and(|net| net.contains(&address));
        if !inside || length >= part_length {
            errors.push(part.invalid("must be a strict subset of `cidr`"));
        }
    }
}
