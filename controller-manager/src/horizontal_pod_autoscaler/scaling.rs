//! How fast replicas may change: stabilization windows and rate limits (`spec.behavior`). Pure: the history is a value and the time is given.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// What was recommended and what was done lately, for one autoscaler.
#[derive(Clone, Debug, Default)]
pub struct History {
    recommended: Vec<(Timestamp, i32)>,
    ups: Vec<(Timestamp, i32)>,
    downs: Vec<(Timestamp, i32)>,
}

/// The bounds within which replicas are to be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// `minReplicas`
    pub min: i32,
    /// `maxReplicas`
    pub max: i32,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`, where the behavior names no window.
    pub window: SignedDuration,
}

/// A condition's reason and message.
pub type Why = (&'static str, &'static str);

/// What is allowed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Replicas.
    pub replicas: i32,
    /// For the condition AbleToScale.
    pub able: Why,
    /// For the condition ScalingLimited.
    pub limit: Why,
    /// Whether a bound or a rate held the change back.
    pub limited: bool,
}

const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const WITHIN: Why = (
    "DesiredWithinRange",
    "the desired count is within the acceptable range",
);
const TOO_FEW: Why = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);
const TOO_MANY: Why = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const UP_LIMIT: Why = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const DOWN_LIMIT: Why = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);
const STABLE_UP: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const STABLE_DOWN: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);

impl History {
    /// Remembers the size found at first, so that a restart doesn't shrink at once.
    pub fn start(&mut self, current: i32, now: Timestamp) {
        if self.recommended.is_empty() {
            self.recommended.push((now, current));
        }
    }

    /// Remembers a change that was made.
    pub fn changed(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        from: i32,
        to: i32,
        now: Timestamp,
    ) {
        let Some(behavior) = behavior else { return };
        let (events, rules) = match to > from {
            true => (&mut self.ups, &behavior.scale_up),
            false => (&mut self.downs, &behavior.scale_down),
        };
        let longest = policies(rules.as_ref()).iter().map(|p| p.period_seconds).max();
        let since = ago(now, i64::from(longest.unwrap_or_default()));
        events.retain(|(at, _)| *at > since);
        events.push((now, (to - from).abs()));
    }

    /// What is allowed of a wish, and remembers the wish.
    pub fn allow(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        current: i32,
        wish: i32,
        bounds: Bounds,
        now: Timestamp,
    ) -> Allowed {
        let window = |rules: Option<&HPAScalingRules>, otherwise: i64| {
            rules
                .and_then(|rules| rules.stabilization_window_seconds)
                .map_or(otherwise, i64::from)
        };
        let (up, down) = match behavior {
            None => (0, bounds.window.as_secs()),
            Some(behavior) => (
                window(behavior.scale_up.as_ref(), 0),
                window(behavior.scale_down.as_ref(), bounds.window.as_secs()),
            ),
        };
        let stable = self.stabilize(current, wish, ago(now, up), ago(now, down));
        self.recommended.retain(|(at, _)| *at > ago(now, up.max(down)));
        self.recommended.push((now, wish));
        let able = match () {
            () if stable == wish => READY,
            () if behavior.is_some() && wish >= current => STABLE_UP,
            () => STABLE_DOWN,
        };
        let (replicas, limit) = match behavior {
            None => by_rules(current, stable, bounds),
            Some(behavior) => self.by_behavior(behavior, current, stable, bounds, now),
        };
        Allowed {
            replicas,
            able,
            limit,
            limited: replicas != stable,
        }
    }

    /// The least of the recommendations of the upward window, and the greatest of those of the downward one, hold the wish back.
    fn stabilize(&self, current: i32, wish: i32, up_since: Timestamp, down_since: Timestamp) -> i32 {
        let since = |since: Timestamp| {
            self.recommended
                .iter()
                .filter(move |(at, _)| *at > since)
                .map(|(_, replicas)| *replicas)
        };
        let lowest = since(up_since).fold(wish, i32::min);
        let highest = since(down_since).fold(wish, i32::max);
        current.max(lowest).min(highest)
    }

    fn by_behavior(
        &self,
        behavior: &HorizontalPodAutoscalerBehavior,
        current: i32,
        wish: i32,
        bounds: Bounds,
        now: Timestamp,
    ) -> (i32, Why) {
        if wish > current {
            let rate = self
                .rate(behavior.scale_up.as_ref(), current, now, true)
                .max(current);
            let (most, why) = match bounds.max > rate {
                true => (rate, UP_LIMIT),
                false => (bounds.max, TOO_MANY),
            };
            if wish > most {
                return (most, why);
            }
        } else if wish < current {
            let rate = self
                .rate(behavior.scale_down.as_ref(), current, now, false)
                .min(current);
            let (least, why) = match bounds.min < rate {
                true => (rate, DOWN_LIMIT),
                false => (bounds.min, TOO_FEW),
            };
            if wish < least {
                return (least, why);
            }
        }
        (wish, WITHIN)
    }

    /// How far the policies let the size go from where their periods began.
    fn rate(&self, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp, up: bool) -> i32 {
        let select = rules.and_then(|rules| rules.select_policy.as_deref());
        if select == Some("Disabled") {
            return current;
        }
        let limits = policies(rules).iter().map(|policy| {
            let since = ago(now, i64::from(policy.period_seconds));
            let sum = |events: &[(Timestamp, i32)]| {
                let recent = events.iter().filter(|(at, _)| *at > since);
                recent.map(|(_, change)| *change).sum::<i32>()
            };
            let start = current
                .saturating_sub(sum(&self.ups))
                .saturating_add(sum(&self.downs));
            let percent = f64::from(policy.value) / 100.0;
            match (policy.type_.as_str(), up) {
                ("Percent", true) => (f64::from(start) * (1.0 + percent)).ceil() as i32,
                ("Percent", false) => (f64::from(start) * (1.0 - percent)) as i32,
                (_, true) => start.saturating_add(policy.value),
                (_, false) => start.saturating_sub(policy.value),
            }
        });
        let limit = match (select == Some("Min")) == up {
            true => limits.min(),
            false => limits.max(),
        };
        limit.unwrap_or(current)
    }
}

fn policies(rules: Option<&HPAScalingRules>) -> &[HPAScalingPolicy] {
    rules
        .and_then(|rules| rules.policies.as_deref())
        .unwrap_or_default()
}

fn ago(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_sub(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Without a behavior: at most twice the size (and always up to 4) in one step.
fn by_rules(current: i32, wish: i32, bounds: Bounds) -> (i32, Why) {
    let rate = current.saturating_mul(2).max(4);
    let (most, why) = match bounds.max > rate {
        true => (rate, UP_LIMIT),
        false => (bounds.max, TOO_MANY),
    };
    if wish < bounds.min {
        (bounds.min, TOO_FEW)
    } else if wish > most {
        (most, why)
    } else {
        (wish, WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    const BOUNDS: Bounds = Bounds {
        min: 2,
        max: 20,
        window: SignedDuration::from_secs(300),
    };

    #[test]
    fn without_a_behavior_sizes_at_most_double_and_shrink_after_five_minutes() {
        let mut history = History::default();
        history.start(6, at(0));
        for (seconds, current, wish, want, able, limit) in [
            (1, 6, 30, 12, "ReadyForNewScale", "ScaleUpLimit"),
            (2, 12, 30, 20, "ReadyForNewScale", "TooManyReplicas"),
            (3, 20, 1, 20, "ScaleDownStabilized", "DesiredWithinRange"),
            (400, 20, 1, 2, "ReadyForNewScale", "TooFewReplicas"),
            (401, 2, 2, 2, "ReadyForNewScale", "DesiredWithinRange"),
        ] {
            let got = history.allow(None, current, wish, BOUNDS, at(seconds));
            assert_eq!(
                (got.replicas, got.able.0, got.limit.0),
                (want, able, limit),
                "at {seconds} s"
            );
        }
    }

    #[test]
    fn policies_bound_the_change_within_their_periods() {
        let behavior = |select: &str| -> HorizontalPodAutoscalerBehavior {
            serde_json::from_value(json!({
                "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": [
                    {"type": "Pods", "value": 3, "periodSeconds": 60},
                    {"type": "Percent", "value": 100, "periodSeconds": 60}]},
                "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": [
                    {"type": "Pods", "value": 1, "periodSeconds": 60},
                    {"type": "Percent", "value": 50, "periodSeconds": 60}]},
            }))
            .unwrap()
        };
        for (select, up, down) in [("Max", 20, 5), ("Min", 13, 9), ("Disabled", 10, 10)] {
            let behavior = behavior(select);
            let mut history = History::default();
            let grown = history.allow(Some(&behavior), 10, 30, BOUNDS, at(0));
            assert_eq!(grown.replicas, up, "{select}");
            let mut history = History::default();
            let shrunk = history.allow(Some(&behavior), 10, 1, BOUNDS, at(0));
            assert_eq!(shrunk.replicas, down, "{select}");
        }
        let behavior = behavior("Min");
        let mut history = History::default();
        history.changed(Some(&behavior), 10, 13, at(0));
        let soon = history.allow(Some(&behavior), 13, 20, BOUNDS, at(30));
        assert_eq!((soon.replicas, soon.limit.0), (13, "ScaleUpLimit"));
        let later = history.allow(Some(&behavior), 13, 20, BOUNDS, at(61));
        assert_eq!(later.replicas, 16);
    }
}
