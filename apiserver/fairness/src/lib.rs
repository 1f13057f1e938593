//! API priority and fairness (KEP-1040), without clock, network or randomness: given the moment and what happened, it decides who is
//! served now, who waits and who is sent away.
//!
//! A request is classified by the first matching [`schema::Schema`] into a flow of a priority level. A level owns seats; its
//! [`queues::QueueSet`] deals each flow a few of its queues and serves the queues fairly in virtual time. [`limits`] divides the
//! server's seats among levels and lends what one doesn't use to others. [`work`] estimates how many seats a request takes and for how
//! long. [`objects`] are the configuration objects that every server maintains. The shell that waits, wakes and counts lives in the server.
//!
//! Differences from upstream, on purpose: a priority level that is deleted while requests wait in it drains with the seats it had, beside
//! the others' shares; virtual time is an exact integer, so it has no epochs.

pub mod config;
pub mod demand;
pub mod drops;
pub mod limits;
pub mod metrics;
pub mod objects;
pub mod queues;
pub mod schema;
pub mod shuffle;
pub mod timing;
pub mod work;
