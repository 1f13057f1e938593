//! The container runtime: its client, what it observes, and the configurations it is given.

pub(crate) mod container;
pub(crate) mod cri;
pub(crate) mod labels;
pub(crate) mod observe;
pub(crate) mod observed;
pub(crate) mod sandbox;
pub(crate) mod security;
