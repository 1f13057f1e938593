//! Container log files in the runtime's format: `TIME STREAM TAG TEXT`, where tag `P` marks a line that goes on in the next entry.

use jiff::Timestamp;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// One entry of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) time: &'a str,
    pub(crate) stream: &'a str,
    pub(crate) partial: bool,
    pub(crate) text: &'a [u8],
}

/// Reads an entry from a line without its newline; none when it isn't one.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tag = parts.next()?;
    if !matches!(stream, "stdout" | "stderr") {
        return None;
    }
    let partial = tag.split(|b| *b == b':').next() == Some(b"P");
    Some(Entry {
        time,
        stream,
        partial,
        text: parts.next().unwrap_or_default(),
    })
}

/// An entry's time.
pub(crate) fn time_of(entry: &Entry<'_>) -> Option<Timestamp> {
    entry.time.parse().ok()
}

/// The last lines of a log file as text, at most so many lines and bytes.
pub(crate) fn last_lines(path: &Path, lines: usize, bytes: usize) -> String {
    let Ok(tail) = read_tail(path, bytes * 4 + (16 << 10)) else {
        return String::new();
    };
    let mut out: Vec<String> = tail
        .split(|b| *b == b'\n')
        .filter_map(parse)
        .map(|e| String::from_utf8_lossy(e.text).into_owned() + if e.partial { "" } else { "\n" })
        .collect();
    let skip = out.len().saturating_sub(lines);
    let text = out.split_off(skip).concat();
    let mut from = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].to_owned()
}

fn read_tail(path: &Path, bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(bytes as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut out = Vec::new();
    file.read_to_end(&mut out)?;
    if from > 0 {
        let first = out
            .iter()
            .position(|b| *b == b'\n')
            .map_or(out.len(), |at| at + 1);
        out.drain(..first);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_with_their_tags() {
        let line = b"2026-11-21T07:00:00.123456789Z stdout F hello  world";
        let entry = parse(line).expect("an entry");
        assert_eq!(
            (entry.stream, entry.partial, entry.text),
            ("stdout", false, &b"hello  world"[..])
        );
        assert!(parse(b"2026-11-21T07:00:00Z stderr P:x part").is_some_and(|e| e.partial));
        assert!(parse(b"2026-11-21T07:00:00Z stdout F").is_some_and(|e| e.text.is_empty()));
        assert_eq!(parse(b"nonsense"), None);
    }

    #[test]
    fn the_tail_is_cut_to_lines_and_bytes() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("0.log");
        let text: String = (0..50)
            .map(|i| format!("2026-11-21T07:00:00Z stdout F line {i}\n"))
            .collect();
        fs::write(&path, text).expect("a file");
        assert_eq!(last_lines(&path, 2, 1000), "line 48\nline 49\n");
        assert_eq!(last_lines(&path, 50, 8), "line 49\n");
    }
}
