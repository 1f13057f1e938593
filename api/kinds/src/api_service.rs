//! APIService.

use crate::check::required_text;
use crate::fill::{absent, inside, spec};
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, NameRule};
use rutter_api::validation::{At, dns_label_1035, dns_subdomain, port_number};
use rutter_api::{Context, ErrorList, Strategy, Value};
use serde_json::json;

/// APIService.
pub(crate) struct ApiService;

impl Strategy for ApiService {
    fn default_object(&self, object: &mut Value) {
        if let Some(service) = spec(object).and_then(|spec| inside(spec, "service")) {
            absent(service, "port", 443);
        }
    }

    /// What this server serves itself is available from the start.
    fn prepare_create(&self, object: &mut Value, cx: &Context<'_>) {
        object.take_at("status");
        if object.at("spec.service").is_null() {
            object.set(
                "status.conditions",
                json!([{
                    "type": "Available",
                    "status": "True",
                    "lastTransitionTime": print::rfc3339(cx.now),
                    "reason": "Local",
                    "message": "Local APIServices are always available",
                }]),
            );
        }
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = old;
        if cx.subresource == "status" {
            ErrorList::new()
        } else {
            validate(object)
        }
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Service", "The service that serves it."),
            print::text("Available", "Whether it can be reached."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let service = match object.at("spec.service") {
            Value::Null => "Local".to_owned(),
            service => format!("{}/{}", service.str_at("namespace"), service.str_at("name")),
        };
        let available = object
            .list_at("status.conditions")
            .iter()
            .find(|c| c.str_at("type") == "Available");
        let available = match available {
            None => "Unknown".to_owned(),
            Some(condition) if condition.str_at("status") == "True" => "True".to_owned(),
            Some(condition) => format!("{} ({})", condition.str_at("status"), condition.str_at("reason")),
        };
        vec![
            print::name(object),
            Value::from(service),
            Value::from(available),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let (group, version) = (spec.child("group"), spec.child("version"));
    let required = format!("{}.{}", version.text(), group.text());
    let metadata = root.child("metadata");
    if object.name() != required && !(group.is_empty() && object.name() == format!("{}.", version.text())) {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
        errors.push(metadata.child("name").invalid(detail));
    }
    if group.is_empty() && version.text() != "v1" {
        errors.push(group.required("only v1 may have an empty group and it better be legacy kube"));
    }
    if !group.is_empty() {
        group.all(&mut errors, dns_subdomain(group.text()));
    }
    errors.extend(
        dns_label_1035(version.text())
            .into_iter()
            .map(|e| version.invalid_as(version.text(), e)),
    );
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let at = spec.child(field);
        let n = at.int().unwrap_or_default();
        if n <= 0 || n > most {
            errors.push(at.invalid_as(n, format!("must be positive and less than {most}")));
        }
    }
    let (service, bundle, insecure) = (
        spec.child("service"),
        spec.child("caBundle"),
        spec.child("insecureSkipTLSVerify"),
    );
    if service.is_null() {
        if !bundle.is_empty() {
            let padding = bundle.text().bytes().rev().take_while(|b| *b == b'=').count();
            let shown = format!("{} bytes", (bundle.text().len() / 4 * 3).saturating_sub(padding));
            errors.push(bundle.invalid_as(shown, "local APIServices may not have a caBundle"));
        }
        if insecure.flag() {
            errors.push(insecure.invalid("local APIServices may not have insecureSkipTLSVerify"));
        }
        return errors;
    }
    required_text(&service.child("namespace"), &mut errors);
    required_text(&service.child("name"), &mut errors);
    let port = service.child("port").int().unwrap_or_default();
    let wrong = port_number(port);
    if !wrong.is_empty() {
        let detail = format!("port is not valid: {}", wrong.join(", "));
        errors.push(service.child("port").invalid_as(port, detail));
    }
    if insecure.flag() && !bundle.is_empty() {
        errors.push(insecure.invalid("may not be true if caBundle is present"));
    }
    errors
}
