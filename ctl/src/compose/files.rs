//! Configs, secrets and `env_file`s: what files say, kept in ConfigMaps and Secrets.

use super::value::{boolean, data_key, dns_label, mode, text};
use super::{Cx, interpolate, keys};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// The most that a ConfigMap or a Secret holds, in bytes.
pub(super) const MAX: usize = 1 << 20;

/// Orders of kinds among the shared objects.
pub(super) const CONFIG_MAP: u8 = 0;
pub(super) const SECRET: u8 = 1;
pub(super) const CLAIM: u8 = 2;

/// A file that a container sees.
pub(super) struct Mount {
    /// `volumes` entry of the pod.
    pub(super) volume: Value,
    /// `volumeMounts` entry of the container.
    pub(super) mount: Value,
}

/// Puts a file into a ConfigMap's data: as text if it is one.
pub(super) fn put(data: &mut Value, key: &str, content: &[u8]) {
    match std::str::from_utf8(content) {
        Ok(text) if !text.contains('\0') => data["data"][key] = json!(text),
        _ => data["binaryData"][key] = json!(STANDARD.encode(content)),
    }
}

/// The ConfigMap of a service's `env_file`s, made if there are any; its name.
pub(super) fn env_files(cx: &mut Cx<'_>, service: &str, spec: &Value, path: &str) -> Option<String> {
    let listed: Vec<Value> = match &spec["env_file"] {
        Value::Null => return None,
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    let mut data: Map<String, Value> = Map::new();
    for (at, item) in listed.iter().enumerate() {
        let place = format!("{path}.env_file[{at}]");
        keys::known(&mut cx.report, item, &place, &["path", "required", "format"], &[]);
        let file = text(item).or_else(|| text(&item["path"])).unwrap_or_default();
        let required = boolean(&item["required"]).unwrap_or(true);
        let content = match cx.source.read(&file) {
            Ok(content) => String::from_utf8_lossy(&content).into_owned(),
            Err(_) if !required => continue,
            Err(why) => {
                cx.report.refuse(place, why);
                continue;
            }
        };
        let raw = item["format"] == "raw";
        let read = if raw {
            Ok(content
                .lines()
                .filter(|l| !l.trim().is_empty() && !l.starts_with('#'))
                .filter_map(|l| l.split_once('='))
                .map(|(k, v)| (k.to_owned(), Some(v.to_owned())))
                .collect())
        } else {
            interpolate::dotenv(&content, &|name| cx.source.variable(name))
        };
        match read {
            Ok(pairs) => {
                for (key, value) in pairs {
                    if let Some(value) = value {
                        data.insert(key, json!(value));
                    }
                }
            }
            Err(why) => cx.report.refuse(place, format!("{file}: {why}")),
        }
    }
    let name = format!("{service}-env");
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": cx.labels(Some(service))},
        "data": data,
    });
    cx.shared.insert((CONFIG_MAP, name.clone()), map);
    Some(name)
}

/// Files of `configs` or `secrets` that a service sees.
pub(super) fn mounts(cx: &mut Cx<'_>, spec: &Value, path: &str, secret: bool) -> Vec<Mount> {
    let kind = if secret { "secrets" } else { "configs" };
    let mut out = Vec::new();
    for (at, item) in spec[kind].as_array().into_iter().flatten().enumerate() {
        let place = format!("{path}.{kind}[{at}]");
        keys::known(
            &mut cx.report,
            item,
            &place,
            &["source", "target", "mode"],
            &[
                ("uid", "files belong to root; fsGroup may give them a group"),
                ("gid", "files belong to root; fsGroup may give them a group"),
            ],
        );
        let source = text(item).or_else(|| text(&item["source"])).unwrap_or_default();
        let target = text(&item["target"]).unwrap_or_else(|| source.clone());
        let target = match (target.starts_with('/'), secret) {
            (true, _) => target,
            (false, true) => format!("/run/secrets/{target}"),
            (false, false) => format!("/{target}"),
        };
        let Some((object, key)) = object(cx, &source, &place, secret) else {
            continue;
        };
        let volume = format!("{}-{object}", if secret { "secret" } else { "config" });
        let volume = dns_label(&volume);
        let mut inner = if secret {
            json!({"secretName": object})
        } else {
            json!({"name": object})
        };
        let wanted = &item["mode"];
        match mode(wanted) {
            Some(mode) => inner["defaultMode"] = json!(mode),
            None if wanted.is_null() => {}
            None => cx.report.refuse(format!("{place}.mode"), "is no mode of a file"),
        }
        let field = if secret { "secret" } else { "configMap" };
        // An external object has keys of its own, all of which are mounted.
        let mut mount = json!({"name": volume, "mountPath": target, "readOnly": true});
        if let Some(key) = key {
            mount["subPath"] = json!(key);
        }
        out.push(Mount {
            volume: json!({"name": volume, field: inner}),
            mount,
        });
    }
    out
}

/// The object of a config or secret, made when it is first asked for: its name, and the key in it.
fn object(cx: &mut Cx<'_>, source: &str, place: &str, secret: bool) -> Option<(String, Option<String>)> {
    let kind = if secret { "secrets" } else { "configs" };
    let entry = cx.model[kind][source].clone();
    if cx.model[kind].get(source).is_none() {
        cx.report.refuse(place, format!("{kind}.{source} is not defined"));
        return None;
    }
    let at = format!("{kind}.{source}");
    keys::known(
        &mut cx.report,
        &entry,
        &at,
        &["file", "content", "environment", "external", "name"],
        &[
            ("labels", "objects carry the project's labels"),
            ("driver", "the cluster keeps secrets"),
            ("template_driver", "content is taken as it is"),
        ],
    );
    let name = text(&entry["name"]).unwrap_or_else(|| source.to_owned());
    let name = name.replace('_', "-").to_lowercase();
    if external(&entry["external"]) {
        return Some((name, None));
    }
    let key = data_key(source);
    let content = if let Some(file) = text(&entry["file"]) {
        cx.source.read(&file)
    } else if let Some(content) = text(&entry["content"]) {
        Ok(content.into_bytes())
    } else if let Some(variable) = text(&entry["environment"]) {
        cx.source
            .variable(&variable)
            .map(String::into_bytes)
            .ok_or_else(|| format!("the variable {variable} is not set"))
    } else {
        Err("say file, content, environment or external".to_owned())
    };
    let content = match content {
        Ok(content) if content.len() > MAX => Err(format!("is larger than {MAX} bytes")),
        other => other,
    };
    let content = match content {
        Ok(content) => content,
        Err(why) => {
            cx.report.refuse(at, why);
            return None;
        }
    };
    let labels = cx.labels(None);
    let made = if secret {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": name, "labels": labels},
            "data": {key.clone(): STANDARD.encode(content)},
        })
    } else {
        let mut map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}});
        put(&mut map, &key, &content);
        map
    };
    cx.shared
        .insert((if secret { SECRET } else { CONFIG_MAP }, name.clone()), made);
    Some((name, Some(key)))
}

/// `external: true`, or the older map.
pub(super) fn external(value: &Value) -> bool {
    value.is_object() || boolean(value) == Some(true)
}
