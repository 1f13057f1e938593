//! Config maps and secrets made from files and values.

use super::{Item, list};
use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::path::Path;

pub(super) fn all(k: &Value, directory: &Path, items: &mut Vec<Item>) -> Result<()> {
    for (field, kind) in [("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")] {
        for spec in k[field].as_array().into_iter().flatten() {
            let item = one(spec, kind, &k["generatorOptions"], directory)?;
            join(item, items)?;
        }
    }
    Ok(())
}

fn join(item: Item, items: &mut Vec<Item>) -> Result<()> {
    let at = items
        .iter()
        .position(|i| i.original.0 == item.original.0 && i.original.2 == item.original.2);
    match (item.behavior.as_str(), at.and_then(|at| items.get_mut(at))) {
        ("merge", Some(old)) => {
            for key in ["data", "binaryData"] {
                for (k, v) in item.value[key].as_object().into_iter().flatten() {
                    super::object_at(&mut old.value, key)[k] = v.clone();
                }
            }
            old.hash |= item.hash;
        }
        ("replace", Some(old)) => {
            for key in ["data", "binaryData"] {
                old.value[key] = item.value[key].clone();
            }
            old.hash |= item.hash;
        }
        ("merge" | "replace", None) => {
            return Err(Error::new(format!(
                "id {} does not exist; cannot merge or replace",
                item.original.2
            )));
        }
        (_, Some(_)) => {
            return Err(Error::new(format!(
                "id {} exists; behavior must be merge or replace",
                item.original.2
            )));
        }
        (_, None) => items.push(item),
    }
    Ok(())
}

fn one(spec: &Value, kind: &str, defaults: &Value, directory: &Path) -> Result<Item> {
    let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
    let read = |path: &str| {
        std::fs::read(directory.join(path))
            .map_err(|e| Error::new(format!("open {path}: {}", crate::error::io_text(&e))))
    };
    for literal in list(&spec["literals"]) {
        let (k, v) = literal
            .split_once('=')
            .ok_or_else(|| Error::new(format!("invalid literal source {literal}, expected key=value")))?;
        let v = v
            .strip_prefix('"')
            .and_then(|v| v.strip_suffix('"'))
            .or_else(|| v.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')))
            .unwrap_or(v);
        pairs.push((k.to_owned(), v.as_bytes().to_vec()));
    }
    for file in list(&spec["files"]) {
        let (key, path) = match file.split_once('=') {
            Some((k, p)) => (k.to_owned(), p.to_owned()),
            None => (
                Path::new(&file)
                    .file_name()
                    .map(|n| n.to_string_lossy().into_owned())
                    .unwrap_or_default(),
                file.clone(),
            ),
        };
        pairs.push((key, read(&path)?));
    }
    let mut envs = list(&spec["envs"]);
    envs.extend(spec["env"].as_str().map(str::to_owned));
    for file in envs {
        let text = String::from_utf8_lossy(&read(&file)?).into_owned();
        for line in text
            .lines()
            .map(str::trim_start)
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
        {
            let (k, v) = line.split_once('=').map_or_else(
                || (line.to_owned(), std::env::var(line).unwrap_or_default()),
                |(k, v)| (k.to_owned(), v.to_owned()),
            );
            pairs.push((k, v.into_bytes()));
        }
    }
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (key, bytes) in pairs {
        if kind == "Secret" {
            data.insert(key, json!(STANDARD.encode(bytes)));
        } else {
            match String::from_utf8(bytes) {
                Ok(text) => data.insert(key, json!(text)),
                Err(e) => binary.insert(key, json!(STANDARD.encode(e.as_bytes()))),
            };
        }
    }
    let mut value = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": spec["name"]}});
    if spec["namespace"].is_string() {
        value["metadata"]["namespace"] = spec["namespace"].clone();
    }
    if !data.is_empty() {
        value["data"] = Value::Object(data);
    }
    if !binary.is_empty() {
        value["binaryData"] = Value::Object(binary);
    }
    if kind == "Secret" {
        value["type"] = if spec["type"].is_string() {
            spec["type"].clone()
        } else {
            json!("Opaque")
        };
    }
    let mut options = defaults.clone();
    crate::patch::merge(
        &mut options,
        &spec["options"].as_object().map_or(json!({}), |m| json!(m)),
    );
    for key in ["labels", "annotations"] {
        if options[key].is_object() {
            value["metadata"][key] = options[key].clone();
        }
    }
    if options["immutable"] == true {
        value["immutable"] = json!(true);
    }
    let mut item = Item::new(value);
    item.hash = options["disableNameSuffixHash"] != true;
    item.behavior = spec["behavior"].as_str().unwrap_or("create").to_owned();
    Ok(item)
}
