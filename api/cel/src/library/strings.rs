//! Texts. Positions count characters.

use super::{Authorizations, Functions, fail, int_of, list_of};
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::{Text, Value, as_text};

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, Int, String};
    let texts = || Type::list(String);
    f.member(
        "contains",
        "contains_string",
        &[String, String],
        Bool,
        |_, args| Ok(Value::Bool(as_text(&args[0])?.contains(as_text(&args[1])?))),
    );
    f.member(
        "endsWith",
        "ends_with_string",
        &[String, String],
        Bool,
        |_, args| Ok(Value::Bool(as_text(&args[0])?.ends_with(as_text(&args[1])?))),
    );
    f.member(
        "startsWith",
        "starts_with_string",
        &[String, String],
        Bool,
        |_, args| Ok(Value::Bool(as_text(&args[0])?.starts_with(as_text(&args[1])?))),
    );
    f.member("charAt", "string_char_at_int", &[String, Int], String, char_at);
    f.member(
        "indexOf",
        "string_index_of_string",
        &[String, String],
        Int,
        index_of,
    );
    f.member(
        "indexOf",
        "string_index_of_string_int",
        &[String, String, Int],
        Int,
        index_of,
    );
    f.member(
        "lastIndexOf",
        "string_last_index_of_string",
        &[String, String],
        Int,
        last_index_of,
    );
    f.member(
        "lastIndexOf",
        "string_last_index_of_string_int",
        &[String, String, Int],
        Int,
        last_index_of,
    );
    f.member(
        "lowerAscii",
        "string_lower_ascii",
        &[String],
        String,
        |_, args| Ok(Value::text(as_text(&args[0])?.to_ascii_lowercase())),
    );
    f.member(
        "upperAscii",
        "string_upper_ascii",
        &[String],
        String,
        |_, args| Ok(Value::text(as_text(&args[0])?.to_ascii_uppercase())),
    );
    f.member("trim", "string_trim", &[String], String, |_, args| {
        Ok(Value::text(as_text(&args[0])?.trim().to_owned()))
    });
    f.member(
        "replace",
        "string_replace_string_string",
        &[String, String, String],
        String,
        replace,
    );
    f.member(
        "replace",
        "string_replace_string_string_int",
        &[String, String, String, Int],
        String,
        replace,
    );
    f.member("split", "string_split_string", &[String, String], texts(), split);
    f.member(
        "split",
        "string_split_string_int",
        &[String, String, Int],
        texts(),
        split,
    );
    f.member(
        "substring",
        "string_substring_int",
        &[String, Int],
        String,
        substring,
    );
    f.member(
        "substring",
        "string_substring_int_int",
        &[String, Int, Int],
        String,
        substring,
    );
    f.member("join", "list_join", &[texts()], String, join);
    f.member("join", "list_join_string", &[texts(), String], String, join);
    f.global("strings.quote", "strings_quote", &[String], String, |_, args| {
        Ok(Value::text(quote(as_text(&args[0])?)))
    });
    const ESCAPE: &str = "jsonpatch.escapeKey";
    f.global(
        ESCAPE,
        "string_jsonpatch_escapeKey_string",
        &[String],
        String,
        |_, args| {
            Ok(Value::text(
                as_text(&args[0])?.replace('~', "~0").replace('/', "~1"),
            ))
        },
    );
    f.named(ESCAPE).mutating = true;
}

fn out_of_range<'a>(index: i64) -> Result<Value<'a>> {
    fail(format!("index out of range: {index}"))
}

fn char_at<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, index) = (as_text(&args[0])?, int_of(&args[1])?);
    let Ok(at) = usize::try_from(index) else {
        return out_of_range(index);
    };
    match text.chars().nth(at) {
        Some(c) => Ok(Value::text(c.to_string())),
        None if text.chars().count() == at => Ok(Value::text("")),
        None => out_of_range(index),
    }
}

/// The byte at which a character starts; the end for the one after the last.
fn byte_of(text: &str, at: usize) -> Option<usize> {
    text.char_indices().map(|(i, _)| i).chain([text.len()]).nth(at)
}

fn index_of<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, part) = (as_text(&args[0])?, as_text(&args[1])?);
    let offset = args.get(2).map(int_of).transpose()?.unwrap_or(0);
    if part.is_empty() {
        return Ok(Value::Int(offset));
    }
    let Ok(at) = usize::try_from(offset) else {
        return out_of_range(offset);
    };
    let found = byte_of(text, at).and_then(|from| text[from..].find(part).map(|i| from + i));
    Ok(Value::Int(found.map_or(-1, |i| text[..i].chars().count() as i64)))
}

fn last_index_of<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, part) = (as_text(&args[0])?, as_text(&args[1])?);
    let length = text.chars().count();
    let offset = match args.get(2) {
        Some(offset) => int_of(offset)?,
        None if part.is_empty() => return Ok(Value::Int(length as i64)),
        None => (length as i64 - 1).max(0),
    };
    if part.is_empty() {
        return Ok(Value::Int(offset));
    }
    let Ok(at) = usize::try_from(offset) else {
        return out_of_range(offset);
    };
    if at >= length {
        return Ok(Value::Int(-1));
    }
    // The part may start at `at` at the latest.
    let end = byte_of(text, at + part.chars().count()).unwrap_or(text.len());
    let found = text[..end].rfind(part);
    Ok(Value::Int(found.map_or(-1, |i| text[..i].chars().count() as i64)))
}

/// Go's `strings.Replace`: an empty text is found before every character and at the end.
fn replace<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, old, new) = (as_text(&args[0])?, as_text(&args[1])?, as_text(&args[2])?);
    let limit = args.get(3).map(int_of).transpose()?.unwrap_or(-1);
    Ok(Value::text(match usize::try_from(limit) {
        Ok(limit) => text.replacen(old, new, limit),
        Err(_) => text.replace(old, new),
    }))
}

fn split<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, separator) = (as_text(&args[0])?, as_text(&args[1])?);
    let limit = args.get(2).map(int_of).transpose()?.unwrap_or(-1);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut parts: Vec<&str> = Vec::new();
    if limit == 0 {
        return Ok(Value::list(Vec::new()));
    }
    if separator.is_empty() {
        let mut rest = text;
        while parts.len() + 1 < limit
            && let Some(c) = rest.chars().next()
        {
            let (first, others) = rest.split_at(c.len_utf8());
            parts.push(first);
            rest = others;
        }
        if !rest.is_empty() {
            parts.push(rest);
        }
    } else {
        parts.extend(text.splitn(limit, separator));
    }
    Ok(Value::list(
        parts
            .into_iter()
            .map(|part| Value::text(part.to_owned()))
            .collect(),
    ))
}

fn substring<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, start) = (as_text(&args[0])?, int_of(&args[1])?);
    let length = text.chars().count() as i64;
    let end = args.get(2).map(int_of).transpose()?;
    if let Some(end) = end
        && start > end
    {
        return fail(format!("invalid substring range. start: {start}, end: {end}"));
    }
    for index in [Some(start), end].into_iter().flatten() {
        if !(0..=length).contains(&index) {
            return out_of_range(index);
        }
    }
    let byte = |at: i64| byte_of(text, usize::try_from(at).unwrap_or_default()).unwrap_or(text.len());
    Ok(Value::text(
        text[byte(start)..byte(end.unwrap_or(length))].to_owned(),
    ))
}

fn join<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let separator = args.get(1).map(as_text).transpose()?.unwrap_or_default();
    let mut out = String::new();
    for (index, item) in list_of(&args[0])?.iter().enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        match item? {
            Value::String(text) => out.push_str(&text),
            other => {
                return Err(EvalError::new(format!(
                    "join: invalid input: {}",
                    super::formatting::shown(&other)
                )));
            }
        }
    }
    Ok(Value::String(Text::from(out)))
}

/// The text between double quotes, with what is not printable escaped.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
