//! The pod network's agent, one on each node: CNI configuration for the node's own pods, routes to the other nodes' pods, and masquerading of
//! what leaves the cluster.
//!
//! It needs nodes that reach each other directly (one network between them). It owns the routes of its protocol number, one file in the CNI
//! folder and one chain, and leaves everything else alone. When it ends, all of that stays, so running pods keep their network.

pub mod plan;

use anyhow::Context as _;
use clap::Parser;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use plan::{CHAIN, Network, PROTOCOL};
use rutter_client::component::{self, Health, LogArgs, ServingArgs};
use rutter_client::connect::ConnectionArgs;
use rutter_client::informer::{Informers, Store};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Flags of `rutter-network`.
#[derive(Debug, Parser)]
#[command(name = "rutter-network", version = component::version_text(), about = "The pod network's agent on a node")]
pub struct Options {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    serving: ServingArgs,
    /// The port for health and metrics over HTTPS; 0 serves none.
    #[arg(long, value_name = "PORT", default_value_t = 10255)]
    secure_port: u16,
    /// The name of this machine's Node; by default the hostname.
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// The networks of all pods of the cluster; traffic to them is never masqueraded.
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', required = true)]
    cluster_cidr: Vec<IpNet>,
    /// The folder where the runtime looks for CNI configuration.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// The MTU of pods' interfaces in bytes; by default the bridge's.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
}

/// The name of this machine's Node: as given, or the hostname in lower case.
pub fn node_name(given: Option<&str>) -> String {
    match given {
        Some(name) => name.to_owned(),
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim()
            .to_lowercase(),
    }
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// When the apiserver's address is unknown or the health port can't be bound.
pub async fn run(options: Options) -> anyhow::Result<()> {
    component::init_logging(&options.log);
    let stop = component::shutdown_signal();
    let client = options.connection.client("rutter-network").await?;
    let health = Health::new();
    let synced = health.ready_flag("network");
    component::serve(
        &options.serving,
        options.secure_port,
        health,
        Some(client.clone()),
        stop.clone(),
    )
    .await?;

    let own = node_name(options.hostname_override.as_deref());
    let informer = Informers::new(client).of::<Node>();
    let store: Store<Node> = informer.store();
    let mut changes = informer.subscribe();
    informer.synced().await;
    let mut applied: Option<Network> = None;
    loop {
        let wanted = plan::plan(&own, &store.list(), &options.cluster_cidr, options.mtu);
        let mut pause = Duration::from_secs(30);
        // Every half minute even without a change, to mend what others broke.
        match apply(&options, &wanted, applied.as_ref()) {
            Ok(()) => {
                if applied.as_ref() != Some(&wanted) {
                    tracing::info!(
                        routes = wanted.routes.len(),
                        cni = wanted.cni.is_some(),
                        "the network is set up"
                    );
                }
                applied = Some(wanted);
                synced.store(true, Ordering::Release);
            }
            Err(error) => {
                tracing::warn!("setting up the network: {error:#}");
                applied = None;
                pause = Duration::from_secs(1);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
            change = changes.recv() => {
                anyhow::ensure!(change.is_some(), "the watch of nodes ended");
                while changes.try_recv().is_ok() {}
            }
        }
    }
}

fn apply(options: &Options, wanted: &Network, applied: Option<&Network>) -> anyhow::Result<()> {
    if applied.map(|a| &a.routes) != Some(&wanted.routes) || applied == Some(wanted) {
        let now = plan::parse_routes(&ip(&["route", "show", "proto", PROTOCOL])?);
        for change in plan::route_changes(&now, &wanted.routes) {
            let words: Vec<&str> = change.split(' ').collect();
            ip(&words)?;
        }
    }
    if applied.map(|a| &a.masquerade) != Some(&wanted.masquerade) {
        let jump = [
            "-m",
            "comment",
            "--comment",
            "rutter: what leaves the cluster",
            "-j",
            CHAIN,
        ];
        restore(&wanted.masquerade)?;
        if iptables("-C", &jump).is_err() {
            iptables("-A", &jump)?;
        }
    }
    if let Some(cni) = &wanted.cni {
        let path = options.cni_conf_dir.join("10-rutter.conflist");
        if std::fs::read_to_string(&path).ok().as_deref() != Some(cni) {
            let describe = || format!("writing {}", path.display());
            std::fs::create_dir_all(&options.cni_conf_dir).with_context(describe)?;
            let new = options.cni_conf_dir.join(".10-rutter.conflist.new");
            std::fs::write(&new, cni).with_context(describe)?;
            std::fs::rename(&new, &path).with_context(describe)?;
        }
    }
    Ok(())
}

fn output(mut command: Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {command:?}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments);
    output(command)
}

fn iptables(action: &str, rule: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("iptables");
    command
        .args(["-w", "5", "-t", "nat", action, "POSTROUTING"])
        .args(rule);
    output(command)
}

fn restore(text: &str) -> anyhow::Result<()> {
    let mut child = Command::new("iptables-restore")
        .args(["-w", "5", "--noflush"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("running iptables-restore")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(text.as_bytes())
            .context("writing to iptables-restore")?;
    }
    let output = child.wait_with_output().context("running iptables-restore")?;
    anyhow::ensure!(
        output.status.success(),
        "iptables-restore: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
