//! The kubelet's HTTPS server: logs, commands, streams, metrics and lists, for callers who may.

pub(crate) mod access;
pub(crate) mod api;
pub(crate) mod exposition;
pub(crate) mod listen;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod remote;
pub(crate) mod spdy;
pub(crate) mod upgrade;

use crate::cgroups::Cgroups;
use crate::shared::Shared;
use crate::worker::pool::Pool;
use access::Access;
use std::sync::Arc;

/// What requests are answered from.
pub(crate) struct Server {
    pub(crate) pool: Pool,
    pub(crate) access: Access,
    pub(crate) pleg: crate::pleg::PlegHealth,
    /// The configuration as `/configz` shows it.
    pub(crate) config: serde_json::Value,
}

impl Server {
    /// What workers share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.pool.shared()
    }

    /// The node's control groups.
    pub(crate) fn cgroups(&self) -> &Cgroups {
        &self.shared().cgroups
    }
}
