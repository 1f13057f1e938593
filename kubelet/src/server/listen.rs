//! Accepting connections: TLS with a certificate that may be replaced while serving, and client certificates that callers may show.

use super::Server;
use super::access::certificate_user;
use arc_swap::ArcSwap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// The serving certificate as it is now.
#[derive(Debug)]
pub(crate) struct CurrentCertificate(pub(crate) ArcSwap<CertifiedKey>);

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The TLS settings; with roots, callers may show a certificate that one of them has signed.
pub(crate) fn tls(
    certificate: Arc<CurrentCertificate>,
    client_roots: Vec<CertificateDer<'static>>,
) -> anyhow::Result<rustls::ServerConfig> {
    let builder = rustls::ServerConfig::builder();
    let builder = if client_roots.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut store = rustls::RootCertStore::empty();
        for root in client_roots {
            store.add(root)?;
        }
        let verifier = WebPkiClientVerifier::builder(Arc::new(store))
            .allow_unauthenticated()
            .build()?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves until stopped.
pub(crate) async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    config: rustls::ServerConfig,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(server.clone(), acceptor.clone(), stream, peer));
    }
}

async fn connection(
    server: Arc<Server>,
    acceptor: TlsAcceptor,
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
) {
    let handshake = tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await;
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let caller = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|c| c.first())
        .and_then(|c| certificate_user(c));
    let service = service_fn(move |request| {
        let server = server.clone();
        let caller = caller.clone();
        async move { Ok::<_, Infallible>(server.answer(request, caller).await) }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    if let Err(error) = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}

/// Answers `/healthz` in plain HTTP on loopback.
pub(crate) async fn serve_health(server: Arc<Server>, listener: TcpListener, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let server = server.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let server = server.clone();
                async move {
                    let response = match (request.uri().path(), server.pleg.problem()) {
                        ("/healthz" | "/healthz/ping" | "/healthz/syncloop", None) => {
                            super::api::text(http::StatusCode::OK, "ok")
                        }
                        ("/healthz" | "/healthz/ping" | "/healthz/syncloop", Some(problem)) => {
                            super::api::text(http::StatusCode::INTERNAL_SERVER_ERROR, problem)
                        }
                        _ => super::api::text(http::StatusCode::NOT_FOUND, "404 page not found"),
                    };
                    Ok::<_, Infallible>(response)
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
