//! KYAML: YAML's flow style with quoted texts and braces, whose indentation carries no meaning.

use serde_json::Value;

/// Writes a document.
pub fn to_string(value: &Value) -> String {
    let mut out = String::from("---\n");
    node(value, 0, &mut out);
    out.push('\n');
    out
}

fn indent(level: usize, out: &mut String) {
    for _ in 0..level {
        out.push_str("  ");
    }
}

fn node(value: &Value, level: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            out.push_str("{\n");
            for key in keys {
                indent(level + 1, out);
                out.push_str(&key_text(key));
                out.push_str(": ");
                node(map.get(key).unwrap_or(&Value::Null), level + 1, out);
                out.push_str(",\n");
            }
            indent(level, out);
            out.push('}');
        }
        Value::Object(_) => out.push_str("{}"),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) if items.iter().all(|i| i.is_object() || i.is_array()) => {
            // Brackets of lists of objects cuddle.
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                node(item, level, out);
            }
            out.push(']');
        }
        Value::Array(items) => {
            out.push_str("[\n");
            for item in items {
                indent(level + 1, out);
                node(item, level + 1, out);
                out.push_str(",\n");
            }
            indent(level, out);
            out.push(']');
        }
        Value::String(s) => out.push_str(&text(s, level)),
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => out.push_str(&super::json::number(n)),
    }
}

fn key_text(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !matches!(
            key.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    if plain {
        key.to_owned()
    } else {
        crate::error::go_quote(key)
    }
}

fn text(s: &str, level: usize) -> String {
    if !s.contains('\n') || s.trim_end_matches('\n').is_empty() {
        return quote(s);
    }
    // Texts of several lines stay readable: each line on its own, the newline escaped.
    let mut out = String::from("\"\\\n");
    let lines: Vec<&str> = s.split_inclusive('\n').collect();
    for line in &lines {
        for _ in 0..=level {
            out.push_str("  ");
        }
        let inner = quote(line);
        let inner = inner.get(1..inner.len() - 1).unwrap_or("").to_owned();
        // A line that begins with a space needs it marked, as indentation is dropped.
        let inner = if inner.starts_with(' ') {
            format!("\\{inner}")
        } else {
            format!(" {inner}")
        };
        out.push_str(&inner);
        out.push_str("\\\n");
    }
    for _ in 0..=level {
        out.push_str("  ");
    }
    out.push('"');
    out
}

fn quote(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
