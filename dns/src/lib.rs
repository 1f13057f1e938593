//! Cluster DNS: names of Services, their endpoints and pods, answered from watches; all other names are forwarded.

pub mod objects;
pub mod server;
pub mod zone;

use anyhow::Context as _;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use clap::Parser;
use hickory_resolver::TokioResolver;
use objects::Cluster;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts};
use rutter_client::component::{self, LogArgs};
use rutter_client::connect::ConnectionArgs;
use rutter_client::election::duration;
use rutter_client::informer::Informers;
use server::{Handler, Metrics};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Flags of `rutter-dns`.
#[derive(Debug, Parser)]
#[command(name = "rutter-dns", version = component::version_text(), about = "Cluster DNS")]
pub struct Options {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    log: LogArgs,
    /// The cluster's zone.
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    cluster_domain: String,
    /// The address to serve on.
    #[arg(long, value_name = "IP", default_value = "::")]
    bind_address: IpAddr,
    /// The port for DNS over UDP and TCP.
    #[arg(long, value_name = "PORT", default_value_t = 53)]
    port: u16,
    /// The port for /livez and /readyz over HTTP.
    #[arg(long, value_name = "PORT", default_value_t = 8181)]
    health_port: u16,
    /// The port for /metrics over HTTP.
    #[arg(long, value_name = "PORT", default_value_t = 9153)]
    metrics_port: u16,
    /// The file that names the servers to ask for names outside the cluster; empty for none.
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: String,
    /// How long to go on answering after being told to stop, while others learn of it and a successor starts.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    lameduck_duration: Duration,
}

fn metrics() -> anyhow::Result<Metrics> {
    let registry = prometheus::default_registry();
    let metrics = Metrics {
        requests: IntCounterVec::new(
            Opts::new("coredns_dns_requests_total", "Questions by type"),
            &["type"],
        )?,
        responses: IntCounterVec::new(
            Opts::new("coredns_dns_responses_total", "Answers by code"),
            &["rcode"],
        )?,
        duration: Histogram::with_opts(HistogramOpts::new(
            "coredns_dns_request_duration_seconds",
            "Time to answer",
        ))?,
    };
    registry.register(Box::new(metrics.requests.clone()))?;
    registry.register(Box::new(metrics.responses.clone()))?;
    registry.register(Box::new(metrics.duration.clone()))?;
    Ok(metrics)
}

fn upstream(path: &str) -> anyhow::Result<Option<TokioResolver>> {
    let text = if path.is_empty() {
        String::new()
    } else {
        std::fs::read_to_string(path).unwrap_or_default()
    };
    if !text
        .lines()
        .any(|line| line.trim_start().starts_with("nameserver"))
    {
        tracing::info!("no other name server is known: names outside the cluster are refused");
        return Ok(None);
    }
    let (config, mut options) =
        hickory_resolver::system_conf::parse_resolv_conf(&text).with_context(|| format!("reading {path}"))?;
    // Names come as they are meant: searching is the asker's.
    options.ndots = 0;
    let config = hickory_resolver::config::ResolverConfig::from_parts(
        None,
        Vec::new(),
        config.name_servers().to_vec(),
    );
    let mut builder = TokioResolver::builder_with_config(config, Default::default());
    *builder.options_mut() = options;
    Ok(Some(
        builder
            .build()
            .context("making the resolver of names outside the cluster")?,
    ))
}

async fn http(address: SocketAddr, router: Router) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address}"))?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

/// Binds a dual-stack address where there is IPv6, else the IPv4 one.
fn addresses(given: IpAddr, port: u16) -> Vec<SocketAddr> {
    let mut all = vec![SocketAddr::new(given, port)];
    if given == IpAddr::from([0u16; 8]) {
        all.push(SocketAddr::new(IpAddr::from([0u8; 4]), port));
    }
    all
}

async fn bind<T, F, Fut>(candidates: &[SocketAddr], open: F) -> anyhow::Result<T>
where
    F: Fn(SocketAddr) -> Fut,
    Fut: Future<Output = std::io::Result<T>>,
{
    let mut last = None;
    for address in candidates {
        match open(*address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => {
                last = Some(anyhow::Error::new(error).context(format!("listening on {address} for DNS")))
            }
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("no address to listen on")))
}

/// Serves until it is told to stop.
///
/// # Errors
/// When a port can't be bound or the apiserver's address is unknown.
pub async fn run(options: Options) -> anyhow::Result<()> {
    component::init_logging(&options.log);
    let stop = component::shutdown_signal();
    let ready = Arc::new(AtomicBool::new(false));
    let health = {
        let ready = ready.clone();
        let readyz = move || {
            let code = if ready.load(Ordering::Acquire) {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            async move {
                (
                    code,
                    if code == StatusCode::OK {
                        "ok"
                    } else {
                        "the first lists are not in yet"
                    },
                )
            }
        };
        Router::new()
            .route("/livez", get(|| async { "ok" }))
            .route("/readyz", get(readyz))
    };
    let metrics_page = Router::new().route("/metrics", get(|| async { component::metrics_text() }));
    let health_at = bind(
        &addresses(options.bind_address, options.health_port),
        |a| async move { tokio::net::TcpListener::bind(a).await.map(|_| a) },
    )
    .await?;
    http(health_at, health).await?;
    http(
        SocketAddr::new(health_at.ip(), options.metrics_port),
        metrics_page,
    )
    .await?;

    let client = options.connection.client("rutter-dns").await?;
    let cluster = Cluster::new(&Informers::new(client));
    cluster.synced().await;

    let handler = Handler::new(
        &options.cluster_domain,
        cluster,
        upstream(&options.resolv_conf)?,
        metrics()?,
    );
    let mut server = hickory_server::Server::new(handler);
    let candidates = addresses(options.bind_address, options.port);
    server.register_socket(bind(&candidates, tokio::net::UdpSocket::bind).await?);
    server.register_listener(
        bind(&candidates, tokio::net::TcpListener::bind).await?,
        Duration::from_secs(10),
        64,
    );
    ready.store(true, Ordering::Release);
    tracing::info!(domain = options.cluster_domain, "serving DNS");
    stop.cancelled().await;
    // Ready until the end: a server that is told to stop and still serves is what traffic goes to when there is no other.
    tokio::time::sleep(options.lameduck_duration).await;
    ready.store(false, Ordering::Release);
    server
        .shutdown_gracefully()
        .await
        .context("ending the DNS server")?;
    Ok(())
}
