//! Where a pod may and would rather run: affinity, tolerations, spread.

use crate::check::{enumerated, positive};
use rutter_api::validation::{At, dns_label, dns_subdomain, label_selector, label_value, qualified_name};
use rutter_api::{ErrorList, FieldError};
use std::collections::BTreeSet;

/// All affinities.
pub(super) fn affinity(at: &At<'_, '_>, lenient: bool, errors: &mut ErrorList) {
    let node = at.child("nodeAffinity");
    let required = node.child("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_set() {
        node_selector(&required, errors);
    }
    for term in node
        .child("preferredDuringSchedulingIgnoredDuringExecution")
        .items()
    {
        weight(&term.child("weight"), errors);
        requirements(&term.child("preference"), true, errors);
    }
    for pods in ["podAffinity", "podAntiAffinity"] {
        let pods = at.child(pods);
        for term in pods
            .child("requiredDuringSchedulingIgnoredDuringExecution")
            .items()
        {
            pod_term(&term, lenient, errors);
        }
        for term in pods
            .child("preferredDuringSchedulingIgnoredDuringExecution")
            .items()
        {
            weight(&term.child("weight"), errors);
            pod_term(&term.child("podAffinityTerm"), lenient, errors);
        }
    }
}

fn weight(at: &At<'_, '_>, errors: &mut ErrorList) {
    let weight = at.int().unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.push(at.invalid_as(weight, "must be in the range 1-100"));
    }
}

/// A node selector.
pub(crate) fn node_selector(at: &At<'_, '_>, errors: &mut ErrorList) {
    let terms = at.child("nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(terms.required("must have at least one node selector term"));
    }
    for term in terms.items() {
        requirements(&term, false, errors);
    }
}

fn requirements(term: &At<'_, '_>, lenient: bool, errors: &mut ErrorList) {
    for requirement in term.child("matchExpressions").items() {
        let values = requirement.child("values");
        let operator = requirement.child("operator");
        match operator.text() {
            "In" | "NotIn" => {
                if values.is_empty() {
                    errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.push(values.forbidden(detail));
                }
            }
            "Gt" | "Lt" => {
                if values.len() != 1 {
                    let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                    errors.push(values.required(detail));
                }
            }
            other => errors.push(operator.invalid_as(other, "not a valid selector operator")),
        }
        let key = requirement.child("key");
        errors.extend(
            qualified_name(key.text())
                .into_iter()
                .map(|e| key.invalid_as(key.text(), e)),
        );
        if !lenient {
            for value in values.items() {
                value.all(errors, label_value(value.text()));
            }
        }
    }
    for requirement in term.child("matchFields").items() {
        let values = requirement.child("values");
        let operator = requirement.child("operator");
        match operator.text() {
            "In" | "NotIn" => {
                if values.len() != 1 {
                    let detail =
                        "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                    errors.push(values.required(detail));
                }
            }
            other => errors.push(operator.invalid_as(other, "not a valid selector operator")),
        }
        let key = requirement.child("key");
        if key.text() == "metadata.name" {
            for value in values.items() {
                value.all(errors, dns_subdomain(value.text()));
            }
        } else {
            errors.push(key.invalid_as(key.text(), "not a valid field selector key"));
        }
    }
}

fn pod_term(at: &At<'_, '_>, lenient: bool, errors: &mut ErrorList) {
    label_selector(&at.child("labelSelector"), lenient, errors);
    label_selector(&at.child("namespaceSelector"), lenient, errors);
    for name in at.child("namespaces").items() {
        let shown = at.field("namespace", name.value);
        shown.all(errors, dns_label(name.text()));
    }
    label_keys(at, errors);
    let key = at.child("topologyKey");
    if key.is_empty() {
        errors.push(key.required("can not be empty"));
    }
    errors.extend(
        qualified_name(key.text())
            .into_iter()
            .map(|e| key.invalid_as(key.text(), e)),
    );
}

/// `matchLabelKeys` and `mismatchLabelKeys`.
fn label_keys(at: &At<'_, '_>, errors: &mut ErrorList) {
    let selector = at.child("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = at.child(field);
        if keys.is_empty() {
            continue;
        }
        if selector.is_null() {
            errors.push(keys.forbidden("must not be specified when labelSelector is not set"));
            continue;
        }
        for key in keys.items() {
            key.all(errors, qualified_name(key.text()));
        }
    }
    let matching = at.child("matchLabelKeys");
    let position = |key: &str| matching.items().position(|k| k.text() == key);
    let mut seen: BTreeSet<&str> = selector
        .child("matchLabels")
        .entries()
        .map(|(key, _)| key)
        .collect();
    for expression in selector.child("matchExpressions").items() {
        let key = expression.child("key").text();
        if let Some(i) = position(key)
            && seen.contains(key)
        {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(&at.path().index(i), key, detail));
        }
        seen.insert(key);
    }
    let mismatching = at.child("mismatchLabelKeys");
    for key in matching.items() {
        if mismatching.items().any(|k| k.text() == key.text()) {
            errors.push(key.invalid("exists in both matchLabelKeys and mismatchLabelKeys"));
        }
    }
}

/// Tolerations.
pub(crate) fn tolerations(at: &At<'_, '_>, errors: &mut ErrorList) {
    for toleration in at.items() {
        let key = toleration.child("key");
        let operator = toleration.child("operator");
        let value = toleration.child("value");
        let effect = toleration.child("effect");
        if !key.is_empty() {
            key.all(errors, qualified_name(key.text()));
        } else if operator.text() != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(operator.invalid_as(operator.text(), detail));
        }
        if toleration.child("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(effect.invalid_as(effect.text(), detail));
        }
        match operator.text() {
            "" | "Equal" => {
                let wrong = label_value(value.text());
                if !wrong.is_empty() {
                    errors.push(operator.invalid_as(value.text(), wrong.join(";")));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    errors.push(operator.invalid_as(value.text(), detail));
                }
            }
            "Lt" | "Gt" => errors.push(operator.not_supported(&["Equal", "Exists", "Lt", "Gt"])),
            _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            enumerated(&effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        }
    }
}

/// Topology spread constraints.
pub(super) fn spread(at: &At<'_, '_>, lenient: bool, errors: &mut ErrorList) {
    let all: Vec<At<'_, '_>> = at.items().collect();
    for (i, constraint) in all.iter().enumerate() {
        positive(&constraint.child("maxSkew"), errors);
        let topology = constraint.child("topologyKey");
        if topology.is_empty() {
            errors.push(topology.required("can not be empty"));
        }
        let when = constraint.child("whenUnsatisfiable");
        enumerated(&when, &["DoNotSchedule", "ScheduleAnyway"], errors);
        let same = |other: &At<'_, '_>| {
            other.child("topologyKey").text() == topology.text()
                && other.child("whenUnsatisfiable").text() == when.text()
        };
        if all.iter().skip(i + 1).any(same) {
            let path = constraint.path().child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(
                &path,
                format!("{{{}, {}}}", topology.text(), when.text()),
            ));
        }
        let domains = constraint.child("minDomains");
        if domains.is_set() {
            positive(&domains, errors);
            if when.text() != "DoNotSchedule" {
                errors.push(domains.invalid(format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                    when.text()
                )));
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if constraint.child(policy).is_set() {
                enumerated(&constraint.child(policy), &["Honor", "Ignore"], errors);
            }
        }
        label_keys(constraint, errors);
        label_selector(&constraint.child("labelSelector"), lenient, errors);
    }
}
