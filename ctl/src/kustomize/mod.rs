//! Kustomizations: manifests put together from a directory's `kustomization.yaml`.
//!
//! Covers what kustomizations commonly use: resources, components, generators with hashed names, prefixes and
//! suffixes, the namespace, labels and annotations, images, replicas and patches. Names that change are followed
//! into the fields that refer to them. A field that isn't known is an error, never ignored.

mod generate;
mod names;
mod transform;

use crate::error::{Error, Result};
use crate::resource::files;
use rutter_api::codec::yaml::parse_text;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// One object on its way.
#[derive(Clone, Debug)]
pub(super) struct Item {
    value: Value,
    /// The kind, namespace and name it had in its file: what patches and references mean.
    original: (String, String, String),
    /// The hash of its content is to be added to its name.
    hash: bool,
    /// How it joins one of the same name: `create`, `merge` or `replace`.
    behavior: String,
}

impl Item {
    fn new(value: Value) -> Self {
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        let original = (
            text(&value["kind"]),
            text(&value["metadata"]["namespace"]),
            text(&value["metadata"]["name"]),
        );
        Self {
            value,
            original,
            hash: false,
            behavior: "create".to_owned(),
        }
    }
}

const FILES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

const KNOWN: [&str; 26] = [
    "apiVersion",
    "kind",
    "metadata",
    "resources",
    "bases",
    "components",
    "namePrefix",
    "nameSuffix",
    "namespace",
    "commonLabels",
    "commonAnnotations",
    "labels",
    "images",
    "replicas",
    "configMapGenerator",
    "secretGenerator",
    "generatorOptions",
    "patches",
    "patchesStrategicMerge",
    "patchesJson6902",
    "sortOptions",
    "buildMetadata",
    "openapi",
    "configurations",
    "crds",
    "replacements",
];

/// Builds a directory.
pub async fn build(directory: &str) -> Result<Vec<Value>> {
    let path = PathBuf::from(directory);
    if !path.is_dir() {
        let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        return Err(Error::new(format!(
            "must build at directory: not a valid directory: evalsymlink failure on '{directory}' : lstat {}: no such file or directory",
            absolute.display()
        )));
    }
    let mut items = Box::pin(directory_items(&path, Vec::new(), 0)).await?;
    names::finish(&mut items);
    if read(&path)?["sortOptions"]["order"] != "fifo" {
        names::sort_legacy(&mut items);
    }
    Ok(items.into_iter().map(|i| i.value).collect())
}

fn read(directory: &Path) -> Result<Value> {
    for name in FILES {
        let file = directory.join(name);
        if file.is_file() {
            let text = std::fs::read_to_string(&file)?;
            let value = parse_text(&text).map_err(|e| Error::new(format!("invalid Kustomization: {e}")))?;
            if let Some(unknown) = value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(k, _)| k)
                .find(|k| !KNOWN.contains(&k.as_str()))
            {
                return Err(Error::new(format!(
                    "invalid Kustomization: json: unknown field {unknown:?}"
                )));
            }
            for unsupported in ["openapi", "configurations", "crds", "replacements"] {
                if !value[unsupported].is_null() {
                    return Err(Error::new(format!(
                        "{}: the field {unsupported:?} isn't supported: build with kustomize and pass the result to -f -",
                        file.display()
                    )));
                }
            }
            return Ok(value);
        }
    }
    Err(Error::new(format!(
        "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '{}'",
        directory
            .canonicalize()
            .unwrap_or_else(|_| directory.to_owned())
            .display()
    )))
}

fn list(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect()
}

/// The objects of a directory, added to those that are there (a component changes what was before it).
async fn directory_items(directory: &Path, mut items: Vec<Item>, depth: usize) -> Result<Vec<Item>> {
    if depth > 32 {
        return Err(Error::new(format!(
            "cycle detected: {} refers to itself",
            directory.display()
        )));
    }
    let k = read(directory)?;
    let mut sources = list(&k["resources"]);
    sources.extend(list(&k["bases"]));
    for source in sources {
        if source.starts_with("https://") || source.starts_with("http://") {
            let text = files::download(&source).await?;
            push_documents(&text, &source, &mut items)?;
            continue;
        }
        let path = directory.join(&source);
        if path.is_dir() {
            let inner = Box::pin(directory_items(&path, Vec::new(), depth + 1)).await?;
            items.extend(inner);
        } else {
            let text = std::fs::read_to_string(&path).map_err(|e| {
                Error::new(format!("accumulating resources: accumulation err='accumulating resources from '{source}': open {}: {}'", path.display(), crate::error::io_text(&e)))
            })?;
            push_documents(&text, &source, &mut items)?;
        }
    }
    generate::all(&k, directory, &mut items)?;
    for component in list(&k["components"]) {
        items = Box::pin(directory_items(&directory.join(component), items, depth + 1)).await?;
    }
    transform::all(&k, directory, &mut items)?;
    Ok(items)
}

fn push_documents(text: &str, source: &str, items: &mut Vec<Item>) -> Result<()> {
    let mut documents = Vec::new();
    files::documents(text, source, &mut documents)?;
    for d in documents {
        let new = Item::new(d.value);
        if items
            .iter()
            .any(|i| i.original == new.original && i.value["apiVersion"] == new.value["apiVersion"])
        {
            return Err(Error::new(format!(
                "may not add resource with an already registered id: {}.{}",
                new.original.0, new.original.2
            )));
        }
        items.push(new);
    }
    Ok(())
}

/// An empty object where there is none yet.
fn object_at<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if !value[key].is_object() {
        value[key] = json!({});
    }
    &mut value[key]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(files: &[(&str, &str)]) -> Result<Vec<Value>> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(build(dir.path().join("top").to_str().unwrap()))
    }

    const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      containers:\n      - name: c\n        image: nginx:1\n        envFrom: [{configMapRef: {name: conf}}]\n";

    #[test]
    fn names_labels_images_and_references_are_transformed() {
        let out = run(&[
            ("base/kustomization.yaml", "resources: [d.yaml]\nconfigMapGenerator:\n- name: conf\n  literals: [a=b]\n"),
            ("base/d.yaml", DEPLOYMENT),
            ("top/kustomization.yaml", "resources: [../base]\nnamePrefix: x-\nnamespace: ns\nlabels: [{pairs: {t: u}, includeSelectors: true}]\nimages: [{name: nginx, newTag: '2'}]\nreplicas: [{name: web, count: 5}]\npatches:\n- patch: |-\n    apiVersion: apps/v1\n    kind: Deployment\n    metadata: {name: web}\n    spec: {template: {spec: {containers: [{name: c, args: [z]}]}}}\n- target: {kind: Deployment}\n  patch: '[{op: add, path: /metadata/annotations, value: {k: v}}]'\n"),
        ])
        .unwrap();
        let d = &out[1];
        assert_eq!(d["metadata"]["name"], "x-web");
        assert_eq!(d["metadata"]["namespace"], "ns");
        assert_eq!(d["metadata"]["annotations"]["k"], "v");
        assert_eq!(d["spec"]["selector"]["matchLabels"]["t"], "u");
        assert_eq!(d["spec"]["replicas"], 5);
        let c = &d["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(c["image"], "nginx:2");
        assert_eq!(c["args"], json!(["z"]));
        let name = out[0]["metadata"]["name"].as_str().unwrap();
        assert!(
            name.starts_with("x-conf-") && name.len() == "x-conf-".len() + 10,
            "{name}"
        );
        assert_eq!(c["envFrom"][0]["configMapRef"]["name"], name);
    }

    #[test]
    fn unknown_fields_and_missing_files_are_told() {
        assert!(
            run(&[("top/kustomization.yaml", "resource: [x]\n")])
                .unwrap_err()
                .message()
                .contains("unknown field")
        );
        assert!(
            run(&[("top/x", "")])
                .unwrap_err()
                .message()
                .contains("unable to find one of")
        );
    }
}
