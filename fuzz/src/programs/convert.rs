//! What `rctl` and the apiserver make of files and objects of other forms.

use crate::make::Maker;
use rutter_api::codec::yaml;
use rutter_api::object::ObjectExt;
use rutter_api::removed::REMOVED;
use rutter_api::schema::{FieldValidation, builtin, decode};
use rutter_api::{GroupVersion, Resource, Scheme, Value};
use rutter_apiserver::crd::beta;
use rutter_ctl::compose::{self, PathKind, Publish, Report, Settings, Source};
use rutter_ctl::convert::convert;
use rutter_ctl::print::columns::Spec as Columns;
use rutter_ctl::print::gotemplate::Template;
use rutter_ctl::print::{json, jsonpath, kyaml};
use rutter_ctl::{kubeconfig, print};
use serde_json::{Map, json};
use std::sync::{Arc, LazyLock};

static SCHEME: LazyLock<Scheme> = LazyLock::new(rutter_kinds::builtin);

/// The resources that are stored in another version than they are served in.
static CHANGED: LazyLock<Vec<Arc<Resource>>> = LazyLock::new(|| {
    let mut all: Vec<_> = SCHEME
        .iter()
        .filter(|r| !r.strategy.served_is_stored())
        .cloned()
        .collect();
    all.sort_by_key(|resource| resource.gvk().to_string());
    all
});

const FIELDS: &[&str] = &[
    "spec",
    "metadata",
    "name",
    "a",
    "backend",
    "serviceName",
    "servicePort",
    "rules",
    "http",
    "paths",
    "path",
    "host",
    "template",
    "selector",
    "matchLabels",
    "labels",
    "containers",
    "validation",
    "openAPIV3Schema",
    "versions",
    "subresources",
    "webhooks",
    "metrics",
    "resource",
    "targetAverageValue",
    "rollbackTo",
    "version",
];

/// Objects of older versions: what was converted is of a version that is served, and stays as it is.
pub fn versions(data: &[u8]) {
    let mut maker = Maker::speaking(data, FIELDS);
    match maker.below(4) {
        0 => {
            let mut definition = maker.object_of(definition_kind());
            definition["apiVersion"] = json!("apiextensions.k8s.io/v1beta1");
            if let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) {
                for name in [
                    "validation",
                    "subresources",
                    "version",
                    "additionalPrinterColumns",
                ] {
                    if maker.flip() {
                        spec.insert(name.to_owned(), maker.tree());
                    }
                }
            }
            let modern = beta::from_v1beta1(definition.clone());
            assert_eq!(modern["metadata"], definition["metadata"]);
            assert_eq!(modern["apiVersion"], "apiextensions.k8s.io/v1");
            let names = |object: &Value| {
                let versions = object.list_at("spec.versions").iter();
                versions
                    .map(|version| version["name"].clone())
                    .collect::<Vec<_>>()
            };
            let before = names(&definition);
            assert!(
                before.is_empty() || before == names(&modern),
                "versions are kept: {modern}"
            );
        }
        1 => {
            let resource = &CHANGED[maker.below(CHANGED.len())];
            let object = maker.object_of(&(resource.gvk(), resource.schema.to_string()));
            let stored = resource.strategy.to_stored(object);
            let served = resource.strategy.to_served(stored.clone());
            // What one version can't say is lost the first time, and nothing after that.
            let again = resource.strategy.to_stored(served.clone());
            assert_eq!(resource.strategy.to_served(again.clone()), served);
            assert_eq!(
                resource
                    .strategy
                    .to_stored(resource.strategy.to_served(again.clone())),
                again
            );
        }
        _ => old_manifest(&mut maker),
    }
}

fn definition_kind() -> &'static crate::make::Kind {
    static KIND: LazyLock<crate::make::Kind> = LazyLock::new(|| {
        let all = crate::make::OBJECT_KINDS.iter();
        let mut found = all.filter(|(gvk, _)| gvk.kind == "CustomResourceDefinition");
        found.next().expect("definitions are built in").clone()
    });
    &KIND
}

fn old_manifest(maker: &mut Maker<'_>) {
    let removed = &REMOVED[maker.below(REMOVED.len())];
    let kind = match removed.kind {
        "" => maker.pick(&["Deployment", "Role", "Ingress"]),
        kind => kind,
    };
    let old = GroupVersion::new(removed.group, removed.version).to_string();
    let group = GroupVersion::parse(removed.replacement).unwrap_or(GroupVersion::new("", ""));
    let modern = crate::make::OBJECT_KINDS
        .iter()
        .find(|(gvk, _)| gvk.kind == kind && gvk.group == group.group && gvk.version == group.version);
    let mut object = match modern {
        Some(modern) if maker.flip() => maker.object_of(modern),
        _ => {
            let mut object = Map::new();
            object.insert("metadata".to_owned(), json!({"name": "n"}));
            for field in ["spec", "webhooks", "rules", "subjects", "roleRef"] {
                if maker.flip() {
                    object.insert(field.to_owned(), maker.tree());
                }
            }
            Value::Object(object)
        }
    };
    object["apiVersion"] = json!(old);
    object["kind"] = json!(kind);
    let Ok(converted) = convert(object.clone(), None) else {
        return;
    };
    let version = converted.object.str_at("apiVersion");
    assert_ne!(version, old, "it is still of the old version");
    let again =
        convert(converted.object.clone(), None).expect("what was converted is of a version that is served");
    assert_eq!(again.object, converted.object);
    assert!(again.notes.is_empty());
    assert_eq!(converted.object["metadata"]["name"], object["metadata"]["name"]);
}

const COMPOSE: &[&str] = &[
    "image",
    "command",
    "environment",
    "ports",
    "volumes",
    "depends_on",
    "deploy",
    "restart",
    "healthcheck",
    "labels",
    "user",
    "replicas",
    "resources",
    "limits",
    "cpus",
    "memory",
    "80:80",
    "8080:80/udp",
    "./a:/b:ro",
    "data:/data",
    "1g",
    "512m",
    "0.5",
    "${A:-b}",
    "$A",
    "web",
    "db",
    "always",
    "on-failure:3",
    "CMD",
    "test",
    "interval",
    "10s",
    "target",
    "published",
    "type",
    "bind",
    "source",
    "config",
    "secrets",
    "file",
    "tmpfs",
    "expose",
    "1000:1000",
    "service_healthy",
    "condition",
    "driver",
    "external",
    "name",
    "profiles",
    "127.0.0.1:5000-5001:5000-5001",
    "A=1",
];

struct Files;

impl Source for Files {
    fn kind(&self, path: &str) -> PathKind {
        match path.len() % 3 {
            0 => PathKind::File,
            1 => PathKind::Directory,
            _ => PathKind::Missing,
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        Ok(path.as_bytes().to_vec())
    }

    fn list(&self, path: &str) -> Option<Vec<String>> {
        Some(vec![path.to_owned()])
    }

    fn absolute(&self, path: &str) -> String {
        format!("/{}", path.trim_start_matches(['.', '/']))
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name.len() % 2 == 1).then(|| name.to_owned())
    }
}

/// Compose files: what is converted without a refusal are objects of the schema, the same each time.
pub fn compose(data: &[u8]) {
    let mut maker = Maker::speaking(data, COMPOSE);
    let mut services = Map::new();
    for name in ["web", "db", "a_B"].into_iter().take(1 + maker.count(2)) {
        services.insert(name.to_owned(), service(&mut maker));
    }
    let mut model = json!({"services": services});
    for field in ["volumes", "configs", "secrets", "networks"] {
        if maker.once_in(4) {
            let inner = maker.pick(&[
                json!(null),
                json!({}),
                json!({"file": "./abc"}),
                json!({"external": true}),
            ]);
            model[field] = match maker.below(4) {
                0 => maker.tree(),
                _ => json!({"data": inner, "config": inner}),
            };
        }
    }
    let mut report = Report::default();
    compose::interpolate(&mut model, "", &|name| Files.variable(name), &mut report);
    let settings = Settings {
        project: "p".to_owned(),
        profiles: vec![maker.pick(&["*", "x"]).to_owned()],
        publish: maker.pick(&[Publish::NodePort, Publish::LoadBalancer, Publish::HostPort]),
        volume_size: "1Gi".to_owned(),
    };
    let output = compose::convert(&model, &settings, &Files);
    let again = compose::convert(&model, &settings, &Files);
    assert_eq!(again.objects, output.objects);
    if !output.report.refusals.is_empty() {
        return;
    }
    for object in &output.objects {
        let version = GroupVersion::parse(object.str_at("apiVersion")).expect("a version");
        let name = builtin().name_of_kind(&version.group, &version.version, object.str_at("kind"));
        let name = name.expect("a built-in kind");
        let decoded = decode(builtin(), name, object.clone(), FieldValidation::Strict);
        assert!(decoded.is_ok(), "{decoded:?}: {object} of {model}");
        let wrong = rutter_api::validation::dns_subdomain(object.name());
        assert!(wrong.is_empty(), "{wrong:?}: {object} of {model}");
    }
    let _ = compose::waves(&output.needs);
}

fn service(maker: &mut Maker<'_>) -> Value {
    let mut service = Map::new();
    service.insert("image".to_owned(), json!("i:1"));
    for _ in 0..maker.count(6) {
        let (key, value) = match maker.below(12) {
            0 => (
                "ports",
                json!([maker.pick(&[
                    "80:80",
                    "8080:80/udp",
                    "80",
                    "5000-5001:5000-5001",
                    "127.0.0.1::80"
                ])]),
            ),
            1 => (
                "volumes",
                json!([maker.pick(&["./a:/b:ro", "data:/data", "/x", "./abc:/f"])]),
            ),
            2 => (
                "environment",
                maker.pick(&[json!({"A": 1}), json!(["A=1", "B"]), json!({"A": null})]),
            ),
            3 => (
                "depends_on",
                maker.pick(&[json!(["db"]), json!({"db": {"condition": "service_healthy"}})]),
            ),
            4 => (
                "healthcheck",
                json!({"test": maker.pick(&[json!("x"), json!(["CMD", "a"]), json!(["NONE"])]), "interval": maker.word()}),
            ),
            5 => (
                "deploy",
                json!({"replicas": maker.pick(&[json!(2), json!("2")]), "resources": {"limits": {"cpus": maker.word(), "memory": maker.word()}}}),
            ),
            6 => ("command", maker.pick(&[json!("a 'b c'"), json!(["a", "$$b"])])),
            7 => ("user", json!(maker.pick(&["1000:1000", "1", "root", "a"]))),
            8 => (
                "restart",
                json!(maker.pick(&["always", "no", "on-failure:3", "unless-stopped"])),
            ),
            9 => ("labels", maker.pick(&[json!({"a": 1}), json!(["a=b"])])),
            10 => ("tmpfs", maker.pick(&[json!("/t"), json!(["/t:size=1m"])])),
            _ => (maker.pick(COMPOSE), maker.tree()),
        };
        service.insert(key.to_owned(), value);
    }
    Value::Object(service)
}

/// What is printed as YAML, KYAML and JSON reads back; templates and paths print the same each time; kubeconfigs come back.
pub fn printers(data: &[u8]) {
    let mut maker = Maker::speaking(data, TEMPLATES);
    let tree = maker.tree();
    if whole(&tree) {
        let text = print::yaml::to_string(&tree);
        assert_eq!(
            yaml::parse(text.as_bytes()).map(|read| read.0),
            Ok(tree.clone()),
            "{text}"
        );
        let text = kyaml::to_string(&tree);
        assert_eq!(
            yaml::parse(text.as_bytes()).map(|read| read.0),
            Ok(tree.clone()),
            "{text}"
        );
    }
    for text in [
        json::pretty(&tree),
        json::compact(&tree),
        json::indented(&tree, " "),
    ] {
        let read = rutter_api::codec::json::parse(text.as_bytes()).map(|read| read.0);
        assert!(read.is_ok_and(|read| read == tree || !whole(&tree)), "{text}");
    }
    let data = json!({"items": [{"a": tree, "b": 1}, {"a": "x"}], "kind": "List", "metadata": {"name": "n"}});
    let text = match maker.flip() {
        true => String::from_utf8_lossy(&maker.bytes()).into_owned(),
        false => (0..maker.count(4)).map(|_| maker.word()).collect(),
    };
    for lenient in [false, true] {
        if let Ok(template) = jsonpath::parse(&text) {
            assert_eq!(template.execute(&data, lenient), template.execute(&data, lenient));
        }
        if let Ok(template) = Template::parse(&text) {
            assert_eq!(template.execute(&data, lenient), template.execute(&data, lenient));
        }
    }
    if let Ok(columns) = Columns::parse(&text) {
        let _ = columns.render(&data, maker.flip());
    }
    if maker.once_in(8) {
        kubeconfig_round(&mut maker);
    }
}

const TEMPLATES: &[&str] = &[
    "{.items[*].a}",
    "{range .items[*]}",
    "{end}",
    "{.kind}",
    "{..a}",
    "{.items[0:1]}",
    "{.items[?(@.b==1)]}",
    "{\"x\"}",
    "{{.kind}}",
    "{{range .items}}",
    "{{end}}",
    "{{if .a}}",
    "{{else}}",
    "{{len .items}}",
    "{{index .items 0}}",
    "{{printf \"%v\" .}}",
    "{{$x := .kind}}",
    "{{with .a}}",
    "{{.a | html}}",
    "{{eq 1 1}}",
    "{{- 1 -}}",
    "A:.kind,B:.a",
    "yes",
    "0x1f",
    "1_000",
    "a: b",
    "- a",
    "#",
    "|",
    "null",
    "2026-01-02",
    "1:30",
    " a",
    "a ",
    "\n",
    "a\nb\n",
    "\t",
    "'",
    "~",
];

/// Whether numbers are told alike by all forms: Go's library reads a float without a fraction as an integer.
fn whole(tree: &Value) -> bool {
    match tree {
        Value::Number(n) => !n.is_f64(),
        Value::Array(items) => items.iter().all(whole),
        Value::Object(map) => map.values().all(whole),
        _ => true,
    }
}

fn kubeconfig_round(maker: &mut Maker<'_>) {
    let entry = |maker: &mut Maker<'_>, key: &str| json!({"name": maker.word(), key: maker.tree()});
    let config = json!({
        "clusters": [entry(maker, "cluster"), entry(maker, "cluster")],
        "users": [entry(maker, "user")],
        "contexts": [entry(maker, "context")],
        "current-context": maker.word(),
    });
    if !whole(&config) {
        return;
    }
    let path = std::env::temp_dir().join(format!("rutter-fuzz-{}.yaml", std::process::id()));
    let text = path.to_str().expect("a path of text");
    kubeconfig::write(&path, &config).expect("a file is written");
    let first = kubeconfig::load(Some(text)).expect("what was written is read");
    assert_eq!(
        first.current,
        config["current-context"].as_str().unwrap_or_default()
    );
    kubeconfig::write(&path, &first.to_value()).expect("a file is written");
    let second = kubeconfig::load(Some(text)).expect("what was written is read");
    assert_eq!(second.to_value(), first.to_value());
    let _ = std::fs::remove_file(&path);
}
