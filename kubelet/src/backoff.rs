//! Waiting longer after each failure. Pure: the caller says what time it is.

use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

/// Delays by key, doubling from the first to the longest, forgotten after twice the longest.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: SignedDuration,
    longest: SignedDuration,
    entries: HashMap<String, Entry>,
}

impl Backoff {
    /// No delays yet.
    pub(crate) fn new(first_seconds: i64, longest_seconds: i64) -> Self {
        Self {
            first: SignedDuration::from_secs(first_seconds),
            longest: SignedDuration::from_secs(longest_seconds),
            entries: HashMap::new(),
        }
    }

    /// The whole delay, and how much of it is left, when `since` the event it hasn't passed yet.
    pub(crate) fn remaining(
        &self,
        key: &str,
        since: Timestamp,
        now: Timestamp,
    ) -> Option<(SignedDuration, SignedDuration)> {
        let entry = self.entries.get(key)?;
        if self.is_stale(entry, since) {
            return None;
        }
        let left = entry.delay - now.duration_since(since);
        left.is_positive().then_some((entry.delay, left))
    }

    /// Lengthens the delay after another failure.
    pub(crate) fn lengthen(&mut self, key: &str, event: Timestamp, now: Timestamp) {
        let delay = match self.entries.get(key) {
            Some(entry) if !self.is_stale(entry, event) => (entry.delay * 2).min(self.longest),
            _ => self.first,
        };
        self.entries.insert(key.to_owned(), Entry { delay, updated: now });
    }

    /// Starts anew for a key.
    pub(crate) fn reset(&mut self, key: &str) {
        self.entries.remove(key);
    }

    fn is_stale(&self, entry: &Entry, at: Timestamp) -> bool {
        at.duration_since(entry.updated) > self.longest * 2
    }
}

/// A duration as Go writes it, as messages about back-off do: `10s`, `2m40s`, `5m0s`.
pub(crate) fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[test]
    fn delays_double_up_to_the_longest_and_are_forgotten_after_a_good_run() {
        let mut backoff = Backoff::new(10, 300);
        assert_eq!(backoff.remaining("a", at(0), at(0)), None);
        let mut delays = Vec::new();
        for _ in 0..7 {
            backoff.lengthen("a", at(0), at(0));
            delays.push(
                backoff
                    .remaining("a", at(0), at(0))
                    .map(|(d, _)| go_duration(d))
                    .unwrap_or_default(),
            );
        }
        assert_eq!(delays, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
        assert_eq!(backoff.remaining("a", at(0), at(300)), None);
        backoff.lengthen("a", at(700), at(700));
        assert_eq!(
            backoff.remaining("a", at(700), at(700)).map(|(d, _)| d.as_secs()),
            Some(10)
        );
    }
}
