//! What is tried, by theme, and what several themes need.

mod application;
mod bad_input;
mod crashes;
mod credentials;
mod durability;
mod operator;
mod session;
mod tables;

use crate::cluster::{Cluster, SOON, node_address};
use crate::plain_http;
use crate::report::eventually;
use crate::tool::Tool;
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::path::Path;

/// Scenarios that share a stage.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) stage: Stage,
    pub(crate) scenarios: &'static [Scenario],
}

/// What scenarios run on.
pub(crate) enum Stage {
    /// The programs alone.
    Programs,
    /// A cluster.
    Cluster {
        nodes: usize,
        flags: &'static [&'static str],
    },
}

/// A scenario. It leaves a cluster as it found it, so that the next one can follow.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
}

/// What a scenario does.
pub(crate) enum Run {
    /// It gets the programs' folder.
    OfPrograms(fn(&Path) -> anyhow::Result<()>),
    /// It gets the group's cluster.
    OnCluster(fn(&Cluster) -> anyhow::Result<()>),
}

/// All scenarios.
pub(crate) const ALL: &[Group] = &[
    Group {
        name: "a cluster of three nodes",
        stage: Stage::Cluster {
            nodes: 3,
            flags: &["--toleration-seconds=5"],
        },
        scenarios: &[
            Scenario {
                name: "application: an example runs, answers, heals and changes",
                run: Run::OnCluster(application::run),
            },
            Scenario {
                name: "session: by rctl and by kubectl alike",
                run: Run::OnCluster(session::run),
            },
            Scenario {
                name: "bad input: what is wrong is said as Kubernetes says it",
                run: Run::OnCluster(bad_input::run),
            },
            Scenario {
                name: "credentials: who is not known or may not is refused",
                run: Run::OnCluster(credentials::run),
            },
            Scenario {
                name: "operator: a kube-rs controller reconciles a custom resource",
                run: Run::OnCluster(operator::run),
            },
            Scenario {
                name: "crashes: each component returns, and a lost node",
                run: Run::OnCluster(crashes::run),
            },
        ],
    },
    Group {
        name: "a cluster of one node over etcd",
        stage: Stage::Cluster {
            nodes: 1,
            flags: &["--storage=etcd"],
        },
        scenarios: &[Scenario {
            name: "etcd: an example runs, and etcd returns",
            run: Run::OnCluster(crashes::etcd),
        }],
    },
    Group {
        name: "an API server alone",
        stage: Stage::Programs,
        scenarios: &[
            Scenario {
                name: "durability: the API server is killed 100 times under writers",
                run: Run::OfPrograms(durability::server),
            },
            Scenario {
                name: "durability: its etcd is killed 25 times under writers",
                run: Run::OfPrograms(durability::etcd),
            },
        ],
    },
];

/// The example application.
const EXAMPLE: &str = "deploy/examples/deployment.yml";
/// The port of nodes where it answers.
const NODE_PORT: u16 = 30080;
/// The image of pods with a shell.
const BUSYBOX: &str = "rutter.example/busybox:1";

/// A pod that is Ready.
#[derive(Clone, Debug)]
struct Pod {
    name: String,
    node: String,
    ip: String,
}

/// The Ready pods that a selector selects.
fn ready_pods(cluster: &Cluster, selector: &str) -> anyhow::Result<Vec<Pod>> {
    let pods = cluster.get(&["pods", "-l", selector])?;
    let items = pods["items"].as_array().context("a list without items")?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let ready =
        |pod: &&Value| condition(pod, "Ready") == "True" && pod["metadata"]["deletionTimestamp"].is_null();
    Ok(items
        .iter()
        .filter(ready)
        .map(|pod| Pod {
            name: text(&pod["metadata"]["name"]),
            node: text(&pod["spec"]["nodeName"]),
            ip: text(&pod["status"]["podIP"]),
        })
        .collect())
}

/// The status of a condition; empty when there is none.
fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let all = object["status"]["conditions"].as_array();
    let found = all.into_iter().flatten().find(|c| c["type"] == kind);
    found.and_then(|c| c["status"].as_str()).unwrap_or_default()
}

/// That the example's three pods are Ready.
fn three_ready(cluster: &Cluster) -> anyhow::Result<Vec<Pod>> {
    let pods = ready_pods(cluster, "app=echo")?;
    ensure!(pods.len() == 3, "{} of 3 pods are Ready", pods.len());
    Ok(pods)
}

/// Has the example running.
fn deploy(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.rctl.ok(&["apply", "-f", EXAMPLE])?;
    eventually("the example's three pods are Ready", SOON, || {
        three_ready(cluster)
    })?;
    let address = node_port(1);
    eventually("the NodePort answers", SOON, || who_answers(&address)).map(|_| ())
}

/// Takes the example away, down to its last pod.
fn undeploy(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.rctl.ok(&["delete", "-f", EXAMPLE])?;
    eventually("the example is gone", SOON, || {
        let pods = cluster.get(&["pods", "-l", "app=echo"])?;
        ensure!(
            pods["items"].as_array().is_some_and(Vec::is_empty),
            "pods are left"
        );
        Ok(())
    })
}

/// Undoes the example's rollout. From 1.36 on it says what that means for objects that were applied.
fn rollout_undo(tool: &Tool) -> anyhow::Result<()> {
    let mut undo = tool.command(&["rollout", "undo", "deployment/echo"]);
    let outcome = tool.outcome(&mut undo)?;
    let warned = outcome.stderr.starts_with(&format!(
        "Warning: resource deployments/echo was previously managed with '{} apply'. Rolling back will not update the kubectl.kubernetes.io/last-applied-configuration annotation",
        tool.name
    ));
    ensure!(
        outcome.status.success()
            && outcome.stdout == "deployment.apps/echo rolled back\n"
            && (warned || (outcome.stderr.is_empty() && tool.minor()? < 36)),
        "{outcome:?}"
    );
    Ok(())
}

/// The example's address on a node.
fn node_port(node: usize) -> String {
    format!("{}:{NODE_PORT}", node_address(node))
}

/// Which pod answers at an address.
fn who_answers(address: &str) -> anyhow::Result<String> {
    let body = plain_http::get(address, "/")?;
    let name = body.lines().find_map(|line| line.strip_prefix("hostname="));
    name.map(str::to_owned).context("an answer without a hostname")
}

/// The manifest of a pod with one busybox container.
fn busybox_pod(name: &str, command: &str, more: &str) -> String {
    let command = serde_json::json!(["sh", "-c", command]);
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  terminationGracePeriodSeconds: 1\n{more}  containers:\n  - name: main\n    image: {BUSYBOX}\n    stdin: true\n    command: {command}\n"
    )
}

/// Waits until a pod is Ready.
fn pod_ready(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    eventually(&format!("the pod {name} is Ready"), SOON, || {
        ensure!(
            condition(&cluster.get(&["pod", name])?, "Ready") == "True",
            "{name} is not Ready"
        );
        Ok(())
    })
}

/// How often each container of the cluster has restarted, by pod and container.
fn restarts(cluster: &Cluster) -> anyhow::Result<Vec<(String, i64)>> {
    let pods = cluster.get(&["pods", "-A"])?;
    let items = pods["items"].as_array().context("a list without items")?;
    let mut all = Vec::new();
    for pod in items {
        for status in pod["status"]["containerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let name = format!("{}/{}", text(&pod["metadata"]["name"]), text(&status["name"]));
            all.push((name, status["restartCount"].as_i64().unwrap_or(0)));
        }
    }
    all.sort();
    Ok(all)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
