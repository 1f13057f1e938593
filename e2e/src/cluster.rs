//! A cluster for some scenarios, and the few things that only they do with one.

use crate::report::{say, step};
use crate::tool::Tool;
use anyhow::Context as _;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of the cluster that tests bring up.
const NAME: &str = "e2e";
/// Its nodes' network, another than that of a person's cluster.
const SUBNET: &str = "172.29.0.0/24";

/// How long things may take that take a second or two: far more than on a quiet machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A running cluster.
pub(crate) struct Cluster {
    /// `rctl` with the admin context.
    pub(crate) rctl: Tool,
    /// `kubectl` with it, where there is one.
    pub(crate) kubectl: Option<Tool>,
    dir: tempfile::TempDir,
}

impl Cluster {
    /// Brings a cluster up with the programs and images of a folder.
    pub(crate) fn up(bin: &Path, nodes: usize, flags: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("config");
        let cluster = Self {
            rctl: Tool::new("rctl", bin.join("rctl"), dir.path(), config.clone()),
            kubectl: Tool::kubectl(dir.path(), config),
            dir,
        };
        // One that an interrupted run left behind.
        cluster.down()?;
        let images = ["echo-1", "echo-2", "busybox-1"].map(|i| {
            format!(
                "--image={}",
                bin.join("images").join(format!("{i}.tar")).display()
            )
        });
        let nodes = nodes.to_string();
        let mut up = vec![
            "cluster", "up", "--name", NAME, "--subnet", SUBNET, "--nodes", &nodes,
        ];
        up.extend(images.iter().map(String::as_str));
        up.extend(flags);
        if let Err(error) = step(&format!("a cluster is up, nodes: {nodes}"), || {
            cluster.rctl.ok(&up)
        }) {
            cluster.show_state();
            // The reason is why it did not come up, whatever becomes of taking it down.
            let _ = cluster.down();
            return Err(error);
        }
        Ok(cluster)
    }

    /// Takes the cluster down.
    pub(crate) fn down(&self) -> anyhow::Result<()> {
        self.rctl.ok(&["cluster", "down", "--name", NAME]).map(|_| ())
    }

    /// Says how to take it down later.
    pub(crate) fn keep(self) {
        let config = self.dir.keep().join("config");
        say(&format!(
            "the cluster stays: KUBECONFIG={}; take it down with `rctl cluster down --name {NAME}`",
            config.display()
        ));
    }

    /// A scratch folder.
    pub(crate) fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// The file with the admin context.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// `rctl`, and `kubectl` where there is one.
    pub(crate) fn tools(&self) -> impl Iterator<Item = &Tool> {
        std::iter::once(&self.rctl).chain(&self.kubectl)
    }

    /// The cluster's certificates and keys.
    pub(crate) fn pki(&self) -> PathBuf {
        PathBuf::from(format!("/var/lib/rutter/clusters/{NAME}/pki"))
    }

    /// An object as JSON.
    pub(crate) fn get(&self, what: &[&str]) -> anyhow::Result<Value> {
        let text = self.rctl.ok(&[&["get"], what, &["-o", "json"]].concat())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Runs a command inside a node.
    pub(crate) fn on_node(&self, node: &str, command: &[&str]) -> anyhow::Result<String> {
        let exec = ["cluster", "exec", "--name", NAME, node, "--"];
        self.rctl.ok(&[&exec, command].concat())
    }

    /// Powers a node off or on.
    pub(crate) fn power(&self, node: &str, on: bool) -> anyhow::Result<()> {
        let command = if on { "power-on" } else { "power-off" };
        self.rctl
            .ok(&["cluster", command, "--name", NAME, node])
            .map(|_| ())
    }

    /// The processes of a program on a node, by their ids there.
    pub(crate) fn processes(&self, node: &str, program: &str) -> anyhow::Result<String> {
        self.on_node(node, &["pgrep", "-x", "-f", &format!("([^ ]*/)?{program}( .*)?")])
            .with_context(|| format!("{program} does not run on {node}"))
    }

    /// Kills a program on a node with SIGKILL; the ids of the processes that it was.
    pub(crate) fn kill(&self, node: &str, program: &str) -> anyhow::Result<String> {
        let processes = self.processes(node, program)?;
        let mut kill = vec!["kill", "-KILL"];
        kill.extend(processes.split_whitespace());
        self.on_node(node, &kill)?;
        Ok(processes)
    }

    /// Prints what a person would look at first when something went wrong.
    pub(crate) fn show_state(&self) {
        for arguments in [
            &["get", "nodes,pods,svc,events", "-A", "-o", "wide"][..],
            &["cluster", "logs", "--name", NAME, "node-1", "--tail", "25"],
        ] {
            match self.rctl.ok(arguments) {
                Ok(text) => say(&text),
                Err(error) => say(&format!("{error:#}")),
            }
        }
    }
}

/// The address of a node by its number.
pub(crate) fn node_address(number: usize) -> String {
    format!("172.29.0.{}", number + 1)
}
