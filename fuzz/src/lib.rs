//! What the fuzz targets hold the project to.
//!
//! Each function takes the bytes that the fuzzer made, and panics when something isn't so: what was decoded is encoded and decoded
//! again, one reader is compared with another, what was done is done twice. None only looks whether the code panics. A target in
//! `targets/` is one line that calls one of them.
//!
//! Bytes mean choices ([`make::Maker`]), so that the fuzzer's changes are changes of objects, schemas, patches and expressions, and not
//! only of their texts.

pub mod apply;
pub mod cel;
pub mod codec;
pub mod crd;
pub mod make;
pub mod patch;
pub mod scalars;
pub mod selectors;

#[cfg(feature = "programs")]
pub mod programs;

/// Says what is done to standard error when `TELL` is set: for a look at one input.
pub(crate) fn tell(what: impl FnOnce() -> String) {
    if std::env::var_os("TELL").is_some() {
        eprintln!("{}", what());
    }
}
