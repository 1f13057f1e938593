//! A node's place on this machine: its network namespace and cable, its cgroups, and the processes in it.
//!
//! Every step may be repeated. Tear-down goes on past failures and leaves nothing behind.

use super::layout::{Cluster, Node};
use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Runs a command; its own words are the error.
pub(super) fn sh(command: &str) -> anyhow::Result<String> {
    let mut words = command.split_whitespace();
    let program = words.next().context("an empty command")?;
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {program}: is it installed?"))?;
    if !output.status.success() {
        bail!(
            "`{command}` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes the bridge between the nodes.
pub(super) fn make_bridge(cluster: &Cluster) -> anyhow::Result<()> {
    let bridge = cluster.bridge();
    if sh(&format!("ip link show {bridge}")).is_err() {
        sh(&format!("ip link add {bridge} type bridge"))?;
    }
    let address = format!("{}/{}", cluster.gateway(), cluster.subnet.prefix_len());
    sh(&format!("ip addr replace {address} dev {bridge}"))?;
    sh(&format!("ip link set {bridge} up"))?;
    if cluster.egress {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")
            .context("allowing this machine to forward packets")?;
        let rule = egress_rule(cluster);
        if sh(&format!("iptables -w -t nat -C {rule}")).is_err() {
            sh(&format!("iptables -w -t nat -A {rule}"))?;
        }
    }
    Ok(())
}

fn egress_rule(cluster: &Cluster) -> String {
    format!(
        "POSTROUTING -s {} ! -o {} -j MASQUERADE",
        cluster.subnet,
        cluster.bridge()
    )
}

/// Takes the bridge away.
pub(super) fn remove_bridge(cluster: &Cluster) -> Vec<anyhow::Error> {
    let mut errors = Vec::new();
    if cluster.egress {
        errors.extend(sh(&format!("iptables -w -t nat -D {}", egress_rule(cluster))).err());
    }
    let bridge = cluster.bridge();
    if Path::new("/sys/class/net").join(&bridge).exists() {
        errors.extend(sh(&format!("ip link del {bridge}")).err());
    }
    errors
}

/// Makes a node's network namespace with a cable to the bridge.
pub(super) fn make_network(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    let (netns, veth, bridge) = (cluster.netns(node), cluster.veth(node), cluster.bridge());
    if !Path::new("/run/netns").join(&netns).exists() {
        sh(&format!("ip netns add {netns}"))?;
    }
    if !Path::new("/sys/class/net").join(&veth).exists() {
        sh(&format!(
            "ip link add {veth} type veth peer name eth0 netns {netns}"
        ))?;
    }
    sh(&format!("ip link set {veth} master {bridge} up"))?;
    let address = format!("{}/{}", node.address, cluster.subnet.prefix_len());
    sh(&format!("ip -n {netns} addr replace {address} dev eth0"))?;
    sh(&format!("ip -n {netns} link set lo up"))?;
    sh(&format!("ip -n {netns} link set eth0 up"))?;
    // Even without a way out there must be a default route: packets to a ClusterIP are routed before they are rewritten.
    sh(&format!(
        "ip -n {netns} route replace default via {}",
        cluster.gateway()
    ))?;
    Ok(())
}

/// The cgroup hierarchies of this machine: the folders in which a node's group is made.
fn hierarchies() -> Vec<PathBuf> {
    if Path::new(CGROUP_ROOT).join("cgroup.controllers").exists() {
        return vec![PathBuf::from(CGROUP_ROOT)];
    }
    let Ok(entries) = fs::read_dir(CGROUP_ROOT) else {
        return Vec::new();
    };
    let mut all: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        // Controllers that are mounted together have links with their other names.
        .filter(|path| !path.is_symlink() && path.join("cgroup.procs").exists())
        .collect();
    all.sort();
    all
}

fn make_cgroups(cluster: &Cluster, node: &Node) -> anyhow::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for hierarchy in hierarchies() {
        let mut group = hierarchy.clone();
        for part in &cluster.cgroup(node) {
            let parent = group.clone();
            group.push(part);
            if parent.join("cgroup.subtree_control").exists() && parent != hierarchy.join("unified") {
                let available = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
                for controller in available.split_whitespace() {
                    let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
            fs::create_dir_all(&group).with_context(|| format!("making the cgroup {}", group.display()))?;
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = fs::read_to_string(parent.join(file))
                    && fs::read_to_string(group.join(file)).is_ok_and(|own| own.trim().is_empty())
                    && !value.trim().is_empty()
                {
                    let _ = fs::write(group.join(file), value);
                }
            }
        }
        let limit = (cluster.node_memory << 20).to_string();
        for file in ["memory.limit_in_bytes", "memory.max"] {
            if group.join(file).exists() {
                fs::write(group.join(file), &limit)
                    .with_context(|| format!("limiting the memory of {}", node.name))?;
            }
        }
        made.push(group);
    }
    Ok(made)
}

/// Starts a node's init, detached from this process.
pub(super) fn start(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    let dir = cluster.node_dir(node);
    let groups = make_cgroups(cluster, node)?;
    let log = fs::File::create(dir.join("init.log")).context("making the node's log")?;
    let program = std::env::current_exe()?;
    let child = Command::new(&program)
        .args([
            "cluster",
            "node-enter",
            "--netns",
            &cluster.netns(node),
            "--config",
        ])
        .arg(dir.join("init.json"))
        .args(groups.iter().flat_map(|g| [Path::new("--cgroup"), g]))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting the node's init")?;
    super::pki::write(&dir.join("init.pid"), child.id().to_string().as_bytes(), 0o644)
}

/// Moves this process into a node's cgroups and becomes its init. Returns only on failure.
pub(super) fn enter(netns: &str, config: &Path, cgroups: &[PathBuf]) -> anyhow::Error {
    for group in cgroups {
        if let Err(error) = fs::write(group.join("cgroup.procs"), "0") {
            return anyhow::anyhow!("entering the cgroup {}: {error}", group.display());
        }
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    let error = Command::new("setsid")
        .args(["nsenter", &format!("--net=/run/netns/{netns}")])
        .args([
            "unshare",
            "--mount",
            "--uts",
            "--ipc",
            "--cgroup",
            "--pid",
            "--fork",
            "--kill-child=SIGTERM",
        ])
        .args(["--propagation", "private"])
        .arg(program)
        .args(["cluster", "node-init", "--config"])
        .arg(config)
        .exec();
    anyhow::anyhow!("running setsid, nsenter and unshare: {error}")
}

/// The process on this machine that waits for the node's init; none when the node is off.
pub(super) fn outer_pid(cluster: &Cluster, node: &Node) -> Option<Pid> {
    let dir = cluster.node_dir(node);
    let pid: i32 = fs::read_to_string(dir.join("init.pid"))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    // The number may be another's by now: its command line must be ours.
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let marker = dir.join("init.json").to_string_lossy().into_owned();
    String::from_utf8_lossy(&command)
        .contains(&marker)
        .then(|| Pid::from_raw(pid))
}

/// The node's init as this machine sees it.
pub(super) fn init_pid(cluster: &Cluster, node: &Node) -> Option<Pid> {
    let outer = outer_pid(cluster, node)?;
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
    children
        .split_whitespace()
        .next()?
        .parse()
        .ok()
        .map(Pid::from_raw)
}

/// A command that runs inside a node.
pub(super) fn inside(cluster: &Cluster, node: &Node, program: &str) -> anyhow::Result<Command> {
    let pid = init_pid(cluster, node).with_context(|| format!("{} is not running", node.name))?;
    let mut command = Command::new("nsenter");
    command.args([
        "--target",
        &pid.to_string(),
        "--mount",
        "--uts",
        "--ipc",
        "--net",
        "--pid",
        "--cgroup",
        "--root",
        "--wd=/",
    ]);
    command.arg("--").arg(program);
    Ok(command)
}

/// Ends a node: gracefully when `grace` is given, else as a power cut does. Its files stay.
pub(super) fn stop(cluster: &Cluster, node: &Node, grace: Option<Duration>) -> Vec<anyhow::Error> {
    let mut errors = Vec::new();
    if let Some(outer) = outer_pid(cluster, node) {
        if let (Some(init), Some(grace)) = (init_pid(cluster, node), grace) {
            let _ = kill(init, Signal::SIGTERM);
            wait_gone(outer, grace);
        }
        if let Some(init) = init_pid(cluster, node) {
            let _ = kill(init, Signal::SIGKILL);
        }
        if !wait_gone(outer, Duration::from_secs(10)) {
            errors.push(anyhow::anyhow!(
                "{} did not end: process {outer} is still there",
                node.name
            ));
        }
    }
    let veth = cluster.veth(node);
    if Path::new("/sys/class/net").join(&veth).exists() {
        errors.extend(sh(&format!("ip link del {veth}")).err());
    }
    let netns = cluster.netns(node);
    if Path::new("/run/netns").join(&netns).exists() {
        errors.extend(sh(&format!("ip netns del {netns}")).err());
    }
    for hierarchy in hierarchies() {
        errors.extend(remove_cgroup(&hierarchy.join(cluster.cgroup(node))).err());
    }
    errors
}

fn wait_gone(pid: Pid, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let alive = |pid: Pid| {
        // A zombie whose parent is this process counts as gone.
        let _ = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
        kill(pid, None).is_ok()
    };
    while alive(pid) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Removes a cgroup and all below it. Processes on their way out may hold it for a moment.
fn remove_cgroup(group: &Path) -> anyhow::Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(group)?.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    for _ in 0..200 {
        match fs::remove_dir(group) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(10))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => return other.with_context(|| format!("removing the cgroup {}", group.display())),
        }
    }
    bail!("the cgroup {} is still in use", group.display())
}

/// Removes the folders of the cluster's cgroups.
pub(super) fn remove_cgroups(cluster: &Cluster) -> Vec<anyhow::Error> {
    let mut errors = Vec::new();
    for hierarchy in hierarchies() {
        errors.extend(remove_cgroup(&hierarchy.join("rutter").join(&cluster.name)).err());
        // Other clusters may be below it.
        let _ = fs::remove_dir(hierarchy.join("rutter"));
    }
    errors
}
