//! An application from `apply` to a rolling update under load.

use super::{
    EXAMPLE, busybox_pod, node_port, pod_ready, ready_pods, rollout_undo, three_ready, undeploy, who_answers,
};
use crate::cluster::{Cluster, SOON};
use crate::load::Load;
use crate::report::{eventually, say, step};
use anyhow::{Context as _, ensure};
use std::collections::BTreeSet;

/// Requests a second while the application changes.
const RATE: u32 = 200;

/// The scenario.
pub(super) fn run(cluster: &Cluster) -> anyhow::Result<()> {
    step("apply", || cluster.rctl.ok(&["apply", "-f", EXAMPLE]))?;
    eventually("three pods are Ready (wanted: 3 s)", SOON, || {
        three_ready(cluster)
    })?;
    for node in 1..=3 {
        let address = node_port(node);
        eventually(&format!("the NodePort answers on node-{node}"), SOON, || {
            who_answers(&address)
        })?;
    }
    from_a_pod(cluster)?;
    replacement(cluster)?;
    changes_lose_nothing(cluster)?;
    undeploy(cluster)
}

/// A pod reaches the Service by name and ClusterIP, and the pods of every node; from each node.
fn from_a_pod(cluster: &Cluster) -> anyhow::Result<()> {
    let shell = "wget -qO- http://echo/ && wget -qO- http://echo.default.svc.cluster.local/ && wget -qO- http://$ECHO_SERVICE_HOST/";
    let pods = three_ready(cluster)?;
    for node in ["node-1", "node-2", "node-3"] {
        let name = format!("shell-{node}");
        let at = format!("  nodeName: {node}\n");
        cluster
            .rctl
            .ok_file(&["create"], &busybox_pod(&name, "sleep 3600", &at))?;
        pod_ready(cluster, &name)?;
        let answers = eventually(
            &format!("a pod of {node} reaches the Service by name and by ClusterIP"),
            SOON,
            || cluster.rctl.ok(&["exec", &name, "--", "sh", "-c", shell]),
        )?;
        ensure!(answers.matches("hostname=echo-").count() == 3, "{answers}");
        for pod in &pods {
            let url = format!("http://{}:8080/", pod.ip);
            let answer = cluster
                .rctl
                .ok(&["exec", &name, "--", "wget", "-qO-", &url])
                .with_context(|| format!("from {node} to a pod of {}", pod.node))?;
            ensure!(answer.contains(&format!("hostname={}", pod.name)), "{answer}");
        }
        cluster.rctl.ok(&["delete", "pod", &name, "--wait=false"])?;
    }
    Ok(())
}

fn replacement(cluster: &Cluster) -> anyhow::Result<()> {
    let before: BTreeSet<String> = three_ready(cluster)?.into_iter().map(|pod| pod.name).collect();
    let victim = before.first().context("no pod")?;
    cluster.rctl.ok(&["delete", "pod", victim, "--wait=false"])?;
    eventually("a deleted pod's replacement is Ready (wanted: 2 s)", SOON, || {
        let now = three_ready(cluster)?;
        ensure!(
            now.iter().all(|pod| pod.name != *victim),
            "{victim} is still there"
        );
        Ok(())
    })
}

/// A rolling update, an undo and scaling under requests through the NodePorts lose none.
fn changes_lose_nothing(cluster: &Cluster) -> anyhow::Result<()> {
    let rctl = &cluster.rctl;
    let load = Load::start(&[node_port(1), node_port(2), node_port(3)], RATE);
    let outcome = (|| {
        let wait = ["rollout", "status", "deployment/echo", "--timeout=120s"];
        step("a rolling update", || {
            rctl.ok(&["set", "image", "deployment/echo", "echo=rutter.example/echo:2"])?;
            rctl.ok(&wait)
        })?;
        image(cluster, "rutter.example/echo:2")?;
        step("an undo", || {
            rollout_undo(rctl)?;
            rctl.ok(&wait)
        })?;
        image(cluster, "rutter.example/echo:1")?;
        step("from three pods to six and back", || {
            rctl.ok(&["scale", "deployment/echo", "--replicas=6"])?;
            rctl.ok(&wait)?;
            let nodes: BTreeSet<String> = ready_pods(cluster, "app=echo")?
                .into_iter()
                .map(|pod| pod.node)
                .collect();
            ensure!(nodes.len() == 3, "six pods are on no other node than {nodes:?}");
            rctl.ok(&["scale", "deployment/echo", "--replicas=3"])?;
            rctl.ok(&wait)
        })?;
        eventually("three pods are left", SOON, || three_ready(cluster)).map(|_| ())
    })();
    let seen = load.stop()?;
    outcome?;
    say(&format!(
        "  wanted: {RATE} requests a second through three NodePorts, none lost"
    ));
    seen.whole()
}

/// That all Ready pods run this image.
fn image(cluster: &Cluster, wanted: &str) -> anyhow::Result<()> {
    let path = "{.items[*].spec.containers[*].image}";
    ensure!(
        ready_pods(cluster, "app=echo")?.len() >= 3,
        "fewer than three pods are Ready"
    );
    eventually(&format!("all pods run {wanted}"), SOON, || {
        let images = cluster.rctl.ok(&[
            "get",
            "pods",
            "-l",
            "app=echo",
            "--field-selector=status.phase=Running",
            "-o",
            &format!("jsonpath={path}"),
        ])?;
        ensure!(images.split(' ').all(|image| image == wanted), "{images}");
        Ok(())
    })
}
