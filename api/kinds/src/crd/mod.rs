//! CustomResourceDefinition.

mod check;

use crate::fill::{absent, inside, made, spec, text, text_of};
use crate::print;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::{Context, ErrorList, Strategy, Value};
use serde_json::json;

/// CustomResourceDefinition.
pub(crate) struct CustomResourceDefinition;

impl Strategy for CustomResourceDefinition {
    fn default_object(&self, object: &mut Value) {
        if let Some(spec) = spec(object) {
            if let Some(names) = made(spec, "names") {
                let kind = text_of(names, "kind").to_owned();
                if !kind.is_empty() {
                    text(names, "singular", &kind.to_lowercase());
                    text(names, "listKind", &format!("{kind}List"));
                }
            }
            absent(spec, "conversion", json!({"strategy": "None"}));
            if let Some(service) = inside(spec, "conversion")
                .and_then(|conversion| inside(conversion, "webhook"))
                .and_then(|webhook| inside(webhook, "clientConfig"))
                .and_then(|config| inside(config, "service"))
            {
                absent(service, "port", 443);
            }
        }
        if object.list_at("status.storedVersions").is_empty() {
            store_version(object);
        }
    }

    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        object.take_at("status");
        store_version(object);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        prepare_plain_update(object, old, cx);
        if cx.subresource != "status" {
            store_version(object);
        }
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        check::create(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        if cx.subresource == "status" {
            let mut errors = ErrorList::new();
            check::names(object, &mut errors);
            errors
        } else {
            check::update(object, old)
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let before = old.map(check::unknown_formats).unwrap_or_default();
        let now = check::unknown_formats(object);
        let new = now.difference(&before);
        new.map(|format| format!("unrecognized format {format:?}"))
            .collect()
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        print::CREATED_AT
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        print::created_at(object, cx)
    }
}

/// The version that is stored now is among those that ever were.
fn store_version(object: &mut Value) {
    let versions = object.list_at("spec.versions");
    let Some(version) = versions.iter().find(|v| v.bool_at("storage") == Some(true)) else {
        return;
    };
    let name = Value::from(version.str_at("name"));
    let mut stored = object.list_at("status.storedVersions").to_vec();
    if !stored.contains(&name) {
        stored.push(name);
        object.set("status.storedVersions", stored);
    }
}

/// The status of a condition.
fn condition<'o>(object: &'o Value, kind: &str) -> Option<&'o str> {
    let mut conditions = object.list_at("status.conditions").iter();
    conditions
        .find(|condition| condition.str_at("type") == kind)
        .map(|condition| condition.str_at("status"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_conversion_are_filled_in() {
        let mut object = json!({"spec": {"names": {"plural": "foos", "kind": "Foo"}, "versions": [{"name": "v2", "storage": true}]}});
        CustomResourceDefinition.default_object(&mut object);
        assert_eq!(object["spec"]["names"]["singular"], "foo");
        assert_eq!(object["spec"]["names"]["listKind"], "FooList");
        assert_eq!(object["spec"]["conversion"], json!({"strategy": "None"}));
        assert_eq!(object["status"]["storedVersions"], json!(["v2"]));
    }
}
