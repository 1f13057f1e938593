//! What programs read beside the object model: the store's values, requests, policies, tokens, keys, files and frames.

pub mod access;
pub mod convert;
pub mod requests;
pub mod stored;
pub mod wire;

/// What a future that waits for nothing comes to.
fn now<F: Future>(future: F) -> F::Output {
    futures::executor::block_on(future)
}
