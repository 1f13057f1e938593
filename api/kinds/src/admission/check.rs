//! What is wrong with webhook configurations and with what policies match.

use crate::check::{enumerated, name_of, required_text};
use rutter_api::object::ObjectExt;
use rutter_api::validation::{
    At, dns_label, dns_label_1035, dns_subdomain, fully_qualified_domain, label_selector,
};
use rutter_api::validation::{port_number, qualified_name};
use rutter_api::{ErrorList, FieldError, Value};
use rutter_cel::conditions;
use rutter_cel::policy::{Composer, types};
use rutter_cel::{Env, Type};
use std::collections::BTreeSet;

/// A configuration of webhooks.
pub(super) fn configuration(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let mut names = BTreeSet::new();
    for hook in root.child("webhooks").items() {
        webhook(&hook, &mut errors);
        review_versions(&hook.child("admissionReviewVersions"), &mut errors);
        let name = hook.child("name");
        if !name.is_empty() && !names.insert(name.text()) {
            errors.push(name.duplicate());
        }
    }
    errors
}

fn webhook(hook: &At<'_, '_>, errors: &mut ErrorList) {
    let name = hook.child("name");
    if name.is_empty() || name.text().split('.').count() >= 3 {
        errors.extend(fully_qualified_domain(&name.path(), name.text()));
    } else {
        errors.push(name.invalid("should be a domain with at least three segments separated by dots"));
    }
    for rule in hook.child("rules").items() {
        rule_with_operations(&rule, true, errors);
    }
    let optional = |field: &str, supported: &[&str], errors: &mut ErrorList| {
        if hook.child(field).is_set() {
            enumerated(&hook.child(field), supported, errors);
        }
    };
    optional("failurePolicy", &["Fail", "Ignore"], errors);
    optional("matchPolicy", &["Equivalent", "Exact"], errors);
    if hook.child("sideEffects").is_null() {
        errors.push(
            hook.child("sideEffects")
                .required("must specify one of None, NoneOnDryRun"),
        );
    }
    optional("sideEffects", &["None", "NoneOnDryRun"], errors);
    optional("reinvocationPolicy", &["IfNeeded", "Never"], errors);
    let timeout = hook.child("timeoutSeconds");
    if timeout.int().is_some_and(|n| !(1..=30).contains(&n)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    label_selector(&hook.child("namespaceSelector"), false, errors);
    label_selector(&hook.child("objectSelector"), false, errors);
    client_config(&hook.child("clientConfig"), errors);
    match_conditions(&hook.child("matchConditions"), false, errors);
}

/// Where a webhook is: a URL or a Service.
pub(crate) fn client_config(at: &At<'_, '_>, errors: &mut ErrorList) {
    let (url, service) = (at.child("url"), at.child("service"));
    if url.is_set() == service.is_set() {
        errors.push(at.required("exactly one of url or service is required"));
    } else if url.is_set() {
        webhook_url(&url, errors);
    } else {
        required_text(&service.child("name"), errors);
        required_text(&service.child("namespace"), errors);
        let path = service.child("path");
        if !path.text().is_empty() && !path.text().starts_with('/') {
            errors.push(path.invalid("must start with a '/'"));
        } else if path.text().contains("//") {
            errors.push(path.invalid("segment[0] may not be empty"));
        }
        let port = service.child("port").int().unwrap_or(443);
        for wrong in port_number(port) {
            let detail = format!("port is not valid: {wrong}");
            errors.push(service.child("port").invalid_as(port, detail));
        }
    }
}

fn webhook_url(at: &At<'_, '_>, errors: &mut ErrorList) {
    const FORM: &str = "desired format: https://host[/path]";
    let Some((scheme, rest)) = at.text().split_once("://") else {
        errors.push(at.required(format!("url must be a valid URL: {FORM}")));
        return;
    };
    if scheme != "https" {
        errors.push(at.invalid_as(scheme, format!("'https' is the only allowed URL scheme; {FORM}")));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        errors.push(at.invalid_as(host, format!("host must be specified; {FORM}")));
    }
    if host.contains('@') {
        errors.push(at.invalid("user information is not permitted in the URL"));
    }
    if let Some((_, fragment)) = rest.split_once('#') {
        errors.push(at.invalid_as(fragment, "fragments are not permitted in the URL"));
    }
    if let Some((_, query)) = rest.split('#').next().unwrap_or_default().split_once('?') {
        errors.push(at.invalid_as(query, "query parameters are not permitted in the URL"));
    }
}

fn review_versions(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_empty() {
        errors.push(at.required("must specify one of v1, v1beta1"));
        return;
    }
    let mut seen = BTreeSet::new();
    for version in at.items() {
        if !seen.insert(version.text()) {
            errors.push(version.invalid("duplicate version"));
        }
        version.all(errors, dns_label_1035(version.text()));
    }
    if !seen.contains("v1") && !seen.contains("v1beta1") {
        errors.push(at.invalid("must include at least one of v1, v1beta1"));
    }
}

/// Operations on resources.
pub(super) fn rule_with_operations(at: &At<'_, '_>, subresources: bool, errors: &mut ErrorList) {
    let operations = at.child("operations");
    if operations.is_empty() {
        errors.push(operations.required(""));
    }
    if operations.len() > 1 && operations.items().any(|o| o.text() == "*") {
        errors.push(operations.invalid("if '*' is present, must not specify other operations"));
    }
    for operation in operations.items() {
        enumerated(
            &operation,
            &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"],
            errors,
        );
    }
    for field in ["apiGroups", "apiVersions", "resources"] {
        let list = at.child(field);
        if list.is_empty() {
            errors.push(list.required(""));
            continue;
        }
        if field == "resources" {
            resources(&list, subresources, errors);
            continue;
        }
        if list.len() > 1 && list.items().any(|g| g.text() == "*") {
            let what = if field == "apiGroups" {
                "API groups"
            } else {
                "API versions"
            };
            errors.push(list.invalid(format!("if '*' is present, must not specify other {what}")));
        }
        for item in list.items() {
            if field == "apiVersions" && item.is_empty() {
                errors.push(item.required(""));
            }
        }
    }
    if at.child("scope").is_set() {
        enumerated(&at.child("scope"), &["*", "Cluster", "Namespaced"], errors);
    }
}

fn resources(at: &At<'_, '_>, subresources: bool, errors: &mut ErrorList) {
    let all: Vec<&str> = at.items().map(|r| r.text()).collect();
    let with_any_sub: BTreeSet<&str> = all.iter().filter_map(|r| r.strip_suffix("/*")).collect();
    for resource in at.items() {
        let text = resource.text();
        if text.is_empty() {
            errors.push(resource.required(""));
        } else if let Some((name, sub)) = text.split_once('/')
            && sub != "*"
            && with_any_sub.contains(name)
        {
            errors.push(resource.invalid(format!("if '{name}/*' is present, must not specify {text}")));
        }
    }
    if all.len() > 1 && all.contains(&"*/*") {
        errors.push(at.invalid("if '*/*' is present, must not specify other resources"));
    }
    if all.len() > 1
        && all.contains(&"*")
        && (!subresources || all.iter().any(|r| !r.contains('/') && *r != "*"))
    {
        let detail = if subresources {
            "if '*' is present, must not specify other resources without subresources"
        } else {
            "if '*' is present, must not specify other resources"
        };
        errors.push(at.invalid(detail));
    }
}

/// Conditions by name. `params` says whether their expressions may refer to parameters.
pub(super) fn match_conditions(at: &At<'_, '_>, params: bool, errors: &mut ErrorList) {
    if at.len() > 64 {
        errors.push(FieldError::too_many(&at.path(), at.len(), 64));
    }
    let mut names = BTreeSet::new();
    for condition in at.items() {
        let (name, expression) = (condition.child("name"), condition.child("expression"));
        if expression.text().trim().is_empty() {
            errors.push(expression.required(""));
        }
        if name.is_empty() {
            errors.push(name.required(""));
        } else {
            name_of(&name, qualified_name, errors);
            if !names.insert(name.text()) {
                errors.push(name.duplicate());
            }
        }
    }
    let list = at.value.as_array().map_or(&[][..], Vec::as_slice);
    errors.extend(conditions::condition_errors(list, &at.path(), params, &[]));
}

/// The resources that a policy or a binding is for.
fn match_resources(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_null() {
        return;
    }
    if at.child("matchPolicy").is_set() {
        enumerated(&at.child("matchPolicy"), &["Equivalent", "Exact"], errors);
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        if at.child(selector).is_null() {
            errors.push(at.child(selector).required(""));
        }
        label_selector(&at.child(selector), false, errors);
    }
    for rules in ["resourceRules", "excludeResourceRules"] {
        for rule in at.child(rules).items() {
            rule_with_operations(&rule, true, errors);
        }
    }
}

/// An admission policy.
pub(super) fn policy(object: &Value, mutating: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    if spec.child("failurePolicy").is_set() {
        enumerated(&spec.child("failurePolicy"), &["Fail", "Ignore"], &mut errors);
    }
    let kind = spec.child("paramKind");
    if kind.is_set() {
        let version = kind.child("apiVersion");
        if version.is_empty() {
            errors.push(version.required(""));
        } else if rutter_api::GroupVersion::parse(version.text()).is_none() {
            errors.push(version.invalid(format!("unexpected GroupVersion string: {}", version.text())));
        }
        if kind.child("kind").is_empty() {
            errors.push(kind.child("kind").required(""));
        } else {
            errors.extend(
                dns_label_1035(&kind.child("kind").text().to_lowercase())
                    .into_iter()
                    .map(|e| {
                        kind.child("kind")
                            .invalid(format!("may have mixed case, but should otherwise match: {e}"))
                    }),
            );
        }
    }
    let constraints = spec.child("matchConstraints");
    if constraints.is_null() {
        errors.push(constraints.required(""));
    } else {
        match_resources(&constraints, &mut errors);
        if constraints.child("resourceRules").is_empty() {
            errors.push(constraints.child("resourceRules").required(""));
        }
    }
    match_conditions(&spec.child("matchConditions"), kind.is_set(), &mut errors);
    if mutating {
        mutations(&spec, &mut errors)
    } else {
        validations(&spec, &mut errors)
    }
    let mut names = BTreeSet::new();
    for variable in spec.child("variables").items() {
        let name = variable.child("name");
        required_text(&name, &mut errors);
        if !name.is_empty() && !names.insert(name.text()) {
            errors.push(name.duplicate());
        }
        if variable.child("expression").text().trim().is_empty() {
            errors.push(
                variable
                    .child("expression")
                    .required("expression is not specified"),
            );
        }
    }
    expressions(&spec, mutating, &mut errors);
    errors
}

/// What is wrong with a policy's expressions. Those that are empty are reported elsewhere.
fn expressions(spec: &At<'_, '_>, mutating: bool, errors: &mut ErrorList) {
    let mut composer = Composer::new(spec.child("paramKind").is_set(), mutating);
    for variable in spec.child("variables").items() {
        let (name, expression) = (variable.child("name"), variable.child("expression"));
        if !expression.text().trim().is_empty()
            && let Err(why) = composer.add(name.text(), expression.text())
        {
            errors.push(expression.invalid(why));
        }
    }
    let (env, message_env) = (composer.env(), composer.message_env());
    let mut check = |env: &Env, at: &At<'_, '_>, wanted: &[Type]| {
        if !at.text().trim().is_empty() {
            errors.extend(conditions::expression_error(env, &at.path(), at.text(), wanted));
        }
    };
    for validation in spec.child("validations").items() {
        check(&env, &validation.child("expression"), &types::validation());
        check(
            &message_env,
            &validation.child("messageExpression"),
            &types::message(),
        );
    }
    for annotation in spec.child("auditAnnotations").items() {
        check(
            &env,
            &annotation.child("valueExpression"),
            &types::audit_annotation(),
        );
    }
    for mutation in spec.child("mutations").items() {
        let apply = mutation.child("applyConfiguration");
        check(&env, &apply.child("expression"), &types::apply_configuration());
        let patch = mutation.child("jsonPatch");
        check(&env, &patch.child("expression"), &types::json_patch());
    }
}

fn validations(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let (checks, audits) = (spec.child("validations"), spec.child("auditAnnotations"));
    if checks.is_empty() && audits.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.push(checks.required(detail));
        errors.push(audits.required(detail));
    }
    for check in checks.items() {
        if check.child("expression").text().trim().is_empty() {
            errors.push(check.child("expression").required("expression is not specified"));
        }
        let reason = check.child("reason");
        if reason.is_set() {
            let reasons = &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
            enumerated(&reason, reasons, errors);
        }
    }
    let mut keys = BTreeSet::new();
    for audit in audits.items() {
        let key = audit.child("key");
        required_text(&key, errors);
        if !key.is_empty() && !keys.insert(key.text()) {
            errors.push(key.duplicate());
        }
        if audit.child("valueExpression").text().trim().is_empty() {
            errors.push(
                audit
                    .child("valueExpression")
                    .required("valueExpression is not specified"),
            );
        }
    }
}

fn mutations(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let changes = spec.child("mutations");
    if changes.is_empty() {
        errors.push(changes.required("mutations must contain at least one item"));
    }
    for change in changes.items() {
        let kind = change.child("patchType");
        let field = match kind.text() {
            "ApplyConfiguration" => "applyConfiguration",
            "JSONPatch" => "jsonPatch",
            "" => {
                errors.push(kind.required(""));
                continue;
            }
            _ => {
                errors.push(kind.not_supported(&["ApplyConfiguration", "JSONPatch"]));
                continue;
            }
        };
        if change.child(field).is_null() {
            let detail = format!("{field} is required for the patchType {}", kind.text());
            errors.push(change.child(field).required(detail));
        } else if change.child(field).child("expression").text().trim().is_empty() {
            errors.push(
                change
                    .child(field)
                    .child("expression")
                    .required("expression is not specified"),
            );
        }
    }
    enumerated(&spec.child("reinvocationPolicy"), &["IfNeeded", "Never"], errors);
}

/// A binding of a policy.
pub(super) fn binding(object: &Value, mutating: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let name = spec.child("policyName");
    if name.is_empty() {
        errors.push(name.required(""));
    } else {
        name_of(&name, dns_subdomain, &mut errors);
    }
    let reference = spec.child("paramRef");
    if reference.is_set() {
        match (
            reference.child("name").is_empty(),
            reference.child("selector").is_null(),
        ) {
            (true, true) => {
                errors.push(reference.required("one of name or selector must be specified"));
            }
            (false, false) => {
                let detail = "name and selector are mutually exclusive";
                errors.push(reference.child("name").forbidden(detail));
            }
            (false, true) => name_of(&reference.child("name"), dns_subdomain, &mut errors),
            (true, false) => label_selector(&reference.child("selector"), false, &mut errors),
        }
        let namespace = reference.child("namespace");
        if !namespace.is_empty() {
            name_of(&namespace, dns_label, &mut errors);
        }
        let action = reference.child("parameterNotFoundAction");
        if action.is_null() {
            errors.push(action.required(""));
        } else {
            enumerated(&action, &["Allow", "Deny"], &mut errors);
        }
    }
    match_resources(&spec.child("matchResources"), &mut errors);
    if mutating {
        return errors;
    }
    let actions = spec.child("validationActions");
    if actions.is_empty() {
        errors.push(actions.required("at least one validation action is required"));
    }
    let mut seen = BTreeSet::new();
    for action in actions.items() {
        enumerated(&action, &["Audit", "Deny", "Warn"], &mut errors);
        if !seen.insert(action.text()) {
            errors.push(action.duplicate());
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        errors.push(actions.invalid("must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"));
    }
    errors
}

/// Whether anything but the status changed.
pub(super) fn spec_changed(object: &Value, old: &Value) -> bool {
    object.at("spec") != old.at("spec")
}
