//! `explain`: what fields mean, from what the server publishes about its types.

use crate::cli::{Args, Call, Command, bool, text};
use crate::discovery::Mapping;
use crate::error::{Error, Result};
use crate::openapi::Document;
use serde_json::Value;

/// The command.
pub static COMMAND: Command = Command {
    name: "explain",
    short: "Get documentation for a resource",
    long: "Describe fields and structure of various resources.\n\n This command describes the fields associated with each supported API resource. Fields are identified via a simple JSONPath identifier:\n\n        <type>.<fieldName>[.<fieldName>]\n\n Information about each field is retrieved from the server in OpenAPI format.",
    examples: "
        # A type, a field, everything below it
        {} explain pods
        {} explain deployment.spec.strategy
        {} explain pods.spec.containers --recursive",
    usage: "TYPE [--recursive=FALSE|TRUE] [--api-version=api-version-group] [-o|--output=plaintext|plaintext-openapiv2]",
    flags: &[&[
        text(
            "api-version",
            "",
            "Use given api-version (group/version) of the resource.",
        ),
        text(
            "output",
            "plaintext",
            "Format in which to render the schema. Valid values are: (plaintext, plaintext-openapiv2).",
        )
        .short('o'),
        bool(
            "recursive",
            "When true, print the name of all the fields recursively. Otherwise, print the available fields with their description.",
        ),
    ]],
    args: Args::Types,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    let [path] = call.args.as_slice() else {
        return Err(Error::new(if call.args.is_empty() {
            format!(
                "You must specify the type of resource to explain. Use \"{} api-resources\" for a complete list of supported resources.",
                crate::cli::PROGRAM
            )
        } else {
            "We accept only this format: explain RESOURCE".to_owned()
        }));
    };
    let output = call.str("output");
    if !matches!(output, "plaintext" | "plaintext-openapiv2") {
        return Err(Error::new(format!("unrecognized format: {output}")));
    }
    let (mapping, fields) = locate(&call, path).await?;
    let api = call.ctx.openapi().await?;
    let document = api.document(&mapping.api_version()).await?;
    let Some(schema) = document.kind(&mapping.api_version(), &mapping.kind) else {
        return Err(Error::new(format!(
            "GVR ({}, Resource={}) not found in OpenAPI schema",
            mapping.api_version(),
            mapping.plural
        )));
    };
    match page(&document, schema, &mapping, &fields, call.bool("recursive")) {
        Some(page) => {
            crate::out::print(&page);
            Ok(())
        }
        None => {
            crate::out::print(&head(&mapping));
            Err(Error::new(format!(
                "field {:?} does not exist",
                fields.last().map_or("", String::as_str)
            )))
        }
    }
}

/// The resource and the fields that `pods.spec.containers` or `deployments.v1.apps.spec` mean.
async fn locate(call: &Call, path: &str) -> Result<(std::rc::Rc<Mapping>, Vec<String>)> {
    let discovery = call.ctx.discovery().await?;
    let parts: Vec<&str> = path.split('.').collect();
    let version = call.str("api-version");
    // A longer name of a resource goes before fields.
    for take in (1..=parts.len()).rev() {
        let name = parts.get(..take).unwrap_or(&[]).join(".");
        if take > 1
            && parts
                .get(1)
                .is_some_and(|p| ["spec", "status", "metadata"].contains(p))
        {
            continue;
        }
        if let Some(m) = discovery.find(&name) {
            let exact = take == 1
                || m.group
                    .split('.')
                    .next()
                    .is_some_and(|g| !g.is_empty() && name.contains(g))
                || name.split('.').nth(1) == Some(&m.version);
            if !exact {
                continue;
            }
            let m = if version.is_empty() {
                m
            } else {
                let wanted = discovery
                    .all()
                    .find(|x| x.api_version() == version && x.plural == m.plural)
                    .cloned();
                wanted.ok_or_else(|| {
                    Error::new(format!(
                        "couldn't find resource for \"{version}, Resource={}\"",
                        m.plural
                    ))
                })?
            };
            return Ok((
                m,
                parts
                    .get(take..)
                    .unwrap_or(&[])
                    .iter()
                    .map(|p| (*p).to_owned())
                    .collect(),
            ));
        }
    }
    Err(Error::Raw(format!(
        "the server doesn't have a resource type {:?}",
        parts.first().copied().unwrap_or("")
    )))
}

/// What the page is about.
fn head(mapping: &Mapping) -> String {
    let group = if mapping.group.is_empty() {
        String::new()
    } else {
        format!("GROUP:      {}\n", mapping.group)
    };
    format!(
        "{group}KIND:       {}\nVERSION:    {}\n\n",
        mapping.kind, mapping.version
    )
}

/// The whole page; None if a field doesn't exist.
fn page(
    document: &Document,
    schema: &Value,
    mapping: &Mapping,
    fields: &[String],
    recursive: bool,
) -> Option<String> {
    let mut out = head(mapping);
    let mut here = schema;
    for (at, name) in fields.iter().enumerate() {
        here = into_field(document, here, name)?;
        if at + 1 == fields.len() {
            out.push_str(&format!("FIELD: {name} <{}>\n", type_of(document, here)));
            let values = enumeration(document, here, None, 0);
            out.push_str(if values.is_empty() { "\n" } else { &values });
            out.push('\n');
        }
    }
    out.push_str("DESCRIPTION:\n");
    let about = description(document, here);
    let about = if about.trim().is_empty() {
        "<empty>".to_owned()
    } else {
        about
    };
    out.push_str(&indent(&wrap(&about, 76), 4));
    out.push('\n');
    let mut list = String::new();
    field_list(document, here, 1, recursive, &mut Vec::new(), &mut list);
    if !list.is_empty() {
        out.push_str("FIELDS:\n");
        out.push_str(&list);
    }
    out.push('\n');
    Some(out)
}

/// The schema of a field, looked for through lists and maps.
fn into_field<'a>(document: &'a Document, schema: &'a Value, name: &str) -> Option<&'a Value> {
    let mut here = document.resolve(schema);
    for _ in 0..8 {
        if let Some(found) = here["properties"].get(name) {
            return Some(found);
        }
        if here["items"].is_object() {
            here = document.resolve(&here["items"]);
        } else if here["additionalProperties"].is_object() {
            here = document.resolve(&here["additionalProperties"]);
        } else {
            return None;
        }
    }
    None
}

/// `[]Container`, `map[string]string`
fn type_of(document: &Document, schema: &Value) -> String {
    if schema["items"].is_object() {
        return format!("[]{}", type_of(document, &schema["items"]));
    }
    if schema["additionalProperties"].is_object() {
        return format!(
            "map[string]{}",
            type_of(document, &schema["additionalProperties"])
        );
    }
    if let Some(name) = Document::reference(schema) {
        let resolved = document.resolve(schema);
        if resolved["properties"].is_object() || resolved["type"] == "object" {
            return name.rsplit('.').next().unwrap_or(name).to_owned();
        }
        return match resolved["type"].as_str() {
            Some("object") | None => name.rsplit('.').next().unwrap_or(name).to_owned(),
            Some(_) if resolved["format"].is_string() || resolved["oneOf"].is_array() => {
                name.rsplit('.').next().unwrap_or(name).to_owned()
            }
            Some(t) => t.to_owned(),
        };
    }
    match schema["type"].as_str() {
        Some("object") | None => "Object".to_owned(),
        Some(t) => t.to_owned(),
    }
}

/// The values that a field may have.
fn enumeration(document: &Document, schema: &Value, limit: Option<usize>, level: usize) -> String {
    let resolved = document.resolve(schema);
    let values = match (
        schema["enum"].as_array(),
        resolved["enum"].as_array(),
        resolved["items"]["enum"].as_array(),
    ) {
        (Some(v), _, _) | (None, Some(v), _) | (None, None, Some(v)) => v,
        _ => return String::new(),
    };
    let shown: Vec<String> = values
        .iter()
        .take(limit.unwrap_or(usize::MAX))
        .map(|v| match v.as_str() {
            Some("") => "\"\"".to_owned(),
            Some(s) => s.to_owned(),
            None => v.to_string(),
        })
        .collect();
    if limit.is_none() {
        return format!(
            "ENUM:\n{}",
            shown.iter().map(|v| format!("    {v}\n")).collect::<String>()
        );
    }
    let more = if values.len() > shown.len() { ", ...." } else { "" };
    format!("\n{}enum: {}{more}", " ".repeat(level * 2), shown.join(", "))
}

fn description(document: &Document, schema: &Value) -> String {
    let mut out = String::new();
    let mut push = |s: &Value| {
        if let Some(d) = s["description"].as_str() {
            out.push_str(d);
            out.push('\n');
        }
    };
    push(schema);
    let resolved = document.resolve(schema);
    if !std::ptr::eq(resolved, schema) {
        push(resolved);
    }
    for inner in ["items", "additionalProperties"] {
        if resolved[inner].is_object() {
            push(document.resolve(&resolved[inner]));
        }
    }
    out
}

fn field_list(
    document: &Document,
    schema: &Value,
    level: usize,
    recursive: bool,
    seen: &mut Vec<String>,
    out: &mut String,
) {
    let name = Document::reference(schema).map(str::to_owned);
    if let Some(n) = &name {
        if seen.contains(n) {
            return;
        }
        seen.push(n.clone());
    }
    let resolved = document.resolve(schema);
    let mut fields: Vec<(&String, &Value)> =
        resolved["properties"].as_object().into_iter().flatten().collect();
    fields.sort_by_key(|(k, _)| *k);
    for (key, field) in fields {
        let pad = "  ".repeat(level);
        let required = resolved["required"]
            .as_array()
            .is_some_and(|r| r.iter().any(|x| x == key));
        out.push_str(&format!(
            "{pad}{key}\t<{}>{}{}\n",
            type_of(document, field),
            if required { " -required-" } else { "" },
            enumeration(document, field, Some(4), level)
        ));
        if recursive {
            field_list(document, field, level + 1, recursive, seen, out);
        } else {
            let about = field["description"].as_str().unwrap_or("<no description>");
            out.push_str(&indent(&wrap(about, 78 - level * 2), level * 2 + 2));
            out.push_str("\n\n");
        }
    }
    for inner in ["items", "additionalProperties"] {
        if resolved[inner].is_object() {
            field_list(document, &resolved[inner], level, recursive, seen, out);
        }
    }
    if name.is_some() {
        seen.pop();
    }
}

/// Breaks lines at spaces; what is too long for a line stays whole.
pub fn wrap(text: &str, width: usize) -> String {
    let mut out = String::new();
    for (at, paragraph) in text.split('\n').enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let mut used = 0;
        let mut gap = 0;
        for word in paragraph.split(' ') {
            let length = word.chars().count();
            if word.is_empty() {
                gap += 1;
                continue;
            }
            if used > 0 && used + gap + length > width {
                out.push('\n');
                used = 0;
            } else {
                out.extend(std::iter::repeat_n(' ', gap));
                used += gap;
            }
            out.push_str(word);
            used += length;
            gap = 1;
        }
    }
    out
}

fn indent(text: &str, by: usize) -> String {
    let pad = " ".repeat(by);
    format!("{pad}{}", text.replace('\n', &format!("\n{pad}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pages_show_fields_with_types() {
        let schemas = json!({
            "io.X": {"description": "X is.", "required": ["name"], "properties": {
                "name": {"type": "string", "description": "The name."},
                "list": {"type": "array", "items": {"$ref": "#/components/schemas/io.Y"}, "description": "Ys."},
                "map": {"type": "object", "additionalProperties": {"type": "string"}}},
                "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "X"}]},
            "io.Y": {"description": "Y is.", "properties": {"a": {"type": "integer", "enum": [1, 2]}}},
        });
        let Value::Object(map) = schemas else {
            unreachable!()
        };
        let document = Document::new(map);
        let mapping = Mapping {
            kind: "X".into(),
            version: "v1".into(),
            ..Mapping::default()
        };
        let schema = document.kind("v1", "X").unwrap();
        let text = page(&document, schema, &mapping, &[], true).unwrap();
        assert!(
            text.starts_with("KIND:       X\nVERSION:    v1\n\nDESCRIPTION:\n    X is.\n    \n"),
            "{text}"
        );
        assert!(text.contains("  list\t<[]Y>\n"), "{text}");
        assert!(text.contains("map\t<map[string]string>"), "{text}");
        assert!(text.contains("name\t<string> -required-"), "{text}");
        assert!(page(&document, schema, &mapping, &["nope".into()], false).is_none());
        assert!(
            page(&document, schema, &mapping, &["list".into(), "a".into()], false)
                .unwrap()
                .contains("FIELD: a <integer>")
        );
    }

    #[test]
    fn texts_wrap_at_spaces() {
        assert_eq!(wrap("aaa bbb ccc", 7), "aaa bbb\nccc");
    }
}
