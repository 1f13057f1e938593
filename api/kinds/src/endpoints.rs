//! Endpoints.

use crate::check::{name_of, required_enum};
use crate::fill::{each, text};
use crate::podcheck::legacy_ip;
use crate::print::{self, AGE, NAME, NONE};
use crate::service::endpoint_ip;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{At, dns_label, dns_subdomain, port_number, qualified_name};
use rutter_api::{Context, ErrorList, Strategy, Value};

/// How many endpoints a row shows.
const SHOWN: usize = 3;

/// Endpoints.
pub(crate) struct Endpoints;

impl Strategy for Endpoints {
    fn default_object(&self, object: &mut Value) {
        let Some(fields) = object.as_object_mut() else {
            return;
        };
        for port in each(fields, "subsets").flat_map(|subset| each(subset, "ports")) {
            text(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        if object.at("subsets") == old.at("subsets") {
            ErrorList::new()
        } else {
            validate(object)
        }
    }

    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Endpoints", "Addresses and ports that are ready."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        vec![
            print::name(object),
            Value::from(endpoints(object)),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn endpoints(object: &Value) -> String {
    let subsets = object.list_at("subsets");
    if subsets.is_empty() {
        return NONE.to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = || subset.list_at("addresses").iter().map(|a| a.str_at("ip"));
        let ports = subset.list_at("ports");
        if ports.is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in ports.iter().map(|p| p.int_at("port").unwrap_or_default()) {
            all.extend(addresses().map(|ip| join_host_port(ip, port)));
        }
    }
    match all.get(..SHOWN) {
        Some(head) if all.len() > SHOWN => format!("{} + {} more...", head.join(","), all.len() - SHOWN),
        _ => all.join(","),
    }
}

fn join_host_port(host: &str, port: i64) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    for subset in root.child("subsets").items() {
        if subset.child("addresses").is_empty() && subset.child("notReadyAddresses").is_empty() {
            errors.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for address in subset.child(list).items() {
                let ip = address.child("ip");
                legacy_ip(&ip, &mut errors);
                if !address.child("hostname").is_empty() {
                    name_of(&address.child("hostname"), dns_label, &mut errors);
                }
                if address.child("nodeName").is_set() {
                    name_of(&address.child("nodeName"), dns_subdomain, &mut errors);
                }
                endpoint_ip(&ip, &mut errors);
            }
        }
        let ports = subset.child("ports");
        for port in ports.items() {
            let name = port.child("name");
            if !name.is_empty() {
                name_of(&name, dns_label, &mut errors);
            } else if ports.len() > 1 {
                errors.push(name.required(""));
            }
            let number = port.child("port");
            let n = number.int().unwrap_or_default();
            errors.extend(port_number(n).into_iter().map(|e| number.invalid_as(n, e)));
            required_enum(&port.child("protocol"), &["SCTP", "TCP", "UDP"], &mut errors);
            if port.child("appProtocol").is_set() {
                name_of(&port.child("appProtocol"), qualified_name, &mut errors);
            }
        }
    }
    errors
}
