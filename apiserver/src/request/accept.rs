//! Content negotiation: the `Accept` header and what an answer looks like.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT};
use rutter_api::StatusError;

use crate::streaming::target::Query;

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `application/json`
    #[default]
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// What objects are shown as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// As themselves.
    #[default]
    Object,
    /// `Table` of `meta.k8s.io/v1`.
    Table,
    /// `PartialObjectMetadata`, or its list.
    Partial,
}

/// What was negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// How it is written.
    pub format: Format,
    /// What it is shown as.
    pub shape: Shape,
    /// Whether JSON is indented.
    pub pretty: bool,
    /// Whether gzip may be used.
    pub gzip: bool,
}

const ACCEPTED: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

impl Format {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => rutter_api::codec::protobuf::MEDIA_TYPE,
        }
    }

    /// The media type of a watch's stream.
    pub fn stream_media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            other => other.media_type(),
        }
    }
}

impl Accept {
    /// Negotiates. `tables` says whether objects can be shown as tables and metadata here; `protobuf` whether they have a
    /// protobuf form.
    pub fn negotiate(
        headers: &HeaderMap,
        query: &Query,
        tables: bool,
        protobuf: bool,
    ) -> Result<Self, StatusError> {
        let accept: Vec<&str> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let text = accept.join(",");
        let agent = headers
            .get(USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let pretty = match query.first("pretty") {
            Some(_) => query.flag("pretty"),
            None => ["curl", "Wget", "Mozilla/5.0"]
                .iter()
                .any(|browser| agent.starts_with(browser)),
        };
        let gzip = headers
            .get(ACCEPT_ENCODING)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                value
                    .split(',')
                    .any(|part| part.trim() == "gzip" || part.trim().starts_with("gzip;"))
            });
        let (format, shape) =
            choose(&text, tables, protobuf).ok_or_else(|| StatusError::not_acceptable(ACCEPTED))?;
        Ok(Self {
            format,
            shape,
            pretty,
            gzip,
        })
    }
}

/// The first clause that can be satisfied, in order of quality.
fn choose(text: &str, tables: bool, protobuf: bool) -> Option<(Format, Shape)> {
    if text.trim().is_empty() {
        return Some((Format::Json, Shape::Object));
    }
    let mut clauses: Vec<(u32, Clause<'_>)> = text.split(',').filter_map(clause).collect();
    clauses.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    clauses
        .into_iter()
        .find_map(|(_, clause)| satisfy(&clause, tables, protobuf))
}

#[derive(Debug, Default)]
struct Clause<'a> {
    media: &'a str,
    kind: &'a str,
    group: &'a str,
    version: &'a str,
    stream: bool,
}

fn clause(text: &str) -> Option<(u32, Clause<'_>)> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().filter(|media| !media.is_empty())?;
    let mut clause = Clause {
        media,
        ..Clause::default()
    };
    let mut quality = 1000;
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key {
            "q" => quality = (value.parse::<f32>().unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u32,
            "as" => clause.kind = value,
            "g" => clause.group = value,
            "v" => clause.version = value,
            "stream" => clause.stream = value == "watch",
            _ => {}
        }
    }
    (quality > 0).then_some((quality, clause))
}

fn satisfy(clause: &Clause<'_>, tables: bool, protobuf: bool) -> Option<(Format, Shape)> {
    let format = match clause.media.to_ascii_lowercase().as_str() {
        "*/*" | "application/*" | "application/json" => Format::Json,
        "application/yaml" => Format::Yaml,
        "application/vnd.kubernetes.protobuf" if protobuf => Format::Protobuf,
        _ => return None,
    };
    let shape = match clause.kind {
        "" => Shape::Object,
        _ if !tables || clause.group != "meta.k8s.io" => return None,
        "Table" if clause.version == "v1" && format != Format::Protobuf => Shape::Table,
        "PartialObjectMetadata" | "PartialObjectMetadataList" if clause.version == "v1" => Shape::Partial,
        _ => return None,
    };
    Some((format, shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_clause_that_fits_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (text, tables, want) in [
            ("", true, Some((Format::Json, Shape::Object))),
            ("*/*", true, Some((Format::Json, Shape::Object))),
            (kubectl, true, Some((Format::Json, Shape::Table))),
            (kubectl, false, Some((Format::Json, Shape::Object))),
            ("application/yaml", true, Some((Format::Yaml, Shape::Object))),
            (
                "text/html;q=0.9,application/yaml;q=0.1,application/json;q=0.5",
                true,
                Some((Format::Json, Shape::Object)),
            ),
            ("application/vnd.kubernetes.protobuf", true, None),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                true,
                Some((Format::Json, Shape::Object)),
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                true,
                Some((Format::Json, Shape::Partial)),
            ),
            ("text/plain", true, None),
        ] {
            assert_eq!(choose(text, tables, false), want, "{text}");
        }
    }
}
