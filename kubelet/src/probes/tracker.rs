//! From single probe results to a verdict, by thresholds. Pure.

/// What a probe decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Whether the container has started.
    Startup,
    /// Whether it must be restarted.
    Liveness,
    /// Whether it can serve.
    Readiness,
}

impl Kind {
    /// As events name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// One result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Good.
    Success,
    /// Good, but worth telling.
    Warning(String),
    /// Bad.
    Failure(String),
    /// The probe couldn't be made; counts for nothing.
    Unknown(String),
}

/// Counts equal results in a row.
#[derive(Clone, Debug)]
pub(crate) struct Tracker {
    kind: Kind,
    success_threshold: i32,
    failure_threshold: i32,
    last: Option<bool>,
    run: i32,
    over: bool,
}

impl Tracker {
    /// Nothing counted.
    pub(crate) fn new(kind: Kind, success_threshold: i32, failure_threshold: i32) -> Self {
        Self {
            kind,
            success_threshold: success_threshold.max(1),
            failure_threshold: failure_threshold.max(1),
            last: None,
            run: 0,
            over: false,
        }
    }

    /// The verdict before the first probe: alive, not ready, startup unknown.
    pub(crate) fn initial(&self) -> Option<bool> {
        match self.kind {
            Kind::Startup => None,
            Kind::Liveness => Some(true),
            Kind::Readiness => Some(false),
        }
    }

    /// Takes a result in; returns the verdict once enough of them agree.
    pub(crate) fn step(&mut self, verdict: &Verdict) -> Option<bool> {
        let good = match verdict {
            Verdict::Success | Verdict::Warning(_) => true,
            Verdict::Failure(_) => false,
            Verdict::Unknown(_) => return None,
        };
        if self.last == Some(good) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(good);
            self.run = 1;
        }
        let threshold = if good {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if self.run < threshold {
            return None;
        }
        // A started container stays started, and a container to be restarted isn't asked again.
        self.over = match self.kind {
            Kind::Startup => true,
            Kind::Liveness => !good,
            Kind::Readiness => false,
        };
        Some(good)
    }

    /// Whether there is nothing left to find out about this container.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: Kind, success: i32, failure: i32, results: &str) -> Vec<Option<bool>> {
        let mut tracker = Tracker::new(kind, success, failure);
        results
            .chars()
            .map(|c| {
                tracker.step(&match c {
                    '+' => Verdict::Success,
                    '-' => Verdict::Failure(String::new()),
                    _ => Verdict::Unknown(String::new()),
                })
            })
            .collect()
    }

    #[test]
    fn thresholds_count_results_in_a_row() {
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(
            run(Kind::Readiness, 1, 3, "--+---"),
            [None, None, yes, None, None, no]
        );
        assert_eq!(run(Kind::Readiness, 2, 1, "+-++"), [None, no, None, yes]);
        assert_eq!(run(Kind::Liveness, 1, 2, "-?-"), [None, None, no]);
    }

    #[test]
    fn startup_is_decided_once() {
        let mut tracker = Tracker::new(Kind::Startup, 1, 3);
        assert_eq!(tracker.step(&Verdict::Success), Some(true));
        assert!(tracker.is_over());
    }
}
