//! How to reach a server: the part of a kubeconfig that a load generator needs.

use anyhow::Context as _;
use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// An address and credentials.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    pub(crate) identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    pub(crate) token: Option<String>,
}

impl Access {
    /// From the current context of a kubeconfig file.
    pub(crate) fn of_kubeconfig(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder).with_context(|| format!("using {}", path.display()))
    }

    fn parse(text: &str, folder: &Path) -> anyhow::Result<Self> {
        let config: Value = serde_yaml_ng::from_str(text)?;
        let context = named(&config, "contexts", &config["current-context"])?["context"].clone();
        let cluster = named(&config, "clusters", &context["cluster"])?["cluster"].clone();
        let user = named(&config, "users", &context["user"])?["user"].clone();
        let server = cluster["server"].as_str().context("the cluster has no server")?;
        let uri: http::Uri = server.parse()?;
        anyhow::ensure!(uri.scheme_str() == Some("https"), "{server} is not https");
        let pem = |of: &Value, name: &str| material(of, name, folder);
        let ca = pem(&cluster, "certificate-authority")?.context("the cluster names no authority")?;
        let identity = match (pem(&user, "client-certificate")?, pem(&user, "client-key")?) {
            (Some(certificate), Some(key)) => Some((
                CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>()?,
                PrivateKeyDer::from_pem_slice(&key)?,
            )),
            _ => None,
        };
        Ok(Self {
            host: uri.host().context("the server has no host")?.to_owned(),
            port: uri.port_u16().unwrap_or(443),
            authorities: CertificateDer::pem_slice_iter(&ca).collect::<Result<_, _>>()?,
            identity,
            token: user["token"].as_str().map(str::to_owned),
        })
    }
}

fn named<'a>(config: &'a Value, list: &str, name: &Value) -> anyhow::Result<&'a Value> {
    config[list]
        .as_array()
        .into_iter()
        .flatten()
        .find(|entry| &entry["name"] == name)
        .with_context(|| format!("{list} have no {name}"))
}

/// Certificates or a key, given in place or as a file.
fn material(of: &Value, name: &str, folder: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    if let Some(text) = of[format!("{name}-data")].as_str() {
        return Ok(Some(base64::engine::general_purpose::STANDARD.decode(text)?));
    }
    let Some(file) = of[name].as_str() else {
        return Ok(None);
    };
    let path: PathBuf = folder.join(file);
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(bytes))
}
