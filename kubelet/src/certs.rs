//! The kubelet's certificates: the first client certificate by a bootstrap token, its renewal, and the serving certificate,
//! signed by the cluster or by itself.

use crate::server::listen::CurrentCertificate;
use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::api::{Api, PostParams};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
const POLL: Duration = Duration::from_millis(250);

/// Writes a file so that nobody ever sees half of it.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path).with_context(|| format!("writing {}", path.display()))
}

/// When a certificate begins and ends to be valid.
fn validity(pem: &[u8]) -> Option<(i64, i64)> {
    let der = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// When a certificate is to be replaced: between seven and nine tenths of its life, `spread` saying where.
fn renew_at(begins: i64, ends: i64, spread: f64) -> i64 {
    let life = (ends - begins).max(0) as f64;
    begins + (life * (7.0 + 2.0 * spread.clamp(0.0, 1.0)) / 10.0) as i64
}

/// A signing request for the node's client or serving certificate.
fn request_pem(node: &str, sans: &[SanType], key: &KeyPair) -> anyhow::Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("system:node:{node}"));
    params.subject_alt_names = sans.to_vec();
    Ok(params.serialize_request(key)?.pem()?)
}

/// The names under which the kubelet is reached.
fn serving_names(node: &str, ips: &[IpAddr]) -> anyhow::Result<Vec<SanType>> {
    let mut out = vec![SanType::DnsName(node.try_into()?)];
    out.extend(ips.iter().map(|ip| SanType::IpAddress(*ip)));
    Ok(out)
}

/// Asks the cluster to sign a request and waits for the certificate.
async fn sign(client: &kube::Client, signer: &str, request: &str, server: bool) -> anyhow::Result<String> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let mut csr = CertificateSigningRequest::default();
    csr.metadata.generate_name = Some("csr-".to_owned());
    csr.spec = CertificateSigningRequestSpec {
        request: ByteString(request.as_bytes().to_vec()),
        signer_name: signer.to_owned(),
        usages: Some(vec![
            "digital signature".to_owned(),
            if server { "server auth" } else { "client auth" }.to_owned(),
        ]),
        ..CertificateSigningRequestSpec::default()
    };
    let made = api
        .create(&PostParams::default(), &csr)
        .await
        .context("asking for a certificate")?;
    let name = made.metadata.name.unwrap_or_default();
    let mut told = false;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15 * 60);
    loop {
        let now = api
            .get(&name)
            .await
            .with_context(|| format!("reading the certificate signing request {name}"))?;
        let status = now.status.unwrap_or_default();
        for condition in status.conditions.iter().flatten() {
            if matches!(condition.type_.as_str(), "Denied" | "Failed") {
                bail!(
                    "the certificate signing request {name} was refused: {}",
                    condition.message.clone().unwrap_or_default()
                );
            }
        }
        if let Some(certificate) = status.certificate {
            return Ok(String::from_utf8(certificate.0)?);
        }
        if tokio::time::Instant::now() > deadline {
            bail!("the certificate signing request {name} was not signed within 15 minutes");
        }
        if !told && server {
            tracing::info!(csr = %name, "waiting for the serving certificate to be approved: kubectl certificate approve {name}");
            told = true;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The place of the client certificate with its key.
pub(crate) fn client_pem(dir: &Path) -> PathBuf {
    dir.join("kubelet-client-current.pem")
}

/// Gets the first client certificate with the bootstrap credentials and writes the kubeconfig that uses it. Does nothing when
/// there is a kubeconfig whose certificate is still valid.
pub(crate) async fn bootstrap(
    bootstrap: &Path,
    kubeconfig: &Path,
    dir: &Path,
    node: &str,
) -> anyhow::Result<()> {
    let pem = client_pem(dir);
    let valid = std::fs::read(&pem)
        .ok()
        .and_then(|p| validity(&p))
        .is_some_and(|(_, ends)| ends > Timestamp::now().as_second());
    if kubeconfig.exists()
        && (valid || !std::fs::read_to_string(kubeconfig)?.contains("kubelet-client-current.pem"))
    {
        return Ok(());
    }
    let text =
        std::fs::read_to_string(bootstrap).with_context(|| format!("reading {}", bootstrap.display()))?;
    if !valid {
        let config = rutter_client::connect::from_file(bootstrap).await?;
        let client = rutter_client::connect::client(config, "rutter-kubelet")?;
        let key = KeyPair::generate()?;
        let mut delay = Duration::from_millis(200);
        let certificate = loop {
            match sign(&client, CLIENT_SIGNER, &request_pem(node, &[], &key)?, false).await {
                Ok(certificate) => break certificate,
                Err(error) => {
                    tracing::warn!(error = %format!("{error:#}"), "getting the first client certificate failed; trying again");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(Duration::from_secs(10));
                }
            }
        };
        write_private(&pem, &format!("{certificate}{}", key.serialize_pem()))?;
    }
    let mut config: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text)?;
    let user = serde_json::json!([{"name": "default-auth", "user": {
        "client-certificate": pem.to_string_lossy(), "client-key": pem.to_string_lossy()}}]);
    config["users"] = serde_yaml_ng::to_value(user)?;
    let current = config["current-context"].as_str().unwrap_or_default().to_owned();
    for context in config["contexts"].as_sequence_mut().into_iter().flatten() {
        if context["name"].as_str() == Some(&current) {
            context["context"]["user"] = "default-auth".into();
        }
    }
    write_private(kubeconfig, &serde_yaml_ng::to_string(&config)?)
}

/// A client whose credentials can be exchanged while it is in use.
pub(crate) struct Exchangeable {
    inner: Arc<ArcSwap<kube::Client>>,
    kubeconfig: PathBuf,
}

impl Exchangeable {
    /// A client by a kubeconfig.
    pub(crate) async fn new(kubeconfig: &Path) -> anyhow::Result<Self> {
        let inner = Arc::new(ArcSwap::from_pointee(Self::load(kubeconfig).await?));
        Ok(Self {
            inner,
            kubeconfig: kubeconfig.to_owned(),
        })
    }

    async fn load(kubeconfig: &Path) -> anyhow::Result<kube::Client> {
        let config = rutter_client::connect::from_file(kubeconfig).await?;
        rutter_client::connect::client(config, "rutter-kubelet")
    }

    /// The client; each request goes out with the credentials of its time.
    pub(crate) fn client(&self) -> kube::Client {
        let inner = self.inner.clone();
        let service = tower::service_fn(move |request| {
            let client = inner.load_full();
            async move { client.send(request).await }
        });
        kube::Client::new(service, "default")
    }

    /// Renews the client certificate whenever it is time.
    pub(crate) async fn keep(self, dir: PathBuf, node: String) {
        loop {
            renew_client(self.client(), dir.clone(), node.clone()).await;
            match Self::load(&self.kubeconfig).await {
                Ok(client) => self.inner.store(Arc::new(client)),
                Err(error) => {
                    tracing::warn!(error = %format!("{error:#}"), "the renewed credentials can't be used")
                }
            }
        }
    }
}

/// Waits until it is time to renew the client certificate, and returns when a new one is on disk.
async fn renew_client(client: kube::Client, dir: PathBuf, node: String) {
    let pem = client_pem(&dir);
    let Some((begins, ends)) = std::fs::read(&pem).ok().and_then(|p| validity(&p)) else {
        // Credentials of another kind aren't ours to renew.
        return std::future::pending().await;
    };
    let due = renew_at(begins, ends, rand::random());
    loop {
        let left = due - Timestamp::now().as_second();
        if left > 0 {
            // Short steps: the machine's clock may jump.
            tokio::time::sleep(Duration::from_secs(left.clamp(1, 60).unsigned_abs())).await;
            continue;
        }
        let renewed = async {
            let key = KeyPair::generate()?;
            let certificate = sign(&client, CLIENT_SIGNER, &request_pem(&node, &[], &key)?, false).await?;
            write_private(&pem, &format!("{certificate}{}", key.serialize_pem()))
        };
        match renewed.await {
            Ok(()) => {
                tracing::info!("the client certificate was renewed");
                return;
            }
            Err(error) => {
                tracing::warn!(error = %format!("{error:#}"), "renewing the client certificate failed; trying again");
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
        }
    }
}

fn certified(certificate: &[u8], key: &[u8]) -> anyhow::Result<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key)?;
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
    Ok(CertifiedKey::new(chain, signing))
}

/// The serving certificate from files.
pub(crate) fn from_files(certificate: &Path, key: &Path) -> anyhow::Result<Arc<CurrentCertificate>> {
    let read = |p: &Path| std::fs::read(p).with_context(|| format!("reading {}", p.display()));
    Ok(Arc::new(CurrentCertificate(ArcSwap::from_pointee(certified(
        &read(certificate)?,
        &read(key)?,
    )?))))
}

/// A serving certificate that the kubelet signed itself, kept in the folder as long as it is valid.
pub(crate) fn self_signed(dir: &Path, node: &str, ips: &[IpAddr]) -> anyhow::Result<Arc<CurrentCertificate>> {
    let (certificate_file, key_file) = (dir.join("kubelet.crt"), dir.join("kubelet.key"));
    let valid = std::fs::read(&certificate_file)
        .ok()
        .and_then(|p| validity(&p))
        .is_some_and(|(_, ends)| ends > Timestamp::now().as_second() + 86_400);
    if !valid || !key_file.exists() {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(
            DnType::CommonName,
            format!("{node}@{}", Timestamp::now().as_second()),
        );
        params.subject_alt_names = serving_names(node, ips)?;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let year = Timestamp::now() + jiff::SignedDuration::from_hours(24 * 365);
        let at = |t: Timestamp| t.to_zoned(jiff::tz::TimeZone::UTC);
        let (from, to) = (
            at(Timestamp::now() - jiff::SignedDuration::from_hours(1)),
            at(year),
        );
        let day = |z: &jiff::Zoned| {
            rcgen::date_time_ymd(
                i32::from(z.year()),
                u8::try_from(z.month()).unwrap_or(1),
                u8::try_from(z.day()).unwrap_or(1),
            )
        };
        params.not_before = day(&from);
        params.not_after = day(&to);
        let certificate = params.self_signed(&key)?;
        write_private(&certificate_file, &certificate.pem())?;
        write_private(&key_file, &key.serialize_pem())?;
    }
    from_files(&certificate_file, &key_file)
}

/// Keeps a serving certificate that the cluster signs, until cancelled.
pub(crate) async fn keep_serving(
    client: kube::Client,
    dir: PathBuf,
    node: String,
    ips: Vec<IpAddr>,
    current: Arc<CurrentCertificate>,
) {
    let pem = dir.join("kubelet-server-current.pem");
    loop {
        let stored = std::fs::read(&pem).ok();
        let valid = stored.as_deref().and_then(validity);
        let now = Timestamp::now().as_second();
        if let (Some(stored), Some((begins, ends))) = (stored.as_deref(), valid)
            && now < renew_at(begins, ends, rand::random())
        {
            match certified(stored, stored) {
                Ok(key) => {
                    current.0.store(Arc::new(key));
                    let due = renew_at(begins, ends, rand::random());
                    while Timestamp::now().as_second() < due {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "the stored serving certificate can't be used"),
            }
        }
        let fresh = async {
            let key = KeyPair::generate()?;
            let request = request_pem(&node, &serving_names(&node, &ips)?, &key)?;
            let certificate = sign(&client, SERVING_SIGNER, &request, true).await?;
            let text = format!("{certificate}{}", key.serialize_pem());
            current
                .0
                .store(Arc::new(certified(text.as_bytes(), text.as_bytes())?));
            write_private(&pem, &text)
        };
        if let Err(error) = fresh.await {
            tracing::warn!(error = %format!("{error:#}"), "getting a serving certificate failed; trying again");
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_renewed_late_in_their_life() {
        assert_eq!(renew_at(0, 1000, 0.0), 700);
        assert_eq!(renew_at(0, 1000, 1.0), 900);
    }

    #[test]
    fn a_self_signed_certificate_is_made_once() {
        rutter_client::connect::install_crypto_provider();
        let dir = tempfile::tempdir().expect("a folder");
        let ips = ["10.0.0.1".parse().expect("an address")];
        self_signed(dir.path(), "n1", &ips).expect("a certificate");
        let first = std::fs::read(dir.path().join("kubelet.crt")).expect("a file");
        self_signed(dir.path(), "n1", &ips).expect("a certificate");
        assert_eq!(
            std::fs::read(dir.path().join("kubelet.crt")).expect("a file"),
            first
        );
    }

    #[test]
    fn requests_name_the_node() {
        let key = KeyPair::generate().expect("a key");
        let names = serving_names("n1", &["10.0.0.1".parse().expect("an address")]).expect("names");
        let pem = request_pem("n1", &names, &key).expect("a request");
        assert!(pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
    }
}
