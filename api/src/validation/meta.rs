//! Metadata of new and changed objects.

use super::At;
use super::labels::labels;
use super::names::{dns_label, dns_label_1035, dns_subdomain, path_segment, qualified_name};
use crate::field::{ErrorList, FieldError, Path};
use crate::object::ObjectExt;
use crate::strategy::NameRule;
use serde_json::Value;

/// The largest size of all annotations together.
const ANNOTATIONS_MAX: usize = 256 * 1024;
const MANAGER_MAX: usize = 128;
const SUBRESOURCE_MAX: usize = 256;

/// What is wrong with a name; with `prefix`, with the start of one that will be completed.
pub fn name(rule: NameRule, text: &str, prefix: bool) -> Vec<String> {
    let masked = if prefix && text.len() > 1 && text.ends_with('-') {
        format!("{}a", text.strip_suffix('-').unwrap_or(text))
    } else {
        text.to_owned()
    };
    match rule {
        NameRule::Subdomain => dns_subdomain(&masked),
        NameRule::Label => dns_label(&masked),
        NameRule::Label1035 => dns_label_1035(&masked),
        NameRule::PathSegment => path_segment(text, prefix),
        NameRule::Custom(check) => check(text, prefix),
    }
}

/// What is wrong with a new object's metadata, its name made and its namespace set.
pub fn create(object: &Value, namespaced: bool, rule: NameRule) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let metadata = root.child("metadata");
    let generate = metadata.child("generateName");
    if !generate.is_empty() {
        generate.all(&mut errors, name(rule, generate.text(), true));
    }
    let own = metadata.child("name");
    if own.is_empty() {
        errors.push(own.required("name or generateName is required"));
    } else {
        own.all(&mut errors, name(rule, own.text(), false));
    }
    let namespace = metadata.child("namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.push(namespace.required("")),
        (true, false) => namespace.all(&mut errors, dns_label(namespace.text())),
        (false, true) => {}
        (false, false) => errors.push(namespace.forbidden("not allowed on this type")),
    }
    if metadata.child("generation").int().unwrap_or_default() < 0 {
        errors.push(
            metadata
                .child("generation")
                .invalid("must be greater than or equal to 0"),
        );
    }
    common(&metadata, &mut errors);
    finalizers(&metadata.child("finalizers"), &mut errors);
    errors
}

/// What is wrong with a changed object's metadata.
pub fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let metadata = root.child("metadata");
    let before = old.at("metadata");
    if old.is_deleting() {
        no_new_finalizers(
            &metadata.child("finalizers"),
            before.list_at("finalizers"),
            &mut errors,
        );
    }
    if metadata.child("resourceVersion").is_empty() {
        errors.push(
            metadata
                .child("resourceVersion")
                .invalid_as("", "must be specified for an update"),
        );
    }
    let generation = metadata.child("generation");
    if generation.int().unwrap_or_default() < before.int_at("generation").unwrap_or_default() {
        errors.push(generation.invalid("must not be decremented"));
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        immutable(&metadata.child(field), before.at(field), &mut errors);
    }
    common(&metadata, &mut errors);
    errors
}

/// The field may not change.
pub fn immutable(at: &At<'_, '_>, old: &Value, errors: &mut ErrorList) {
    if at.value != old && !(at.is_empty() && is_empty(old)) {
        errors.push(at.invalid("field is immutable"));
    }
}

fn is_empty(value: &Value) -> bool {
    At::root(value).is_empty()
}

fn common(metadata: &At<'_, '_>, errors: &mut ErrorList) {
    labels(&metadata.child("labels"), errors);
    annotations(&metadata.child("annotations"), errors);
    owners(&metadata.child("ownerReferences"), errors);
    for entry in metadata.child("managedFields").items() {
        if !matches!(entry.child("operation").text(), "Apply" | "Update") {
            errors.push(entry.child("operation").invalid("must be `Apply` or `Update`"));
        }
        if !matches!(entry.child("fieldsType").text(), "" | "FieldsV1") {
            errors.push(entry.child("fieldsType").invalid("must be `FieldsV1`"));
        }
        errors.extend(field_manager(
            &entry.child("manager").path(),
            entry.child("manager").text(),
        ));
        if entry.child("subresource").text().len() > SUBRESOURCE_MAX {
            errors.push(FieldError::too_long(
                &entry.child("subresource").path(),
                SUBRESOURCE_MAX,
            ));
        }
    }
}

/// What is wrong with the name of a field manager.
pub fn field_manager(path: &Path, text: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    if text.len() > MANAGER_MAX {
        errors.push(FieldError::too_long(path, MANAGER_MAX));
    }
    for (i, c) in text.char_indices() {
        if c.is_control() {
            let detail = format!("invalid character U+{:04X} (at position {i})", u32::from(c));
            errors.push(FieldError::invalid(path, text, detail));
        }
    }
    errors
}

/// What is wrong with annotations.
pub fn annotations(at: &At<'_, '_>, errors: &mut ErrorList) {
    let mut size = 0;
    for (key, value) in at.entries() {
        size += key.len() + value.as_str().map_or(0, str::len);
        errors.extend(
            qualified_name(&key.to_lowercase())
                .into_iter()
                .map(|e| FieldError::invalid(&at.path(), key, e)),
        );
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(&at.path(), ANNOTATIONS_MAX));
    }
}

fn owners(at: &At<'_, '_>, errors: &mut ErrorList) {
    for owner in at.value.as_array().into_iter().flatten() {
        let version = owner.str_at("apiVersion").rsplit('/').next().unwrap_or_default();
        if version.is_empty() {
            let path = at.path().child("apiVersion");
            errors.push(FieldError::invalid(
                &path,
                owner.str_at("apiVersion"),
                "version must not be empty",
            ));
        }
        for field in ["kind", "name", "uid"] {
            if owner.str_at(field).is_empty() {
                errors.push(FieldError::invalid(
                    &at.path().child(field),
                    "",
                    "must not be empty",
                ));
            }
        }
        if (owner.str_at("apiVersion"), owner.str_at("kind")) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(&at.path(), owner.clone(), detail));
        }
    }
    errors.extend(controllers(at));
}

/// At most one owner is the controller.
pub fn controllers(at: &At<'_, '_>) -> Option<FieldError> {
    let list = at.value.as_array()?;
    let mut names = list
        .iter()
        .filter(|owner| owner.bool_at("controller") == Some(true))
        .map(|owner| format!("{}/{}", owner.str_at("kind"), owner.str_at("name")));
    let (first, second) = (names.next()?, names.next()?);
    Some(at.invalid(format!(
        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
    )))
}

fn finalizers(at: &At<'_, '_>, errors: &mut ErrorList) {
    let names = || {
        at.value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    };
    for name in names() {
        errors.extend(
            qualified_name(name)
                .into_iter()
                .map(|e| FieldError::invalid(&at.path(), name, e)),
        );
    }
    if names().any(|n| n == "orphan") && names().any(|n| n == "foregroundDeletion") {
        errors.push(at.invalid("finalizer orphan and foregroundDeletion cannot be both set"));
    }
}

fn no_new_finalizers(at: &At<'_, '_>, old: &[Value], errors: &mut ErrorList) {
    let mut extra: Vec<&str> = at
        .value
        .as_array()
        .into_iter()
        .flatten()
        .filter(|f| !old.contains(f))
        .filter_map(Value::as_str)
        .collect();
    if extra.is_empty() {
        return;
    }
    extra.sort_unstable();
    let list: Vec<String> = extra.iter().map(|f| format!("{f:?}")).collect();
    errors.push(at.forbidden(format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        list.join(", ")
    )));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_is_checked_on_create() {
        for (metadata, namespaced, want) in [
            (json!({"name": "a", "namespace": "n"}), true, vec![]),
            (
                json!({"name": "a"}),
                true,
                vec!["metadata.namespace: Required value"],
            ),
            (
                json!({"name": "a", "namespace": "n"}),
                false,
                vec!["metadata.namespace: Forbidden: not allowed on this type"],
            ),
            (
                json!({}),
                false,
                vec!["metadata.name: Required value: name or generateName is required"],
            ),
            (
                json!({"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}),
                false,
                vec![
                    "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and foregroundDeletion cannot be both set",
                ],
            ),
            (json!({"name": "a-", "generateName": "a-"}), false, vec!["name"]),
        ] {
            let got: Vec<String> = create(&json!({"metadata": metadata}), namespaced, NameRule::Subdomain)
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(got.len(), want.len(), "{metadata}: {got:?}");
            for (got, want) in got.iter().zip(want) {
                assert!(got.contains(want), "{got}");
            }
        }
    }

    #[test]
    fn identity_does_not_change() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "resourceVersion": "1"}});
        let new = json!({"metadata": {"name": "b", "uid": "1"}});
        let got: Vec<String> = update(&new, &old).iter().map(|e| e.field.clone()).collect();
        assert_eq!(got, ["metadata.resourceVersion", "metadata.name"]);
    }
}
