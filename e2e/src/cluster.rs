//! A cluster for one scenario, and the few things that scenarios do with it.

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The name of the cluster that tests bring up.
const NAME: &str = "e2e";
/// Its nodes' network, another than that of a person's cluster.
const SUBNET: &str = "172.29.0.0/24";

/// Prints a line.
#[allow(clippy::print_stdout)]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// A running cluster.
pub(crate) struct Cluster {
    bin: PathBuf,
    dir: tempfile::TempDir,
}

/// Brings a cluster up, runs `scenario` on it, and takes it down.
pub(crate) fn with(
    bin: &Path,
    nodes: usize,
    flags: &[&str],
    keep: bool,
    scenario: fn(&Cluster) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cluster = Cluster {
        bin: bin.to_owned(),
        dir: tempfile::tempdir()?,
    };
    // A cluster that an interrupted run left behind.
    cluster.rctl(&["cluster", "down", "--name", NAME])?;
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
    let began = Instant::now();
    let outcome = cluster.rctl(&up).and_then(|_| {
        say(&format!(
            "the cluster is up after {:.1} s",
            began.elapsed().as_secs_f64()
        ));
        scenario(&cluster)
    });
    if outcome.is_err() {
        cluster.show_state();
    }
    if keep {
        say(&format!(
            "the cluster stays; take it down with `rctl cluster down --name {NAME}`"
        ));
        return outcome;
    }
    let down = cluster.rctl(&["cluster", "down", "--name", NAME]).map(|_| ());
    outcome.and(down)
}

impl Cluster {
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("KUBECONFIG", self.dir.path().join("config"))
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null());
        command
    }

    /// A scratch folder.
    pub(crate) fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Runs `rctl`; its standard output.
    pub(crate) fn rctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        text(
            &self.command(&self.bin.join("rctl")).args(arguments).output()?,
            &format!("rctl {}", arguments.join(" ")),
        )
    }

    /// Runs `rctl` expecting it to fail; its standard error.
    pub(crate) fn rctl_fails(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(&self.bin.join("rctl")).args(arguments).output()?;
        ensure!(
            !output.status.success(),
            "rctl {} succeeded and should not have",
            arguments.join(" ")
        );
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs `rctl` with a file of the given content as its `-f`.
    pub(crate) fn rctl_file(&self, arguments: &[&str], content: &str) -> anyhow::Result<String> {
        let path = self.dir.path().join("manifest.yaml");
        std::fs::write(&path, content)?;
        let mut all = arguments.to_vec();
        let path = path.to_string_lossy().into_owned();
        all.extend(["-f", &path]);
        self.rctl(&all)
    }

    /// An object as JSON.
    pub(crate) fn get(&self, what: &[&str]) -> anyhow::Result<Value> {
        let mut arguments = vec!["get"];
        arguments.extend(what);
        arguments.extend(["-o", "json"]);
        Ok(serde_json::from_str(&self.rctl(&arguments)?)?)
    }

    /// Runs a command inside a node.
    pub(crate) fn on_node(&self, node: &str, command: &[&str]) -> anyhow::Result<String> {
        let mut arguments = vec!["cluster", "exec", "--name", NAME, node, "--"];
        arguments.extend(command);
        self.rctl(&arguments)
    }

    /// Powers a node off or on.
    pub(crate) fn power(&self, node: &str, on: bool) -> anyhow::Result<()> {
        self.rctl(&[
            "cluster",
            if on { "power-on" } else { "power-off" },
            "--name",
            NAME,
            node,
        ])
        .map(|_| ())
    }

    /// Kills a service of a node with SIGKILL. Its init starts it again.
    pub(crate) fn kill_service(&self, node: &str, program: &str) -> anyhow::Result<()> {
        self.on_node(
            node,
            &["pkill", "-KILL", "-x", "-f", &format!(".*/?{program}( .*)?")],
        )
        .map(|_| ())
    }

    fn show_state(&self) {
        for arguments in [
            &["get", "nodes,pods,svc,events", "-A", "-o", "wide"][..],
            &["cluster", "logs", "--name", NAME, "node-1", "--tail", "25"],
        ] {
            match self.rctl(arguments) {
                Ok(text) => say(&text),
                Err(error) => say(&format!("{error:#}")),
            }
        }
    }
}

fn text(output: &Output, what: &str) -> anyhow::Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "`{what}` failed: {}{}",
            stdout.trim(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(stdout)
}

/// Tries until it succeeds; the last failure when it never does in time.
pub(crate) fn eventually<T>(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        match check() {
            Ok(value) => {
                say(&format!("{what} ({:.2} s)", began.elapsed().as_secs_f64()));
                return Ok(value);
            }
            Err(error) if began.elapsed() > limit => {
                return Err(error).with_context(|| format!("not within {} s: {what}", limit.as_secs()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// The address of a node by its number.
pub(crate) fn node_address(number: usize) -> String {
    format!("172.29.0.{}", number + 1)
}

/// One HTTP GET with a limit of three seconds; the body.
pub(crate) fn http_get(address: &str, path: &str) -> anyhow::Result<String> {
    use std::io::{Read as _, Write as _};
    let limit = Duration::from_secs(3);
    let mut stream = std::net::TcpStream::connect_timeout(&address.parse()?, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without a body")?;
    ensure!(
        head.starts_with("HTTP/1.1 200"),
        "{}",
        head.lines().next().unwrap_or_default()
    );
    Ok(body.to_owned())
}
