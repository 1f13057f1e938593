//! Objects for the audit log, from bodies in any of the formats that are spoken.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use rutter_api::schema::Types;
use rutter_api::{GroupVersionKind, Value, codec};

/// The object in a request's body; none when it can't be read, which the answer tells.
pub fn request_object(types: &Types, media_type: &str, bytes: &[u8]) -> Option<Value> {
    if bytes.is_empty() {
        return None;
    }
    match media_type {
        "application/yaml" | "application/apply-patch+yaml" => {
            codec::yaml::parse(bytes).ok().map(|(value, _)| value)
        }
        codec::protobuf::MEDIA_TYPE => of_protobuf(types, bytes),
        _ => serde_json::from_slice(bytes).ok(),
    }
}

/// The object in an answer's body; none for texts and the like.
pub(super) fn response_object(headers: &HeaderMap, bytes: &[u8]) -> Option<Value> {
    let media_type = headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?;
    match media_type {
        "application/json" => serde_json::from_slice(bytes).ok(),
        "application/yaml" => codec::yaml::parse(bytes).ok().map(|(value, _)| value),
        codec::protobuf::MEDIA_TYPE => of_protobuf(rutter_api::schema::builtin(), bytes),
        _ => None,
    }
}

fn of_protobuf(types: &Types, bytes: &[u8]) -> Option<Value> {
    let resolve = |sent: &GroupVersionKind| {
        types
            .name_of_kind(&sent.group, &sent.version, &sent.kind)
            .map(str::to_owned)
    };
    let (kind, mut value) = codec::protobuf::decode(types, bytes, resolve).ok()?;
    let map = value.as_object_mut()?;
    map.insert("apiVersion".to_owned(), kind.api_version().into());
    map.insert("kind".to_owned(), kind.kind.into());
    Some(value)
}
