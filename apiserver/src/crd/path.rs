//! The simple JSON paths of printer columns, scale and selectable fields.

use rutter_api::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Elements whose field has a value.
    Where(String, String),
}

/// A parsed path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct JsonPath(Vec<Step>);

impl JsonPath {
    /// Parses `.a.b[0]['c'][?(@.type=="Ready")].d`; none when it is something else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut steps = Vec::new();
        let mut rest = text.trim().trim_start_matches('$');
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let end = closing(after)?;
                steps.push(bracket(after.get(..end)?)?);
                rest = after.get(end + 1..)?;
                continue;
            }
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let mut name = String::new();
            let mut chars = rest.char_indices();
            let mut end = rest.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '\\' => name.extend(chars.next().map(|(_, c)| c)),
                    '.' | '[' => {
                        end = at;
                        break;
                    }
                    other => name.push(other),
                }
            }
            match name.as_str() {
                "" => return None,
                "*" => steps.push(Step::All),
                _ => steps.push(Step::Field(name)),
            }
            rest = rest.get(end..)?;
        }
        Some(Self(steps))
    }

    /// All values that the path leads to.
    pub(super) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| next(step, value)).collect();
        }
        found.retain(|value| !value.is_null());
        found
    }
}

fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, ']') => return Some(at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

fn unquoted(text: &str) -> Option<&str> {
    let text = text.trim();
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('\'').or_else(|| inner('"'))
}

fn bracket(text: &str) -> Option<Step> {
    let text = text.trim();
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(name) = unquoted(text) {
        return Some(Step::Field(name.to_owned()));
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        let (field, value) = filter.split_once("==")?;
        let field = field.trim().strip_prefix("@.")?;
        let value = unquoted(value).map_or_else(|| value.trim().to_owned(), str::to_owned);
        return Some(Step::Where(field.to_owned(), value));
    }
    text.parse().ok().map(Step::Index)
}

fn next<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Index(at), Value::Array(items)) => {
            let length = items.len() as i64;
            let at = if *at < 0 { length + at } else { *at };
            usize::try_from(at)
                .ok()
                .and_then(|at| items.get(at))
                .into_iter()
                .collect()
        }
        (Step::Where(field, wanted), Value::Array(items)) => items
            .iter()
            .filter(|item| match item.get(field) {
                Some(Value::String(text)) => text == wanted,
                Some(other) => serde_json::to_string(other).is_ok_and(|text| text == *wanted),
                None => false,
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_values() {
        let object = json!({
            "spec": {"a.b": 1, "list": [{"x": 1}, {"x": 2}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Bad", "status": "False"}]},
        });
        for (path, want) in [
            (".spec.list[0].x", json!([1])),
            (".spec.list[-1].x", json!([2])),
            (".spec.list[*].x", json!([1, 2])),
            (".spec['a.b']", json!([1])),
            (r".spec.a\.b", json!([1])),
            (
                r#".status.conditions[?(@.type=="Ready")].status"#,
                json!(["True"]),
            ),
            (".spec.nothing.here", json!([])),
        ] {
            assert_eq!(
                json!(JsonPath::parse(path).unwrap().find(&object)),
                want,
                "{path}"
            );
        }
        for path in ["..", ".a[", ".a[?(x)]"] {
            assert!(JsonPath::parse(path).is_none(), "{path}");
        }
    }
}
