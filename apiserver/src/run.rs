//! Wiring: from flags to a serving server.

use crate::bootstrap;
use crate::cache::{CacheReader, Folders, ObjectDecoder};
use crate::corridor::inflight::Limits;
use crate::metrics::Metrics;
use crate::net::{self, Certificates};
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
use rutter_admission::metrics::WebhookMetrics;
use rutter_admission::{Chain, Dependencies};
use rutter_api::Scheme;
use rutter_auth::authenticate::service_account::issue::{Issuer, TokenRequests};
use rutter_auth::authenticate::service_account::keys::{SigningKey, VerifyingKey};
use rutter_auth::authenticate::service_account::{Config, discovery};
use rutter_auth::authenticate::x509::Possession;
use rutter_auth::authenticate::{
    Anonymous, BootstrapTokens, Cached, ClientCertificates, RequestHeader, ServiceAccountTokens, TokenFile,
    Union, request_header,
};
use rutter_auth::authorize::abac::Abac;
use rutter_auth::authorize::always::{AlwaysAllow, AlwaysDeny};
use rutter_auth::authorize::node::NodeAuthorizer;
use rutter_auth::authorize::rbac::Rbac;
use rutter_auth::authorize::union::Union as Authorizers;
use rutter_auth::{Authenticator, Authorizer, Clock, system_clock};
use rutter_outbound::{ClusterAddresses, EndpointAddresses, Outbound, ServiceResolver};
use rutter_storage::Engine;
use rutter_storage::cache::{CacheMetrics, Options as CacheOptions, WatchCache};
use rutter_storage::engine::{
    EmbeddedEngine, EmbeddedOptions, EtcdEngine, EtcdOptions, MemoryEngine, MeteredEngine,
};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Runs the server until a signal ends it.
pub async fn run(options: Options) -> anyhow::Result<()> {
    rutter_client::component::init_logging(&options.logging);
    let stop = rutter_client::component::shutdown_signal();
    let metrics = Metrics::new()?;
    let engine = engine(&options, &metrics).await?;
    let built = build(&options, engine, metrics)?;
    let certificates = Arc::new(Certificates::load(
        &options.tls_cert_file,
        &options.tls_private_key_file,
        &special_certificates(&options)?,
    )?);
    tokio::spawn(certificates.clone().follow(stop.clone()));
    let tls = net::tls_config(certificates, Possession::new(built.subjects))?;
    let address = SocketAddr::new(options.bind_address, options.secure_port);
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let server = built.server;
    tracing::info!(%address, "serving");
    let bootstrap = tokio::spawn(bootstrap::run(
        server.clone(),
        bootstrap_settings(&options),
        stop.clone(),
    ));
    tokio::spawn(crate::crd::follow(server.clone(), stop.clone()));
    let serving = tokio_util::sync::CancellationToken::new();
    let served = tokio::spawn(net::serve(server.clone(), listener, tls, serving.clone()));
    stop.cancelled().await;
    tracing::info!("shutting down");
    server.health.drain();
    tokio::time::sleep(Duration::from_secs(options.shutdown_delay_duration)).await;
    // The endpoint goes before the listener does, so that nobody new is sent here.
    let _ = bootstrap.await;
    serving.cancel();
    served.await.context("serving ended badly")
}

/// A server, and what its listener needs.
pub struct Built {
    /// The server.
    pub server: Arc<Server>,
    /// The authorities whose client certificates are welcome.
    pub subjects: Vec<rustls::DistinguishedName>,
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
    let (authenticator, subjects) = authenticator(options, &reader, &clock, &keys, &audiences)?;
    let (authorizer, rbac) = authorizer(options, &reader)?;
    let outbound = outbound(options, &reader);
    let quota = Arc::new(QuotaStatus::default());
    let with = Dependencies {
        reader: reader.clone(),
        live: reader.clone(),
        quota: quota.clone(),
        authorizer: authorizer.clone(),
        clock: clock.clone(),
        not_ready_toleration_seconds: options.default_not_ready_toleration_seconds,
        unreachable_toleration_seconds: options.default_unreachable_toleration_seconds,
        pod_security: Default::default(),
        event_rate_limit: Default::default(),
        outbound: outbound.clone(),
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
        reader,
        authenticator,
        authorizer,
        rbac,
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
        limits: Limits::new(
            options.max_requests_inflight,
            options.max_mutating_requests_inflight,
        ),
        external_address: external,
        documents: Documents::default(),
    });
    quota.bind(&server);
    Ok(Built { server, subjects })
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

type Authentication = (Arc<dyn Authenticator>, Vec<rustls::DistinguishedName>);

fn authenticator(
    options: &Options,
    reader: &Arc<CacheReader>,
    clock: &Clock,
    keys: &[VerifyingKey],
    audiences: &[String],
) -> anyhow::Result<Authentication> {
    let mut members: Vec<Arc<dyn Authenticator>> = Vec::new();
    let mut subjects = Vec::new();
    if let Some(file) = &options.requestheader_client_ca_file {
        let proxies = Arc::new(ClientCertificates::new(&read(file)?, clock.clone())?);
        subjects.extend(proxies.subjects());
        let headers = request_header::Headers {
            user: options.requestheader_username_headers.clone(),
            uid: options.requestheader_uid_headers.clone(),
            group: options.requestheader_group_headers.clone(),
            extra_prefix: options.requestheader_extra_headers_prefix.clone(),
        };
        let allowed = options.requestheader_allowed_names.clone();
        members.push(Arc::new(RequestHeader::new(proxies, allowed, headers)));
    }
    if let Some(file) = &options.client_ca_file {
        let clients = ClientCertificates::new(&read(file)?, clock.clone())?;
        subjects.extend(clients.subjects());
        members.push(Arc::new(clients));
    }
    let mut tokens: Vec<Arc<dyn Authenticator>> = Vec::new();
    if let Some(file) = &options.token_auth_file {
        let text = String::from_utf8(read(file)?).context("the token file is not UTF-8")?;
        tokens.push(Arc::new(TokenFile::parse(&text)?));
    }
    let config = Config {
        issuers: options.service_account_issuer.clone(),
        audiences: audiences.to_vec(),
        keys: keys.to_vec(),
        lookup: options.service_account_lookup,
    };
    tokens.push(Arc::new(ServiceAccountTokens::new(
        config,
        reader.clone(),
        clock.clone(),
    )));
    if options.enable_bootstrap_token_auth {
        tokens.push(Arc::new(BootstrapTokens::new(reader.clone(), clock.clone())));
    }
    members.push(Arc::new(Cached::new(
        Arc::new(Union::new(tokens, None)),
        clock.clone(),
    )));
    let anonymous: Option<Arc<dyn Authenticator>> = match options.anonymous_auth {
        true => Some(Arc::new(Anonymous)),
        false => None,
    };
    Ok((Arc::new(Union::new(members, anonymous)), subjects))
}

type Authorization = (Arc<dyn Authorizer>, Option<Arc<Rbac>>);

fn authorizer(options: &Options, reader: &Arc<CacheReader>) -> anyhow::Result<Authorization> {
    let mut authorizers: Vec<Arc<dyn Authorizer>> = Vec::new();
    let mut rbac = None;
    for mode in &options.authorization_mode {
        match mode.as_str() {
            "Node" => authorizers.push(Arc::new(NodeAuthorizer::new(reader.clone()))),
            "RBAC" => {
                let made = Arc::new(Rbac::new(reader.clone()));
                rbac = Some(made.clone());
                authorizers.push(made);
            }
            "ABAC" => {
                let file = options.authorization_policy_file.as_ref();
                let file = file.context("--authorization-mode=ABAC needs --authorization-policy-file")?;
                let text = String::from_utf8(read(file)?).context("the policy file is not UTF-8")?;
                authorizers.push(Arc::new(Abac::parse(&text)?));
            }
            "AlwaysAllow" => authorizers.push(Arc::new(AlwaysAllow)),
            "AlwaysDeny" => authorizers.push(Arc::new(AlwaysDeny)),
            other => anyhow::bail!("authorization mode {other:?} is unknown"),
        }
    }
    Ok((Arc::new(Authorizers::new(authorizers)), rbac))
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

/// The way to Services: by their addresses, or by their endpoints where no proxy runs.
fn outbound(options: &Options, reader: &Arc<CacheReader>) -> Outbound {
    let resolver: Arc<dyn ServiceResolver> = if options.enable_aggregator_routing {
        Arc::new(EndpointAddresses(reader.clone()))
    } else {
        Arc::new(ClusterAddresses(reader.clone()))
    };
    Outbound::new(resolver)
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
