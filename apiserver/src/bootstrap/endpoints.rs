//! The endpoints of the `kubernetes` Service: each server holds a lease with its address, and the addresses of live leases are
//! the endpoints.

use super::{Settings, internal, own};
use crate::registry::create::rfc3339;
use crate::registry::update::Change;
use crate::request::params::WriteOptions;
use crate::server::Server;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupVersion, Reason, StatusError, Value};
use rutter_storage::{Commit, Effect, RangeRequest};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where servers say that they live.
const LEASES: &str = "/registry/masterleases/";
const LIFE: Duration = Duration::from_secs(15);
const INTERVAL: Duration = Duration::from_secs(5);

/// Keeps this server's endpoint until `stop`, then takes it out.
pub(super) async fn keep(server: &Arc<Server>, settings: &Settings, stop: CancellationToken) {
    if settings.address.is_loopback() {
        // Endpoints on other machines' loopback would be nobody's; Kubernetes refuses them.
        tracing::warn!(
            address = %settings.address,
            "the kubernetes Service has no endpoint here: --advertise-address is a loopback address"
        );
        return;
    }
    loop {
        if let Err(error) = renew(server, settings).await {
            tracing::warn!(%error, "the kubernetes Service's endpoints could not be kept");
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
    let gone = Commit {
        guards: Vec::new(),
        effects: vec![Effect::Delete(format!("{LEASES}{}", settings.address))],
    };
    if server.engine.commit(gone).await.is_ok()
        && let Err(error) = reconcile(server, settings).await
    {
        tracing::warn!(%error, "this server's endpoint could not be taken out");
    }
}

async fn renew(server: &Arc<Server>, settings: &Settings) -> Result<(), StatusError> {
    let now = rfc3339((server.clock)());
    let lease = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": settings.address.to_string()},
        "subsets": [{"addresses": [{"ip": settings.address.to_string()}]}],
        "renewed": now,
    });
    let key = format!("{LEASES}{}", settings.address);
    let put = Commit {
        guards: Vec::new(),
        effects: vec![Effect::Put(
            key,
            rutter_api::codec::json::to_vec(&lease).into(),
            Some(LIFE),
        )],
    };
    server
        .engine
        .commit(put)
        .await
        .map_err(|e| crate::registry::store_error(&e))?;
    reconcile(server, settings).await
}

/// Brings Endpoints and EndpointSlice to the addresses that live.
async fn reconcile(server: &Arc<Server>, settings: &Settings) -> Result<(), StatusError> {
    let range = RangeRequest {
        prefix: LEASES.to_owned(),
        ..RangeRequest::default()
    };
    let leases = server
        .engine
        .range(range)
        .await
        .map_err(|e| crate::registry::store_error(&e))?;
    let addresses: BTreeSet<String> = leases
        .items
        .iter()
        .filter_map(|item| item.key.strip_prefix(LEASES).map(str::to_owned))
        .collect();
    let listed =
        |key: &str| -> Vec<Value> { addresses.iter().map(|address| json!({ key: address })).collect() };
    let subsets = if addresses.is_empty() {
        json!([])
    } else {
        json!([{
            "addresses": listed("ip"),
            "ports": [{"name": "https", "port": settings.port, "protocol": "TCP"}],
        }])
    };
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": subsets,
    });
    let family = if settings.address.is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": family,
        "endpoints": addresses
            .iter()
            .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
            .collect::<Vec<_>>(),
        "ports": [{"name": "https", "port": settings.port, "protocol": "TCP"}],
    });
    put(
        server,
        &GroupVersion::new("", "v1"),
        "endpoints",
        &endpoints,
        &["subsets"],
    )
    .await?;
    let discovery = GroupVersion::new("discovery.k8s.io", "v1");
    put(
        server,
        &discovery,
        "endpointslices",
        &slice,
        &["endpoints", "ports"],
    )
    .await
}

/// Creates the object, or brings the given fields to what they should be.
async fn put(
    server: &Arc<Server>,
    version: &GroupVersion,
    plural: &str,
    object: &Value,
    fields: &[&str],
) -> Result<(), StatusError> {
    let mut call = internal(server, version, plural, "default")?;
    object.name().clone_into(&mut call.info.name);
    let make = |old: Option<&Value>| {
        let Some(old) = old else { return Ok(object.clone()) };
        let mut changed = old.clone();
        for field in fields {
            changed.set(field, object.at(field).clone());
        }
        Ok(changed)
    };
    let change = Change {
        make: &make,
        creates: true,
        direct: false,
        managed: true,
    };
    let options: WriteOptions = own();
    match call.change(&change, &options).await {
        Err(error) if error.reason != Reason::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
