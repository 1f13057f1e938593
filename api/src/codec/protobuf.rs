//! Kubernetes' protobuf: messages walked by schema, in the `k8s\0` envelope.

use super::ParseError;
use crate::meta::GroupVersionKind;
use crate::schema::Types;
use serde_json::Value;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Encodes an object of the type called `type_name` with its envelope.
pub fn encode(_types: &Types, _gvk: &GroupVersionKind, _type_name: &str, _object: &Value) -> Vec<u8> {
    Vec::new()
}

/// Decodes an envelope and the object in it. `resolve` names the type of a kind; None is an error.
pub fn decode(
    _types: &Types,
    _bytes: &[u8],
    _resolve: impl Fn(&GroupVersionKind) -> Option<String>,
) -> Result<(GroupVersionKind, Value), ParseError> {
    Err(ParseError("not protobuf".to_owned()))
}

/// One frame of a watch stream (`;stream=watch`): length-delimited, with the object in its own envelope.
pub fn watch_frame(
    _types: &Types,
    _event: &str,
    _gvk: &GroupVersionKind,
    _type_name: &str,
    _object: &Value,
) -> Vec<u8> {
    Vec::new()
}
