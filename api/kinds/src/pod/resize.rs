//! Resizing a running pod: which changes of resources are possible.

use super::check::same;
use crate::amount;
use crate::check::with_diff;
use rutter_api::object::ObjectExt;
use rutter_api::validation::At;
use rutter_api::{ErrorList, FieldError, Value};

const MIRROR: &str = "kubernetes.io/config.mirror";

/// What is wrong with a resize.
pub(super) fn validate(root: &At<'_, '_>, old: &Value, errors: &mut ErrorList) {
    let spec = root.child("spec");
    if old.annotation(MIRROR).is_some() {
        *errors = vec![FieldError::forbidden(&"".into(), "static pods cannot be resized")];
        return;
    }
    if old.str_at("spec.os.name") == "windows" {
        *errors = vec![FieldError::forbidden(
            &"".into(),
            "windows pods cannot be resized",
        )];
        return;
    }
    if amount::qos_class(root.value.at("spec")) != old.str_at("status.qosClass") {
        let class = amount::qos_class(root.value.at("spec"));
        errors.push(spec.invalid_as(class, "Pod QOS Class may not change as a result of resizing"));
    }
    for list in ["containers", "initContainers"] {
        let containers = spec.child(list);
        let before = old.at("spec").list_at(list);
        if containers.len() != before.len() {
            errors.push(
                spec.child(list)
                    .forbidden("containers may not be added or removed on resize"),
            );
            return;
        }
        for (container, before) in containers.items().zip(before) {
            if container.child("name").text() != before.str_at("name") {
                errors.push(
                    spec.child(list)
                        .forbidden("containers may not be renamed or reordered on resize"),
                );
                return;
            }
            container_resize(&container.child("resources"), before, errors);
        }
    }
    let mut allowed = old.at("spec").clone();
    for list in ["containers", "initContainers"] {
        let containers = allowed.list_at_mut(list).into_iter().flatten();
        for (container, new) in containers.zip(spec.value.list_at(list)) {
            let restartable = list == "containers" || container.str_at("restartPolicy") == "Always";
            if restartable {
                take_cpu_and_memory(container, new);
            }
        }
    }
    if !spec.child("resources").is_null() && !old.at("spec.resources").is_null() {
        take_cpu_and_memory(&mut allowed, spec.value);
    }
    if !same(&allowed, spec.value) {
        let detail = "only cpu and memory resources are mutable";
        errors.push(spec.forbidden(with_diff(detail, &allowed, spec.value)));
    }
}

fn take_cpu_and_memory(container: &mut Value, new: &Value) {
    for list in ["requests", "limits"] {
        for resource in ["cpu", "memory"] {
            let path = format!("resources.{list}.{resource}");
            match new.at(&path) {
                Value::Null => {
                    container.take_at(&path);
                }
                value => container.set(&path, value.clone()),
            }
        }
    }
    super::check::copy(container, new, "resizePolicy");
}

fn container_resize(at: &At<'_, '_>, before: &Value, errors: &mut ErrorList) {
    for list in ["requests", "limits"] {
        let removed = before
            .at("resources")
            .map_at(list)
            .into_iter()
            .flatten()
            .any(|(name, _)| at.child(list).value.get(name).is_none());
        if removed {
            errors.push(
                at.child(list)
                    .forbidden(format!("resource {list} cannot be removed")),
            );
        }
    }
}
