//! What a run prints: each step with how long it took.

use anyhow::Context as _;
use std::time::{Duration, Instant};

/// Prints a line.
#[allow(clippy::print_stdout)]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Does one step and prints how long it took; its failure names it.
pub(crate) fn step<T>(what: &str, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    let value = act().with_context(|| what.to_owned())?;
    say(&format!("  {what} ({:.2} s)", began.elapsed().as_secs_f64()));
    Ok(value)
}

/// Tries until it succeeds; the last failure when it never does in time. Nothing is printed.
pub(crate) fn until<T>(limit: Duration, mut check: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if began.elapsed() > limit => {
                return Err(error).with_context(|| format!("not within {} s", limit.as_secs()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(30)),
        }
    }
}

/// Tries until it succeeds, as a step.
pub(crate) fn eventually<T>(
    what: &str,
    limit: Duration,
    check: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    step(what, || until(limit, check))
}
