//! Times as objects hold them: whole seconds.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

/// The time as it reads back from the apiserver, without fractions of a second.
pub fn time(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// How long ago (negative: ahead) a time is.
pub fn since(then: &Time, now: Timestamp) -> SignedDuration {
    now.duration_since(then.0)
}

/// How long until `then` plus some seconds; zero when past.
pub fn until(then: &Time, seconds: i64, now: Timestamp) -> Duration {
    let left = SignedDuration::from_secs(seconds) - now.duration_since(then.0);
    Duration::try_from(left).unwrap_or_default()
}
