//! Kill -9 of each component in turn, under requests and writes; and a node without power.

use super::{
    busybox_pod, condition, deploy, node_port, pod_ready, ready_pods, restarts, text, three_ready, undeploy,
    who_answers,
};
use crate::cluster::{Cluster, SOON};
use crate::load::Load;
use crate::report::{eventually, say, step};
use crate::tool::Tool;
use anyhow::{Context as _, ensure};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Requests a second while components are killed.
const RATE: u32 = 100;
/// How long pods of a dead node may take to run elsewhere: the node is given up after 40 s, its pods tolerate that for 5 s more, and then
/// end as long as they may.
const ELSEWHERE: Duration = Duration::from_secs(180);

/// What runs on the first node, with its service's name there.
const COMPONENTS: &[&str] = &[
    "rutter-scheduler",
    "rutter-controller-manager",
    "rutter-kubelet",
    "rutter-proxy",
    "rutter-network",
    "containerd",
    "rutter-apiserver",
];

/// The scenario.
pub(super) fn run(cluster: &Cluster) -> anyhow::Result<()> {
    deploy(cluster)?;
    cluster.rctl.ok_file(
        &["create"],
        &busybox_pod("shell", "sleep 3600", "  nodeName: node-1\n"),
    )?;
    pod_ready(cluster, "shell")?;
    let writers = Writers::start(&cluster.rctl, 2);
    let killed = (|| {
        for program in COMPONENTS {
            crash(cluster, "node-1", program, || works(cluster, program))?;
        }
        crash_of_dns(cluster)
    })();
    let written = writers.stop()?;
    killed?;
    all_there(cluster, &written)?;
    lost_node(cluster)?;
    cluster.rctl.ok(&["delete", "pod", "shell", "--wait=false"])?;
    undeploy(cluster)
}

/// The scenario over etcd.
pub(super) fn etcd(cluster: &Cluster) -> anyhow::Result<()> {
    deploy(cluster)?;
    let writers = Writers::start(&cluster.rctl, 2);
    let killed = (0..3).try_for_each(|_| crash(cluster, "node-1", "etcd", || works(cluster, "etcd")));
    let written = writers.stop()?;
    killed?;
    all_there(cluster, &written)?;
    undeploy(cluster)
}

/// Kills a program: another process takes its place, what it does is done again, no container restarts, and no request is lost.
fn crash(
    cluster: &Cluster,
    node: &str,
    program: &str,
    works: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let before = counted(cluster, program)?;
    let load = Load::start(&[node_port(1)], RATE);
    let outcome = (|| {
        let killed = cluster.kill(node, program)?;
        eventually(&format!("{program} is back after kill -9"), SOON, || {
            let now = cluster.processes(node, program)?;
            ensure!(now != killed, "{program} is still the same process");
            Ok(())
        })?;
        works()
    })();
    let seen = load.stop()?;
    outcome.with_context(|| format!("after kill -9 of {program}"))?;
    seen.whole()
        .with_context(|| format!("while {program} was away"))?;
    ensure!(
        seen.renewed == 0,
        "{} connections broke while {program} was away",
        seen.renewed
    );
    let after = counted(cluster, program)?;
    ensure!(
        after == before,
        "containers restarted after kill -9 of {program}: {before:?} before, {after:?} after"
    );
    Ok(())
}

/// How often containers have restarted, without that of the component that is killed.
fn counted(cluster: &Cluster, program: &str) -> anyhow::Result<Vec<(String, i64)>> {
    let killed = format!("/{program}");
    let mut all = restarts(cluster)?;
    all.retain(|(container, _)| !container.ends_with(&killed));
    Ok(all)
}

/// That a new Deployment runs, and that what is deleted goes.
fn works(cluster: &Cluster, program: &str) -> anyhow::Result<()> {
    let name = format!("after-{}", program.trim_start_matches("rutter-"));
    let selector = format!("app={name}");
    // Where the component was killed.
    let deployment = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      nodeSelector: {{kubernetes.io/hostname: node-1}}\n      containers: [{{name: echo, image: \"rutter.example/echo:1\"}}]\n"
    );
    eventually("  a new Deployment runs", SOON, || {
        // It is there already after the first try that came through.
        let made = cluster.rctl.ok_file(&["create"], &deployment);
        ensure!(
            !ready_pods(cluster, &selector)?.is_empty(),
            "no pod of {name} is Ready: {made:?}"
        );
        Ok(())
    })?;
    cluster.rctl.ok(&["delete", "deployment", &name])?;
    eventually("  it is gone", SOON, || {
        let pods = cluster.get(&["pods", "-l", &selector])?;
        ensure!(
            pods["items"].as_array().is_some_and(Vec::is_empty),
            "a pod of {name} is left"
        );
        Ok(())
    })
}

fn crash_of_dns(cluster: &Cluster) -> anyhow::Result<()> {
    let pods = cluster.get(&["pods", "-n", "kube-system", "-l", "k8s-app=kube-dns"])?;
    let pod = pods["items"]
        .as_array()
        .and_then(|pods| pods.first())
        .context("no pod of the cluster DNS")?;
    let node = text(&pod["spec"]["nodeName"]).to_owned();
    crash(cluster, &node, "dns", || {
        eventually("  names are answered again", SOON, || {
            cluster
                .rctl
                .ok(&["exec", "shell", "--", "wget", "-qO-", "http://echo/"])
        })
        .map(|_| ())
    })
}

/// Power off a node: its pods run elsewhere, and it rejoins.
fn lost_node(cluster: &Cluster) -> anyhow::Result<()> {
    let on_it = three_ready(cluster)?
        .iter()
        .filter(|pod| pod.node == "node-3")
        .count();
    if on_it == 0 {
        // Somebody must live there for it to be a loss.
        cluster.rctl.ok(&["cordon", "node-1", "node-2"])?;
        let pods = three_ready(cluster)?;
        let one = pods.first().context("no pod")?;
        cluster.rctl.ok(&["delete", "pod", &one.name])?;
        eventually("a pod of the example is on node-3", SOON, || {
            let pods = three_ready(cluster)?;
            ensure!(pods.iter().any(|pod| pod.node == "node-3"), "none is");
            Ok(())
        })?;
        cluster.rctl.ok(&["uncordon", "node-1", "node-2"])?;
    }
    step("power off node-3", || cluster.power("node-3", false))?;
    let ready = |wanted: &'static str| {
        move || {
            let node = cluster.get(&["node", "node-3"])?;
            let status = condition(&node, "Ready").to_owned();
            ensure!(status == wanted, "node-3's Ready is {status}");
            Ok(())
        }
    };
    eventually(
        "the node is not Ready any more (it is given up after 40 s)",
        ELSEWHERE,
        ready("Unknown"),
    )?;
    eventually(
        "the pods of the dead node run elsewhere (they tolerate 5 s)",
        ELSEWHERE,
        || {
            let pods = three_ready(cluster)?;
            ensure!(
                pods.iter().all(|pod| pod.node != "node-3"),
                "a pod is still there"
            );
            Ok(())
        },
    )?;
    step("power on node-3", || cluster.power("node-3", true))?;
    eventually("the node is Ready again", SOON, ready("True"))?;
    let there = "  nodeSelector: {kubernetes.io/hostname: node-3}\n";
    cluster
        .rctl
        .ok_file(&["create"], &busybox_pod("settler", "sleep 3600", there))?;
    pod_ready(cluster, "settler")?;
    cluster.rctl.ok(&["delete", "pod", "settler", "--wait=false"])?;
    let address = node_port(3);
    eventually("its NodePort answers again", SOON, || who_answers(&address)).map(|_| ())
}

/// Writers that go on while components are away, and remember what they were told is done.
struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Written>>,
}

#[derive(Default)]
struct Written {
    acknowledged: BTreeSet<String>,
    refused: usize,
}

impl Writers {
    fn start(tool: &Tool, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..count)
            .map(|writer| {
                let (tool, stop) = (tool.clone(), stop.clone());
                std::thread::spawn(move || write(&tool, writer, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    fn stop(self) -> anyhow::Result<Written> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Written::default();
        for thread in self.threads {
            let Ok(written) = thread.join() else {
                anyhow::bail!("a writer panicked")
            };
            all.acknowledged.extend(written.acknowledged);
            all.refused += written.refused;
        }
        Ok(all)
    }
}

fn write(tool: &Tool, writer: usize, stop: &AtomicBool) -> Written {
    let mut written = Written::default();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let name = format!("written-{writer}-{number}");
        let value = format!("--from-literal=name={name}");
        match tool.ok(&["create", "configmap", &name, &value]) {
            Ok(_) => drop(written.acknowledged.insert(name)),
            Err(_) => written.refused += 1,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    written
}

/// That everything that was acknowledged is there, with its content.
fn all_there(cluster: &Cluster, written: &Written) -> anyhow::Result<()> {
    let path = "jsonpath={range .items[*]}{.metadata.name}={.data.name}{\"\\n\"}{end}";
    let told = cluster.rctl.ok(&["get", "configmaps", "-o", path])?;
    let there: BTreeSet<&str> = told
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, value)| name == value)
        .map(|(name, _)| name)
        .collect();
    let lost: Vec<&String> = written
        .acknowledged
        .iter()
        .filter(|name| !there.contains(name.as_str()))
        .collect();
    say(&format!(
        "  {} writes were acknowledged and {} were not; {} of the former are lost",
        written.acknowledged.len(),
        written.refused,
        lost.len()
    ));
    ensure!(!written.acknowledged.is_empty(), "nothing was written");
    ensure!(lost.is_empty(), "{lost:?} were acknowledged and are lost");
    let mut delete = vec!["delete", "configmap"];
    delete.extend(there);
    cluster.rctl.ok(&delete).map(|_| ())
}
