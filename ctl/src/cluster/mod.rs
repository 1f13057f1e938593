//! `rctl cluster`: a whole cluster of node sandboxes on this machine, for trying and for tests.
//!
//! Each node has namespaces and cgroups of its own, its own containerd, kubelet, network agent and proxy; the first one carries the control
//! plane. Every command may be repeated, and `down` leaves nothing behind. It runs as root.

mod addons;
mod containerd;
mod host;
mod image;
mod init;
mod kubeconfig;
mod layout;
mod pki;
mod services;
mod up;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use ipnet::Ipv4Net;
pub use layout::Storage;
use layout::{Cluster, check_name};
use std::path::PathBuf;
use std::time::Duration;

/// `rctl cluster`
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Bring a cluster up, or complete one that is there
    Up(UpArgs),
    /// Take a cluster down and remove everything it made
    Down {
        #[command(flatten)]
        which: Which,
    },
    /// Show a cluster's nodes and what runs on them
    Status {
        #[command(flatten)]
        which: Which,
    },
    /// Load an image archive (OCI layout or docker save) into the nodes
    LoadImage {
        #[command(flatten)]
        which: Which,
        /// The archives
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Only into this node
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
    },
    /// Make an image archive from programs on this machine
    BuildImage(BuildArgs),
    /// Print the logs of a node's services
    Logs {
        #[command(flatten)]
        which: Which,
        /// The node
        node: String,
        /// Only this service, such as `kubelet`
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// The last lines of each
        #[arg(long, default_value_t = 100)]
        tail: usize,
    },
    /// Run a command inside a node
    Exec {
        #[command(flatten)]
        which: Which,
        /// The node
        node: String,
        /// The command and its arguments
        #[arg(
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "COMMAND"
        )]
        command: Vec<String>,
    },
    /// Cut a node's power; its files stay
    PowerOff {
        #[command(flatten)]
        which: Which,
        /// The node
        node: String,
    },
    /// Start a node that is off
    PowerOn {
        #[command(flatten)]
        which: Which,
        /// The node
        node: String,
    },
    #[command(hide = true)]
    NodeEnter {
        #[arg(long)]
        netns: String,
        #[arg(long)]
        config: PathBuf,
        #[arg(long)]
        cgroup: Vec<PathBuf>,
    },
    #[command(hide = true)]
    NodeInit {
        #[arg(long)]
        config: PathBuf,
    },
}

/// Which cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct Which {
    /// The cluster's name, also that of its kubeconfig context
    #[arg(long, default_value = "rutter", value_parser = check_name)]
    pub(crate) name: String,
}

/// Flags of `rctl cluster up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// How many nodes; more than there are adds some
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub(crate) nodes: u16,
    /// What keeps the objects
    #[arg(long, value_enum, default_value_t = Storage::Embedded)]
    pub(crate) storage: Storage,
    /// The network between the nodes
    #[arg(long, default_value = "172.30.0.0/24", value_name = "CIDR")]
    pub(crate) subnet: Ipv4Net,
    /// The network of pods
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR")]
    pub(crate) pod_cidr: Ipv4Net,
    /// The network of Services
    #[arg(long, default_value = "10.96.0.0/16", value_name = "CIDR")]
    pub(crate) service_cidr: Ipv4Net,
    /// Let nodes and pods reach beyond this machine, for instance to pull images from a registry
    #[arg(long)]
    pub(crate) egress: bool,
    /// A root file system for the nodes, such as debootstrap makes, with containerd, runc, iptables, conntrack and CNI plugins; by default
    /// this machine's own. It is shared and never written to
    #[arg(long, value_name = "DIR")]
    pub(crate) node_root: Option<PathBuf>,
    /// A registry that answers for another one (`docker.io=http://172.30.0.1:5000`) or for all; may be repeated, the first is asked first
    #[arg(long = "registry-mirror", value_name = "[HOST=]URL", value_parser = containerd::parse_mirror)]
    pub(crate) registry_mirrors: Vec<containerd::Mirror>,
    /// CPUs that each node reports; by default this machine's
    #[arg(long, value_name = "N")]
    pub(crate) node_cpus: Option<u32>,
    /// Memory of each node in MiB; by default this machine's divided among the nodes
    #[arg(long, value_name = "MIB")]
    pub(crate) node_memory: Option<u64>,
    /// How long pods tolerate a dead node when they don't say, in seconds; the standard is 300
    #[arg(long, value_name = "SECONDS")]
    pub(crate) toleration_seconds: Option<u32>,
    /// Image archives to load into every node
    #[arg(long = "image", value_name = "FILE")]
    pub(crate) images: Vec<PathBuf>,
    /// How long to wait for the nodes to be Ready, in seconds
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub(crate) wait: u64,
}

/// Flags of `rctl cluster build-image`.
#[derive(Clone, Debug, Args)]
struct BuildArgs {
    /// The image's name with its tag
    #[arg(long)]
    name: String,
    /// A file of this machine and its place in the image, `FROM:TO`; its shared libraries come along
    #[arg(long = "file", required = true, value_name = "FROM:TO")]
    files: Vec<String>,
    /// A symbolic link in the image, `PATH:TARGET`
    #[arg(long = "link", value_name = "PATH:TARGET")]
    links: Vec<String>,
    /// The entry point; by default the first file
    #[arg(long, value_name = "COMMAND,ARG,...", value_delimiter = ',')]
    entrypoint: Option<Vec<String>>,
    /// The default arguments
    #[arg(long = "cmd", value_name = "ARG,...", value_delimiter = ',')]
    command: Vec<String>,
    /// The user, `UID` or `UID:GID`
    #[arg(long, default_value = "")]
    user: String,
    /// The archive to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs `rctl cluster ...`.
///
/// # Errors
/// When the command could not be done; the text says what, where and what to do.
pub async fn run(args: ClusterArgs) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() && !matches!(args.command, Command::BuildImage(_)) {
        bail!("rctl cluster makes namespaces and cgroups: run it as root");
    }
    match args.command {
        Command::Up(args) => up::up(args).await,
        Command::Down { which } => down(&which.name),
        Command::Status { which } => status(&which.name),
        Command::LoadImage { which, files, node } => {
            let cluster = load(&which.name)?;
            up::load_images(&cluster, &files, node.as_deref()).await
        }
        Command::BuildImage(args) => build_image(&args),
        Command::Logs {
            which,
            node,
            service,
            tail,
        } => logs(&load(&which.name)?, &node, service.as_deref(), tail),
        Command::Exec { which, node, command } => exec(&load(&which.name)?, &node, &command),
        Command::PowerOff { which, node } => {
            let cluster = load(&which.name)?;
            all_or_first(host::stop(&cluster, cluster.node(&node)?, None))
        }
        Command::PowerOn { which, node } => {
            let cluster = load(&which.name)?;
            let node = cluster.node(&node)?;
            if host::outer_pid(&cluster, node).is_some() {
                bail!("{} is running", node.name);
            }
            up::start_node(&cluster, node)
        }
        Command::NodeEnter {
            netns,
            config,
            cgroup,
        } => Err(host::enter(&netns, &config, &cgroup)),
        Command::NodeInit { config } => init::run(&config).await,
    }
}

fn load(name: &str) -> anyhow::Result<Cluster> {
    Cluster::load(name)?
        .with_context(|| format!("there is no cluster {name:?}: bring it up with `rctl cluster up`"))
}

/// All errors of a tear-down as one.
fn all_or_first(errors: Vec<anyhow::Error>) -> anyhow::Result<()> {
    let texts: Vec<String> = errors.iter().map(|e| format!("{e:#}")).collect();
    if texts.is_empty() {
        Ok(())
    } else {
        bail!("{}", texts.join("\n"))
    }
}

/// Prints a line of progress or news.
#[allow(clippy::print_stdout)]
fn say(text: &str) {
    println!("{text}");
}

fn down(name: &str) -> anyhow::Result<()> {
    let Some(cluster) = Cluster::load(name)? else {
        // What a bring-up that was cut short left may lie there without its description.
        let dir = layout::dir(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        say(&format!("There is no cluster {name:?}."));
        return Ok(());
    };
    let mut errors = Vec::new();
    std::thread::scope(|scope| {
        let stops: Vec<_> = cluster
            .nodes
            .iter()
            .map(|node| scope.spawn(|| host::stop(&cluster, node, Some(Duration::from_secs(2)))))
            .collect();
        for stop in stops {
            match stop.join() {
                Ok(more) => errors.extend(more),
                Err(_) => errors.push(anyhow::anyhow!("stopping a node failed")),
            }
        }
    });
    errors.extend(host::remove_bridge(&cluster));
    errors.extend(host::remove_cgroups(&cluster));
    errors.extend(kubeconfig::remove(name).err());
    if errors.is_empty() {
        let dir = cluster.dir();
        errors.extend(
            std::fs::remove_dir_all(&dir)
                .with_context(|| format!("removing {}", dir.display()))
                .err(),
        );
    }
    all_or_first(errors)?;
    say(&format!("Cluster {name:?} is gone."));
    Ok(())
}

fn status(name: &str) -> anyhow::Result<()> {
    let cluster = load(name)?;
    say(&format!(
        "Cluster {name:?}: {} storage, apiserver {}",
        format!("{:?}", cluster.storage).to_lowercase(),
        cluster.server()
    ));
    if let Some(root) = &cluster.node_root {
        say(&format!("The nodes' root file system is {}", root.display()));
    }
    for (index, node) in cluster.nodes.iter().enumerate() {
        let running = host::init_pid(&cluster, node);
        let state = running.map_or("off".to_owned(), |pid| format!("running, init is process {pid}"));
        let role = if index == 0 { ", control plane" } else { "" };
        say(&format!("{} {}: {state}{role}", node.name, node.address));
        if running.is_some() {
            for service in services::services(&cluster, node, index == 0) {
                say(&format!("  {}", service.name));
            }
        }
    }
    Ok(())
}

fn build_image(args: &BuildArgs) -> anyhow::Result<()> {
    let pair = |text: &String| {
        text.split_once(':')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .with_context(|| format!("{text:?} is not FROM:TO"))
    };
    let files: Vec<_> = args.files.iter().map(pair).collect::<anyhow::Result<_>>()?;
    let entrypoint = match (&args.entrypoint, files.first()) {
        (Some(entrypoint), _) => entrypoint.clone(),
        (None, Some((_, first))) => vec![first.clone()],
        (None, None) => Vec::new(),
    };
    let recipe = image::Recipe {
        name: &args.name,
        files: files
            .into_iter()
            .map(|(from, to)| (PathBuf::from(from), to))
            .collect(),
        links: args.links.iter().map(pair).collect::<anyhow::Result<_>>()?,
        entrypoint,
        command: args.command.clone(),
        user: &args.user,
    };
    image::build(&recipe, &args.output)
}

fn logs(cluster: &Cluster, node: &str, service: Option<&str>, tail: usize) -> anyhow::Result<()> {
    let node = cluster.node(node)?;
    let dir = cluster.node_dir(node).join("log/rutter");
    let mut paths: Vec<_> = match service {
        Some(service) => vec![dir.join(format!("{service}.log"))],
        None => {
            let entries = std::fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
            entries
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.extension().is_some_and(|e| e == "log"))
                .collect()
        }
    };
    paths.sort();
    for path in &paths {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let text = String::from_utf8_lossy(&text);
        if paths.len() > 1 {
            say(&format!(
                "==> {} <==",
                path.file_stem().unwrap_or_default().to_string_lossy()
            ));
        }
        let lines: Vec<_> = text.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(tail)) {
            say(line);
        }
    }
    Ok(())
}

fn exec(cluster: &Cluster, node: &str, command: &[String]) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let (program, arguments) = command.split_first().context("which command?")?;
    let path = format!(
        "PATH={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        services::BIN
    );
    let error = host::inside(cluster, cluster.node(node)?, "/usr/bin/env")?
        .arg(path)
        .arg(program)
        .args(arguments)
        .exec();
    Err(error).with_context(|| format!("running {program} in {node}"))
}
