//! What the status of a CustomResourceDefinition should say: accepted names and conditions. Pure.

use rutter_api::object::ObjectExt;
use rutter_api::{FieldError, Path, Value, crd, field};
use serde_json::json;
use std::collections::BTreeSet;

/// Holds a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const APPROVED: &str = "api-approved.kubernetes.io";

/// The names that a definition has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Plural, singular and short names.
    resources: BTreeSet<String>,
    /// Kind and list kind.
    kinds: BTreeSet<String>,
}

impl Names {
    /// The names accepted so far.
    pub(super) fn accepted(definition: &Value) -> Self {
        let names = definition.at("status.acceptedNames");
        let texts = |fields: [&str; 2]| -> BTreeSet<String> {
            let found = fields.into_iter().map(|field| names.str_at(field));
            found.filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let mut resources = texts(["plural", "singular"]);
        let short = names.list_at("shortNames").iter().filter_map(Value::as_str);
        resources.extend(short.map(str::to_owned));
        Self {
            resources,
            kinds: texts(["kind", "listKind"]),
        }
    }
}

/// Decides about a definition's names, given those of the others in its group.
pub(super) fn names<'n>(definition: &mut Value, others: impl Iterator<Item = &'n Names> + Clone, now: &str) {
    let decided = |kind: &str| condition(definition, kind) == Some("True");
    if definition.at("spec.names") == definition.at("status.acceptedNames")
        && decided("NamesAccepted")
        && decided("Established")
    {
        return;
    }
    let requested = definition.at("spec.names").clone();
    let accepted = definition.at("status.acceptedNames").clone();
    let taken = |name: &str, kind: bool| {
        others
            .clone()
            .any(|names| if kind { &names.kinds } else { &names.resources }.contains(name))
    };
    let mut result = json!({});
    let mut conflict = None;
    for (field, kind, reason) in [
        ("plural", false, "PluralConflict"),
        ("singular", false, "SingularConflict"),
        ("shortNames", false, "ShortNamesConflict"),
        ("kind", true, "KindConflict"),
        ("listKind", true, "ListKindConflict"),
    ] {
        let wanted: Vec<&str> = match requested.at(field) {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            value => value.as_str().into_iter().collect(),
        };
        let has = |name: &str| match accepted.at(field) {
            Value::Array(list) => list.iter().any(|have| have == name),
            value => value.as_str() == Some(name),
        };
        let used: Vec<String> = wanted
            .iter()
            .filter(|name| !has(name) && taken(name, kind))
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        let from = if used.is_empty() { &requested } else { &accepted };
        if !from.at(field).is_null() {
            result.set(field, from.at(field).clone());
        }
        if !used.is_empty() {
            let text = match used.as_slice() {
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            };
            conflict = Some((reason, text));
        }
    }
    if !requested.at("categories").is_null() {
        result.set("categories", requested.at("categories").clone());
    }
    for field in ["plural", "kind"] {
        result.set_default(field, "");
    }
    definition.set("status.acceptedNames", result);
    let good = conflict.is_none();
    let (reason, text) = conflict.unwrap_or(("NoConflicts", "no conflicts found".to_owned()));
    let status = if good { "True" } else { "False" };
    set_condition(definition, "NamesAccepted", status, reason, &text, now);
    if good {
        let text = "the initial names have been accepted";
        set_condition(
            definition,
            "Established",
            "True",
            "InitialNamesAccepted",
            text,
            now,
        );
    } else if condition(definition, "Established").is_none() {
        let text = "not all names are accepted";
        set_condition(definition, "Established", "False", "NotAccepted", text, now);
    }
}

/// Notes what is not structural, and where a community group stands in its approval.
pub(super) fn conformance(definition: &mut Value, now: &str) {
    let mut errors = Vec::new();
    let preserving = definition.bool_at("spec.preserveUnknownFields") == Some(true);
    if preserving {
        let path = Path::new("spec.preserveUnknownFields");
        errors.push(FieldError::invalid(&path, true, "must be false"));
    }
    let mut broken = None;
    // New schemas are structural by validation; only those of definitions that may keep what they had are looked at.
    for (index, version) in definition.list_at("spec.versions").iter().enumerate() {
        let schema = version.at("schema.openAPIV3Schema");
        if schema.is_null() {
            continue;
        }
        if let Some(why) = crd::unsupported(schema) {
            let name = version.str_at("name");
            broken = Some(format!(
                "failed to check validation schema for version {name}: {why}"
            ));
            break;
        }
        let path = Path::new("spec.versions")
            .index(index)
            .child("schema.openAPIV3Schema");
        errors.extend(crd::structural(schema, &path));
    }
    const NON_STRUCTURAL: &str = "NonStructuralSchema";
    match broken {
        Some(text) => set_condition(
            definition,
            NON_STRUCTURAL,
            "Unknown",
            "StructuralError",
            &text,
            now,
        ),
        None if errors.is_empty() => drop_condition(definition, NON_STRUCTURAL),
        None => {
            let text = field::aggregate(&errors);
            set_condition(definition, NON_STRUCTURAL, "True", "Violations", &text, now);
        }
    }
    approval(definition, now);
}

fn approval(definition: &mut Value, now: &str) {
    const CONFORMANT: &str = "KubernetesAPIApprovalPolicyConformant";
    let group = definition.str_at("spec.group");
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
    if !protected {
        drop_condition(definition, CONFORMANT);
        return;
    }
    let text = definition.annotation(APPROVED).unwrap_or_default().to_owned();
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let (status, reason, message) = if text.is_empty() {
        let message = format!("protected groups must have approval annotation {APPROVED:?}, {see}");
        ("False", "MissingAnnotation", message)
    } else if text.starts_with("unapproved") {
        ("False", "UnapprovedAnnotation", format!("not approved: {text:?}"))
    } else if text.split_once("://").is_some_and(|(_, rest)| !rest.is_empty()) {
        ("True", "ApprovedAnnotation", format!("approved in {text}"))
    } else {
        let message = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {see}"
        );
        ("False", "InvalidAnnotation", message)
    };
    set_condition(definition, CONFORMANT, status, reason, &message, now);
}

/// The status of a condition.
pub(super) fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a str> {
    let mut all = definition.list_at("status.conditions").iter();
    all.find(|condition| condition.str_at("type") == kind)
        .map(|condition| condition.str_at("status"))
}

/// Sets a condition; its time changes with its status alone.
pub(super) fn set_condition(
    definition: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: &str,
) {
    if !definition.at("status.conditions").is_array() {
        definition.set("status.conditions", json!([]));
    }
    let Some(list) = definition.list_at_mut("status.conditions") else {
        return;
    };
    let made = json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
    });
    match list.iter_mut().find(|condition| condition.str_at("type") == kind) {
        None => list.push(made),
        Some(have) => {
            let same = have.str_at("status") == status;
            let since = have.at("lastTransitionTime").clone();
            *have = made;
            if same {
                have.set("lastTransitionTime", since);
            }
        }
    }
}

fn drop_condition(definition: &mut Value, kind: &str) {
    if let Some(list) = definition.list_at_mut("status.conditions") {
        list.retain(|condition| condition.str_at("type") != kind);
    }
}

/// What a definition becomes when it is deleted: it waits for its objects.
pub fn mark(definition: &mut Value) {
    let now = definition.str_at("metadata.deletionTimestamp").to_owned();
    let mut finalizers = definition.list_at("metadata.finalizers").to_vec();
    if !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
        finalizers.push(Value::from(CLEANUP));
        definition.set("metadata.finalizers", finalizers);
    }
    let text = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_condition(
        definition,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        text,
        &now,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, kind: &str) -> Value {
        json!({
            "metadata": {"name": name},
            "spec": {
                "group": "x.io", "names": {"plural": name, "kind": kind, "listKind": format!("{kind}List"), "singular": kind.to_lowercase()},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
            },
        })
    }

    fn reason<'d>(definition: &'d Value, kind: &str) -> &'d str {
        let mut all = definition.list_at("status.conditions").iter();
        all.find(|c| c.str_at("type") == kind)
            .map(|c| c.str_at("reason"))
            .unwrap_or_default()
    }

    #[test]
    fn names_that_another_definition_has_are_not_accepted() {
        let (mut first, mut second) = (definition("as", "A"), definition("bs", "A"));
        names(&mut first, [].iter(), "t");
        assert_eq!(condition(&first, "Established"), Some("True"));
        assert_eq!(first.at("status.acceptedNames"), first.at("spec.names"));
        let taken = Names::accepted(&first);
        names(&mut second, [taken].iter(), "t");
        assert_eq!(condition(&second, "Established"), Some("False"));
        assert_eq!(reason(&second, "NamesAccepted"), "ListKindConflict");
        assert_eq!(second.at("status.acceptedNames.plural"), "bs");
        assert_eq!(second.at("status.acceptedNames.kind"), "");
        names(&mut second, [].iter(), "later");
        assert_eq!(
            condition(&second, "Established"),
            Some("True"),
            "the name is free again"
        );
        let again = first.clone();
        names(&mut first, [].iter(), "later");
        assert_eq!(first, again, "what is decided stays");
    }

    #[test]
    fn schemas_that_are_not_structural_are_told_in_the_status() {
        let mut object = definition("as", "A");
        conformance(&mut object, "t");
        assert_eq!(condition(&object, "NonStructuralSchema"), None);
        object["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({"properties": {"a": {}}});
        conformance(&mut object, "t");
        assert_eq!(reason(&object, "NonStructuralSchema"), "Violations");
        object.set("spec.group", "x.k8s.io");
        conformance(&mut object, "t");
        assert_eq!(
            reason(&object, "KubernetesAPIApprovalPolicyConformant"),
            "MissingAnnotation"
        );
    }
}
