//! Wiring: from flags to a running kubelet.

use crate::admission::{admit, refuse};
use crate::backoff::Backoff;
use crate::certs;
use crate::cgroups::{Cgroups, Driver};
use crate::config::{FileConfig, Flags, amounts, duration};
use crate::devices::Devices;
use crate::eviction;
use crate::housekeeping;
use crate::images::Images;
use crate::node::agent::{Agent, Rhythm};
use crate::node::capacity;
use crate::node::object::Facts;
use crate::objects::Objects;
use crate::pleg::Pleg;
use crate::pods::{PodExt, Uid};
use crate::resources;
use crate::resources::LimitRules;
use crate::runtime::cri::Cri;
use crate::runtime::sandbox::DnsSettings;
use crate::serving::Serving;
use crate::shared::{Settings, Shared};
use crate::static_pods::StaticPods;
use crate::sysctls;
use crate::tokens::Tokens;
use crate::userns::IdMaps;
use crate::volumes::Volumes;
use crate::worker::pool::Pool;
use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::{Node, NodeSystemInfo, Pod, Service, Taint};
use kube::Api;
use kube::runtime::watcher;
use parking_lot::Mutex;
use rutter_client::component::{init_logging, shutdown_signal};
use rutter_client::events::Recorder;
use rutter_client::{Informer, connect};
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often the runtime is searched for what belongs to no pod.
const ORPHAN_PERIOD: Duration = Duration::from_secs(60);

/// Runs a kubelet until it is told to stop.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    init_logging(&flags.log);
    connect::install_crypto_provider();
    let file = match &flags.config {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            FileConfig::parse(&text)
                .with_context(|| format!("the kubelet's configuration {}", path.display()))?
        }
        None => FileConfig::default(),
    };
    let stop = shutdown_signal();
    let kubeconfig = flags
        .kubeconfig
        .clone()
        .context("--kubeconfig is needed: how to reach the apiserver")?;
    let name = node_name(&flags)?;
    let cert_dir = cert_dir(&flags);
    if let Some(first) = &flags.bootstrap_kubeconfig {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            done = certs::bootstrap(first, &kubeconfig, &cert_dir, &name) => done?,
        }
    }
    let credentials = certs::Exchangeable::new(&kubeconfig).await?;
    let kubelet = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        started = Kubelet::start(&flags, &file, credentials.client()) => started?,
    };
    if flags
        .rotate_certificates
        .or(file.rotate_certificates)
        .unwrap_or(true)
    {
        tokio::spawn(credentials.keep(cert_dir, name));
    }
    kubelet.run(stop).await
}

fn node_name(flags: &Flags) -> anyhow::Result<String> {
    let hostname = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    Ok(flags
        .hostname_override
        .clone()
        .unwrap_or(hostname)
        .trim()
        .to_lowercase())
}

pub(crate) fn cert_dir(flags: &Flags) -> PathBuf {
    flags
        .cert_dir
        .clone()
        .unwrap_or_else(|| flags.root_dir.join("pki"))
}

struct Kubelet {
    pool: Pool,
    agent: Agent,
    pleg: Pleg,
    pods: Informer<Pod>,
    services: Informer<Service>,
    object_changes: tokio::sync::mpsc::UnboundedReceiver<Uid>,
    node: Arc<ArcSwap<Node>>,
    allocatable: resources::ResourceList,
    unsafe_sysctls: Vec<String>,
    serving: Serving,
    chores: Chores,
    pressure: Arc<ArcSwap<eviction::Pressure>>,
}

/// What is done beside running pods.
struct Chores {
    static_dir: Option<PathBuf>,
    check_every: Duration,
    thresholds: eviction::Thresholds,
    images: housekeeping::ImageRules,
    logs: housekeeping::LogRules,
}

fn socket(endpoint: &str) -> anyhow::Result<PathBuf> {
    match endpoint.strip_prefix("unix://") {
        Some(path) => Ok(PathBuf::from(path)),
        None if endpoint.starts_with('/') => Ok(PathBuf::from(endpoint)),
        None => bail!(
            "{endpoint:?} is not the address of a unix socket such as unix:///run/containerd/containerd.sock"
        ),
    }
}

/// What the runtime says about one of its handlers, for the node's status.
fn handler(handler: &rutter_proto::cri::RuntimeHandler) -> k8s_openapi::api::core::v1::NodeRuntimeHandler {
    k8s_openapi::api::core::v1::NodeRuntimeHandler {
        name: Some(handler.name.clone()),
        features: handler
            .features
            .as_ref()
            .map(|f| k8s_openapi::api::core::v1::NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(f.recursive_read_only_mounts),
                user_namespaces: Some(f.user_namespaces),
            }),
    }
}

fn parse_taint(text: &str) -> anyhow::Result<Taint> {
    let (pair, effect) = text
        .rsplit_once(':')
        .with_context(|| format!("--register-with-taints: {text:?} is not KEY=VALUE:EFFECT"))?;
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        bail!("--register-with-taints: {effect:?} is not one of NoSchedule, PreferNoSchedule and NoExecute");
    }
    Ok(Taint {
        key: key.to_owned(),
        value: (!value.is_empty()).then(|| value.to_owned()),
        effect: effect.to_owned(),
        time_added: None,
    })
}

/// The node's own address: given, or the one that leads out.
fn node_ips(given: &[IpAddr]) -> anyhow::Result<Vec<IpAddr>> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    // Connecting a datagram socket sends nothing; it only asks the routing table.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    socket
        .connect("192.0.2.1:9")
        .context("finding the node's address; pass --node-ip")?;
    Ok(vec![socket.local_addr()?.ip()])
}

fn system_info(runtime: &rutter_proto::cri::VersionResponse) -> NodeSystemInfo {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let os = [read("/etc/os-release"), read("/usr/lib/os-release")]
        .join("\n")
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .map(|v| v.trim_matches('"').to_owned())
        .unwrap_or_else(|| "linux".to_owned());
    let machine = read("/etc/machine-id");
    let uuid = read("/sys/class/dmi/id/product_uuid");
    NodeSystemInfo {
        architecture: rutter_client::component::go_arch().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("{}://{}", runtime.runtime_name, runtime.runtime_version),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: rutter_client::component::KUBERNETES_VERSION.to_owned(),
        machine_id: machine.clone(),
        operating_system: "linux".to_owned(),
        os_image: os,
        system_uuid: if uuid.is_empty() {
            machine
        } else {
            uuid.to_lowercase()
        },
        ..NodeSystemInfo::default()
    }
}

async fn wait_for_runtime(cri: &Cri) -> rutter_proto::cri::VersionResponse {
    let mut told = false;
    loop {
        match cri.version().await {
            Ok(version) => return version,
            Err(error) => {
                if !told {
                    tracing::warn!(%error, "the container runtime doesn't answer yet; waiting for it");
                    told = true;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

impl Kubelet {
    async fn start(flags: &Flags, file: &FileConfig, client: kube::Client) -> anyhow::Result<Self> {
        let timeout = file
            .runtime_request_timeout
            .as_deref()
            .map(duration)
            .transpose()?
            .unwrap_or(Duration::from_secs(120));
        let endpoint = flags
            .container_runtime_endpoint
            .clone()
            .or_else(|| file.container_runtime_endpoint.clone())
            .unwrap_or_else(|| "unix:///run/containerd/containerd.sock".to_owned());
        let images_at = flags
            .image_service_endpoint
            .clone()
            .or_else(|| file.image_service_endpoint.clone());
        let cri = Cri::new(
            socket(&endpoint)?,
            images_at.as_deref().map(socket).transpose()?,
            timeout,
        );
        let runtime = wait_for_runtime(&cri).await;

        let node_name = node_name(flags)?;
        let max_pods = flags.max_pods.or(file.max_pods).unwrap_or(110);
        std::fs::create_dir_all(flags.root_dir.join("pods"))?;
        let capacity = capacity::capacity(&flags.root_dir, max_pods, &amounts("capacity", &flags.capacity)?)?;
        let reserved = |flag: &str, own: &[String], file: &Option<BTreeMap<String, String>>| {
            if own.is_empty() {
                Ok(file.clone().unwrap_or_default())
            } else {
                amounts(flag, own)
            }
        };
        let system = reserved("system-reserved", &flags.system_reserved, &file.system_reserved)?;
        let kube_own = reserved("kube-reserved", &flags.kube_reserved, &file.kube_reserved)?;
        let chores = chores(flags, file)?;
        let unsafe_sysctls = if flags.allowed_unsafe_sysctls.is_empty() {
            file.allowed_unsafe_sysctls.clone().unwrap_or_default()
        } else {
            flags.allowed_unsafe_sysctls.clone()
        };
        for pattern in &unsafe_sysctls {
            sysctls::check_pattern(pattern).map_err(anyhow::Error::msg)?;
        }
        let allocatable = capacity::allocatable(
            &capacity,
            &[&system, &kube_own],
            &eviction::reserved(&chores.thresholds, &capacity),
        );

        let driver = match cri.runtime_config().await.ok().and_then(|c| c.linux) {
            Some(linux) if linux.cgroup_driver == i32::from(rutter_proto::cri::CgroupDriver::Systemd) => {
                Driver::Systemd
            }
            Some(_) => Driver::Cgroupfs,
            None => match flags
                .cgroup_driver
                .as_deref()
                .or(file.cgroup_driver.as_deref())
                .unwrap_or("cgroupfs")
            {
                "cgroupfs" => Driver::Cgroupfs,
                "systemd" => Driver::Systemd,
                other => bail!("--cgroup-driver is cgroupfs or systemd, not {other:?}"),
            },
        };
        let cgroup_root = flags
            .cgroup_root
            .clone()
            .or_else(|| file.cgroup_root.clone())
            .unwrap_or_default();
        let per_qos = file.cgroups_per_qos.unwrap_or(true);
        let cgroups = Cgroups::new(Path::new("/sys/fs/cgroup"), &cgroup_root, driver, per_qos);

        let ips = node_ips(&flags.node_ip)?;
        let recorder = Recorder::new(client.clone(), "kubelet", Some(&node_name));
        let (objects, object_changes) = Objects::new(&client);
        let tokens = Tokens::new(client.clone());
        let volumes = Volumes::new(flags.root_dir.clone(), objects.clone(), tokens, client.clone());
        let parallel = if file.serialize_image_pulls.unwrap_or(false) {
            1
        } else {
            usize::try_from(file.max_parallel_image_pulls.unwrap_or(16)).unwrap_or(16)
        };
        let node_credentials = vec![
            flags.root_dir.join("config.json"),
            PathBuf::from("/.docker/config.json"),
        ];
        let images = Images::new(
            cri.clone(),
            objects.clone(),
            recorder.clone(),
            parallel,
            node_credentials,
        );
        let services: Informer<Service> = Informer::start(
            Api::all(client.clone()),
            watcher::Config::default().any_semantic(),
        );
        let settings = settings(
            flags,
            file,
            &node_name,
            &runtime,
            &capacity,
            &allocatable,
            &cgroups,
        )?;
        for dir in [&settings.pod_logs, &settings.container_logs] {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        let milli = resources::milli_of(Some(&allocatable), "cpu").unwrap_or(0);
        let memory = resources::value_of(Some(&allocatable), "memory");
        cgroups
            .ensure_classes(2, memory, crate::resources::shares(milli))
            .context("making the control groups for pods")?;

        let wake: Arc<Notify> = Arc::default();
        let shared = Arc::new(Shared {
            crash_backoff: Mutex::new(Backoff::new(10, settings.max_crash_backoff_seconds)),
            settings,
            cri: cri.clone(),
            client: client.clone(),
            recorder,
            objects,
            volumes,
            images,
            cgroups,
            devices: Devices::new(&flags.root_dir, wake.clone()),
            network_changed: Notify::new(),
            id_maps: IdMaps::new(flags.root_dir.clone(), max_pods),
            services: services.store(),
            host_ips: ArcSwap::from_pointee(ips.iter().map(ToString::to_string).collect()),
            network_ready: ArcSwap::from_pointee(None),
            user_namespaces: AtomicBool::new(false),
        });
        let pool = Pool::new(shared.clone());
        let pleg = Pleg::new(pool.clone());
        let node = Arc::new(ArcSwap::from_pointee(Node::default()));
        let port = flags.port.or(file.port).unwrap_or(10250);
        let labels = amounts("node-labels", &flags.node_labels)?;
        let taints = if flags.register_with_taints.is_empty() {
            file.register_with_taints.clone().unwrap_or_default()
        } else {
            flags
                .register_with_taints
                .iter()
                .map(|t| parse_taint(t))
                .collect::<anyhow::Result<_>>()?
        };
        let answer = cri.status().await.ok();
        let features = answer.as_ref().and_then(|a| a.features.as_ref());
        let user_namespaces = answer
            .iter()
            .flat_map(|a| &a.runtime_handlers)
            .any(|h| h.features.as_ref().is_some_and(|f| f.user_namespaces));
        shared
            .user_namespaces
            .store(user_namespaces, std::sync::atomic::Ordering::Relaxed);
        tracing::debug!(?features, user_namespaces, "the container runtime's features");
        let handlers = answer
            .iter()
            .flat_map(|a| &a.runtime_handlers)
            .map(handler)
            .collect();
        let facts = Facts {
            name: node_name.clone(),
            hostname: node_name.clone(),
            ips,
            labels,
            taints,
            provider_id: flags.provider_id.clone().or_else(|| file.provider_id.clone()),
            capacity,
            allocatable: allocatable.clone(),
            info: system_info(&runtime),
            port,
            handlers,
            features: features.map(|f| k8s_openapi::api::core::v1::NodeFeatures {
                supplemental_groups_policy: Some(f.supplemental_groups_policy),
            }),
        };
        let every = |text: &Option<String>, default| {
            text.as_deref()
                .map(duration)
                .transpose()
                .map(|d| d.unwrap_or(default))
        };
        let pressure = Arc::new(ArcSwap::from_pointee(eviction::Pressure::default()));
        let agent = Agent {
            shared: shared.clone(),
            facts: Arc::new(facts),
            rhythm: Rhythm {
                update: every(&file.node_status_update_frequency, Duration::from_secs(10))?,
                report: every(&file.node_status_report_frequency, Duration::from_secs(300))?,
                lease_seconds: file.node_lease_duration_seconds.unwrap_or(40),
                max_images: file
                    .node_status_max_images
                    .map_or(50, |n| usize::try_from(n).unwrap_or(usize::MAX)),
                register: flags.register_node.or(file.register_node).unwrap_or(true),
            },
            pleg: pleg.health(),
            pressure: pressure.clone(),
            node: node.clone(),
            registered: tokio::sync::watch::Sender::new(false),
            wake,
        };
        let pods = Informer::start(
            Api::<Pod>::all(client.clone()),
            watcher::Config::default().fields(&format!("spec.nodeName={node_name}")),
        );
        let serving = Serving::prepare(flags, file, &pool, &agent, &client).await?;
        Ok(Self {
            pool,
            agent,
            pleg,
            pods,
            services,
            object_changes,
            node,
            allocatable,
            unsafe_sysctls,
            serving,
            chores,
            pressure,
        })
    }

    async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self {
            pool,
            agent,
            pleg,
            pods,
            services,
            mut object_changes,
            node,
            allocatable,
            unsafe_sysctls,
            serving,
            chores,
            pressure,
        } = self;
        let client = pool.shared().client.clone();
        let node_name = pool.shared().settings.node_name.clone();
        let mut tasks = tokio::task::JoinSet::new();
        serving.start(&mut tasks, &stop);
        let eviction = eviction::Manager {
            pool: pool.clone(),
            thresholds: chores.thresholds,
            pressure: pressure.clone(),
            node_wake: agent.wake.clone(),
            image_rules: chores.images,
        };
        let mut registered = agent.registered.subscribe();
        tasks.spawn(agent.run(stop.clone()));
        tasks.spawn(pleg.run(stop.clone()));
        tasks.spawn(eviction.run());
        tasks.spawn(housekeeping::keep_images(pool.clone(), chores.images));
        tasks.spawn(housekeeping::keep_logs(pool.clone(), chores.logs));
        tasks.spawn({
            let pool = pool.clone();
            async move {
                while let Some(uid) = object_changes.recv().await {
                    pool.wake_for_objects(&uid);
                }
            }
        });
        tasks.spawn({
            let devices = pool.shared().devices.clone();
            async move {
                if let Err(error) = devices.serve().await {
                    tracing::error!("device plugins can't register: {error:#}");
                }
            }
        });
        tasks.spawn({
            let pool = pool.clone();
            async move {
                loop {
                    pool.shared().network_changed.notified().await;
                    pool.wake_all();
                }
            }
        });
        let devices = pool.shared().devices.clone();
        let admission = {
            let node = node.clone();
            Arc::new(move |pod: &Pod, others: &[Arc<Pod>]| {
                eviction::admits(pod, **pressure.load())?;
                if let Some(why) = sysctls::forbidden(pod, &unsafe_sysctls) {
                    return Err(refuse("SysctlForbidden", why));
                }
                admit(pod, others, &node.load(), &allocatable)?;
                // Last, since it sets devices aside.
                devices
                    .admit(pod)
                    .map_err(|why| refuse("UnexpectedAdmissionError", why))
            })
        };
        let statics = StaticPods::default();
        if let Some(dir) = chores.static_dir {
            // Static pods don't wait for the apiserver: they may be what starts it.
            tasks.spawn(statics.clone().follow(
                dir,
                chores.check_every,
                node_name,
                pool.clone(),
                admission.clone(),
            ));
        }
        tasks.spawn(statics.clone().mirror(client, node, pods.store()));
        // Pods need the addresses of services in their environment, and whether they may run here is judged by the node's
        // labels and taints: no pod is started before both are known.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = services.synced() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = registered.wait_for(|known| *known) => {}
        }
        let mut changes = pods.subscribe();
        let mut cleaned = false;
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => break,
                change = changes.recv() => change,
                () = pods.synced(), if !cleaned => {
                    cleaned = true;
                    while let Ok(change) = changes.try_recv() {
                        take(&pool, &statics, change, &*admission);
                    }
                    let pool = pool.clone();
                    tasks.spawn(async move {
                        loop {
                            pool.end_orphans().await;
                            tokio::time::sleep(ORPHAN_PERIOD).await;
                        }
                    });
                    continue;
                }
            };
            let Some(change) = change else {
                bail!("the watch of pods ended")
            };
            take(&pool, &statics, change, &*admission);
            let mut known: HashSet<Uid> = pods.store().list().iter().map(|p| p.uid()).collect();
            known.extend(statics.uids());
            pool.sweep(&known);
        }
        tasks.shutdown().await;
        Ok(())
    }
}

fn take(
    pool: &Pool,
    statics: &StaticPods,
    change: rutter_client::Change<Pod>,
    admit: crate::worker::pool::Admit<'_>,
) {
    if let Some(mirror) = change.object().filter(|p| p.is_mirror()) {
        if let Some(uid) = statics.uid(mirror.namespace(), mirror.name()) {
            pool.mirror(&uid, change.new.clone());
        }
        statics.wake.notify_one();
        return;
    }
    match (change.old, change.new) {
        (old, Some(pod)) => {
            // A new pod under an old name is another pod.
            if let Some(old) = old.filter(|o| o.uid() != pod.uid()) {
                pool.remove(&old.uid());
            }
            pool.put(pod, admit);
        }
        (Some(pod), None) => pool.remove(&pod.uid()),
        (None, None) => {}
    }
}

fn settings(
    flags: &Flags,
    file: &FileConfig,
    node_name: &str,
    runtime: &rutter_proto::cri::VersionResponse,
    capacity: &resources::ResourceList,
    allocatable: &resources::ResourceList,
    cgroups: &Cgroups,
) -> anyhow::Result<Settings> {
    let resolv = flags.resolv_conf.clone().or_else(|| file.resolv_conf.clone());
    let resolv = resolv.unwrap_or_else(|| {
        let stub = "/run/systemd/resolve/resolv.conf";
        if Path::new(stub).exists() {
            stub
        } else {
            "/etc/resolv.conf"
        }
        .to_owned()
    });
    let dns = DnsSettings {
        cluster_dns: if flags.cluster_dns.is_empty() {
            file.cluster_dns.clone().unwrap_or_default()
        } else {
            flags.cluster_dns.clone()
        },
        cluster_domain: flags
            .cluster_domain
            .clone()
            .or_else(|| file.cluster_domain.clone())
            .unwrap_or_else(|| "cluster.local".to_owned()),
        ..DnsSettings::default()
    };
    let text = if resolv.is_empty() {
        String::new()
    } else {
        std::fs::read_to_string(&resolv).unwrap_or_default()
    };
    let period = file
        .cpu_cfs_quota_period
        .as_deref()
        .map(duration)
        .transpose()?
        .unwrap_or(Duration::from_millis(100));
    let sync = file
        .sync_frequency
        .as_deref()
        .map(duration)
        .transpose()?
        .unwrap_or(Duration::from_secs(60));
    let longest = file
        .crash_loop_back_off
        .as_ref()
        .and_then(|c| c.max_container_restart_period.as_deref());
    let longest = longest
        .map(duration)
        .transpose()?
        .map_or(300, |d| i64::try_from(d.as_secs()).unwrap_or(300));
    Ok(Settings {
        node_name: node_name.to_owned(),
        root: flags.root_dir.clone(),
        pod_logs: file
            .pod_logs_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from("/var/log/pods")),
        container_logs: PathBuf::from("/var/log/containers"),
        dns: dns.with_resolv_conf(&text),
        limits: LimitRules {
            cpu_quota: file.cpu_cfs_quota.unwrap_or(true),
            period_micros: i64::try_from(period.as_micros()).unwrap_or(100_000),
            memory_capacity: resources::value_of(Some(capacity), "memory").unwrap_or(0),
            unified: cgroups.is_unified(),
            single_process_oom_kill: file.single_process_oom_kill.unwrap_or(!cgroups.is_unified()),
        },
        pod_pids_limit: file.pod_pids_limit.filter(|l| *l > 0),
        seccomp_default: flags.seccomp_default.or(file.seccomp_default).unwrap_or(false),
        allocatable: allocatable.clone(),
        runtime_name: runtime.runtime_name.clone(),
        no_image_volumes: no_image_volumes(&runtime.runtime_name, &runtime.runtime_version),
        resync_seconds: sync.as_secs().max(1),
        max_crash_backoff_seconds: longest,
    })
}

/// Why a runtime can't mount images as volumes. Those that aren't known are given the benefit of the doubt: their own error says why.
fn no_image_volumes(name: &str, version: &str) -> Option<String> {
    let mut numbers = version
        .trim_start_matches('v')
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|n| n.parse::<u32>().ok());
    let found = (numbers.next()?, numbers.next()?);
    let needed = match name {
        "containerd" => (2, 1),
        "cri-o" => (1, 31),
        _ => return None,
    };
    (found < needed).then(|| {
        format!(
            "this node's container runtime, {name} {version}, has no image volumes; they need {name} {}.{} or newer",
            needed.0, needed.1
        )
    })
}

fn chores(flags: &Flags, file: &FileConfig) -> anyhow::Result<Chores> {
    let every = |text: &Option<String>, default: u64| {
        text.as_deref()
            .map(duration)
            .transpose()
            .map(|d| d.unwrap_or(Duration::from_secs(default)))
    };
    let thresholds = match &flags.eviction_hard {
        Some(list) => eviction::parse_flag(list)?,
        None => file.eviction_hard.clone().unwrap_or_default(),
    };
    let size = file
        .container_log_max_size
        .clone()
        .unwrap_or_else(|| "10Mi".to_owned());
    let max_size = resources::value(&k8s_openapi::apimachinery::pkg::api::resource::Quantity(
        size.clone(),
    ))
    .and_then(|s| u64::try_from(s).ok())
    .with_context(|| format!("containerLogMaxSize: {size:?} is no size"))?;
    let max_files = usize::try_from(file.container_log_max_files.unwrap_or(5)).unwrap_or(0);
    if max_files < 2 {
        bail!("containerLogMaxFiles must be at least 2");
    }
    let high_percent = file.image_gc_high_threshold_percent.unwrap_or(85);
    let low_percent = file.image_gc_low_threshold_percent.unwrap_or(80);
    if high_percent > 100 || low_percent >= high_percent {
        bail!("imageGCLowThresholdPercent must be below imageGCHighThresholdPercent, and both at most 100");
    }
    Ok(Chores {
        static_dir: flags
            .pod_manifest_path
            .clone()
            .or_else(|| file.static_pod_path.clone()),
        check_every: every(&file.file_check_frequency, 20)?,
        thresholds: eviction::parse(&thresholds)?,
        images: housekeeping::ImageRules {
            high_percent,
            low_percent,
            minimum_age: every(&file.image_minimum_gc_age, 120)?,
        },
        logs: housekeeping::LogRules { max_size, max_files },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_runtimes_are_named_as_the_reason_for_having_no_image_volumes() {
        for (name, version, has) in [
            ("containerd", "1.6.20~ds1", false),
            ("containerd", "2.0.5", false),
            ("containerd", "v2.1.9", true),
            ("cri-o", "1.33.0", true),
            ("other", "0.1", true),
            ("containerd", "dev", true),
        ] {
            assert_eq!(no_image_volumes(name, version).is_none(), has, "{name} {version}");
        }
    }
}
