//! Any other kind: its metadata and its content, field by field.

use super::writer::{Writer, text};
use crate::line;
use serde_json::Value;

/// An object of whatever kind.
pub fn object(o: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    line!(w, 0, "Name:\t{}", text(&o["metadata"]["name"]));
    line!(w, 0, "Namespace:\t{}", text(&o["metadata"]["namespace"]));
    w.pairs("Labels", &o["metadata"]["labels"]);
    w.annotations("Annotations", &o["metadata"]["annotations"]);
    content(
        &mut w,
        0,
        o,
        "",
        &[
            ".metadata.managedFields",
            ".metadata.name",
            ".metadata.namespace",
            ".metadata.labels",
            ".metadata.annotations",
        ],
    );
    w.events(events);
    w.finish()
}

fn content(w: &mut Writer, level: usize, value: &Value, prefix: &str, skip: &[&str]) {
    let mut fields: Vec<(&String, &Value)> = value.as_object().into_iter().flatten().collect();
    fields.sort_by_key(|(k, _)| *k);
    for (key, value) in fields {
        let path = format!("{prefix}.{key}");
        if skip.contains(&path.as_str()) {
            continue;
        }
        let label = label(key);
        match value {
            Value::Object(_) => {
                line!(w, level, "{label}:");
                content(w, level + 1, value, &path, skip);
            }
            Value::Array(list) => {
                line!(w, level, "{label}:");
                for item in list {
                    if item.is_object() {
                        content(w, level + 1, item, &path, skip);
                    } else {
                        line!(w, level + 1, "{}", crate::print::go_sprint(item));
                    }
                }
            }
            other => line!(w, level, "{label}:\t{}", crate::print::go_sprint(other)),
        }
    }
}

/// `apiVersion` becomes `API Version`.
pub fn label(field: &str) -> String {
    if !field.chars().all(|c| c.is_alphabetic() || c == '-') {
        return field.to_owned();
    }
    let chars: Vec<char> = field.chars().collect();
    let mut parts: Vec<String> = Vec::new();
    for (at, &c) in chars.iter().enumerate() {
        let previous = at.checked_sub(1).and_then(|i| chars.get(i)).copied();
        let next = chars.get(at + 1).copied();
        let starts = match previous {
            None => true,
            Some(p) if p.is_alphabetic() != c.is_alphabetic() => true,
            Some(p) if c.is_uppercase() && p.is_lowercase() => true,
            Some(p) => c.is_uppercase() && p.is_uppercase() && next.is_some_and(char::is_lowercase),
        };
        if starts {
            parts.push(String::new());
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    let mut merged: Vec<String> = Vec::new();
    let mut rest = parts.into_iter().peekable();
    while let Some(part) = rest.next() {
        let upper = part.len() >= 2 && part.chars().all(|c| !c.is_alphabetic() || c.is_uppercase());
        match rest.next_if(|n| upper && n.starts_with(char::is_uppercase)) {
            Some(next) => merged.push(part + &next),
            None => merged.push(part),
        }
    }
    merged
        .into_iter()
        .map(|part| {
            if ["API", "URL", "UID", "GUID"].contains(&part.to_uppercase().as_str()) {
                part.to_uppercase()
            } else if part == part.to_lowercase() {
                let mut chars = part.chars();
                chars
                    .next()
                    .map(|c| c.to_uppercase().collect::<String>() + chars.as_str())
                    .unwrap_or_default()
            } else {
                part
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_become_labels() {
        for (field, expected) in [
            ("apiVersion", "API Version"),
            ("kind", "Kind"),
            ("uid", "UID"),
            ("creationTimestamp", "Creation Timestamp"),
            ("app.kubernetes.io/name", "app.kubernetes.io/name"),
            ("clusterIP", "Cluster IP"),
        ] {
            assert_eq!(label(field), expected);
        }
    }
}
