//! CustomResourceDefinition.

use crate::check::{enumerated, required_text};
use crate::fill::{absent, inside, made, spec, text, text_of};
use crate::print;
use rutter_api::FieldError;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::validation::{At, dns_label_1035, dns_subdomain};
use rutter_api::{Context, ErrorList, Strategy, Value};
use serde_json::json;
use std::collections::BTreeSet;

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
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        if cx.subresource == "status" {
            ErrorList::new()
        } else {
            validate_change(object, old)
        }
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

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let (group, names) = (spec.child("group"), spec.child("names"));
    let plural = names.child("plural");
    let want = format!("{}.{}", plural.text(), group.text());
    if object.name() != want {
        let metadata = root.child("metadata");
        errors.push(
            metadata
                .child("name")
                .invalid("must be spec.names.plural+\".\"+spec.group"),
        );
    }
    if group.is_empty() {
        errors.push(group.required(""));
    } else {
        let wrong = dns_subdomain(group.text());
        if !wrong.is_empty() {
            errors.push(group.invalid(wrong.join(",")));
        } else if !group.text().contains('.') {
            errors.push(group.invalid("should be a domain with at least one dot"));
        }
    }
    if spec.child("scope").is_empty() {
        required_text(&spec.child("scope"), &mut errors);
    } else {
        enumerated(&spec.child("scope"), &["Cluster", "Namespaced"], &mut errors);
    }
    validate_names(&names, &mut errors);
    versions(&spec.child("versions"), &mut errors);
    let conversion = spec.child("conversion");
    enumerated(&conversion.child("strategy"), &["None", "Webhook"], &mut errors);
    let webhook = conversion.child("webhook");
    match conversion.child("strategy").text() {
        "Webhook" => {
            let config = webhook.child("clientConfig");
            if config.is_null() {
                let detail = "required when strategy is set to Webhook";
                errors.push(
                    conversion
                        .field("webhookClientConfig", config.value)
                        .required(detail),
                );
            } else {
                crate::admission::client_config(&config, &mut errors);
            }
            if webhook.child("conversionReviewVersions").is_empty() {
                let versions = conversion.field("conversionReviewVersions", &Value::Null);
                errors.push(versions.required(""));
            }
        }
        _ if webhook.is_set() => {
            errors.push(webhook.forbidden("should not be set when strategy is not set to Webhook"));
        }
        _ => {}
    }
    if spec.child("preserveUnknownFields").flag() {
        let detail = "must be false in order to use defaults in the schema";
        errors.push(spec.child("preserveUnknownFields").invalid(detail));
    }
    errors
}

fn validate_names(names: &At<'_, '_>, errors: &mut ErrorList) {
    for field in ["plural", "singular"] {
        let at = names.child(field);
        let wrong = dns_label_1035(at.text());
        if at.is_empty() {
            errors.push(at.required(""));
        } else if !wrong.is_empty() {
            errors.push(at.invalid_as(at.text(), wrong.join(",")));
        }
    }
    for field in ["kind", "listKind"] {
        let at = names.child(field);
        if at.is_empty() {
            errors.push(at.required(""));
            continue;
        }
        let wrong = dns_label_1035(&at.text().to_lowercase());
        if !wrong.is_empty() {
            let detail = format!(
                "may have mixed case, but should otherwise match: {}",
                wrong.join(",")
            );
            errors.push(at.invalid(detail));
        }
    }
    for field in ["shortNames", "categories"] {
        for name in names.child(field).items() {
            let wrong = dns_label_1035(name.text());
            if !wrong.is_empty() {
                errors.push(name.invalid(wrong.join(",")));
            }
        }
    }
    if names.child("kind").text() == names.child("listKind").text() && !names.child("kind").is_empty() {
        errors.push(
            names
                .child("listKind")
                .invalid("kind and listKind may not be the same"),
        );
    }
}

fn versions(at: &At<'_, '_>, errors: &mut ErrorList) {
    let mut names = BTreeSet::new();
    let mut unique = true;
    let mut stored = 0;
    for version in at.items() {
        let name = version.child("name");
        unique &= names.insert(name.text());
        stored += i32::from(version.child("storage").flag());
        let wrong = dns_label_1035(name.text());
        if !wrong.is_empty() {
            errors.push(name.invalid_as(name.text(), wrong.join(",")));
        }
        if version.child("schema.openAPIV3Schema").is_null() {
            errors.push(version.child("schema.openAPIV3Schema").required(""));
        }
        let scale = version.child("subresources.scale");
        if scale.is_set() {
            for (field, start) in [
                ("specReplicasPath", ".spec."),
                ("statusReplicasPath", ".status."),
                ("labelSelectorPath", ""),
            ] {
                let path = scale.child(field);
                if path.is_empty() {
                    if field != "labelSelectorPath" {
                        errors.push(path.required(""));
                    }
                } else if !path.text().starts_with(start) {
                    errors.push(
                        path.invalid(
                            format!("should be a json path under {start}")
                                .trim_end_matches('.')
                                .to_owned(),
                        ),
                    );
                }
            }
        }
        for column in version.child("additionalPrinterColumns").items() {
            required_text(&column.child("name"), errors);
            required_text(&column.child("jsonPath"), errors);
            let kinds = &["boolean", "date", "integer", "number", "string"];
            if column.child("type").is_empty() {
                errors.push(
                    column
                        .child("type")
                        .required(format!("must be one of {}", kinds.join(","))),
                );
            } else if !kinds.contains(&column.child("type").text()) {
                let detail = format!("must be one of {}", kinds.join(","));
                errors.push(column.child("type").invalid(detail));
            }
        }
    }
    if !unique {
        errors.push(at.invalid("must contain unique version names"));
    }
    if stored != 1 {
        errors.push(at.invalid("must have exactly one version marked as storage version"));
    }
}

fn validate_change(object: &Value, old: &Value) -> ErrorList {
    let mut errors = validate(object);
    let root = At::root(object);
    let spec = root.child("spec");
    let established = old
        .list_at("status.conditions")
        .iter()
        .any(|c| c.str_at("type") == "Established" && c.str_at("status") == "True");
    for field in ["group", "names.plural"] {
        crate::check::immutable(&spec.child(field), old.at("spec").at(field), &mut errors);
    }
    if established {
        for field in ["scope", "names.kind"] {
            crate::check::immutable(&spec.child(field), old.at("spec").at(field), &mut errors);
        }
    }
    let served: BTreeSet<&str> = object
        .list_at("spec.versions")
        .iter()
        .map(|v| v.str_at("name"))
        .collect();
    let stored = old
        .list_at("status.storedVersions")
        .iter()
        .filter_map(Value::as_str);
    for (i, version) in stored.enumerate() {
        if !served.contains(version) {
            let path = rutter_api::Path::new("status").child("storedVersions").index(i);
            errors.push(FieldError::invalid(
                &path,
                version,
                "must appear in spec.versions",
            ));
        }
    }
    errors
}
