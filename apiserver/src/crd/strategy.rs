//! From one version of a CustomResourceDefinition to the same descriptor that built-in kinds have.

use super::path::JsonPath;
use crate::server::{ScalePaths, Served};
use parking_lot::Mutex;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::{
    Context, ErrorList, GroupVersion, GroupVersionKind, Resource, Strategy, Subresource, Value, crd, duration,
};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

/// Texts and columns of definitions live for ever, once each: descriptors speak in static ones.
static TEXTS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
static COLUMNS: LazyLock<Mutex<Vec<&'static [Column]>>> = LazyLock::new(Mutex::default);
static FIELDS: LazyLock<Mutex<Vec<&'static [&'static str]>>> = LazyLock::new(Mutex::default);

fn keep(text: &str) -> &'static str {
    let mut texts = TEXTS.lock();
    if let Some(kept) = texts.get(text) {
        return kept;
    }
    let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
    texts.insert(kept);
    kept
}

fn keep_all<T: PartialEq + 'static>(kept: &Mutex<Vec<&'static [T]>>, list: Vec<T>) -> &'static [T] {
    let mut kept = kept.lock();
    if let Some(found) = kept.iter().find(|have| ***have == *list) {
        return found;
    }
    let list: &'static [T] = Box::leak(list.into_boxed_slice());
    kept.push(list);
    list
}

/// What is special about a custom resource: what its definition says.
struct Custom {
    schema: Arc<Value>,
    has_status: bool,
    /// All objects are in the version that is served here, and none of them needs converting.
    verbatim: bool,
    columns: &'static [Column],
    cells: Vec<Option<JsonPath>>,
    fields: &'static [&'static str],
    field_paths: Vec<Option<JsonPath>>,
}

impl Strategy for Custom {
    fn default_object(&self, object: &mut Value) {
        let metadata = object.take_at("metadata");
        crd::apply_defaults(&self.schema, object);
        if let Some(metadata) = metadata {
            object.set("metadata", metadata);
        }
    }

    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        if self.has_status {
            object.take_at("status");
        }
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        if self.has_status {
            prepare_plain_update(object, old, cx);
        }
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        crd::validate(&self.schema, object, None)
    }

    fn validate_update(&self, object: &Value, old: &Value, _cx: &Context<'_>) -> ErrorList {
        crd::validate(&self.schema, object, Some(old))
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        let values = self.field_paths.iter().map(|path| {
            let found = path.as_ref().map(|path| path.find(object)).unwrap_or_default();
            found.first().map(|value| text(value)).unwrap_or_default()
        });
        values.collect()
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        self.fields
    }

    fn columns(&self) -> &'static [Column] {
        self.columns
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let mut row = vec![Value::from(object.name())];
        for (column, path) in self.columns.iter().skip(1).zip(&self.cells) {
            let found = path.as_ref().map(|path| path.find(object)).unwrap_or_default();
            row.push(cell(column.kind, &found, cx));
        }
        row
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn served_is_stored(&self) -> bool {
        self.verbatim
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn cell(kind: &str, found: &[&Value], cx: &Context<'_>) -> Value {
    let Some(first) = found.first() else {
        return Value::Null;
    };
    match kind {
        "date" => Value::from(
            first
                .as_str()
                .map_or_else(|| "<invalid>".to_owned(), |time| duration::age(time, cx.now)),
        ),
        "integer" => first.as_i64().map_or_else(
            || {
                first
                    .as_f64()
                    .map_or(Value::Null, |number| Value::from(number as i64))
            },
            Value::from,
        ),
        "number" => first.as_f64().map_or(Value::Null, Value::from),
        "boolean" => first.as_bool().map_or(Value::Null, Value::from),
        _ => {
            let all: Vec<String> = found.iter().map(|value| text(value)).collect();
            Value::from(all.join(","))
        }
    }
}

/// The printed columns of a version, and where their cells come from.
fn columns(version: &Value) -> (&'static [Column], Vec<Option<JsonPath>>) {
    let mut list = vec![Column {
        name: "Name",
        kind: "string",
        format: "name",
        description: "The object's name.",
        priority: 0,
    }];
    let mut cells = Vec::new();
    for column in version.list_at("additionalPrinterColumns") {
        list.push(Column {
            name: keep(column.str_at("name")),
            kind: keep(column.str_at("type")),
            format: keep(column.str_at("format")),
            description: keep(column.str_at("description")),
            priority: column
                .int_at("priority")
                .and_then(|p| i32::try_from(p).ok())
                .unwrap_or_default(),
        });
        cells.push(JsonPath::parse(column.str_at("jsonPath")));
    }
    if cells.is_empty() {
        list.push(Column {
            name: "Age",
            kind: "date",
            format: "",
            description: "How long ago the object was created.",
            priority: 0,
        });
        cells.push(JsonPath::parse(".metadata.creationTimestamp"));
    }
    (keep_all(&COLUMNS, list), cells)
}

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const SUB_VERBS: &[Cow<'static, str>] = &[
    Cow::Borrowed("get"),
    Cow::Borrowed("patch"),
    Cow::Borrowed("update"),
];

/// The name of a custom type: the group's parts turned round, the version, the kind.
fn type_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}

/// Adds all served versions of a definition.
pub(super) fn add(served: &mut Served, definition: &Value) {
    let group = definition.str_at("spec.group");
    let names = definition.at("status.acceptedNames");
    let versions = definition.list_at("spec.versions");
    let storage = versions
        .iter()
        .find(|version| version.bool_at("storage") == Some(true));
    let storage = storage.map(|version| version.str_at("name")).unwrap_or_default();
    let stored: Vec<&str> = definition
        .list_at("status.storedVersions")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let texts = |field: &str| -> Vec<Cow<'static, str>> {
        let list = names.list_at(field).iter().filter_map(Value::as_str);
        list.map(|text| Cow::Owned(text.to_owned())).collect()
    };
    let owned = |text: &str| Cow::Owned(text.to_owned());
    for version in versions
        .iter()
        .filter(|version| version.bool_at("served") == Some(true))
    {
        let name = version.str_at("name");
        let group_version = GroupVersion::new(group, name);
        if served
            .scheme
            .get(&group_version, names.str_at("plural"))
            .is_some()
        {
            continue;
        }
        let schema = Arc::new(version.at("schema.openAPIV3Schema").clone());
        let type_name = type_name(group, name, names.str_at("kind"));
        let preserve = definition.bool_at("spec.preserveUnknownFields") == Some(true) || schema.is_null();
        let types = Arc::new(crd::types(&type_name, &schema, preserve));
        let has_status = !version.at("subresources.status").is_null();
        let scale = version.at("subresources.scale");
        let mut subresources = Vec::new();
        if has_status {
            subresources.push(sub("status", None));
        }
        if !scale.is_null() {
            subresources.push(sub(
                "scale",
                Some(GroupVersionKind::new("autoscaling", "v1", "Scale")),
            ));
            let dotted = |field: &str| scale.str_at(field).trim_start_matches('.').to_owned();
            let paths = ScalePaths {
                spec: dotted("specReplicasPath"),
                status: dotted("statusReplicasPath"),
                selector: Some(dotted("labelSelectorPath")).filter(|path| !path.is_empty()),
            };
            served.scales.insert(type_name.clone(), paths);
        }
        let (columns, cells) = columns(version);
        let selectable: Vec<&str> = version
            .list_at("selectableFields")
            .iter()
            .map(|field| field.str_at("jsonPath"))
            .collect();
        let fields = selectable
            .iter()
            .map(|path| keep(path.trim_start_matches('.')))
            .collect();
        let strategy = Custom {
            schema: schema.clone(),
            has_status,
            verbatim: name == storage && stored.iter().all(|version| *version == storage),
            columns,
            cells,
            fields: keep_all(&FIELDS, fields),
            field_paths: selectable.iter().map(|path| JsonPath::parse(path)).collect(),
        };
        served.schemas.insert(type_name.clone(), schema);
        served.custom.insert(type_name.clone(), types);
        served.scheme.insert(Resource {
            group_version,
            kind: owned(names.str_at("kind")),
            list_kind: owned(names.str_at("listKind")),
            plural: owned(names.str_at("plural")),
            singular: owned(names.str_at("singular")),
            short_names: texts("shortNames"),
            categories: texts("categories"),
            namespaced: definition.str_at("spec.scope") == "Namespaced",
            verbs: VERBS.iter().map(|verb| Cow::Borrowed(*verb)).collect(),
            subresources,
            storage_prefix: Some(Cow::Owned(format!(
                "/registry/{group}/{}",
                names.str_at("plural")
            ))),
            storage_version: GroupVersion::new(group, storage),
            schema: Cow::Owned(type_name),
            strategy: Arc::new(strategy),
        });
    }
}

fn sub(name: &'static str, kind: Option<GroupVersionKind>) -> Subresource {
    Subresource {
        name: Cow::Borrowed(name),
        kind,
        verbs: Cow::Borrowed(SUB_VERBS),
    }
}
