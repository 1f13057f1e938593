//! Where a rule says that what is wrong is: `.spec.names['a.b']`.

use rutter_api::field::Path;
use serde_json::Value as Json;

/// The path that a rule's `fieldPath` names below the schema it belongs to, or why it names none.
pub(super) fn field_path(text: &str, schema: &Json) -> Result<Path, String> {
    const UNKNOWN: &str = "does not refer to a valid field";
    let mut path = Path::root();
    let mut schema = schema;
    let mut rest = text;
    while !rest.is_empty() {
        let name;
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[', ']']).unwrap_or(after.len());
            if end == 0 {
                return Err("unexpected end of JSON path".to_owned());
            }
            name = after[..end].to_owned();
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix('[') {
            let quoted = after.strip_prefix('\'').ok_or_else(|| {
                let token = after.split(['.', '[', ']']).next().unwrap_or_default();
                format!("expected single quoted string but got {token}")
            })?;
            let end = end_of_quote(quoted).ok_or("unexpected end of JSON path")?;
            name = unescape(&quoted[..end]).map_err(|why| format!("invalid string literal: {why}"))?;
            rest = quoted[end + 1..]
                .strip_prefix(']')
                .ok_or("unexpected end of JSON path")?;
        } else {
            let token = rest.split(['.', '[', ']']).next().unwrap_or_default();
            return Err(format!("expected [ or . but got: {token}"));
        }
        let values = schema.get("additionalProperties").filter(|s| s.is_object());
        schema = match (schema.get("properties"), values) {
            (Some(properties), _) => {
                path = path.child(&name);
                properties.get(&name).ok_or(UNKNOWN)?
            }
            (None, Some(values)) => {
                path = path.key(&name);
                values
            }
            (None, None) => return Err(UNKNOWN.to_owned()),
        };
    }
    Ok(path)
}

fn end_of_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find(|i| bytes[*i] == b'\'' && (*i == 0 || bytes[*i - 1] != b'\\'))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next() {
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some('\'') => '\'',
            Some('\\') => '\\',
            other => {
                return Err(format!(
                    "invalid escape char \\{}",
                    other.map(String::from).unwrap_or_default()
                ));
            }
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_follow_the_schema() {
        let schema = json!({"properties": {"a": {"properties": {"b.c": {}}}, "m": {"additionalProperties": {"type": "string"}}}});
        for (text, want) in [
            (".a", Ok("a")),
            (".a['b.c']", Ok("a.b.c")),
            (".m.x", Ok("m[x]")),
            (".m['x y']", Ok("m[x y]")),
            (".z", Err("does not refer to a valid field")),
            ("a", Err("expected [ or . but got: a")),
            (".m[x]", Err("expected single quoted string but got x")),
            (".m['x", Err("unexpected end of JSON path")),
        ] {
            let found = field_path(text, &schema);
            assert_eq!(
                found.as_ref().map(Path::as_str).map_err(String::as_str),
                want,
                "{text}"
            );
        }
    }
}
