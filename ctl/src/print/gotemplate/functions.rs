//! The functions of templates: Go's, and kubectl's `base64decode` and `exists`.

use super::exec::V;
use base64::Engine;
use serde_json::{Number, Value};
use std::cmp::Ordering;

const NAMES: [&str; 20] = [
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "html",
    "js",
    "urlquery",
    "base64decode",
    "exists",
];

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

pub(super) fn truth(value: &V) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(b)) => *b,
        Some(Value::Number(n)) => n.as_f64().is_some_and(|f| f != 0.0),
        Some(Value::String(s)) => !s.is_empty(),
        Some(Value::Array(a)) => !a.is_empty(),
        Some(Value::Object(m)) => !m.is_empty(),
    }
}

pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// What an action prints.
pub(super) fn text(value: &V) -> String {
    match value {
        None | Some(Value::Null) => "<no value>".to_owned(),
        Some(v) => sprint(v),
    }
}

/// `%v`
fn sprint(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => number(n),
        Value::String(s) => s.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(sprint).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let pairs: Vec<String> = keys
                .iter()
                .map(|k| format!("{k}:{}", map.get(*k).map_or_else(String::new, sprint)))
                .collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

fn number(n: &Number) -> String {
    if n.is_f64() {
        general(n.as_f64().unwrap_or(0.0))
    } else {
        n.to_string()
    }
}

/// `%g` with the shortest digits: an exponent below 1e-4 and from 1e6.
fn general(f: f64) -> String {
    if f == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{f:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{f}")
}

pub(super) fn call(name: &str, args: &[V]) -> Result<V, String> {
    let one = || match args {
        [v] => Ok(v),
        _ => Err(format!(
            "wrong number of args for {name}: want 1 got {}",
            args.len()
        )),
    };
    let yes = |b: bool| Ok(Some(Value::Bool(b)));
    match name {
        "not" => yes(!truth(one()?)),
        "len" => match one()? {
            Some(Value::String(s)) => Ok(Some(Value::from(s.len()))),
            Some(Value::Array(a)) => Ok(Some(Value::from(a.len()))),
            Some(Value::Object(m)) => Ok(Some(Value::from(m.len()))),
            Some(other) => Err(format!("len of type {}", type_name(other))),
            None => Err("len of nil pointer".to_owned()),
        },
        "index" => index(args),
        "slice" => slice(args),
        "eq" => {
            let (first, rest) = args
                .split_first()
                .filter(|(_, r)| !r.is_empty())
                .ok_or("missing argument for comparison")?;
            for other in rest {
                if equal(first, other)? {
                    return yes(true);
                }
            }
            yes(false)
        }
        "ne" | "lt" | "le" | "gt" | "ge" => {
            let [a, b] = args else {
                return Err(format!(
                    "wrong number of args for {name}: want 2 got {}",
                    args.len()
                ));
            };
            if name == "ne" {
                return yes(!equal(a, b)?);
            }
            let order = compare(a, b)?;
            yes(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
        "print" => Ok(Some(Value::String(print(args)))),
        "println" => {
            let words: Vec<String> = args.iter().map(argument).collect();
            Ok(Some(Value::String(format!("{}\n", words.join(" ")))))
        }
        "printf" => {
            let Some((Some(Value::String(format)), rest)) = args.split_first() else {
                return Err("wrong type for value; expected string".to_owned());
            };
            Ok(Some(Value::String(printf(format, rest))))
        }
        "html" => Ok(Some(Value::String(escape(&print(args))))),
        "js" => Ok(Some(Value::String(
            print(args)
                .replace('\\', "\\\\")
                .replace('\'', "\\'")
                .replace('"', "\\\"")
                .replace('<', "\\u003C")
                .replace('>', "\\u003E")
                .replace('\n', "\\n"),
        ))),
        "urlquery" => Ok(Some(Value::String(
            crate::rest::encode(&print(args)).replace("%20", "+"),
        ))),
        "base64decode" => match one()? {
            Some(Value::String(s)) => base64::engine::general_purpose::STANDARD
                .decode(s)
                .map(|b| Some(Value::String(String::from_utf8_lossy(&b).into_owned())))
                .map_err(|e| format!("base64 decode failed: {e}")),
            _ => Err("base64 decode: wrong type for value; expected string".to_owned()),
        },
        "exists" => {
            let Some((Some(first), keys)) = args.split_first() else {
                return yes(false);
            };
            let mut here = first;
            for key in keys {
                let next = match (here, key) {
                    (Value::Object(m), Some(Value::String(k))) => m.get(k),
                    (Value::Array(a), Some(Value::Number(n))) => {
                        n.as_u64().and_then(|i| a.get(usize::try_from(i).ok()?))
                    }
                    _ => None,
                };
                match next {
                    Some(v) => here = v,
                    None => return yes(false),
                }
            }
            yes(true)
        }
        other => Err(format!("function \"{other}\" not defined")),
    }
}

fn whole(value: &V) -> Option<i64> {
    match value {
        Some(Value::Number(n)) => n.as_i64().or_else(|| {
            #[allow(clippy::cast_possible_truncation)]
            n.as_f64().filter(|f| f.fract() == 0.0).map(|f| f as i64)
        }),
        _ => None,
    }
}

fn index(args: &[V]) -> Result<V, String> {
    let Some((first, keys)) = args.split_first() else {
        return Err("index of untyped nil".to_owned());
    };
    let mut here = first.clone();
    for key in keys {
        here = match (here, key) {
            (Some(Value::Object(mut map)), Some(Value::String(k))) => map.remove(k),
            (Some(Value::Array(items)), k) => {
                let at = whole(k).ok_or("cannot index slice/array with type string")?;
                match usize::try_from(at).ok().and_then(|i| items.get(i)) {
                    Some(v) => Some(v.clone()),
                    None => return Err(format!("index out of range: {at}")),
                }
            }
            (None | Some(Value::Null), _) => return Err("index of untyped nil".to_owned()),
            (Some(other), _) => return Err(format!("can't index item of type {}", type_name(&other))),
        };
    }
    Ok(here)
}

fn slice(args: &[V]) -> Result<V, String> {
    let Some((first, bounds)) = args.split_first() else {
        return Err("slice of untyped nil".to_owned());
    };
    let bound = |at: usize, default: usize| {
        bounds
            .get(at)
            .and_then(whole)
            .and_then(|i| usize::try_from(i).ok())
            .unwrap_or(default)
    };
    let bad = || "index out of range".to_owned();
    match first {
        Some(Value::String(s)) => {
            let text = s.get(bound(0, 0)..bound(1, s.len())).ok_or_else(bad)?;
            Ok(Some(Value::String(text.to_owned())))
        }
        Some(Value::Array(a)) => {
            let items = a.get(bound(0, 0)..bound(1, a.len())).ok_or_else(bad)?;
            Ok(Some(Value::Array(items.to_vec())))
        }
        _ => Err("can't slice item of this type".to_owned()),
    }
}

fn equal(a: &V, b: &V) -> Result<bool, String> {
    match (a, b) {
        (None | Some(Value::Null), None | Some(Value::Null)) => Ok(true),
        (None | Some(Value::Null), _) | (_, None | Some(Value::Null)) => Ok(false),
        (Some(Value::Number(x)), Some(Value::Number(y))) => Ok(x.as_f64() == y.as_f64()),
        (Some(Value::String(x)), Some(Value::String(y))) => Ok(x == y),
        (Some(Value::Bool(x)), Some(Value::Bool(y))) => Ok(x == y),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn compare(a: &V, b: &V) -> Result<Ordering, String> {
    match (a, b) {
        (Some(Value::Number(x)), Some(Value::Number(y))) => x
            .as_f64()
            .partial_cmp(&y.as_f64())
            .ok_or_else(|| "invalid type for comparison".to_owned()),
        (Some(Value::String(x)), Some(Value::String(y))) => Ok(x.cmp(y)),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn argument(value: &V) -> String {
    match value {
        None => "<nil>".to_owned(),
        Some(v) => sprint(v),
    }
}

/// `fmt.Sprint`: spaces between operands when neither is a text.
fn print(args: &[V]) -> String {
    let mut out = String::new();
    let mut previous_text = true;
    for (at, arg) in args.iter().enumerate() {
        let is_text = matches!(arg, Some(Value::String(_)));
        if at > 0 && !is_text && !previous_text {
            out.push(' ');
        }
        out.push_str(&argument(arg));
        previous_text = is_text;
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

/// `fmt.Sprintf` for the verbs that data can have.
fn printf(format: &str, args: &[V]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut minus, mut zero, mut plus) = (false, false, false);
        while let Some(f) = chars.peek().copied().filter(|c| "-+# 0".contains(*c)) {
            minus |= f == '-';
            zero |= f == '0';
            plus |= f == '+';
            chars.next();
        }
        let digits = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut n: Option<usize> = None;
            while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                n = Some(n.unwrap_or(0) * 10 + d as usize);
                chars.next();
            }
            n
        };
        let width = digits(&mut chars).unwrap_or(0).min(10_000);
        let precision = if chars.peek() == Some(&'.') {
            chars.next();
            Some(digits(&mut chars).unwrap_or(0).min(1_000))
        } else {
            None
        };
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(arg) = args.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let mut piece = verb_text(verb, arg, precision);
        if plus && !piece.starts_with('-') && matches!(arg, Some(Value::Number(_))) {
            piece.insert(0, '+');
        }
        let length = piece.chars().count();
        let pad = width.saturating_sub(length);
        if minus {
            out.push_str(&piece);
            out.extend(std::iter::repeat_n(' ', pad));
        } else if zero {
            let at = usize::from(piece.starts_with(['-', '+']));
            out.push_str(piece.get(..at).unwrap_or(""));
            out.extend(std::iter::repeat_n('0', pad));
            out.push_str(piece.get(at..).unwrap_or(""));
        } else {
            out.extend(std::iter::repeat_n(' ', pad));
            out.push_str(&piece);
        }
    }
    out
}

fn verb_text(verb: char, arg: &V, precision: Option<usize>) -> String {
    let wrong = || {
        let kind = arg.as_ref().map_or("nil", type_name);
        format!("%!{verb}({kind}={})", argument(arg))
    };
    let cut = |text: String| match precision {
        Some(p) => text.chars().take(p).collect(),
        None => text,
    };
    let float = arg.as_ref().and_then(Value::as_f64);
    let int = match arg {
        Some(Value::Number(n)) => n.as_i64(),
        _ => None,
    };
    match (verb, arg) {
        ('v', _) => argument(arg),
        ('s', Some(Value::String(s))) => cut(s.clone()),
        ('s', Some(Value::Array(_) | Value::Object(_))) => argument(arg),
        ('q', Some(Value::String(s))) => crate::error::go_quote(&cut(s.clone())),
        ('t', Some(Value::Bool(b))) => b.to_string(),
        ('d', _) if int.is_some() => int.map_or_else(wrong, |i| i.to_string()),
        ('x', Some(Value::String(s))) => s.bytes().map(|b| format!("{b:02x}")).collect(),
        ('x', _) if int.is_some() => int.map_or_else(wrong, |i| format!("{i:x}")),
        ('f' | 'F', _) => float
            .filter(|_| int.is_none())
            .map_or_else(wrong, |f| format!("{f:.*}", precision.unwrap_or(6))),
        ('e', _) => float.map_or_else(wrong, |f| format!("{f:.*e}", precision.unwrap_or(6))),
        ('g', _) => float.map_or_else(wrong, general),
        ('T', _) => arg.as_ref().map_or("<nil>", type_name).to_owned(),
        _ => wrong(),
    }
}
