//! URLs, as Go's `net/url` reads them.

use super::{Authorizations, Functions, native_of, object};
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::{Key, Map, Native, Text, Url, Value, as_text};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn declare(f: &mut Functions) {
    let url = || object(Native::URL);
    f.global(
        "url",
        "string_to_url",
        &[Type::String],
        url(),
        |_: &dyn Authorizations, args| {
            let parsed = parse(as_text(&args[0])?).map_err(|why| {
                EvalError::new(format!("URL parse error during conversion from string: {why}"))
            })?;
            Ok(Value::Native(Native::Url(Arc::new(parsed))))
        },
    );
    f.global(
        "isURL",
        "is_url_string",
        &[Type::String],
        Type::Bool,
        |_, args| Ok(Value::Bool(parse(as_text(&args[0])?).is_ok())),
    );
    f.member(
        "getScheme",
        "url_get_scheme",
        &[url()],
        Type::String,
        |_, args| Ok(Value::text(of(&args[0])?.scheme.clone())),
    );
    f.member("getHost", "url_get_host", &[url()], Type::String, |_, args| {
        Ok(Value::text(of(&args[0])?.host.clone()))
    });
    f.member(
        "getHostname",
        "url_get_hostname",
        &[url()],
        Type::String,
        |_, args| Ok(Value::text(host_and_port(&of(&args[0])?.host).0.to_owned())),
    );
    f.member("getPort", "url_get_port", &[url()], Type::String, |_, args| {
        Ok(Value::text(host_and_port(&of(&args[0])?.host).1.to_owned()))
    });
    f.member(
        "getEscapedPath",
        "url_get_escaped_path",
        &[url()],
        Type::String,
        |_, args| Ok(Value::text(escaped_path(&of(&args[0])?.path))),
    );
    let query = Type::map(Type::String, Type::list(Type::String));
    f.member("getQuery", "url_get_query", &[url()], query, |_, args| {
        let mut values: BTreeMap<Key<'_>, Vec<Value<'_>>> = BTreeMap::new();
        for pair in of(&args[0])?
            .query
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(key), Some(value)) = (unescape(key, true), unescape(value, true)) else {
                continue;
            };
            values
                .entry(Key::String(Text::from(key)))
                .or_default()
                .push(Value::text(value));
        }
        let values = values.into_iter().map(|(key, list)| (key, Value::list(list)));
        Ok(Value::Map(Map::Made(Arc::new(values.collect()))))
    });
}

fn of<'v>(value: &'v Value<'_>) -> Result<&'v Url> {
    match native_of(value)? {
        Native::Url(url) => Ok(url),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn host_and_port(host: &str) -> (&str, &str) {
    let (name, port) = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => (&host[..colon], &host[colon + 1..]),
        _ => (host, ""),
    };
    let name = name
        .strip_prefix('[')
        .and_then(|n| n.strip_suffix(']'))
        .unwrap_or(name);
    (name, port)
}

/// A URL that could stand in a request: absolute, or an absolute path.
pub(super) fn parse(text: &str) -> std::result::Result<Url, String> {
    let bad = |why: &str| format!("parse {text:?}: {why}");
    if text.is_empty() {
        return Err(bad("empty url"));
    }
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err(bad("net/url: invalid control character in URL"));
    }
    let (scheme, rest) = scheme(text).map_err(|why| bad(&why))?;
    let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = match rest.strip_prefix("//") {
        Some(after) if !scheme.is_empty() || !rest.starts_with("///") => {
            let end = after.find('/').unwrap_or(after.len());
            (after[..end].to_owned(), &after[end..])
        }
        _ if rest.starts_with('/') => (String::new(), rest),
        _ if scheme.is_empty() => return Err(bad("invalid URI for request")),
        // Something opaque, such as mailto:a@b.
        _ => (String::new(), ""),
    };
    let host = host
        .rsplit_once('@')
        .map_or(host.as_str(), |(_, host)| host)
        .to_owned();
    check_host(&host).map_err(|why| bad(&why))?;
    if unescape(path, false).is_none() {
        return Err(bad(&format!("invalid URL escape {:?}", bad_escape(path))));
    }
    Ok(Url {
        text: text.to_owned(),
        scheme: scheme.to_ascii_lowercase(),
        host: unescape(&host, false).unwrap_or(host),
        path: path.to_owned(),
        query: query.to_owned(),
    })
}

fn scheme(text: &str) -> std::result::Result<(&str, &str), String> {
    for (i, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    let before = text.split('/').next().unwrap_or_default();
    if before.contains(':') {
        return Err("first path segment in URL cannot contain colon".to_owned());
    }
    Ok(("", text))
}

fn check_host(host: &str) -> std::result::Result<(), String> {
    let port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        host.rfind(':').map_or("", |colon| &host[colon..])
    };
    let digits = port.strip_prefix(':');
    if !port.is_empty() && !digits.is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("invalid port {port:?} after host"));
    }
    if let Some(c) = host
        .chars()
        .find(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
    {
        return Err(format!("invalid character {:?} in host name", c.to_string()));
    }
    Ok(())
}

fn bad_escape(text: &str) -> &str {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let code = rest.get(at + 1..at + 3);
        if !code.is_some_and(|c| c.bytes().all(|b| b.is_ascii_hexdigit())) {
            return rest.get(at..at + 3).unwrap_or(&rest[at..]);
        }
        rest = &rest[at + 3..];
    }
    ""
}

fn unescape(text: &str, plus: bool) -> Option<String> {
    if !bad_escape(text).is_empty() {
        return None;
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                out.push(u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok()?);
                at += 3;
            }
            b'+' if plus => {
                out.push(b' ');
                at += 1;
            }
            b => {
                out.push(b);
                at += 1;
            }
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// The path as it was written, if everything in it that must be escaped is; else escaped.
fn escaped_path(path: &str) -> String {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@/[]%".contains(&b);
    if path.bytes().all(fits) {
        return path.to_owned();
    }
    let plain = unescape(path, false).unwrap_or_default();
    let mut out = String::with_capacity(plain.len());
    for b in plain.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}
