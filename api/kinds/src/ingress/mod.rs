//! Ingress and IngressClass.

use crate::fill::{absent, inside, spec};
use crate::print::{self, AGE, NAME, NONE};
use crate::service::load_balancer_addresses;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

/// Hosts that a row shows.
const SHOWN: usize = 3;

/// Ingress.
pub(crate) struct Ingress;

/// IngressClass.
pub(crate) struct IngressClass;

impl Strategy for Ingress {
    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Class", "Its ingress class."),
            print::text("Hosts", "The hosts it serves."),
            print::text("Address", "Where it can be reached."),
            print::text("Ports", "The ports it can be reached at."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let ports = if object.list_at("spec.tls").is_empty() {
            "80"
        } else {
            "80, 443"
        };
        vec![
            print::name(object),
            print::text_or(object, "spec.ingressClassName", NONE),
            Value::from(hosts(object.list_at("spec.rules"))),
            Value::from(load_balancer_addresses(object)),
            Value::from(ports),
            print::age(object, cx),
        ]
    }
}

fn hosts(rules: &[Value]) -> String {
    let mut list: Vec<&str> = Vec::new();
    let mut more = false;
    for host in rules.iter().map(|rule| rule.str_at("host")) {
        if list.len() == SHOWN {
            more = true;
        }
        if !more && !host.is_empty() {
            list.push(host);
        }
    }
    match list.join(",") {
        text if text.is_empty() => "*".to_owned(),
        text if more => format!("{text} + {} more...", rules.len() - SHOWN),
        text => text,
    }
}

impl Strategy for IngressClass {
    fn default_object(&self, object: &mut Value) {
        if let Some(parameters) = spec(object).and_then(|spec| inside(spec, "parameters")) {
            absent(parameters, "scope", "Cluster");
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Controller", "Who serves it."),
            print::text("Parameters", "Where more parameters are."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let parameters = match object.at("spec.parameters") {
            Value::Null => NONE.to_owned(),
            parameters => {
                let group = match parameters.at("apiGroup").as_str() {
                    Some(group) => format!(".{group}"),
                    None => String::new(),
                };
                format!(
                    "{}{group}/{}",
                    parameters.str_at("kind"),
                    parameters.str_at("name")
                )
            }
        };
        let default = object.annotation("ingressclass.kubernetes.io/is-default-class") == Some("true");
        vec![
            Value::from(format!(
                "{}{}",
                object.name(),
                if default { " (default)" } else { "" }
            )),
            Value::from(object.str_at("spec.controller")),
            Value::from(parameters),
            print::age(object, cx),
        ]
    }
}
