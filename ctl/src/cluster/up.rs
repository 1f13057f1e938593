//! Bringing a cluster up: files, network, nodes, then the objects it needs, until its nodes are Ready.

use super::layout::{Cluster, Node};
use super::pki::{Pki, Subject};
use super::services::{self, InitConfig};
use super::{UpArgs, addons, containerd, host, image, kubeconfig, say};
use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node as ApiNode;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Programs that nodes run, and Debian's package of each.
const NEEDED_ON_NODES: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("iptables-restore", "iptables"),
    ("conntrack", "conntrack"),
];

/// Programs that make the nodes.
const NEEDED_HERE: &[(&str, &str)] = &[
    ("chroot", "coreutils"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
];

pub(super) async fn up(args: UpArgs) -> anyhow::Result<()> {
    let began = Instant::now();
    let name = args.which.name.clone();
    let cluster = plan(&args)?;
    check_programs(&cluster)?;
    cluster.save()?;
    let pki = certificates(&cluster)?;
    say(&format!(
        "Cluster {name:?}: certificates are in {}",
        cluster.dir().join("pki").display()
    ));
    host::make_bridge(&cluster)?;
    let admin = admin_kubeconfig(&cluster, &pki)?;
    for node in &cluster.nodes {
        if host::outer_pid(&cluster, node).is_none() {
            start_node(&cluster, node)?;
        }
    }
    say(&format!("Nodes started ({} ms)", began.elapsed().as_millis()));
    let own = own_images(&cluster)?;
    let wait = Duration::from_secs(args.wait);
    let (loaded, ready) = tokio::join!(
        load_images_quietly(&cluster, &own),
        prepare(&cluster, &admin, began, wait)
    );
    loaded?;
    let client = ready?;
    // Pods of images that aren't there yet would wait out a back-off.
    let (loaded, ready) = tokio::join!(load_images_quietly(&cluster, &args.images), async {
        for object in addons::dns(&cluster) {
            apply(&client, &object).await?;
        }
        wait_ready(&cluster, &client, began, wait).await?;
        wait_dns(&cluster, &client, began, wait).await
    });
    loaded?;
    ready?;
    kubeconfig::add(&name, &fs::read_to_string(&admin)?)?;
    say(&format!(
        "Ready in {:.1} s. The context {name:?} is in {}. Try:",
        began.elapsed().as_secs_f64(),
        kubeconfig::path().display()
    ));
    say("  rctl get nodes -o wide\n  rctl get pods -A\n  rctl cluster status\n  rctl cluster down");
    Ok(())
}

/// The cluster to be: the saved one grown, or a new one.
fn plan(args: &UpArgs) -> anyhow::Result<Cluster> {
    let nodes = usize::from(args.nodes);
    if let Some(mut cluster) = Cluster::load(&args.which.name)? {
        if cluster.storage != args.storage {
            bail!(
                "cluster {:?} keeps its objects in {:?} storage: take it down first to change that",
                cluster.name,
                cluster.storage
            );
        }
        if let Some(root) = &args.node_root
            && cluster.node_root.as_deref() != Some(root.canonicalize().unwrap_or_default().as_path())
        {
            bail!(
                "the nodes of cluster {:?} are made from {}: take it down first to change that",
                cluster.name,
                cluster.node_root().display()
            );
        }
        if !args.registry_mirrors.is_empty() {
            cluster.registry_mirrors.clone_from(&args.registry_mirrors);
        }
        cluster.grow(nodes)?;
        return Ok(cluster);
    }
    let node_root = args
        .node_root
        .as_ref()
        .map(|root| {
            root.canonicalize()
                .with_context(|| format!("--node-root {}", root.display()))
        })
        .transpose()?;
    let total = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|t| memory_mib(&t))
        .unwrap_or(4096);
    let cpus = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    let mut cluster = Cluster {
        name: args.which.name.clone(),
        subnet: args.subnet,
        pod_cidr: args.pod_cidr,
        service_cidr: args.service_cidr,
        storage: args.storage,
        egress: args.egress,
        join_token: format!("{}.{}", random_text(6), random_text(16)),
        node_cpus: args.node_cpus.unwrap_or(cpus),
        node_memory: args.node_memory.unwrap_or(total / u64::from(args.nodes)),
        toleration_seconds: args.toleration_seconds,
        node_root,
        registry_mirrors: args.registry_mirrors.clone(),
        nodes: Vec::new(),
    };
    cluster.grow(nodes)?;
    Ok(cluster)
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|l| l.starts_with("MemTotal:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

fn random_text(length: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..length)
        .map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]))
        .collect()
}

/// Whether a program is on this machine.
fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) || is_in(Path::new("/"), program)
}

/// Whether a root file system has a program where a node looks for it. Links are not followed: absolute ones lead out of the tree.
fn is_in(root: &Path, program: &str) -> bool {
    [
        "usr/local/sbin",
        "usr/local/bin",
        "usr/sbin",
        "usr/bin",
        "sbin",
        "bin",
    ]
    .iter()
    .any(|dir| root.join(dir).join(program).symlink_metadata().is_ok())
}

fn check_programs(cluster: &Cluster) -> anyhow::Result<()> {
    let packages = |of: &[(&str, &'static str)], there: &dyn Fn(&str) -> bool| -> Vec<&'static str> {
        of.iter()
            .filter(|(program, _)| !there(program))
            .map(|(_, package)| *package)
            .collect()
    };
    let root = cluster.node_root();
    let mut missing = packages(NEEDED_ON_NODES, &|program| is_in(root, program));
    if cluster.storage == super::Storage::Etcd && !is_in(root, "etcd") {
        missing.push("etcd-server");
    }
    if !CNI_PLUGINS
        .iter()
        .any(|dir| root.join(dir).join("bridge").exists())
    {
        missing.push("containernetworking-plugins");
    }
    let here = packages(NEEDED_HERE, &is_here);
    for (place, mut missing) in [
        (root.display().to_string(), missing),
        ("this machine".to_owned(), here),
    ] {
        missing.dedup();
        if !missing.is_empty() {
            let place = if place == "/" { "this machine" } else { &place };
            bail!(
                "programs are missing on {place}; on Debian: apt-get install {}",
                missing.join(" ")
            );
        }
    }
    let bin = bin_dir()?;
    for name in [
        "apiserver",
        "controller-manager",
        "scheduler",
        "kubelet",
        "proxy",
        "network",
        "dns",
    ] {
        let path = bin.join(format!("rutter-{name}"));
        if !path.exists() {
            bail!(
                "{} is missing: build the workspace (`make build`)",
                path.display()
            );
        }
    }
    Ok(())
}

/// Where a root file system may have CNI plugins.
pub(super) const CNI_PLUGINS: [&str; 2] = ["opt/cni/bin", "usr/lib/cni"];

fn bin_dir() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().context("this program has no folder")?.to_owned())
}

fn certificates(cluster: &Cluster) -> anyhow::Result<Pki> {
    let pki = Pki::open(&cluster.dir().join("pki"))?;
    let first = cluster.nodes.first().context("a cluster without nodes")?;
    let server_names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    let client = |name, groups| Subject {
        name,
        groups,
        names: Vec::new(),
        addresses: Vec::new(),
    };
    let serving = Subject {
        name: "kube-apiserver",
        groups: &[],
        names: server_names
            .iter()
            .map(|&n| n.to_owned())
            .chain([first.name.clone()])
            .collect(),
        addresses: vec![
            first.address.into(),
            cluster.api_service().into(),
            std::net::Ipv4Addr::LOCALHOST.into(),
        ],
    };
    pki.certificate("ca", "apiserver", &serving)?;
    pki.certificate(
        "ca",
        "apiserver-kubelet-client",
        &client("kube-apiserver-kubelet-client", &[]),
    )?;
    pki.certificate(
        "front-proxy-ca",
        "front-proxy-client",
        &client("front-proxy-client", &[]),
    )?;
    Ok(pki)
}

fn admin_kubeconfig(cluster: &Cluster, pki: &Pki) -> anyhow::Result<PathBuf> {
    let path = cluster.dir().join("admin.conf");
    if !path.exists() {
        let admin = Subject {
            name: "kubernetes-admin",
            groups: &["system:masters"],
            names: vec![],
            addresses: vec![],
        };
        let text = pki.kubeconfig(&cluster.name, &cluster.server(), &admin)?;
        // In the person's file the user is called as the context is.
        super::pki::write(
            &path,
            text.replace("kubernetes-admin", &cluster.name).as_bytes(),
            0o600,
        )?;
    }
    Ok(path)
}

/// Writes a node's files and starts it.
pub(super) fn start_node(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    let pki = Pki::open(&cluster.dir().join("pki"))?;
    let control_plane = cluster.nodes.first() == Some(node);
    let dir = cluster.node_dir(node);
    let etc = dir.join("kubernetes");
    let put = |path: PathBuf, text: &str, mode| super::pki::write(&path, text.as_bytes(), mode);
    let once = |name: &str, text: &dyn Fn() -> anyhow::Result<String>| {
        let path = etc.join(name);
        if path.exists() {
            Ok(())
        } else {
            put(path, &text()?, 0o600)
        }
    };
    put(etc.join("pki/ca.crt"), &pki.read("ca.crt")?, 0o644)?;
    let user = |name: &'static str| {
        let (pki, cluster) = (&pki, &cluster);
        move || {
            pki.kubeconfig(
                &cluster.name,
                &cluster.server(),
                &Subject {
                    name,
                    groups: &[],
                    names: vec![],
                    addresses: vec![],
                },
            )
        }
    };
    if control_plane {
        for file in [
            "ca.key",
            "apiserver.crt",
            "apiserver.key",
            "apiserver-kubelet-client.crt",
            "apiserver-kubelet-client.key",
            "sa.key",
            "sa.pub",
            "front-proxy-ca.crt",
            "front-proxy-client.crt",
            "front-proxy-client.key",
        ] {
            put(etc.join("pki").join(file), &pki.read(file)?, 0o600)?;
        }
        once("controller-manager.conf", &user("system:kube-controller-manager"))?;
        once("scheduler.conf", &user("system:kube-scheduler"))?;
    }
    once("proxy.conf", &user("system:kube-proxy"))?;
    once("bootstrap-kubelet.conf", &|| {
        pki.kubeconfig_with(
            &cluster.name,
            &cluster.server(),
            "bootstrap",
            &serde_json::json!({"token": cluster.join_token}),
        )
    })?;
    put(
        dir.join("kubelet/config.yaml"),
        &services::kubelet_config(cluster)?,
        0o644,
    )?;
    let version = containerd::Version::of(cluster.node_root())?;
    put(
        dir.join("etc-containerd/config.toml"),
        &containerd::config(version),
        0o644,
    )?;
    let certs = dir.join("etc-containerd/certs.d");
    match fs::remove_dir_all(&certs) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", certs.display()));
        }
        _ => {}
    }
    for (path, text) in containerd::hosts_files(&cluster.registry_mirrors) {
        put(certs.join(path), &text, 0o644)?;
    }
    let nameservers = if cluster.egress {
        host_nameservers()
    } else {
        Vec::new()
    };
    let init = InitConfig {
        hostname: node.name.clone(),
        dir: dir.to_string_lossy().into_owned(),
        root: cluster.node_root().to_string_lossy().into_owned(),
        bin: bin_dir()?.to_string_lossy().into_owned(),
        nameservers,
        hosts: cluster
            .nodes
            .iter()
            .map(|n| (n.address.to_string(), n.name.clone()))
            .collect(),
        services: services::services(cluster, node, control_plane),
    };
    super::pki::write(&dir.join("init.json"), &serde_json::to_vec_pretty(&init)?, 0o600)?;
    host::make_network(cluster, node)?;
    host::start(cluster, node)
}

fn host_nameservers() -> Vec<String> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("nameserver ").map(|a| a.trim().to_owned()))
        // A resolver on this machine's loopback can't be reached from a node.
        .filter(|address| !address.starts_with("127."))
        .collect()
}

/// The archives of the images that every cluster needs, made when they are missing or older than their program.
fn own_images(cluster: &Cluster) -> anyhow::Result<Vec<PathBuf>> {
    let bin = bin_dir()?;
    let dir = cluster.dir().join("images");
    let mut made = Vec::new();
    for (program, name, user) in [
        ("rutter-pause", containerd::PAUSE_IMAGE, "65535:65535"),
        ("rutter-dns", addons::DNS_IMAGE, ""),
    ] {
        let from = bin.join(program);
        if !from.exists() {
            bail!(
                "{} is missing: build the workspace (`make build`)",
                from.display()
            );
        }
        let to = dir.join(format!("{program}.tar"));
        let time = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
        if time(&to) < time(&from) {
            let inside = format!("/{}", program.trim_start_matches("rutter-"));
            let recipe = image::Recipe {
                name,
                files: vec![(from, inside.clone())],
                links: Vec::new(),
                entrypoint: vec![inside],
                command: Vec::new(),
                user,
            };
            image::build(&recipe, &to)?;
        }
        made.push(to);
    }
    Ok(made)
}

/// Loads archives into one node or all, and says so.
pub(super) async fn load_images(
    cluster: &Cluster,
    files: &[PathBuf],
    node: Option<&str>,
) -> anyhow::Result<()> {
    match node {
        Some(node) => import(cluster, cluster.node(node)?, files).await?,
        None => load_images_quietly(cluster, files).await?,
    }
    for file in files {
        say(&format!("Loaded {}", file.display()));
    }
    Ok(())
}

async fn load_images_quietly(cluster: &Cluster, files: &[PathBuf]) -> anyhow::Result<()> {
    let running = cluster
        .nodes
        .iter()
        .filter(|n| host::outer_pid(cluster, n).is_some());
    futures::future::try_join_all(running.map(|node| import(cluster, node, files))).await?;
    Ok(())
}

async fn import(cluster: &Cluster, node: &Node, files: &[PathBuf]) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    for file in files {
        loop {
            let archive = fs::File::open(file).with_context(|| format!("opening {}", file.display()))?;
            // containerd may not be up yet.
            let outcome = match host::inside(cluster, node, "ctr") {
                Ok(command) => {
                    let mut command = tokio::process::Command::from(command);
                    command.args([
                        "-a",
                        "/run/containerd/containerd.sock",
                        "-n",
                        "k8s.io",
                        "images",
                        "import",
                        "-",
                    ]);
                    command
                        .stdin(Stdio::from(archive))
                        .output()
                        .await
                        .context("running nsenter")
                }
                Err(error) => Err(error),
            };
            let why = match outcome {
                Ok(output) if output.status.success() => break,
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() > deadline {
                bail!("loading {} into {}: {why}", file.display(), node.name);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Waits for the apiserver and applies the objects that the cluster needs.
async fn prepare(
    cluster: &Cluster,
    admin: &Path,
    began: Instant,
    wait: Duration,
) -> anyhow::Result<kube::Client> {
    let config = rutter_client::connect::from_file(admin).await?;
    let client = rutter_client::connect::client(config, "rctl")?;
    loop {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        match client.request_text(request).await {
            Ok(_) => break,
            Err(error) if began.elapsed() > wait => {
                let why = format!("{error:#}");
                bail!(
                    "the apiserver is not ready: {why}; see `rctl cluster logs {} --service apiserver`",
                    cluster.nodes[0].name
                )
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    say(&format!(
        "The apiserver is ready ({} ms)",
        began.elapsed().as_millis()
    ));
    for object in addons::objects(cluster) {
        apply(&client, &object).await?;
    }
    Ok(client)
}

async fn apply(client: &kube::Client, object: &serde_json::Value) -> anyhow::Result<()> {
    let object: DynamicObject = serde_json::from_value(object.clone())?;
    let types = object.types.clone().context("an object without a kind")?;
    let resource = ApiResource::from_gvk(&kube::core::GroupVersionKind::try_from(&types)?);
    let name = object.metadata.name.clone().unwrap_or_default();
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply("rctl-cluster").force();
    let mut tries = 0;
    loop {
        match api.patch(&name, &params, &Patch::Apply(&object)).await {
            Ok(_) => return Ok(()),
            // Namespaces and service accounts of a new cluster may be a moment away.
            Err(error)
                if tries < 100
                    && !matches!(&error, kube::Error::Api(s) if s.code == 422 || s.code == 400) =>
            {
                tries += 1;
                tracing::debug!(%error, "applying {} {name}", types.kind);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error).with_context(|| format!("applying {} {name}", types.kind)),
        }
    }
}

async fn wait_ready(
    cluster: &Cluster,
    client: &kube::Client,
    began: Instant,
    wait: Duration,
) -> anyhow::Result<()> {
    let api: Api<ApiNode> = Api::all(client.clone());
    let mut said = std::collections::BTreeSet::new();
    loop {
        let nodes = api
            .list(&ListParams::default())
            .await
            .map(|l| l.items)
            .unwrap_or_default();
        for node in &nodes {
            let name = node.metadata.name.clone().unwrap_or_default();
            if ready(node) && said.insert(name.clone()) {
                say(&format!("{name} is Ready ({} ms)", began.elapsed().as_millis()));
            }
        }
        let waiting: Vec<_> = cluster
            .nodes
            .iter()
            .filter(|n| !said.contains(&n.name))
            .map(|n| n.name.as_str())
            .collect();
        if waiting.is_empty() {
            return Ok(());
        }
        if began.elapsed() > wait {
            bail!(
                "not Ready after {} s: {}; see `rctl cluster logs {}`",
                wait.as_secs(),
                waiting.join(", "),
                waiting[0]
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Names are looked up by the first thing that people try: the cluster isn't up before they can be.
async fn wait_dns(
    cluster: &Cluster,
    client: &kube::Client,
    began: Instant,
    wait: Duration,
) -> anyhow::Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), addons::NAMESPACE);
    loop {
        let found = api.get_opt(addons::DNS).await.ok().flatten();
        let available = found.and_then(|d| d.status?.available_replicas);
        if available.is_some_and(|n| n > 0) {
            say(&format!(
                "Cluster DNS answers ({} ms)",
                began.elapsed().as_millis()
            ));
            return Ok(());
        }
        if began.elapsed() > wait {
            bail!(
                "cluster DNS is not available after {} s: see `rctl describe pods -n {} -l k8s-app=kube-dns --context {}`",
                wait.as_secs(),
                addons::NAMESPACE,
                cluster.name
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn ready(node: &ApiNode) -> bool {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_mebibytes() {
        assert_eq!(
            memory_mib("MemFree: 1 kB\nMemTotal:       24576000 kB\n"),
            Some(24000)
        );
        assert_eq!(memory_mib(""), None);
    }

    #[test]
    fn join_tokens_have_the_form_of_bootstrap_tokens() {
        let token = format!("{}.{}", random_text(6), random_text(16));
        let form = regex::Regex::new("^[a-z0-9]{6}\\.[a-z0-9]{16}$").unwrap();
        assert!(form.is_match(&token), "{token}");
    }
}
