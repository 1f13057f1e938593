//! Signing with the cluster's CA.

use super::plan::validity;
use anyhow::Context as _;
use jiff::Timestamp;
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber,
};
use std::path::PathBuf;
use std::time::Duration;
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

/// The CA's files. They are read for each certificate, so that a CA that was renewed is used at once.
pub(super) struct Authority {
    /// The certificate.
    pub(super) cert: PathBuf,
    /// The key.
    pub(super) key: PathBuf,
}

/// When a certificate in PEM ends.
pub(super) fn expires(pem: &[u8]) -> Option<Timestamp> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

impl Authority {
    /// A certificate for a request, in PEM.
    pub(super) fn sign(
        &self,
        request: &[u8],
        usages: &[String],
        asked_seconds: Option<i32>,
        longest: Duration,
        now: Timestamp,
    ) -> anyhow::Result<String> {
        let ca = std::fs::read_to_string(&self.cert)
            .with_context(|| format!("reading the CA {}", self.cert.display()))?;
        let key = std::fs::read_to_string(&self.key)
            .with_context(|| format!("reading the CA's key {}", self.key.display()))?;
        let ca_ends = expires(ca.as_bytes()).context("the CA has no end")?;
        let (begin, end) = validity(asked_seconds, longest, now, ca_ends).map_err(anyhow::Error::msg)?;
        let key = KeyPair::from_pem(&key).context("reading the CA's key")?;
        let issuer = Issuer::from_ca_cert_pem(&ca, key).context("reading the CA")?;
        let request = std::str::from_utf8(request).context("the request is no text")?;
        let mut request =
            CertificateSigningRequestParams::from_pem(request).context("reading the request")?;
        let when = |t: Timestamp| {
            ASN1Time::from_timestamp(t.as_second())
                .map(|t| t.to_datetime())
                .context("a time out of range")
        };
        let params = &mut request.params;
        params.not_before = when(begin)?;
        params.not_after = when(end)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&rand::random::<[u8; 16]>()));
        (params.key_usages, params.extended_key_usages) = purposes(usages)?;
        Ok(request.signed_by(&issuer).context("signing")?.pem())
    }
}

fn purposes(usages: &[String]) -> anyhow::Result<(Vec<KeyUsagePurpose>, Vec<ExtendedKeyUsagePurpose>)> {
    let (mut key, mut extended) = (Vec::new(), Vec::new());
    for usage in usages {
        match usage.as_str() {
            "signing" | "digital signature" => key.push(KeyUsagePurpose::DigitalSignature),
            "content commitment" => key.push(KeyUsagePurpose::ContentCommitment),
            "key encipherment" => key.push(KeyUsagePurpose::KeyEncipherment),
            "key agreement" => key.push(KeyUsagePurpose::KeyAgreement),
            "data encipherment" => key.push(KeyUsagePurpose::DataEncipherment),
            "cert sign" => key.push(KeyUsagePurpose::KeyCertSign),
            "crl sign" => key.push(KeyUsagePurpose::CrlSign),
            "encipher only" => key.push(KeyUsagePurpose::EncipherOnly),
            "decipher only" => key.push(KeyUsagePurpose::DecipherOnly),
            "any" => extended.push(ExtendedKeyUsagePurpose::Any),
            "server auth" => extended.push(ExtendedKeyUsagePurpose::ServerAuth),
            "client auth" => extended.push(ExtendedKeyUsagePurpose::ClientAuth),
            "code signing" => extended.push(ExtendedKeyUsagePurpose::CodeSigning),
            "email protection" | "s/mime" => extended.push(ExtendedKeyUsagePurpose::EmailProtection),
            "timestamping" => extended.push(ExtendedKeyUsagePurpose::TimeStamping),
            "ocsp signing" => extended.push(ExtendedKeyUsagePurpose::OcspSigning),
            other => anyhow::bail!("the usage {other:?} can't be put into a certificate"),
        }
    }
    key.dedup();
    Ok((key, extended))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_a_certificate_of_the_ca_with_its_subject_and_usages() {
        let dir = tempfile::tempdir().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::default();
        ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = Authority {
            cert: dir.path().join("ca.crt"),
            key: dir.path().join("ca.key"),
        };
        std::fs::write(&authority.cert, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
        std::fs::write(&authority.key, ca_key.serialize_pem()).unwrap();
        let mut wanted = rcgen::CertificateParams::default();
        wanted
            .distinguished_name
            .push(rcgen::DnType::CommonName, "system:node:n1");
        wanted
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "system:nodes");
        let request = wanted
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap();
        assert_eq!(
            super::super::plan::parse(request.as_bytes())
                .unwrap()
                .organizations,
            ["system:nodes"]
        );
        let usages = ["digital signature".to_owned(), "client auth".to_owned()];
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let pem = authority
            .sign(
                request.as_bytes(),
                &usages,
                Some(3600),
                Duration::from_secs(86400),
                now,
            )
            .unwrap();
        assert_eq!(
            expires(pem.as_bytes()),
            Some("2026-01-01T01:00:00Z".parse().unwrap())
        );
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let certificate = block.parse_x509().unwrap();
        assert!(certificate.subject().to_string().contains("system:node:n1"));
        assert!(
            certificate
                .extended_key_usage()
                .unwrap()
                .unwrap()
                .value
                .client_auth
        );
        assert!(
            authority
                .sign(
                    request.as_bytes(),
                    &["flying".to_owned()],
                    None,
                    Duration::from_secs(1),
                    now
                )
                .is_err()
        );
    }
}
