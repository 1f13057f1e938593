//! The places that requests are passed on to, and how a failure to reach them is told.

use super::BoxError;
use super::dial::{Dialer, Security};
use futures::future::BoxFuture;
use rutter_api::{Reason, StatusError};
use rutter_outbound::Place;
use rutter_outbound::body::Stream;
use rutter_outbound::forward::Connect;

/// Where to dial.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    /// Hosts to try in order: they are the same machine.
    pub(super) hosts: Vec<String>,
    pub(super) port: u16,
    pub(super) security: Security,
}

/// A backend, and what dials it.
pub(super) struct Way<'a> {
    pub(super) dialer: &'a Dialer,
    pub(super) backend: &'a Backend,
}

impl Connect for Way<'_> {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, BoxError>> {
        let Backend {
            hosts,
            port,
            security,
        } = self.backend;
        Box::pin(async { Ok(self.dialer.dial(hosts, *port, *security).await?) })
    }

    fn authority(&self) -> String {
        let place = Place {
            host: self.backend.hosts.first().cloned().unwrap_or_default(),
            port: self.backend.port,
        };
        place.to_string()
    }
}

pub(super) fn dialing(error: BoxError) -> StatusError {
    StatusError::new(Reason::InternalError, format!("error dialing backend: {error}"))
}
