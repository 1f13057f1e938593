//! Connections to kubelets and to what is proxied: TCP, and TLS where it is due.

use super::target::AddressType;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long one address is tried.
const CONNECT: Duration = Duration::from_secs(10);

/// How kubelets are reached.
#[derive(Clone, Debug, Default)]
pub struct KubeletConfig {
    /// `--kubelet-preferred-address-types`
    pub address_types: Vec<AddressType>,
    /// `--kubelet-client-certificate` and `--kubelet-client-key`: PEM.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
    /// `--kubelet-certificate-authority`: PEM. Without it kubelets' certificates are not verified, as in upstream.
    pub authorities: Option<Vec<u8>>,
}

/// Why kubelets cannot be reached with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum KubeletConfigError {
    /// A file is no PEM of what it should be.
    #[error("{0} is not valid PEM")]
    Pem(&'static str, #[source] rustls::pki_types::pem::Error),
    /// A certificate or key cannot be used.
    #[error("{0} cannot be used")]
    Tls(&'static str, #[source] rustls::Error),
}

/// What is spoken on top of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    /// Nothing.
    Plain,
    /// TLS without a look at the certificate: pods and services have any.
    Unverified,
    /// TLS with our certificate.
    Kubelet,
    /// The same where the caller waives verification.
    KubeletUnverified,
}

impl Security {
    pub(super) fn of_scheme(scheme: &str) -> Self {
        if scheme == "https" {
            Self::Unverified
        } else {
            Self::Plain
        }
    }
}

/// Any connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes connections.
pub(super) struct Dialer {
    kubelet: TlsConnector,
    kubelet_unverified: TlsConnector,
    unverified: TlsConnector,
}

impl Dialer {
    pub(super) fn new(config: &KubeletConfig) -> Result<Self, KubeletConfigError> {
        let any: Arc<dyn ServerCertVerifier> = Arc::new(AnyCertificate(aws_lc_rs::default_provider()));
        let kubelet_unverified = client(config, any.clone())?;
        let kubelet = match &config.authorities {
            None => kubelet_unverified.clone(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let what = "the kubelets' certification authority";
                    let certificate = certificate.map_err(|e| KubeletConfigError::Pem(what, e))?;
                    roots
                        .add(certificate)
                        .map_err(|e| KubeletConfigError::Tls(what, e))?;
                }
                let provider = Arc::new(aws_lc_rs::default_provider());
                let verifier =
                    rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|e| {
                            KubeletConfigError::Tls(
                                "the kubelets' certification authority",
                                rustls::Error::General(e.to_string()),
                            )
                        })?;
                client(config, verifier)?
            }
        };
        let unverified = client(&KubeletConfig::default(), any)?;
        Ok(Self {
            kubelet: kubelet.into(),
            kubelet_unverified: kubelet_unverified.into(),
            unverified: unverified.into(),
        })
    }

    /// Connects to the first host that can be reached, and says which.
    pub(super) async fn dial(
        &self,
        hosts: &[String],
        port: u16,
        security: Security,
    ) -> io::Result<Box<dyn Stream>> {
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
        for host in hosts {
            match tokio::time::timeout(CONNECT, self.dial_one(host, port, security)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => {
                    last = io::Error::new(error.kind(), format!("dial tcp {host}:{port}: {error}"))
                }
                Err(_) => {
                    last = io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("dial tcp {host}:{port}: i/o timeout"),
                    )
                }
            }
        }
        Err(last)
    }

    async fn dial_one(&self, host: &str, port: u16, security: Security) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let connector = match security {
            Security::Plain => return Ok(Box::new(stream)),
            Security::Unverified => &self.unverified,
            Security::Kubelet => &self.kubelet,
            Security::KubeletUnverified => &self.kubelet_unverified,
        };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}

fn client(
    config: &KubeletConfig,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Arc<ClientConfig>, KubeletConfigError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| KubeletConfigError::Tls("TLS", e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = &config.client else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let what = "the kubelet client certificate";
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| KubeletConfigError::Pem(what, e))?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|e| KubeletConfigError::Pem("the kubelet client key", e))?;
    let config = builder
        .with_client_auth_cert(chain, key)
        .map_err(|e| KubeletConfigError::Tls(what, e))?;
    Ok(Arc::new(config))
}

/// Takes every certificate, but checks that the server has its key.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
