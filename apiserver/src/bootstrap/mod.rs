//! The objects that every cluster has, made and kept by the server itself.
//!
//! Everything here is written so that several servers can do it at once: a create that comes second finds the object, an
//! update retries on what the other wrote.

mod endpoints;
mod objects;
mod repair;

pub(crate) use objects::ensure;

use crate::registry::Call;
use crate::request::params::WriteOptions;
use crate::request::{Accept, RequestInfo};
use crate::server::Server;
use crate::streaming::target::Query;
use ipnet::IpNet;
use parking_lot::Mutex;
use rutter_api::{GroupVersion, StatusError, UserInfo};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What the objects are made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the cluster reaches this server.
    pub address: IpAddr,
    /// On which port.
    pub port: u16,
    /// The ranges of Services' addresses.
    pub ranges: Vec<IpNet>,
    /// The authorities of client certificates, in PEM.
    pub client_ca: Option<String>,
    /// The authorities of authenticating proxies, in PEM.
    pub proxy_ca: Option<String>,
    /// The names that proxies may have.
    pub proxy_names: Vec<String>,
    /// Headers that name the user.
    pub user_headers: Vec<String>,
    /// Headers that give the uid.
    pub uid_headers: Vec<String>,
    /// Headers that name groups.
    pub group_headers: Vec<String>,
    /// Prefixes of headers with extra facts.
    pub extra_prefixes: Vec<String>,
    /// Whether RBAC decides.
    pub rbac: bool,
}

/// A call that the server makes itself, as `system:apiserver`.
pub fn internal(
    server: &Arc<Server>,
    group_version: &GroupVersion,
    plural: &str,
    namespace: &str,
) -> Result<Call, StatusError> {
    let served = server.served.load_full();
    let resource = served.scheme.get(group_version, plural).cloned();
    let resource = resource.ok_or_else(StatusError::path_not_found)?;
    let info = RequestInfo {
        is_resource: true,
        group: group_version.group.clone(),
        version: group_version.version.clone(),
        namespace: namespace.to_owned(),
        resource: plural.to_owned(),
        ..RequestInfo::default()
    };
    Ok(Call {
        now: (server.clock)(),
        server: server.clone(),
        served,
        resource,
        info,
        query: Query::default(),
        user: UserInfo {
            name: "system:apiserver".to_owned(),
            groups: vec![
                rutter_auth::names::MASTERS.to_owned(),
                rutter_auth::names::AUTHENTICATED.to_owned(),
            ],
            ..UserInfo::default()
        },
        agent: "rutter-apiserver".to_owned(),
        accept: Accept::default(),
        warnings: Mutex::default(),
        annotations: Mutex::default(),
        record: None,
        passage: Mutex::default(),
    })
}

/// The options of the server's own writes.
pub fn own() -> WriteOptions {
    WriteOptions {
        manager: "rutter-apiserver".to_owned(),
        ..WriteOptions::default()
    }
}

/// Tells extension servers whom to believe.
pub async fn publish_authorities(server: &Arc<Server>, settings: &Settings) -> Result<(), StatusError> {
    objects::authentication(server, settings).await
}

/// Makes the objects, then keeps this server's endpoint until `stop`, and takes it out.
pub async fn run(server: Arc<Server>, settings: Settings, stop: CancellationToken) {
    let mut pause = Duration::from_millis(100);
    server.cache.ready().await;
    loop {
        match objects::make(&server, &settings).await {
            Ok(()) => break,
            Err(error) => tracing::warn!(%error, "the cluster's first objects are not all made yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
        }
    }
    server.health.bootstrapped();
    tracing::info!("the cluster's first objects are made");
    endpoints::keep(&server, &settings, stop).await;
}
