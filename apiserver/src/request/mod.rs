//! Reading requests: what they ask for, what they accept, and their bodies.

pub mod accept;
pub mod body;
pub mod info;
pub mod params;

pub use accept::{Accept, Format, Shape};
pub use info::RequestInfo;
