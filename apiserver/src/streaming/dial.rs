//! Connections to kubelets and to what is proxied: TCP, and TLS where it is due.

use super::target::AddressType;
use rustls::pki_types::ServerName;
use rutter_outbound::body::Stream;
use rutter_outbound::tls::{Identity, TlsError, Trust, client_config};
use std::io;
use std::sync::Arc;
use std::time::Duration;
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
#[error("the way to kubelets cannot be set up")]
pub struct KubeletConfigError(#[from] TlsError);

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

/// Makes connections.
pub(super) struct Dialer {
    kubelet: TlsConnector,
    kubelet_unverified: TlsConnector,
    unverified: TlsConnector,
}

impl Dialer {
    pub(super) fn new(config: &KubeletConfig) -> Result<Self, KubeletConfigError> {
        let identity = config.client.as_ref().map(|(certificate, key)| Identity {
            certificate: Arc::from(certificate.as_slice()),
            key: Arc::from(key.as_slice()),
        });
        let make = |trust: &Trust, identity: Option<&Identity>| -> Result<TlsConnector, TlsError> {
            Ok(Arc::new(client_config(trust, identity, &[])?).into())
        };
        let kubelet_unverified = make(&Trust::Anyone, identity.as_ref())?;
        let kubelet = match &config.authorities {
            None => kubelet_unverified.clone(),
            Some(pem) => make(&Trust::Authorities(Arc::from(pem.as_slice())), identity.as_ref())?,
        };
        Ok(Self {
            kubelet,
            kubelet_unverified,
            unverified: make(&Trust::Anyone, None)?,
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
