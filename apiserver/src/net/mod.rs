//! The network edge: TLS with optional client certificates, HTTP/1.1 and HTTP/2 on one port, and a graceful end.

mod batched;
mod certificates;
mod settings;

pub use certificates::{CertificateError, Certificates};
pub use settings::{Tls, TlsError};

use crate::answer::Body;
use crate::corridor::{self, Connection};
use crate::server::Server;
use batched::Batched;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{HttpService, Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many connections are open at most.
const MOST_CONNECTIONS: usize = 20_000;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long headers may take to come.
const HEADERS: Duration = Duration::from_secs(30);
/// How large all headers of a request may be.
const HEADER_BYTES: u32 = 256 * 1024;
/// How many requests one HTTP/2 connection carries at once.
const STREAMS: u32 = 250;
/// How much of a body a client may send before it is asked for.
const STREAM_WINDOW: u32 = 256 * 1024;
/// How much of all bodies.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How much of an answer waits in memory for a client to take it.
pub(crate) const SEND_BUFFER: usize = 128 * 1024;
/// How long requests may take to end when the server stops.
const DRAIN: Duration = Duration::from_secs(60);

/// Serves until `stop`, then drains: no new connections, running requests end, watches are told to.
pub async fn serve(server: Arc<Server>, listener: TcpListener, tls: Arc<Tls>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
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
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(%peer, "too many connections");
            continue;
        };
        let (server, acceptor, stop) = (server.clone(), TlsAcceptor::from(tls.current()), stop.clone());
        tracker.spawn(async move {
            connection(server, acceptor, stream, stop).await;
            drop(place);
        });
    }
    drop(listener);
    server.health.stop();
    tracker.close();
    if tokio::time::timeout(DRAIN + server.bounds.parting, tracker.wait())
        .await
        .is_err()
    {
        tracing::warn!("some requests did not end in time");
    }
}

async fn connection(server: Arc<Server>, acceptor: TlsAcceptor, stream: TcpStream, stop: CancellationToken) {
    let Ok(peer) = stream.peer_addr() else { return };
    let _ = stream.set_nodelay(true);
    let tls = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let about = Arc::new(Connection {
        certificates: certificates
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect(),
        peer,
        leave: CancellationToken::new(),
        sever: CancellationToken::new(),
    });
    let (leave, sever) = (about.leave.clone(), about.sever.clone());
    let service = service_fn(move |request| {
        let (server, about) = (server.clone(), about.clone());
        async move { Ok::<_, Infallible>(corridor::handle(server, about, request).await) }
    });
    let serving = async move {
        if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
            http2(peer, tls, service, stop, leave).await;
        } else {
            http1(peer, tls, service, stop, leave).await;
        }
    };
    tokio::select! {
        () = serving => {}
        () = sever.cancelled() => tracing::info!(%peer, "the client takes nothing of its answer: connection ended"),
    }
}

/// Serves a connection that negotiated nothing.
async fn http1<S>(
    peer: SocketAddr,
    tls: TlsStream<TcpStream>,
    service: S,
    stop: CancellationToken,
    leave: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEADER_BYTES as usize);
    // A client that did not negotiate may speak HTTP/2 all the same.
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(tls), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        // The client is told to send no more here; what it has sent is answered.
        () = leave.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// Serves a connection that negotiated HTTP/2.
async fn http2<S>(
    peer: SocketAddr,
    tls: TlsStream<TcpStream>,
    service: S,
    stop: CancellationToken,
    leave: CancellationToken,
) where
    S: HttpService<Incoming, ResBody = Body, Error = Infallible> + Unpin,
    S::Future: Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    let mut serving = pin!(builder.serve_connection(TokioIo::new(Batched::new(tls)), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        () = leave.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
