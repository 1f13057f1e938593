//! Wiring: from flags to a serving server.

use crate::access::{Background, authentication, authorization, reload};
use crate::aggregate::Aggregate;
use crate::bootstrap;
use crate::cache::{CacheReader, Folders, ObjectDecoder};
use crate::corridor::Bounds;
use crate::corridor::inflight::Limits;
use crate::corridor::memory::Memory;
use crate::fairness::Fairness;
use crate::forms::Forms;
use crate::metrics::Metrics;
use crate::net::{self, Certificates, Tls};
use crate::options::{Options, Storage};
use crate::quota::QuotaStatus;
use crate::registry::hooks::Hooks;
use crate::registry::services::{NODE_PORTS, Services};
use crate::serve::documents::Documents;
use crate::serve::health::Health;
use crate::server::{Served, Server, TokenKeys};
use crate::streaming::{AddressType, KubeletConfig, Streaming};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use rutter_admission::metrics::WebhookMetrics;
use rutter_admission::{Chain, Dependencies};
use rutter_api::Scheme;
use rutter_auth::authenticate::ClientCertificates;
use rutter_auth::authenticate::service_account::discovery;
use rutter_auth::authenticate::service_account::issue::{Issuer, TokenRequests};
use rutter_auth::authenticate::service_account::keys::{SigningKey, VerifyingKey};
use rutter_auth::system_clock;
use rutter_encryption::Encryption;
use rutter_outbound::tls::Identity;
use rutter_outbound::{ClusterAddresses, EndpointAddresses, Outbound, ServiceResolver};
use rutter_storage::Engine;
use rutter_storage::cache::{CacheMetrics, Options as CacheOptions, WatchCache};
use rutter_storage::engine::{
    EmbeddedEngine, EmbeddedOptions, EtcdEngine, EtcdOptions, MemoryEngine, MeteredEngine, TransformingEngine,
};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long it may take to take this server's endpoint out, and to deliver the last audit records.
const ENDPOINT: Duration = Duration::from_secs(10);
const RECORDS: Duration = Duration::from_secs(30);

/// Runs the server until a signal ends it.
pub async fn run(options: Options) -> anyhow::Result<()> {
    rutter_client::component::init_logging(&options.logging);
    let stop = rutter_client::component::shutdown_signal();
    let metrics = Metrics::new()?;
    let engine = engine(&options, &metrics).await?;
    let encryption = encryption(&options, &metrics).await?;
    let forms = Arc::new(Forms::new(encryption.clone()));
    let engine: Arc<dyn Engine> = Arc::new(TransformingEngine::new(engine, forms));
    let built = build(&options, engine, metrics)?;
    let certificates = Arc::new(Certificates::load(
        &options.tls_cert_file,
        &options.tls_private_key_file,
        &special_certificates(&options)?,
    )?);
    tokio::spawn(certificates.clone().follow(stop.clone()));
    let tls = Arc::new(Tls::new(
        certificates,
        &options.tls_min_version,
        &options.tls_cipher_suites,
        subjects(&built.authorities),
    )?);
    let address = SocketAddr::new(options.bind_address, options.secure_port);
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let server = built.server;
    let reload = options.encryption_provider_config_automatic_reload;
    if reload || encryption.has_plugins() {
        server.health.watch_plugins(encryption.clone());
    }
    if let Some(file) = options.encryption_provider_config.clone().filter(|_| reload) {
        tokio::spawn(encryption.follow(file, stop.clone()));
    }
    tracing::info!(%address, "serving");
    let bootstrap = tokio::spawn(bootstrap::run(
        server.clone(),
        bootstrap_settings(&options),
        stop.clone(),
    ));
    // All else goes on while the last requests are served.
    let serving = CancellationToken::new();
    tokio::spawn(crate::crd::follow(server.clone(), serving.clone()));
    if let Some(fairness) = server.fairness.clone() {
        tokio::spawn(crate::fairness::run(fairness, server.clone(), serving.clone()));
    }
    tokio::spawn(crate::aggregate::follow::follow(server.clone(), serving.clone()));
    for background in built.background {
        tokio::spawn(background(server.clone(), serving.clone()));
    }
    tokio::spawn(follow_authorities(
        server.clone(),
        options.clone(),
        built.authorities,
        tls.clone(),
        serving.clone(),
    ));
    tokio::spawn(follow_identity(server.clone(), options.clone(), serving.clone()));
    let ending = CancellationToken::new();
    let served = tokio::spawn(net::serve(server.clone(), listener, tls, ending.clone()));
    stop.cancelled().await;
    shut_down(&server, &options, bootstrap, &ending, served).await?;
    serving.cancel();
    Ok(())
}

/// Ends step by step: not ready, its endpoint taken out, a while for clients to notice, no new requests, no watches, the records delivered.
async fn shut_down(
    server: &Server,
    options: &Options,
    bootstrap: JoinHandle<()>,
    ending: &CancellationToken,
    served: JoinHandle<()>,
) -> anyhow::Result<()> {
    tracing::info!(delay = ?options.shutdown_delay_duration, "shutting down");
    server.health.drain();
    tokio::time::sleep(options.shutdown_delay_duration).await;
    // The endpoint goes before the listener does, so that nobody new is sent here.
    let _ = tokio::time::timeout(ENDPOINT, bootstrap).await;
    if options.shutdown_send_retry_after {
        server.health.refuse();
        let _ = tokio::time::timeout(options.request_timeout, server.health.served()).await;
    }
    ending.cancel();
    served.await.context("serving ended badly")?;
    if let Some(audit) = &server.audit
        && tokio::time::timeout(RECORDS, audit.flush()).await.is_err()
    {
        tracing::warn!("some audit records were not delivered in time");
    }
    tracing::info!("shut down");
    Ok(())
}

/// A server, and what its listener needs.
pub struct Built {
    /// The server.
    pub server: Arc<Server>,
    /// The authorities of client certificates, with their files.
    pub authorities: Vec<(PathBuf, Arc<ClientCertificates>)>,
    /// What must run beside it.
    pub background: Vec<Background>,
}

fn subjects(authorities: &[(PathBuf, Arc<ClientCertificates>)]) -> Vec<rustls::DistinguishedName> {
    authorities.iter().flat_map(|(_, of)| of.subjects()).collect()
}

/// Takes changed files of authorities over: who is believed, who is told to bring a certificate, and what extension servers
/// are told to believe.
async fn follow_authorities(
    server: Arc<Server>,
    options: Options,
    authorities: Vec<(PathBuf, Arc<ClientCertificates>)>,
    tls: Arc<Tls>,
    stop: CancellationToken,
) {
    let files = authorities.iter().map(|(file, _)| file.clone()).collect();
    let shared = Arc::new((server, options, authorities, tls));
    let changed = move || -> BoxFuture<'static, anyhow::Result<()>> {
        let shared = shared.clone();
        Box::pin(async move {
            let (server, options, authorities, tls) = &*shared;
            for (file, of) in authorities {
                of.reload(&read(file)?)
                    .with_context(|| format!("cannot use {}", file.display()))?;
            }
            tls.welcome(subjects(authorities))?;
            bootstrap::publish_authorities(server, &bootstrap_settings(options)).await?;
            Ok(())
        })
    };
    reload::follow("the authorities of client certificates", files, stop, changed).await;
}

/// The certificate that aggregated servers are shown.
fn proxy_identity(options: &Options) -> anyhow::Result<Option<Identity>> {
    let files = (&options.proxy_client_cert_file, &options.proxy_client_key_file);
    let (Some(certificate), Some(key)) = files else {
        return Ok(None);
    };
    Ok(Some(Identity {
        certificate: read(certificate)?.into(),
        key: read(key)?.into(),
    }))
}

async fn follow_identity(server: Arc<Server>, options: Options, stop: CancellationToken) {
    let files = [&options.proxy_client_cert_file, &options.proxy_client_key_file];
    let files = files.into_iter().flatten().cloned().collect();
    let changed = move || -> BoxFuture<'static, anyhow::Result<()>> {
        let taken = proxy_identity(&options).map(|identity| {
            if let Some(identity) = identity {
                server.aggregate.set_identity(identity, &*server.reader);
            }
        });
        Box::pin(std::future::ready(taken))
    };
    reload::follow("the proxy's client certificate", files, stop, changed).await;
}

async fn engine(options: &Options, metrics: &Metrics) -> anyhow::Result<Arc<dyn Engine>> {
    let storage = options.storage.unwrap_or(if options.etcd_servers.is_empty() {
        Storage::Embedded
    } else {
        Storage::Etcd
    });
    let engine: Arc<dyn Engine> = match storage {
        Storage::Memory => Arc::new(MemoryEngine::new()),
        Storage::Embedded => {
            std::fs::create_dir_all(&options.data_dir)
                .with_context(|| format!("cannot make {}", options.data_dir.display()))?;
            let file = options.data_dir.join("objects.redb");
            Arc::new(EmbeddedEngine::open(&file, EmbeddedOptions::default())?)
        }
        Storage::Etcd => {
            anyhow::ensure!(
                !options.etcd_servers.is_empty(),
                "--storage=etcd needs --etcd-servers"
            );
            let ca = options.etcd_cafile.as_deref().map(read).transpose()?;
            let identity = match (&options.etcd_certfile, &options.etcd_keyfile) {
                (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
                _ => None,
            };
            let connect = EtcdOptions {
                endpoints: options.etcd_servers.clone(),
                ca,
                identity,
                compaction_interval: Duration::from_secs(options.etcd_compaction_interval),
                ..EtcdOptions::default()
            };
            Arc::new(EtcdEngine::connect(connect).await?)
        }
    };
    Ok(Arc::new(MeteredEngine::new(engine, &metrics.registry)?))
}

/// What is encrypted in the store.
async fn encryption(options: &Options, metrics: &Metrics) -> anyhow::Result<Arc<Encryption>> {
    let folders = Folders::of(&rutter_kinds::builtin());
    let folders = folders.iter().map(|(folder, resource)| {
        let of = rutter_encryption::rules::Resource::new(&resource.plural, &resource.group_version.group);
        (folder.clone(), of)
    });
    let folders = folders.collect();
    let metrics = rutter_encryption::metrics::Metrics::register(&metrics.registry)?;
    let Some(file) = &options.encryption_provider_config else {
        return Ok(Arc::new(Encryption::none(folders, metrics)));
    };
    let identity = format!("{}:{}", advertised(options), options.secure_port);
    let encryption = Encryption::load(file, folders, metrics, &identity).await;
    Ok(Arc::new(encryption.context("cannot encrypt the store")?))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Puts a server together over a store. Must be called within a runtime.
pub fn build(options: &Options, engine: Arc<dyn Engine>, metrics: Metrics) -> anyhow::Result<Built> {
    let clock = system_clock();
    let scheme = rutter_kinds::builtin();
    let (cache, reader) = cache(&scheme, engine.clone(), &metrics)?;
    let signing = read(&options.service_account_signing_key_file)?;
    let key = SigningKey::parse(&signing)?;
    let keys = verifying_keys(options, &signing)?;
    let audiences = if options.api_audiences.is_empty() {
        options.service_account_issuer.clone()
    } else {
        options.api_audiences.clone()
    };
    let outbound = outbound(options, &reader);
    let authentication = authentication::build(&authentication::Sources {
        options,
        reader: &reader,
        clock: &clock,
        keys: &keys,
        audiences: &audiences,
        outbound: &outbound,
        metrics: &metrics.access,
    })?;
    let authorization = authorization::build(options, &reader, &clock, &outbound, &metrics.access)?;
    let mut background = authentication.background;
    background.extend(authorization.background);
    let aggregate = Aggregate::new(outbound.clone(), proxy_identity(options)?, &metrics.registry)?;
    let authorizer = authorization.authorizer;
    let quota = Arc::new(QuotaStatus::default());
    let told = crate::access::admission::read(options)?;
    let with = Dependencies {
        reader: reader.clone(),
        live: reader.clone(),
        quota: quota.clone(),
        authorizer: authorizer.clone(),
        clock: clock.clone(),
        not_ready_toleration_seconds: options.default_not_ready_toleration_seconds,
        unreachable_toleration_seconds: options.default_unreachable_toleration_seconds,
        pod_security: told.pod_security,
        event_rate_limit: told.event_rate_limit,
        mutating_webhooks: outbound.introduced_by(told.mutating),
        validating_webhooks: outbound.introduced_by(told.validating),
        webhook_metrics: WebhookMetrics::register(&metrics.registry)?,
    };
    let admission = Chain::new(
        &options.enable_admission_plugins,
        &options.disable_admission_plugins,
        &with,
    )?;
    let issuer = options
        .service_account_issuer
        .first()
        .cloned()
        .unwrap_or_default();
    let tokens = TokenRequests::new(
        Issuer {
            issuer: issuer.clone(),
            key,
        },
        audiences.clone(),
        reader.clone(),
        options.service_account_extend_token_expiration,
        Some(options.service_account_max_token_expiration).filter(|seconds| *seconds > 0),
    );
    let audit = crate::audit::build(&options.audit, &clock, &outbound, &metrics.registry)?;
    let seats = options.max_requests_inflight + options.max_mutating_requests_inflight;
    let fairness = match options.enable_priority_and_fairness {
        true if seats == 0 => anyhow::bail!(
            "--enable-priority-and-fairness needs seats: --max-requests-inflight and --max-mutating-requests-inflight are both 0"
        ),
        true => Some(Fairness::new(u32::try_from(seats)?, metrics.clone())?),
        false => None,
    };
    // A share of the time, as the wait for a turn has one, so that some is left for the work.
    let memory = Memory::new(
        options.max_requests_memory_mb,
        options.request_timeout / 4,
        &metrics,
    );
    let external = format!("{}:{}", advertised(options), options.secure_port);
    let jwks = options.service_account_jwks_uri.clone();
    let server = Arc::new(Server {
        served: ArcSwap::from_pointee(Served {
            scheme,
            ..Served::default()
        }),
        engine,
        cache,
        streaming: Streaming::new(reader.clone(), &kubelet(options)?)?,
        outbound,
        aggregate,
        reader,
        authenticator: authentication.authenticator,
        authorizer,
        impersonation: Default::default(),
        rbac: authorization.rbac,
        admission,
        hooks: Hooks::new(Services {
            ranges: options.service_cluster_ip_range.clone(),
            ports: options.service_node_port_range.0.clone(),
        }),
        tokens,
        token_keys: TokenKeys {
            issuer,
            jwks_uri: jwks.unwrap_or_else(|| format!("https://{external}{}", discovery::KEYS_PATH)),
            keys,
            audiences,
        },
        clock,
        metrics,
        health: Health::default(),
        audit,
        bounds: Bounds {
            request: options.request_timeout,
            watch: Duration::from_secs(options.min_request_timeout),
            parting: options.shutdown_watch_termination_grace_period,
            goaway: options.goaway_chance,
        },
        limits: Limits::new(
            options.max_requests_inflight,
            options.max_mutating_requests_inflight,
        ),
        memory,
        fairness,
        external_address: external,
        documents: Documents::default(),
    });
    quota.bind(&server);
    Ok(Built {
        server,
        authorities: authentication.authorities,
        background,
    })
}

fn cache(
    scheme: &Scheme,
    engine: Arc<dyn Engine>,
    metrics: &Metrics,
) -> anyhow::Result<(Arc<WatchCache>, Arc<CacheReader>)> {
    let folders = Arc::new(ArcSwap::from_pointee(Folders::of(scheme)));
    let decoder = Arc::new(ObjectDecoder::new(folders.clone()));
    let cache_options = CacheOptions {
        metrics: CacheMetrics::register(&metrics.registry)?,
        ..CacheOptions::default()
    };
    let cache = Arc::new(WatchCache::start(
        engine.clone(),
        "/registry/",
        decoder,
        cache_options,
    ));
    for (folder, resource) in folders.load().iter() {
        crate::cache::register(&cache, folder, resource);
    }
    cache.register(NODE_PORTS, "", "nodeports", &[]);
    let reader = Arc::new(CacheReader::new(cache.clone(), engine, folders));
    Ok((cache, reader))
}

fn verifying_keys(options: &Options, signing: &[u8]) -> anyhow::Result<Vec<VerifyingKey>> {
    if options.service_account_key_file.is_empty() {
        return Ok(VerifyingKey::parse_all(signing)?);
    }
    let mut keys = Vec::new();
    for file in &options.service_account_key_file {
        let found = VerifyingKey::parse_all(&read(file)?);
        keys.extend(found.with_context(|| format!("cannot use {}", file.display()))?);
    }
    Ok(keys)
}

/// The way to Services: by their addresses, or by their endpoints where no proxy runs.
fn outbound(options: &Options, reader: &Arc<CacheReader>) -> Outbound {
    let resolver: Arc<dyn ServiceResolver> = if options.enable_aggregator_routing {
        Arc::new(EndpointAddresses(reader.clone()))
    } else {
        Arc::new(ClusterAddresses(reader.clone()))
    };
    Outbound::new(resolver)
}

fn kubelet(options: &Options) -> anyhow::Result<KubeletConfig> {
    let mut address_types = Vec::new();
    for name in &options.kubelet_preferred_address_types {
        let parsed = AddressType::parse(name);
        address_types.push(parsed.with_context(|| format!("{name:?} is not a type of node address"))?);
    }
    let client = match (&options.kubelet_client_certificate, &options.kubelet_client_key) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        _ => None,
    };
    let authorities = options
        .kubelet_certificate_authority
        .as_deref()
        .map(read)
        .transpose()?;
    Ok(KubeletConfig {
        address_types,
        client,
        authorities,
    })
}

type Special = (std::path::PathBuf, std::path::PathBuf, Vec<String>);

fn special_certificates(options: &Options) -> anyhow::Result<Vec<Special>> {
    let parse = |text: &String| -> anyhow::Result<Special> {
        let (files, names) = text
            .split_once(':')
            .with_context(|| format!("{text:?} names no domains"))?;
        let (certificate, key) = files
            .split_once(',')
            .with_context(|| format!("{text:?} names no key"))?;
        let names = names.split(',').map(str::to_owned).collect();
        Ok((certificate.into(), key.into(), names))
    };
    options.tls_sni_cert_key.iter().map(parse).collect()
}

/// The address that the cluster reaches this server at.
fn advertised(options: &Options) -> IpAddr {
    if let Some(address) = options.advertise_address {
        return address;
    }
    if !options.bind_address.is_unspecified() && !options.bind_address.is_loopback() {
        return options.bind_address;
    }
    // Which address the default route leaves from; nothing is sent.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    socket.map_or(options.bind_address, |address| address.ip())
}

pub(crate) fn bootstrap_settings(options: &Options) -> bootstrap::Settings {
    let text = |file: &Option<std::path::PathBuf>| {
        file.as_deref()
            .and_then(|file| std::fs::read_to_string(file).ok())
    };
    bootstrap::Settings {
        address: advertised(options),
        port: options.secure_port,
        ranges: options.service_cluster_ip_range.clone(),
        client_ca: text(&options.client_ca_file),
        proxy_ca: text(&options.requestheader_client_ca_file),
        proxy_names: options.requestheader_allowed_names.clone(),
        user_headers: options.requestheader_username_headers.clone(),
        uid_headers: options.requestheader_uid_headers.clone(),
        group_headers: options.requestheader_group_headers.clone(),
        extra_prefixes: options.requestheader_extra_headers_prefix.clone(),
        rbac: options.authorization_mode.iter().any(|mode| mode == "RBAC"),
    }
}
