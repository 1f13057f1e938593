//! Answers: bodies, the formats they are written in, compression, and the one edge where an error becomes a `Status`.

use crate::request::{Accept, Format};
use crate::streaming::BoxError;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::Stream;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY, WARNING};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use rutter_api::codec;
use rutter_api::schema::Types;
use rutter_api::{GroupVersionKind, StatusError, Value};
use std::io::Write as _;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// An answer, or why there is none.
pub type Answer = Result<Response<Body>, StatusError>;

/// Answers smaller than this aren't compressed.
const COMPRESS_FROM: usize = 128 * 1024;

/// A body of bytes at hand.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that comes bit by bit.
pub fn stream(stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Body {
    let frames = futures::StreamExt::map(stream, |bytes| bytes.map(http_body::Frame::data));
    StreamBody::new(frames).boxed_unsync()
}

/// A plain text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", text)
}

/// Bytes of some media type.
pub fn typed(status: StatusCode, media_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// JSON bytes as they are, compressed where that is wanted and worth it.
pub fn json_bytes(status: StatusCode, parts: Vec<Bytes>, accept: &Accept) -> Response<Body> {
    parts_of(status, Format::Json.media_type(), parts, accept.gzip)
}

fn parts_of(status: StatusCode, media_type: &'static str, parts: Vec<Bytes>, gzip: bool) -> Response<Body> {
    let size: usize = parts.iter().map(Bytes::len).sum();
    let mut response = if gzip && size > COMPRESS_FROM {
        let mut encoder = GzEncoder::new(Vec::with_capacity(size / 4), Compression::fast());
        // Writing to memory doesn't fail.
        let _ = parts.iter().try_for_each(|part| encoder.write_all(part));
        let mut response = Response::new(full(encoder.finish().unwrap_or_default()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        response
    } else if parts.len() == 1 {
        Response::new(full(parts.into_iter().next().unwrap_or_default()))
    } else {
        let mut response = Response::new(stream(futures::stream::iter(parts.into_iter().map(Ok))));
        response
            .headers_mut()
            .insert(http::header::CONTENT_LENGTH, HeaderValue::from(size));
        response
    };
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// An object in the format that was negotiated. `type_name` names its type for protobuf.
pub fn object(
    status: StatusCode,
    value: &Value,
    accept: &Accept,
    types: &Types,
    type_name: &str,
) -> Response<Body> {
    parts_of(
        status,
        accept.format.media_type(),
        vec![encode(value, accept, types, type_name)],
        accept.gzip,
    )
}

/// An object's bytes in a format.
pub fn encode(value: &Value, accept: &Accept, types: &Types, type_name: &str) -> Bytes {
    match accept.format {
        Format::Json if accept.pretty => {
            let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
            bytes.push(b'\n');
            bytes.into()
        }
        Format::Json => {
            let mut bytes = codec::json::to_vec(value);
            bytes.push(b'\n');
            bytes.into()
        }
        Format::Yaml => serde_yaml_ng::to_string(value).unwrap_or_default().into(),
        Format::Protobuf => codec::protobuf::encode(types, &kind_of(value), type_name, value).into(),
    }
}

/// The kind that an object says it is.
pub fn kind_of(value: &Value) -> GroupVersionKind {
    use rutter_api::object::ObjectExt;
    let version = rutter_api::GroupVersion::parse(value.str_at("apiVersion")).unwrap_or_default();
    GroupVersionKind::new(version.group, version.version, value.str_at("kind"))
}

/// The `Status` of a failure.
pub fn failure(error: &StatusError, accept: &Accept) -> Response<Body> {
    status_value(&error.to_value(), error.code, error.retry_after_seconds, accept)
}

/// A `Status` that is already an object.
pub fn status_value(status: &Value, code: u16, retry_after: u32, accept: &Accept) -> Response<Body> {
    let types = rutter_api::schema::builtin();
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = object(code, status, accept, types, STATUS_TYPE);
    if retry_after > 0 {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(retry_after));
    }
    response
}

/// The type of `Status` in the schema.
pub const STATUS_TYPE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

/// Adds `Warning` headers.
pub fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    let mut seen: Vec<&str> = Vec::new();
    let mut size = 0;
    for text in warnings {
        if seen.contains(&text.as_str()) {
            continue;
        }
        seen.push(text);
        let quoted: String = text
            .chars()
            .filter(|c| !c.is_control())
            .flat_map(|c| match c {
                '"' | '\\' => vec!['\\', c],
                other => vec![other],
            })
            .collect();
        size += quoted.len();
        if size > 4096 {
            break;
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            headers.append(WARNING, value);
        }
    }
}
