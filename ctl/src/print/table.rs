//! Tables: the server's `Table` objects as aligned text.

use super::tab::Columns;
use serde_json::Value;

/// How tables are shown.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// With the less important columns.
    pub wide: bool,
    /// No headers.
    pub no_headers: bool,
    /// A first column with the namespace.
    pub with_namespace: bool,
    /// Names as `kind/name`; the kind.
    pub kind: Option<String>,
    /// A last column with all labels.
    pub show_labels: bool,
    /// Columns for single labels.
    pub labels: Vec<String>,
    /// A first column with the watch event.
    pub events: bool,
}

/// Lays out the tables of one resource, page after page.
#[derive(Default)]
pub struct Printer {
    options: Options,
    columns: Columns,
    definitions: Vec<Value>,
    headed: bool,
}

impl Printer {
    /// With options.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// The rows of a table, headers first if they weren't printed yet.
    pub fn rows(&mut self, table: &Value, event: Option<&str>) -> Vec<Vec<String>> {
        if let Some(defs) = table["columnDefinitions"].as_array().filter(|d| !d.is_empty()) {
            self.definitions.clone_from(defs);
        }
        let mut out = Vec::new();
        if !self.headed && !self.options.no_headers {
            out.push(self.headers());
        }
        self.headed = true;
        for row in table["rows"].as_array().into_iter().flatten() {
            out.push(self.row(row, event));
        }
        out
    }

    /// Lays out rows.
    pub fn layout(&mut self, rows: &[Vec<String>]) -> String {
        self.columns.format(rows)
    }

    fn shown(&self) -> impl Iterator<Item = (usize, &Value)> {
        self.definitions
            .iter()
            .enumerate()
            .filter(|(_, d)| self.options.wide || d["priority"].as_i64().unwrap_or(0) == 0)
    }

    fn headers(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.options.events {
            out.push("EVENT".to_owned());
        }
        if self.options.with_namespace {
            out.push("NAMESPACE".to_owned());
        }
        out.extend(
            self.shown()
                .map(|(_, d)| d["name"].as_str().unwrap_or("").to_uppercase()),
        );
        for label in &self.options.labels {
            out.push(label.rsplit('/').next().unwrap_or(label).to_uppercase());
        }
        if self.options.show_labels {
            out.push("LABELS".to_owned());
        }
        out
    }

    fn row(&self, row: &Value, event: Option<&str>) -> Vec<String> {
        let meta = &row["object"]["metadata"];
        let mut out = Vec::new();
        if self.options.events {
            out.push(event.unwrap_or("").to_owned());
        }
        if self.options.with_namespace {
            out.push(meta["namespace"].as_str().unwrap_or("").to_owned());
        }
        for (at, definition) in self.shown() {
            let mut text = cell(&row["cells"][at]);
            if let Some(kind) = &self.options.kind
                && definition["format"].as_str() == Some("name")
            {
                text = format!("{kind}/{text}");
            }
            out.push(text);
        }
        for label in &self.options.labels {
            out.push(meta["labels"][label].as_str().unwrap_or("").to_owned());
        }
        if self.options.show_labels {
            out.push(labels(&meta["labels"]));
        }
        out
    }
}

/// Labels as `a=b,c=d`.
pub fn labels(map: &Value) -> String {
    let mut parts: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
        .collect();
    if parts.is_empty() {
        return "<none>".to_owned();
    }
    parts.sort();
    parts.join(",")
}

/// A cell's text: its first line, control characters made visible.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => match s.find(['\u{c}', '\n', '\r']) {
            Some(at) => format!("{}...", escape(s.get(..at).unwrap_or(""))),
            None => escape(s),
        },
        other => super::go_sprint(other),
    }
}

/// Terminal escapes must not reach the terminal.
pub fn escape(text: &str) -> String {
    if text.contains('\u{1b}') {
        text.replace('\u{1b}', "^[")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Value {
        json!({"kind": "Table",
            "columnDefinitions": [
                {"name": "Name", "format": "name", "priority": 0}, {"name": "Ready", "priority": 0},
                {"name": "Node", "priority": 1}],
            "rows": [
                {"cells": ["a", "1/1", "n1"], "object": {"metadata": {"namespace": "x", "labels": {"k": "v"}}}},
                {"cells": ["bb", 5, "line\nmore"], "object": {"metadata": {"namespace": "y"}}}]})
    }

    fn print(options: Options) -> String {
        let mut p = Printer::new(options);
        let rows = p.rows(&table(), None);
        p.layout(&rows)
    }

    #[test]
    fn tables_show_what_the_options_ask_for() {
        assert_eq!(print(Options::default()), "NAME   READY\na      1/1\nbb     5\n");
        assert_eq!(
            print(Options {
                wide: true,
                ..Options::default()
            }),
            "NAME   READY   NODE\na      1/1     n1\nbb     5       line...\n"
        );
        assert_eq!(
            print(Options {
                with_namespace: true,
                kind: Some("pod".into()),
                labels: vec!["x.io/k".into(), "k".into()],
                show_labels: true,
                ..Options::default()
            }),
            "NAMESPACE   NAME     READY   K   K   LABELS\nx           pod/a    1/1         v   k=v\ny           pod/bb   5               <none>\n"
                .replace("K   K   LABELS", "K     K     LABELS")
                .replace("1/1         v   k=v", "1/1           v     k=v")
                .replace("5               <none>", "5                   <none>")
        );
        assert_eq!(
            print(Options {
                no_headers: true,
                ..Options::default()
            }),
            "a     1/1\nbb    5\n"
        );
    }
}
