//! What a level could use over time: the time-weighted mean, deviation and peak of its seat demand, and their smoothed envelope.

use std::time::Duration;

/// How slowly the smoothed demand comes down.
const SMOOTHING: f64 = 0.977;

/// Integrates a figure over time.
#[derive(Clone, Debug)]
pub struct Integrator {
    last: Duration,
    value: f64,
    seconds: f64,
    sum: f64,
    squares: f64,
    highest: f64,
}

/// What was integrated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    /// Over how many seconds.
    pub seconds: f64,
    /// The mean.
    pub average: f64,
    /// The standard deviation.
    pub deviation: f64,
    /// The peak.
    pub highest: f64,
}

impl Integrator {
    /// Begins at zero.
    pub fn new(now: Duration) -> Self {
        Self {
            last: now,
            value: 0.0,
            seconds: 0.0,
            sum: 0.0,
            squares: 0.0,
            highest: 0.0,
        }
    }

    /// The figure is this from now on.
    pub fn set(&mut self, now: Duration, value: f64) {
        self.advance(now);
        self.value = value;
        self.highest = self.highest.max(value);
    }

    fn advance(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.last).as_secs_f64();
        self.last = self.last.max(now);
        self.seconds += seconds;
        self.sum += seconds * self.value;
        self.squares += seconds * self.value * self.value;
    }

    /// What was integrated until now; begins anew.
    pub fn reset(&mut self, now: Duration) -> Observed {
        self.advance(now);
        let mut observed = Observed {
            seconds: self.seconds,
            highest: self.highest,
            ..Observed::default()
        };
        if self.seconds > 0.0 {
            observed.average = self.sum / self.seconds;
            let variance = self.squares / self.seconds - observed.average * observed.average;
            observed.deviation = variance.max(0.0).sqrt();
        }
        (self.seconds, self.sum, self.squares) = (0.0, 0.0, 0.0);
        self.highest = self.value;
        observed
    }
}

/// The demand of a level as the division of seats sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// The last period's mean.
    pub average: f64,
    /// The last period's deviation.
    pub deviation: f64,
    /// The last period's peak, in whole seats.
    pub highest: u32,
    /// The envelope, which rises at once and comes down slowly.
    pub smoothed: f64,
}

impl Demand {
    /// Takes a period in.
    pub fn observe(&mut self, seen: Observed) {
        self.highest = seen.highest.round().max(0.0) as u32;
        if seen.seconds <= 0.0 {
            return;
        }
        (self.average, self.deviation) = (seen.average, seen.deviation);
        let envelope = seen.average + seen.deviation;
        self.smoothed = envelope.max(SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * envelope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_is_weighted_by_time() {
        let at = Duration::from_secs;
        let mut integrator = Integrator::new(at(0));
        integrator.set(at(0), 4.0);
        integrator.set(at(5), 0.0);
        let seen = integrator.reset(at(10));
        assert_eq!(
            (seen.seconds, seen.average, seen.deviation, seen.highest),
            (10.0, 2.0, 2.0, 4.0)
        );
        let quiet = integrator.reset(at(20));
        assert_eq!((quiet.average, quiet.highest), (0.0, 0.0));
        let mut demand = Demand::default();
        demand.observe(seen);
        assert_eq!((demand.highest, demand.smoothed), (4, 4.0));
        demand.observe(quiet);
        assert_eq!(demand.highest, 0);
        assert!(
            demand.smoothed > 3.8 && demand.smoothed < 4.0,
            "comes down slowly"
        );
    }
}
