//! EndpointSlice.

use crate::check::{name_of, required_enum};
use crate::fill::{absent, each};
use crate::print::{self, AGE, NAME};
use crate::service::endpoint_ip;
use rutter_api::FieldError;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{
    At, dns_label, dns_subdomain, fully_qualified_domain, ip, labels, qualified_name, strict_ip,
};
use rutter_api::{Context, ErrorList, Strategy, Value};
use std::collections::BTreeSet;

/// Ports and endpoints that a row shows.
const SHOWN: usize = 3;

/// EndpointSlice.
pub(crate) struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default_object(&self, object: &mut Value) {
        let Some(fields) = object.as_object_mut() else {
            return;
        };
        for port in each(fields, "ports") {
            absent(port, "name", "");
            absent(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        drop_topology(object);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _cx: &Context<'_>) {
        if object.at("endpoints") != old.at("endpoints") {
            drop_topology(object);
        }
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object, None)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        let mut errors = validate(object, Some(old));
        crate::check::immutable(
            &At::root(object).child("addressType"),
            old.at("addressType"),
            &mut errors,
        );
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("AddressType", "What its addresses are."),
            print::text("Ports", "Its ports."),
            print::text("Endpoints", "Its addresses."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let ports: Vec<String> = object
            .list_at("ports")
            .iter()
            .map(|port| match (port.int_at("port"), port.at("name").as_str()) {
                (Some(number), _) => number.to_string(),
                (None, Some(name)) => name.to_owned(),
                (None, None) => "*".to_owned(),
            })
            .collect();
        let addresses: Vec<String> = object
            .list_at("endpoints")
            .iter()
            .flat_map(|endpoint| endpoint.list_at("addresses"))
            .filter_map(|address| address.as_str().map(str::to_owned))
            .collect();
        vec![
            print::name(object),
            Value::from(object.str_at("addressType")),
            Value::from(print::cut(&ports, SHOWN)),
            Value::from(print::cut(&addresses, SHOWN)),
            print::age(object, cx),
        ]
    }
}

/// `deprecatedTopology` is kept only where an old version left it.
fn drop_topology(object: &mut Value) {
    for endpoint in object.list_at_mut("endpoints").into_iter().flatten() {
        endpoint.take_at("deprecatedTopology");
    }
}

fn validate(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let kind = root.child("addressType");
    required_enum(&kind, &["FQDN", "IPv4", "IPv6"], &mut errors);
    ports(&root.child("ports"), &mut errors);
    if old.is_none_or(|old| old.at("endpoints") != object.at("endpoints")) {
        endpoints(&root.child("endpoints"), kind.text(), &mut errors);
    }
    errors
}

fn ports(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.len() > 20_000 {
        errors.push(FieldError::too_many(&at.path(), at.len(), 20_000));
        return;
    }
    let mut names = BTreeSet::new();
    for port in at.items() {
        let name = port.child("name");
        if !name.is_empty() {
            name_of(&name, dns_label, errors);
        }
        if !names.insert(name.text()) {
            errors.push(FieldError::duplicate(&name.path(), name.text()));
        }
        required_enum(&port.child("protocol"), &["SCTP", "TCP", "UDP"], errors);
        if port.child("appProtocol").is_set() {
            name_of(&port.child("appProtocol"), qualified_name, errors);
        }
    }
}

fn endpoints(at: &At<'_, '_>, kind: &str, errors: &mut ErrorList) {
    if at.len() > 1000 {
        errors.push(FieldError::too_many(&at.path(), at.len(), 1000));
        return;
    }
    for endpoint in at.items() {
        let addresses = endpoint.child("addresses");
        if addresses.is_empty() {
            errors.push(addresses.required("must contain at least 1 address"));
        } else if addresses.len() > 100 {
            errors.push(FieldError::too_many(&addresses.path(), addresses.len(), 100));
        }
        for address in addresses.items() {
            match kind {
                "FQDN" => errors.extend(fully_qualified_domain(&address.path(), address.text())),
                "IPv4" | "IPv6" => {
                    let wrong = strict_ip(address.text());
                    if wrong.is_empty() {
                        if ip(address.text()).is_some_and(|a| a.is_ipv4() != (kind == "IPv4")) {
                            errors.push(
                                addresses.invalid_as(address.text(), format!("must be an {kind} address")),
                            );
                        }
                        endpoint_ip(&address, errors);
                    }
                    address.all(errors, wrong);
                }
                _ => {}
            }
        }
        if endpoint.child("nodeName").is_set() {
            name_of(&endpoint.child("nodeName"), dns_subdomain, errors);
        }
        labels(&endpoint.child("deprecatedTopology"), errors);
        if endpoint.child("hostname").is_set() {
            name_of(&endpoint.child("hostname"), dns_label, errors);
        }
        hints(&endpoint.child("hints"), errors);
    }
}

fn hints(at: &At<'_, '_>, errors: &mut ErrorList) {
    for list in ["forZones", "forNodes"] {
        let list = at.child(list);
        if list.len() > 8 {
            errors.push(FieldError::too_many(&list.path(), list.len(), 8));
            continue;
        }
        let mut names = BTreeSet::new();
        for hint in list.items() {
            let name = hint.child("name");
            if !names.insert(name.text()) {
                errors.push(name.duplicate());
            }
            errors.extend(
                rutter_api::validation::label_value(name.text())
                    .into_iter()
                    .map(|e| name.invalid(e)),
            );
        }
    }
}
