//! An OpenAPI v2 document as the message `openapi.v2.Document` of gnostic's `OpenAPIv2.proto`, the form in which client-go reads it.
//!
//! A table names each message's fields with their numbers; extensions (`x-...`) are carried as texts in YAML, of which JSON is a part.

use crate::codec::protobuf::{delimited, double, integer, text};
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// A message: its fields by their JSON names, and where its extensions go.
struct Message {
    fields: &'static [(&'static str, u32, Kind)],
    extensions: u32,
}

/// How a field is written.
enum Kind {
    Text,
    /// A text, or a list of them.
    Texts,
    Flag,
    Integer,
    Double,
    /// Any value, as a text.
    Any,
    /// A list of such.
    Anys,
    /// A message of its own.
    Of(fn(&Value, &mut Vec<u8>)),
    /// A list of messages.
    Each(fn(&Value, &mut Vec<u8>)),
    /// A message whose field of this number has an entry with `name` (1) and `value` (2) for each member.
    Named(u32, fn(&Value, &mut Vec<u8>)),
}

use Kind::{Any, Anys, Double, Each, Flag, Integer, Named, Of, Text, Texts};

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, Of(info)),
        ("host", 3, Text),
        ("basePath", 4, Text),
        ("schemes", 5, Texts),
        ("consumes", 6, Texts),
        ("produces", 7, Texts),
        ("paths", 8, Named(2, path_item)),
        ("definitions", 9, Named(1, schema)),
        ("parameters", 10, Named(1, parameter)),
        ("security", 12, Each(requirement)),
        ("securityDefinitions", 13, Named(1, security)),
    ],
    extensions: 16,
};

static INFO: Message = Message {
    fields: &[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)],
    extensions: 7,
};

static PATH_ITEM: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("get", 2, Of(operation)),
        ("put", 3, Of(operation)),
        ("post", 4, Of(operation)),
        ("delete", 5, Of(operation)),
        ("options", 6, Of(operation)),
        ("head", 7, Of(operation)),
        ("patch", 8, Of(operation)),
        ("parameters", 9, Each(parameters_item)),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Each(parameters_item)),
        ("responses", 9, Named(1, response)),
        ("schemes", 10, Texts),
        ("deprecated", 11, Flag),
        ("security", 12, Each(requirement)),
    ],
    extensions: 13,
};

static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, Of(schema)),
    ],
    extensions: 6,
};

/// Parameters in headers and paths.
static PLAIN_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("default", 9, Any),
        ("pattern", 16, Text),
        ("uniqueItems", 19, Flag),
        ("enum", 20, Anys),
    ],
    extensions: 22,
};

static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("allowEmptyValue", 5, Flag),
        ("type", 6, Text),
        ("format", 7, Text),
        ("default", 10, Any),
        ("pattern", 17, Text),
        ("uniqueItems", 20, Flag),
        ("enum", 21, Anys),
    ],
    extensions: 23,
};

static RESPONSE: Message = Message {
    fields: &[("description", 1, Text), ("schema", 2, Of(schema_item))],
    extensions: 5,
};

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Double),
        ("maximum", 7, Double),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Double),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Integer),
        ("minLength", 12, Integer),
        ("pattern", 13, Text),
        ("maxItems", 14, Integer),
        ("minItems", 15, Integer),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Integer),
        ("minProperties", 18, Integer),
        ("required", 19, Texts),
        ("enum", 20, Anys),
        ("additionalProperties", 21, Of(additional)),
        ("type", 22, Of(kind)),
        ("items", 23, Of(schema_item)),
        ("allOf", 24, Each(schema)),
        ("properties", 25, Named(1, schema)),
        ("discriminator", 26, Text),
        ("readOnly", 27, Flag),
        ("externalDocs", 29, Of(external_docs)),
        ("example", 30, Any),
    ],
    extensions: 31,
};

static EXTERNAL_DOCS: Message = Message {
    fields: &[("description", 1, Text), ("url", 2, Text)],
    extensions: 3,
};

static API_KEY: Message = Message {
    fields: &[
        ("type", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("description", 4, Text),
    ],
    extensions: 5,
};

/// Encodes a document.
pub fn document(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(&DOCUMENT, document, &mut out);
    out
}

fn message(of: &Message, value: &Value, out: &mut Vec<u8>) {
    let Some(object) = value.as_object() else { return };
    for (name, number, kind) in of.fields {
        if let Some(value) = object.get(*name) {
            field(*number, kind, value, out);
        }
    }
    for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-")) {
        delimited(out, of.extensions, |out| {
            text(out, 1, name);
            delimited(out, 2, |out| any(value, out));
        });
    }
}

fn field(number: u32, kind: &Kind, value: &Value, out: &mut Vec<u8>) {
    match kind {
        Text => text(out, number, value.as_str().unwrap_or_default()),
        Texts => texts(number, value, out),
        Flag => integer(out, number, i64::from(value == &Value::Bool(true))),
        Integer => integer(out, number, value.as_i64().unwrap_or_default()),
        Double => double(out, number, value.as_f64().unwrap_or_default()),
        Any => delimited(out, number, |out| any(value, out)),
        Anys => each(value, |value| delimited(out, number, |out| any(value, out))),
        Of(write) => delimited(out, number, |out| write(value, out)),
        Each(write) => each(value, |value| delimited(out, number, |out| write(value, out))),
        Named(entries, write) => delimited(out, number, |out| named(*entries, *write, value, out)),
    }
}

fn each(list: &Value, write: impl FnMut(&Value)) {
    list.as_array().into_iter().flatten().for_each(write);
}

fn texts(number: u32, value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::String(one) => text(out, number, one),
        list => each(list, |value| {
            text(out, number, value.as_str().unwrap_or_default())
        }),
    }
}

fn named(entries: u32, write: fn(&Value, &mut Vec<u8>), value: &Value, out: &mut Vec<u8>) {
    let members: Option<&Object> = value.as_object();
    for (name, value) in members.into_iter().flatten() {
        delimited(out, entries, |out| {
            text(out, 1, name);
            delimited(out, 2, |out| write(value, out));
        });
    }
}

fn any(value: &Value, out: &mut Vec<u8>) {
    text(out, 2, &value.to_string());
}

fn info(value: &Value, out: &mut Vec<u8>) {
    message(&INFO, value, out);
}

fn path_item(value: &Value, out: &mut Vec<u8>) {
    message(&PATH_ITEM, value, out);
}

fn operation(value: &Value, out: &mut Vec<u8>) {
    message(&OPERATION, value, out);
}

fn schema(value: &Value, out: &mut Vec<u8>) {
    message(&SCHEMA, value, out);
}

/// The one schema of a list's items or of an answer.
fn schema_item(value: &Value, out: &mut Vec<u8>) {
    delimited(out, 1, |out| schema(value, out));
}

/// A schema (1), or whether there may be others at all (2).
fn additional(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(allowed) => integer(out, 2, i64::from(*allowed)),
        other => schema_item(other, out),
    }
}

fn kind(value: &Value, out: &mut Vec<u8>) {
    texts(1, value, out);
}

fn external_docs(value: &Value, out: &mut Vec<u8>) {
    message(&EXTERNAL_DOCS, value, out);
}

/// A parameter (1), or a reference to one (2).
fn parameters_item(value: &Value, out: &mut Vec<u8>) {
    match value.get("$ref") {
        Some(reference) => delimited(out, 2, |out| field(1, &Text, reference, out)),
        None => delimited(out, 1, |out| parameter(value, out)),
    }
}

/// A parameter in the body (1), or elsewhere (2): in a header (1), the query (3) or the path (4).
fn parameter(value: &Value, out: &mut Vec<u8>) {
    let (place, of) = match value["in"].as_str() {
        Some("body") => return delimited(out, 1, |out| message(&BODY_PARAMETER, value, out)),
        Some("query") => (3, &QUERY_PARAMETER),
        Some("path") => (4, &PLAIN_PARAMETER),
        _ => (1, &PLAIN_PARAMETER),
    };
    delimited(out, 2, |out| delimited(out, place, |out| message(of, value, out)));
}

fn response(value: &Value, out: &mut Vec<u8>) {
    delimited(out, 1, |out| message(&RESPONSE, value, out));
}

fn requirement(value: &Value, out: &mut Vec<u8>) {
    named(1, |scopes, out| texts(1, scopes, out), value, out);
}

fn security(value: &Value, out: &mut Vec<u8>) {
    delimited(out, 2, |out| message(&API_KEY, value, out));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_have_gnostics_layout() {
        let schema = |value: Value| {
            let mut out = Vec::new();
            schema(&value, &mut out);
            out
        };
        for (value, want) in [
            (json!({"type": "string"}), &b"\xb2\x01\x08\x0a\x06string"[..]),
            (json!({"$ref": "#/a"}), b"\x0a\x03#/a"),
            (json!({"items": {"$ref": "b"}}), b"\xba\x01\x05\x0a\x03\x0a\x01b"),
            (json!({"additionalProperties": true}), b"\xaa\x01\x02\x10\x01"),
            (
                json!({"properties": {"p": {"$ref": "b"}}}),
                b"\xca\x01\x0a\x0a\x08\x0a\x01p\x12\x03\x0a\x01b",
            ),
            (json!({"x-k": [1]}), b"\xfa\x01\x0c\x0a\x03x-k\x12\x05\x12\x03[1]"),
            (json!({"maximum": 1.0}), b"\x39\0\0\0\0\0\0\xf0\x3f"),
        ] {
            assert_eq!(schema(value.clone()), want, "{value}");
        }
    }

    #[test]
    fn parameters_are_told_apart_by_their_place() {
        let parameter = |value: Value| {
            let mut out = Vec::new();
            parameters_item(&value, &mut out);
            out
        };
        for (value, want) in [
            (
                json!({"in": "body", "name": "b"}),
                &b"\x0a\x0b\x0a\x09\x12\x01b\x1a\x04body"[..],
            ),
            (
                json!({"in": "path", "name": "p"}),
                b"\x0a\x0d\x12\x0b\x22\x09\x12\x04path\x22\x01p",
            ),
            (
                json!({"$ref": "#/parameters/x"}),
                b"\x12\x10\x0a\x0e#/parameters/x",
            ),
        ] {
            assert_eq!(parameter(value.clone()), want, "{value}");
        }
    }
}
