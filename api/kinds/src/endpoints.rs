//! Endpoints.

use crate::fill::{each, text};
use crate::print::{self, AGE, NAME, NONE};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

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
