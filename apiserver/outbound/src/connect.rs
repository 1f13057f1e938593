//! Connections to an endpoint: resolve, dial, TLS.

use crate::body::Stream;
use crate::endpoint::{Endpoint, EndpointError, ServiceReference};
use crate::error::Failure;
use crate::resolve::{Place, ServiceResolver};
use crate::tls;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long one address is tried.
const DIAL: Duration = Duration::from_secs(10);

/// What an endpoint's connections are made from.
pub(crate) struct Target {
    place: Place,
    service: Option<ServiceReference>,
    resolver: Arc<dyn ServiceResolver>,
    /// None for plain HTTP.
    tls: Option<Tls>,
}

struct Tls {
    name: ServerName<'static>,
    /// Offers what the endpoint allows.
    pooled: TlsConnector,
    /// Offers HTTP/1.1 alone, which upgrades need.
    http1: TlsConnector,
}

impl Target {
    pub(crate) fn new(
        endpoint: &Endpoint,
        resolver: Arc<dyn ServiceResolver>,
    ) -> Result<Self, EndpointError> {
        let host = endpoint.url.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let secure = endpoint.url.scheme_str() == Some("https");
        let tls = if secure {
            let name = endpoint.server_name.as_deref().unwrap_or(bare);
            let name = ServerName::try_from(name.to_owned()).map_err(|error| EndpointError::Url {
                url: endpoint.url.to_string(),
                why: error.to_string(),
            })?;
            let (both, one): (&[&[u8]], &[&[u8]]) = (&[b"h2", b"http/1.1"], &[b"http/1.1"]);
            let make = |protocols| -> Result<TlsConnector, EndpointError> {
                let config = tls::client_config(&endpoint.trust, endpoint.identity.as_ref(), protocols)?;
                Ok(Arc::new(config).into())
            };
            let http1 = make(one)?;
            let pooled = if endpoint.http2 {
                make(both)?
            } else {
                http1.clone()
            };
            Some(Tls { name, pooled, http1 })
        } else {
            None
        };
        Ok(Self {
            place: Place {
                host: bare.to_owned(),
                port: endpoint.url.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            },
            service: endpoint.service.clone(),
            resolver,
            tls,
        })
    }

    /// A connection, and whether HTTP/2 was agreed on.
    pub(crate) async fn connect(&self, upgradable: bool) -> Result<(Box<dyn Stream>, bool), Failure> {
        let stream = self.dial().await?;
        let Some(tls) = &self.tls else {
            return Ok((Box::new(stream), false));
        };
        let connector = if upgradable { &tls.http1 } else { &tls.pooled };
        let shaken = tokio::time::timeout(DIAL, connector.connect(tls.name.clone(), stream)).await;
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(tls_failure(&error)),
            Err(_) => return Err(Failure::Tls("net/http: TLS handshake timeout".to_owned())),
        };
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(stream), http2))
    }

    async fn dial(&self) -> Result<TcpStream, Failure> {
        let places = match &self.service {
            Some(service) => self
                .resolver
                .resolve(&service.namespace, &service.name, service.port)
                .map_err(|error| Failure::Resolve(error.to_string()))?,
            None => vec![self.place.clone()],
        };
        let mut last = Failure::Resolve("no address".to_owned());
        for place in places {
            match dial(&place).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    last = Failure::Connect(format!("dial tcp {place}: {}", describe_dial(&error)));
                }
            }
        }
        Err(last)
    }
}

/// Opens a TCP connection within a bounded time.
pub(crate) async fn dial(place: &Place) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect((place.host.as_str(), place.port));
    match tokio::time::timeout(DIAL, connecting).await {
        Ok(stream) => {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")),
    }
}

/// Why no connection came about, in Go's words.
pub(crate) fn describe_dial(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    }
}

fn tls_failure(error: &io::Error) -> Failure {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(inner) => Failure::Tls(tls::describe(inner)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Failure::Tls("EOF".to_owned()),
        None => Failure::Tls(error.to_string()),
    }
}

/// The connector of a pool: whatever the URI, it connects to its target.
#[derive(Clone)]
pub(crate) struct Connector(pub(crate) Arc<Target>);

/// A failure on its way through the pool.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failed(pub(crate) Failure);

impl tower::Service<Uri> for Connector {
    type Response = Pooled;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Pooled, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let target = self.0.clone();
        Box::pin(async move {
            let (stream, http2) = target.connect(false).await.map_err(Failed)?;
            Ok(Pooled {
                stream: TokioIo::new(stream),
                http2,
            })
        })
    }
}

/// A connection in the pool.
pub(crate) struct Pooled {
    stream: TokioIo<Box<dyn Stream>>,
    http2: bool,
}

impl Connection for Pooled {
    fn connected(&self) -> Connected {
        if self.http2 {
            Connected::new().negotiated_h2()
        } else {
            Connected::new()
        }
    }
}

impl hyper::rt::Read for Pooled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Pooled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
