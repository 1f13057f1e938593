//! Environment variables and where they come from.

use crate::amount::quantity;
use crate::check::name_of;
use rutter_api::object::ObjectExt;
use rutter_api::validation::{At, config_map_key, dns_subdomain, qualified_name, relaxed_env_name};
use rutter_api::{ErrorList, FieldError};

const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const SIZES: &[&str] = &[
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

/// What the downward API tells in variables and files alike.
const CONVERTIBLE: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Variables.
pub(super) fn variables(at: &At<'_, '_>, errors: &mut ErrorList) {
    for variable in at.items() {
        let name = variable.child("name");
        if name.is_empty() {
            errors.push(name.required(""));
        } else {
            name.all(errors, relaxed_env_name(name.text()));
        }
        value_from(&variable, errors);
    }
}

fn value_from(variable: &At<'_, '_>, errors: &mut ErrorList) {
    let from = variable.child("valueFrom");
    if from.is_null() {
        return;
    }
    let mut sources = 0;
    let mut has = |field: &str| {
        let set = from.child(field).is_set();
        sources += usize::from(set);
        set
    };
    if has("fieldRef") {
        field_ref(&from.child("fieldRef"), FIELDS, errors);
    }
    if has("resourceFieldRef") {
        resource_field_ref(&from.child("resourceFieldRef"), false, errors);
    }
    for reference in ["configMapKeyRef", "secretKeyRef"] {
        if has(reference) {
            let reference = from.child(reference);
            let name = reference.child("name");
            errors.extend(
                dns_subdomain(name.text())
                    .into_iter()
                    .map(|e| name.invalid_as(name.text(), e)),
            );
            key(&reference.child("key"), config_map_key, errors);
        }
    }
    if has("fileKeyRef") {
        let file = from.child("fileKeyRef");
        key(&file.child("key"), relaxed_env_name, errors);
        if file.child("volumeName").is_empty() {
            errors.push(file.child("volumeName").required(""));
        }
        let path = file.child("path");
        if path.is_empty() {
            errors.push(path.required(""));
        } else {
            super::local_non_reserved_path(&path, path.text(), errors);
        }
    }
    if sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(from.invalid_as("", detail));
    } else if !variable.child("value").is_empty() {
        errors.push(from.invalid_as("", "may not be specified when `value` is not empty"));
    } else if sources > 1 {
        errors.push(from.invalid_as("", "may not have more than one field specified at a time"));
    }
}

fn key(at: &At<'_, '_>, rule: fn(&str) -> Vec<String>, errors: &mut ErrorList) {
    if at.is_empty() {
        errors.push(at.required(""));
    } else {
        at.all(errors, rule(at.text()));
    }
}

/// `fieldRef`
pub(super) fn field_ref(at: &At<'_, '_>, supported: &[&str], errors: &mut ErrorList) {
    if at.child("apiVersion").is_empty() {
        errors.push(at.child("apiVersion").required(""));
        return;
    }
    let field = at.child("fieldPath");
    if field.is_empty() {
        errors.push(field.required(""));
        return;
    }
    let text = field.text();
    if at.child("apiVersion").text() != "v1" {
        let detail = format!(
            "error converting fieldPath: unsupported pod version: {}",
            at.child("apiVersion").text()
        );
        errors.push(field.invalid(detail));
        return;
    }
    if let Some((path, subscript)) = text.strip_suffix("']").and_then(|t| t.split_once("['")) {
        match path {
            "metadata.annotations" => {
                let key = subscript.to_lowercase();
                errors.extend(
                    qualified_name(&key)
                        .into_iter()
                        .map(|e| at.invalid_as(key.clone(), e)),
                );
            }
            "metadata.labels" => {
                errors.extend(
                    qualified_name(subscript)
                        .into_iter()
                        .map(|e| at.invalid_as(subscript, e)),
                );
            }
            _ => {
                let detail =
                    format!("error converting fieldPath: field label does not support subscript: {text}");
                errors.push(field.invalid(detail));
            }
        }
    } else if text != "spec.host" && !CONVERTIBLE.contains(&text) {
        errors.push(field.invalid(format!(
            "error converting fieldPath: field label not supported: {text}"
        )));
    } else if text != "spec.host" && !supported.contains(&text) {
        errors.push(field.not_supported(supported));
    }
}

/// `resourceFieldRef`
pub(super) fn resource_field_ref(at: &At<'_, '_>, volume: bool, errors: &mut ErrorList) {
    let resource = at.child("resource");
    let name = resource.text();
    let huge = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if volume && at.child("containerName").is_empty() {
        errors.push(at.child("containerName").required(""));
    } else if name.is_empty() {
        errors.push(resource.required(""));
    } else if !RESOURCES.contains(&name) && !huge {
        errors.push(resource.not_supported(RESOURCES));
    }
    let divisor = at.child("divisor");
    let Some(amount) = quantity(divisor.value) else {
        return;
    };
    if amount == rutter_api::Quantity::ZERO {
        return;
    }
    let text = amount.to_string();
    let what = match name.rsplit('.').next().unwrap_or_default() {
        "cpu" => {
            if !matches!(text.as_str(), "1m" | "1") {
                let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.push(divisor.invalid_as(name, detail));
            }
            return;
        }
        "memory" => "memory",
        "ephemeral-storage" => "local ephemeral storage",
        _ if huge => "hugepages",
        _ => return,
    };
    if !SIZES.contains(&text.as_str()) {
        let detail = format!(
            "only divisor's values {} are supported with the {what} resource",
            SIZES.join(", ")
        );
        errors.push(divisor.invalid_as(name, detail));
    }
}

/// Whole ConfigMaps and Secrets.
pub(super) fn sources(at: &At<'_, '_>, errors: &mut ErrorList) {
    for source in at.items() {
        let prefix = source.child("prefix");
        if !prefix.is_empty() {
            prefix.all(errors, relaxed_env_name(prefix.text()));
        }
        let mut sources = 0;
        for field in ["configMapRef", "secretRef"] {
            let reference = source.child(field);
            if reference.is_null() {
                continue;
            }
            sources += 1;
            let name = reference.child("name");
            if name.is_empty() {
                errors.push(name.required(""));
            } else {
                name_of(&name, dns_subdomain, errors);
            }
        }
        match sources {
            0 => errors.push(at.invalid_as("", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errors.push(at.invalid_as("", "may not have more than one field specified at a time")),
        }
    }
}

/// Variables from files take them from `emptyDir` volumes.
pub(super) fn file_key_volumes(spec: &At<'_, '_>, errors: &mut ErrorList) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.child(list).items() {
            for variable in container.child("env").items() {
                let reference = variable.child("valueFrom.fileKeyRef");
                if reference.is_null() {
                    continue;
                }
                let name = reference.child("volumeName");
                let volumes = spec.value.list_at("volumes");
                match volumes.iter().find(|v| v.str_at("name") == name.text()) {
                    None => errors.push(FieldError::not_found(&name.path(), name.text())),
                    Some(volume) if volume.at("emptyDir").is_null() => {
                        errors.push(name.invalid("referenced volume must be of type emptyDir"));
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
