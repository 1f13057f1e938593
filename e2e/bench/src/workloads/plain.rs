//! Reads and writes of single objects.

use super::{Bench, ask, leases_path, pods_path};
use crate::objects::{self, resource_version};
use crate::record::Record;
use crate::wire::{Call, Wire};
use bytes::Bytes;
use http::Method;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

pub(super) async fn create(bench: &Arc<Bench>) -> Record {
    let sizes = &bench.sizes;
    bench
        .drive(sizes.clients, sizes.pods, |bench, wire, n| async move {
            let call = bench.call(Method::POST, pods_path(""), bench.template.encoded(n));
            ask(&wire, &call, 201, None).await
        })
        .await
}

pub(super) async fn get(bench: &Arc<Bench>) -> Record {
    let sizes = &bench.sizes;
    bench
        .drive(sizes.clients, sizes.gets, |bench, wire, n| async move {
            // Neighbours in time aren't neighbours in the store.
            let call = bench.get(pods_path(&objects::pod_name(n * 7919 % bench.sizes.pods.max(1))));
            ask(&wire, &call, 200, None).await
        })
        .await
}

pub(super) async fn merge_patch(bench: &Arc<Bench>) -> Record {
    let sizes = &bench.sizes;
    bench
        .drive(sizes.clients, sizes.patches, |bench, wire, n| async move {
            ask(&wire, &merge_patch_of(&bench, n), 200, None).await
        })
        .await
}

/// A merge patch of the pod of a number; another one each time.
pub(super) fn merge_patch_of(bench: &Bench, n: usize) -> Call {
    let patch = json!({"metadata": {"annotations": {"rutter.bench/patched": format!("{n}-{}", rand::random::<u32>())}}});
    let mut call = bench.call(
        Method::PATCH,
        pods_path(&objects::pod_name(n % bench.sizes.pods.max(1))),
        patch.to_string().into(),
    );
    call.content = "application/merge-patch+json";
    call
}

pub(super) async fn apply_patch(bench: &Arc<Bench>) -> Record {
    let sizes = &bench.sizes;
    bench
        .drive(sizes.clients, sizes.patches, |bench, wire, n| async move {
            let name = objects::pod_name(n % bench.sizes.pods.max(1));
            let wanted = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
                "name": name, "namespace": objects::NAMESPACE, "labels": {"applied": format!("v{}", rand::random::<u32>())}}});
            let path = format!("{}?fieldManager=rutter-bench-apply&force=true", pods_path(&name));
            let mut call = bench.call(Method::PATCH, path, wanted.to_string().into());
            call.content = "application/apply-patch+yaml";
            ask(&wire, &call, 200, None).await
        })
        .await
}

pub(super) async fn delete(bench: &Arc<Bench>) -> Record {
    let sizes = &bench.sizes;
    bench
        .drive(sizes.clients, sizes.pods, |bench, wire, n| async move {
            let path = format!("{}?gracePeriodSeconds=0", pods_path(&objects::pod_name(n)));
            ask(&wire, &bench.call(Method::DELETE, path, Bytes::new()), 200, None).await
        })
        .await
}

/// Makes the leases, or learns the versions of those there are.
pub(super) async fn make_leases(bench: &Arc<Bench>, count: usize) -> anyhow::Result<()> {
    *bench.leases.lock().unwrap_or_else(PoisonError::into_inner) = vec![String::new(); count];
    let record = bench
        .drive(bench.sizes.clients, count, |bench, wire, n| async move {
            let body = objects::encode(bench.sizes.format, &objects::lease(n, None, now_micros()));
            let mut call = bench.call(Method::POST, leases_path(""), body);
            call.accept = "application/json";
            match lease_call(&bench, &wire, n, &call).await {
                Err(why) if why.starts_with("status 409") => {
                    let mut call = bench.get(leases_path(&objects::lease_name(n)));
                    call.accept = "application/json";
                    lease_call(&bench, &wire, n, &call).await
                }
                other => other,
            }
        })
        .await;
    anyhow::ensure!(record.errors() == 0, "cannot make leases: {:?}", record.reasons());
    Ok(())
}

pub(super) async fn lease_updates(bench: &Arc<Bench>) -> Record {
    let sizes = &bench.sizes;
    let leases = sizes.leases.max(1);
    // One client per lease at a time, as in a cluster: a lease's number decides whose it is.
    let clients = sizes.clients.min(leases);
    let total = sizes.lease_updates;
    let each = move |client: usize| total / clients + usize::from(client < total % clients);
    let of = move |client: usize, n: usize| client + clients * (n % (leases / clients).max(1));
    let wires = bench.wires();
    bench.done.store(0, Ordering::Relaxed);
    let tasks = (0..clients)
        .filter_map(|client| Some((client, wires.get(client % wires.len().max(1))?.clone())))
        .map(|(client, wire)| {
            let bench = bench.clone();
            tokio::spawn(async move {
                let mut record = Record::default();
                for n in 0..each(client) {
                    let began = std::time::Instant::now();
                    match renew(&bench, &wire, of(client, n)).await {
                        Ok(bytes) => record.answered(began.elapsed(), bytes),
                        Err(why) => record.failed(why, 1),
                    }
                    bench.done.fetch_add(1, Ordering::Relaxed);
                }
                record
            })
        })
        .collect();
    bench.gather(tasks, total).await
}

/// Renews a lease over the version that was learnt last, as a kubelet does.
pub(super) async fn renew(bench: &Bench, wire: &Wire, n: usize) -> Result<u64, String> {
    let version = {
        let leases = bench.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.get(n).cloned().unwrap_or_default()
    };
    let body = objects::encode(
        bench.sizes.format,
        &objects::lease(n, Some(&version), now_micros()),
    );
    let mut call = bench.call(Method::PUT, leases_path(&objects::lease_name(n)), body);
    // The next version is read from the answer's text.
    call.accept = "application/json";
    lease_call(bench, wire, n, &call).await
}

async fn lease_call(bench: &Bench, wire: &Wire, n: usize, call: &Call) -> Result<u64, String> {
    let (status, body) = wire.fetch(call).await.map_err(|broken| broken.to_string())?;
    if !matches!(status, 200 | 201) {
        return Err(format!("status {status} where 200 was expected"));
    }
    let version = resource_version(&body).ok_or("a lease without resourceVersion")?;
    let mut leases = bench.leases.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = leases.get_mut(n) {
        version.clone_into(known);
    }
    Ok(body.len() as u64)
}

pub(super) fn now_micros() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
