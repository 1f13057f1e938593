//! JSON as Go prints it: four spaces, sorted keys, `<`, `>` and `&` escaped.

use serde_json::{Number, Value};
use std::fmt::Write as _;

/// Pretty, with a newline at the end.
pub fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write(value, Some(0), "    ", &mut out);
    out.push('\n');
    out
}

/// Pretty with another indentation, no newline at the end.
pub fn indented(value: &Value, indent: &str) -> String {
    let mut out = String::new();
    write(value, Some(0), indent, &mut out);
    out
}

/// On one line.
pub fn compact(value: &Value) -> String {
    let mut out = String::new();
    write(value, None, "", &mut out);
    out
}

/// A number as Go's encoder writes it.
pub fn number(n: &Number) -> String {
    if n.is_i64() || n.is_u64() {
        return n.to_string();
    }
    float(n.as_f64().unwrap_or(0.0))
}

/// A float as Go's JSON encoder writes it.
pub fn float(f: f64) -> String {
    let magnitude = f.abs();
    if f != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{f:e}");
        return match text.split_once('e') {
            Some((m, e)) if !e.starts_with('-') => format!("{m}e+{e:0>2}"),
            Some((m, e)) => format!("{m}e-{}", e.trim_start_matches('-')),
            None => text,
        };
    }
    format!("{f}")
}

fn newline(level: Option<usize>, indent: &str, out: &mut String) {
    if let Some(level) = level {
        out.push('\n');
        for _ in 0..level {
            out.push_str(indent);
        }
    }
}

fn write(value: &Value, level: Option<usize>, indent: &str, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => out.push_str(&number(n)),
        Value::String(s) => string(s, out),
        Value::Array(items) => {
            out.push('[');
            let inner = level.map(|l| l + 1);
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                newline(inner, indent, out);
                write(item, inner, indent, out);
            }
            if !items.is_empty() {
                newline(level, indent, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            let inner = level.map(|l| l + 1);
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            for (at, key) in keys.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                newline(inner, indent, out);
                string(key, out);
                out.push(':');
                if level.is_some() {
                    out.push(' ');
                }
                write(map.get(*key).unwrap_or(&Value::Null), inner, indent, out);
            }
            if !map.is_empty() {
                newline(level, indent, out);
            }
            out.push('}');
        }
    }
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string can't fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_gos() {
        assert_eq!(
            pretty(&json!({"b": [1, 0.5], "a": "<x>&", "c": {}, "d": []})),
            "{\n    \"a\": \"\\u003cx\\u003e\\u0026\",\n    \"b\": [\n        1,\n        0.5\n    ],\n    \"c\": {},\n    \"d\": []\n}\n"
        );
        assert_eq!(compact(&json!({"a": [1, "x"]})), r#"{"a":[1,"x"]}"#);
        assert_eq!(number(&Number::from_f64(1e21).unwrap()), "1e+21");
    }
}
