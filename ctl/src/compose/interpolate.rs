//! `${VARIABLE}` in the texts of a Compose file, and `.env` files.

use super::Report;
use serde_json::Value;

/// Replaces variables in all texts below a value. Keys stay as they are.
///
/// Knows `$X`, `${X}`, `${X-default}`, `${X:-default}`, `${X?error}`, `${X:?error}`, `${X+other}`, `${X:+other}`; with a
/// colon an empty variable counts as unset. Defaults may hold variables. `$$` is a dollar sign. A variable that is unset
/// and has no default is empty, with a warning.
pub fn interpolate(value: &mut Value, path: &str, get: &dyn Fn(&str) -> Option<String>, report: &mut Report) {
    match value {
        Value::String(text) if text.contains('$') => match replace(text, get) {
            Ok((new, unset)) => {
                for name in unset {
                    report.warn(path, format!("the variable {name} is not set: it is left empty"));
                }
                *text = new;
            }
            Err(why) => report.refuse(path, why),
        },
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                interpolate(item, &format!("{path}[{at}]"), get, report);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                let place = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                interpolate(item, &place, get, report);
            }
        }
        _ => {}
    }
}

/// The text with its variables replaced, and the names of those that are unset.
fn replace(text: &str, get: &dyn Fn(&str) -> Option<String>) -> Result<(String, Vec<String>), String> {
    let mut out = String::new();
    let mut unset = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(rest.get(..at).unwrap_or(""));
        rest = rest.get(at + 1..).unwrap_or("");
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| format!("invalid interpolation format: {text:?}"))?;
            let inner = after.get(..end).unwrap_or("");
            out.push_str(&braced(inner, get, &mut unset)?);
            rest = after.get(end + 1..).unwrap_or("");
        } else {
            let name = name_of(rest);
            if name.is_empty() {
                return Err(format!(
                    "invalid interpolation format: {text:?}; a dollar sign itself is written $$"
                ));
            }
            match get(name) {
                Some(value) => out.push_str(&value),
                None => unset.push(name.to_owned()),
            }
            rest = rest.get(name.len()..).unwrap_or("");
        }
    }
    out.push_str(rest);
    Ok((out, unset))
}

/// Where the brace that opened before this text closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if previous == '$' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        previous = c;
    }
    None
}

fn name_of(text: &str) -> &str {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return "";
    }
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    text.get(..end).unwrap_or("")
}

fn braced(
    inner: &str,
    get: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
) -> Result<String, String> {
    let name = name_of(inner);
    let after = inner.get(name.len()..).unwrap_or("");
    if name.is_empty() {
        return Err(format!("invalid interpolation format: \"${{{inner}}}\""));
    }
    let (empty_counts, operator) = match after.strip_prefix(':') {
        Some(operator) => (true, operator),
        None => (false, after),
    };
    let value = get(name).filter(|v| !(empty_counts && v.is_empty()));
    let mut nested = |text: &str| {
        let (done, missing) = replace(text, get)?;
        unset.extend(missing);
        Ok::<String, String>(done)
    };
    let mut chars = operator.chars();
    match (chars.next(), value) {
        (None, Some(value)) if !empty_counts => Ok(value),
        (None, None) if !empty_counts => {
            unset.push(name.to_owned());
            Ok(String::new())
        }
        (Some('-'), Some(value)) | (Some('?'), Some(value)) => Ok(value),
        (Some('-'), None) => nested(chars.as_str()),
        (Some('+'), Some(_)) => nested(chars.as_str()),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let why = nested(chars.as_str())?;
            Err(if why.is_empty() {
                format!("required variable {name} is missing a value")
            } else {
                format!("required variable {name} is missing a value: {why}")
            })
        }
        _ => Err(format!("invalid interpolation format: \"${{{inner}}}\"")),
    }
}

/// Reads a `.env` file: `KEY=VALUE` lines, `export` before them, comments, quotes; values outside single quotes are
/// interpolated by what came before and by `get`.
///
/// # Errors
/// The line that is none of these.
pub(super) fn dotenv(
    text: &str,
    get: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(String, Option<String>)>, String> {
    let mut out: Vec<(String, Option<String>)> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some((key, value)) = line.split_once('=') else {
            let key = line.trim();
            if key.contains(char::is_whitespace) {
                return Err(format!("line {}: expected KEY=VALUE", at + 1));
            }
            out.push((key.to_owned(), get(key)));
            continue;
        };
        let key = key.trim();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(format!("line {}: expected KEY=VALUE", at + 1));
        }
        let mut value = value.trim_start().to_owned();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        if let Some(quote) = quote {
            // A quoted value may go on over lines.
            while unquoted_end(&value, quote).is_none() {
                let Some((_, next)) = lines.next() else {
                    return Err(format!("line {}: a quote isn't closed", at + 1));
                };
                value.push('\n');
                value.push_str(next);
            }
            let end = unquoted_end(&value, quote).unwrap_or(value.len());
            value = value.get(1..end).unwrap_or("").to_owned();
        } else {
            let end = value.find(" #").unwrap_or(value.len());
            value = value.get(..end).unwrap_or("").trim_end().to_owned();
        }
        if quote != Some('\'') {
            if quote == Some('"') {
                value = unescape(&value);
            }
            let known = |name: &str| {
                let own = out.iter().rev().find(|(k, _)| k == name);
                get(name).or_else(|| own.and_then(|(_, v)| v.clone()))
            };
            value = replace(&value, &known)
                .map_err(|why| format!("line {}: {why}", at + 1))?
                .0;
        }
        out.push((key.to_owned(), Some(value)));
    }
    Ok(out)
}

/// Where a quoted value ends.
fn unquoted_end(value: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    value.char_indices().skip(1).find_map(|(at, c)| {
        if escaped {
            escaped = false;
            return None;
        }
        escaped = c == '\\' && quote == '"';
        (c == quote).then_some(at)
    })
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('$') => out.push_str("$$"),
            Some(c @ ('"' | '\\' | '\'')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(name: &str) -> Option<String> {
        match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_with_their_defaults_and_errors() {
        for (text, want) in [
            ("$A-x", Ok("a-x")),
            ("${A}b", Ok("ab")),
            ("${NONE:-d}", Ok("d")),
            ("${EMPTY:-d}", Ok("d")),
            ("${EMPTY-d}", Ok("")),
            ("${NONE:-${A}/${NONE:-z}}", Ok("a/z")),
            ("${A:+set}", Ok("set")),
            ("${NONE:+set}", Ok("")),
            ("${EMPTY+set}", Ok("set")),
            ("$$A $${A}", Ok("$A ${A}")),
            ("${A:?no}", Ok("a")),
            ("$NONE", Ok("")),
            (
                "${NONE:?say it}",
                Err("required variable NONE is missing a value: say it"),
            ),
            ("${EMPTY:?}", Err("required variable EMPTY is missing a value")),
            ("${A", Err("invalid interpolation format: \"${A\"")),
            (
                "5$",
                Err("invalid interpolation format: \"5$\"; a dollar sign itself is written $$"),
            ),
            ("${A!}", Err("invalid interpolation format: \"${A!}\"")),
        ] {
            assert_eq!(
                replace(text, &get).map(|r| r.0),
                want.map(str::to_owned).map_err(str::to_owned),
                "{text}"
            );
        }
        assert_eq!(replace("$NONE${ALSO}", &get).unwrap().1, ["NONE", "ALSO"]);
    }

    #[test]
    fn env_files_are_read() {
        let text = "# c\nexport X=1\nY = two # note\nQ=\"a\\n$A \\$A\" # c\nS='$A'\nM=\"l1\nl2\"\nP=${X}/$A\nA\nNONE\n";
        let got = dotenv(text, &get).unwrap();
        let want = [
            ("X", Some("1")),
            ("Y", Some("two")),
            ("Q", Some("a\na $A")),
            ("S", Some("$A")),
            ("M", Some("l1\nl2")),
            ("P", Some("1/a")),
            ("A", Some("a")),
            ("NONE", None),
        ];
        let got: Vec<(&str, Option<&str>)> = got.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        assert_eq!(got, want);
        assert_eq!(dotenv("a b", &get), Err("line 1: expected KEY=VALUE".to_owned()));
        assert_eq!(
            dotenv("\nX='", &get),
            Err("line 2: a quote isn't closed".to_owned())
        );
    }
}
