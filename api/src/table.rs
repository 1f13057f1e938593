//! Tables and partial metadata: what `kubectl get` and metadata clients ask for (`meta.k8s.io/v1`).

use crate::resource::Resource;
use crate::strategy::Context;
use serde_json::Value;

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

/// A `Table` of the objects. `list_metadata` is the list's metadata (resourceVersion, continue, remainingItemCount).
/// `headers` is false on a watch after its first event.
pub fn table<'a>(
    _resource: &Resource,
    _objects: impl IntoIterator<Item = &'a Value>,
    _list_metadata: Option<&Value>,
    _include: IncludeObject,
    _headers: bool,
    _cx: &Context<'_>,
) -> Value {
    Value::Null
}

/// The `PartialObjectMetadata` of an object.
pub fn partial_metadata(_object: &Value) -> Value {
    Value::Null
}

/// The `PartialObjectMetadataList` of a list.
pub fn partial_metadata_list<'a>(
    _objects: impl IntoIterator<Item = &'a Value>,
    _list_metadata: Option<&Value>,
) -> Value {
    Value::Null
}
