//! ResourceQuota.

use crate::podcheck::{quantity_value, resource_name};
use crate::print::{self, AGE, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::At;
use rutter_api::{Context, ErrorList, Strategy, Value};

/// ResourceQuota.
pub(crate) struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        if cx.subresource == "status" {
            let mut errors = ErrorList::new();
            let root = At::root(object);
            let status = root.child("status");
            amounts(&status.child("hard"), &mut errors);
            amounts(&status.child("used"), &mut errors);
            return errors;
        }
        let mut errors = validate(object);
        let set = |value: &Value| -> std::collections::BTreeSet<String> {
            value
                .list_at("spec.scopes")
                .iter()
                .filter_map(|s| s.as_str().map(str::to_owned))
                .collect()
        };
        if set(object) != set(old) {
            let root = At::root(object);
            let spec = root.child("spec");
            errors.push(spec.child("scopes").invalid("field is immutable"));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Request", "Counts and requests: used of allowed."),
            print::text("Limit", "Limits: used of allowed."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in object.map_at("status.hard").into_iter().flatten() {
            let used = object
                .at("status.used")
                .get(name)
                .map_or("0".to_owned(), print::int_or_text);
            let cell = format!("{name}: {used}/{}", print::int_or_text(hard));
            if name.starts_with("limits.") {
                limits.push(cell)
            } else {
                requests.push(cell)
            }
        }
        vec![
            print::name(object),
            Value::from(requests.join(", ")),
            Value::from(limits.join(", ")),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

const QUOTA_RESOURCES: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

fn is_quota_resource(name: &str) -> bool {
    QUOTA_RESOURCES.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

fn amounts(at: &At<'_, '_>, errors: &mut ErrorList) {
    for (name, _) in at.entries() {
        let entry = at.key(name);
        resource_name(&entry, name, errors);
        if !name.contains('/') && !is_quota_resource(name) {
            errors.push(entry.invalid_as(name, "must be a standard resource for quota"));
        }
        quantity_value(&entry, name, errors);
    }
}

/// Whether a scope means anything for a resource.
fn applies(scope: &str, resource: &str) -> bool {
    let of_pods = matches!(
        resource,
        "pods"
            | "cpu"
            | "memory"
            | "ephemeral-storage"
            | "requests.cpu"
            | "requests.memory"
            | "requests.ephemeral-storage"
            | "limits.cpu"
            | "limits.memory"
            | "limits.ephemeral-storage"
    );
    match scope {
        "BestEffort" => resource == "pods",
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => of_pods,
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let hard = spec.child("hard");
    amounts(&hard, &mut errors);
    let scopes = spec.child("scopes");
    let has = |scope: &str| scopes.items().any(|s| s.text() == scope);
    for scope in scopes.items() {
        if !SCOPES.contains(&scope.text()) {
            errors.push(scopes.invalid("unsupported scope"));
        }
        for (name, _) in hard.entries() {
            if is_quota_resource(name) && !applies(scope.text(), name) {
                errors.push(scopes.invalid("unsupported scope applied to resource"));
            }
        }
    }
    if has("BestEffort") && has("NotBestEffort") || has("Terminating") && has("NotTerminating") {
        errors.push(scopes.invalid("conflicting scopes"));
    }
    let selector = spec.child("scopeSelector");
    let expressions = selector.child("matchExpressions");
    for expression in expressions.items() {
        let scope = expression.child("scopeName").text();
        if !SCOPES.contains(&scope) {
            errors.push(
                expressions
                    .field("scopeName", expression.child("scopeName").value)
                    .invalid("unsupported scope"),
            );
        }
        for (name, _) in hard.entries() {
            if is_quota_resource(name) && !applies(scope, name) {
                errors.push(
                    expressions.invalid_as(selector.value.clone(), "unsupported scope applied to resource"),
                );
            }
        }
        let operator = expressions.field("operator", expression.child("operator").value);
        let values = expressions.field("values", expression.child("values").value);
        if scope != "PriorityClass"
            && scope != "VolumeAttributesClass"
            && SCOPES.contains(&scope)
            && operator.text() != "Exists"
        {
            errors.push(operator.invalid("must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"));
        }
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                let detail =
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(values.required(detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail =
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(values.invalid(detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(operator.invalid("not a valid selector operator")),
        }
    }
    errors
}
