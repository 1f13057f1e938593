//! TLS settings of a client: whom it trusts, and how it shows who it is.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Whose certificates a client takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Those that the machine trusts.
    #[default]
    System,
    /// Those signed by one of these (PEM), or equal to one of them.
    Authorities(Arc<[u8]>),
    /// All; only possession of the key is checked.
    Anyone,
}

/// A client's certificate and key, both PEM.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The certificate, with its intermediates.
    pub certificate: Arc<[u8]>,
    /// Its key.
    pub key: Arc<[u8]>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// What of the settings an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Part {
    Authority,
    Certificate,
    Key,
    Protocol,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "the certificate authority",
            Self::Certificate => "the client certificate",
            Self::Key => "the client key",
            Self::Protocol => "TLS",
        })
    }
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is no PEM of what it should be.
    #[error("{0} is not valid PEM")]
    Pem(Part, #[source] pem::Error),
    /// Nothing is in it.
    #[error("{0} holds no certificate")]
    Empty(Part),
    /// A certificate or key cannot be used.
    #[error("{0} cannot be used")]
    Unusable(Part, #[source] rustls::Error),
}

/// Makes the settings; `protocols` are offered in their order (`h2`, `http/1.1`), none at all when empty.
pub fn client_config(
    trust: &Trust,
    identity: Option<&Identity>,
    protocols: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Unusable(Part::Protocol, e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier(trust, provider)?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates(&identity.certificate, Part::Certificate)?;
            let key =
                PrivateKeyDer::from_pem_slice(&identity.key).map_err(|e| TlsError::Pem(Part::Key, e))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| TlsError::Unusable(Part::Certificate, e))?
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn certificates(pem: &[u8], part: Part) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| TlsError::Pem(part, e))?;
    if all.is_empty() {
        return Err(TlsError::Empty(part));
    }
    Ok(all)
}

fn verifier(trust: &Trust, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let (roots, own) = match trust {
        Trust::Anyone => return Ok(Arc::new(AnyCertificate(provider))),
        Trust::System => (system_roots(), Vec::new()),
        Trust::Authorities(pem) => {
            let own = certificates(pem, Part::Authority)?;
            let mut roots = RootCertStore::empty();
            for certificate in &own {
                roots
                    .add(certificate.clone())
                    .map_err(|e| TlsError::Unusable(Part::Authority, e))?;
            }
            (Arc::new(roots), own)
        }
    };
    if roots.is_empty() {
        return Ok(Arc::new(NoAuthority(provider)));
    }
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|e| TlsError::Unusable(Part::Authority, rustls::Error::General(e.to_string())))?;
    Ok(Arc::new(Authorities { inner, own }))
}

/// The machine's authorities, read once.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let load = || {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "an authority of this machine cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
        Arc::new(roots)
    };
    ROOTS.get_or_init(load).clone()
}

/// Takes certificates signed by an authority, and an authority's own: a self-signed serving certificate is named as its own
/// authority by many, and Go takes that.
#[derive(Debug)]
struct Authorities {
    inner: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let checked = self
            .inner
            .verify_server_cert(leaf, intermediates, name, ocsp, now);
        match checked {
            // Other defects (name, time) are told apart by webpki before or after; only how it is signed is overruled.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::Other(_),
            )) if self.own.iter().any(|own| own == leaf) => {
                in_time(leaf, now)?;
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let bad = |_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(bad)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if seconds < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if seconds > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// Takes every certificate, but checks that the server has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

/// Takes none: this machine trusts nobody.
#[derive(Debug)]
struct NoAuthority(Arc<CryptoProvider>);

/// Signatures are checked by the provider alone.
macro_rules! provider_signatures {
    () => {
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
    };
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    provider_signatures!();
}

impl ServerCertVerifier for NoAuthority {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Err(CertificateError::UnknownIssuer.into())
    }

    provider_signatures!();
}

/// A handshake's failure in Go's words, which users search for.
pub(crate) fn describe(error: &rustls::Error) -> String {
    use rustls::CertificateError as C;
    let rustls::Error::InvalidCertificate(invalid) = error else {
        return format!("tls: {error}");
    };
    let why = match invalid {
        C::UnknownIssuer | C::BadSignature | C::UnknownRevocationStatus => {
            "certificate signed by unknown authority".to_owned()
        }
        C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
            format!("certificate has expired or is not yet valid: {invalid}")
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            format!("certificate is not valid for the name called: {invalid}")
        }
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}
