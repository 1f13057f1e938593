//! YAML: read by YAML 1.1's rules, as Kubernetes reads manifests, and written as Kubernetes' tools write it.
//!
//! Reading resolves plain scalars the way go-yaml does (`yes` is a bool, `0644` is octal), merges `<<` and expands
//! aliases. Writing sorts keys in natural order, leaves sequences unindented in mappings, folds at 80 columns and
//! quotes only what would read back as something else. Tags other than the core's are ignored.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Write as _;

/// How deep documents may nest, and how many values aliases may expand to.
const MAX_DEPTH: usize = 256;
const MAX_VALUES: usize = 2_000_000;

/// Parses a text with one document; further documents are ignored.
pub fn parse_one(text: &str) -> Result<Value, String> {
    let mut docs = parse_all(text)?;
    Ok(if docs.is_empty() {
        Value::Null
    } else {
        docs.swap_remove(0)
    })
}

/// Parses all documents of a text; empty ones are null.
pub fn parse_all(text: &str) -> Result<Vec<Value>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        count: 0,
    };
    let mut docs = Vec::new();
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(docs),
            Event::DocumentStart(_) => {
                let event = reader.next()?;
                docs.push(reader.value(event, 0)?);
            }
            _ => {}
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Value>,
    count: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.parser.next_event() {
            None => Ok(Event::StreamEnd),
            Some(Ok((event, _))) => Ok(event),
            Some(Err(e)) => Err(format!("yaml: line {}: {}", e.marker().line(), e.info())),
        }
    }

    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Value, String> {
        self.count += 1;
        if depth > MAX_DEPTH || self.count > MAX_VALUES {
            return Err("yaml: document contains excessive aliasing or nesting".to_owned());
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_string = tag
                    .as_ref()
                    .is_some_and(|t| t.suffix == "str" || t.suffix == "binary");
                let value = if style == ScalarStyle::Plain && !is_string {
                    resolve(&text)
                } else {
                    Value::String(text.into_owned())
                };
                self.anchor(anchor, &value);
                Ok(value)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.value(event, depth + 1)?),
                    }
                }
                let value = Value::Array(items);
                self.anchor(anchor, &value);
                Ok(value)
            }
            Event::MappingStart(anchor, _) => {
                let value = self.mapping(depth)?;
                self.anchor(anchor, &value);
                Ok(value)
            }
            Event::Alias(id) => {
                let value = self
                    .anchors
                    .get(&id)
                    .cloned()
                    .ok_or("yaml: unknown anchor referenced")?;
                self.count += size(&value);
                Ok(value)
            }
            _ => Ok(Value::Null),
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, String> {
        let mut map = Map::new();
        let mut merged: Vec<Map<String, Value>> = Vec::new();
        loop {
            let event = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let is_merge = matches!(&event, Event::Scalar(t, ScalarStyle::Plain, _, _) if t == "<<");
            let key = self.value(event, depth + 1)?;
            let event = self.next()?;
            let value = self.value(event, depth + 1)?;
            if is_merge {
                match value {
                    Value::Object(m) => merged.push(m),
                    Value::Array(list) => merged.extend(list.into_iter().filter_map(|v| match v {
                        Value::Object(m) => Some(m),
                        _ => None,
                    })),
                    _ => {
                        return Err(
                            "yaml: map merge requires map or sequence of maps as the value".to_owned()
                        );
                    }
                }
                continue;
            }
            let key = match key {
                Value::String(s) => s,
                Value::Null => "null".to_owned(),
                Value::Bool(b) => b.to_string(),
                Value::Number(n) => n.to_string(),
                _ => return Err("yaml: invalid map key".to_owned()),
            };
            if map.contains_key(&key) {
                return Err(format!(
                    "yaml: unmarshal errors:\n  key {} already set in map",
                    crate::error::go_quote(&key)
                ));
            }
            map.insert(key, value);
        }
        for from in merged {
            for (key, value) in from {
                map.entry(key).or_insert(value);
            }
        }
        Ok(Value::Object(map))
    }

    fn anchor(&mut self, id: usize, value: &Value) {
        if id > 0 {
            self.anchors.insert(id, value.clone());
        }
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// What a plain scalar is by YAML 1.1.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    number(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn number(text: &str) -> Option<Value> {
    let first = text.bytes().next()?;
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return None;
    }
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, plain.get(1..)?),
        b'+' => (false, plain.get(1..)?),
        _ => (false, plain.as_str()),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = if let Some(b) = lower.strip_prefix("0x") {
        (16, b.to_owned())
    } else if let Some(b) = lower.strip_prefix("0b") {
        (2, b.to_owned())
    } else if let Some(b) = lower.strip_prefix("0o") {
        (8, b.to_owned())
    } else if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|c| c.is_ascii_digit()) {
        (8, lower.get(1..)?.to_owned())
    } else {
        (10, lower.clone())
    };
    if first != b'.'
        && !body.is_empty()
        && body.bytes().all(|c| c.is_ascii_alphanumeric())
        && let Ok(n) = u64::from_str_radix(&body, radix)
    {
        return match (negative, i64::try_from(n)) {
            (true, Ok(i)) => Some(Value::from(-i)),
            (true, Err(_)) => None,
            (false, _) => Some(Value::from(n)),
        };
    }
    if is_float(&plain) {
        return plain
            .parse::<f64>()
            .ok()
            .and_then(Number::from_f64)
            .map(Value::Number);
    }
    None
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (rest.get(..at).unwrap_or(""), rest.get(at + 1..)),
        None => (rest, None),
    };
    let digits = |t: &str| t.bytes().all(|c| c.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", after)) => !after.is_empty() && digits(after),
        Some((before, after)) => digits(before) && digits(after),
        None => !mantissa.is_empty() && digits(mantissa),
    };
    let exponent_ok = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['-', '+']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    mantissa_ok && exponent_ok
}

/// Whether a text, written plain, would read back as something other than a string.
fn resolves(text: &str) -> bool {
    if !matches!(resolve(text), Value::String(_)) || is_timestamp(text) || is_base60(text) {
        return true;
    }
    matches!(
        text,
        ".nan"
            | ".NaN"
            | ".NAN"
            | ".inf"
            | ".Inf"
            | ".INF"
            | "+.inf"
            | "+.Inf"
            | "+.INF"
            | "-.inf"
            | "-.Inf"
            | "-.INF"
            | "<<"
    ) || (text.starts_with('.') && text.parse::<f64>().is_ok())
}

fn is_base60(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = rest.split(':');
    let head = parts.next().unwrap_or("");
    if !head.starts_with(|c: char| c.is_ascii_digit())
        || !head.bytes().all(|c| c.is_ascii_digit() || c == b'_')
    {
        return false;
    }
    let tail: Vec<&str> = parts.collect();
    !tail.is_empty()
        && tail.iter().enumerate().all(|(at, part)| {
            let part = if at + 1 == tail.len() {
                part.split('.').next().unwrap_or("")
            } else {
                part
            };
            match part.as_bytes() {
                [d] => d.is_ascii_digit(),
                [t, d] => (b'0'..=b'5').contains(t) && d.is_ascii_digit(),
                _ => false,
            }
        })
}

/// `2006-1-2`, alone or with a time after `T`, `t` or a space.
fn is_timestamp(text: &str) -> bool {
    let b = text.as_bytes();
    if b.len() < 8 || !b.iter().take(4).all(u8::is_ascii_digit) || b.get(4) != Some(&b'-') {
        return false;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (text.get(..at).unwrap_or(""), Some(text.get(at..).unwrap_or(""))),
        None => (text, None),
    };
    let parts: Vec<&str> = date.split('-').collect();
    let in_range = |p: &str, max: u32| p.len() <= 2 && p.parse::<u32>().is_ok_and(|n| n >= 1 && n <= max);
    let date_ok = matches!(parts.as_slice(), [_, m, d] if in_range(m, 12) && in_range(d, 31));
    let Some(time) = time else { return date_ok };
    let spaced = time.starts_with(' ');
    let clock = time.get(1..).unwrap_or("");
    let (clock, zone) = match clock.find(['Z', '+', '-']) {
        Some(at) => (clock.get(..at).unwrap_or(""), clock.get(at..).unwrap_or("")),
        None => (clock, ""),
    };
    let fields: Vec<&str> = clock.split(':').collect();
    let small = |p: &str| (1..=2).contains(&p.len()) && p.bytes().all(|c| c.is_ascii_digit());
    let clock_ok = matches!(fields.as_slice(), [h, m, s] if small(h) && small(m)
        && s.split_once('.').map_or(small(s), |(a, f)| small(a) && f.bytes().all(|c| c.is_ascii_digit())));
    let zone_ok = if spaced {
        zone.is_empty()
    } else {
        zone == "Z" || (zone.len() == 6 && zone.contains(':'))
    };
    date_ok && clock_ok && zone_ok
}

/// Writes a document.
pub fn to_string(value: &Value) -> String {
    let mut w = Writer { out: String::new() };
    w.node(value, 0);
    if !w.out.ends_with('\n') {
        w.out.push('\n');
    }
    w.out
}

/// Orders keys: runs of digits by their number, letters after the rest.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (ar, br): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut digits = false;
    for (i, (x, y)) in ar.iter().zip(br.iter()).enumerate() {
        if x == y {
            digits = x.is_ascii_digit();
            continue;
        }
        let (al, bl) = (x.is_alphabetic(), y.is_alphabetic());
        if al && bl {
            return x.cmp(y);
        }
        if al || bl {
            let less = if digits { al } else { bl };
            return if less { Ordering::Less } else { Ordering::Greater };
        }
        let seed = u64::from(
            (*x == '0' || *y == '0')
                && ar
                    .iter()
                    .take(i)
                    .rev()
                    .take_while(|c| c.is_ascii_digit())
                    .any(|c| *c != '0'),
        );
        let run = |r: &[char]| {
            let mut n = seed;
            let mut len = 0;
            for c in r.iter().skip(i).take_while(|c| c.is_ascii_digit()) {
                n = n.wrapping_mul(10).wrapping_add(u64::from(*c as u32 - '0' as u32));
                len += 1;
            }
            (n, len)
        };
        return run(&ar).cmp(&run(&br)).then(x.cmp(y));
    }
    ar.len().cmp(&br.len())
}

const BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

fn is_break(c: char) -> bool {
    BREAKS.contains(&c)
}

fn printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

struct Writer {
    out: String,
}

enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

impl Writer {
    fn column(&self) -> usize {
        let start = self.out.rfind('\n').map_or(0, |i| i + 1);
        self.out.get(start..).unwrap_or("").chars().count()
    }

    fn line(&mut self, indent: usize) {
        self.out.push('\n');
        self.spaces(indent);
    }

    fn spaces(&mut self, n: usize) {
        for _ in 0..n {
            self.out.push(' ');
        }
    }

    /// Writes a node where the cursor stands; `indent` is its own indentation.
    fn node(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort_by(|a, b| natural(a, b));
                for (at, key) in keys.into_iter().enumerate() {
                    if at > 0 {
                        self.fresh(indent);
                    }
                    self.entry(key, map.get(key).unwrap_or(&Value::Null), indent);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        self.fresh(indent);
                    }
                    self.out.push_str("- ");
                    self.node(item, indent + 2);
                }
            }
            scalar => self.scalar(scalar, indent, false),
        }
    }

    /// Begins a line, unless a block scalar has just ended one.
    fn fresh(&mut self, indent: usize) {
        if self.out.ends_with('\n') {
            self.spaces(indent);
        } else {
            self.line(indent);
        }
    }

    fn entry(&mut self, key: &str, value: &Value, indent: usize) {
        let simple = key.len() <= 128;
        if simple {
            self.string(key, indent, true);
        } else {
            self.out.push_str("? ");
            self.string(key, indent + 2, true);
            self.fresh(indent);
        }
        self.out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                self.line(indent + 2);
                self.node(value, indent + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                self.line(indent);
                self.node(value, indent);
            }
            scalar => {
                self.out.push(' ');
                self.scalar(scalar, indent + 2, false);
            }
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize, key: bool) {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(b) => self.out.push_str(if *b { "true" } else { "false" }),
            Value::Number(n) => self.out.push_str(&super::json::number(n)),
            Value::String(s) => self.string(s, indent, key),
            Value::Array(_) => self.out.push_str("[]"),
            Value::Object(_) => self.out.push_str("{}"),
        }
    }

    fn string(&mut self, text: &str, indent: usize, key: bool) {
        match style(text, key) {
            Style::Plain => self.plain(text, indent, key),
            Style::Single => self.single(text, indent, key),
            Style::Double => self.double(text, indent, key),
            Style::Literal => self.literal(text, indent),
        }
    }

    fn plain(&mut self, text: &str, indent: usize, key: bool) {
        let mut column = self.column();
        let mut spaces = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c == ' ' {
                if !key && !spaces && column > 80 && chars.peek() != Some(&' ') {
                    self.line(indent);
                    column = indent;
                } else {
                    self.out.push(' ');
                    column += 1;
                }
                spaces = true;
            } else {
                self.out.push(c);
                column += 1;
                spaces = false;
            }
        }
    }

    fn single(&mut self, text: &str, indent: usize, key: bool) {
        self.out.push('\'');
        let mut column = self.column();
        let (mut spaces, mut breaks) = (false, false);
        let all: Vec<char> = text.chars().collect();
        for (i, &c) in all.iter().enumerate() {
            if c == ' ' {
                if !key
                    && !spaces
                    && column > 80
                    && i > 0
                    && i + 1 < all.len()
                    && all.get(i + 1) != Some(&' ')
                {
                    self.line(indent);
                    column = indent;
                } else {
                    self.out.push(' ');
                    column += 1;
                }
                spaces = true;
            } else if is_break(c) {
                if !breaks && c == '\n' {
                    self.out.push('\n');
                }
                self.out.push(c);
                column = 0;
                breaks = true;
            } else {
                if breaks {
                    self.spaces(indent);
                    column = indent;
                }
                if c == '\'' {
                    self.out.push('\'');
                    column += 1;
                }
                self.out.push(c);
                column += 1;
                spaces = false;
                breaks = false;
            }
        }
        self.out.push('\'');
    }

    fn double(&mut self, text: &str, indent: usize, key: bool) {
        self.out.push('"');
        let mut column = self.column();
        let mut spaces = false;
        let all: Vec<char> = text.chars().collect();
        for (i, &c) in all.iter().enumerate() {
            if !printable(c) || is_break(c) || c == '"' || c == '\\' {
                let before = self.out.len();
                escape(c, &mut self.out);
                column += self.out.len() - before;
                spaces = false;
            } else if c == ' ' {
                if !key && !spaces && column > 80 && i > 0 && i + 1 < all.len() {
                    self.line(indent);
                    column = indent;
                    if all.get(i + 1) == Some(&' ') {
                        self.out.push('\\');
                        column += 1;
                    }
                } else {
                    self.out.push(' ');
                    column += 1;
                }
                spaces = true;
            } else {
                self.out.push(c);
                column += 1;
                spaces = false;
            }
        }
        self.out.push('"');
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.out.push('|');
        if text.starts_with([' ', '\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) {
            self.out.push('2');
        }
        let mut last = text.chars().rev();
        match (last.next(), last.next()) {
            (Some(c), _) if !is_break(c) => self.out.push('-'),
            (Some(_), None) => self.out.push('+'),
            (Some(_), Some(c)) if is_break(c) => self.out.push('+'),
            _ => {}
        }
        self.out.push('\n');
        let mut breaks = true;
        for c in text.chars() {
            if is_break(c) {
                self.out.push(c);
                breaks = true;
            } else {
                if breaks {
                    self.spaces(indent);
                }
                self.out.push(c);
                breaks = false;
            }
        }
    }
}

fn escape(c: char, out: &mut String) {
    out.push('\\');
    match c {
        '\0' => out.push('0'),
        '\x07' => out.push('a'),
        '\x08' => out.push('b'),
        '\t' => out.push('t'),
        '\n' => out.push('n'),
        '\x0b' => out.push('v'),
        '\x0c' => out.push('f'),
        '\r' => out.push('r'),
        '\x1b' => out.push('e'),
        '"' => out.push('"'),
        '\\' => out.push('\\'),
        '\u{85}' => out.push('N'),
        '\u{a0}' => out.push('_'),
        '\u{2028}' => out.push('L'),
        '\u{2029}' => out.push('P'),
        c => {
            let v = c as u32;
            // Writing to a string can't fail.
            let _ = if v <= 0xff {
                write!(out, "x{v:02X}")
            } else if v <= 0xffff {
                write!(out, "u{v:04X}")
            } else {
                write!(out, "U{v:08X}")
            };
        }
    }
}

/// What styles a text allows.
#[derive(Default)]
struct Analysis {
    block_indicators: bool,
    special: bool,
    leading_space: bool,
    trailing_space: bool,
    edge_break: bool,
    break_space: bool,
    space_break: bool,
    breaks: bool,
}

fn analyze(text: &str) -> Analysis {
    let mut a = Analysis {
        block_indicators: text.starts_with("---") || text.starts_with("..."),
        ..Analysis::default()
    };
    let all: Vec<char> = text.chars().collect();
    let (mut previous_space, mut previous_break, mut blank_before) = (false, false, true);
    for (i, &c) in all.iter().enumerate() {
        let blank_after = all.get(i + 1).is_none_or(|n| *n == ' ' || *n == '\t');
        a.block_indicators |= match c {
            '#' if i > 0 => blank_before,
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
            | '`' => i == 0,
            '?' | '-' => i == 0 && blank_after,
            ':' => blank_after,
            _ => false,
        };
        a.special |= !printable(c);
        let (first, last) = (i == 0, i + 1 == all.len());
        if c == ' ' {
            a.leading_space |= first;
            a.trailing_space |= last;
            a.break_space |= previous_break;
            (previous_space, previous_break) = (true, false);
        } else if is_break(c) {
            a.breaks = true;
            a.edge_break |= first || last;
            a.space_break |= previous_space;
            (previous_space, previous_break) = (false, true);
        } else {
            (previous_space, previous_break) = (false, false);
        }
        blank_before = c == ' ' || c == '\t' || is_break(c);
    }
    a
}

fn style(text: &str, key: bool) -> Style {
    if text.is_empty() {
        return Style::Double;
    }
    let a = analyze(text);
    let bad = a.space_break || a.special;
    let plain_ok = !(a.leading_space
        || a.trailing_space
        || a.edge_break
        || a.break_space
        || bad
        || a.breaks
        || a.block_indicators);
    let single_ok = !(a.break_space || bad);
    let block_ok = !(a.trailing_space || bad);
    if text.contains('\n') {
        return if block_ok && !key {
            Style::Literal
        } else {
            Style::Double
        };
    }
    if resolves(text) {
        return Style::Double;
    }
    if plain_ok {
        Style::Plain
    } else if single_ok && !(key && a.breaks) {
        Style::Single
    } else {
        Style::Double
    }
}

#[cfg(test)]
mod tests;
