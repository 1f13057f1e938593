//! Reading a request's body: its size bounded, its format from `Content-Type`, its shape by the schema.

use crate::streaming::BoxError;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use rutter_api::codec;
use rutter_api::object::ObjectExt;
use rutter_api::schema::{self, FieldValidation, Types};
use rutter_api::{GroupVersion, GroupVersionKind, StatusError, Value};

/// The largest body taken.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// A larger body is read and forgotten up to here, so that its sender gets to read the answer.
const MAX_DRAINED: usize = 8 * MAX_BODY;

/// The whole body.
pub async fn read<B>(body: B) -> Result<Bytes, StatusError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let too_large = || StatusError::too_large(format!("limit is {MAX_BODY}"));
    let mut body = std::pin::pin!(body);
    let mut whole = BytesMut::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| StatusError::bad_request(error.into().to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        if size > MAX_DRAINED {
            return Err(too_large());
        }
        if size <= MAX_BODY {
            whole.extend_from_slice(&data);
        }
    }
    if size > MAX_BODY {
        Err(too_large())
    } else {
        Ok(whole.freeze())
    }
}

/// How many bytes of a body are kept at most.
pub fn most<B: http_body::Body>(body: &B) -> u64 {
    let most = MAX_BODY as u64;
    body.size_hint().upper().map_or(most, |upper| upper.min(most))
}

/// The media type of the body; JSON when the header is absent.
pub fn media_type(headers: &HeaderMap) -> String {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if media.is_empty() {
        "application/json".to_owned()
    } else {
        media
    }
}

/// The object that is expected in a body.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// Its kind, which is also what a body without one is taken for.
    pub kind: GroupVersionKind,
    /// Its type in the schema.
    pub type_name: &'a str,
}

/// Reads an object: the decoded object and texts for the `Warning` header.
pub fn object(
    types: &Types,
    expected: &Expected<'_>,
    media_type: &str,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), StatusError> {
    let refuse = |what: &dyn std::fmt::Display| {
        StatusError::bad_request(format!("couldn't get version/kind; json parse error: {what}"))
    };
    let (mut value, duplicates) = match media_type {
        "application/json" => codec::json::parse(bytes).map_err(|e| refuse(&e))?,
        "application/yaml" => codec::yaml::parse(bytes).map_err(|e| refuse(&e))?,
        codec::protobuf::MEDIA_TYPE => {
            let resolve = |sent: &GroupVersionKind| {
                (*sent == expected.kind)
                    .then(|| expected.type_name.to_owned())
                    .or_else(|| {
                        types
                            .name_of_kind(&sent.group, &sent.version, &sent.kind)
                            .map(str::to_owned)
                    })
            };
            let (sent, mut value) = codec::protobuf::decode(types, bytes, resolve)
                .map_err(|e| StatusError::bad_request(e.to_string()))?;
            value.set("apiVersion", sent.api_version());
            value.set("kind", sent.kind);
            (value, Vec::new())
        }
        _ => {
            return Err(StatusError::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ));
        }
    };
    if !value.is_object() {
        return Err(refuse(
            &"json: cannot unmarshal into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }",
        ));
    }
    let sent = check_kind(&mut value, &expected.kind)?;
    let decoded = schema::decode_with_duplicates(types, expected.type_name, value, validation, &duplicates)
        .map_err(|error| error.status(&sent, &expected.kind.kind))?;
    let mut value = decoded.value;
    value.set("apiVersion", expected.kind.api_version());
    value.set("kind", expected.kind.kind.as_str());
    Ok((value, decoded.warnings))
}

/// The kind that was sent, when it is the one expected.
fn check_kind(value: &mut Value, expected: &GroupVersionKind) -> Result<GroupVersionKind, StatusError> {
    let (version, kind) = (value.str_at("apiVersion"), value.str_at("kind"));
    let wanted = expected.api_version();
    if !version.is_empty() && version != wanted {
        return Err(StatusError::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({wanted})"
        )));
    }
    let sent = GroupVersion::parse(&wanted).unwrap_or_default();
    let kind = if kind.is_empty() {
        expected.kind.clone()
    } else {
        kind.to_owned()
    };
    let sent = GroupVersionKind::new(sent.group, sent.version, kind);
    if sent.kind != expected.kind {
        return Err(StatusError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: the object provided is unrecognized (must be of type {})",
            sent.kind, sent.version, expected.kind, expected.kind
        )));
    }
    Ok(sent)
}
