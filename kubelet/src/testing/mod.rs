//! What tests run against: a container runtime that lives in memory and can fail at any call, and an apiserver that records what is written.

pub(crate) mod fake_api;
pub(crate) mod fake_cri;
mod workers;
