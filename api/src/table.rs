//! Tables and partial metadata: what `kubectl get` and metadata clients ask for (`meta.k8s.io/v1`).

use crate::duration;
use crate::object::ObjectExt;
use crate::resource::Resource;
use crate::strategy::{Column, Context};
use serde_json::{Map, Value, json};
use std::borrow::Borrow;

/// What each row carries of its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// A `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// Parses `?includeObject=`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// The columns of kinds that have none of their own.
pub const DEFAULT_COLUMNS: &[Column] = &[
    Column {
        name: "Name",
        kind: "string",
        format: "name",
        description: "The object's name.",
        priority: 0,
    },
    Column {
        name: "Age",
        kind: "date",
        format: "",
        description: "How long ago the object was created.",
        priority: 0,
    },
];

/// A `Table` of the objects. `list_metadata` is the list's metadata (resourceVersion, continue, remainingItemCount);
/// the table of a single object takes that object's resourceVersion. `headers` is false on a watch after its first
/// event.
pub fn table(
    resource: &Resource,
    objects: impl IntoIterator<Item = impl Borrow<Value>>,
    list_metadata: Option<&Value>,
    include: IncludeObject,
    headers: bool,
    cx: &Context<'_>,
) -> Value {
    let own = resource.strategy.columns();
    let mut version = None;
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let object = object.borrow();
            version.get_or_insert_with(|| object.resource_version().to_owned());
            let cells = if own.is_empty() {
                default_row(object, cx)
            } else {
                resource.strategy.row(object, cx)
            };
            let mut row = Map::new();
            row.insert("cells".to_owned(), Value::Array(cells));
            match include {
                IncludeObject::None => {}
                IncludeObject::Metadata => {
                    row.insert("object".to_owned(), partial_metadata(object));
                }
                IncludeObject::Object => {
                    row.insert("object".to_owned(), object.clone());
                }
            }
            Value::Object(row)
        })
        .collect();
    let metadata = match list_metadata {
        Some(metadata) => metadata.clone(),
        None => match version {
            Some(version) if !version.is_empty() => json!({"resourceVersion": version}),
            _ => json!({}),
        },
    };
    let columns = if own.is_empty() { DEFAULT_COLUMNS } else { own };
    let definitions: Vec<Value> = if headers {
        columns.iter().map(definition).collect()
    } else {
        Vec::new()
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

fn default_row(object: &Value, cx: &Context<'_>) -> Vec<Value> {
    let age = duration::age(object.str_at("metadata.creationTimestamp"), cx.now);
    vec![Value::from(object.name()), Value::from(age)]
}

/// The `PartialObjectMetadata` of an object.
pub fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// The `PartialObjectMetadataList` of a list.
pub fn partial_metadata_list(
    objects: impl IntoIterator<Item = impl Borrow<Value>>,
    list_metadata: Option<&Value>,
) -> Value {
    let items: Vec<Value> = objects
        .into_iter()
        .map(|object| partial_metadata(object.borrow()))
        .collect();
    json!({
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata.cloned().unwrap_or_else(|| json!({})),
        "items": items,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::GroupVersion;
    use crate::strategy::Plain;
    use std::sync::Arc;

    fn resource() -> Resource {
        Resource {
            group_version: GroupVersion::new("", "v1"),
            kind: "ConfigMap".into(),
            list_kind: "ConfigMapList".into(),
            plural: "configmaps".into(),
            singular: "configmap".into(),
            short_names: vec!["cm".into()],
            categories: Vec::new(),
            namespaced: true,
            verbs: Vec::new(),
            subresources: Vec::new(),
            storage_prefix: Some("/registry/configmaps".into()),
            storage_version: GroupVersion::new("", "v1"),
            schema: "io.k8s.api.core.v1.ConfigMap".into(),
            strategy: Arc::new(Plain),
        }
    }

    #[test]
    fn a_plain_kind_shows_name_and_age() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let cx = Context {
            now,
            user: "",
            subresource: "",
            dry_run: false,
        };
        let object = json!({"metadata": {"name": "a", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"}, "data": {}});
        let got = table(&resource(), [&object], None, IncludeObject::Metadata, true, &cx);
        assert_eq!(got["metadata"], json!({"resourceVersion": "7"}));
        assert_eq!(got["columnDefinitions"][0]["format"], "name");
        assert_eq!(got["rows"][0]["cells"], json!(["a", "10m"]));
        assert_eq!(got["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        assert!(got["rows"][0]["object"].get("data").is_none());
        let list = json!({"resourceVersion": "9", "continue": "x"});
        let got = table(
            &resource(),
            [&object, &object],
            Some(&list),
            IncludeObject::Object,
            false,
            &cx,
        );
        assert_eq!(
            (
                &got["metadata"],
                got["columnDefinitions"].as_array().map(Vec::len)
            ),
            (&list, Some(0))
        );
        assert_eq!(got["rows"][1]["object"], object);
        let got = partial_metadata_list([&object], Some(&list));
        assert_eq!(got["items"][0]["metadata"]["name"], "a");
    }
}
