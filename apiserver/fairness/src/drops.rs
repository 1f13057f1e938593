//! How long who was sent away should wait: longer while many are, shorter again when few are.

use std::collections::VecDeque;

/// The longest advice, in seconds.
const LONGEST: u64 = 32;

/// Those sent away of one level, by second.
#[derive(Clone, Debug)]
pub struct Drops {
    history: VecDeque<(u64, u64)>,
    second: u64,
    count: u64,
    advice: u64,
    raised: u64,
}

impl Default for Drops {
    fn default() -> Self {
        Self {
            history: VecDeque::new(),
            second: 0,
            count: 0,
            advice: 1,
            raised: 0,
        }
    }
}

impl Drops {
    /// One more is sent away in this second. In how many seconds it should come back.
    pub fn note(&mut self, second: u64) -> u64 {
        if second == self.second {
            self.count += 1;
            return self.advice;
        }
        self.history.push_back((self.second, self.count));
        let keep = (2 * self.advice).min(LONGEST);
        while self
            .history
            .front()
            .is_some_and(|(at, _)| second.saturating_sub(*at) > keep)
        {
            self.history.pop_front();
        }
        (self.second, self.count) = (second, 1);
        self.revise(second);
        self.advice
    }

    fn revise(&mut self, second: u64) {
        let recent = |at: u64| at < second && second - at <= self.advice;
        let dropped: u64 = self
            .history
            .iter()
            .filter(|(at, _)| recent(*at))
            .map(|(_, n)| n)
            .sum();
        if second.saturating_sub(self.raised) >= self.advice && dropped >= 3 * self.advice {
            self.advice = (2 * self.advice).min(LONGEST);
            self.raised = second;
        } else if dropped < self.advice && self.advice > 1 {
            self.advice -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_doubles_under_pressure_and_comes_down_one_by_one() {
        let mut drops = Drops::default();
        let mut advice = Vec::new();
        for second in 100..110 {
            for _ in 0..100 {
                drops.note(second);
            }
            advice.push(drops.note(second));
        }
        assert_eq!(advice, [1, 2, 2, 4, 4, 4, 4, 8, 8, 8]);
        let quiet: Vec<u64> = (0..9).map(|n| drops.note(200 + 20 * n)).collect();
        assert_eq!(quiet, [7, 6, 5, 4, 3, 2, 1, 1, 1]);
    }
}
