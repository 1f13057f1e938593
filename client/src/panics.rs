//! What a panic does: it ends the program, so that whoever starts it starts it anew, unless it happens where it was
//! [`contain`]ed: then it is logged, and ends that piece of work alone.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll};

thread_local! {
    /// Whether this thread is at work on something contained.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// A piece of work panicked. What it said is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a panic ended the work; the log has its message")]
pub struct Panicked;

/// Makes panics that aren't contained end the program. The first call counts.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            if CONTAINED.get() {
                tracing::error!(%info, "contained a panic");
            } else {
                tracing::error!(%info, "a panic ends the program");
                std::process::abort();
            }
        }));
    });
}

/// Work whose panic ends it alone. What it held is dropped; state that it shares with others must stand that.
pub fn contain<F: Future>(work: F) -> Contained<F> {
    Contained { work: Box::pin(work) }
}

/// See [`contain`].
pub struct Contained<F> {
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outer = CONTAINED.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| self.work.as_mut().poll(cx)));
        CONTAINED.set(outer);
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_the_work_that_contains_it_alone() {
        install();
        let failing = contain(async {
            tokio::task::yield_now().await;
            assert!(std::hint::black_box(false), "on purpose");
        });
        assert_eq!(failing.await, Err(Panicked));
        assert_eq!(contain(async { 1 }).await, Ok(1));
        assert!(!CONTAINED.get());
    }
}
