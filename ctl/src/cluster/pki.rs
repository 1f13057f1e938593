//! The cluster's certificates, keys and kubeconfig files, laid out as kubeadm lays them out.
//!
//! What exists is kept: running it again completes a half-made set and changes nothing else. Private files are readable by root alone.

use anyhow::Context as _;
use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// How long certificates last.
const YEARS: i64 = 10;

/// Who a certificate is for.
pub(super) struct Subject<'a> {
    /// CN: the user's name.
    pub(super) name: &'a str,
    /// O: the user's groups.
    pub(super) groups: &'a [&'a str],
    /// Names and addresses that a server answers to; a certificate with any is good for serving too.
    pub(super) names: Vec<String>,
    /// Addresses that a server answers to.
    pub(super) addresses: Vec<IpAddr>,
}

/// A folder of certificates, `pki`.
pub(super) struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// Opens or makes the folder and the cluster's CA in it.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let pki = Self { dir: dir.to_owned() };
        for (file, name) in [("ca", "kubernetes"), ("front-proxy-ca", "front-proxy-ca")] {
            if !pki.path(&format!("{file}.key")).exists() {
                let key = KeyPair::generate()?;
                let mut params = lasting(name, &[])?;
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.key_usages = vec![
                    KeyUsagePurpose::DigitalSignature,
                    KeyUsagePurpose::KeyCertSign,
                    KeyUsagePurpose::CrlSign,
                ];
                pki.write_pair(file, &params.self_signed(&key)?.pem(), &key)?;
            }
        }
        if !pki.path("sa.key").exists() {
            let key = KeyPair::generate()?;
            write(&pki.path("sa.pub"), key.public_key_pem().as_bytes(), 0o644)?;
            write(&pki.path("sa.key"), key.serialize_pem().as_bytes(), 0o600)?;
        }
        Ok(pki)
    }

    /// The path of a file in the folder.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// The text of a file in the folder.
    pub(super) fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = self.path(file);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// Makes `<file>.crt` and `<file>.key`, signed by the CA called `ca`, unless they are there.
    pub(super) fn certificate(&self, ca: &str, file: &str, subject: &Subject<'_>) -> anyhow::Result<()> {
        if self.path(&format!("{file}.key")).exists() {
            return Ok(());
        }
        let (certificate, key) = self.sign(ca, subject)?;
        self.write_pair(file, &certificate, &key)
    }

    /// A kubeconfig text for a user, with a new client certificate in it.
    pub(super) fn kubeconfig(
        &self,
        cluster: &str,
        server: &str,
        subject: &Subject<'_>,
    ) -> anyhow::Result<String> {
        let (certificate, key) = self.sign("ca", subject)?;
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let user = serde_json::json!({
            "client-certificate-data": base64(&certificate),
            "client-key-data": base64(&key.serialize_pem()),
        });
        self.kubeconfig_with(cluster, server, subject.name, &user)
    }

    /// A kubeconfig text with the given user entry.
    pub(super) fn kubeconfig_with(
        &self,
        cluster: &str,
        server: &str,
        user: &str,
        credentials: &serde_json::Value,
    ) -> anyhow::Result<String> {
        let ca = base64::engine::general_purpose::STANDARD.encode(self.read("ca.crt")?);
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": ca}}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
            "current-context": cluster,
        });
        Ok(serde_yaml_ng::to_string(&config)?)
    }

    fn sign(&self, ca: &str, subject: &Subject<'_>) -> anyhow::Result<(String, KeyPair)> {
        let ca_key = KeyPair::from_pem(&self.read(&format!("{ca}.key"))?)?;
        let issuer = Issuer::from_ca_cert_pem(&self.read(&format!("{ca}.crt"))?, ca_key)?;
        let key = KeyPair::generate()?;
        let mut params = lasting(subject.name, subject.groups)?;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        for name in &subject.names {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.as_str().try_into()?));
        }
        for address in &subject.addresses {
            params.subject_alt_names.push(SanType::IpAddress(*address));
        }
        if !params.subject_alt_names.is_empty() {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        Ok((params.signed_by(&key, &issuer)?.pem(), key))
    }

    fn write_pair(&self, file: &str, certificate: &str, key: &KeyPair) -> anyhow::Result<()> {
        write(&self.path(&format!("{file}.crt")), certificate.as_bytes(), 0o644)?;
        // The key comes last: its presence says that the pair is complete.
        write(
            &self.path(&format!("{file}.key")),
            key.serialize_pem().as_bytes(),
            0o600,
        )
    }
}

fn lasting(name: &str, groups: &[&str]) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    for group in groups {
        subject.push(DnType::OrganizationName, *group);
    }
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    // A day back, for clocks that are a little slow.
    let (from, to) = (
        today.yesterday()?,
        today.checked_add(jiff::Span::new().years(YEARS))?,
    );
    let day = |d: jiff::civil::Date| {
        rcgen::date_time_ymd(d.year().into(), d.month().unsigned_abs(), d.day().unsigned_abs())
    };
    (params.not_before, params.not_after) = (day(from), day(to));
    Ok(params)
}

/// Writes a file whole or not at all, with the given mode.
pub(super) fn write(path: &Path, contents: &[u8], mode: u32) -> anyhow::Result<()> {
    let describe = || format!("writing {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(describe)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .with_context(describe)?;
    file.write_all(contents).with_context(describe)?;
    fs::rename(&temporary, path).with_context(describe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::*;

    #[test]
    fn a_signed_certificate_carries_user_groups_and_names_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path()).unwrap();
        let subject = Subject {
            name: "system:node:a",
            groups: &["system:nodes"],
            names: vec!["a".to_owned()],
            addresses: vec!["172.30.0.2".parse().unwrap()],
        };
        pki.certificate("ca", "node", &subject).unwrap();
        let pem = pki.read("node.crt").unwrap();
        pki.certificate("ca", "node", &subject).unwrap();
        assert_eq!(
            pki.read("node.crt").unwrap(),
            pem,
            "an existing certificate is kept"
        );
        let (_, pem) = parse_x509_pem(pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(
            certificate.subject().to_string(),
            "O=system:nodes, CN=system:node:a"
        );
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 2);
        let (_, ca) = parse_x509_pem(pki.read("ca.crt").unwrap().as_bytes()).unwrap();
        let ca = ca.parse_x509().unwrap();
        assert!(certificate.verify_signature(Some(ca.public_key())).is_ok());
    }
}
