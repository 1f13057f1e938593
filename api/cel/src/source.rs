//! Where something is in an expression, and how a mistake is shown there.
//!
//! The texts are those that cel-go prints, because clients and tests match on them:
//! `ERROR: <input>:1:3: undeclared reference to 'x' (in container '')`, the line, and a mark below it.

use std::fmt;

/// A byte offset into an expression; [`Position::NONE`] is nowhere in particular.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u32);

impl Position {
    /// Nowhere in particular: a limit on the expression as a whole.
    pub const NONE: Self = Self(u32::MAX);
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where.
    pub position: Position,
    /// What.
    pub message: String,
}

/// All mistakes of an expression, in the order of their places. Printed as cel-go prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    source: String,
    issues: Vec<Issue>,
    /// How many there were, when more than [`MAX_ISSUES`] were not kept.
    count: usize,
}

/// More mistakes than these are only counted.
const MAX_ISSUES: usize = 100;
/// Longer lines aren't shown.
const MAX_SNIPPET: usize = 16384;

impl Issues {
    /// Mistakes of an expression.
    pub(crate) fn new(source: &str, mut issues: Vec<Issue>) -> Self {
        let count = issues.len();
        issues.truncate(MAX_ISSUES);
        let mut made = Self {
            source: source.to_owned(),
            issues,
            count,
        };
        let mut places: Vec<_> = made.issues.iter().map(|i| made.line_column(i.position)).collect();
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|i| places[*i]);
        made.issues = order.iter().map(|i| made.issues[*i].clone()).collect();
        places.clear();
        made
    }

    /// The mistakes one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Issue> {
        self.issues.iter()
    }

    /// The line (from 1) and column (from 0, in characters) of a place.
    fn line_column(&self, position: Position) -> (i64, i64) {
        if position == Position::NONE {
            return (-1, -1);
        }
        let mut at = (position.0 as usize).min(self.source.len());
        while !self.source.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.source[..at];
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        let line = before.matches('\n').count() + 1;
        (line as i64, before[start..].chars().count() as i64)
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.issues.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let (line, column) = self.line_column(issue.position);
            write!(f, "ERROR: <input>:{line}:{}: {}", column + 1, issue.message)?;
            let text = usize::try_from(line - 1)
                .ok()
                .and_then(|l| self.source.split('\n').nth(l));
            if let Some(text) = text.filter(|text| text.len() <= MAX_SNIPPET) {
                let text = text.replace('\t', " ");
                write!(f, "\n | {text}\n | ")?;
                let mut chars = text.chars();
                for _ in 0..column {
                    match chars.next() {
                        Some(c) if c.len_utf8() > 1 => f.write_str("\u{ff0e}")?,
                        Some(_) => f.write_str(".")?,
                        None => break,
                    }
                }
                let wide = chars.next().is_some_and(|c| c.len_utf8() > 1);
                f.write_str(if wide { "\u{ff3e}" } else { "^" })?;
            }
        }
        if self.count > MAX_ISSUES {
            write!(f, "\n{} more errors were truncated", self.count - MAX_ISSUES)?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_below_its_line() {
        let at = |source: &str, position: u32, message: &str| {
            let issue = Issue {
                position: Position(position),
                message: message.to_owned(),
            };
            Issues::new(source, vec![issue]).to_string()
        };
        assert_eq!(
            at("1 + x", 4, "no x"),
            "ERROR: <input>:1:5: no x\n | 1 + x\n | ....^"
        );
        assert_eq!(
            at("a &&\n\t'ü' + x", 13, "no x"),
            "ERROR: <input>:2:8: no x\n |  'ü' + x\n | ..．....^"
        );
        assert_eq!(at("a", u32::MAX, "too deep"), "ERROR: <input>:-1:0: too deep");
    }
}
