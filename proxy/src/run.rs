//! The proxy's wiring: watches in, rules out.

use crate::conntrack;
use crate::health::{HealthPorts, LocalHealth, ProxyHealth, routes};
use crate::iptables::Iptables;
use crate::iptables::rules::{Config, render};
use crate::network::node_name;
use crate::service::endpoints::{Place, choose, of_slice};
use crate::service::{ServicePort, ports};
use anyhow::Context as _;
use axum::routing::get;
use clap::Parser;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge};
use rutter_client::component::{self, LogArgs};
use rutter_client::connect::ConnectionArgs;
use rutter_client::election::duration;
use rutter_client::informer::{Informer, Informers};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const BY_SERVICE: &str = "service";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Flags of `rutter-proxy`, under upstream's names.
#[derive(Debug, Parser)]
#[command(name = "rutter-proxy", version = component::version_text(), about = "The Service proxy on a node")]
pub struct Options {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    log: LogArgs,
    /// How packets are rewritten.
    #[arg(long, value_name = "MODE", default_value = "iptables", value_parser = ["iptables"])]
    proxy_mode: String,
    /// The name of this machine's Node; by default the hostname.
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// The networks of all pods; traffic from elsewhere to a ClusterIP is masqueraded.
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    cluster_cidr: Vec<IpNet>,
    /// Masquerade all traffic to ClusterIPs.
    #[arg(long)]
    masquerade_all: bool,
    /// The bit of the packet mark that asks for masquerading, 0 to 31.
    #[arg(long, value_name = "BIT", default_value_t = 14, value_parser = clap::value_parser!(u8).range(0..=31))]
    iptables_masquerade_bit: u8,
    /// Whether NodePorts answer on 127.0.0.1 too.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    iptables_localhost_nodeports: bool,
    /// The longest time after which the rules are checked and mended even without a change.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    iptables_sync_period: Duration,
    /// The shortest time between two changes of the rules.
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = duration)]
    iptables_min_sync_period: Duration,
    /// The networks whose addresses on this node serve NodePorts; all of the node's when not given.
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    nodeport_addresses: Vec<IpNet>,
    /// Where /healthz is served.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:10256")]
    healthz_bind_address: SocketAddr,
    /// Where /metrics is served.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10249")]
    metrics_bind_address: SocketAddr,
}

struct Metrics {
    sync: Histogram,
    syncs: IntCounter,
    failures: IntCounter,
    rules: IntGauge,
    last: prometheus::Gauge,
}

impl Metrics {
    fn new() -> anyhow::Result<Self> {
        let buckets = prometheus::exponential_buckets(0.001, 2.0, 15)?;
        let metrics = Self {
            sync: Histogram::with_opts(
                HistogramOpts::new(
                    "kubeproxy_sync_proxy_rules_duration_seconds",
                    "Time to change the rules",
                )
                .buckets(buckets),
            )?,
            syncs: IntCounter::new("kubeproxy_sync_proxy_rules_total", "Changes of the rules")?,
            failures: IntCounter::new(
                "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
                "Changes of the rules that failed",
            )?,
            rules: IntGauge::new(
                "kubeproxy_sync_proxy_rules_iptables_total",
                "Rules that the proxy has",
            )?,
            last: prometheus::Gauge::new(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "When the rules were last as they should be",
            )?,
        };
        let registry = prometheus::default_registry();
        registry.register(Box::new(metrics.sync.clone()))?;
        registry.register(Box::new(metrics.syncs.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.rules.clone()))?;
        registry.register(Box::new(metrics.last.clone()))?;
        Ok(metrics)
    }
}

/// The watches.
struct World {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    node: Informer<Node>,
    node_name: String,
}

impl World {
    fn new(client: &kube::Client, node_name: String) -> Self {
        let informers = Informers::new(client.clone());
        let slices: Informer<EndpointSlice> = informers.of();
        slices.add_index(BY_SERVICE, |slice: &EndpointSlice| {
            let name = slice.labels().get(SERVICE_NAME);
            name.map(|name| format!("{}/{name}", slice.namespace().unwrap_or_default()))
                .into_iter()
                .collect()
        });
        let fields = watcher::Config::default()
            .any_semantic()
            .fields(&format!("metadata.name={node_name}"));
        let node = Informer::start(Api::all(client.clone()), fields);
        Self {
            services: informers.of(),
            slices,
            node,
            node_name,
        }
    }

    async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
        self.node.synced().await;
    }

    /// A signal for every change of any of them.
    fn changes(&self) -> Arc<Notify> {
        let notify = Arc::new(Notify::new());
        fn forward<K: Send + Sync + 'static>(
            mut changes: tokio::sync::mpsc::UnboundedReceiver<rutter_client::Change<K>>,
            notify: Arc<Notify>,
        ) {
            tokio::spawn(async move {
                while changes.recv().await.is_some() {
                    notify.notify_one();
                }
            });
        }
        forward(self.services.subscribe(), notify.clone());
        forward(self.slices.subscribe(), notify.clone());
        forward(self.node.subscribe(), notify.clone());
        notify
    }

    fn place(&self) -> Place {
        let node = self.node.store().get("", &self.node_name);
        let zone = node
            .and_then(|n| n.labels().get("topology.kubernetes.io/zone").cloned())
            .unwrap_or_default();
        Place {
            node: self.node_name.clone(),
            zone,
        }
    }

    /// Whether the node is to get new connections.
    fn eligible(&self) -> bool {
        let Some(node) = self.node.store().get("", &self.node_name) else {
            return true;
        };
        let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
        let leaving = taints
            .into_iter()
            .any(|t| t.key == "ToBeDeletedByClusterAutoscaler");
        node.metadata.deletion_timestamp.is_none() && !leaving
    }

    fn ports(&self, v6: bool, place: &Place) -> Vec<ServicePort> {
        let slices = self.slices.store();
        let family = if v6 { "IPv6" } else { "IPv4" };
        let mut all = Vec::new();
        for service in self.services.store().list() {
            let mut own = ports(&service, v6);
            if own.is_empty() {
                continue;
            }
            let key = format!(
                "{}/{}",
                service.namespace().unwrap_or_default(),
                service.name_any()
            );
            let of_service = slices.by_index(BY_SERVICE, &key);
            for port in &mut own {
                let name = port.name.split_once(':').map_or("", |(_, name)| name).to_owned();
                let fitting = of_service.iter().filter(|s| s.address_type == family);
                port.endpoints = fitting
                    .flat_map(|s| of_slice(s, &name, port.protocol, place))
                    .collect();
            }
            all.extend(own);
        }
        all
    }
}

/// The health check ports that are wanted. Pure.
fn health_ports(ports: &[ServicePort], place: &Place) -> BTreeMap<u16, LocalHealth> {
    let mut wanted: BTreeMap<u16, LocalHealth> = BTreeMap::new();
    for port in ports
        .iter()
        .filter(|p| p.health_check_node_port != 0 && p.external_local)
    {
        let service = port
            .name
            .split_once(':')
            .map_or(port.name.as_str(), |(service, _)| service);
        let (namespace, name) = service.split_once('/').unwrap_or_default();
        let health = wanted.entry(port.health_check_node_port).or_default();
        health.service = (namespace.to_owned(), name.to_owned());
        health.local_endpoints = health.local_endpoints.max(choose(port, place).local.len());
    }
    wanted
}

struct Family {
    v6: bool,
    iptables: Iptables,
    ports: Vec<ServicePort>,
}

async fn serve(address: SocketAddr, router: axum::Router) -> anyhow::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address}"))?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

/// Runs the proxy until it is told to stop. The rules stay in the kernel.
///
/// # Errors
/// When a port can't be bound, iptables doesn't work here, or the apiserver's address is unknown.
pub async fn run(options: Options) -> anyhow::Result<()> {
    component::init_logging(&options.log);
    let stop = component::shutdown_signal();
    let client = options.connection.client("rutter-proxy").await?;
    let health = ProxyHealth::default();
    serve(options.healthz_bind_address, routes(health.clone())).await?;
    let metrics_page = axum::Router::new()
        .route("/metrics", get(|| async { component::metrics_text() }))
        .route("/healthz", get(|| async { "ok" }))
        .route("/proxyMode", get(|| async { "iptables" }));
    serve(options.metrics_bind_address, metrics_page).await?;
    let metrics = Metrics::new()?;

    let world = World::new(&client, node_name(options.hostname_override.as_deref()));
    let mut families: Vec<Family> = Vec::new();
    for v6 in [false, true] {
        let iptables = Iptables::new(v6);
        if iptables.usable() {
            families.push(Family {
                v6,
                iptables,
                ports: Vec::new(),
            });
        } else {
            anyhow::ensure!(
                v6,
                "iptables doesn't work on this machine: is it installed, and is this process root?"
            );
            tracing::info!("ip6tables doesn't work here: Services get IPv4 rules only");
        }
    }
    if options.iptables_localhost_nodeports {
        // Without it the kernel takes answers to 127.0.0.1 for forged.
        let _ = std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1");
    }
    let mut health_servers = HealthPorts::new(IpAddr::from([0u8; 4]), health.clone());
    let changed = world.changes();
    world.synced().await;

    loop {
        health.queued(Instant::now());
        health.set_eligible(world.eligible());
        let synced = sync(&options, &world, &mut families, &mut health_servers, &metrics).await;
        let mut wait = options.iptables_sync_period;
        match synced {
            Ok(()) => health.updated(Instant::now()),
            Err(error) => {
                metrics.failures.inc();
                tracing::warn!("changing the rules: {error:#}");
                wait = wait.min(Duration::from_secs(1));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = changed.notified() => tokio::time::sleep(options.iptables_min_sync_period).await,
            () = tokio::time::sleep(wait) => check(&mut families),
        }
    }
}

/// Finds rules that another program took away.
fn check(families: &mut [Family]) {
    for family in families {
        if !family.iptables.intact() {
            tracing::warn!(
                v6 = family.v6,
                "rules were removed by another program; writing all again"
            );
            family.iptables.forget();
        }
    }
}

async fn sync(
    options: &Options,
    world: &World,
    families: &mut [Family],
    health: &mut HealthPorts,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    let place = world.place();
    let began = Instant::now();
    let (mut total, mut written) = (0, 0);
    let mut wanted_health = BTreeMap::new();
    for family in families.iter_mut() {
        let of_family = |nets: &[IpNet]| -> Vec<IpNet> {
            nets.iter()
                .filter(|n| matches!(n, IpNet::V6(_)) == family.v6)
                .copied()
                .collect()
        };
        let config = Config {
            v6: family.v6,
            place: place.clone(),
            cluster_cidrs: of_family(&options.cluster_cidr),
            masquerade_all: options.masquerade_all,
            masquerade_bit: options.iptables_masquerade_bit,
            localhost_node_ports: options.iptables_localhost_nodeports,
            node_port_networks: of_family(&options.nodeport_addresses),
            conntrack_liberal: liberal(),
        };
        let ports = world.ports(family.v6, &place);
        let rules = render(&config, &ports);
        total += rules
            .nat
            .values()
            .chain(rules.filter.values())
            .map(Vec::len)
            .sum::<usize>();
        let iptables = &mut family.iptables;
        written += tokio::task::block_in_place(|| iptables.apply(&rules))?;
        let deletions = conntrack::plan(&family.ports, &ports, &place);
        tokio::task::block_in_place(|| conntrack::perform(&deletions));
        wanted_health.extend(health_ports(&ports, &place));
        family.ports = ports;
    }
    health.sync(wanted_health).await;
    if written > 0 {
        metrics.sync.observe(began.elapsed().as_secs_f64());
        metrics.syncs.inc();
        tracing::debug!(
            rules = total,
            bytes = written,
            millis = began.elapsed().as_millis() as u64,
            "rules changed"
        );
    }
    metrics.rules.set(i64::try_from(total).unwrap_or(i64::MAX));
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    metrics.last.set(now.as_secs_f64());
    Ok(())
}

fn liberal() -> bool {
    std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
        .is_ok_and(|t| t.trim() == "1")
}
