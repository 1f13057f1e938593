//! The edge: watches, writes, and the loop between.

pub mod act;
pub mod observe;
pub mod run;
