//! CertificateSigningRequest.

use crate::print::{self, AGE, NAME, NONE};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{At, dns_label, dns_subdomain};
use rutter_api::{Context, ErrorList, FieldError, Strategy, Value, duration};
use serde_json::json;

/// CertificateSigningRequest.
pub(crate) struct CertificateSigningRequest;

impl Strategy for CertificateSigningRequest {
    /// Who asks is what the server knows, never what the request says. Groups, uid and extra are the registry's to add.
    fn prepare_create(&self, object: &mut Value, cx: &Context<'_>) {
        for field in ["spec.uid", "spec.groups", "spec.extra"] {
            object.take_at(field);
        }
        object.set("spec.username", cx.user);
        object.set("status", json!({}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        let kept = |field: &str| old.get(field).cloned().unwrap_or_default();
        match cx.subresource {
            "status" => {
                object.set("spec", kept("spec"));
                keep_decisions(object, old);
                stamp_conditions(object, old, cx);
            }
            "approval" => {
                stamp_conditions(object, old, cx);
                let conditions = object.at("status.conditions").clone();
                object.set("spec", kept("spec"));
                object.set("status", kept("status"));
                if conditions.is_null() {
                    object.take_at("status.conditions");
                } else {
                    object.set("status.conditions", conditions);
                }
            }
            _ => {
                object.set("spec", kept("spec"));
                object.set("status", kept("status"));
            }
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        vec![object.str_at("spec.signerName").to_owned()]
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        validate_conditions(object, old)
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            AGE,
            print::text("SignerName", "Who is to sign it."),
            print::text("Requestor", "Who asks."),
            print::text("RequestedDuration", "How long the certificate is wanted for."),
            print::text("Condition", "Approved, denied, issued."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let wanted = match object.int_at("spec.expirationSeconds") {
            Some(seconds) => duration::human(seconds),
            None => NONE.to_owned(),
        };
        vec![
            print::name(object),
            print::age(object, cx),
            print::text_or(object, "spec.signerName", NONE),
            Value::from(object.str_at("spec.username")),
            Value::from(wanted),
            Value::from(condition(object)),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

fn is_decision(condition: &Value) -> bool {
    matches!(condition.str_at("type"), "Approved" | "Denied")
}

/// A signer cannot approve, deny, or take either back.
fn keep_decisions(object: &mut Value, old: &Value) {
    let mut conditions: Vec<Value> = old
        .list_at("status.conditions")
        .iter()
        .filter(|c| is_decision(c))
        .cloned()
        .collect();
    conditions.extend(
        object
            .list_at("status.conditions")
            .iter()
            .filter(|c| !is_decision(c))
            .cloned(),
    );
    if !conditions.is_empty() {
        object.set("status.conditions", conditions);
    } else if !object.at("status.conditions").is_null() {
        object.take_at("status.conditions");
    }
}

fn stamp_conditions(object: &mut Value, old: &Value, cx: &Context<'_>) {
    let now = print::rfc3339(cx.now);
    for condition in object.list_at_mut("status.conditions").into_iter().flatten() {
        condition.set_default("lastUpdateTime", now.clone());
        if condition.at("lastTransitionTime").is_null() {
            let before = old.list_at("status.conditions").iter().find(|c| {
                c.str_at("type") == condition.str_at("type")
                    && c.str_at("status") == condition.str_at("status")
                    && !c.str_at("lastTransitionTime").is_empty()
            });
            let time = before
                .map_or(now.as_str(), |c| c.str_at("lastTransitionTime"))
                .to_owned();
            condition.set("lastTransitionTime", time);
        }
    }
}

fn condition(csr: &Value) -> String {
    let is = |kind: &str| {
        csr.list_at("status.conditions")
            .iter()
            .any(|c| c.str_at("type") == kind)
    };
    let mut text = if is("Denied") {
        "Denied".to_owned()
    } else if is("Approved") {
        "Approved".to_owned()
    } else {
        "Pending".to_owned()
    };
    if is("Failed") {
        text.push_str(",Failed");
    }
    if !csr.str_at("status.certificate").is_empty() {
        text.push_str(",Issued");
    }
    text
}

/// The name of a signer: a domain and a path.
pub(crate) fn signer_name(at: &At<'_, '_>, errors: &mut ErrorList) {
    let text = at.text();
    if text.is_empty() {
        errors.push(at.required(""));
        return;
    }
    let Some((domain, path)) = text.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        errors.push(
            at.invalid("must be a fully qualified domain and path of the form 'example.com/signer-name'"),
        );
        return;
    };
    for label in domain.split('.') {
        errors.extend(
            dns_label(label)
                .into_iter()
                .map(|e| at.invalid(format!("validating label {label:?}: {e}"))),
        );
    }
    if !domain.contains('.') {
        errors.push(at.invalid("should be a domain with at least two segments separated by dots"));
    }
    for part in path.split('.') {
        let part_wrong = dns_subdomain(&part.to_lowercase());
        errors.extend(
            part_wrong
                .into_iter()
                .map(|e| at.invalid(format!("validating path {path:?}: {e}"))),
        );
    }
    if text.len() > 253 + 1 + 63 * 2 + 253 {
        errors.push(FieldError::too_long(&at.path(), 253 + 1 + 63 * 2 + 253));
    }
}

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    if let Err(wrong) = parse_request(spec.child("request").text()) {
        errors.push(spec.child("request").invalid(wrong));
    }
    let usages = spec.child("usages");
    if usages.is_empty() {
        errors.push(usages.required(""));
    }
    let mut seen = std::collections::BTreeSet::new();
    for usage in usages.items() {
        if !USAGES.contains(&usage.text()) {
            errors.push(usage.not_supported(USAGES));
        }
        if !seen.insert(usage.text()) {
            errors.push(usage.duplicate());
        }
    }
    if spec.child("signerName").text() == "kubernetes.io/legacy-unknown" {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(spec.child("signerName").invalid(detail));
    } else {
        signer_name(&spec.child("signerName"), &mut errors);
    }
    let seconds = spec.child("expirationSeconds");
    if seconds.int().is_some_and(|n| n < 600) {
        errors.push(seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)"));
    }
    errors
}

/// A certificate request in PEM.
fn parse_request(text: &str) -> Result<(), String> {
    use base64::Engine;
    use x509_parser::prelude::FromDer;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_default();
    let wrong = || "PEM block type must be CERTIFICATE REQUEST".to_owned();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&bytes).map_err(|_| wrong())?;
    if pem.label != "CERTIFICATE REQUEST" {
        return Err(wrong());
    }
    x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

fn validate_conditions(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let status = root.child("status");
    let conditions = status.child("conditions");
    let mut kinds = std::collections::BTreeSet::new();
    for condition in conditions.items() {
        let (kind, value) = (condition.child("type"), condition.child("status"));
        if kind.is_empty() {
            errors.push(kind.required(""));
        }
        let must_be_true = matches!(kind.text(), "Approved" | "Denied" | "Failed");
        if value.is_empty() {
            errors.push(value.required(""));
        } else if must_be_true && value.text() != "True" {
            errors.push(value.not_supported(&["True"]));
        } else if !matches!(value.text(), "True" | "False" | "Unknown") {
            errors.push(value.not_supported(&["True", "False", "Unknown"]));
        }
        if !kinds.insert(kind.text()) {
            errors.push(FieldError::duplicate(&kind.path(), kind.text()));
        }
    }
    if kinds.contains("Approved") && kinds.contains("Denied") {
        errors.push(conditions.invalid_as("Denied", "Approved and Denied conditions are mutually exclusive"));
    }
    let before = |kind: &str| {
        old.list_at("status.conditions")
            .iter()
            .any(|c| c.str_at("type") == kind)
    };
    for kind in ["Approved", "Denied", "Failed"] {
        if before(kind) && !kinds.contains(kind) {
            errors.push(conditions.forbidden(format!("updates may not remove a condition of type {kind:?}")));
        }
    }
    let issued = old.str_at("status.certificate");
    if !issued.is_empty() && issued != object.str_at("status.certificate") {
        errors.push(
            status
                .child("certificate")
                .forbidden("updates may not set certificate content"),
        );
    }
    errors
}
