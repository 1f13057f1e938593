//! Lines with levels and tab stops, and the blocks that many descriptions share.

use crate::duration::{age, rfc1123z};
use crate::print::{json, tab};
use rutter_api::Quantity;
use serde_json::Value;

/// Collects a description.
#[derive(Default)]
pub struct Writer {
    text: String,
    base: usize,
}

/// Writes a formatted line at a level.
#[macro_export]
macro_rules! line {
    ($w:expr, $level:expr, $($arg:tt)*) => { $w.line($level, &format!($($arg)*)) };
}

/// A field as text: texts bare, numbers, and nothing for null.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        Value::Number(n) => json::number(n),
        Value::Bool(b) => b.to_string(),
        other => crate::print::go_sprint(other),
    }
}

/// A field as a quantity; nothing if it isn't one.
pub fn quantity(value: &Value) -> Quantity {
    text(value).parse().unwrap_or_default()
}

/// A field as text, or what stands for nothing.
pub fn or(value: &Value, none: &str) -> String {
    let t = text(value);
    if t.is_empty() { none.to_owned() } else { t }
}

/// A whole number, 0 if absent.
pub fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// Items of an array, none if absent.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A timestamp in RFC 1123.
pub fn time(value: &Value) -> String {
    match value.as_str() {
        Some(t) => rfc1123z(t),
        None => "Mon, 01 Jan 0001 00:00:00 +0000".to_owned(),
    }
}

/// Labels in one line.
pub fn labels(value: &Value) -> String {
    crate::print::table::labels(value)
}

/// Strings of an array.
pub fn strings(value: &Value) -> Vec<String> {
    items(value).iter().map(text).collect()
}

/// Items joined, `[a b]` as Go prints a slice.
pub fn go_list(value: &Value) -> String {
    format!("[{}]", strings(value).join(" "))
}

impl Writer {
    /// Writes one line (more if the text has line breaks in it).
    pub fn line(&mut self, level: usize, text: &str) {
        self.indent(level);
        self.text.push_str(text);
        self.text.push('\n');
    }
    /// Writes text without a line's end.
    pub fn part(&mut self, level: usize, text: &str) {
        self.indent(level);
        self.text.push_str(text);
    }
    fn indent(&mut self, level: usize) {
        for _ in 0..level + self.base {
            self.text.push_str("  ");
        }
    }
    /// Deepens all levels.
    pub fn nest(&mut self, by: usize) {
        self.base += by;
    }
    /// Undoes [`Writer::nest`].
    pub fn unnest(&mut self, by: usize) {
        self.base -= by;
    }

    /// The description, its columns aligned.
    pub fn finish(self) -> String {
        tab::describe(&self.text)
    }

    /// The text with its tabs, where kubectl leaves them.
    pub fn unaligned(self) -> String {
        self.text
    }

    /// `Labels:  a=b` with one pair a line.
    pub fn pairs(&mut self, title: &str, map: &Value) {
        let mut pairs: Vec<(&String, String)> = map
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, v)| (k, text(v)))
            .collect();
        pairs.sort();
        if pairs.is_empty() {
            self.line(0, &format!("{title}:\t<none>"));
            return;
        }
        for (at, (k, v)) in pairs.iter().enumerate() {
            let head = if at == 0 {
                format!("{title}:")
            } else {
                String::new()
            };
            self.line(0, &format!("{head}\t{k}={v}"));
        }
    }

    /// Annotations: long ones on lines of their own, the applied manifest left out.
    pub fn annotations(&mut self, title: &str, map: &Value) {
        let mut pairs: Vec<(&String, String)> = map
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(k, _)| *k != crate::cmd::common::LAST_APPLIED)
            .map(|(k, v)| (k, text(v)))
            .collect();
        pairs.sort();
        if pairs.is_empty() {
            self.line(0, &format!("{title}:\t<none>"));
            return;
        }
        for (at, (key, value)) in pairs.iter().enumerate() {
            let head = if at == 0 {
                format!("{title}:\t")
            } else {
                "\t".to_owned()
            };
            let value = value.strip_suffix('\n').unwrap_or(value);
            if value.len() + key.len() + 2 > 140 || value.contains('\n') {
                self.line(0, &format!("{head}{key}:"));
                for part in value.split('\n') {
                    let mut part = part.to_owned();
                    if part.len() > 138 {
                        let cut = (0..=138).rev().find(|i| part.is_char_boundary(*i)).unwrap_or(0);
                        part.truncate(cut);
                        part.push_str("...");
                    }
                    self.line(0, &format!("\t  {part}"));
                }
            } else {
                self.line(0, &format!("{head}{key}: {value}"));
            }
        }
    }

    /// Name, namespace, labels and annotations.
    pub fn metadata(&mut self, object: &Value, namespaced: bool) {
        let meta = &object["metadata"];
        line!(self, 0, "Name:\t{}", text(&meta["name"]));
        if namespaced {
            line!(self, 0, "Namespace:\t{}", text(&meta["namespace"]));
        }
        self.pairs("Labels", &meta["labels"]);
        self.annotations("Annotations", &meta["annotations"]);
    }

    /// `Controlled By`, if there is a controller.
    pub fn controller(&mut self, object: &Value) {
        for owner in items(&object["metadata"]["ownerReferences"]) {
            if owner["controller"] == true {
                line!(
                    self,
                    0,
                    "Controlled By:\t{}/{}",
                    text(&owner["kind"]),
                    text(&owner["name"])
                );
                return;
            }
        }
    }

    /// Conditions as type, status and reason.
    pub fn conditions(&mut self, list: &Value) {
        if items(list).is_empty() {
            return;
        }
        self.line(0, "Conditions:\n  Type\tStatus\tReason");
        self.line(1, "----\t------\t------");
        for c in items(list) {
            line!(
                self,
                1,
                "{} \t{}\t{}",
                text(&c["type"]),
                text(&c["status"]),
                text(&c["reason"])
            );
        }
    }

    /// Tolerations, one a line.
    pub fn tolerations(&mut self, title: &str, list: &Value) {
        let mut all: Vec<&Value> = items(list).iter().collect();
        if all.is_empty() {
            self.line(0, &format!("{title}:\t<none>"));
            return;
        }
        all.sort_by_key(|t| text(&t["key"]));
        for (at, t) in all.into_iter().enumerate() {
            let mut out = if at == 0 {
                format!("{title}:\t")
            } else {
                "\t".to_owned()
            };
            let (key, value, effect) = (text(&t["key"]), text(&t["value"]), text(&t["effect"]));
            out.push_str(&key);
            if !value.is_empty() {
                out.push_str(&format!("={value}"));
            }
            if !effect.is_empty() {
                out.push_str(&format!(":{effect}"));
            }
            if t["operator"] == "Exists" && value.is_empty() {
                out.push_str(if key.is_empty() && effect.is_empty() {
                    "op=Exists"
                } else {
                    " op=Exists"
                });
            }
            if let Some(seconds) = t["tolerationSeconds"].as_i64() {
                out.push_str(&format!(" for {seconds}s"));
            }
            self.line(0, &out);
        }
    }

    /// The events of an object, None if they aren't to be shown.
    pub fn events(&mut self, events: Option<&[Value]>) {
        let Some(events) = events else { return };
        if events.is_empty() {
            self.line(0, "Events:\t<none>");
            return;
        }
        let mut sorted: Vec<&Value> = events.iter().collect();
        sorted.sort_by_key(|e| text(&e["lastTimestamp"]));
        self.line(0, "Events:\n  Type\tReason\tAge\tFrom\tMessage");
        self.line(1, "----\t------\t----\t----\t-------");
        for e in sorted {
            let source = match text(&e["source"]["component"]) {
                s if s.is_empty() => text(&e["reportingComponent"]),
                s => s,
            };
            let mut message = text(&e["message"]).trim().to_owned();
            let field = text(&e["involvedObject"]["fieldPath"]);
            if !field.is_empty() {
                message = format!("{field}: {message}");
            }
            line!(
                self,
                1,
                "{}\t{}\t{}\t{source}\t{message}",
                text(&e["type"]),
                text(&e["reason"]),
                interval(e)
            );
        }
    }
}

/// An event's age, with how often it came.
pub fn interval(e: &Value) -> String {
    let first = match e["eventTime"].as_str() {
        Some(t) => age(Some(t)),
        None => age(e["firstTimestamp"].as_str()),
    };
    if e["series"].is_object() {
        return format!(
            "{} (x{} over {first})",
            age(e["series"]["lastObservedTime"].as_str()),
            int(&e["series"]["count"])
        );
    }
    if int(&e["count"]) > 1 {
        return format!(
            "{} (x{} over {first})",
            age(e["lastTimestamp"].as_str()),
            int(&e["count"])
        );
    }
    first
}
