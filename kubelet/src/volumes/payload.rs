//! Which files a volume made of objects holds. Pure: the objects were fetched before.

use super::atomic::{FileEntry, Payload};
use crate::env::{Sources, pod_field, resource_field};
use crate::pods::PodExt;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection,
};

/// Why a volume's files can't be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PayloadError {
    /// The object isn't there and isn't optional.
    #[error("{kind} {name:?} not found")]
    Missing { kind: &'static str, name: String },
    /// A key isn't there and the source isn't optional.
    #[error("references non-existent {kind} key: {key}")]
    MissingKey { kind: &'static str, key: String },
    /// A field can't be read.
    #[error("{0}")]
    Field(String),
}

fn mode(own: Option<i32>, default: u32) -> u32 {
    own.and_then(|m| u32::try_from(m).ok()).unwrap_or(default)
}

fn pick(
    kind: &'static str,
    data: Vec<(String, Vec<u8>)>,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    optional: bool,
) -> Result<Payload, PayloadError> {
    let entry = |data: Vec<u8>, mode| FileEntry {
        data,
        mode,
        owner: None,
    };
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        return Ok(data
            .into_iter()
            .map(|(key, data)| (key, entry(data, default_mode)))
            .collect());
    };
    let mut out = Payload::new();
    for item in items {
        match data.iter().find(|(key, _)| *key == item.key) {
            Some((_, bytes)) => {
                out.insert(
                    item.path.clone(),
                    entry(bytes.clone(), mode(item.mode, default_mode)),
                );
            }
            None if optional => {}
            None => {
                return Err(PayloadError::MissingKey {
                    kind,
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(out)
}

/// The files of a ConfigMap.
pub(crate) fn config_map(
    name: &str,
    object: Option<&ConfigMap>,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    optional: bool,
) -> Result<Payload, PayloadError> {
    let Some(object) = object else {
        return if optional {
            Ok(Payload::new())
        } else {
            Err(PayloadError::Missing {
                kind: "configmap",
                name: name.to_owned(),
            })
        };
    };
    let text = object
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = object
        .binary_data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.0.clone()));
    pick(
        "config",
        text.chain(binary).collect(),
        items,
        default_mode,
        optional,
    )
}

/// The files of a Secret.
pub(crate) fn secret(
    name: &str,
    object: Option<&Secret>,
    items: Option<&[KeyToPath]>,
    default_mode: u32,
    optional: bool,
) -> Result<Payload, PayloadError> {
    let Some(object) = object else {
        return if optional {
            Ok(Payload::new())
        } else {
            Err(PayloadError::Missing {
                kind: "secret",
                name: name.to_owned(),
            })
        };
    };
    let data = object
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.0.clone()))
        .collect();
    pick("secret", data, items, default_mode, optional)
}

/// The files that tell a pod about itself.
pub(crate) fn downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: u32,
    sources: &Sources,
) -> Result<Payload, PayloadError> {
    let mut out = Payload::new();
    for item in items {
        let field = |error: crate::env::EnvError| PayloadError::Field(error.to_string());
        let text = if let Some(reference) = &item.field_ref {
            pod_field(pod, &reference.field_path, sources).map_err(field)?
        } else if let Some(reference) = &item.resource_field_ref {
            let name = reference.container_name.as_deref().unwrap_or_default();
            let container = pod
                .container(name)
                .ok_or_else(|| PayloadError::Field(format!("container {name} not found")))?;
            resource_field(&container, reference, &sources.allocatable).map_err(field)?
        } else {
            continue;
        };
        let entry = FileEntry {
            data: text.into_bytes(),
            mode: mode(item.mode, default_mode),
            owner: None,
        };
        out.insert(item.path.clone(), entry);
    }
    Ok(out)
}

/// The file of a service account token. Who may read it depends on who runs in the pod.
pub(crate) fn token(
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
    token: &str,
    default_mode: u32,
) -> Payload {
    let own = pod.spec().security_context.as_ref();
    let (mode, owner) = if own.and_then(|s| s.fs_group).is_some() {
        (0o600, None)
    } else {
        match common_user(pod) {
            Some(user) => (0o600, Some(user)),
            None => (default_mode, None),
        }
    };
    let entry = FileEntry {
        data: token.as_bytes().to_vec(),
        mode,
        owner,
    };
    [(source.path.clone(), entry)].into()
}

/// The user that all containers run as, if there is one.
fn common_user(pod: &Pod) -> Option<u32> {
    let own = pod.spec().security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = pod
        .spec()
        .containers
        .iter()
        .chain(pod.init_containers())
        .map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(own));
    let first = users.next()??;
    users
        .all(|u| u == Some(first))
        .then(|| u32::try_from(first).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_choose_keys_paths_and_modes() {
        let map: ConfigMap = serde_json::from_value(json!({"data": {"a": "1", "b": "2"}})).expect("a map");
        let items: Vec<KeyToPath> =
            serde_json::from_value(json!([{"key": "b", "path": "x/y", "mode": 256}])).expect("items");
        let files = config_map("m", Some(&map), Some(&items), 0o644, false).expect("files");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["x/y"]);
        assert_eq!(files.get("x/y").map(|f| f.mode), Some(0o400));
        let all = config_map("m", Some(&map), None, 0o644, false).expect("files");
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn what_is_missing_matters_unless_it_is_optional() {
        let items: Vec<KeyToPath> =
            serde_json::from_value(json!([{"key": "z", "path": "z"}])).expect("items");
        assert!(config_map("m", None, None, 0o644, false).is_err());
        assert_eq!(config_map("m", None, None, 0o644, true), Ok(Payload::new()));
        let empty = Secret::default();
        assert!(secret("s", Some(&empty), Some(&items), 0o644, false).is_err());
        assert_eq!(
            secret("s", Some(&empty), Some(&items), 0o644, true),
            Ok(Payload::new())
        );
    }
}
