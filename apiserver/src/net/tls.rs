//! TLS settings, read again when their files change.

use anyhow::Context as _;
use parking_lot::Mutex;
use rutter_auth::authenticate::ClientCertificates;
use rutter_auth::authenticate::x509::Possession;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// The files of the server's own identity.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `--tls-cert-file`
    pub certificate: PathBuf,
    /// `--tls-private-key-file`
    pub key: PathBuf,
}

/// TLS settings that follow their files.
pub struct Reloading {
    identity: Identity,
    authorities: Option<(PathBuf, Arc<ClientCertificates>)>,
    minimum: &'static [&'static rustls::SupportedProtocolVersion],
    current: Mutex<(Arc<ServerConfig>, Vec<Vec<u8>>)>,
}

/// Reads `--tls-min-version`.
pub fn minimum_version(text: &str) -> Result<&'static [&'static rustls::SupportedProtocolVersion], String> {
    match text {
        "VersionTLS12" => Ok(rustls::ALL_VERSIONS),
        "VersionTLS13" => Ok(&[&rustls::version::TLS13]),
        other => Err(format!("{other:?} is none of VersionTLS12, VersionTLS13; older versions are not supported")),
    }
}

impl Reloading {
    /// Reads the files for the first time. `authorities` are those of `--client-ca-file`, whose names are told to clients.
    pub fn new(
        identity: Identity,
        authorities: Option<(PathBuf, Arc<ClientCertificates>)>,
        minimum: &'static [&'static rustls::SupportedProtocolVersion],
    ) -> anyhow::Result<Self> {
        let contents = read(&identity, authorities.as_ref().map(|a| &a.0))?;
        let config = build(&contents, authorities.as_ref().map(|a| &*a.1), minimum)?;
        Ok(Self { identity, authorities, minimum, current: Mutex::new((Arc::new(config), contents)) })
    }

    /// The settings for a new connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.lock().0.clone()
    }

    /// Looks at the files; whether they changed and are in use now. Files that are bad are reported and not used.
    pub fn refresh(&self) -> anyhow::Result<bool> {
        let contents = read(&self.identity, self.authorities.as_ref().map(|a| &a.0))?;
        if self.current.lock().1 == contents {
            return Ok(false);
        }
        if let (Some((_, authorities)), Some(pem)) = (&self.authorities, contents.get(2)) {
            authorities.reload(pem).context("the client CA file")?;
        }
        let config = build(&contents, self.authorities.as_ref().map(|a| &*a.1), self.minimum)?;
        *self.current.lock() = (Arc::new(config), contents);
        Ok(true)
    }

    /// Looks at the files from time to time until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            match self.refresh() {
                Ok(true) => tracing::info!("certificates were read again"),
                Ok(false) => {}
                Err(error) => tracing::warn!("certificates can't be read again; the old ones stay: {error:#}"),
            }
        }
    }
}

fn read(identity: &Identity, authorities: Option<&PathBuf>) -> anyhow::Result<Vec<Vec<u8>>> {
    let files = [&identity.certificate, &identity.key].into_iter().chain(authorities);
    files.map(|path| std::fs::read(path).with_context(|| format!("reading {}", path.display()))).collect()
}

fn build(
    contents: &[Vec<u8>],
    authorities: Option<&ClientCertificates>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> anyhow::Result<ServerConfig> {
    let (Some(certificate), Some(key)) = (contents.first(), contents.get(1)) else {
        anyhow::bail!("a certificate and a key are needed");
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .context("the serving certificate is no PEM")?;
    anyhow::ensure!(!chain.is_empty(), "the serving certificate's file has no certificate in it");
    let key = PrivateKeyDer::from_pem_slice(key).context("the serving certificate's key is no PEM")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let builder = match authorities {
        Some(authorities) => builder.with_client_cert_verifier(Arc::new(Possession::new(authorities.subjects()))),
        None => builder.with_client_cert_verifier(Arc::new(Possession::new(Vec::new()))),
    };
    let mut config = builder.with_single_cert(chain, key).context("the serving certificate and its key don't fit")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
