//! From flags to a client of the apiserver.

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The flags by which a component finds the apiserver, under upstream's names.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConnectionArgs {
    /// Path to a kubeconfig file with the apiserver's address and the credentials. Without it the component expects to run in a pod.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The apiserver's address; overrides the one in the kubeconfig.
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
}

impl ConnectionArgs {
    /// The configuration that the flags say.
    pub async fn config(&self) -> anyhow::Result<kube::Config> {
        install_crypto_provider();
        let mut config = match &self.kubeconfig {
            Some(path) => from_file(path).await?,
            None => kube::Config::incluster().context(
                "no --kubeconfig is given and this is no pod: pass --kubeconfig with the path of a kubeconfig file",
            )?,
        };
        if let Some(master) = &self.master {
            config.cluster_url = master
                .parse()
                .with_context(|| format!("--master {master:?} is no URL"))?;
        }
        Ok(config)
    }

    /// A client under `component/version` as its user agent.
    pub async fn client(&self, component: &str) -> anyhow::Result<kube::Client> {
        client(self.config().await?, component)
    }
}

/// Reads the current context of a kubeconfig file.
pub async fn from_file(path: &Path) -> anyhow::Result<kube::Config> {
    let file =
        Kubeconfig::read_from(path).with_context(|| format!("reading the kubeconfig {}", path.display()))?;
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("using the kubeconfig {}", path.display()))?;
    config.connect_timeout = Some(Duration::from_secs(10));
    Ok(config)
}

/// Makes a client that names itself `component/version`. It does no I/O yet.
pub fn client(mut config: kube::Config, component: &str) -> anyhow::Result<kube::Client> {
    install_crypto_provider();
    let agent = format!("{component}/{}", env!("CARGO_PKG_VERSION"));
    config.headers.push((
        http::header::USER_AGENT,
        http::HeaderValue::from_str(&agent).context("the component's name is no header value")?,
    ));
    kube::Client::try_from(config).context("making a client for the apiserver")
}

/// Makes aws-lc-rs the process's provider of cryptography. May be called any number of times.
pub fn install_crypto_provider() {
    // The error says that one is installed already, which is what is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
