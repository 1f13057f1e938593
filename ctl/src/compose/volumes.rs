//! Volumes: named ones, files and directories of this machine, memory.

use super::files::{self, CLAIM, CONFIG_MAP, Mount};
use super::value::{boolean, bytes, dns_label, mode, text};
use super::{Cx, PathKind, keys};
use serde_json::{Value, json};

/// A volume of a service, as its long form says it.
struct Wanted {
    kind: String,
    source: String,
    target: String,
    read_only: bool,
    sub_path: Option<String>,
    size: Option<i64>,
    mode: Option<i64>,
}

/// All mounts of a service.
pub(super) fn mounts(cx: &mut Cx<'_>, service: &str, spec: &Value, path: &str) -> Vec<Mount> {
    let mut out = Vec::new();
    for (at, item) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        let place = format!("{path}.volumes[{at}]");
        let wanted = if item.is_object() {
            long(cx, item, &place)
        } else {
            short(cx, &text(item).unwrap_or_default(), &place)
        };
        if let Some(wanted) = wanted {
            let number = out.len();
            out.extend(one(cx, service, &wanted, &place, number));
        }
    }
    for (at, item) in super::value::strings(&spec["tmpfs"]).iter().enumerate() {
        let (target, options) = item.split_once(':').unwrap_or((item, ""));
        let option = |key: &str| {
            options
                .split(',')
                .find_map(|o| o.strip_prefix(key)?.strip_prefix('='))
                .map(str::to_owned)
        };
        let size = option("size").and_then(|s| bytes(&json!(s)));
        out.push(memory(&format!("tmpfs-{at}"), target, size, false));
    }
    if !spec["shm_size"].is_null() {
        match bytes(&spec["shm_size"]) {
            Some(size) => out.push(memory("shm", "/dev/shm", Some(size), false)),
            None => cx
                .report
                .refuse(format!("{path}.shm_size"), "is no size: write 64M or 1g"),
        }
    }
    out
}

fn memory(name: &str, target: &str, size: Option<i64>, read_only: bool) -> Mount {
    let mut inner = json!({"medium": "Memory"});
    if let Some(size) = size {
        inner["sizeLimit"] = json!(rutter_api::Quantity::bytes(size).to_string());
    }
    Mount {
        volume: json!({"name": name, "emptyDir": inner}),
        mount: mount(name, target, read_only, None),
    }
}

fn mount(name: &str, target: &str, read_only: bool, sub_path: Option<&str>) -> Value {
    let mut out = json!({"name": name, "mountPath": target});
    if read_only {
        out["readOnly"] = json!(true);
    }
    if let Some(sub_path) = sub_path {
        out["subPath"] = json!(sub_path);
    }
    out
}

/// `[source:]target[:options]`
fn short(cx: &mut Cx<'_>, item: &str, place: &str) -> Option<Wanted> {
    let parts: Vec<&str> = item.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => {
            cx.report.refuse(place, format!("{item:?} is no volume"));
            return None;
        }
    };
    if !target.starts_with('/') {
        cx.report
            .refuse(place, format!("{target:?} is no absolute path in the container"));
        return None;
    }
    for option in options.split(',').filter(|o| !o.is_empty()) {
        if !matches!(
            option,
            "ro" | "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "nocopy"
        ) {
            cx.report.warn(place, format!("the option {option} is left out"));
        }
    }
    let is_path = source.starts_with(['.', '/', '~']);
    Some(Wanted {
        kind: if is_path { "bind" } else { "volume" }.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: options.split(',').any(|o| o == "ro"),
        sub_path: None,
        size: None,
        mode: None,
    })
}

fn long(cx: &mut Cx<'_>, item: &Value, place: &str) -> Option<Wanted> {
    keys::known(
        &mut cx.report,
        item,
        place,
        &["type", "source", "target", "read_only", "volume", "bind", "tmpfs"],
        &[("consistency", "it is for Docker Desktop")],
    );
    let mut inner = |key: &str, known: &[&str], left: keys::Left| {
        keys::known(&mut cx.report, &item[key], &format!("{place}.{key}"), known, left);
    };
    inner(
        "volume",
        &["subpath"],
        &[
            ("nocopy", "volumes start empty"),
            ("labels", "claims carry the project's labels"),
        ],
    );
    inner(
        "bind",
        &["create_host_path"],
        &[
            ("propagation", "mounts are private"),
            ("selinux", "the node decides"),
            ("recursive", "the node decides"),
        ],
    );
    inner("tmpfs", &["size", "mode"], &[]);
    let Some(target) = text(&item["target"]).filter(|t| t.starts_with('/')) else {
        cx.report
            .refuse(place, "target has to be an absolute path in the container");
        return None;
    };
    Some(Wanted {
        kind: item["type"].as_str().unwrap_or("volume").to_owned(),
        source: text(&item["source"]).unwrap_or_default(),
        target,
        read_only: boolean(&item["read_only"]).unwrap_or(false),
        sub_path: text(&item["volume"]["subpath"]),
        size: bytes(&item["tmpfs"]["size"]),
        mode: mode(&item["tmpfs"]["mode"]),
    })
}

fn one(cx: &mut Cx<'_>, service: &str, wanted: &Wanted, place: &str, number: usize) -> Option<Mount> {
    match wanted.kind.as_str() {
        "volume" if wanted.source.is_empty() => {
            let name = format!("anonymous-{number}");
            Some(Mount {
                volume: json!({"name": name, "emptyDir": {}}),
                mount: mount(&name, &wanted.target, wanted.read_only, None),
            })
        }
        "volume" => {
            let claim = claim(cx, &wanted.source, place)?;
            let name = dns_label(&format!("volume-{claim}"));
            Some(Mount {
                volume: json!({"name": name, "persistentVolumeClaim": {"claimName": claim}}),
                mount: mount(
                    &name,
                    &wanted.target,
                    wanted.read_only,
                    wanted.sub_path.as_deref(),
                ),
            })
        }
        "tmpfs" => {
            if wanted.mode.is_some() {
                cx.report.warn(
                    format!("{place}.tmpfs.mode"),
                    "left out: memory volumes are writable by all",
                );
            }
            Some(memory(
                &format!("tmpfs-at-{number}"),
                &wanted.target,
                wanted.size,
                wanted.read_only,
            ))
        }
        "bind" => bind(cx, service, wanted, place, number),
        other => {
            cx.report
                .refuse(place, format!("volumes of type {other} have no counterpart"));
            None
        }
    }
}

/// The claim of a named volume, made when it is first asked for.
fn claim(cx: &mut Cx<'_>, source: &str, place: &str) -> Option<String> {
    let Some(entry) = cx.model["volumes"].get(source).cloned() else {
        cx.report
            .refuse(place, format!("volumes.{source} is not defined"));
        return None;
    };
    let at = format!("volumes.{source}");
    keys::known(
        &mut cx.report,
        &entry,
        &at,
        &["external", "name", "driver_opts", "driver"],
        &[("labels", "claims carry the project's labels")],
    );
    let name = dns_label(&text(&entry["name"]).unwrap_or_else(|| source.to_owned()));
    if files::external(&entry["external"]) {
        return Some(name);
    }
    if let Some(driver) = entry["driver"].as_str().filter(|d| *d != "local") {
        cx.report.warn(
            format!("{at}.driver"),
            format!("{driver} is left out: the cluster's default StorageClass makes the volume"),
        );
    }
    let mut size = cx.settings.volume_size.clone();
    if let Some(n) = bytes(&entry["driver_opts"]["size"]) {
        size = rutter_api::Quantity::bytes(n).to_string();
    }
    for (key, _) in entry["driver_opts"].as_object().into_iter().flatten() {
        if key != "size" {
            cx.report.warn(
                format!("{at}.driver_opts.{key}"),
                "left out: the cluster's default StorageClass makes the volume",
            );
        }
    }
    let labels = cx.labels(None);
    cx.shared.entry((CLAIM, name.clone())).or_insert_with(|| {
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name.clone(), "labels": labels},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
        })
    });
    Some(name)
}

/// A file of this machine is copied into a ConfigMap, and so is a small directory that is only read; any other directory
/// has to be on the node.
fn bind(cx: &mut Cx<'_>, service: &str, wanted: &Wanted, place: &str, number: usize) -> Option<Mount> {
    let source = &wanted.source;
    if source.ends_with("docker.sock") {
        cx.report
            .refuse(place, "nodes have no Docker: nothing could answer");
        return None;
    }
    let name = format!("bind-{number}");
    let kind = cx.source.kind(source);
    let names: Option<Vec<String>> = match kind {
        PathKind::File => Some(vec![source.clone()]),
        PathKind::Directory if wanted.read_only => cx.source.list(source).map(|files| {
            let folder = source.trim_end_matches('/');
            files.into_iter().map(|f| format!("{folder}/{f}")).collect()
        }),
        _ => None,
    };
    if let Some(names) = names.filter(|n| !n.is_empty())
        && let Some(map) = copied(cx, service, &names, number)
    {
        let mut volume = json!({"name": name, "configMap": {"name": map}});
        let mut sub_path = None;
        if kind == PathKind::File {
            if !wanted.read_only {
                cx.report.warn(
                    place,
                    format!("{source} is copied: the container reads it and can't write it; `compose up` copies it again"),
                );
            }
            sub_path = names.first().map(|n| key_of(n));
        } else {
            volume["configMap"]["defaultMode"] = json!(0o644);
        }
        return Some(Mount {
            mount: mount(&name, &wanted.target, true, sub_path.as_deref()),
            volume,
        });
    }
    let path = cx.source.absolute(source);
    cx.report.warn(
        place,
        format!("{path} is taken from the node that runs the pod, not from this machine"),
    );
    let kind = if kind == PathKind::File {
        "FileOrCreate"
    } else {
        "DirectoryOrCreate"
    };
    Some(Mount {
        volume: json!({"name": name, "hostPath": {"path": path, "type": kind}}),
        mount: mount(&name, &wanted.target, wanted.read_only, None),
    })
}

fn key_of(path: &str) -> String {
    super::value::data_key(path.rsplit('/').next().unwrap_or(path))
}

/// A ConfigMap with these files; None if they can't be read or are too large.
fn copied(cx: &mut Cx<'_>, service: &str, names: &[String], number: usize) -> Option<String> {
    let map = format!("{service}-bind-{number}");
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": map, "labels": cx.labels(Some(service))},
    });
    let mut total = 0;
    for name in names {
        let content = cx.source.read(name).ok()?;
        total += content.len();
        if total > files::MAX {
            return None;
        }
        files::put(&mut object, &key_of(name), &content);
    }
    cx.shared.insert((CONFIG_MAP, map.clone()), object);
    Some(map)
}
