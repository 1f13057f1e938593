//! The serving certificates, read again when their files change; some for names of their own (SNI).

use crate::access::reload;
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Why a certificate can't be served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no PEM of what is wanted.
    #[error("{path} holds no usable {what}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The key doesn't fit.
    #[error("the key in {path} cannot be used")]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// One certificate with its key: the files, and for which names.
#[derive(Clone, Debug)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
    names: Vec<String>,
}

/// The certificates that are served.
#[derive(Debug)]
pub struct Certificates {
    pairs: Vec<Pair>,
    loaded: ArcSwap<Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Reads the files of the certificate for all names, and those for some: certificate, key, names.
    pub fn load(
        certificate: &Path,
        key: &Path,
        special: &[(PathBuf, PathBuf, Vec<String>)],
    ) -> Result<Self, CertificateError> {
        let mut pairs = vec![Pair {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            names: Vec::new(),
        }];
        pairs.extend(special.iter().cloned().map(|(certificate, key, names)| Pair {
            certificate,
            key,
            names,
        }));
        let loaded = pairs.iter().map(Pair::load).collect::<Result<_, _>>()?;
        Ok(Self {
            pairs,
            loaded: ArcSwap::from_pointee(loaded),
        })
    }

    /// Reads the files again whenever they changed, until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let files = self.pairs.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
        let files = files.cloned().collect();
        let changed = move || -> BoxFuture<'static, anyhow::Result<()>> {
            let loaded = self.pairs.iter().map(Pair::load).collect::<Result<Vec<_>, _>>();
            let taken = loaded.map(|loaded| self.loaded.store(Arc::new(loaded)));
            Box::pin(std::future::ready(taken.map_err(Into::into)))
        };
        reload::follow("the serving certificates", files, stop, changed).await;
    }
}

impl Pair {
    fn load(&self) -> Result<Arc<CertifiedKey>, CertificateError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| CertificateError::Read {
                path: path.to_owned(),
                source,
            })
        };
        let pem = |path: &Path, what| CertificateError::Pem {
            path: path.to_owned(),
            what,
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(&self.certificate)?)
            .collect::<Result<_, _>>()
            .map_err(|_| pem(&self.certificate, "certificate"))?;
        if chain.is_empty() {
            return Err(pem(&self.certificate, "certificate"));
        }
        let key =
            PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(|_| pem(&self.key, "private key"))?;
        let unusable = |source| CertificateError::Key {
            path: self.key.clone(),
            source,
        };
        let certified =
            CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(unusable)?;
        Ok(Arc::new(certified))
    }

    fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(domain) => name
                .split_once('.')
                .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
            None => pattern.eq_ignore_ascii_case(name),
        })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded.load();
        let special = hello
            .server_name()
            .and_then(|name| self.pairs.iter().position(|pair| pair.is_for(name)));
        loaded.get(special.unwrap_or(0)).cloned()
    }
}
