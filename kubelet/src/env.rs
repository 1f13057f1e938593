//! A container's environment: service variables, `envFrom`, values from fields, resources, ConfigMaps, Secrets and files, and
//! the expansion of `$(NAME)`. Pure over what was fetched before.

use crate::pods::PodExt;
use crate::resources;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, ResourceFieldSelector, Secret, Service};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a container's environment can't be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum EnvError {
    /// An object that isn't optional is missing.
    #[error("{kind} {name:?} not found")]
    Missing { kind: &'static str, name: String },
    /// A key that isn't optional is missing.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    MissingKey {
        kind: &'static str,
        namespace: String,
        name: String,
        key: String,
    },
    /// A field that can't be read.
    #[error("{0}")]
    Field(String),
}

/// What a container's environment draws from. An absent object means that the apiserver said there is none.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub(crate) secrets: BTreeMap<String, Arc<Secret>>,
    /// Service variables, by name.
    pub(crate) services: BTreeMap<String, String>,
    pub(crate) node_name: String,
    pub(crate) host_ips: Vec<String>,
    pub(crate) pod_ips: Vec<String>,
    /// Resources of the node, for limits that the container doesn't have.
    pub(crate) allocatable: resources::ResourceList,
    /// Contents of environment files, by volume and path.
    pub(crate) files: BTreeMap<(String, String), String>,
}

/// Replaces each `$(NAME)` that has a value; `$$` stands for `$`, and references without a value stay as they are.
pub(crate) fn expand(text: &str, value_of: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(next) = after.strip_prefix('$') {
            out.push('$');
            rest = next;
        } else if let Some((name, next)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value_of(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = next;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The variables that tell a pod about services: those of its own namespace when it asks for them, and always `kubernetes` of
/// the default namespace.
pub(crate) fn service_variables(
    services: &[Arc<Service>],
    namespace: &str,
    enable_links: bool,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let meta = &service.metadata;
        let (Some(name), Some(ns)) = (meta.name.as_deref(), meta.namespace.as_deref()) else {
            continue;
        };
        let ip = service
            .spec
            .as_ref()
            .and_then(|s| s.cluster_ip.as_deref())
            .unwrap_or_default();
        if ip.is_empty() || ip == "None" {
            continue;
        }
        if ns == namespace && enable_links {
            chosen.insert(name, service);
        } else if ns == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        }
    }
    let mut out = BTreeMap::new();
    for (name, service) in chosen {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref() else {
            continue;
        };
        let prefix = name.replace('-', "_").to_ascii_uppercase();
        let host = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.to_owned()
        };
        out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
        let ports = spec.ports.as_deref().unwrap_or_default();
        for (index, port) in ports.iter().enumerate() {
            let number = port.port;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            if index == 0 {
                out.insert(format!("{prefix}_SERVICE_PORT"), number.to_string());
                let url = format!("{}://{host}:{number}", protocol.to_ascii_lowercase());
                out.insert(format!("{prefix}_PORT"), url);
            }
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                let port_name = port_name.replace('-', "_").to_ascii_uppercase();
                out.insert(format!("{prefix}_SERVICE_PORT_{port_name}"), number.to_string());
            }
            let link = format!("{prefix}_PORT_{number}_{protocol}");
            out.insert(
                link.clone(),
                format!("{}://{host}:{number}", protocol.to_ascii_lowercase()),
            );
            out.insert(format!("{link}_PROTO"), protocol.to_ascii_lowercase());
            out.insert(format!("{link}_PORT"), number.to_string());
            out.insert(format!("{link}_ADDR"), ip.to_owned());
        }
    }
    out
}

/// The environment of a container, in the order in which it is set.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
) -> Result<Vec<(String, String)>, EnvError> {
    let mut out = Ordered::default();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            match sources.config_maps.get(&reference.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        out.set(format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => {
                    return Err(EnvError::Missing {
                        kind: "configmap",
                        name: reference.name.clone(),
                    });
                }
            }
        }
        if let Some(reference) = &source.secret_ref {
            match sources.secrets.get(&reference.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        out.set(
                            format!("{prefix}{key}"),
                            String::from_utf8_lossy(&value.0).into_owned(),
                        );
                    }
                }
                None if reference.optional == Some(true) => {}
                None => {
                    return Err(EnvError::Missing {
                        kind: "secret",
                        name: reference.name.clone(),
                    });
                }
            }
        }
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(value), _) if !value.is_empty() => expand(value, &|name| {
                out.get(name).or_else(|| sources.services.get(name)).cloned()
            }),
            (_, Some(from)) => match value_from(pod, container, from, sources)? {
                Some(value) => value,
                None => continue,
            },
            _ => String::new(),
        };
        out.set(var.name.clone(), value);
    }
    for (name, value) in &sources.services {
        if out.get(name).is_none() {
            out.set(name.clone(), value.clone());
        }
    }
    Ok(out.entries)
}

#[derive(Default)]
struct Ordered {
    entries: Vec<(String, String)>,
}

impl Ordered {
    fn get(&self, name: &str) -> Option<&String> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    fn set(&mut self, name: String, value: String) {
        match self.entries.iter_mut().find(|(n, _)| *n == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name, value)),
        }
    }
}

fn value_from(
    pod: &Pod,
    container: &Container,
    from: &k8s_openapi::api::core::v1::EnvVarSource,
    sources: &Sources,
) -> Result<Option<String>, EnvError> {
    if let Some(field) = &from.field_ref {
        return pod_field(pod, &field.field_path, sources).map(Some);
    }
    if let Some(resource) = &from.resource_field_ref {
        let container = match resource.container_name.as_deref().filter(|n| !n.is_empty()) {
            Some(name) => &pod
                .container(name)
                .ok_or_else(|| EnvError::Field(format!("container {name} not found")))?,
            None => container,
        };
        return resource_field(container, resource, &sources.allocatable).map(Some);
    }
    let missing_key = |kind, name: &str, key: &str| EnvError::MissingKey {
        kind,
        namespace: pod.namespace().to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
    };
    if let Some(reference) = &from.config_map_key_ref {
        let optional = reference.optional == Some(true);
        return match sources.config_maps.get(&reference.name) {
            None if optional => Ok(None),
            None => Err(EnvError::Missing {
                kind: "configmap",
                name: reference.name.clone(),
            }),
            Some(map) => match map.data.iter().flatten().find(|(k, _)| **k == reference.key) {
                Some((_, value)) => Ok(Some(value.clone())),
                None if optional => Ok(None),
                None => Err(missing_key("ConfigMap", &reference.name, &reference.key)),
            },
        };
    }
    if let Some(reference) = &from.secret_key_ref {
        let optional = reference.optional == Some(true);
        return match sources.secrets.get(&reference.name) {
            None if optional => Ok(None),
            None => Err(EnvError::Missing {
                kind: "secret",
                name: reference.name.clone(),
            }),
            Some(secret) => match secret.data.iter().flatten().find(|(k, _)| **k == reference.key) {
                Some((_, value)) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
                None if optional => Ok(None),
                None => Err(missing_key("Secret", &reference.name, &reference.key)),
            },
        };
    }
    if let Some(file) = &from.file_key_ref {
        let optional = file.optional == Some(true);
        let found = sources
            .files
            .get(&(file.volume_name.clone(), file.path.clone()))
            .and_then(|text| file_value(text, &file.key));
        return match found {
            Some(value) => Ok(Some(value)),
            None if optional => Ok(None),
            None => Err(EnvError::Field(format!(
                "environment variable key {:?} not found in file {:?} of volume {:?}",
                file.key, file.path, file.volume_name
            ))),
        };
    }
    Ok(None)
}

/// The value of a key in an environment file: `NAME='value'` lines, `#` comments.
fn file_value(text: &str, key: &str) -> Option<String> {
    text.lines().rev().find_map(|line| {
        let line = line.trim();
        let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        let value = value.trim();
        let quoted = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\''));
        let quoted = quoted.or_else(|| value.strip_prefix('"').and_then(|v| v.strip_suffix('"')));
        (name.trim() == key).then(|| quoted.unwrap_or(value).to_owned())
    })
}

/// A field of the pod as text: what `fieldRef` in environments and downward API volumes may name.
pub(crate) fn pod_field(pod: &Pod, path: &str, sources: &Sources) -> Result<String, EnvError> {
    let meta = &pod.metadata;
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(EnvError::Field(format!("unsupported fieldPath: {path}"))),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let listed = |map: &Option<BTreeMap<String, String>>| {
        let mut lines: Vec<String> = map
            .iter()
            .flatten()
            .map(|(k, v)| format!("{k}={}", go_quote(v)))
            .collect();
        lines.sort();
        lines.join("\n")
    };
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => listed(&meta.labels),
        "metadata.annotations" => listed(&meta.annotations),
        "spec.nodeName" => sources.node_name.clone(),
        "spec.serviceAccountName" => pod.spec().service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => sources.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => sources.host_ips.join(","),
        "status.podIP" => sources.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => sources.pod_ips.join(","),
        _ => return Err(EnvError::Field(format!("unsupported fieldPath: {path}"))),
    })
}

/// Text in double quotes with the escapes that Go's `%q` writes, the format of label lists in downward API files.
fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A container's request or limit as a whole number of the divisor, rounded up. A limit that isn't set is what the node can give.
pub(crate) fn resource_field(
    container: &Container,
    selector: &ResourceFieldSelector,
    allocatable: &resources::ResourceList,
) -> Result<String, EnvError> {
    let unsupported = || EnvError::Field(format!("unsupported container resource : {}", selector.resource));
    let (list, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|r| r.limits.as_ref());
    let requests = resources.and_then(|r| r.requests.as_ref());
    let amount = match list {
        "limits" => limits.and_then(|l| l.get(name)).or_else(|| allocatable.get(name)),
        "requests" => requests.and_then(|r| r.get(name)),
        _ => return Err(unsupported()),
    };
    let divisor = selector
        .divisor
        .as_ref()
        .filter(|d| d.0 != "0" && !d.0.is_empty());
    if name == "cpu" {
        let amount = amount.and_then(resources::milli).unwrap_or(0);
        let divisor = divisor.and_then(resources::milli).unwrap_or(1000).max(1);
        return Ok(ceil_div(amount, divisor).to_string());
    }
    let amount = amount.and_then(resources::value).unwrap_or(0);
    let divisor = divisor.and_then(resources::value).unwrap_or(1).max(1);
    Ok(ceil_div(amount, divisor).to_string())
}

fn ceil_div(amount: i64, divisor: i64) -> i64 {
    amount / divisor + i64::from(amount % divisor != 0)
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
