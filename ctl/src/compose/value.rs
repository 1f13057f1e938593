//! Reading values as Compose writes them: numbers in quotes, maps as lists, sizes, durations, command lines; and the
//! names that the cluster allows.

use serde_json::Value;

/// A scalar as text; nothing for null, lists and maps.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(crate::print::json::number(n)),
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

/// A whole number, in quotes or not.
pub(super) fn int(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// A number, in quotes or not.
pub(super) fn float(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// A bool, in quotes or not.
pub(super) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::String(s) => match s.to_ascii_lowercase().as_str() {
            "true" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "no" | "n" | "off" | "0" | "" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A text or a list of texts, as a list.
pub(super) fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(text).collect(),
        other => text(other).into_iter().collect(),
    }
}

/// `KEY=VALUE` items, or a map: keys with their values, in order; a key alone has none.
pub(super) fn pairs(value: &Value) -> Vec<(String, Option<String>)> {
    match value {
        Value::Array(items) => items
            .iter()
            .filter_map(text)
            .map(|item| match item.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (item, None),
            })
            .collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), text(value)))
            .collect(),
        _ => Vec::new(),
    }
}

/// A command line: a list as it is, a text split as a shell splits it. None for a quote that isn't closed.
pub(super) fn words(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(_) => Some(strings(value)),
        other => split(&text(other).unwrap_or_default()),
    }
}

/// Splits at blanks outside quotes.
fn split(line: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('"') | None, '\\') => {
                let next = chars.next()?;
                let into = word.get_or_insert_with(String::new);
                if quote.is_some() && !matches!(next, '"' | '\\' | '$' | '`') {
                    into.push('\\');
                }
                into.push(next);
            }
            (Some(_), c) => word.get_or_insert_with(String::new).push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_with(String::new);
            }
            (None, c) if c.is_whitespace() => out.extend(word.take()),
            (None, c) => word.get_or_insert_with(String::new).push(c),
        }
    }
    out.extend(word);
    quote.is_none().then_some(out)
}

/// A size: `512M`, `1gb`, `64k`, bytes. All units are powers of 1024.
pub(super) fn bytes(value: &Value) -> Option<i64> {
    if let Some(n) = value.as_i64() {
        return Some(n);
    }
    let text = value.as_str()?.trim().to_ascii_lowercase();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text.get(..end)?.parse().ok()?;
    let shift = match text.get(end..)?.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    #[allow(clippy::cast_possible_truncation)]
    Some((number * f64::from(1u32 << (shift / 2)) * f64::from(1u32 << (shift - shift / 2))) as i64)
}

/// A duration in whole seconds, rounded up.
pub(super) fn seconds(value: &Value) -> Option<i64> {
    if let Some(n) = value.as_i64() {
        return Some(n);
    }
    let text = value.as_str()?;
    // Compose counts in weeks and days, too; the rest is Go's notation.
    let nanos = match text.strip_suffix('d').and_then(|n| n.parse::<i64>().ok()) {
        Some(days) => days.checked_mul(86_400_000_000_000)?,
        None => crate::duration::parse(text).ok()?,
    };
    Some(nanos.div_euclid(1_000_000_000) + i64::from(nanos.rem_euclid(1_000_000_000) > 0))
}

/// A file mode: a number, or octal digits in quotes.
pub(super) fn mode(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64(),
        Value::String(s) => i64::from_str_radix(s.trim_start_matches("0o"), 8).ok(),
        _ => None,
    }
}

/// Keeps `$(NAME)` from being expanded: in Compose it is text.
pub(super) fn literal(text: &str) -> String {
    text.replace("$(", "$$(")
}

/// The nearest name that a Service or a container may have.
pub(super) fn dns_label(name: &str) -> String {
    let mut out: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    out.truncate(63);
    let out = out.trim_matches('-');
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        format!("s{out}")
    } else {
        out.to_owned()
    }
}

/// The nearest value that a label may have.
pub(super) fn label(text: &str) -> String {
    let mut out: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    out.truncate(63);
    out.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// A key of a ConfigMap or a Secret.
pub(super) fn data_key(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect()
}
