//! HTTP/2 over TLS with as little as possible between a workload and the socket.

use crate::access::Access;
use anyhow::Context as _;
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderValue, Method, Request, header};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What a stream may send before it is read; as in Go's client.
const STREAM_WINDOW: u32 = 4 << 20;
/// What a connection may.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// How long an answer may take to begin, and each piece of its body to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A request, encoded.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// The media type of the body.
    pub(crate) content: &'static str,
    /// The media type that is wanted.
    pub(crate) accept: &'static str,
    pub(crate) body: Bytes,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    /// How long the server wants to be left alone: `Retry-After`, in whole seconds.
    pub(crate) retry_after: Option<Duration>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) String);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        Self(format!("connection: {error}"))
    }
}

/// An open connection; clones share it.
#[derive(Clone)]
pub(crate) struct Wire {
    requests: SendRequest<Bytes>,
    /// Scheme, host and port, and what comes before each path.
    base: Arc<str>,
    token: Option<HeaderValue>,
}

/// How connections are made.
pub(crate) struct Dialer {
    tls: TlsConnector,
    host: ServerName<'static>,
    address: (String, u16),
    base: Arc<str>,
    token: Option<HeaderValue>,
}

impl Dialer {
    pub(crate) fn new(access: &Access) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match &access.authorities {
            Some(authorities) => {
                let mut roots = RootCertStore::empty();
                for authority in authorities {
                    roots.add(authority.clone())?;
                }
                builder.with_root_certificates(roots)
            }
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        };
        let mut config = match &access.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let token = access.token.as_ref();
        let name = access.server_name.as_ref().unwrap_or(&access.host);
        let host = match access.host.contains(':') {
            true => format!("[{}]", access.host),
            false => access.host.clone(),
        };
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            host: ServerName::try_from(name.clone())?,
            address: (access.host.clone(), access.port),
            base: format!("https://{host}:{}{}", access.port, access.prefix).into(),
            token: token
                .map(|token| HeaderValue::from_str(&format!("Bearer {token}")))
                .transpose()?,
        })
    }

    pub(crate) async fn dial(&self) -> anyhow::Result<Wire> {
        let (host, port) = &self.address;
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.host.clone(), stream).await?;
        anyhow::ensure!(
            stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            "the server does not speak HTTP/2"
        );
        Wire::over(stream, self.base.clone(), self.token.clone()).await
    }

    /// Several connections.
    pub(crate) async fn dial_many(&self, count: usize) -> anyhow::Result<Vec<Wire>> {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count.max(1) {
            all.push(
                self.dial()
                    .await
                    .with_context(|| format!("connecting to {}", self.base))?,
            );
        }
        Ok(all)
    }
}

impl Wire {
    /// Speaks over a stream that is already connected. `base` comes before each path.
    pub(crate) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        base: Arc<str>,
        token: Option<HeaderValue>,
    ) -> anyhow::Result<Self> {
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake(stream)
            .await?;
        // Its end shows up as the failure of what was asked over it.
        tokio::spawn(async { drop(connection.await) });
        Ok(Self {
            requests,
            base,
            token,
        })
    }

    /// Sends a request; the status and the body to come.
    pub(crate) async fn open(&self, call: &Call) -> Result<(u16, h2::RecvStream), Broken> {
        let answer = self.send(call).await?;
        Ok((answer.status().as_u16(), answer.into_body()))
    }

    /// Sends a request; the answer's head, with its body to come.
    pub(crate) async fn send(&self, call: &Call) -> Result<http::Response<h2::RecvStream>, Broken> {
        let bad = |error: http::Error| Broken(format!("request: {error}"));
        let mut builder = Request::builder()
            .method(call.method.clone())
            .uri(format!("{}{}", self.base, call.path))
            .header(header::ACCEPT, HeaderValue::from_static(call.accept))
            .header(header::USER_AGENT, HeaderValue::from_static("rutter-bench"));
        if !call.body.is_empty() {
            builder = builder
                .header(header::CONTENT_TYPE, HeaderValue::from_static(call.content))
                .header(header::CONTENT_LENGTH, call.body.len());
        }
        if let Some(token) = &self.token {
            builder = builder.header(header::AUTHORIZATION, token.clone());
        }
        let request = builder.body(()).map_err(bad)?;
        let answer = async {
            let mut requests = self.requests.clone().ready().await?;
            let (answer, mut body) = requests.send_request(request, call.body.is_empty())?;
            if !call.body.is_empty() {
                body.send_data(call.body.clone(), true)?;
            }
            answer.await
        };
        Ok(tokio::time::timeout(PATIENCE, answer).await.map_err(late)??)
    }

    /// Sends a request and shows each piece of the answer's body.
    pub(crate) async fn call(&self, call: &Call, mut see: impl FnMut(&[u8])) -> Result<Answer, Broken> {
        let answer = self.send(call).await?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(seconds);
        let mut body = answer.into_body();
        let mut bytes = 0;
        while let Some(piece) = tokio::time::timeout(PATIENCE, read(&mut body))
            .await
            .map_err(late)??
        {
            bytes += piece.len() as u64;
            see(&piece);
        }
        Ok(Answer {
            status,
            bytes,
            retry_after,
        })
    }

    /// Sends a request and keeps the answer's body: for small ones.
    pub(crate) async fn fetch(&self, call: &Call) -> Result<(u16, Vec<u8>), Broken> {
        let mut body = Vec::new();
        let answer = self.call(call, |piece| body.extend_from_slice(piece)).await?;
        Ok((answer.status, body))
    }
}

/// Takes any certificate, if whoever shows it has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn late(_: tokio::time::error::Elapsed) -> Broken {
    Broken("no answer in time".to_owned())
}

/// `Retry-After` as a number of seconds; a date is not heeded, as by Kubernetes' own client.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    Some(Duration::from_secs(value.to_str().ok()?.parse().ok()?))
}

/// The next piece of a body; none at its end.
pub(crate) async fn read(body: &mut h2::RecvStream) -> Result<Option<Bytes>, Broken> {
    let piece = match body.data().await {
        None => return Ok(None),
        // The answer is complete; the server only doesn't want the rest of the request (RFC 9113, 8.1).
        Some(Err(error)) if error.is_reset() && error.reason() == Some(h2::Reason::NO_ERROR) => {
            return Ok(None);
        }
        Some(piece) => piece?,
    };
    body.flow_control().release_capacity(piece.len())?;
    Ok(Some(piece))
}
