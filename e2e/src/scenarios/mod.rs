//! What is tried on a cluster.

use crate::cluster::{Cluster, eventually, http_get, node_address, say};
use anyhow::{Context as _, ensure};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A scenario with the cluster that it needs.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) nodes: usize,
    pub(crate) flags: &'static [&'static str],
    pub(crate) run: fn(&Cluster) -> anyhow::Result<()>,
}

/// All scenarios.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "an application on three nodes",
        nodes: 3,
        flags: &["--toleration-seconds=5"],
        run: application,
    },
    Scenario {
        name: "an application over etcd",
        nodes: 1,
        flags: &["--storage=etcd"],
        run: thin_thread,
    },
];

const EXAMPLE: &str = "deploy/examples/deployment.yml";
const NODE_PORT: u16 = 30080;
const SOON: Duration = Duration::from_secs(60);

fn ready_pods(cluster: &Cluster, selector: &str) -> anyhow::Result<Vec<(String, String, String)>> {
    let pods = cluster.get(&["pods", "-l", selector])?;
    let items = pods["items"].as_array().context("a list without items")?;
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    let ready = items.iter().filter(|pod| {
        let conditions = pod["status"]["conditions"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let ready = conditions
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        ready && pod["metadata"]["deletionTimestamp"].is_null()
    });
    Ok(ready
        .map(|p| {
            (
                text(&p["metadata"]["name"]),
                text(&p["spec"]["nodeName"]),
                text(&p["status"]["podIP"]),
            )
        })
        .collect())
}

fn three_ready(cluster: &Cluster) -> anyhow::Result<Vec<(String, String, String)>> {
    let pods = ready_pods(cluster, "app=echo")?;
    ensure!(pods.len() == 3, "{} of 3 pods are Ready", pods.len());
    Ok(pods)
}

fn deploy(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.rctl(&["apply", "-f", EXAMPLE])?;
    eventually("three pods are Ready", SOON, || three_ready(cluster))?;
    Ok(())
}

fn answers(address: &str) -> anyhow::Result<String> {
    let body = http_get(address, "/")?;
    body.lines()
        .find_map(|l| l.strip_prefix("hostname="))
        .map(str::to_owned)
        .context("an answer without a hostname")
}

/// The thread from one end to the other.
fn thin_thread(cluster: &Cluster) -> anyhow::Result<()> {
    deploy(cluster)?;
    let address = format!("{}:{NODE_PORT}", node_address(1));
    eventually("the NodePort answers", SOON, || answers(&address))?;
    cluster.rctl(&["delete", "-f", EXAMPLE])?;
    eventually("all is deleted", SOON, || {
        let pods = cluster.get(&["pods", "-l", "app=echo"])?;
        ensure!(
            pods["items"].as_array().is_some_and(Vec::is_empty),
            "pods are left"
        );
        Ok(())
    })
}

fn application(cluster: &Cluster) -> anyhow::Result<()> {
    deploy(cluster)?;
    for node in 1..=3 {
        let address = format!("{}:{NODE_PORT}", node_address(node));
        eventually(&format!("the NodePort answers on node-{node}"), SOON, || {
            answers(&address)
        })?;
    }
    inside_a_pod(cluster)?;
    replacement(cluster)?;
    rollout_without_loss(cluster)?;
    bad_input(cluster)?;
    components_return(cluster)?;
    lost_node(cluster)
}

fn inside_a_pod(cluster: &Cluster) -> anyhow::Result<()> {
    let shell = "wget -qO- http://echo/ && wget -qO- http://$ECHO_SERVICE_HOST/";
    cluster.rctl(&[
        "run",
        "shell",
        "--image=rutter.example/busybox:1",
        "--restart=Never",
        "--command",
        "--",
        "sleep",
        "3600",
    ])?;
    eventually("a pod runs a shell", SOON, || {
        cluster.rctl(&["exec", "shell", "--", "true"])
    })?;
    let body = eventually("a pod reaches the Service by name and by ClusterIP", SOON, || {
        cluster.rctl(&["exec", "shell", "--", "sh", "-c", shell])
    })?;
    ensure!(body.matches("hostname=echo-").count() == 2, "{body}");
    for (_, node, ip) in three_ready(cluster)? {
        let url = format!("http://{ip}:8080/");
        cluster
            .rctl(&["exec", "shell", "--", "wget", "-qO-", &url])
            .with_context(|| format!("a pod on {node}"))?;
    }
    let whole = "x".repeat(100_000);
    let written = cluster.rctl_file(
        &["create"],
        &format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: big\ndata:\n  x: {whole}\n"),
    )?;
    ensure!(written.contains("configmap/big created"), "{written}");
    Ok(())
}

fn replacement(cluster: &Cluster) -> anyhow::Result<()> {
    let before: BTreeSet<String> = three_ready(cluster)?.into_iter().map(|p| p.0).collect();
    let victim = before.first().cloned().context("no pod")?;
    cluster.rctl(&["delete", "pod", &victim, "--wait=false"])?;
    eventually("a deleted pod is replaced", SOON, || {
        let now: BTreeSet<String> = three_ready(cluster)?.into_iter().map(|p| p.0).collect();
        ensure!(!now.contains(&victim), "{victim} is still there");
        Ok(())
    })?;
    Ok(())
}

/// A rolling update and an undo under steady requests through the NodePort of another node.
fn rollout_without_loss(cluster: &Cluster) -> anyhow::Result<()> {
    let address = format!("{}:{NODE_PORT}", node_address(2));
    let (stop, lost, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, lost, sent, address) = (stop.clone(), lost.clone(), sent.clone(), address.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    sent.fetch_add(1, Ordering::SeqCst);
                    if let Err(error) = http_get(&address, "/") {
                        lost.fetch_add(1, Ordering::SeqCst);
                        say(&format!("lost a request: {error:#}"));
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
        })
        .collect();
    let outcome = (|| {
        cluster.rctl(&["set", "image", "deployment/echo", "echo=rutter.example/echo:2"])?;
        cluster.rctl(&["rollout", "status", "deployment/echo", "--timeout=120s"])?;
        cluster.rctl(&["rollout", "undo", "deployment/echo"])?;
        cluster.rctl(&["rollout", "status", "deployment/echo", "--timeout=120s"])
    })();
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        ensure!(client.join().is_ok(), "a client failed");
    }
    outcome?;
    let (lost, sent) = (lost.load(Ordering::SeqCst), sent.load(Ordering::SeqCst));
    say(&format!(
        "a rolling update and an undo: {lost} of {sent} requests lost"
    ));
    ensure!(lost == 0 && sent > 100, "{lost} of {sent} requests were lost");
    Ok(())
}

fn bad_input(cluster: &Cluster) -> anyhow::Result<()> {
    let path = cluster.scratch().join("bad.yaml");
    let file = path.to_string_lossy().into_owned();
    let pod = |body: &str| format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: bad\nspec:\n{body}");
    let good = "  containers:\n  - name: a\n    image: rutter.example/busybox:1\n";
    for (what, text, want) in [
        ("broken YAML", "a: [".to_owned(), "error"),
        (
            "no containers",
            pod("  containers: []\n"),
            "spec.containers: Required value",
        ),
        (
            "a wrong type",
            pod("  containers:\n  - name: a\n    image: 5\n"),
            "cannot unmarshal",
        ),
        (
            "an unknown field",
            pod(&format!("{good}    colour: red\n")),
            "unknown field \"spec.containers[0].colour\"",
        ),
        (
            "a bad name",
            pod(good).replace("name: bad", "name: Bad_Name"),
            "RFC 1123",
        ),
        (
            "an unknown kind",
            "apiVersion: v1\nkind: Sock\nmetadata:\n  name: x\n".to_owned(),
            "Sock",
        ),
    ] {
        std::fs::write(&path, text)?;
        let error = cluster.rctl_fails(&["create", "-f", &file])?;
        ensure!(error.contains(want), "{what}: {error}");
    }
    let error = cluster.rctl_fails(&["get", "pod", "nobody"])?;
    ensure!(
        error.contains("Error from server (NotFound): pods \"nobody\" not found"),
        "{error}"
    );
    let error = cluster.rctl_fails(&["get", "secrets", "--as=jane"])?;
    ensure!(
        error.contains("secrets is forbidden: User \"jane\" cannot list resource \"secrets\""),
        "{error}"
    );
    say("bad input is refused with reasons");
    Ok(())
}

fn restarts(cluster: &Cluster) -> anyhow::Result<i64> {
    let pods = cluster.get(&["pods", "-A"])?;
    let items = pods["items"].as_array().context("a list without items")?;
    let statuses = items.iter().flat_map(|p| {
        p["status"]["containerStatuses"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    });
    Ok(statuses.map(|s| s["restartCount"].as_i64().unwrap_or(0)).sum())
}

/// Kill -9 of each component in turn: it returns, and no container restarts.
fn components_return(cluster: &Cluster) -> anyhow::Result<()> {
    let before = restarts(cluster)?;
    for program in [
        "rutter-scheduler",
        "rutter-controller-manager",
        "rutter-kubelet",
        "rutter-proxy",
        "rutter-network",
        "containerd",
        "rutter-apiserver",
    ] {
        cluster
            .kill_service("node-1", program)
            .with_context(|| format!("killing {program}"))?;
        let name = format!("after-{}", program.trim_start_matches("rutter-"));
        eventually(
            &format!("the cluster works after kill -9 of {program}"),
            SOON,
            || {
                let _ = cluster.rctl(&["create", "deployment", &name, "--image=rutter.example/echo:1"]);
                ensure!(
                    !ready_pods(cluster, &format!("app={name}"))?.is_empty(),
                    "no pod of {name} is Ready"
                );
                Ok(())
            },
        )?;
        cluster.rctl(&["delete", "deployment", &name])?;
    }
    let after = restarts(cluster)?;
    ensure!(
        after == before,
        "containers restarted: {before} before, {after} after"
    );
    Ok(())
}

/// Power off a node: its pods run elsewhere, and it rejoins.
fn lost_node(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.power("node-3", false)?;
    eventually(
        "the pods of a dead node run elsewhere",
        Duration::from_secs(180),
        || {
            let pods = three_ready(cluster)?;
            ensure!(pods.iter().all(|p| p.1 != "node-3"), "a pod is still on node-3");
            Ok(())
        },
    )?;
    cluster.power("node-3", true)?;
    eventually("the node is Ready again", SOON, || {
        let node = cluster.get(&["node", "node-3"])?;
        let conditions = node["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        ensure!(
            conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True"),
            "node-3 is not Ready"
        );
        Ok(())
    })
}
