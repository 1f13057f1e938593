//! From text to words.

use crate::source::{Issue, Position};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ident,
    /// An identifier between back quotes.
    Quoted,
    Int,
    Uint,
    Float,
    String,
    Bytes,
    /// An operator or a bracket.
    Mark,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'s> {
    pub(crate) kind: Kind,
    pub(crate) text: &'s str,
    pub(crate) position: Position,
}

const MARKS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":",
    "+", "*", "/", "%",
];

/// All words, the last of kind [`Kind::End`], and what wasn't one.
pub(crate) fn lex(source: &str) -> (Vec<Token<'_>>, Vec<Issue>) {
    let (mut tokens, mut issues) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let skip = blank(rest);
        if skip > 0 {
            at += skip;
            continue;
        }
        let position = Position(at as u32);
        match word(rest) {
            Some((kind, length)) => {
                let text = &rest[..length];
                tokens.push(Token { kind, text, position });
                at += length;
            }
            None => {
                let length = unknown(rest);
                let text = rest[..length]
                    .replace('\n', "\\n")
                    .replace('\t', "\\t")
                    .replace('\r', "\\r");
                issues.push(Issue {
                    position,
                    message: format!("Syntax error: token recognition error at: '{text}'"),
                });
                at += length;
            }
        }
    }
    tokens.push(Token {
        kind: Kind::End,
        text: "<EOF>",
        position: Position(source.len() as u32),
    });
    (tokens, issues)
}

/// How much of the text is blank or a comment.
fn blank(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    text.len() - text.trim_start_matches([' ', '\t', '\r', '\n', '\u{c}']).len()
}

/// How much of a text that starts no word is skipped: an unfinished string to the end of its line, else one character.
fn unknown(text: &str) -> usize {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let mut escaped = false;
            for (at, c) in text.char_indices().skip(1) {
                if escaped && !is_escape(c) {
                    return at + c.len_utf8();
                }
                escaped = !escaped && c == '\\';
                if matches!(c, '\n' | '\r') {
                    return at;
                }
                if c == quote && !escaped {
                    return at + 1;
                }
            }
            text.len()
        }
        // These begin operators of two characters.
        Some('=' | '&' | '|') => 1 + text[1..].chars().next().map_or(0, char::len_utf8),
        Some(c) => c.len_utf8(),
        None => 0,
    }
}

fn word(text: &str) -> Option<(Kind, usize)> {
    let bytes = text.as_bytes();
    match bytes[0] {
        b'0'..=b'9' => Some(number(text)),
        b'.' if bytes.get(1).is_some_and(u8::is_ascii_digit) => Some(number(text)),
        b'"' | b'\'' => string(text).map(|n| (Kind::String, n)),
        b'`' => {
            let end = text[1..].find('`')?;
            let name = &text[1..=end];
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' ');
            (!name.is_empty() && name.chars().all(fits)).then_some((Kind::Quoted, end + 2))
        }
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => Some(prefixed(text).unwrap_or_else(|| {
            let other = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            (Kind::Ident, text.find(other).unwrap_or(text.len()))
        })),
        _ => {
            let mark = MARKS.iter().find(|mark| text.starts_with(**mark))?;
            Some((Kind::Mark, mark.len()))
        }
    }
}

/// Strings behind `r` and `b`.
fn prefixed(text: &str) -> Option<(Kind, usize)> {
    let letters = text.bytes().take_while(|b| b.is_ascii_alphabetic()).count();
    if !(1..=2).contains(&letters) || !matches!(text.as_bytes().get(letters), Some(b'"' | b'\'')) {
        return None;
    }
    let kind = match text[..letters].to_ascii_lowercase().as_str() {
        "r" => Kind::String,
        "b" | "br" => Kind::Bytes,
        _ => return None,
    };
    let raw = letters == 2 || kind == Kind::String;
    let length = if raw {
        raw_string(&text[letters..])
    } else {
        string(&text[letters..])
    };
    length.map(|n| (kind, n + letters))
}

fn raw_string(text: &str) -> Option<usize> {
    let quote = &text[..1];
    let triple = quote.repeat(3);
    if let Some(rest) = text.strip_prefix(triple.as_str()) {
        return rest.find(triple.as_str()).map(|end| end + 6);
    }
    let end = text[1..].find(|c| c == '\n' || c == '\r' || text.starts_with(c))?;
    text[1 + end..].starts_with(quote).then_some(end + 2)
}

fn string(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    let triple = text.starts_with(&String::from(quote).repeat(3));
    let open = if triple { 3 } else { 1 };
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(open) {
        if escaped && !is_escape(c) {
            return None;
        } else if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if triple && text[i..].starts_with(&String::from(quote).repeat(3)) {
            return Some(i + 3);
        } else if !triple && c == quote {
            return Some(i + 1);
        } else if !triple && matches!(c, '\n' | '\r') {
            return None;
        }
    }
    None
}

/// What may follow a backslash.
fn is_escape(c: char) -> bool {
    matches!(
        c,
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`' | 'x' | 'X' | 'u' | 'U' | '0'
            ..='3'
    )
}

fn number(text: &str) -> (Kind, usize) {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    if let Some(rest) = text.strip_prefix("0x") {
        let hex = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if hex > 0 {
            return unsigned(text, hex + 2);
        }
    }
    let mut end = digits(0);
    let mut float = false;
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end += 1 + digits(end + 1);
        float = true;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits((end + 1 + sign).min(bytes.len()));
        if exponent > 0 {
            end += 1 + sign + exponent;
            float = true;
        }
    }
    if float {
        (Kind::Float, end)
    } else {
        unsigned(text, end)
    }
}

fn unsigned(text: &str, end: usize) -> (Kind, usize) {
    match text.as_bytes().get(end) {
        Some(b'u' | b'U') => (Kind::Uint, end + 1),
        _ => (Kind::Int, end),
    }
}

/// What a string or bytes literal (without the `b`) stands for.
pub(crate) fn unescape(text: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    const BAD: &str = "unable to unescape string";
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let raw = text.starts_with(['r', 'R']);
    let text = if raw { &text[1..] } else { text.as_str() };
    let open = if text.len() >= 6 && (text.starts_with("'''") || text.starts_with("\"\"\"")) {
        3
    } else {
        1
    };
    let inner = text.get(open..text.len().saturating_sub(open)).ok_or(BAD)?;
    if raw || !inner.contains('\\') {
        return Ok(inner.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let c = chars
            .next()
            .ok_or("unable to unescape string, found '\\' as last character")?;
        let (digits, radix) = match c {
            'a' => {
                out.push(7);
                continue;
            }
            'b' => {
                out.push(8);
                continue;
            }
            'f' => {
                out.push(12);
                continue;
            }
            'n' => {
                out.push(b'\n');
                continue;
            }
            'r' => {
                out.push(b'\r');
                continue;
            }
            't' => {
                out.push(b'\t');
                continue;
            }
            'v' => {
                out.push(11);
                continue;
            }
            '\\' | '\'' | '"' | '`' | '?' => {
                out.push(c as u8);
                continue;
            }
            'x' | 'X' => (2, 16),
            'u' if !bytes => (4, 16),
            'U' if !bytes => (8, 16),
            '0'..='3' => (2, 8),
            _ => return Err(BAD),
        };
        let wrong = if radix == 8 {
            "unable to unescape octal sequence in string"
        } else {
            BAD
        };
        let mut value = if radix == 8 {
            c.to_digit(8).unwrap_or_default()
        } else {
            0
        };
        for _ in 0..digits {
            let digit = chars.next().and_then(|c| c.to_digit(radix)).ok_or(wrong)?;
            value = value.wrapping_mul(radix) | digit;
        }
        if bytes {
            out.push(value as u8);
        } else {
            let c = char::from_u32(value).ok_or("invalid unicode code point")?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Ok(out)
}
