//! Client certificates: the common name is the user, the organizations are the groups.
//!
//! The TLS layer checks only that the client has the certificate's key ([`Possession`]); the chain is verified here, so that
//! a bad certificate is a 401 and not a broken handshake, and so that certification authorities can change while
//! connections live. Revocation lists are not consulted, as in Kubernetes.

use crate::{Authenticated, AuthenticationError, Authenticator, Clock, Credentials};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::RwLock;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rutter_api::UserInfo;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

/// The subject attribute that carries a user's uid (KEP 5295).
const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";
/// The extra key under which the certificate's fingerprint appears.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Why a file of certification authorities was refused.
#[derive(Debug, thiserror::Error)]
pub enum X509Error {
    /// It is no PEM.
    #[error("the certification authorities are not valid PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// It holds no certificate.
    #[error("no certificate found among the certification authorities")]
    Empty,
    /// A certificate cannot be a trust anchor.
    #[error("a certification authority's certificate cannot be used")]
    Anchor(#[source] rustls::Error),
    /// No verifier can be built from them.
    #[error("no verifier can be built from the certification authorities")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// How many verified chains are remembered.
const MOST_KNOWN: usize = 16_384;

struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// Chains that these authorities vouched for, by their end entity: a client shows the same one with each request.
    known: RwLock<HashMap<CertificateDer<'static>, Known>>,
}

/// A chain that was verified, and what came of it.
struct Known {
    intermediates: Vec<CertificateDer<'static>>,
    /// In seconds since 1970: while every certificate of the chain is valid.
    valid: RangeInclusive<i64>,
    user: UserInfo,
}

/// Verifies client certificates against `--client-ca-file`.
pub struct ClientCertificates {
    authorities: ArcSwap<Authorities>,
    clock: Clock,
}

impl ClientCertificates {
    /// From PEM certificates.
    pub fn new(pem: &[u8], clock: Clock) -> Result<Self, X509Error> {
        Ok(Self {
            authorities: ArcSwap::from_pointee(Authorities::parse(pem)?),
            clock,
        })
    }

    /// Takes other authorities from now on; on error the old ones stay.
    pub fn reload(&self, pem: &[u8]) -> Result<(), X509Error> {
        self.authorities.store(Arc::new(Authorities::parse(pem)?));
        Ok(())
    }

    /// The names of the authorities, for the TLS handshake.
    pub fn subjects(&self) -> Vec<DistinguishedName> {
        self.authorities.load().verifier.root_hint_subjects().to_vec()
    }

    /// Verifies a chain, end entity first, and reads the user from it.
    pub fn verify(&self, chain: &[CertificateDer<'static>]) -> Result<UserInfo, AuthenticationError> {
        let refuse = |why: String| AuthenticationError(format!("verifying certificate failed: {why}"));
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(refuse("no certificate".to_owned()));
        };
        let seconds = (self.clock)().as_second();
        let authorities = self.authorities.load();
        if let Some(user) = authorities.remembered(leaf, intermediates, seconds) {
            return Ok(user);
        }
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| refuse(e.to_string()))?;
        if parsed.version() == X509Version::V3 {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds.max(0).unsigned_abs()));
            authorities
                .verifier
                .verify_client_cert(leaf, intermediates, now)
                .map_err(|e| refuse(e.to_string()))?;
        } else {
            verify_v1(&parsed, seconds, &authorities.certificates).map_err(refuse)?;
        }
        let user = user(leaf, &parsed).map_err(refuse)?;
        authorities.remember(leaf, intermediates, &user);
        Ok(user)
    }
}

impl Authorities {
    fn remembered(
        &self,
        leaf: &CertificateDer<'static>,
        intermediates: &[CertificateDer<'static>],
        now: i64,
    ) -> Option<UserInfo> {
        let known = self.known.read();
        let found = known.get(leaf)?;
        (found.intermediates == intermediates && found.valid.contains(&now)).then(|| found.user.clone())
    }

    fn remember(
        &self,
        leaf: &CertificateDer<'static>,
        intermediates: &[CertificateDer<'static>],
        user: &UserInfo,
    ) {
        let (mut from, mut until) = (i64::MIN, i64::MAX);
        for certificate in std::iter::once(leaf).chain(intermediates) {
            // What can't be read isn't remembered; it is verified each time.
            let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
                return;
            };
            from = from.max(parsed.validity().not_before.timestamp());
            until = until.min(parsed.validity().not_after.timestamp());
        }
        let known = Known {
            intermediates: intermediates.to_vec(),
            valid: from..=until,
            user: user.clone(),
        };
        let mut all = self.known.write();
        if all.len() >= MOST_KNOWN {
            all.clear();
        }
        all.insert(leaf.clone(), known);
    }

    fn parse(pem: &[u8]) -> Result<Self, X509Error> {
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(X509Error::Pem)?;
        if certificates.is_empty() {
            return Err(X509Error::Empty);
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(X509Error::Anchor)?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(X509Error::Verifier)?;
        Ok(Self {
            certificates,
            verifier,
            known: RwLock::default(),
        })
    }
}

/// Certificates of version 1 have no extensions; `openssl x509 -req` makes them when it isn't told otherwise, so people
/// have them. One is good when an authority signed it directly and it is valid now.
fn verify_v1(
    leaf: &X509Certificate<'_>,
    now: i64,
    authorities: &[CertificateDer<'static>],
) -> Result<(), String> {
    let validity = leaf.validity();
    if now < validity.not_before.timestamp() || now > validity.not_after.timestamp() {
        return Err("certificate has expired or is not yet valid".to_owned());
    }
    let signed = authorities.iter().any(|authority| {
        X509Certificate::from_der(authority).is_ok_and(|(_, authority)| {
            authority.subject().as_raw() == leaf.issuer().as_raw()
                && authority.validity().not_before.timestamp() <= now
                && now <= authority.validity().not_after.timestamp()
                && leaf.verify_signature(Some(authority.public_key())).is_ok()
        })
    });
    if signed {
        Ok(())
    } else {
        Err("certificate signed by unknown authority".to_owned())
    }
}

fn user(der: &CertificateDer<'_>, certificate: &X509Certificate<'_>) -> Result<UserInfo, String> {
    let subject = certificate.subject();
    // The last common name counts, as in upstream.
    let name = subject
        .iter_common_name()
        .last()
        .and_then(|a| a.as_str().ok())
        .unwrap_or_default();
    if name.is_empty() {
        return Err("certificate has no common name".to_owned());
    }
    let groups = subject
        .iter_organization()
        .filter_map(|a| a.as_str().ok())
        .map(str::to_owned)
        .collect();
    let mut uids = subject
        .iter_attributes()
        .filter(|a| a.attr_type().to_id_string() == UID_ATTRIBUTE)
        .map(|a| a.as_str());
    let uid = match (uids.next(), uids.next()) {
        (None, _) => String::new(),
        (Some(Ok(uid)), None) if !uid.is_empty() => uid.to_owned(),
        (Some(Ok(_)), None) => return Err("UID cannot be an empty string".to_owned()),
        (Some(Err(_)), _) => return Err("unable to parse UID into a string".to_owned()),
        (Some(_), Some(_)) => return Err("expected 1 UID, but found multiple".to_owned()),
    };
    let fingerprint: String = Sha256::digest(der)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let extra = [(
        CREDENTIAL_ID.to_owned(),
        vec![format!("X509SHA256={fingerprint}")],
    )]
    .into();
    Ok(UserInfo {
        name: name.to_owned(),
        uid,
        groups,
        extra,
    })
}

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        if credentials.certificates.is_empty() {
            return Ok(None);
        }
        let user = self.verify(credentials.certificates)?;
        Ok(Some(Authenticated {
            user,
            audiences: Vec::new(),
        }))
    }
}

/// The TLS server's part: asks for a client certificate, takes any or none, and checks that the client has its key.
///
/// ```ignore
/// rustls::ServerConfig::builder().with_client_cert_verifier(Arc::new(Possession::new(certificates.subjects())))
/// ```
#[derive(Debug)]
pub struct Possession {
    provider: CryptoProvider,
    subjects: Vec<DistinguishedName>,
}

impl Possession {
    /// `subjects` are the authorities' names to show the client, so that it picks the right certificate.
    pub fn new(subjects: Vec<DistinguishedName>) -> Self {
        Self {
            provider: aws_lc_rs::default_provider(),
            subjects,
        }
    }
}

impl ClientCertVerifier for Possession {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding))?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests;
