//! Brings what is held to what Services say they hold, once at start: for stores that another server wrote, and after faults.
//!
//! What a Service has and nobody holds is held again. What is held for a Service that is gone, or has it no longer, is given
//! back, guarded by the state that was looked at.

use crate::registry::create::rfc3339;
use crate::registry::services::{ADDRESSES, Held, NODE_PORTS, ip_address_object, node_port_object};
use crate::registry::store_error;
use crate::server::Server;
use bytes::Bytes;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, StatusError, Value};
use rutter_storage::{Commit, Effect, Guard, Outcome, RangeRequest};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) async fn run(server: &Arc<Server>) -> Result<(), StatusError> {
    server
        .cache
        .consistent()
        .await
        .map_err(|e| crate::registry::cache_error(&e))?;
    let services = server.reader.list(&GroupResource::new("", "services"), None);
    let now = (server.clock)();
    let mut wanted: BTreeMap<String, Bytes> = BTreeMap::new();
    for service in &services {
        let (namespace, name) = (service.namespace(), service.name());
        let held = Held::of(service);
        for address in held.addresses.iter().filter_map(|text| text.parse().ok()) {
            let object = ip_address_object(now, namespace, name, address);
            wanted.insert(format!("{ADDRESSES}{address}"), object);
        }
        for port in held.ports {
            wanted.insert(
                format!("{NODE_PORTS}{port}"),
                node_port_object(namespace, name, port),
            );
        }
    }
    for (key, value) in &wanted {
        if server.cache.get(key).is_some() {
            continue;
        }
        let commit = Commit {
            guards: vec![Guard::Absent(key.clone())],
            effects: vec![Effect::Put(key.clone(), value.clone(), None)],
        };
        if let Outcome::Applied(_) = server.engine.commit(commit).await.map_err(|e| store_error(&e))? {
            tracing::info!(key, "held again for its Service");
        }
    }
    for folder in [ADDRESSES, NODE_PORTS] {
        release(server, folder, &wanted, &rfc3339(now)).await?;
    }
    Ok(())
}

/// Gives back what no Service has.
async fn release(
    server: &Arc<Server>,
    folder: &str,
    wanted: &BTreeMap<String, Bytes>,
    now: &str,
) -> Result<(), StatusError> {
    let range = RangeRequest {
        prefix: folder.to_owned(),
        ..RangeRequest::default()
    };
    let held = server.engine.range(range).await.map_err(|e| store_error(&e))?;
    for item in held.items.iter().filter(|item| !wanted.contains_key(&item.key)) {
        let object: Value = serde_json::from_slice(&item.value).unwrap_or_default();
        // Addresses that people keep for other purposes, and what was made a moment ago, aren't ours to judge.
        let ours = folder == NODE_PORTS
            || object.label("ipaddress.kubernetes.io/managed-by") == Some("ipallocator.k8s.io");
        let owner = if folder == NODE_PORTS {
            object.at("service")
        } else {
            object.at("spec.parentRef")
        };
        let key = format!(
            "/registry/services/specs/{}/{}",
            owner.str_at("namespace"),
            owner.str_at("name")
        );
        let fresh = object.str_at("metadata.creationTimestamp") == now;
        if !ours || fresh {
            continue;
        }
        let service = server.engine.get(&key).await.map_err(|e| store_error(&e))?;
        let guard = match &service {
            None => Guard::Absent(key),
            Some(found) => {
                let service: Value = serde_json::from_slice(&found.value).unwrap_or_default();
                let held = Held::of(&service);
                let name = item.key.trim_start_matches(folder);
                if held.addresses.contains(name) || held.ports.iter().any(|port| port.to_string() == name) {
                    continue;
                }
                Guard::Unchanged(key, found.modified)
            }
        };
        let commit = Commit {
            guards: vec![guard, Guard::Unchanged(item.key.clone(), item.modified)],
            effects: vec![Effect::Delete(item.key.clone())],
        };
        if let Outcome::Applied(_) = server.engine.commit(commit).await.map_err(|e| store_error(&e))? {
            tracing::info!(key = item.key, "given back: no Service has it");
        }
    }
    Ok(())
}
