//! What is wrong with a new pod, a changed pod, and each of its subresources.

use crate::check::{in_range, with_diff};
use crate::podcheck::{self, Leniency, tolerations};
use rutter_api::object::ObjectExt;
use rutter_api::validation::{At, dns_subdomain, ip, qualified_name};
use rutter_api::{Context, ErrorList, FieldError, Value};

const MIRROR: &str = "kubernetes.io/config.mirror";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A new pod.
pub(super) fn create(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    podcheck::pod(
        &root,
        Leniency {
            is_pod: true,
            selectors: false,
        },
        &mut errors,
    );
    podcheck::new_pod(&root, &mut errors);
    errors
}

/// A changed pod, by what is written.
pub(super) fn update(object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    if cx.subresource != "status" {
        let lenient = Leniency {
            is_pod: true,
            selectors: podcheck::has_invalid_selectors(old.at("spec")),
        };
        podcheck::pod(&root, lenient, &mut errors);
    }
    annotations(&root.child("metadata").child("annotations"), old, &mut errors);
    match cx.subresource {
        "status" => status(&root, old, &mut errors),
        "ephemeralcontainers" => ephemeral_containers(&root, old, &mut errors),
        "resize" => super::resize::validate(&root, old, &mut errors),
        _ => spec(&root.child("spec"), old.at("spec"), &mut errors),
    }
    errors
}

fn annotations(at: &At<'_, '_>, old: &Value, errors: &mut ErrorList) {
    let before = old.at("metadata.annotations");
    for (key, value) in before.as_object().into_iter().flatten() {
        if at.value.get(key) == Some(value) {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.push(
                at.key(key)
                    .forbidden("may not remove or update AppArmor annotations"),
            );
        }
        if key == MIRROR {
            errors.push(
                at.key(key)
                    .forbidden("may not remove or update mirror pod annotation"),
            );
        }
    }
    for (key, _) in at.entries() {
        if before.get(key).is_some() {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.push(at.key(key).forbidden("may not add AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(at.key(key).forbidden("may not add mirror pod annotation"));
        }
    }
}

fn spec(spec: &At<'_, '_>, old: &Value, errors: &mut ErrorList) {
    for list in ["containers", "initContainers"] {
        if spec.child(list).len() != old.list_at(list).len() {
            errors.push(
                spec.child(list)
                    .forbidden("pod updates may not add or remove containers"),
            );
            return;
        }
    }
    let deadline = spec.child("activeDeadlineSeconds");
    match (deadline.int(), old.int_at("activeDeadlineSeconds")) {
        (Some(new), before) => {
            in_range(&deadline, 0, i64::from(i32::MAX), errors);
            if before.is_some_and(|before| before < new) {
                errors.push(deadline.invalid("must be less than or equal to previous value"));
            }
        }
        (None, Some(_)) => {
            errors.push(deadline.invalid("must not update from a positive integer to nil value"))
        }
        (None, None) => {}
    }
    added_tolerations(&spec.child("tolerations"), old.list_at("tolerations"), errors);
    for gate in spec.child("schedulingGates").items() {
        let name = gate.child("name");
        if !old
            .list_at("schedulingGates")
            .iter()
            .any(|g| g.str_at("name") == name.text())
        {
            let detail = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                name.text()
            );
            errors.push(name.forbidden(detail));
        }
    }
    let allowed = with_allowed_changes(old, spec.value);
    let allowed = if old.list_at("schedulingGates").is_empty() {
        allowed
    } else {
        super::gated::with_allowed_changes(allowed, spec, old, errors)
    };
    if !same(&allowed, spec.value) {
        errors.push(spec.forbidden(with_diff(UPDATABLE, &allowed, spec.value)));
    }
}

/// The old spec with the changes that any pod may undergo.
fn with_allowed_changes(old: &Value, new: &Value) -> Value {
    let mut allowed = old.clone();
    for list in ["containers", "initContainers"] {
        let containers = allowed.list_at_mut(list).into_iter().flatten();
        for (container, changed) in containers.zip(new.list_at(list)) {
            if !changed.at("image").is_null() {
                container.set("image", changed.at("image").clone());
            }
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        copy(&mut allowed, new, field);
    }
    let was_negative = old.int_at("terminationGracePeriodSeconds").is_some_and(|n| n < 0);
    if was_negative && new.int_at("terminationGracePeriodSeconds") == Some(1) {
        copy(&mut allowed, new, "terminationGracePeriodSeconds");
    }
    allowed
}

/// Copies a field, absent or not.
pub(crate) fn copy(to: &mut Value, from: &Value, field: &str) {
    match from.at(field) {
        Value::Null => {
            to.take_at(field);
        }
        value => to.set(field, value.clone()),
    }
}

/// Equality in which nothing and an empty list or map are one.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    let empty = |value: &Value| At::root(value).is_empty();
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            let covered = |one: &rutter_api::Map<String, Value>, other: &rutter_api::Map<String, Value>| {
                one.iter().all(|(key, value)| match other.get(key) {
                    Some(matching) => same(value, matching),
                    None => empty(value),
                })
            };
            covered(left, right) && covered(right, left)
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(a, b)| same(a, b))
        }
        _ => a == b || empty(a) && empty(b) && !a.is_string() && !b.is_string(),
    }
}

fn added_tolerations(at: &At<'_, '_>, old: &[Value], errors: &mut ErrorList) {
    let without_time = |toleration: &Value| {
        let mut toleration = toleration.clone();
        toleration.take_at("tolerationSeconds");
        toleration
    };
    let new: Vec<Value> = at.items().map(|t| without_time(t.value)).collect();
    for toleration in old {
        if !new.contains(&without_time(toleration)) {
            errors.push(at.forbidden("existing toleration can not be modified except its tolerationSeconds"));
        }
    }
    tolerations(at, errors);
}

fn ephemeral_containers(root: &At<'_, '_>, old: &Value, errors: &mut ErrorList) {
    if old.annotation(MIRROR).is_some() {
        let detail = "static pods do not support ephemeral containers";
        *errors = vec![FieldError::forbidden(&"".into(), detail)];
        return;
    }
    let spec = root.child("spec");
    let at = spec.child("ephemeralContainers");
    for before in old.list_at("spec.ephemeralContainers") {
        let name = before.str_at("name");
        match at.items().find(|c| c.child("name").text() == name) {
            None => {
                errors.push(at.forbidden(format!(
                    "existing ephemeral containers {name:?} may not be removed\n"
                )));
            }
            Some(now) if !same(now.value, before) => {
                let detail = format!("existing ephemeral containers {name:?} may not be changed");
                errors.push(at.forbidden(with_diff(&detail, before, now.value)));
            }
            Some(_) => {}
        }
    }
}

fn status(root: &At<'_, '_>, old: &Value, errors: &mut ErrorList) {
    let status = root.child("status");
    for condition in status.child("conditions").items() {
        if condition.child("observedGeneration").int().is_some_and(|n| n < 0) {
            errors.push(
                condition
                    .child("observedGeneration")
                    .invalid("must be a non-negative integer"),
            );
        }
        let kind = condition.child("type").text();
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            let path = condition.path().child("Type");
            errors.extend(
                qualified_name(kind)
                    .into_iter()
                    .map(|e| FieldError::invalid(&path, kind, e)),
            );
        }
    }
    let nominated = status.child("nominatedNodeName");
    if nominated.text() != old.str_at("status.nominatedNodeName") && !nominated.is_empty() {
        nominated.all(errors, dns_subdomain(nominated.text()));
        if !old.str_at("spec.nodeName").is_empty() {
            errors.push(nominated.forbidden("may not be set on pods that are already bound to a node"));
        }
    }
    if status.child("observedGeneration").int().is_some_and(|n| n < 0) {
        errors.push(
            status
                .child("observedGeneration")
                .invalid("must be a non-negative integer"),
        );
    }
    rutter_api::validation::immutable(&status.child("qosClass"), old.at("status.qosClass"), errors);
    for list in [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ] {
        transitions(&status.child(list), old, list, errors);
    }
    for field in ["podIPs", "hostIPs"] {
        addresses(&status.child(field), errors);
    }
    let single = status.child("hostIP");
    let all = status.child("hostIPs");
    if let Some(first) = all.items().next()
        && first.child("ip").text() != single.text()
    {
        let path = all.path().index(0).child("ip");
        errors.push(FieldError::invalid(
            &path,
            first.child("ip").text(),
            "must be equal to `hostIP`",
        ));
    }
}

fn addresses(at: &At<'_, '_>, errors: &mut ErrorList) {
    let mut families = (0, 0);
    for address in at.items() {
        let text = address.child("ip").text();
        match ip(text) {
            None => {
                let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                errors.push(address.invalid_as(text, detail));
            }
            Some(std::net::IpAddr::V4(_)) => families.0 += 1,
            Some(std::net::IpAddr::V6(_)) => families.1 += 1,
        }
    }
    if at.len() > 1 && (families.0 > 1 || families.1 > 1 || at.len() > 2) {
        errors.push(at.invalid("may specify no more than one IP for each IP family"));
    }
}

/// A container that is over stays over, unless the pod restarts containers.
fn transitions(at: &At<'_, '_>, old: &Value, list: &str, errors: &mut ErrorList) {
    let policy = old.str_at("spec.restartPolicy");
    let spec_list = match list {
        "containerStatuses" => "spec.containers",
        "initContainerStatuses" => "spec.initContainers",
        _ => return,
    };
    for (i, before) in old.at("status").list_at(list).iter().enumerate() {
        let name = before.str_at("name");
        let spec = old.list_at(spec_list).iter().find(|c| c.str_at("name") == name);
        let own = spec.map(|c| c.str_at("restartPolicy")).unwrap_or_default();
        let has_rules = spec.is_some_and(|c| !c.list_at("restartPolicyRules").is_empty());
        let effective = if own.is_empty() { policy } else { own };
        let code = before.int_at("state.terminated.exitCode");
        let restarts = effective == "Always"
            || has_rules
            || effective == "OnFailure" && code.is_some_and(|code| code != 0)
            || list == "initContainerStatuses" && own.is_empty() && policy == "Always" && code != Some(0);
        if code.is_none() || restarts {
            continue;
        }
        for status in at.items().filter(|s| s.child("name").text() == name) {
            if status.child("state").child("terminated").is_null() {
                let path = at.path().index(i).child("state");
                errors.push(FieldError::forbidden(
                    &path,
                    "may not be transitioned to non-terminated state",
                ));
            }
        }
    }
}
