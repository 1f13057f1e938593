//! Pods that wait behind scheduling gates may be narrowed: node selectors grow, node affinity gains requirements.

use super::check::copy;
use rutter_api::ErrorList;
use rutter_api::Value;
use rutter_api::object::ObjectExt;
use rutter_api::validation::At;

/// The allowed spec with the changes that a gated pod may undergo besides.
pub(super) fn with_allowed_changes(
    mut allowed: Value,
    spec: &At<'_, '_>,
    old: &Value,
    errors: &mut ErrorList,
) -> Value {
    let selector = spec.child("nodeSelector");
    if selector.value != old.at("nodeSelector") {
        let kept = old.map_at("nodeSelector").into_iter().flatten();
        for (key, value) in kept {
            if selector.value.get(key) != Some(value) {
                errors.push(
                    selector.invalid(
                        "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
                    ),
                );
                break;
            }
        }
        copy(&mut allowed, spec.value, "nodeSelector");
    }
    let affinity = spec.child("affinity");
    let node = affinity.child("nodeAffinity");
    if node.value != old.at("affinity.nodeAffinity") {
        node_affinity(&node, old.at("affinity.nodeAffinity"), errors);
        match node.value {
            Value::Null => {
                allowed.take_at("affinity.nodeAffinity");
            }
            value => allowed.set("affinity.nodeAffinity", value.clone()),
        }
    }
    allowed
}

fn node_affinity(at: &At<'_, '_>, old: &Value, errors: &mut ErrorList) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let before = old.at(REQUIRED).list_at("nodeSelectorTerms");
    if before.is_empty() {
        return;
    }
    let required = at.child(REQUIRED);
    let terms = required.child("nodeSelectorTerms");
    if terms.len() != before.len() {
        errors.push(terms.invalid("no additions/deletions to non-empty NodeSelectorTerms list are allowed"));
        return;
    }
    for (term, before) in terms.items().zip(before) {
        let grows = ["matchExpressions", "matchFields"].iter().all(|list| {
            let (new, old) = (term.value.list_at(list), before.list_at(list));
            new.len() >= old.len() && new.iter().zip(old).all(|(new, old)| new == old)
        });
        let was_empty =
            before.list_at("matchExpressions").is_empty() && before.list_at("matchFields").is_empty();
        if !grows || was_empty && term.value != before {
            errors.push(term.invalid("only additions are allowed (no mutations or deletions)"));
        }
    }
}
