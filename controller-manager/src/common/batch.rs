//! Many writes at once, but not all at once.

use futures::StreamExt as _;
use std::future::Future;

/// How many requests one reconcile has under way at most.
pub const CONCURRENCY: usize = 64;

/// Runs `write` for each item in batches of one, two, four, and so on, and stops after the first batch with a failure, so that a hopeless series (no
/// quota left, say) costs few requests. Returns how many items were tried, and the first error.
pub async fn slow_start<T, E, F, Fut>(items: Vec<T>, write: F) -> (usize, Result<(), E>)
where
    F: Fn(T) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let (mut tried, mut size) = (0, 1);
    let mut items = items.into_iter();
    loop {
        let batch: Vec<T> = items.by_ref().take(size).collect();
        if batch.is_empty() {
            return (tried, Ok(()));
        }
        tried += batch.len();
        if let Err(error) = each(batch, &write).await {
            return (tried, Err(error));
        }
        size *= 2;
    }
}

/// Runs `write` for every item, a bounded number at a time, and returns the first error after all have ended.
pub async fn each<T, E, F, Fut>(items: Vec<T>, write: F) -> Result<(), E>
where
    F: Fn(T) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let results: Vec<Result<(), E>> = futures::stream::iter(items.into_iter().map(write))
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    results.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_hopeless_series_stops_early_and_a_good_one_is_done_whole() {
        for (fails_from, want_tried, want_ok) in [
            (usize::MAX, 20, true),
            (0, 1, false),
            (2, 3, false),
            (3, 7, false),
        ] {
            let calls = AtomicUsize::new(0);
            let write = |_| {
                let call = calls.fetch_add(1, Ordering::SeqCst);
                async move { if call < fails_from { Ok(()) } else { Err(call) } }
            };
            let (tried, result) = slow_start((0..20).collect(), write).await;
            assert_eq!(
                (tried, result.is_ok()),
                (want_tried, want_ok),
                "failing from call {fails_from}"
            );
        }
    }
}
