//! IPAddress and ServiceCIDR.

use crate::print::{self, AGE, NAME, NONE};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, NameRule};
use rutter_api::{Context, Strategy, Value};

/// IPAddress.
pub(crate) struct IpAddress;

/// ServiceCIDR.
pub(crate) struct ServiceCidr;

impl Strategy for IpAddress {
    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn name_rule(&self) -> NameRule {
        NameRule::Custom(|name, _| match name.parse::<std::net::IpAddr>() {
            Ok(address) if address.to_string() == name => Vec::new(),
            Ok(_) => vec!["must be in canonical form".to_owned()],
            Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
        })
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, print::text("ParentRef", "What it belongs to."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let parent = object.at("spec.parentRef");
        let mut text = parent.str_at("resource").to_owned();
        for (separator, field) in [(".", "group"), ("/", "namespace"), ("/", "name")] {
            if !parent.str_at(field).is_empty() {
                text = format!("{text}{separator}{}", parent.str_at(field));
            }
        }
        vec![
            print::name(object),
            Value::from(if parent.is_null() { NONE } else { &text }),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

impl Strategy for ServiceCidr {
    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, print::text("CIDRs", "The addresses it spans."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let cidrs = print::joined(object.list_at("spec.cidrs"));
        vec![print::name(object), Value::from(cidrs), print::age(object, cx)]
    }

    fn has_generation(&self) -> bool {
        false
    }
}
