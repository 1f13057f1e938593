//! EndpointSlice.

use crate::fill::{absent, each};
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

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
