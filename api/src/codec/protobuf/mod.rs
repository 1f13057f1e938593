//! Kubernetes' protobuf: messages walked by schema, in the `k8s\0` envelope (`runtime.Unknown`).
//!
//! Fields that an object doesn't have aren't written, and unknown ones are skipped when reading, as protobuf means it. What
//! is read comes out in the same form as decoded JSON.

mod read;
mod write;

pub(crate) use write::{delimited, double, integer, text};

use super::ParseError;
use crate::meta::{GroupVersion, GroupVersionKind};
use crate::schema::{FieldValidation, Types, decode as decode_object};
use serde_json::Value;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const MAGIC: &[u8] = b"k8s\0";

/// Whether the bytes begin as an envelope does.
pub fn is_protobuf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Encodes an object of the type called `type_name` with its envelope.
pub fn encode(types: &Types, gvk: &GroupVersionKind, type_name: &str, object: &Value) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    write::delimited(&mut out, 1, |out| {
        write::text(out, 1, &gvk.api_version());
        write::text(out, 2, &gvk.kind);
    });
    write::delimited(&mut out, 2, |out| write::message(types, type_name, object, out));
    write::text(&mut out, 3, "");
    write::text(&mut out, 4, "");
    out
}

/// One object of a list; [`list_envelope`] makes what surrounds all of them.
pub fn encode_item(types: &Types, type_name: &str, object: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write::delimited(&mut out, 2, |out| write::message(types, type_name, object, out));
    out
}

/// What comes before the items of a list ([`encode_item`]) that have so many bytes in all, and what comes after them: together
/// they are what [`encode`] makes of the list.
pub fn list_envelope(
    types: &Types,
    gvk: &GroupVersionKind,
    metadata: &Value,
    items: usize,
) -> (Vec<u8>, Vec<u8>) {
    let mut meta = Vec::new();
    write::delimited(&mut meta, 1, |out| {
        write::message(types, LIST_META, metadata, out)
    });
    let mut head = MAGIC.to_vec();
    write::delimited(&mut head, 1, |out| {
        write::text(out, 1, &gvk.api_version());
        write::text(out, 2, &gvk.kind);
    });
    write::begin(&mut head, 2, meta.len() + items);
    head.extend_from_slice(&meta);
    let mut tail = Vec::new();
    write::text(&mut tail, 3, "");
    write::text(&mut tail, 4, "");
    (head, tail)
}

/// Decodes an envelope and the object in it. `resolve` names the type of a kind ([`Types::name_of_kind`] knows the
/// built-in ones); None is an error.
pub fn decode(
    types: &Types,
    bytes: &[u8],
    resolve: impl Fn(&GroupVersionKind) -> Option<String>,
) -> Result<(GroupVersionKind, Value), ParseError> {
    let body = bytes.strip_prefix(MAGIC).ok_or_else(|| {
        ParseError(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
                .to_owned(),
        )
    })?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in read::fields(body) {
        match field? {
            (1, read::Wire::Bytes(meta)) => {
                for field in read::fields(meta) {
                    match field? {
                        (1, read::Wire::Bytes(text)) => api_version = read::utf8(text)?.to_owned(),
                        (2, read::Wire::Bytes(text)) => kind = read::utf8(text)?.to_owned(),
                        _ => {}
                    }
                }
            }
            (2, read::Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let version = GroupVersion::parse(&api_version)
        .ok_or_else(|| ParseError(format!("unexpected GroupVersion string: {api_version}")))?;
    let gvk = GroupVersionKind::new(version.group, version.version, &*kind);
    let name = resolve(&gvk).ok_or_else(|| {
        ParseError(format!(
            "no kind {kind:?} is registered for version {api_version:?}"
        ))
    })?;
    let id = types
        .find(&name)
        .ok_or_else(|| ParseError(format!("no type {name:?} in the schema")))?;
    let mut object = read::message(types, id, raw)?;
    if let Value::Object(map) = &mut object {
        map.insert("apiVersion".to_owned(), Value::from(gvk.api_version()));
        map.insert("kind".to_owned(), Value::from(kind));
    }
    let decoded = decode_object(types, &name, object, FieldValidation::Ignore)
        .map_err(|e| ParseError(e.to_string()))?;
    Ok((gvk, decoded.value))
}

/// One frame of a watch stream (`;stream=watch`): length-delimited, with the object in its own envelope.
pub fn watch_frame(
    types: &Types,
    event: &str,
    gvk: &GroupVersionKind,
    type_name: &str,
    object: &Value,
) -> Vec<u8> {
    watch_frame_of(event, &encode(types, gvk, type_name, object))
}

/// A watch frame of an object that is already encoded with its envelope.
pub fn watch_frame_of(event: &str, object: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4];
    write::text(&mut out, 1, event);
    write::delimited(&mut out, 2, |out| write::bytes(out, 1, object));
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

#[cfg(test)]
mod tests;
