//! A bound on requests in flight, reading and mutating ones apart (`--max-requests-inflight`).

use super::Held;
use crate::metrics::Metrics;
use crate::request::RequestInfo;
use rutter_api::{StatusError, UserInfo};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bounds.
pub struct Limits {
    reading: Option<Arc<Semaphore>>,
    mutating: Option<Arc<Semaphore>>,
}

/// A place among those in flight.
pub struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    _held: Option<Held>,
}

impl Limits {
    /// At most so many of each; 0 for no bound.
    pub fn new(reading: usize, mutating: usize) -> Self {
        let bound = |most: usize| (most > 0).then(|| Arc::new(Semaphore::new(most)));
        Self {
            reading: bound(reading),
            mutating: bound(mutating),
        }
    }

    /// Takes a place, or refuses with 429.
    pub fn enter(
        &self,
        metrics: &Metrics,
        info: &RequestInfo,
        long: bool,
        user: &UserInfo,
    ) -> Result<Place, StatusError> {
        if long {
            return Ok(Place {
                _permit: None,
                _held: None,
            });
        }
        let mutating = !matches!(info.verb.as_str(), "get" | "list" | "watch" | "head");
        let bound = if mutating { &self.mutating } else { &self.reading };
        let permit = match bound {
            None => None,
            Some(bound) => match bound.clone().try_acquire_owned() {
                Ok(permit) => Some(permit),
                // Who repairs an overloaded cluster must get through.
                Err(_) if user.in_group(rutter_auth::names::MASTERS) => None,
                Err(_) => {
                    return Err(StatusError::too_many_requests(
                        "Too many requests, please try again later.",
                        1,
                    ));
                }
            },
        };
        Ok(Place {
            _permit: permit,
            _held: Some(Held::new(metrics.in_flight(mutating))),
        })
    }
}
