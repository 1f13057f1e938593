//! Semantic versions.

use super::{Authorizations, Functions, bool_of, native_of, object};
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::{Native, PreRelease, Semver, Value, as_text};
use std::cmp::Ordering;
use std::sync::Arc;

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, Int, String};
    let v = || object(Native::SEMVER);
    for (id, params) in [
        ("string_to_semver", &[String][..]),
        ("string_bool_to_semver", &[String, Bool][..]),
    ] {
        f.global("semver", id, params, v(), |_: &dyn Authorizations, args| {
            let parsed = read(args)?.map_err(EvalError::new)?;
            Ok(Value::Native(Native::Semver(Arc::new(parsed))))
        });
    }
    for (id, params) in [
        ("is_semver_string", &[String][..]),
        ("is_semver_string_bool", &[String, Bool][..]),
    ] {
        f.global("isSemver", id, params, Bool, |_, args| {
            Ok(Value::Bool(read(args)?.is_ok()))
        });
    }
    f.member(
        "isGreaterThan",
        "semver_is_greater_than",
        &[v(), v()],
        Bool,
        |_, args| Ok(Value::Bool(order(args)? == Ordering::Greater)),
    );
    f.member(
        "isLessThan",
        "semver_is_less_than",
        &[v(), v()],
        Bool,
        |_, args| Ok(Value::Bool(order(args)? == Ordering::Less)),
    );
    f.member("compareTo", "semver_compare_to", &[v(), v()], Int, |_, args| {
        Ok(Value::Int(order(args)? as i64))
    });
    f.member("major", "semver_major", &[v()], Int, |_, args| number(args, 0));
    f.member("minor", "semver_minor", &[v()], Int, |_, args| number(args, 1));
    f.member("patch", "semver_patch", &[v()], Int, |_, args| number(args, 2));
}

fn of<'v>(value: &'v Value<'_>) -> Result<&'v Semver> {
    match native_of(value)? {
        Native::Semver(version) => Ok(version),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn order(args: &[Value<'_>]) -> Result<Ordering> {
    Ok(of(&args[0])?.cmp(of(&args[1])?))
}

fn number<'a>(args: &[Value<'a>], index: usize) -> Result<Value<'a>> {
    Ok(Value::Int(of(&args[0])?.numbers[index] as i64))
}

fn read(args: &[Value<'_>]) -> Result<std::result::Result<Semver, String>> {
    let text = as_text(&args[0])?;
    let normalize = args.get(1).map(bool_of).transpose()?.unwrap_or_default();
    Ok(if normalize {
        normalized(text).and_then(|text| parse(&text))
    } else {
        parse(text)
    })
}

/// Without a leading `v` and leading zeros, with minor and patch.
fn normalized(text: &str) -> std::result::Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
    for part in &mut parts {
        if part.len() > 1 {
            let trimmed = part.trim_start_matches('0');
            let digit = trimmed.starts_with(|c: char| c.is_ascii_digit());
            *part = if digit {
                trimmed.to_owned()
            } else {
                format!("0{trimmed}")
            };
        }
    }
    if parts.len() < 3 {
        if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
            return Err("short version cannot contain PreRelease/Build meta data".to_owned());
        }
        parts.resize(3, "0".to_owned());
    }
    Ok(parts.join("."))
}

fn parse(text: &str) -> std::result::Result<Semver, String> {
    if text.is_empty() {
        return Err("Version string empty".to_owned());
    }
    let parts: Vec<&str> = text.splitn(3, '.').collect();
    let [major, minor, patch] = parts.as_slice() else {
        return Err("No Major.Minor.Patch elements found".to_owned());
    };
    let (patch, build) = patch
        .split_once('+')
        .map_or((*patch, None), |(p, b)| (p, Some(b)));
    let (patch, pre) = patch.split_once('-').map_or((patch, None), |(p, b)| (p, Some(b)));
    let numbers = [
        version_number(major, "Major")?,
        version_number(minor, "Minor")?,
        version_number(patch, "Patch")?,
    ];
    let pre = pre
        .map(|pre| pre.split('.').map(pre_release).collect())
        .transpose()?
        .unwrap_or_default();
    for part in build.into_iter().flat_map(|build| build.split('.')) {
        if part.is_empty() {
            return Err("Build meta data is empty".to_owned());
        }
        if !part.bytes().all(is_meta) {
            return Err(format!("Invalid character(s) found in build meta data {part:?}"));
        }
    }
    Ok(Semver { numbers, pre })
}

fn is_meta(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'-'
}

fn version_number(text: &str, what: &str) -> std::result::Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "Invalid character(s) found in {} number {text:?}",
            what.to_lowercase()
        ));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{what} number must not contain leading zeroes {text:?}"));
    }
    text.parse()
        .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
}

fn pre_release(text: &str) -> std::result::Result<PreRelease, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!(
                "Numeric PreRelease version must not contain leading zeroes {text:?}"
            ));
        }
        return text
            .parse()
            .map(PreRelease::Number)
            .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"));
    }
    if text.bytes().all(is_meta) {
        return Ok(PreRelease::Text(text.to_owned()));
    }
    Err(format!("Invalid character(s) found in prerelease {text:?}"))
}
