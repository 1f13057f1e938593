//! YAML as Kubernetes reads it, turned into JSON.
//!
//! Plain scalars follow YAML 1.1 as Go's library reads it: `yes` and `on` are booleans, `0644` is octal, `1_000` is a
//! number, `<<` merges. Timestamps stay texts. Anchors and aliases work, bounded so that a small document can't become
//! a large object.

use super::{MAX_DEPTH, ParseError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// More values than these aren't made by aliases.
const MAX_ALIASED: usize = 100_000;

/// Parses the first YAML document, and gives the paths of fields that appear twice. No document is null.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), ParseError> {
    let mut composer = Composer::new(text(bytes)?);
    let value = composer.document()?.unwrap_or(Value::Null);
    Ok((value, composer.duplicates))
}

/// Parses the first document of a text whose fields may appear twice; the last one counts. No document is null.
pub fn parse_text(text: &str) -> Result<Value, ParseError> {
    parse(text.as_bytes()).map(|(value, _)| value)
}

/// As [`parse`], by YAML 1.2's narrower idea of a bool: `yes`, `no`, `on`, `off` and single letters are texts.
pub fn parse_narrow(text: &str) -> Result<(Value, Vec<String>), ParseError> {
    let mut composer = Composer::new(text.strip_prefix('\u{feff}').unwrap_or(text));
    composer.narrow = true;
    let value = composer.document()?.unwrap_or(Value::Null);
    Ok((value, composer.duplicates))
}

/// As [`parse`], but fields that appear twice are told by their line, in the words of Go's library.
pub fn parse_with_lines(bytes: &[u8]) -> Result<(Value, Vec<String>), ParseError> {
    let mut composer = Composer::new(text(bytes)?);
    let value = composer.document()?.unwrap_or(Value::Null);
    Ok((value, composer.lines))
}

/// Parses all documents; empty ones are left out.
pub fn parse_all(bytes: &[u8]) -> Result<Vec<Value>, ParseError> {
    let mut composer = Composer::new(text(bytes)?);
    let mut documents = Vec::new();
    while let Some(value) = composer.document()? {
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

fn text(bytes: &[u8]) -> Result<&str, ParseError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ParseError("yaml: invalid UTF-8".to_owned()))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

struct Composer<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, (Value, usize)>,
    aliased: usize,
    path: Vec<String>,
    duplicates: Vec<String>,
    /// What Go's library says of the duplicates.
    lines: Vec<String>,
    /// Where the last event began.
    line: usize,
    /// Only `true` and `false` are bools.
    narrow: bool,
}

impl<'t> Composer<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            parser: Parser::new_from_str(text),
            anchors: HashMap::new(),
            aliased: 0,
            path: Vec::new(),
            duplicates: Vec::new(),
            lines: Vec::new(),
            line: 0,
            narrow: false,
        }
    }

    fn event(&mut self) -> Result<Event<'t>, ParseError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            // Go's library names no line where the first one is wrong.
            Some(Err(error)) => Err(ParseError(match error.marker().line() {
                0 | 1 => format!("yaml: {}", error.info()),
                line => format!("yaml: line {line}: {}", error.info()),
            })),
            None => Ok(Event::StreamEnd),
        }
    }

    /// The next document; None at the end.
    fn document(&mut self) -> Result<Option<Value>, ParseError> {
        loop {
            match self.event()? {
                Event::DocumentStart(_) => {
                    self.anchors.clear();
                    let event = self.event()?;
                    return self.node(event).map(Some);
                }
                Event::StreamEnd => return Ok(None),
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Event<'t>) -> Result<Value, ParseError> {
        if self.path.len() > MAX_DEPTH {
            return Err(ParseError("yaml: exceeded max depth".to_owned()));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => (
                anchor,
                if self.narrow && style == ScalarStyle::Plain && tag.is_none() && is_wide_bool(&text) {
                    Value::from(text)
                } else {
                    scalar(&text, style == ScalarStyle::Plain, tag.as_deref())?
                },
            ),
            Event::SequenceStart(anchor, _) => (anchor, self.sequence()?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping()?),
            Event::Alias(id) => return self.alias(id),
            Event::DocumentEnd => return Ok(Value::Null),
            other => return Err(ParseError(format!("yaml: unexpected {other:?}"))),
        };
        if anchor > 0 {
            let size = size(&value);
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(value)
    }

    fn alias(&mut self, id: usize) -> Result<Value, ParseError> {
        let Some((value, size)) = self.anchors.get(&id) else {
            return Err(ParseError("yaml: unknown anchor".to_owned()));
        };
        self.aliased += size;
        if self.aliased > MAX_ALIASED {
            return Err(ParseError(
                "yaml: document contains excessive aliasing".to_owned(),
            ));
        }
        Ok(value.clone())
    }

    fn sequence(&mut self) -> Result<Value, ParseError> {
        let mut items = Vec::new();
        loop {
            match self.event()? {
                Event::SequenceEnd => return Ok(Value::Array(items)),
                event => {
                    self.path.push(format!("[{}]", items.len()));
                    let item = self.node(event)?;
                    self.path.pop();
                    items.push(item);
                }
            }
        }
    }

    fn mapping(&mut self) -> Result<Value, ParseError> {
        let mut map = Map::new();
        let mut merges = Vec::new();
        loop {
            let (key, is_merge) = match self.event()? {
                Event::MappingEnd => break,
                Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<" => (String::new(), true),
                event => (key_text(self.node(event)?)?, false),
            };
            let line = self.line;
            let event = self.event()?;
            self.path.push(key);
            let value = self.node(event)?;
            let key = self.path.pop().unwrap_or_default();
            if is_merge {
                merges.push(value);
            } else {
                if map.contains_key(&key) {
                    self.duplicate(&key);
                    self.lines
                        .push(format!("line {line}: key {key:?} already set in map"));
                }
                map.insert(key, value);
            }
        }
        for merge in merges {
            let sources = match merge {
                Value::Array(items) => items,
                other => vec![other],
            };
            for source in sources {
                let Value::Object(source) = source else {
                    return Err(ParseError(
                        "yaml: map merge requires map or sequence of maps as the value".to_owned(),
                    ));
                };
                for (key, value) in source {
                    map.entry(key).or_insert(value);
                }
            }
        }
        Ok(Value::Object(map))
    }

    fn duplicate(&mut self, key: &str) {
        let mut path = String::new();
        for part in self.path.iter().map(String::as_str).chain([key]) {
            if !path.is_empty() && !part.starts_with('[') {
                path.push('.');
            }
            path.push_str(part);
        }
        self.duplicates.push(path);
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.values().map(size).sum(),
        _ => 0,
    }
}

fn key_text(key: Value) -> Result<String, ParseError> {
    match key {
        Value::String(text) => Ok(text),
        Value::Bool(b) => Ok(b.to_string()),
        Value::Number(n) => Ok(n.to_string()),
        Value::Null => Ok("null".to_owned()),
        _ => Err(ParseError(
            "yaml: unsupported map key: only texts, numbers and booleans are keys".to_owned(),
        )),
    }
}

fn scalar(text: &str, plain: bool, tag: Option<&Tag>) -> Result<Value, ParseError> {
    let core = tag.filter(|t| t.is_yaml_core_schema()).map(|t| t.suffix.as_str());
    match core {
        Some("str") => return Ok(Value::from(text)),
        Some("binary") => {
            let packed: String = text.split_whitespace().collect();
            let bytes = STANDARD
                .decode(packed)
                .map_err(|_| ParseError("yaml: !!binary value contains invalid base64 data".to_owned()))?;
            return Ok(Value::from(String::from_utf8_lossy(&bytes).into_owned()));
        }
        Some("int" | "float" | "bool" | "null") => return resolve(text),
        _ => {}
    }
    if plain && tag.is_none() {
        resolve(text)
    } else {
        Ok(Value::from(text))
    }
}

/// The bools of YAML 1.1 that are texts in YAML 1.2.
fn is_wide_bool(text: &str) -> bool {
    matches!(resolve(text), Ok(Value::Bool(_)))
        && !text.eq_ignore_ascii_case("true")
        && !text.eq_ignore_ascii_case("false")
}

/// Whether a plain scalar means anything but itself: a number, a bool or nothing.
pub fn resolves(text: &str) -> bool {
    text == "<<" || resolve(text).map_or(true, |value| !value.is_string())
}

/// What a plain scalar means.
fn resolve(text: &str) -> Result<Value, ParseError> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf"
        | "-.Inf" | "-.INF" => return Err(ParseError(format!("yaml: {text} is no JSON value"))),
        _ => match text.as_bytes().first() {
            Some(b'0'..=b'9' | b'+' | b'-' | b'.') => {
                number(text).map_or_else(|| Value::from(text), Value::Number)
            }
            _ => Value::from(text),
        },
    })
}

fn number(text: &str) -> Option<Number> {
    let digits = text.replace('_', "");
    let (negative, unsigned) = match digits.as_bytes().first()? {
        b'-' => (true, &digits[1..]),
        b'+' => (false, &digits[1..]),
        _ => (false, digits.as_str()),
    };
    let prefixed = |lower: &str, upper: &str| {
        unsigned
            .strip_prefix(lower)
            .or_else(|| unsigned.strip_prefix(upper))
    };
    let (radix, body) = if let Some(body) = prefixed("0x", "0X") {
        (16, body)
    } else if let Some(body) = prefixed("0b", "0B") {
        (2, body)
    } else if let Some(body) = prefixed("0o", "0O") {
        (8, body)
    } else if unsigned.len() > 1 && unsigned.starts_with('0') {
        (8, &unsigned[1..])
    } else {
        (10, unsigned)
    };
    if body.chars().all(|c| c.is_digit(radix))
        && let Ok(whole) = u64::from_str_radix(body, radix)
    {
        if !negative {
            return Some(whole.into());
        }
        if let Some(whole) = 0i64.checked_sub_unsigned(whole) {
            return Some(whole.into());
        }
    }
    is_float(unsigned)
        .then(|| digits.parse::<f64>().ok())
        .flatten()
        .and_then(|float| {
            // Go prints a float without a fraction as an integer.
            if float.fract() == 0.0 && float.abs() < 1e15 {
                return Some((float as i64).into());
            }
            Number::from_f64(float)
        })
}

/// Digits, at most one point, and an exponent.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty())
        }
        None => !mantissa.is_empty() && all_digits(mantissa),
    };
    let exponent_ok = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && all_digits(e)
    });
    mantissa_ok && exponent_ok
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn scalars_mean_what_they_mean_in_go() {
        for (text, want) in [
            ("0644", json!(420)),
            ("\"0644\"", json!("0644")),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("0b11", json!(3)),
            ("1_000", json!(1000)),
            ("-5", json!(-5)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("08", json!(8)),
            ("1.5", json!(1.5)),
            ("1.0", json!(1)),
            ("1e3", json!(1000)),
            ("yes", json!(true)),
            ("'yes'", json!("yes")),
            ("off", json!(false)),
            ("~", Value::Null),
            ("1.2.3", json!("1.2.3")),
            ("10m", json!("10m")),
            ("2001-01-01", json!("2001-01-01")),
            ("!!str 5", json!("5")),
            ("!!binary aGk=", json!("hi")),
            ("-", json!([null])),
            ("1Gi", json!("1Gi")),
            ("\"a\\nb\"", json!("a\nb")),
        ] {
            assert_eq!(parse(text.as_bytes()).map(|p| p.0), Ok(want), "{text}");
        }
    }

    #[test]
    fn documents_anchors_and_merges_are_read() {
        let text =
            "---\na: &x {k: 1, l: 2}\nb: *x\nc:\n  <<: *x\n  k: 3\n1: one\ntrue: t\n---\nsecond: 2\n---\n";
        let (value, duplicates) = parse(text.as_bytes()).unwrap();
        let first = json!({"a": {"k": 1, "l": 2}, "b": {"k": 1, "l": 2}, "c": {"k": 3, "l": 2}, "1": "one", "true": "t"});
        assert_eq!(value, first);
        assert!(duplicates.is_empty());
        assert_eq!(
            parse_narrow("[yes, No, on, off, y, true, False, 1, ~]")
                .unwrap()
                .0,
            json!(["yes", "No", "on", "off", "y", true, false, 1, null])
        );
        assert_eq!(parse_all(text.as_bytes()).unwrap(), [first, json!({"second": 2})]);
        assert_eq!(parse(b"").unwrap().0, Value::Null);
        let (_, duplicates) = parse(b"spec:\n  a:\n  - {x: 1, x: 2}\n  a: 1\n").unwrap();
        assert_eq!(duplicates, ["spec.a[0].x", "spec.a"]);
    }

    #[test]
    fn small_documents_do_not_become_large_objects() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(parse(text.as_bytes()).is_err());
        assert!(parse("[".repeat(10_000).as_bytes()).is_err());
        assert!(parse("- ".repeat(10_000).as_bytes()).is_err());
        assert!(parse(b"a: [").is_err());
        assert!(parse(b"a: b: c").is_err());
    }

    proptest! {
        #[test]
        fn json_is_yaml(value in crate::codec::json::tests::tree()) {
            let text = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(parse(text.as_bytes()).map(|p| p.0), Ok(value));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[a:\\-\\[\\]{}&*#\"'\n ,!<|>?0-9.]{0,40}") {
            let _ = parse(text.as_bytes());
        }
    }
}
