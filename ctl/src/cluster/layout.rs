//! Names, addresses and paths of a cluster of node sandboxes on this machine. Pure.

use anyhow::Context as _;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Where clusters live.
pub(super) const HOME: &str = "/var/lib/rutter/clusters";
/// The apiserver's port.
pub(super) const API_PORT: u16 = 6443;

/// What keeps the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// The apiserver's own store, a file on the first node.
    Embedded,
    /// An etcd on the first node.
    Etcd,
}

/// A cluster as it was asked for. Saved as `cluster.json` in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cluster {
    /// Its name; part of the names of network devices, so at most eight letters, digits and dashes.
    pub(super) name: String,
    /// The network of the nodes; the first address is this machine's.
    pub(super) subnet: Ipv4Net,
    /// The network of all pods; each node gets a /24 of it.
    pub(super) pod_cidr: Ipv4Net,
    /// The network of ClusterIPs.
    pub(super) service_cidr: Ipv4Net,
    /// What keeps the objects.
    pub(super) storage: Storage,
    /// Whether nodes and pods may reach beyond this machine.
    pub(super) egress: bool,
    /// The secret of the bootstrap token `<id>.<secret>` with which nodes join.
    pub(super) join_token: String,
    /// CPUs that each node reports.
    pub(super) node_cpus: u32,
    /// Memory in MiB that each node has.
    pub(super) node_memory: u64,
    /// Seconds that pods tolerate a dead node when they don't say; none for the standard 300.
    pub(super) toleration_seconds: Option<u32>,
    /// The root file system that the nodes are made from; none for this machine's own.
    #[serde(default)]
    pub(super) node_root: Option<PathBuf>,
    /// Registries that answer for others.
    #[serde(default)]
    pub(super) registry_mirrors: Vec<super::containerd::Mirror>,
    /// The nodes; the first carries the control plane.
    pub(super) nodes: Vec<Node>,
}

/// A node sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    /// Its name and hostname.
    pub(super) name: String,
    /// Its address.
    pub(super) address: Ipv4Addr,
}

impl Cluster {
    /// Adds nodes until there are `count`.
    pub(super) fn grow(&mut self, count: usize) -> anyhow::Result<()> {
        let first = self.nodes.len();
        for index in first..count {
            // .1 is this machine's.
            let address = self.subnet.hosts().nth(index + 1).with_context(|| {
                format!(
                    "{} has too few addresses for {count} nodes: pass a larger --subnet",
                    self.subnet
                )
            })?;
            self.nodes.push(Node {
                name: format!("node-{}", index + 1),
                address,
            });
        }
        Ok(())
    }

    /// This machine's address on the nodes' network.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.subnet.hosts().next().unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// The first ClusterIP: the `kubernetes` Service.
    pub(super) fn api_service(&self) -> Ipv4Addr {
        self.service_cidr.hosts().next().unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// The ClusterIP of cluster DNS, the tenth.
    pub(super) fn dns_service(&self) -> Ipv4Addr {
        self.service_cidr.hosts().nth(9).unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// The apiserver's URL as nodes and this machine reach it.
    pub(super) fn server(&self) -> String {
        let address = self.nodes.first().map_or(Ipv4Addr::UNSPECIFIED, |n| n.address);
        format!("https://{address}:{API_PORT}")
    }

    /// The bridge between the nodes.
    pub(super) fn bridge(&self) -> String {
        format!("rt-{}", self.name)
    }

    /// The cluster's folder.
    pub(super) fn dir(&self) -> PathBuf {
        dir(&self.name)
    }

    /// The root file system whose programs the nodes run.
    pub(super) fn node_root(&self) -> &Path {
        self.node_root.as_deref().unwrap_or(Path::new("/"))
    }

    /// A node's folder.
    pub(super) fn node_dir(&self, node: &Node) -> PathBuf {
        self.dir().join(&node.name)
    }

    /// A node's network namespace.
    pub(super) fn netns(&self, node: &Node) -> String {
        format!("{}-{}", self.name, node.name)
    }

    /// A node's end of its cable, on this machine's side. At most 15 characters.
    pub(super) fn veth(&self, node: &Node) -> String {
        let index = self
            .nodes
            .iter()
            .position(|n| n.name == node.name)
            .map_or(0, |i| i + 1);
        format!("{}-{index}", self.name)
    }

    /// A node's folder below each cgroup hierarchy's root.
    pub(super) fn cgroup(&self, node: &Node) -> PathBuf {
        Path::new("rutter").join(&self.name).join(&node.name)
    }

    /// The node called `name`.
    pub(super) fn node(&self, name: &str) -> anyhow::Result<&Node> {
        self.nodes.iter().find(|n| n.name == name).with_context(|| {
            let names: Vec<_> = self.nodes.iter().map(|n| n.name.as_str()).collect();
            format!(
                "cluster {} has no node {name:?}; it has {}",
                self.name,
                names.join(", ")
            )
        })
    }

    /// Reads a saved cluster; none when there is no such.
    pub(super) fn load(name: &str) -> anyhow::Result<Option<Self>> {
        let path = dir(name).join("cluster.json");
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))?,
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Saves it.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        super::pki::write(
            &self.dir().join("cluster.json"),
            &serde_json::to_vec_pretty(self)?,
            0o600,
        )
    }
}

/// The folder of the cluster called `name`.
pub(super) fn dir(name: &str) -> PathBuf {
    Path::new(HOME).join(name)
}

/// Checks a cluster's name.
pub(super) fn check_name(name: &str) -> Result<String, String> {
    let good = !name.is_empty()
        && name.len() <= 8
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && name.starts_with(|c: char| c.is_ascii_lowercase());
    if good {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "{name:?} must be at most 8 lower-case letters, digits and dashes, and begin with a letter"
        ))
    }
}

#[cfg(test)]
pub(super) fn example() -> Cluster {
    let mut cluster = Cluster {
        name: "rutter".to_owned(),
        subnet: "172.30.0.0/24".parse().unwrap(),
        pod_cidr: "10.244.0.0/16".parse().unwrap(),
        service_cidr: "10.96.0.0/16".parse().unwrap(),
        storage: Storage::Embedded,
        egress: false,
        join_token: "abcdef.0123456789abcdef".to_owned(),
        node_cpus: 2,
        node_memory: 4096,
        toleration_seconds: None,
        node_root: None,
        registry_mirrors: Vec::new(),
        nodes: Vec::new(),
    };
    cluster.grow(2).unwrap();
    cluster
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_get_addresses_after_the_machines_own() {
        let mut cluster = example();
        cluster.grow(3).unwrap();
        let addresses: Vec<_> = cluster.nodes.iter().map(|n| n.address.to_string()).collect();
        assert_eq!(addresses, ["172.30.0.2", "172.30.0.3", "172.30.0.4"]);
        assert_eq!(cluster.gateway().to_string(), "172.30.0.1");
        assert_eq!(cluster.api_service().to_string(), "10.96.0.1");
        assert_eq!(cluster.dns_service().to_string(), "10.96.0.10");
        cluster.subnet = "172.30.0.0/30".parse().unwrap();
        assert!(
            cluster
                .grow(9)
                .unwrap_err()
                .to_string()
                .contains("larger --subnet")
        );
    }

    #[test]
    fn device_names_fit_in_fifteen_characters() {
        let mut cluster = example();
        cluster.name = "a2345678".to_owned();
        cluster.grow(99).unwrap();
        assert!(cluster.bridge().len() <= 15);
        assert!(cluster.nodes.iter().all(|n| cluster.veth(n).len() <= 15));
        for (name, good) in [
            ("rutter", true),
            ("a-1", true),
            ("", false),
            ("A", false),
            ("1a", false),
            ("toolong-name", false),
        ] {
            assert_eq!(check_name(name).is_ok(), good, "{name}");
        }
    }
}
