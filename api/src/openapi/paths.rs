//! The paths of a document and their operations.

use super::schemas::{Dialect, Schemas};
use crate::meta::{GroupVersion, GroupVersionKind};
use crate::resource::Resource;
use serde_json::{Map, Value, json};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The path of a group version: `/api/v1` or `/apis/apps/v1`.
pub(super) fn root(version: &GroupVersion) -> String {
    if version.group.is_empty() {
        format!("/api/{}", version.version)
    } else {
        format!("/apis/{version}")
    }
}

/// What an operation sends and receives.
struct Body<'a> {
    name: &'a str,
    kind: &'a GroupVersionKind,
}

/// Adds the paths of a resource, whose type is called `name`.
pub(super) fn add(
    resource: &Resource,
    name: &str,
    schemas: &mut Schemas<'_>,
    paths: &mut Map<String, Value>,
) {
    let root = root(&resource.group_version);
    let kind = resource.gvk();
    let own = Body { name, kind: &kind };
    let list_name = format!(
        "{}{}",
        name.strip_suffix(&*resource.kind).unwrap_or(name),
        resource.list_kind
    );
    let list = Body {
        name: &list_name,
        kind: &kind,
    };
    let has = |verb: &str| resource.verbs.iter().any(|v| v == verb);
    let plural = &resource.plural;
    let (collection, around) = if resource.namespaced {
        (
            format!("{root}/namespaces/{{namespace}}/{plural}"),
            vec!["namespace"],
        )
    } else {
        (format!("{root}/{plural}"), Vec::new())
    };
    let item = format!("{collection}/{{name}}");

    let mut operations = Map::new();
    if has("list") {
        operations.insert("get".to_owned(), operation(schemas, "list", &list, LIST, None));
    }
    if has("create") {
        operations.insert(
            "post".to_owned(),
            operation(schemas, "post", &own, WRITE, Some(JSON)),
        );
    }
    if has("deletecollection") {
        let status = Body {
            name: &format!("{META}.Status"),
            kind: &kind,
        };
        operations.insert(
            "delete".to_owned(),
            operation(schemas, "deletecollection", &status, DELETE_LIST, Some(OPTIONS)),
        );
    }
    insert(paths, collection, operations, &around, schemas.dialect);

    let mut around_item = around.clone();
    around_item.insert(0, "name");
    let mut operations = Map::new();
    if has("get") {
        operations.insert("get".to_owned(), operation(schemas, "get", &own, &[], None));
    }
    writes(schemas, &own, &|verb| has(verb), &mut operations);
    if has("delete") {
        let status = Body {
            name: &format!("{META}.Status"),
            kind: &kind,
        };
        operations.insert(
            "delete".to_owned(),
            operation(schemas, "delete", &status, DELETE, Some(OPTIONS)),
        );
    }
    insert(paths, item.clone(), operations, &around_item, schemas.dialect);

    if resource.namespaced && has("list") {
        let mut operations = Map::new();
        operations.insert("get".to_owned(), operation(schemas, "list", &list, LIST, None));
        insert(
            paths,
            format!("{root}/{plural}"),
            operations,
            &[],
            schemas.dialect,
        );
    }
    add_subresources(resource, name, (&item, &around_item), schemas, paths);
}

/// Adds the paths of a resource's subresources, below the path of an item.
fn add_subresources(
    resource: &Resource,
    name: &str,
    (item, around): (&str, &[&str]),
    schemas: &mut Schemas<'_>,
    paths: &mut Map<String, Value>,
) {
    let kind = resource.gvk();
    for subresource in &resource.subresources {
        let sub_kind = subresource.kind.clone().unwrap_or_else(|| kind.clone());
        let sub_name = match &subresource.kind {
            None => name.to_owned(),
            Some(kind) => match schemas.name_of_kind(kind) {
                Some(name) => name,
                None => continue,
            },
        };
        let body = Body {
            name: &sub_name,
            kind: &sub_kind,
        };
        let has = |verb: &str| subresource.verbs.iter().any(|v| v == verb);
        let mut operations = Map::new();
        if has("get") {
            operations.insert("get".to_owned(), operation(schemas, "get", &body, &[], None));
        }
        if has("create") {
            operations.insert(
                "post".to_owned(),
                operation(schemas, "post", &body, WRITE, Some(JSON)),
            );
        }
        writes(schemas, &body, &has, &mut operations);
        insert(
            paths,
            format!("{item}/{}", subresource.name),
            operations,
            around,
            schemas.dialect,
        );
    }
}

fn writes(
    schemas: &mut Schemas<'_>,
    body: &Body<'_>,
    has: &dyn Fn(&str) -> bool,
    operations: &mut Map<String, Value>,
) {
    if has("update") {
        operations.insert(
            "put".to_owned(),
            operation(schemas, "put", body, WRITE, Some(JSON)),
        );
    }
    if has("patch") {
        let patches = if schemas.is_custom {
            CUSTOM_PATCHES
        } else {
            PATCHES
        };
        operations.insert(
            "patch".to_owned(),
            operation(schemas, "patch", body, PATCH, Some(patches)),
        );
    }
}

/// Query parameters: name and type.
type Parameters = &'static [(&'static str, &'static str)];

const WRITE: Parameters = &[
    ("pretty", "string"),
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
];
const PATCH: Parameters = &[
    ("pretty", "string"),
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
];
const LIST: Parameters = &[
    ("pretty", "string"),
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: Parameters = &[
    ("pretty", "string"),
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const DELETE_LIST: Parameters = &[
    ("pretty", "string"),
    ("continue", "string"),
    ("dryRun", "string"),
    ("fieldSelector", "string"),
    ("gracePeriodSeconds", "integer"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("timeoutSeconds", "integer"),
];

/// Media types of a request's body.
type Media = &'static [&'static str];

const JSON: Media = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const OPTIONS: Media = JSON;
const PATCHES: Media = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Custom resources have no strategic merge: clients choose by this list.
const CUSTOM_PATCHES: Media = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];

fn parameter(name: &str, place: &str, kind: &str, dialect: Dialect) -> Value {
    let mut body = json!({"name": name, "in": place, "uniqueItems": true});
    if let Some(map) = body.as_object_mut() {
        match dialect {
            Dialect::V2 => map.insert("type".to_owned(), Value::from(kind)),
            Dialect::V3 => {
                map.remove("uniqueItems");
                map.insert("schema".to_owned(), json!({"type": kind}))
            }
        };
        if place == "path" {
            map.insert("required".to_owned(), Value::Bool(true));
        }
    }
    body
}

fn operation(
    schemas: &mut Schemas<'_>,
    action: &str,
    body: &Body<'_>,
    parameters: Parameters,
    sends: Option<Media>,
) -> Value {
    let dialect = schemas.dialect;
    let answer = schemas.reference(body.name);
    let sent = match action {
        "delete" | "deletecollection" => schemas.reference(&format!("{META}.DeleteOptions")),
        "patch" => schemas.reference(&format!("{META}.Patch")),
        _ => answer.clone(),
    };
    let mut all: Vec<Value> = parameters
        .iter()
        .map(|(name, kind)| parameter(name, "query", kind, dialect))
        .collect();
    let kind = json!({"group": body.kind.group, "version": body.kind.version, "kind": body.kind.kind});
    let mut out = json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind,
    });
    let content = |media: Media, schema: &Value| -> Value {
        media
            .iter()
            .map(|media| ((*media).to_owned(), json!({"schema": schema})))
            .collect::<Map<_, _>>()
            .into()
    };
    let response = match dialect {
        Dialect::V2 => json!({"description": "OK", "schema": answer}),
        Dialect::V3 => json!({"description": "OK", "content": content(JSON, &answer)}),
    };
    if let Some(out) = out.as_object_mut() {
        match (dialect, sends) {
            (Dialect::V2, Some(media)) => {
                let required = action != "delete" && action != "deletecollection";
                all.push(json!({"name": "body", "in": "body", "required": required, "schema": sent}));
                out.insert("consumes".to_owned(), json!(media));
            }
            (Dialect::V3, Some(media)) => {
                out.insert(
                    "requestBody".to_owned(),
                    json!({"content": content(media, &sent)}),
                );
            }
            (_, None) => {}
        }
        if dialect == Dialect::V2 {
            out.insert("produces".to_owned(), json!(JSON));
        }
        out.insert("parameters".to_owned(), Value::Array(all));
        out.insert(
            "responses".to_owned(),
            json!({"200": response, "401": {"description": "Unauthorized"}}),
        );
    }
    out
}

fn insert(
    paths: &mut Map<String, Value>,
    path: String,
    mut operations: Map<String, Value>,
    around: &[&str],
    dialect: Dialect,
) {
    if operations.is_empty() {
        return;
    }
    if !around.is_empty() {
        let parameters = around
            .iter()
            .map(|name| parameter(name, "path", "string", dialect));
        operations.insert("parameters".to_owned(), parameters.collect());
    }
    paths.insert(path, Value::Object(operations));
}
