//! What a workload saw: latencies, bytes, and errors by what they were.

use std::collections::BTreeMap;
use std::time::Duration;

/// Collected while a workload runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    latencies: Vec<u32>,
    /// Bytes of answers' bodies.
    pub(crate) bytes: u64,
    errors: BTreeMap<String, u64>,
    /// Requests that were sent away with 429 where that is a legitimate answer.
    pub(crate) refused: u64,
    /// What else is to be known.
    pub(crate) note: String,
}

impl Record {
    /// A request that was answered as it should be.
    pub(crate) fn answered(&mut self, took: Duration, bytes: u64) {
        self.latencies
            .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        self.bytes += bytes;
    }

    /// A request that wasn't, or something else that must not be.
    pub(crate) fn failed(&mut self, why: impl Into<String>, times: u64) {
        if times > 0 {
            *self.errors.entry(why.into()).or_default() += times;
        }
    }

    /// Takes over what another one saw.
    pub(crate) fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.bytes += other.bytes;
        self.refused += other.refused;
        for (why, times) in other.errors {
            self.failed(why, times);
        }
    }

    /// How many were answered as they should be.
    pub(crate) fn count(&self) -> u64 {
        self.latencies.len() as u64
    }

    /// How many weren't.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The errors, most frequent first.
    pub(crate) fn reasons(&self) -> Vec<(String, u64)> {
        let mut all: Vec<_> = self.errors.iter().map(|(why, n)| (why.clone(), *n)).collect();
        all.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        all
    }

    /// Latencies in milliseconds that these shares (0 to 1) of requests did not exceed.
    pub(crate) fn percentiles<const N: usize>(&mut self, shares: [f64; N]) -> [f64; N] {
        self.latencies.sort_unstable();
        shares.map(|share| {
            let at = ((self.latencies.len() as f64 * share).ceil() as usize).saturating_sub(1);
            self.latencies
                .get(at)
                .map_or(0.0, |micros| f64::from(*micros) / 1000.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_add_up() {
        let mut all = Record::default();
        for chunk in 0..4u64 {
            let mut part = Record::default();
            for n in 1..=25 {
                part.answered(Duration::from_millis(chunk * 25 + n), 10);
            }
            part.failed("status 500", chunk);
            part.refused = chunk;
            all.merge(part);
        }
        assert_eq!(
            (all.count(), all.bytes, all.errors(), all.refused),
            (100, 1000, 6, 6)
        );
        assert_eq!(all.percentiles([0.5, 0.99, 1.0]), [50.0, 99.0, 100.0]);
        assert_eq!(all.reasons(), [("status 500".to_owned(), 6)]);
    }

    #[test]
    fn nothing_seen_is_nothing_reported() {
        let mut none = Record::default();
        none.failed("never", 0);
        assert_eq!((none.count(), none.errors()), (0, 0));
        assert_eq!(none.percentiles([0.5]), [0.0]);
    }
}
