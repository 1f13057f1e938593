//! Puts `metadata.resourceVersion` into an object's JSON without parsing it.
//!
//! Two ways. **Fast**: when the first member of `metadata` is `resourceVersion` (which the apiserver's encoder writes as
//! `"resourceVersion":""` right after the brace, and which every result of this function has), only the few bytes before it are
//! read. **Any other JSON**: the members of `metadata` are walked token by token; a `resourceVersion` found there is replaced,
//! a missing one inserted first. Both cost a scan, never a tree. Text outside of what is walked is not checked to be JSON.

use crate::Revision;
use bytes::Bytes;
use thiserror::Error;

/// Why no resource version could be put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SpliceError {
    /// The text isn't a JSON object.
    #[error("not a JSON object")]
    NotAnObject,
    /// `metadata` isn't an object.
    #[error("metadata is not an object")]
    MetadataNotAnObject,
    /// The text ends or breaks off inside a token.
    #[error("malformed JSON at byte {0}")]
    Malformed(usize),
}

/// The object's JSON with `metadata.resourceVersion` set. The result is one exact allocation.
pub fn splice_resource_version(json: &[u8], revision: Revision) -> Result<Bytes, SpliceError> {
    let mut digits = itoa::Buffer::new();
    let number = digits.format(revision.0).as_bytes();
    let (from, to, before, after): (usize, usize, &[u8], &[u8]) = match find(json)? {
        Place::Replace(from, to) => (from, to, b"\"", b"\""),
        Place::InMetadata { at, empty: false } => (at, at, b"\"resourceVersion\":\"", b"\","),
        Place::InMetadata { at, empty: true } => (at, at, b"\"resourceVersion\":\"", b"\""),
        Place::NoMetadata { at, empty: false } => (at, at, b"\"metadata\":{\"resourceVersion\":\"", b"\"},"),
        Place::NoMetadata { at, empty: true } => (at, at, b"\"metadata\":{\"resourceVersion\":\"", b"\"}"),
    };
    let head = json.get(..from).unwrap_or_default();
    let tail = json.get(to..).unwrap_or_default();
    let mut out = Vec::with_capacity(head.len() + before.len() + number.len() + after.len() + tail.len());
    for part in [head, before, number, after, tail] {
        out.extend_from_slice(part);
    }
    Ok(Bytes::from(out))
}

/// Where the resource version goes.
enum Place {
    /// Instead of these bytes, which are a JSON value.
    Replace(usize, usize),
    /// Right after the brace of `metadata`.
    InMetadata { at: usize, empty: bool },
    /// Right after the outermost brace.
    NoMetadata { at: usize, empty: bool },
}

fn find(json: &[u8]) -> Result<Place, SpliceError> {
    let mut scan = Scan { json, at: 0 };
    scan.space();
    if !scan.take(b'{') {
        return Err(SpliceError::NotAnObject);
    }
    let outer = scan.at;
    scan.space();
    if scan.peek() == Some(b'}') {
        return Ok(Place::NoMetadata {
            at: outer,
            empty: true,
        });
    }
    if !scan.find_member(b"metadata")? {
        return Ok(Place::NoMetadata {
            at: outer,
            empty: false,
        });
    }
    if !scan.take(b'{') {
        return Err(SpliceError::MetadataNotAnObject);
    }
    let inner = scan.at;
    scan.space();
    if scan.peek() == Some(b'}') {
        return Ok(Place::InMetadata {
            at: inner,
            empty: true,
        });
    }
    if !scan.find_member(b"resourceVersion")? {
        return Ok(Place::InMetadata {
            at: inner,
            empty: false,
        });
    }
    let from = scan.at;
    scan.value()?;
    Ok(Place::Replace(from, scan.at))
}

struct Scan<'a> {
    json: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn need(&mut self, byte: u8) -> Result<(), SpliceError> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(SpliceError::Malformed(self.at))
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// From a member's name, walks to the value of the member with this name; false at the object's end.
    fn find_member(&mut self, name: &[u8]) -> Result<bool, SpliceError> {
        loop {
            self.space();
            let start = self.at + 1;
            self.string()?;
            let found = self.json.get(start..self.at - 1) == Some(name);
            self.space();
            self.need(b':')?;
            self.space();
            if found {
                return Ok(true);
            }
            self.value()?;
            self.space();
            if self.take(b'}') {
                return Ok(false);
            }
            self.need(b',')?;
        }
    }

    fn string(&mut self) -> Result<(), SpliceError> {
        self.need(b'"')?;
        loop {
            let rest = self.json.get(self.at..).unwrap_or_default();
            let Some(step) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(SpliceError::Malformed(self.json.len()));
            };
            self.at += step;
            if self.take(b'"') {
                return Ok(());
            }
            self.at += 2;
        }
    }

    /// Walks over one value of any kind, without recursion.
    fn value(&mut self) -> Result<(), SpliceError> {
        let start = self.at;
        let mut depth = 0usize;
        loop {
            match self.peek() {
                None if depth == 0 && self.at > start => return Ok(()),
                None => return Err(SpliceError::Malformed(self.at)),
                Some(b'"') => {
                    self.string()?;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') if depth == 0 => {
                    return if self.at > start {
                        Ok(())
                    } else {
                        Err(SpliceError::Malformed(self.at))
                    };
                }
                Some(b'}' | b']') => {
                    depth -= 1;
                    self.at += 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                Some(b',') if depth == 0 => {
                    return if self.at > start {
                        Ok(())
                    } else {
                        Err(SpliceError::Malformed(self.at))
                    };
                }
                Some(_) => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_lands_in_metadata_whatever_the_form() {
        let table: &[(&str, &str)] = &[
            (
                r#"{"kind":"A","metadata":{"resourceVersion":"","name":"x"}}"#,
                r#"{"kind":"A","metadata":{"resourceVersion":"7","name":"x"}}"#,
            ),
            (
                r#"{"metadata":{"name":"x"}}"#,
                r#"{"metadata":{"resourceVersion":"7","name":"x"}}"#,
            ),
            (r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"7"}}"#),
            (
                r#"{"metadata":{ } }"#,
                r#"{"metadata":{"resourceVersion":"7" } }"#,
            ),
            (r#"{}"#, r#"{"metadata":{"resourceVersion":"7"}}"#),
            (r#"{"a":1}"#, r#"{"metadata":{"resourceVersion":"7"},"a":1}"#),
            (
                r#"{"spec":{"metadata":{"resourceVersion":"3"}},"metadata":{"name":"x"}}"#,
                r#"{"spec":{"metadata":{"resourceVersion":"3"}},"metadata":{"resourceVersion":"7","name":"x"}}"#,
            ),
            (
                r#"{"metadata":{"annotations":{"resourceVersion":"3","q":"a\"}{"},"resourceVersion":"123456"},"x":[]}"#,
                r#"{"metadata":{"annotations":{"resourceVersion":"3","q":"a\"}{"},"resourceVersion":"7"},"x":[]}"#,
            ),
            (
                "\n{ \"a\" : [1, {\"b\":null}] , \"metadata\" :\t{ \"name\" : \"x\" } }",
                "\n{ \"a\" : [1, {\"b\":null}] , \"metadata\" :\t{\"resourceVersion\":\"7\", \"name\" : \"x\" } }",
            ),
            (
                r#"{"metadata":{"resourceVersion":null}}"#,
                r#"{"metadata":{"resourceVersion":"7"}}"#,
            ),
        ];
        for (input, want) in table {
            let got = splice_resource_version(input.as_bytes(), Revision(7)).expect(input);
            assert_eq!(std::str::from_utf8(&got).unwrap(), *want, "input {input}");
        }
    }

    #[test]
    fn broken_text_is_an_error_and_never_a_panic() {
        let whole = r#"{"a":[1,{"b":"\u0041\\"}],"metadata":{"name":"x","resourceVersion":"3"}}"#;
        for end in 0..whole.len() {
            let part = whole.as_bytes().get(..end).unwrap();
            if let Ok(done) = splice_resource_version(part, Revision(7)) {
                assert!(done.len() >= part.len().saturating_sub(1), "cut at {end}");
            }
        }
        for text in [
            "",
            "[]",
            "null",
            "{",
            "{]",
            r#"{"metadata":[]}"#,
            r#"{"a""#,
            r#"{"a":}"#,
        ] {
            assert!(
                splice_resource_version(text.as_bytes(), Revision(7)).is_err(),
                "{text}"
            );
        }
    }
}
