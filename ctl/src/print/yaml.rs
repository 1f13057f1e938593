//! YAML, written as Kubernetes' tools write it; [`rutter_api::codec::yaml`] reads it.
//!
//! Keys are sorted in natural order, sequences unindented in mappings, lines folded at 80 columns, and only what would
//! read back as something else is quoted.

use rutter_api::codec::yaml::resolves;
use serde_json::Value;
use std::cmp::Ordering;
use std::fmt::Write as _;

/// Whether a text, written plain, would read back as something other than a string, with this or an older reader.
fn ambiguous(text: &str) -> bool {
    resolves(text)
        || is_timestamp(text)
        || is_base60(text)
        || (text.starts_with('.') && text.parse::<f64>().is_ok())
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
    if ambiguous(text) {
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
