//! Signing with the cluster's CA.
//!
//! The certificate is made by rcgen, which keeps one value of each attribute of a name; so the names of the subject and of the
//! CA are put in afterwards as they were given, byte for byte, and the whole is signed again.

use super::plan::{self, validity};
use crate::options::CertificateOptions;
use anyhow::Context as _;
use jiff::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber, SigningKey as _, SubjectPublicKeyInfo,
};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use x509_parser::prelude::{
    ASN1Time, FromDer as _, GeneralName, ParsedExtension, X509Certificate, X509CertificationRequest,
};

/// A CA's files. They are read for each certificate, so that a CA that was renewed is used at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    /// The certificate.
    pub(super) cert: PathBuf,
    /// The key.
    pub(super) key: PathBuf,
}

/// The CAs by the signer that signs with them, as the flags say; a signer without one does not sign.
pub(super) fn authorities(options: &CertificateOptions) -> anyhow::Result<HashMap<&'static str, Authority>> {
    let pair = |cert: &Option<PathBuf>, key: &Option<PathBuf>| {
        Some(Authority {
            cert: cert.clone()?,
            key: key.clone()?,
        })
    };
    let of_all = pair(
        &options.cluster_signing_cert_file,
        &options.cluster_signing_key_file,
    );
    let own = [
        (
            plan::KUBELET_SERVING,
            pair(
                &options.cluster_signing_kubelet_serving_cert_file,
                &options.cluster_signing_kubelet_serving_key_file,
            ),
        ),
        (
            plan::KUBELET_CLIENT,
            pair(
                &options.cluster_signing_kubelet_client_cert_file,
                &options.cluster_signing_kubelet_client_key_file,
            ),
        ),
        (
            plan::CLIENT,
            pair(
                &options.cluster_signing_kube_apiserver_client_cert_file,
                &options.cluster_signing_kube_apiserver_client_key_file,
            ),
        ),
        (
            plan::LEGACY_UNKNOWN,
            pair(
                &options.cluster_signing_legacy_unknown_cert_file,
                &options.cluster_signing_legacy_unknown_key_file,
            ),
        ),
    ];
    anyhow::ensure!(
        of_all.is_none() || own.iter().all(|(_, pair)| pair.is_none()),
        "cannot specify --cluster-signing-{{cert,key}}-file and other --cluster-signing-*-file flags at the same time"
    );
    Ok(own
        .into_iter()
        .filter_map(|(signer, pair)| Some((signer, pair.or_else(|| of_all.clone())?)))
        .collect())
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
        let (_, ca_block) =
            x509_parser::pem::parse_x509_pem(ca.as_bytes()).context("the CA is not in PEM")?;
        let (_, ca_parsed) = X509Certificate::from_der(&ca_block.contents).context("reading the CA")?;
        let ca_ends = Timestamp::from_second(ca_parsed.validity().not_after.timestamp())
            .context("the CA has no end")?;
        let (begin, end) = validity(asked_seconds, longest, now, ca_ends).map_err(anyhow::Error::msg)?;
        let key = KeyPair::from_pem(&key).context("reading the CA's key")?;
        let issuer = Issuer::from_ca_cert_pem(&ca, &key).context("reading the CA")?;
        let (_, block) = x509_parser::pem::parse_x509_pem(request).context("the request is not in PEM")?;
        let (_, request) =
            X509CertificationRequest::from_der(&block.contents).context("reading the request")?;
        request.verify_signature().context("the request's signature")?;
        let info = &request.certification_request_info;
        let public_key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw).context("the request's key")?;
        let when = |t: Timestamp| {
            ASN1Time::from_timestamp(t.as_second())
                .map(|t| t.to_datetime())
                .context("a time out of range")
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = alternative_names(&request)?;
        params.not_before = when(begin)?;
        params.not_after = when(end)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&rand::random::<[u8; 16]>()));
        (params.key_usages, params.extended_key_usages) = purposes(usages)?;
        let made = params.signed_by(&public_key, &issuer).context("signing")?;
        let der = with_names(
            made.der(),
            info.subject.as_raw(),
            ca_parsed.subject().as_raw(),
            &key,
        )?;
        Ok(to_pem(&der))
    }
}

/// The other names that a request asks for; kinds that certificates of a cluster don't carry are left out.
fn alternative_names(request: &X509CertificationRequest<'_>) -> anyhow::Result<Vec<SanType>> {
    let mut names = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(found) = extension else {
            continue;
        };
        for name in &found.general_names {
            names.push(match name {
                GeneralName::DNSName(name) => SanType::DnsName((*name).try_into()?),
                GeneralName::RFC822Name(name) => SanType::Rfc822Name((*name).try_into()?),
                GeneralName::URI(uri) => SanType::URI((*uri).try_into()?),
                GeneralName::IPAddress(bytes) => {
                    SanType::IpAddress(plan::ip(bytes).context("an address of a wrong length")?)
                }
                _ => continue,
            });
        }
    }
    Ok(names)
}

/// The certificate with these names in the place of its own, signed by `key`.
fn with_names(der: &[u8], subject: &[u8], issuer: &[u8], key: &KeyPair) -> anyhow::Result<Vec<u8>> {
    let (_, made) = X509Certificate::from_der(der).context("reading the signed certificate")?;
    let tbs = &made.tbs_certificate;
    let whole: &[u8] = tbs.as_ref();
    let at = |part: &[u8]| -> anyhow::Result<std::ops::Range<usize>> {
        let start = (part.as_ptr() as usize)
            .checked_sub(whole.as_ptr() as usize)
            .context("a part outside of its certificate")?;
        Ok(start..start + part.len())
    };
    let (issuer_at, subject_at) = (at(tbs.issuer.as_raw())?, at(tbs.subject.as_raw())?);
    // The issuer, the validity, the subject and the key follow each other.
    let content_at = header_length(whole).context("the certificate has no content")?;
    let part = |range: std::ops::Range<usize>| whole.get(range).context("a part outside of its certificate");
    let content = [
        part(content_at..issuer_at.start)?,
        issuer,
        part(issuer_at.end..subject_at.start)?,
        subject,
        part(subject_at.end..whole.len())?,
    ]
    .concat();
    let tbs = element(0x30, &content);
    let signature = key.sign(&tbs).context("signing")?;
    let mut bits = vec![0];
    bits.extend_from_slice(&signature);
    // Between the signed part and the signature stands the algorithm.
    let head = header_length(der).context("the certificate has no content")?;
    let rest = der
        .get(head + whole.len()..)
        .context("the certificate has no signature")?;
    let algorithm_end =
        header_length(rest).context("the certificate has no algorithm")? + content_length(rest);
    let algorithm = rest
        .get(..algorithm_end)
        .context("the certificate has no algorithm")?;
    Ok(element(
        0x30,
        &[&tbs[..], algorithm, &element(0x03, &bits)].concat(),
    ))
}

/// How long the tag and the length of a DER element are.
fn header_length(der: &[u8]) -> Option<usize> {
    match der.get(1)? {
        short if short & 0x80 == 0 => Some(2),
        long => Some(2 + usize::from(long & 0x7f)),
    }
}

fn content_length(der: &[u8]) -> usize {
    match der.get(1) {
        Some(short) if short & 0x80 == 0 => usize::from(*short),
        _ => {
            let bytes = header_length(der).and_then(|end| der.get(2..end));
            bytes
                .unwrap_or_default()
                .iter()
                .fold(0, |length, byte| (length << 8) | usize::from(*byte))
        }
    }
}

/// A DER element.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = content.len().to_be_bytes();
            let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            out.push(0x80 | u8::try_from(bytes.len()).unwrap_or_default());
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

fn to_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
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
    let mut seen = Vec::new();
    extended.retain(|purpose| {
        let new = !seen.contains(purpose);
        seen.push(purpose.clone());
        new
    });
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
        wanted.subject_alt_names = vec![
            SanType::DnsName("n1".try_into().unwrap()),
            SanType::IpAddress([172, 30, 0, 2].into()),
        ];
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
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 2);
        let ca_pem = std::fs::read(&authority.cert).unwrap();
        let (_, ca_block) = x509_parser::pem::parse_x509_pem(&ca_pem).unwrap();
        let ca_parsed = ca_block.parse_x509().unwrap();
        assert_eq!(certificate.issuer(), ca_parsed.subject());
        certificate
            .verify_signature(Some(ca_parsed.public_key()))
            .unwrap();
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

    /// A request of `CN=jane, O=dev, O=ops`, made by `openssl req`.
    const TWO_ORGANIZATIONS: &str = "\
-----BEGIN CERTIFICATE REQUEST-----\n\
MIIBGzCBwgIBADArMQ0wCwYDVQQDDARqYW5lMQwwCgYDVQQKDANkZXYxDDAKBgNV\n\
BAoMA29wczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNnUue0MAj6rx7ZR4zfs\n\
+A3502+GmoSp0DW7HpopJ3fF5VbNAn3VNntCVGDAlucvmt0i4rtRLlDdsseFiFaD\n\
oTKgNTAzBgkqhkiG9w0BCQ4xJjAkMAkGA1UdEwQCMAAwFwYDVR0RBBAwDoIMamFu\n\
ZS5leGFtcGxlMAoGCCqGSM49BAMCA0gAMEUCIQCw2S2T/Y6/trqs/aHf3T+YkKKX\n\
Ji4+nXuIODeGiy8KAgIgAvLNqc9lMaS6bfecqpooRFRNNBgQAukycRDrRh8Ghv0=\n\
-----END CERTIFICATE REQUEST-----\n";

    #[test]
    fn a_certificate_keeps_every_organization_of_its_subject() {
        let dir = tempfile::tempdir().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = Authority {
            cert: dir.path().join("ca.crt"),
            key: dir.path().join("ca.key"),
        };
        std::fs::write(&authority.cert, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
        std::fs::write(&authority.key, ca_key.serialize_pem()).unwrap();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let pem = authority
            .sign(
                TWO_ORGANIZATIONS.as_bytes(),
                &["client auth".to_owned()],
                None,
                Duration::from_secs(86400),
                now,
            )
            .unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let certificate = block.parse_x509().unwrap();
        let organizations: Vec<&str> = certificate
            .subject()
            .iter_organization()
            .map(|o| o.as_str().unwrap())
            .collect();
        assert_eq!(organizations, ["dev", "ops"]);
        let (_, ca_block) =
            x509_parser::pem::parse_x509_pem(&std::fs::read(&authority.cert).unwrap()).unwrap();
        let ca = ca_block.parse_x509().unwrap();
        certificate.verify_signature(Some(ca.public_key())).unwrap();
    }

    #[test]
    fn one_ca_signs_for_all_or_each_signer_has_its_own() {
        let parse = |flags: &[&str]| {
            use clap::Parser as _;
            let all = ["x"].iter().chain(flags);
            authorities(&crate::options::Options::parse_from(all).certificates)
        };
        let common = ["--cluster-signing-cert-file=a", "--cluster-signing-key-file=b"];
        let own = [
            "--cluster-signing-kubelet-client-cert-file=c",
            "--cluster-signing-kubelet-client-key-file=d",
        ];
        assert_eq!(parse(&[]).unwrap().len(), 0);
        assert_eq!(parse(&common).unwrap().len(), 4);
        let one = parse(&own).unwrap();
        assert_eq!(
            (one.len(), one[plan::KUBELET_CLIENT].cert.to_str()),
            (1, Some("c"))
        );
        assert!(parse(&[common, own].concat()).is_err());
    }
}
