//! Kubeconfig files: found, merged and overridden by kubectl's rules.
//!
//! `--kubeconfig` names the one file; otherwise `$KUBECONFIG` is a list whose files are merged, the first to name a
//! cluster, user, context or value winning; otherwise `~/.kube/config`. Entries keep the file they came from, so that
//! a change is written back to it and relative paths mean what they say.

use crate::error::{Error, Result};
use crate::print::yaml;
use rutter_api::codec::yaml::parse_text;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// The three lists of a kubeconfig: the list's key and the key of its entries' content.
pub const LISTS: [(&str, &str); 3] = [
    ("clusters", "cluster"),
    ("users", "user"),
    ("contexts", "context"),
];

/// One entry of a list.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub value: Value,
    /// The file it came from.
    pub origin: PathBuf,
}

/// The merged configuration.
#[derive(Clone, Debug, Default)]
pub struct Kubeconfig {
    /// Clusters.
    pub clusters: Vec<Entry>,
    /// Users.
    pub users: Vec<Entry>,
    /// Contexts.
    pub contexts: Vec<Entry>,
    /// The current context's name.
    pub current: String,
    /// Whether any file was there.
    pub found: bool,
    /// `preferences`.
    pub preferences: Value,
}

/// The files that are read, in order, and whether the user named one explicitly.
pub fn files(explicit: Option<&str>) -> (Vec<PathBuf>, bool) {
    if let Some(path) = explicit.filter(|p| !p.is_empty()) {
        return (vec![PathBuf::from(path)], true);
    }
    if let Some(list) = std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty()) {
        let mut out: Vec<PathBuf> = Vec::new();
        for path in std::env::split_paths(&list).filter(|p| !p.as_os_str().is_empty()) {
            if !out.contains(&path) {
                out.push(path);
            }
        }
        return (out, false);
    }
    (vec![home().join(".kube").join("config")], false)
}

/// The user's home directory.
pub fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

/// Reads one file; None if it isn't there.
pub fn read(path: &Path) -> Result<Option<Value>> {
    let text = match std::fs::read_to_string(path) {
        Ok(t) => t,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            return Err(Error::new(format!(
                "error loading config file {:?}: open {}: {}",
                path,
                path.display(),
                crate::error::io_text(&e)
            )));
        }
    };
    let value =
        parse_text(&text).map_err(|e| Error::new(format!("error loading config file {path:?}: {e}")))?;
    Ok(Some(if value.is_null() { empty() } else { value }))
}

/// A kubeconfig with nothing in it.
pub fn empty() -> Value {
    json!({"apiVersion": "v1", "kind": "Config", "clusters": [], "contexts": [], "users": [],
        "current-context": "", "preferences": {}})
}

/// Writes one file, readable by its owner only.
pub fn write(path: &Path, value: &Value) -> Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    let mut value = value.clone();
    for (list, _) in LISTS {
        if value[list].is_null() {
            value[list] = json!([]);
        }
        if let Some(items) = value[list].as_array_mut() {
            items.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        }
    }
    if value["current-context"].is_null() {
        value["current-context"] = json!("");
    }
    value["apiVersion"] = json!("v1");
    value["kind"] = json!("Config");
    let temporary = path.with_extension(format!("lock.{}", std::process::id()));
    let mode = std::fs::metadata(path).map_or(0o600, |m| m.permissions().mode() & 0o777);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)?;
    std::io::Write::write_all(&mut file, yaml::to_string(&value).as_bytes())?;
    // A kubeconfig may be a symbolic link: what it points to is replaced, the link stays.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    std::fs::rename(&temporary, target)?;
    Ok(())
}

/// Loads and merges the files.
pub fn load(explicit: Option<&str>) -> Result<Kubeconfig> {
    let (paths, must) = files(explicit);
    let mut out = Kubeconfig::default();
    for path in paths {
        let Some(value) = read(&path)? else {
            if must {
                return Err(Error::new(format!(
                    "stat {}: no such file or directory",
                    path.display()
                )));
            }
            continue;
        };
        out.found = true;
        for (list, key) in LISTS {
            let target = out.list_mut(list);
            for item in value[list].as_array().into_iter().flatten() {
                let name = item["name"].as_str().unwrap_or("").to_owned();
                if target.iter().all(|e| e.name != name) {
                    target.push(Entry {
                        name,
                        value: item[key].clone(),
                        origin: path.clone(),
                    });
                }
            }
        }
        if out.current.is_empty() {
            out.current = value["current-context"].as_str().unwrap_or("").to_owned();
        }
        if out.preferences.is_null() {
            out.preferences = value["preferences"].clone();
        }
    }
    Ok(out)
}

impl Kubeconfig {
    /// A list by its key.
    pub fn list(&self, key: &str) -> &[Entry] {
        match key {
            "clusters" => &self.clusters,
            "users" => &self.users,
            _ => &self.contexts,
        }
    }
    /// A list by its key.
    pub fn list_mut(&mut self, key: &str) -> &mut Vec<Entry> {
        match key {
            "clusters" => &mut self.clusters,
            "users" => &mut self.users,
            _ => &mut self.contexts,
        }
    }
    /// An entry by name.
    pub fn get(&self, list: &str, name: &str) -> Option<&Entry> {
        self.list(list).iter().find(|e| e.name == name)
    }
    /// The whole as one document, lists sorted by name.
    pub fn to_value(&self) -> Value {
        let mut out = empty();
        for (list, key) in LISTS {
            let mut entries: Vec<&Entry> = self.list(list).iter().collect();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            let items: Vec<Value> = entries
                .iter()
                .map(|e| json!({"name": e.name, key: if e.value.is_null() { json!({}) } else { e.value.clone() }}))
                .collect();
            out[list] = if items.is_empty() {
                Value::Null
            } else {
                Value::Array(items)
            };
        }
        out["current-context"] = json!(self.current);
        match &self.preferences {
            Value::Object(p) if !p.is_empty() => out["preferences"] = self.preferences.clone(),
            _ => {
                if let Some(map) = out.as_object_mut() {
                    map.remove("preferences");
                }
            }
        }
        out
    }
}

/// What flags override.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--context`
    pub context: String,
    /// `--cluster`
    pub cluster: String,
    /// `--user`
    pub user: String,
    /// `--namespace`
    pub namespace: String,
    /// Fields of the cluster.
    pub cluster_fields: Map<String, Value>,
    /// Fields of the user.
    pub user_fields: Map<String, Value>,
}

/// The connection that results.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    /// The cluster's entry.
    pub cluster: Value,
    /// The user's entry.
    pub user: Value,
    /// The user's name in the kubeconfig.
    pub user_name: String,
    /// The namespace; `default` if nothing names one.
    pub namespace: String,
    /// Use the pod's own service account.
    pub in_cluster: bool,
}

/// Applies the overrides to the merged configuration.
pub fn effective(config: &Kubeconfig, overrides: &Overrides) -> Result<Effective> {
    let name = if overrides.context.is_empty() {
        &config.current
    } else {
        &overrides.context
    };
    let context = match config.get("contexts", name) {
        Some(entry) => entry.value.clone(),
        None if !overrides.context.is_empty() => {
            return Err(Error::Raw(format!(
                "Error in configuration: context was not found for specified context: {name}"
            )));
        }
        None if !name.is_empty() && config.found => {
            return Err(Error::new(format!(
                "current-context: context \"{name}\" does not exist"
            )));
        }
        None => json!({}),
    };
    let pick = |list: &str, override_: &str, key: &str| -> Result<Value> {
        let name = if override_.is_empty() {
            context[key].as_str().unwrap_or("")
        } else {
            override_
        };
        if name.is_empty() {
            return Ok(json!({}));
        }
        match config.get(list, name) {
            Some(entry) => Ok(resolve_paths(entry)),
            None if list == "users" => Err(Error::new(format!("auth info \"{name}\" does not exist"))),
            None => Err(Error::new(format!("no server found for cluster \"{name}\""))),
        }
    };
    let mut cluster = pick("clusters", &overrides.cluster, "cluster")?;
    let mut user = pick("users", &overrides.user, "user")?;
    let touched = !overrides.cluster_fields.is_empty() || !overrides.user_fields.is_empty();
    apply_fields(
        &mut cluster,
        &overrides.cluster_fields,
        &[("certificate-authority", "certificate-authority-data")],
    );
    if overrides.cluster_fields.contains_key("insecure-skip-tls-verify")
        && !overrides.cluster_fields.contains_key("certificate-authority")
    {
        remove(
            &mut cluster,
            &["certificate-authority", "certificate-authority-data"],
        );
    }
    if overrides.user_fields.contains_key("token") {
        remove(&mut user, &["tokenFile", "exec", "auth-provider"]);
    }
    apply_fields(
        &mut user,
        &overrides.user_fields,
        &[
            ("client-certificate", "client-certificate-data"),
            ("client-key", "client-key-data"),
        ],
    );
    let namespace = [
        overrides.namespace.as_str(),
        context["namespace"].as_str().unwrap_or(""),
    ]
    .into_iter()
    .find(|n| !n.is_empty())
    .unwrap_or("default")
    .to_owned();
    let user_name = if overrides.user.is_empty() {
        context["user"].as_str().unwrap_or("")
    } else {
        &overrides.user
    };
    let mut out = Effective {
        cluster,
        user,
        user_name: user_name.to_owned(),
        namespace,
        in_cluster: false,
    };
    if out.cluster["server"].as_str().is_none_or(str::is_empty) {
        let inside = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
            && Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token").exists();
        if inside && !touched {
            out.in_cluster = true;
            if overrides.namespace.is_empty()
                && let Ok(ns) =
                    std::fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
            {
                out.namespace = ns.trim().to_owned();
            }
        } else {
            out.cluster["server"] = json!("http://localhost:8080");
        }
    }
    Ok(out)
}

fn remove(value: &mut Value, keys: &[&str]) {
    if let Some(map) = value.as_object_mut() {
        for key in keys {
            map.remove(*key);
        }
    }
}

fn apply_fields(target: &mut Value, fields: &Map<String, Value>, displaces: &[(&str, &str)]) {
    for (key, value) in fields {
        target[key] = value.clone();
        for (path, data) in displaces {
            if key == path {
                remove(target, &[data]);
            }
        }
    }
}

/// Paths in an entry are relative to its file.
fn resolve_paths(entry: &Entry) -> Value {
    let mut value = if entry.value.is_object() {
        entry.value.clone()
    } else {
        json!({})
    };
    let base = entry.origin.parent().unwrap_or(Path::new("."));
    for key in [
        "certificate-authority",
        "client-certificate",
        "client-key",
        "tokenFile",
    ] {
        if let Some(path) = value[key]
            .as_str()
            .filter(|p| !p.is_empty() && Path::new(p).is_relative())
        {
            value[key] = json!(base.join(path).to_string_lossy());
        }
    }
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, v| !v.is_null());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Kubeconfig {
        let entry = |name: &str, value: Value| Entry {
            name: name.to_owned(),
            value,
            origin: PathBuf::from("/etc/k/config"),
        };
        Kubeconfig {
            clusters: vec![entry(
                "c",
                json!({"server": "https://h:6443", "certificate-authority": "ca.crt"}),
            )],
            users: vec![entry(
                "u",
                json!({"client-certificate-data": "x", "tokenFile": "t"}),
            )],
            contexts: vec![entry(
                "x",
                json!({"cluster": "c", "user": "u", "namespace": "team"}),
            )],
            current: "x".to_owned(),
            found: true,
            preferences: Value::Null,
        }
    }

    #[test]
    fn the_current_context_gives_cluster_user_and_namespace() {
        let e = effective(&config(), &Overrides::default()).unwrap();
        assert_eq!(e.cluster["certificate-authority"], json!("/etc/k/ca.crt"));
        assert_eq!(e.namespace, "team");
    }

    #[test]
    fn a_token_displaces_other_credentials() {
        let mut o = Overrides::default();
        o.user_fields.insert("token".into(), json!("t"));
        let e = effective(&config(), &o).unwrap();
        assert_eq!(e.user["token"], json!("t"));
        assert_eq!(e.user["tokenFile"], Value::Null);
    }

    #[test]
    fn names_that_do_not_exist_are_told() {
        let o = Overrides {
            context: "nope".into(),
            ..Overrides::default()
        };
        assert_eq!(
            effective(&config(), &o).unwrap_err().report(),
            "Error in configuration: context was not found for specified context: nope"
        );
    }
}
