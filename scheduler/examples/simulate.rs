//! Places pods in a simulated cluster, without a server, and prints how fast and in how much memory.
//!
//! `cargo run --release --example simulate -- --nodes 5000 --pods 10000`

use clap::Parser;
use k8s_openapi::api::core::v1 as core;
use rutter_scheduler::config::default_profile;
use rutter_scheduler::model::{Node, Pod};
use rutter_scheduler::scheduler::{Bound, Decision, Scheduler, Settings};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

/// What to simulate.
#[derive(Parser)]
struct Args {
    /// How many nodes.
    #[arg(long, default_value_t = 5000)]
    nodes: usize,
    /// How many pods.
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// How many pods share a template.
    #[arg(long, default_value_t = 1000)]
    replicas: usize,
    /// What the pods ask for besides resources.
    #[arg(long, default_value = "plain", value_parser = ["plain", "spread", "anti-affinity", "affinity", "unschedulable"])]
    kind: String,
}

fn node(i: usize) -> Arc<Node> {
    let name = format!("node-{i}");
    let object = json!({
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": format!("zone-{}", i % 3),
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
        }},
        "status": {"allocatable": {"cpu": "32", "memory": "256Gi", "pods": "110"}},
    });
    let node: core::Node = serde_json::from_value(object).unwrap_or_default();
    Arc::new(Node::new(&node))
}

fn pod(i: usize, args: &Args) -> Arc<Pod> {
    let app = format!("app-{}", i / args.replicas.max(1));
    let selector = json!({"matchLabels": {"app": app}});
    let mut spec = json!({
        "schedulerName": "default-scheduler",
        "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10",
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}],
    });
    let term = |key: &str| json!([{"labelSelector": selector, "topologyKey": key}]);
    match args.kind.as_str() {
        "spread" => {
            spec["topologySpreadConstraints"] = json!([
                {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector},
                {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector},
            ]);
        }
        "anti-affinity" => {
            spec["affinity"] = json!({"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": term("kubernetes.io/hostname")}});
        }
        "affinity" => {
            spec["affinity"] = json!({"podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": term("topology.kubernetes.io/zone")}});
        }
        "unschedulable" => spec["nodeSelector"] = json!({"nowhere": "true"}),
        _ => {}
    }
    let object = json!({
        "metadata": {
            "name": format!("{app}-{i:08x}"),
            "namespace": "default",
            "uid": format!("9f0b3c9a-0a7e-4c59-bb2c-{i:012x}"),
            "labels": {"app": app},
        },
        "spec": spec,
    });
    let pod: core::Pod = serde_json::from_value(object).unwrap_or_default();
    Arc::new(Pod::new(&pod))
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|l| l.starts_with("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

#[allow(clippy::print_stdout)]
fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut scheduler = Scheduler::new(vec![default_profile()?], Settings::default(), 1);
    let empty = resident_kib();
    for i in 0..args.nodes {
        scheduler.node_changed(None, Some(node(i)), 0);
    }
    let with_nodes = resident_kib();
    for i in 0..args.pods {
        let pod = pod(i, &args);
        scheduler.pod_changed(&pod.clone(), Some(pod), 0);
    }
    let began = Instant::now();
    let (mut placed, mut failed) = (0_usize, 0_usize);
    while let Some(decision) = scheduler.decide(0) {
        match decision {
            Decision::Bind(binding) => {
                placed += 1;
                // As the server would show it.
                scheduler.bound(&binding.pod.uid, Bound::Done, 0);
                scheduler.pod_changed(&binding.pod.clone(), Some(binding.pod), 0);
            }
            Decision::Fail(_) => failed += 1,
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!("kind           {}", args.kind);
    println!("nodes          {}", args.nodes);
    println!("placed         {placed}");
    println!("not placed     {failed}");
    println!("seconds        {took:.3}");
    println!("pods/s         {:.0}", (placed + failed) as f64 / took);
    println!("memory, nodes  {} KiB", with_nodes.saturating_sub(empty));
    println!("memory, all    {} KiB", resident_kib());
    Ok(())
}
