//! Which TLS is spoken (`--tls-min-version`, `--tls-cipher-suites`), and with whose client certificates.

use super::Certificates;
use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{DistinguishedName, ServerConfig, SupportedProtocolVersion, version};
use rutter_auth::authenticate::x509::Possession;
use std::sync::Arc;

/// Why flags can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The version is unknown, or too old.
    #[error("--tls-min-version: {0:?} is not spoken: VersionTLS12 and VersionTLS13 are")]
    Version(String),
    /// A suite is unknown, or not safe.
    #[error("--tls-cipher-suites: {name:?} is not spoken, these are: {known}")]
    Suite {
        /// The suite.
        name: String,
        /// The others.
        known: String,
    },
    /// They leave nothing to be spoken.
    #[error("--tls-min-version and --tls-cipher-suites leave nothing to be spoken")]
    Nothing(#[source] rustls::Error),
}

/// The TLS side of the listener. Any client certificate is taken when the client has its key; whose it is says the
/// authenticator.
pub struct Tls {
    certificates: Arc<Certificates>,
    provider: Arc<CryptoProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
    current: ArcSwap<ServerConfig>,
}

impl Tls {
    /// Speaks at least `version` in these `suites` (all safe ones when empty), by upstream's names. `subjects` are the names of
    /// the authorities whose client certificates are welcome.
    pub fn new(
        certificates: Arc<Certificates>,
        version: &str,
        suites: &[String],
        subjects: Vec<DistinguishedName>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(provider(suites)?);
        let versions = versions(version)?;
        let config =
            config(&provider, versions, certificates.clone(), subjects).map_err(TlsError::Nothing)?;
        Ok(Self {
            certificates,
            provider,
            versions,
            current: ArcSwap::from_pointee(config),
        })
    }

    /// Welcomes other authorities' client certificates from now on.
    pub fn welcome(&self, subjects: Vec<DistinguishedName>) -> Result<(), TlsError> {
        let config = config(&self.provider, self.versions, self.certificates.clone(), subjects);
        self.current.store(Arc::new(config.map_err(TlsError::Nothing)?));
        Ok(())
    }

    /// What the next connection is spoken with.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

fn config(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    certificates: Arc<Certificates>,
    subjects: Vec<DistinguishedName>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(Arc::new(Possession::new(subjects)))
        .with_cert_resolver(certificates);
    // Clients that come back skip the costly part of the handshake; each still shows who it is.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn versions(least: &str) -> Result<&'static [&'static SupportedProtocolVersion], TlsError> {
    static FROM_12: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    static FROM_13: [&SupportedProtocolVersion; 1] = [&version::TLS13];
    match least {
        "" | "VersionTLS12" => Ok(&FROM_12),
        "VersionTLS13" => Ok(&FROM_13),
        other => Err(TlsError::Version(other.to_owned())),
    }
}

/// A suite by Go's name for it.
fn go_name(suite: rustls::CipherSuite) -> String {
    let name = format!("{suite:?}");
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    }
}

/// The provider with the wanted suites. Those of TLS 1.3 are all kept, as Go does, which cannot switch them off.
fn provider(wanted: &[String]) -> Result<CryptoProvider, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    if wanted.is_empty() {
        return Ok(provider);
    }
    let known: Vec<String> = provider
        .cipher_suites
        .iter()
        .map(|suite| go_name(suite.suite()))
        .collect();
    // An older name of Go's leaves the hash out.
    let plain = |name: &str| name.trim_end_matches("_SHA256").to_owned();
    let is = |name: &str, known: &str| {
        name == known || (known.contains("CHACHA20") && plain(name) == plain(known))
    };
    for name in wanted {
        if !known.iter().any(|known| is(name, known)) {
            return Err(TlsError::Suite {
                name: name.clone(),
                known: known.join(", "),
            });
        }
    }
    provider.cipher_suites.retain(|suite| {
        let own = go_name(suite.suite());
        suite.tls13().is_some() || wanted.iter().any(|name| is(name, &own))
    });
    Ok(provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_and_versions_are_chosen_by_upstreams_names() {
        let names = |wanted: &[&str]| -> Result<Vec<String>, String> {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            let provider = provider(&wanted).map_err(|error| error.to_string())?;
            Ok(provider
                .cipher_suites
                .iter()
                .map(|suite| go_name(suite.suite()))
                .collect())
        };
        let all = names(&[]).unwrap();
        assert!(
            all.len() > 6 && all.iter().all(|name| name.starts_with("TLS_")),
            "{all:?}"
        );
        for suite in [
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ] {
            let kept = names(&[suite]).unwrap();
            assert_eq!(kept.len(), 4, "{suite}: {kept:?}");
        }
        let only_13 = names(&["TLS_AES_128_GCM_SHA256"]).unwrap();
        assert_eq!(only_13.len(), 3, "{only_13:?}");
        let refused = names(&["TLS_RSA_WITH_RC4_128_SHA"]).unwrap_err();
        assert!(refused.contains("is not spoken"), "{refused}");
        assert_eq!(versions("VersionTLS12").unwrap().len(), 2);
        assert_eq!(versions("VersionTLS13").unwrap().len(), 1);
        assert!(versions("VersionTLS10").is_err());
    }
}
