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
use std::pin::Pin;
use std::task::{Context, Poll};

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

/// Bytes of a format as they are, compressed where that is wanted and worth it.
pub fn bytes(status: StatusCode, bytes: Bytes, accept: &Accept) -> Response<Body> {
    let size = bytes.len();
    if accept.gzip && size > COMPRESS_FROM {
        return pieces(status, std::iter::once(bytes), size, accept);
    }
    finish(status, full(bytes), accept.format)
}

/// Pieces of `size` bytes in all, made only as fast as the client takes them; compressed where that is wanted and worth it.
pub fn pieces(
    status: StatusCode,
    pieces: impl Iterator<Item = Bytes> + Send + Unpin + 'static,
    size: usize,
    accept: &Accept,
) -> Response<Body> {
    if accept.gzip && size > COMPRESS_FROM {
        let body = Pieces {
            left: None,
            pieces: Compressed::new(pieces),
        };
        let mut response = finish(status, body.boxed_unsync(), accept.format);
        let headers = response.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        return response;
    }
    let body = Pieces {
        left: Some(size as u64),
        pieces,
    };
    finish(status, body.boxed_unsync(), accept.format)
}

fn finish(status: StatusCode, body: Body, format: Format) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A body of an iterator's pieces, with its length where that is known.
struct Pieces<I> {
    left: Option<u64>,
    pieces: I,
}

impl<I: Iterator<Item = Bytes> + Unpin> http_body::Body for Pieces<I> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let piece = self.pieces.next();
        if let (Some(left), Some(piece)) = (&mut self.left, &piece) {
            *left = left.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|piece| Ok(http_body::Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.left.map(http_body::SizeHint::with_exact).unwrap_or_default()
    }
}

/// Pieces as gzip, a piece of the result at a time.
struct Compressed<I> {
    encoder: Option<GzEncoder<Vec<u8>>>,
    pieces: I,
}

/// How large a piece of compressed bytes is at least, but for the last.
const COMPRESSED_PIECE: usize = 16 * 1024;

impl<I> Compressed<I> {
    fn new(pieces: I) -> Self {
        Self {
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
            pieces,
        }
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Compressed<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let encoder = self.encoder.as_mut()?;
        for piece in self.pieces.by_ref() {
            // Writing to memory doesn't fail.
            let _ = encoder.write_all(&piece);
            if encoder.get_ref().len() >= COMPRESSED_PIECE {
                return Some(std::mem::take(encoder.get_mut()).into());
            }
        }
        Some(self.encoder.take()?.finish().unwrap_or_default().into())
    }
}

/// An object in the format that was negotiated. `type_name` names its type for protobuf.
pub fn object(
    status: StatusCode,
    value: &Value,
    accept: &Accept,
    types: &Types,
    type_name: &str,
) -> Response<Body> {
    bytes(status, encode(value, accept, types, type_name), accept)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    async fn read(response: Response<Body>) -> Vec<u8> {
        response.into_body().collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn pieces_arrive_whole_compressed_or_not() {
        let text = "pods and more pods. ".repeat(20_000);
        for (gzip, size) in [(false, text.len()), (true, text.len()), (true, 100)] {
            let text = text.get(..size).unwrap_or_default();
            let all: Vec<Bytes> = text.as_bytes().chunks(1000).map(Bytes::copy_from_slice).collect();
            let accept = Accept {
                gzip,
                ..Accept::default()
            };
            let response = pieces(StatusCode::OK, all.into_iter(), size, &accept);
            let compressed = response.headers().contains_key(CONTENT_ENCODING);
            assert_eq!(compressed, gzip && size > COMPRESS_FROM);
            let exact = http_body::Body::size_hint(response.body()).exact();
            assert_eq!(exact, (!compressed).then_some(size as u64));
            let mut got = read(response).await;
            if compressed {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(&got[..])
                    .read_to_end(&mut plain)
                    .unwrap();
                got = plain;
            }
            assert!(got == text.as_bytes(), "{size} bytes, gzip {gzip}");
        }
    }
}
