//! The connection below [`crate::rest`]: TLS and credentials by `kube`, over TCP that notices a server that is gone.
//!
//! Watches, logs and terminals may be silent for hours, so silence says nothing; the kernel asks the other side instead
//! and ends the connection when there is no answer.

use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use std::time::Duration;
use tower::{BoxError, ServiceBuilder};
use tower_http::decompression::DecompressionLayer;

/// How long a connection is silent before the other side is asked whether it is there.
const IDLE: Duration = Duration::from_secs(30);
/// How long an answer is waited for before asking again.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often is asked before the connection counts as broken.
const PROBES: u32 = 3;

/// A client for the configuration.
///
/// # Errors
/// Certificates or credentials that can't be used.
pub fn client(config: kube::Config) -> Result<kube::Client, kube::Error> {
    if config.proxy_url.is_some() {
        // The proxy's connection is kube's to make.
        return kube::Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    tcp.set_keepalive(Some(IDLE));
    tcp.set_keepalive_interval(Some(INTERVAL));
    tcp.set_keepalive_retries(Some(PROBES));
    // What was sent and isn't acknowledged counts as well.
    tcp.set_tcp_user_timeout(Some(IDLE + INTERVAL * PROBES));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(
            DecompressionLayer::new()
                .no_br()
                .no_deflate()
                .no_zstd()
                .gzip(!config.disable_compression),
        )
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(HyperClient::builder(TokioExecutor::new()).build::<_, Body>(tls));
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}
