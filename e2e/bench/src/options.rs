//! The flags.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr;

/// Loads API servers, compares them, and checks what they tell.
#[derive(Debug, Parser)]
#[command(name = "rutter-bench", version)]
pub(crate) struct Options {
    /// Threads of the load generator. One leaves the other cores to the server.
    #[arg(long, default_value_t = 1, global = true)]
    pub(crate) threads: usize,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run workloads against one server, or against several in turn.
    Run(Box<Run>),
    /// Make certificates and a fresh store, start a server over it, print how to reach it, and stop it on Ctrl-C.
    Serve(Serve),
    /// Look for lost, repeated and reordered events: writers, lists and watches at random revisions, kills and restarts.
    Check(Check),
}

/// Which servers, which work, and how much.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// A server: `NAME:kubeconfig=FILE,pid=N[,store-pid=N][,flood=FILE,single=FILE]` for one that runs (`flood` and `single` are
    /// kubeconfig files of the two users of the flood), or `NAME:binary=FILE,store=embedded|etcd|memory[,etcd=FILE][,flags=FLAGS]`
    /// to start one with a fresh store. `flags=` comes last: the rest, cut at blanks, is given to the server. Several are measured in turn.
    #[arg(long = "target", value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<TargetSpec>,
    /// Which workloads, in this order. By default all that the target allows, but for the flood.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) workloads: Vec<Workload>,
    /// How often everything is done for each target. Medians are compared.
    #[arg(long, default_value_t = 1)]
    pub(crate) rounds: usize,
    /// Where results are written as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Where fresh stores are made; a temporary folder by default. Results with fsync need a real disk.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// What the server's resident memory may rise to, in MiB. A workload in which it rises above that fails.
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_ceiling_mib: Option<u64>,
    /// What the 99th percentile of the single user's latencies under the flood may be, in milliseconds. The flood fails above that.
    #[arg(long, value_name = "MS")]
    pub(crate) single_p99_ms: Option<u64>,
    /// Sizes and numbers.
    #[command(flatten)]
    pub(crate) sizes: Sizes,
}

/// Sizes and numbers of the workloads.
#[derive(Clone, Debug, Args)]
pub(crate) struct Sizes {
    /// How bodies are encoded and answers wanted.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub(crate) format: Format,
    /// Concurrent clients, each with a connection of its own.
    #[arg(long, default_value_t = 32)]
    pub(crate) clients: usize,
    /// Pods.
    #[arg(long, default_value_t = 5000)]
    pub(crate) pods: usize,
    /// The size of a pod as JSON, in bytes.
    #[arg(long, default_value_t = 4096)]
    pub(crate) pod_bytes: usize,
    /// Pods of one value of the label that label-selected lists select.
    #[arg(long, default_value_t = 50)]
    pub(crate) pods_per_label: usize,
    /// Pods of one node, which field-selected lists select.
    #[arg(long, default_value_t = 25)]
    pub(crate) pods_per_node: usize,
    /// Single gets.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) gets: usize,
    /// Full lists by one client.
    #[arg(long, default_value_t = 10)]
    pub(crate) lists: usize,
    /// Selected lists.
    #[arg(long, default_value_t = 2000)]
    pub(crate) selected_lists: usize,
    /// Clients of concurrent full lists.
    #[arg(long, default_value_t = 16)]
    pub(crate) list_clients: usize,
    /// Informers of a node's pods that are started, one after the other by each client.
    #[arg(long, default_value_t = 2000)]
    pub(crate) node_informers: usize,
    /// Full lists by concurrent clients, in all.
    #[arg(long, default_value_t = 48)]
    pub(crate) concurrent_lists: usize,
    /// Objects on a page of a paged list.
    #[arg(long, default_value_t = 500)]
    pub(crate) page: usize,
    /// Watchers of the fan-out.
    #[arg(long, default_value_t = 200)]
    pub(crate) watchers: usize,
    /// Changes that the fan-out's watchers see.
    #[arg(long, default_value_t = 300)]
    pub(crate) changes: usize,
    /// Changes a second in the fan-out; 0 for one after the other.
    #[arg(long, default_value_t = 0)]
    pub(crate) change_rate: u32,
    /// Watchers of the crowd: many watchers of small objects.
    #[arg(long, default_value_t = 5000)]
    pub(crate) crowd: usize,
    /// Changes that the crowd sees, at 50 a second.
    #[arg(long, default_value_t = 500)]
    pub(crate) crowd_changes: usize,
    /// Watches that share a connection.
    #[arg(long, default_value_t = 50)]
    pub(crate) watches_per_connection: usize,
    /// Informers of the WatchList storm.
    #[arg(long, default_value_t = 16)]
    pub(crate) informers: usize,
    /// Secrets of the WatchList storm.
    #[arg(long, default_value_t = 400)]
    pub(crate) secrets: usize,
    /// The size of a secret's value, in bytes before base64.
    #[arg(long, default_value_t = 750_000)]
    pub(crate) secret_bytes: usize,
    /// Patches of each kind.
    #[arg(long, default_value_t = 5000)]
    pub(crate) patches: usize,
    /// Leases.
    #[arg(long, default_value_t = 1000)]
    pub(crate) leases: usize,
    /// Updates of leases.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) lease_updates: usize,
    /// Hollow nodes of the mixed workload.
    #[arg(long, default_value_t = 5000)]
    pub(crate) nodes: usize,
    /// How long the mixed workload goes on, in seconds.
    #[arg(long, default_value_t = 20)]
    pub(crate) mixed_seconds: u64,
    /// How much faster than real nodes the hollow ones do everything.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) mixed_speed: f64,
    /// Clients of the flooding user, each with a connection of its own.
    #[arg(long, default_value_t = 500)]
    pub(crate) flood_clients: usize,
    /// How long the flood goes on, in seconds.
    #[arg(long, default_value_t = 20)]
    pub(crate) flood_seconds: u64,
    /// The size of what the flood creates, in bytes of JSON as sent.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(..=1_500_000))]
    pub(crate) flood_bytes: u64,
    /// How long the single user's requests are measured without the flood before it, in seconds.
    #[arg(long, default_value_t = 3)]
    pub(crate) alone_seconds: u64,
    /// Between an answer to the single user and its next request, in milliseconds.
    #[arg(long, default_value_t = 20)]
    pub(crate) single_pause_ms: u64,
}

/// How to start a server.
#[derive(Clone, Debug, Args)]
pub(crate) struct Serve {
    /// The server's program: `rutter-apiserver`, or any `kube-apiserver`.
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: PathBuf,
    /// What it keeps objects in.
    #[arg(long, value_enum, default_value_t = Store::Embedded)]
    pub(crate) store: Store,
    /// etcd's program.
    #[arg(long, value_name = "FILE", default_value = "etcd")]
    pub(crate) etcd: PathBuf,
    /// Where certificates, the store and logs are; kept when given, temporary when not.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// More flags for the server.
    #[arg(last = true)]
    pub(crate) extra: Vec<String>,
}

/// What to check, and how long.
#[derive(Clone, Debug, Args)]
pub(crate) struct Check {
    /// How to start the server.
    #[command(flatten)]
    pub(crate) serve: Serve,
    /// How long, in minutes.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) minutes: f64,
    /// Kill so many times, in quick succession, instead of once an epoch for some minutes.
    #[arg(long, value_name = "N", conflicts_with = "minutes")]
    pub(crate) kills: Option<usize>,
    /// What is killed.
    #[arg(long, value_enum, default_value_t = Victim::Server)]
    pub(crate) kill: Victim,
    /// Concurrent writers.
    #[arg(long, default_value_t = 8)]
    pub(crate) writers: usize,
    /// Concurrent watchers.
    #[arg(long, default_value_t = 12)]
    pub(crate) watchers: usize,
    /// The seed of what is random; printed, so that a run can be repeated.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// A store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    /// The server's own file.
    Embedded,
    /// An etcd started for it.
    Etcd,
    /// Nothing survives.
    Memory,
}

/// What a check kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Victim {
    /// The API server; its store is opened again by the next one.
    Server,
    /// The etcd that was started for it; the API server stays.
    Etcd,
}

/// An encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JSON
    Json,
    /// Protobuf
    Protobuf,
}

impl Format {
    /// The media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    /// From the program's start to `/readyz` on an empty store (started targets only).
    Start,
    /// Create pods.
    Create,
    /// Get pods by name.
    Get,
    /// List all pods, one client.
    List,
    /// List the pods of one label value.
    LabelList,
    /// List the pods of one node, at `resourceVersion=0`.
    FieldList,
    /// Start informers of one node's pods each, by WatchList as a kubelet does.
    NodeInformer,
    /// List all pods, several clients.
    ConcurrentLists,
    /// List all pods page by page.
    PagedList,
    /// Watchers of all pods while pods change.
    Watch,
    /// Many watchers of one small resource.
    Crowd,
    /// Merge-patch pods.
    MergePatch,
    /// Server-side apply to pods.
    ApplyPatch,
    /// Update leases.
    Lease,
    /// The steady traffic of hollow nodes.
    Mixed,
    /// Informers that all begin at once on large secrets.
    Watchlist,
    /// Kill -9, and from the start to `/readyz` over the pods there are (started targets only).
    Restart,
    /// Many clients of one user list and create at full speed, while another user's single requests are timed.
    Flood,
    /// Delete pods.
    Delete,
}

/// A server to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetSpec {
    /// How tables call it.
    pub(crate) name: String,
    /// Where it is, or how it is started.
    pub(crate) kind: TargetKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    Running {
        kubeconfig: PathBuf,
        pid: Option<u32>,
        store_pid: Option<u32>,
        /// Kubeconfig files of the flood's two users: the one that floods, and the other.
        users: Option<[PathBuf; 2]>,
    },
    Started {
        binary: PathBuf,
        store: Store,
        etcd: PathBuf,
        flags: Vec<String>,
    },
}

impl FromStr for TargetSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text
            .split_once(':')
            .filter(|(name, _)| !name.is_empty() && !name.contains('='))
            .ok_or_else(|| format!("{text:?} does not begin with a name and a colon"))?;
        let (mut kubeconfig, mut pid, mut store_pid) = (None, None, None);
        let (mut flood, mut single) = (None, None);
        // Flags have commas of their own, so they are the rest.
        let (rest, flags) = match rest.split_once(",flags=") {
            Some((rest, flags)) => (rest, flags.split_whitespace().map(str::to_owned).collect()),
            None => (rest, Vec::new()),
        };
        let (mut binary, mut store, mut etcd) = (None, Store::Embedded, PathBuf::from("etcd"));
        let number = |value: &str| {
            value
                .parse()
                .map_err(|_| format!("{value:?} is not a process id"))
        };
        for part in rest.split(',') {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("{part:?} is not key=value"))?;
            match key {
                "kubeconfig" => kubeconfig = Some(PathBuf::from(value)),
                "pid" => pid = Some(number(value)?),
                "store-pid" => store_pid = Some(number(value)?),
                "flood" => flood = Some(PathBuf::from(value)),
                "single" => single = Some(PathBuf::from(value)),
                "binary" => binary = Some(PathBuf::from(value)),
                "store" => store = Store::from_str(value, true)?,
                "etcd" => etcd = PathBuf::from(value),
                other => {
                    return Err(format!(
                        "{other:?} is not known: kubeconfig, pid, store-pid, flood, single, binary, store, etcd, flags"
                    ));
                }
            }
        }
        let users = match (flood, single) {
            (Some(flood), Some(single)) => Some([flood, single]),
            (None, None) => None,
            _ => return Err(format!("{text:?} needs both flood and single, or neither")),
        };
        let kind = match (kubeconfig, binary) {
            (Some(kubeconfig), None) if flags.is_empty() => TargetKind::Running {
                kubeconfig,
                pid,
                store_pid,
                users,
            },
            (None, Some(binary)) if users.is_none() => TargetKind::Started {
                binary,
                store,
                etcd,
                flags,
            },
            (Some(_), None) => return Err(format!("{text:?} has flags for a server that runs already")),
            (None, Some(_)) => return Err(format!("{text:?} has users, and the server's are made with it")),
            _ => return Err(format!("{text:?} needs either kubeconfig or binary")),
        };
        Ok(Self {
            name: name.to_owned(),
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_or_refused() {
        let started: TargetSpec = "ours:binary=/x/rutter-apiserver,store=etcd".parse().unwrap();
        assert_eq!(
            started.kind,
            TargetKind::Started {
                binary: "/x/rutter-apiserver".into(),
                store: Store::Etcd,
                etcd: "etcd".into(),
                flags: Vec::new(),
            }
        );
        let flagged: TargetSpec = "ours:binary=/x,flags=--a=1,2 --b".parse().unwrap();
        assert_eq!(
            flagged.kind,
            TargetKind::Started {
                binary: "/x".into(),
                store: Store::Embedded,
                etcd: "etcd".into(),
                flags: vec!["--a=1,2".to_owned(), "--b".to_owned()],
            }
        );
        let running: TargetSpec = "up:kubeconfig=/k,pid=7".parse().unwrap();
        assert_eq!(
            running.kind,
            TargetKind::Running {
                kubeconfig: "/k".into(),
                pid: Some(7),
                store_pid: None,
                users: None,
            }
        );
        let with_users: TargetSpec = "up:kubeconfig=/k,flood=/f,single=/s".parse().unwrap();
        let TargetKind::Running { users, .. } = with_users.kind else {
            panic!("a kubeconfig is of a server that runs");
        };
        assert_eq!(users, Some(["/f".into(), "/s".into()]));
        for text in [
            "",
            "x",
            "x:pid=1",
            "x:kubeconfig=a,binary=b",
            "x:what=1",
            "x:kubeconfig=a,pid=b",
            "x:kubeconfig=a,flood=f",
            "x:kubeconfig=a,flags=--b",
            "x:binary=a,flood=f,single=s",
        ] {
            assert!(text.parse::<TargetSpec>().is_err(), "{text}");
        }
    }
}
