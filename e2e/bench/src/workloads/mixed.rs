//! The steady traffic of hollow nodes, on a schedule that doesn't wait for answers: a server that falls behind shows in latencies.
//!
//! Each node renews its lease every 10 s, sends its status every 5 min, has a pod change its status every 50 s, writes an event
//! every 60 s, lists its pods every 5 min and watches them all the time.

use super::{Bench, Progress, ask, plain, pods_path};
use crate::objects::{self, Counter, MARK, NAMESPACE, node_name};
use crate::record::Record;
use crate::wire::{Call, Wire, read};
use bytes::Bytes;
use http::Method;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What a node does, and every how many seconds.
const HABITS: &[(Habit, f64)] = &[
    (Habit::Renew, 10.0),
    (Habit::Status, 300.0),
    (Habit::PodStatus, 50.0),
    (Habit::Event, 60.0),
    (Habit::Relist, 300.0),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Renew,
    Status,
    PodStatus,
    Event,
    Relist,
}

pub(super) async fn prepare(bench: &Arc<Bench>) -> anyhow::Result<()> {
    let nodes = bench.sizes.nodes;
    plain::make_leases(bench, nodes).await?;
    let record = bench
        .drive(bench.sizes.clients, nodes, |bench, wire, n| async move {
            let mut call = bench.call(Method::POST, "/api/v1/nodes", objects::node(n).to_string().into());
            call.content = "application/json";
            match ask(&wire, &call, 201, None).await {
                Err(why) if why.starts_with("status 409") => Ok(0),
                other => other,
            }
        })
        .await;
    anyhow::ensure!(record.errors() == 0, "cannot make nodes: {:?}", record.reasons());
    Ok(())
}

/// The moments of one habit of all nodes, spread evenly: (when, which node).
fn moments(nodes: usize, period: f64, speed: f64, length: f64) -> impl Iterator<Item = (f64, usize)> {
    let step = period / speed / nodes.max(1) as f64;
    (0..)
        .map(move |n| (n as f64 * step, n % nodes.max(1)))
        .take_while(move |(at, _)| *at < length)
}

pub(super) async fn run(bench: &Arc<Bench>) -> Record {
    let sizes = &bench.sizes;
    let length = sizes.mixed_seconds as f64;
    let mut plan: Vec<(f64, usize, Habit)> = HABITS
        .iter()
        .flat_map(|(habit, period)| {
            moments(sizes.nodes, *period, sizes.mixed_speed, length).map(|(at, node)| (at, node, *habit))
        })
        .collect();
    plan.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut record = Record::default();
    let events = Arc::new(AtomicU64::new(0));
    let watchers = match watch(bench, &events).await {
        Ok(watchers) => watchers,
        Err(why) => {
            record.failed(why, 1);
            return record;
        }
    };
    let wires = bench.wires();
    let changed = Arc::new(AtomicU64::new(0));
    let mut running = JoinSet::new();
    let (total, mut progress) = (plan.len(), Progress::begin());
    let began = Instant::now();
    for (n, (at, node, habit)) in plan.into_iter().enumerate() {
        let due = began + Duration::from_secs_f64(at);
        tokio::time::sleep_until(due.into()).await;
        let Some(wire) = wires.get(node % wires.len().max(1)).cloned() else {
            break;
        };
        let (bench, changed) = (bench.clone(), changed.clone());
        running.spawn(async move {
            let answer = act(&bench, &wire, node, n, habit).await;
            if habit == Habit::PodStatus && answer.is_ok() {
                changed.fetch_add(1, Ordering::Relaxed);
            }
            (answer, due.elapsed())
        });
        while let Some(Ok(done)) = running.try_join_next() {
            note(&mut record, done);
        }
        progress.tell(|| format!("{n} of {total}, {} not answered yet", running.len()));
    }
    while let Some(done) = running.join_next().await {
        match done {
            Ok(done) => note(&mut record, done),
            Err(error) => record.failed(format!("a client of the benchmark ended: {error}"), 1),
        }
    }
    let wanted = changed.load(Ordering::Relaxed);
    let late = Instant::now();
    while events.load(Ordering::Relaxed) < wanted && late.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seen = events.load(Ordering::Relaxed);
    record.failed("lost watch events", wanted.saturating_sub(seen));
    record.failed("watch events that nobody caused", seen.saturating_sub(wanted));
    drop(watchers);
    record.note = format!(
        "{} nodes at {}-fold speed, {seen} events to their watches",
        sizes.nodes, sizes.mixed_speed
    );
    record
}

fn note(record: &mut Record, (answer, took): (Result<u64, String>, Duration)) {
    match answer {
        Ok(bytes) => record.answered(took, bytes),
        Err(why) => record.failed(why, 1),
    }
}

async fn act(bench: &Bench, wire: &Wire, node: usize, n: usize, habit: Habit) -> Result<u64, String> {
    let now = plain::now_micros();
    let strategic = |path: String, body: serde_json::Value| {
        let mut call = bench.call(Method::PATCH, path, body.to_string().into());
        call.content = "application/strategic-merge-patch+json";
        call
    };
    match habit {
        Habit::Renew => plain::renew(bench, wire, node).await,
        Habit::Status => {
            let call = strategic(
                format!("/api/v1/nodes/{}/status", node_name(node)),
                objects::node_status(now),
            );
            ask(wire, &call, 200, None).await
        }
        Habit::PodStatus => {
            let each = bench.sizes.pods_per_node.max(1);
            let pod = (node * each + n % each) % bench.sizes.pods.max(1);
            let mut status = objects::pod_status(now);
            // Each patch changes something, whatever the second.
            status["status"]["message"] = format!("change {n}").into();
            let call = strategic(format!("{}/status", pods_path(&objects::pod_name(pod))), status);
            ask(wire, &call, 200, None).await
        }
        Habit::Event => {
            let event = json!({"apiVersion": "v1", "kind": "Event",
                "metadata": {"generateName": "hollow-", "namespace": NAMESPACE},
                "involvedObject": {"kind": "Pod", "namespace": NAMESPACE, "name": objects::pod_name(node)},
                "reason": "Pulled", "message": "Container image is already present on machine", "type": "Normal",
                "source": {"component": "kubelet", "host": node_name(node)}});
            let path = format!("/api/v1/namespaces/{NAMESPACE}/events");
            let mut call = bench.call(Method::POST, path, event.to_string().into());
            call.content = "application/json";
            ask(wire, &call, 201, None).await
        }
        Habit::Relist => {
            let path = format!(
                "/api/v1/pods?fieldSelector=spec.nodeName%3D{}&resourceVersion=0",
                node_name(node)
            );
            ask(wire, &bench.get(path), 200, None).await
        }
    }
}

/// Each node's watch of its pods. What they see is added to `events`; they end with what is returned.
async fn watch(bench: &Arc<Bench>, events: &Arc<AtomicU64>) -> Result<JoinSet<()>, String> {
    let count = bench
        .sizes
        .nodes
        .div_ceil(bench.sizes.watches_per_connection.max(1));
    let wires = bench
        .dialer
        .dial_many(count)
        .await
        .map_err(|error| format!("{error:#}"))?;
    let mut list = bench.get(format!("{}?limit=1", pods_path("")));
    list.accept = "application/json";
    let wire = wires.first().ok_or("no connection")?;
    let (_, body) = wire.fetch(&list).await.map_err(|broken| broken.to_string())?;
    let version = objects::resource_version(&body)
        .ok_or("a list without resourceVersion")?
        .to_owned();
    let mut watchers = JoinSet::new();
    for node in 0..bench.sizes.nodes {
        let call: Call = bench.call(
            Method::GET,
            format!(
                "/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3D{}&resourceVersion={version}",
                node_name(node)
            ),
            Bytes::new(),
        );
        let wire = wires.get(node % wires.len()).ok_or("no connection")?;
        let (status, mut body) = wire.open(&call).await.map_err(|broken| broken.to_string())?;
        if status != 200 {
            return Err(format!("a watch: status {status}"));
        }
        let events = events.clone();
        watchers.spawn(async move {
            // An event is a pod that was changed; an error isn't.
            let mut pods = Counter::new(MARK);
            while let Ok(Some(piece)) = read(&mut body).await {
                let before = pods.count;
                pods.see(&piece);
                events.fetch_add(pods.count - before, Ordering::Relaxed);
            }
        });
    }
    Ok(watchers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn habits_are_spread_evenly() {
        let all: Vec<_> = moments(10, 10.0, 2.0, 5.0).collect();
        assert_eq!(all.len(), 10, "ten nodes, once every five seconds, for five");
        assert_eq!(all[3], (1.5, 3));
    }
}
