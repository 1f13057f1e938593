//! Requests, limits and claims.

use crate::amount::{self, quantity};
use crate::check::name_of;
use rutter_api::object::ObjectExt;
use rutter_api::validation::{At, dns_label, dns_subdomain, qualified_name};
use rutter_api::{ErrorList, FieldError, Quantity, Value};
use std::collections::BTreeSet;

const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

const INTEGERS: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether a name is one of a resource that neither Kubernetes nor a quota has.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && qualified_name(&format!("requests.{name}")).is_empty()
}

fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge(name)
}

/// The name of any resource.
pub(crate) fn resource_name(at: &At<'_, '_>, name: &str, errors: &mut ErrorList) {
    let wrong = qualified_name(name);
    if !wrong.is_empty() {
        errors.extend(wrong.into_iter().map(|e| at.invalid_as(name, e)));
    } else if !name.contains('/')
        && !STANDARD.contains(&name)
        && !is_huge(name)
        && !name.starts_with("requests.hugepages-")
    {
        errors.push(at.invalid_as(name, "must be a standard resource type or fully qualified"));
    }
}

fn container_resource_name(at: &At<'_, '_>, name: &str, errors: &mut ErrorList) {
    let before = errors.len();
    resource_name(at, name, errors);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge(name) {
            errors.push(at.invalid_as(name, "must be a standard resource for containers"));
        }
    } else if before == errors.len() && !is_native(name) && !is_extended(name) {
        errors.push(at.invalid_as(name, "doesn't follow extended resource name standard"));
    }
}

/// An amount of a resource: not negative, and whole where only whole ones make sense.
pub(crate) fn quantity_value(at: &At<'_, '_>, name: &str, errors: &mut ErrorList) {
    let Some(amount) = quantity(at.value) else { return };
    if amount < Quantity::ZERO {
        errors.push(at.invalid_as(amount.to_string(), "must be greater than or equal to 0"));
    }
    let whole = INTEGERS.contains(&name) || is_extended(name);
    if whole && amount.milli_value() % 1000 != 0 {
        errors.push(at.invalid_as(amount.to_string(), "must be an integer"));
    }
}

fn is_multiple_of_page(name: &str, amount: Quantity) -> bool {
    match name
        .strip_prefix("hugepages-")
        .and_then(|size| size.parse::<Quantity>().ok())
        .map(|q| q.value())
    {
        Some(page) if page > 0 => amount.value() % page == 0,
        _ => true,
    }
}

/// Requests and limits, of a container or of a whole pod.
pub(super) fn requirements(at: &At<'_, '_>, claims: &BTreeSet<&str>, of_pod: bool, errors: &mut ErrorList) {
    let limits = at.child("limits");
    let requests = at.child("requests");
    let mut compute = false;
    let mut huge = false;
    for (list, is_request) in [(&limits, false), (&requests, true)] {
        for (name, _) in list.entries() {
            let entry = list.key(name);
            if of_pod {
                pod_resource_name(&entry, name, errors);
            } else {
                container_resource_name(&entry, name, errors);
            }
            quantity_value(&entry, name, errors);
            let Some(amount) = quantity(entry.value) else {
                continue;
            };
            if is_request {
                against_limit(&requests, &limits, name, amount, errors);
            }
            if is_huge(name) {
                huge = true;
                if !is_multiple_of_page(name, amount) {
                    let detail = format!("{amount} is not positive integer multiple of {name}");
                    errors.push(entry.invalid_as(amount.to_string(), detail));
                }
            }
            compute |= matches!(name, "cpu" | "memory");
        }
    }
    if huge && !compute {
        errors.push(at.forbidden("HugePages require cpu or memory"));
    }
    claim_names(&at.child("claims"), claims, errors);
}

fn against_limit(
    requests: &At<'_, '_>,
    limits: &At<'_, '_>,
    name: &str,
    amount: Quantity,
    errors: &mut ErrorList,
) {
    match quantity(limits.key(name).value) {
        Some(limit) if amount != limit && !may_overcommit(name) => {
            let detail = format!("must be equal to {name} limit of {limit}");
            errors.push(requests.invalid_as(amount.to_string(), detail));
        }
        Some(limit) if amount > limit => {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(requests.invalid_as(amount.to_string(), detail));
        }
        Some(_) => {}
        None if !may_overcommit(name) => {
            errors.push(limits.required("Limit must be set for non overcommitable resources"));
        }
        None => {}
    }
}

fn claim_names(at: &At<'_, '_>, known: &BTreeSet<&str>, errors: &mut ErrorList) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for claim in at.items() {
        let name = claim.child("name").text();
        if name.is_empty() {
            errors.push(claim.required(""));
            continue;
        }
        let request = claim.child("request");
        let mut key = name.to_owned();
        if !request.is_empty() {
            name_of(&request, dns_label, errors);
            key = format!("{name}/{}", request.text());
        }
        let by_part = request.is_empty()
            && seen
                .iter()
                .any(|k| k.split_once('/').is_some_and(|(n, _)| n == name));
        if seen.contains(name) || by_part || !seen.insert(key.clone()) {
            errors.push(FieldError::duplicate(
                &claim.path(),
                if seen.contains(name) { name.to_owned() } else { key },
            ));
        }
        if !known.contains(name) {
            let list = known.iter().copied().collect::<Vec<_>>().join(", ");
            let mut error = FieldError::not_found(&claim.path(), name);
            error.detail = if known.is_empty() {
                "must be one of the names in pod.spec.resourceClaims which is empty".to_owned()
            } else {
                format!("must be one of the names in pod.spec.resourceClaims: {list}")
            };
            errors.push(error);
        }
    }
}

/// The claims of a pod.
pub(super) fn claims(at: &At<'_, '_>, pod: Option<&Value>, errors: &mut ErrorList) {
    let mut names = BTreeSet::new();
    let is_static = pod.is_some_and(|pod| pod.annotation(super::annotations::MIRROR).is_some());
    for claim in at.items() {
        if is_static {
            errors.push(FieldError::forbidden(
                &"".into(),
                "static pods do not support resource claims",
            ));
            continue;
        }
        let name = claim.child("name");
        if name.is_empty() {
            errors.push(name.required(""));
        } else if !names.insert(name.text()) {
            errors.push(name.duplicate());
        } else {
            name_of(&name, dns_label, errors);
        }
        let (by_name, by_template) = (
            claim.child("resourceClaimName"),
            claim.child("resourceClaimTemplateName"),
        );
        if by_name.is_set() && by_template.is_set() {
            let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
            errors.push(claim.invalid(detail));
        }
        if by_name.is_null() && by_template.is_null() {
            let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
            errors.push(claim.invalid(detail));
        }
        for reference in [by_name, by_template] {
            if reference.is_set() {
                name_of(&reference, dns_subdomain, errors);
            }
        }
    }
}

fn pod_resource_name(at: &At<'_, '_>, name: &str, errors: &mut ErrorList) {
    let before = errors.len();
    resource_name(at, name, errors);
    if before == errors.len() && !matches!(name, "cpu" | "memory") && !is_huge(name) {
        errors.push(FieldError::not_supported(&at.path(), name, &["cpu", "memory"]));
    }
}

/// Resources of the whole pod cover what its containers ask for.
pub(super) fn pod_level(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let at = spec.child("resources");
    if at.is_null() {
        return;
    }
    if spec.child("os.name").text() == "windows" {
        errors.push(at.forbidden("may not be set for a windows pod"));
        return;
    }
    if at.child("claims").is_set() {
        errors.push(
            at.child("claims")
                .forbidden("claims may not be set for Resources at pod-level"),
        );
    }
    requirements(&at, &BTreeSet::new(), true, errors);
    let requests = at.child("requests");
    for (name, sum) in amount::of_containers(spec.value, "requests") {
        let own = requests.key(&name);
        if let Some(amount) = quantity(own.value)
            && sum > amount
        {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.push(own.invalid_as(amount.to_string(), detail));
        }
    }
    let limits = at.child("limits");
    for (name, sum) in amount::of_containers(spec.value, "limits") {
        let own = limits.key(&name);
        if let Some(amount) = quantity(own.value)
            && is_huge(&name)
            && sum > amount
        {
            let detail = format!("must be greater than or equal to aggregate container limits of {sum}");
            errors.push(own.invalid_as(amount.to_string(), detail));
        }
    }
    for (i, container) in spec.value.list_at("containers").iter().enumerate() {
        for (name, limit) in amount::amounts(container.at("resources.limits")) {
            if let Some(whole) = quantity(limits.key(&name).value)
                && limit > whole
            {
                let path = at.path().child("containers").index(i).key(&name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {whole}");
                errors.push(FieldError::invalid(&path, limit.to_string(), detail));
            }
        }
    }
}

/// What the runtime itself takes.
pub(super) fn overhead(at: &At<'_, '_>, errors: &mut ErrorList) {
    let limits = at.field("limits", at.value);
    for (name, _) in at.entries() {
        container_resource_name(&limits.key(name), name, errors);
        quantity_value(&limits.key(name), name, errors);
    }
}
