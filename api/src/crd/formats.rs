//! Formats and patterns of texts.

use regex::Regex;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{LazyLock, Mutex, PoisonError};

/// More compiled patterns than these aren't kept.
const MAX_PATTERNS: usize = 4096;

static PATTERNS: LazyLock<Mutex<HashMap<String, Option<Regex>>>> = LazyLock::new(Mutex::default);

/// Whether the pattern is found in the text; None when it is no pattern.
pub(super) fn matches(pattern: &str, text: &str) -> Option<bool> {
    let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = patterns.get(pattern) {
        return known.as_ref().map(|regex| regex.is_match(text));
    }
    if patterns.len() >= MAX_PATTERNS {
        patterns.clear();
    }
    let regex = Regex::new(pattern).ok();
    let found = regex.as_ref().map(|regex| regex.is_match(text));
    patterns.insert(pattern.to_owned(), regex);
    found
}

/// Why a text is no pattern; none when it is one.
pub(super) fn pattern_error(pattern: &str) -> Option<String> {
    if pattern.is_empty() {
        return None;
    }
    let error = Regex::new(pattern).err()?;
    // The parser shows the pattern with a mark under the place, over several lines; its last line says what is wrong.
    let text = error.to_string();
    let why = text.lines().last().unwrap_or_default();
    Some(format!(
        "error parsing regexp: {}",
        why.trim_start_matches("error: ")
    ))
}

/// The formats that Kubernetes knows, those included that it lets hold for everything.
const KNOWN: &[&str] = &[
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "date-time",
    "datetime",
    "duration",
    "email",
    "float",
    "double",
    "hexcolor",
    "hostname",
    "int32",
    "int64",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8s-long-name",
    "k8s-short-name",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

/// Whether a format is one that is known.
pub fn is_format(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Whether a text is of a format. Formats that Kubernetes doesn't check hold for everything.
pub(super) fn holds(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => crate::duration::parse_go(text).is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        "uuid" | "uuid3" | "uuid4" | "uuid5" => uuid::Uuid::try_parse(text).is_ok_and(|id| {
            let version = format.strip_prefix("uuid").and_then(|v| v.parse::<usize>().ok());
            version.is_none_or(|version| id.get_version_num() == version)
        }),
        "hostname" => {
            text.len() <= 255
                && matches(
                    "^([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(\\.([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*$",
                    text,
                ) == Some(true)
        }
        "email" => matches("^[^@\\s]+@[^@\\s]+$", text) == Some(true),
        "uri" => matches("^[a-zA-Z][a-zA-Z0-9+.-]*:[^\\s]*$|^/[^\\s]*$", text) == Some(true),
        "mac" => {
            matches(
                "^([0-9A-Fa-f]{2}[:-]){5}([0-9A-Fa-f]{2}[:-]?){0,3}[0-9A-Fa-f]{2}$",
                text,
            ) == Some(true)
        }
        "hexcolor" => matches("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$", text) == Some(true),
        "int32" | "int64" | "float" | "double" => true,
        _ => true,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let bits: u8 = match bits.parse() {
        Ok(bits) => bits,
        Err(_) => return false,
    };
    (address.parse::<Ipv4Addr>().is_ok() && bits <= 32)
        || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
}
