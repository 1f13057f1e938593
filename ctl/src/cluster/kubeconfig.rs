//! The person's kubeconfig file: the cluster's context goes in on bring-up and out on tear-down, everything else stays.

use anyhow::Context as _;
use serde_yaml_ng::{Mapping, Value};
use std::path::PathBuf;

/// The file that is changed: the first of `$KUBECONFIG`, else `~/.kube/config`.
pub(super) fn path() -> PathBuf {
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    if let Some(first) = std::env::split_paths(&listed).find(|p| !p.as_os_str().is_empty()) {
        return first;
    }
    PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".kube/config")
}

/// Puts the entries of `config` (a kubeconfig text whose names are all `name`) in, and makes it the current context.
pub(super) fn add(name: &str, config: &str) -> anyhow::Result<()> {
    change(|file| merge(file, name, config))
}

/// Takes the entries called `name` out.
pub(super) fn remove(name: &str) -> anyhow::Result<()> {
    if !path().exists() {
        return Ok(());
    }
    change(|file| {
        take_out(file, name);
        Ok(())
    })
}

fn change(edit: impl FnOnce(&mut Mapping) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let path = path();
    let describe = || format!("changing the kubeconfig {}", path.display());
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(describe),
    };
    let mut file = parse(&text).with_context(describe)?;
    edit(&mut file).with_context(describe)?;
    super::pki::write(&path, serde_yaml_ng::to_string(&file)?.as_bytes(), 0o600)
}

fn parse(text: &str) -> anyhow::Result<Mapping> {
    match serde_yaml_ng::from_str(text).context("it is no YAML")? {
        Value::Null => Ok(Mapping::new()),
        Value::Mapping(map) => Ok(map),
        _ => anyhow::bail!("it is no kubeconfig"),
    }
}

const LISTS: [&str; 3] = ["clusters", "users", "contexts"];

fn take_out(file: &mut Mapping, name: &str) {
    for list in LISTS {
        if let Some(Value::Sequence(entries)) = file.get_mut(list) {
            entries.retain(|entry| entry.get("name").and_then(Value::as_str) != Some(name));
        }
    }
    if file.get("current-context").and_then(Value::as_str) == Some(name) {
        file.insert("current-context".into(), "".into());
    }
}

fn merge(file: &mut Mapping, name: &str, config: &str) -> anyhow::Result<()> {
    take_out(file, name);
    let new = parse(config)?;
    file.entry("apiVersion".into()).or_insert("v1".into());
    file.entry("kind".into()).or_insert("Config".into());
    file.entry("preferences".into())
        .or_insert(Value::Mapping(Mapping::new()));
    for list in LISTS {
        let entry = file.entry(list.into()).or_insert(Value::Sequence(Vec::new()));
        if entry.is_null() {
            *entry = Value::Sequence(Vec::new());
        }
        if let (Value::Sequence(entries), Some(Value::Sequence(more))) = (entry, new.get(list)) {
            entries.extend(more.iter().cloned());
        }
    }
    file.insert("current-context".into(), name.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: &str =
        "clusters:\n- name: work\n  cluster: {server: 'https://w'}\ncontexts: null\ncurrent-context: work\n";
    const OURS: &str = "clusters:\n- name: rutter\n  cluster: {server: 'https://r'}\nusers:\n- name: rutter\ncontexts:\n- name: rutter\n";

    #[test]
    fn a_context_goes_in_twice_and_out_once_and_others_stay() {
        let mut file = parse(OTHERS).unwrap();
        merge(&mut file, "rutter", OURS).unwrap();
        merge(&mut file, "rutter", OURS).unwrap();
        let clusters = file.get("clusters").and_then(Value::as_sequence).unwrap();
        assert_eq!(clusters.len(), 2);
        assert_eq!(
            file.get("current-context").and_then(Value::as_str),
            Some("rutter")
        );
        take_out(&mut file, "rutter");
        let clusters = file.get("clusters").and_then(Value::as_sequence).unwrap();
        assert_eq!(clusters[0].get("name").and_then(Value::as_str), Some("work"));
        assert_eq!(file.get("current-context").and_then(Value::as_str), Some(""));
        assert!(parse("- a").is_err());
    }
}
