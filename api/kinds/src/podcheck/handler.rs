//! Probes and lifecycle hooks.

use crate::check::{enumerated, not_negative};
use rutter_api::validation::{At, port_name, port_number};
use rutter_api::{ErrorList, FieldError, Value};

/// A liveness or startup probe.
pub(super) fn liveness(at: &At<'_, '_>, grace: Option<i64>, errors: &mut ErrorList) {
    if at.is_null() {
        return;
    }
    probe(at, grace, errors);
    if at.child("successThreshold").int() != Some(1) {
        let threshold = at.child("successThreshold");
        errors.push(threshold.invalid_as(threshold.int().unwrap_or_default(), "must be 1"));
    }
}

/// A readiness probe.
pub(super) fn readiness(at: &At<'_, '_>, grace: Option<i64>, errors: &mut ErrorList) {
    if at.is_null() {
        return;
    }
    probe(at, grace, errors);
    if at.child("terminationGracePeriodSeconds").is_set() {
        errors.push(
            at.child("terminationGracePeriodSeconds")
                .invalid("must not be set for readinessProbes"),
        );
    }
}

fn probe(at: &At<'_, '_>, grace: Option<i64>, errors: &mut ErrorList) {
    handler(at, grace, errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        not_negative(&at.child(field), errors);
    }
    let own = at.child("terminationGracePeriodSeconds");
    if own.int().is_some_and(|seconds| seconds <= 0) {
        errors.push(own.invalid("must be greater than 0"));
    }
}

/// Hooks.
pub(super) fn lifecycle(at: &At<'_, '_>, grace: Option<i64>, errors: &mut ErrorList) {
    for hook in ["postStart", "preStop"] {
        if at.child(hook).is_set() {
            handler(&at.child(hook), grace, errors);
        }
    }
}

fn handler(at: &At<'_, '_>, grace: Option<i64>, errors: &mut ErrorList) {
    let mut handlers = 0;
    for field in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = at.child(field);
        if action.is_null() {
            continue;
        }
        handlers += 1;
        if handlers > 1 {
            errors.push(action.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        match field {
            "exec" => {
                if action.child("command").is_empty() {
                    errors.push(action.child("command").required(""));
                }
            }
            "httpGet" => http_get(&action, errors),
            "sleep" => sleep(&action, grace, errors),
            _ => port(&action.child("port"), errors),
        }
    }
    if handlers == 0 {
        errors.push(at.required("must specify a handler type"));
    }
}

fn http_get(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.child("path").is_empty() {
        errors.push(at.child("path").required(""));
    }
    port(&at.child("port"), errors);
    enumerated(&at.child("scheme"), &["HTTP", "HTTPS"], errors);
    for header in at.child("httpHeaders").items() {
        let name = header.child("name").text();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            let detail = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            errors.push(FieldError::invalid(&at.child("httpHeaders").path(), name, detail));
        }
    }
}

fn sleep(at: &At<'_, '_>, grace: Option<i64>, errors: &mut ErrorList) {
    let seconds = at.child("seconds").int().unwrap_or_default();
    if let Some(grace) = grace
        && !(0..=grace).contains(&seconds)
    {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(at.invalid_as(seconds, detail));
    }
}

/// A port by number or name.
fn port(at: &At<'_, '_>, errors: &mut ErrorList) {
    match at.value {
        Value::String(name) => at.all(errors, port_name(name)),
        value => {
            let number = value.as_i64().unwrap_or_default();
            errors.extend(port_number(number).into_iter().map(|e| at.invalid_as(number, e)));
        }
    }
}
