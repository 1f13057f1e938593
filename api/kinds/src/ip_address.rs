//! IPAddress and ServiceCIDR.

use crate::print::{self, AGE, NAME, NONE};
use rutter_api::FieldError;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, NameRule};
use rutter_api::validation::{At, dns_subdomain, path_segment, strict_cidr};
use rutter_api::{Context, ErrorList, Strategy, Value};

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
            Err(_) => rutter_api::validation::strict_ip(name),
        })
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_address(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        let mut errors = validate_address(object);
        let root = At::root(object);
        let spec = root.child("spec");
        crate::check::immutable(&spec.child("parentRef"), old.at("spec.parentRef"), &mut errors);
        errors
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
    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_cidrs(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        if cx.subresource == "status" {
            ErrorList::new()
        } else {
            validate_cidr_change(object, old)
        }
    }

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

fn validate_address(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let parent = spec.child("parentRef");
    if parent.is_null() {
        return vec![parent.required("")];
    }
    for field in ["resource", "name"] {
        let part = spec.field(field, parent.child(field).value);
        if part.is_empty() {
            errors.push(part.required(""));
        } else {
            part.all(&mut errors, path_segment(part.text(), false));
        }
    }
    let group = spec.field("group", parent.child("group").value);
    if !group.is_empty() {
        group.all(&mut errors, dns_subdomain(group.text()));
    }
    errors
}

fn validate_cidrs(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let list = spec.child("cidrs");
    if list.is_empty() {
        return vec![list.required("at least one CIDR required")];
    }
    if list.len() > 2 {
        errors.push(list.invalid_as(spec.value.clone(), "may only hold up to 2 values"));
    }
    let families: Vec<bool> = list.items().map(|c| c.text().contains(':')).collect();
    if matches!(families.as_slice(), [a, b] if a == b) {
        errors.push(list.invalid(
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ));
    }
    for range in list.items() {
        range.all(&mut errors, strict_cidr(range.text()));
    }
    errors
}

fn validate_cidr_change(object: &Value, old: &Value) -> ErrorList {
    let (new, before) = (object.list_at("spec.cidrs"), old.list_at("spec.cidrs"));
    let path = rutter_api::Path::new("spec").child("cidrs");
    let immutable =
        |i: usize, value: &Value| FieldError::invalid(&path.index(i), value.clone(), "field is immutable");
    if new.len() == before.len() {
        let changed = new.iter().zip(before).enumerate().filter(|(_, (a, b))| a != b);
        return changed.map(|(i, (a, _))| immutable(i, a)).collect();
    }
    if before.len() == 1 && new.len() == 2 {
        let mut errors = validate_cidrs(object);
        if new.first() != before.first() {
            errors.extend(new.first().map(|a| immutable(0, a)));
        }
        return errors;
    }
    vec![FieldError::invalid(
        &path,
        Value::from(new.to_vec()),
        "field is immutable",
    )]
}
