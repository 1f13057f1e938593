//! When a lost watch is made again.

use kube::runtime::utils::Backoff;
use std::time::Duration;
use tokio::time::Instant;

/// An apiserver that was restarted is back within a second, so the first tries come soon.
const FIRST: Duration = Duration::from_millis(50);
/// One that stays away is not to be flooded by all that wait for it.
const LONGEST: Duration = Duration::from_secs(10);
/// After so long without a failure the next one is the first again. Longer than any pause, or no pause would ever grow.
const QUIET: Duration = Duration::from_secs(30);

/// The pauses between tries: doubled each time, spread by a quarter so that not all come at once, short again after a quiet while. That a
/// single message came through doesn't shorten them: a server that answers and fails in turn would be asked without end.
#[derive(Debug, Default)]
pub struct Reconnect {
    failures: u32,
    last: Option<Instant>,
}

impl Iterator for Reconnect {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.last.is_none_or(|last| now.duration_since(last) > QUIET) {
            self.failures = 0;
        }
        self.last = Some(now);
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        Some(pause.mul_f64(rand::random_range(0.75..1.25)))
    }
}

impl Backoff for Reconnect {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_while_a_server_stays_away_and_are_short_again_after_a_quiet_while() {
        let mut pauses = Reconnect::default();
        let mut waited = Duration::ZERO;
        for _ in 0..4 {
            let pause = pauses.next().expect("a pause");
            tokio::time::advance(pause).await;
            waited += pause;
        }
        assert!(waited < Duration::from_secs(1), "{waited:?}");
        for _ in 0..20 {
            pauses.reset();
            let pause = pauses.next().expect("a pause");
            assert!(pause <= LONGEST.mul_f64(1.25));
            tokio::time::advance(pause).await;
        }
        assert!(pauses.next().expect("a pause") >= LONGEST.mul_f64(0.75));
        tokio::time::advance(QUIET * 2).await;
        assert!(pauses.next().expect("a pause") < FIRST * 2);
    }
}
