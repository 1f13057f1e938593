//! Regular expressions, in RE2's syntax.

use super::{Authorizations, Functions, int_of};
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::{Value, as_text};
use regex::Regex;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, Int, String};
    f.global("matches", "matches", &[String, String], Bool, matches);
    f.member("matches", "matches_string", &[String, String], Bool, matches);
    f.member(
        "find",
        "string_find_string",
        &[String, String],
        String,
        |_, args| {
            let regex = regex(as_text(&args[1])?)?;
            let found = regex.find(as_text(&args[0])?).map_or("", |m| m.as_str());
            Ok(Value::text(found.to_owned()))
        },
    );
    let texts = || Type::list(String);
    f.member(
        "findAll",
        "string_find_all_string",
        &[String, String],
        texts(),
        find_all,
    );
    f.member(
        "findAll",
        "string_find_all_string_int",
        &[String, String, Int],
        texts(),
        find_all,
    );
}

fn matches<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(Value::Bool(
        regex(as_text(&args[1])?)?.is_match(as_text(&args[0])?),
    ))
}

fn find_all<'a>(_: &dyn Authorizations, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, regex) = (as_text(&args[0])?, regex(as_text(&args[1])?)?);
    let most = args.get(2).map(int_of).transpose()?.unwrap_or(-1);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let found = regex
        .find_iter(text)
        .take(most)
        .map(|m| Value::text(m.as_str().to_owned()));
    Ok(Value::list(found.collect()))
}

/// More compiled patterns than these aren't kept.
const MAX_KEPT: usize = 1024;

type Patterns = HashMap<Box<str>, Arc<Regex>, ahash::RandomState>;

static KEPT: LazyLock<Mutex<Patterns>> = LazyLock::new(Mutex::default);

fn regex(pattern: &str) -> Result<Arc<Regex>> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.get(pattern) {
        return Ok(known.clone());
    }
    let made = compile(pattern).map_err(|e| EvalError::new(format!("error parsing regexp: {e}")))?;
    let made = Arc::new(made);
    if kept.len() >= MAX_KEPT {
        kept.clear();
    }
    kept.insert(pattern.into(), made.clone());
    Ok(made)
}

/// The largest compiled pattern, in bytes.
const MAX_COMPILED: usize = 4 << 20;

/// A pattern of RE2's syntax.
pub(crate) fn compile(pattern: &str) -> std::result::Result<Regex, String> {
    let translated = translate(pattern);
    let mut builder = regex::RegexBuilder::new(&translated);
    builder.size_limit(MAX_COMPILED).build().map_err(|e| {
        let text = e.to_string();
        let last = text
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or_default();
        format!("{}: `{pattern}`", last.trim_start_matches("error: "))
    })
}

/// Where the syntaxes differ: RE2's classes are those of ASCII, it quotes with `\Q...\E`, and brackets in brackets mean
/// themselves.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    let mut class_start = false;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        let first = class_start;
        class_start = false;
        if c == '\\' {
            let next = rest[1..].chars().next();
            taken += next.map_or(0, char::len_utf8);
            match next {
                Some('d') => out.push_str(if in_class { "0-9" } else { "[0-9]" }),
                Some('w') => out.push_str(if in_class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
                Some('s') => out.push_str(if in_class {
                    "\\t\\n\\x0c\\r "
                } else {
                    "[\\t\\n\\x0c\\r ]"
                }),
                Some('D') => out.push_str("[^0-9]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('S') => out.push_str("[^\\t\\n\\x0c\\r ]"),
                Some('b') if !in_class => out.push_str("(?-u:\\b)"),
                Some('Q') => {
                    let quoted = &rest[2..];
                    let end = quoted.find("\\E").unwrap_or(quoted.len());
                    out.push_str(&regex::escape(&quoted[..end]));
                    taken = 2 + end + if end < quoted.len() { 2 } else { 0 };
                }
                _ => out.push_str(&rest[..taken]),
            }
        } else if in_class {
            match c {
                ']' if !first => {
                    in_class = false;
                    out.push(c);
                }
                '[' if rest.starts_with("[:") && rest.contains(":]") => {
                    taken = rest.find(":]").unwrap_or_default() + 2;
                    out.push_str(&rest[..taken]);
                }
                '^' if first => {
                    class_start = true;
                    out.push(c);
                }
                ']' | '[' | '&' | '~' => {
                    out.push('\\');
                    out.push(c);
                }
                '-' if rest.starts_with("--") => out.push_str("\\-"),
                _ => out.push(c),
            }
        } else {
            if c == '[' {
                in_class = true;
                class_start = true;
            }
            out.push(c);
        }
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_re2_reads_them() {
        for (pattern, text, want) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "\u{0661}", false),
            (r"^[\w-]+$", "a-b_1", true),
            (r"^[[a]+$", "[a", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]]+$", "ab", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"^[a&&b]+$", "a&", true),
        ] {
            assert_eq!(
                compile(pattern).map(|r| r.is_match(text)),
                Ok(want),
                "{pattern} {text}"
            );
        }
        assert!(compile("(").is_err());
    }
}
