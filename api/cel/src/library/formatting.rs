//! `'%s of %d'.format([a, b])`.

use super::convert::to_string;
use super::{Authorizations, Functions, list_of};
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::{Key, List, Map, Value, as_text, duration_text};
use std::fmt::Write as _;

pub(super) fn declare(f: &mut Functions) {
    let params = [Type::String, Type::list(Type::Dyn)];
    f.member(
        "format",
        "string_format",
        &params,
        Type::String,
        |_: &dyn Authorizations, args| {
            let template = as_text(&args[0])?;
            let values = list_of(&args[1])?;
            render(template, values).map(Value::text)
        },
    );
}

/// What stands behind a percent sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clause {
    String,
    Decimal,
    Fixed(usize),
    Scientific(usize),
    Binary,
    Hex,
    UpperHex,
    Octal,
}

enum Piece<'t> {
    Text(&'t str),
    Clause(Clause),
}

/// The pieces of a template, or what is wrong with it.
fn pieces(template: &str) -> std::result::Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        pieces.push(Piece::Text(&rest[..at]));
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            pieces.push(Piece::Text("%"));
            rest = after;
            continue;
        }
        let mut precision = 6;
        if let Some(after) = rest.strip_prefix('.') {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            precision = after[..digits]
                .parse()
                .map_err(|_| "could not parse formatting clause: error while parsing precision: could not convert precision to integer".to_owned())?;
            rest = &after[digits..];
        }
        let Some(c) = rest.chars().next() else {
            return Err("could not parse formatting clause: unexpected end of string".to_owned());
        };
        pieces.push(Piece::Clause(match c {
            's' => Clause::String,
            'd' => Clause::Decimal,
            'f' => Clause::Fixed(precision),
            'e' => Clause::Scientific(precision),
            'b' => Clause::Binary,
            'x' => Clause::Hex,
            'X' => Clause::UpperHex,
            'o' => Clause::Octal,
            other => {
                return Err(format!(
                    "could not parse formatting clause: unrecognized formatting clause \"{other}\""
                ));
            }
        }));
        rest = &rest[c.len_utf8()..];
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

fn render(template: &str, values: &List<'_>) -> Result<String> {
    let mut out = String::with_capacity(template.len());
    let mut next = 0;
    for piece in pieces(template).map_err(EvalError::new)? {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Clause(clause) => {
                let value = values
                    .get(next)
                    .ok_or_else(|| EvalError::new(format!("index {next} out of range")))??;
                clause_text(clause, &value, &mut out)
                    .map_err(|why| EvalError::new(format!("error during formatting: {why}")))?;
                next += 1;
            }
        }
    }
    Ok(out)
}

/// What is wrong with a template for arguments of these types: which argument (none for the call as a whole) and why.
pub(crate) fn check_format(template: &str, types: &[Type]) -> Option<(Option<usize>, String)> {
    let pieces = match pieces(template) {
        Ok(pieces) => pieces,
        Err(why) => return Some((None, why)),
    };
    let clauses: Vec<Clause> = pieces
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Clause(clause) => Some(clause),
            Piece::Text(_) => None,
        })
        .collect();
    for (index, clause) in clauses.iter().enumerate() {
        let Some(ty) = types.get(index) else {
            return Some((None, format!("index {index} out of range")));
        };
        if !fits(*clause, ty) {
            return Some((
                Some(index),
                format!("error during formatting: {}", refusal(*clause, ty.name())),
            ));
        }
    }
    (types.len() > clauses.len()).then(|| {
        let (want, got) = (clauses.len(), types.len());
        (
            None,
            format!("too many arguments supplied to string.format (expected {want}, got {got})"),
        )
    })
}

fn fits(clause: Clause, ty: &Type) -> bool {
    match (clause, ty) {
        (_, Type::Dyn | Type::Error) => true,
        (Clause::String, ty) => !matches!(
            ty,
            Type::Struct(_) | Type::Opaque(_) | Type::Optional(_) | Type::Param(_)
        ),
        (Clause::Decimal | Clause::Octal, Type::Int | Type::Uint) => true,
        (Clause::Fixed(_) | Clause::Scientific(_), Type::Double | Type::String) => true,
        (Clause::Binary, Type::Int | Type::Uint | Type::Bool) => true,
        (Clause::Hex | Clause::UpperHex, Type::Int | Type::Uint | Type::String | Type::Bytes) => true,
        _ => false,
    }
}

fn refusal(clause: Clause, found: &str) -> String {
    let rule = match clause {
        Clause::String => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
        }
        Clause::Decimal => "decimal clause can only be used on integers",
        Clause::Fixed(_) => "fixed-point clause can only be used on doubles",
        Clause::Scientific(_) => "scientific clause can only be used on doubles",
        Clause::Binary => "only integers and bools can be formatted as binary",
        Clause::Hex | Clause::UpperHex => "only integers, byte buffers, and strings can be formatted as hex",
        Clause::Octal => "octal clause can only be used on integers",
    };
    format!("{rule}, was given {found}")
}

fn clause_text(clause: Clause, value: &Value<'_>, out: &mut String) -> std::result::Result<(), String> {
    let refuse = || Err(refusal(clause, value.type_name()));
    let special = |text: &str| match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    };
    let float = match value {
        Value::Double(d) => Some(*d),
        Value::String(text) => special(text),
        _ => None,
    };
    let written = match (clause, value) {
        (Clause::String, value) => return string_text(value, out),
        (Clause::Decimal, Value::Int(n)) => write!(out, "{n}"),
        (Clause::Decimal, Value::Uint(n)) => write!(out, "{n}"),
        (Clause::Fixed(precision), _) => match float {
            Some(d) => {
                out.push_str(&fixed(d, precision));
                Ok(())
            }
            None => return refuse(),
        },
        (Clause::Scientific(precision), _) => match float {
            Some(d) => {
                out.push_str(&scientific(d, precision));
                Ok(())
            }
            None => return refuse(),
        },
        (Clause::Binary, Value::Int(n)) => write!(out, "{}{:b}", sign(*n), n.unsigned_abs()),
        (Clause::Binary, Value::Uint(n)) => write!(out, "{n:b}"),
        (Clause::Binary, Value::Bool(b)) => write!(out, "{}", u8::from(*b)),
        (Clause::Octal, Value::Int(n)) => write!(out, "{}{:o}", sign(*n), n.unsigned_abs()),
        (Clause::Octal, Value::Uint(n)) => write!(out, "{n:o}"),
        (Clause::Hex, Value::Int(n)) => write!(out, "{}{:x}", sign(*n), n.unsigned_abs()),
        (Clause::UpperHex, Value::Int(n)) => write!(out, "{}{:X}", sign(*n), n.unsigned_abs()),
        (Clause::Hex, Value::Uint(n)) => write!(out, "{n:x}"),
        (Clause::UpperHex, Value::Uint(n)) => write!(out, "{n:X}"),
        (Clause::Hex | Clause::UpperHex, Value::String(_) | Value::Bytes(_)) => {
            let bytes = match value {
                Value::String(text) => text.as_bytes(),
                Value::Bytes(bytes) => bytes,
                _ => &[],
            };
            bytes.iter().try_for_each(|b| match clause {
                Clause::Hex => write!(out, "{b:02x}"),
                _ => write!(out, "{b:02X}"),
            })
        }
        _ => return refuse(),
    };
    written.map_err(|e| e.to_string())
}

fn sign(n: i64) -> &'static str {
    if n < 0 { "-" } else { "" }
}

/// A float with digits grouped by thousands, as upstream's locale does it.
fn fixed(d: f64, precision: usize) -> String {
    if !d.is_finite() {
        return unbounded(d);
    }
    let text = format!("{:.precision$}", d.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    if d.is_sign_negative() && d != 0.0 {
        out.push('-');
    }
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

fn scientific(d: f64, precision: usize) -> String {
    if !d.is_finite() {
        return unbounded(d);
    }
    let text = format!("{d:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    let raised: String = digits
        .chars()
        .map(|c| match c {
            '1' => '\u{b9}',
            '2' => '\u{b2}',
            '3' => '\u{b3}',
            c => char::from_u32(0x2070 + c.to_digit(10).unwrap_or_default()).unwrap_or(c),
        })
        .collect();
    let sign = if sign == '-' { "\u{207b}" } else { "\u{2070}" };
    let raised = if digits.len() < 2 {
        if sign == "\u{207b}" {
            format!("\u{207b}\u{2070}{raised}")
        } else {
            format!("\u{2070}{raised}")
        }
    } else if sign == "\u{207b}" {
        format!("\u{207b}{raised}")
    } else {
        raised
    };
    format!("{mantissa}\u{d7}10{raised}")
}

fn unbounded(d: f64) -> String {
    if d.is_nan() {
        "NaN".to_owned()
    } else if d > 0.0 {
        "\u{221e}".to_owned()
    } else {
        "-\u{221e}".to_owned()
    }
}

fn string_text(value: &Value<'_>, out: &mut String) -> std::result::Result<(), String> {
    match value {
        Value::List(_) | Value::Map(_) => nested(value, out),
        Value::Null => {
            out.push_str("null");
            Ok(())
        }
        Value::Optional(_) | Value::Native(_) | Value::Object(..) | Value::Opaque(_) => {
            Err(refusal(Clause::String, value.type_name()))
        }
        other => match to_string(other) {
            Ok(Value::String(text)) => {
                out.push_str(&text);
                Ok(())
            }
            Ok(_) => Err(refusal(Clause::String, value.type_name())),
            Err(e) => Err(e.to_string()),
        },
    }
}

/// A value inside of a list or a map.
fn nested(value: &Value<'_>, out: &mut String) -> std::result::Result<(), String> {
    match value {
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                nested(&item.map_err(|e| e.to_string())?, out)?;
            }
            out.push(']');
        }
        Value::Map(map) => nested_map(map, out)?,
        Value::String(text) => out.push_str(&go_quoted(text)),
        Value::Bytes(bytes) => {
            out.push('b');
            out.push_str(&go_quoted(&String::from_utf8_lossy(bytes)));
        }
        Value::Double(d) if d.is_finite() => {
            let _ = write!(out, "{d:.6}");
        }
        Value::Double(d) => {
            let text = if d.is_nan() {
                "NaN"
            } else if *d > 0.0 {
                "+Inf"
            } else {
                "-Inf"
            };
            let _ = write!(out, "{text:?}");
        }
        Value::Timestamp(time) => {
            let _ = write!(out, "timestamp({:?})", time.to_string());
        }
        Value::Duration(nanos) => {
            let _ = write!(out, "duration({:?})", duration_text(*nanos));
        }
        Value::Int(_) | Value::Uint(_) | Value::Bool(_) | Value::Null | Value::Type(_) => {
            string_text(value, out)?;
        }
        other => return Err(format!("no formatting function for {}", other.type_name())),
    }
    Ok(())
}

fn nested_map(map: &Map<'_>, out: &mut String) -> std::result::Result<(), String> {
    let mut entries = Vec::new();
    for key in map.keys() {
        let mut name = String::new();
        nested(&key, &mut name)?;
        let mut text = String::new();
        match map.find(&key).map_err(|e| e.to_string())? {
            Some(value) => nested(&value, &mut text)?,
            None => return Err(format!("could not find key: {name}")),
        }
        entries.push(format!("{name}:{text}"));
    }
    entries.sort();
    out.push('{');
    out.push_str(&entries.join(", "));
    out.push('}');
    Ok(())
}

/// Between quotes, as Go writes it.
fn go_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A value as a message shows it.
pub(super) fn shown(value: &Value<'_>) -> String {
    let mut out = String::new();
    match value {
        Value::String(text) => out.push_str(text),
        other => {
            if nested(other, &mut out).is_err() {
                out = other.type_name().to_owned();
            }
        }
    }
    out
}

/// A key as a message shows it.
pub(crate) fn key_text(key: &Value<'_>) -> String {
    match Key::of(key) {
        Some(Key::String(text)) => text.to_string(),
        _ => shown(key),
    }
}
