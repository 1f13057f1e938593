//! Wiring of the HTTPS server: its certificate, who may call, and the ports.

use crate::certs;
use crate::config::{FileConfig, Flags, duration};
use crate::node::agent::Agent;
use crate::run::cert_dir;
use crate::server::access::{Access, Rules};
use crate::server::{Server, listen};
use crate::worker::pool::Pool;
use anyhow::{Context as _, bail};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The server, ready to be started.
pub(crate) struct Serving {
    server: Arc<Server>,
    listener: TcpListener,
    health: Option<TcpListener>,
    tls: rustls::ServerConfig,
    /// What keeps certificates fresh.
    renewals: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>,
}

fn rules(flags: &Flags, file: &FileConfig) -> anyhow::Result<Rules> {
    let defaults = Rules::default();
    let authentication = file.authentication.clone().unwrap_or_default();
    let authorization = file.authorization.clone().unwrap_or_default();
    let webhook = authorization.webhook.unwrap_or_default();
    let mode = flags
        .authorization_mode
        .clone()
        .or(authorization.mode)
        .unwrap_or_else(|| "Webhook".to_owned());
    let ttl = |text: Option<String>, default| {
        text.as_deref()
            .map(duration)
            .transpose()
            .map(|d| d.unwrap_or(default))
    };
    let token = authentication.webhook.unwrap_or_default();
    Ok(Rules {
        anonymous: flags
            .anonymous_auth
            .or(authentication.anonymous.and_then(|a| a.enabled))
            .unwrap_or(defaults.anonymous),
        tokens: flags
            .authentication_token_webhook
            .or(token.enabled)
            .unwrap_or(defaults.tokens),
        webhook: match mode.as_str() {
            "Webhook" => true,
            "AlwaysAllow" => false,
            other => bail!("--authorization-mode is Webhook or AlwaysAllow, not {other:?}"),
        },
        token_ttl: ttl(token.cache_ttl, defaults.token_ttl)?,
        allowed_ttl: ttl(webhook.cache_authorized_ttl, defaults.allowed_ttl)?,
        denied_ttl: ttl(webhook.cache_unauthorized_ttl, defaults.denied_ttl)?,
    })
}

/// The configuration as it is in effect, for `/configz`.
fn effective(flags: &Flags, file: &FileConfig, agent: &Agent, rules: &Rules) -> serde_json::Value {
    let settings = &agent.shared.settings;
    serde_json::json!({"kubeletconfig": {
        "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "port": agent.facts.port,
        "staticPodPath": flags.pod_manifest_path.as_ref().or(file.static_pod_path.as_ref()),
        "clusterDNS": settings.dns.cluster_dns, "clusterDomain": settings.dns.cluster_domain,
        "maxPods": agent.facts.capacity.get("pods").and_then(crate::resources::value),
        "nodeLeaseDurationSeconds": agent.rhythm.lease_seconds,
        "nodeStatusUpdateFrequency": format!("{}s", agent.rhythm.update.as_secs()),
        "nodeStatusReportFrequency": format!("{}s", agent.rhythm.report.as_secs()),
        "nodeStatusMaxImages": agent.rhythm.max_images,
        "cpuCFSQuota": settings.limits.cpu_quota,
        "seccompDefault": settings.seccomp_default,
        "podLogsDir": settings.pod_logs,
        "podPidsLimit": settings.pod_pids_limit.unwrap_or(-1),
        "registerNode": agent.rhythm.register,
        "authentication": {"anonymous": {"enabled": rules.anonymous}, "webhook": {"enabled": rules.tokens}},
        "authorization": {"mode": if rules.webhook { "Webhook" } else { "AlwaysAllow" }},
    }})
}

impl Serving {
    /// Has everything ready, ports included.
    pub(crate) async fn prepare(
        flags: &Flags,
        file: &FileConfig,
        pool: &Pool,
        agent: &Agent,
        client: &kube::Client,
    ) -> anyhow::Result<Self> {
        let node = agent.facts.name.clone();
        let ips = agent.facts.ips.clone();
        let dir = cert_dir(flags);
        let rules = rules(flags, file)?;
        let mut renewals: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
        let given = flags.tls_cert_file.clone().or_else(|| file.tls_cert_file.clone());
        let key = flags
            .tls_private_key_file
            .clone()
            .or_else(|| file.tls_private_key_file.clone());
        let certificate = match (given, key) {
            (Some(certificate), Some(key)) => certs::from_files(&certificate, &key)?,
            (None, None) => certs::self_signed(&dir, &node, &ips).context("making a serving certificate")?,
            _ => bail!("--tls-cert-file and --tls-private-key-file belong together"),
        };
        if flags
            .rotate_server_certificates
            .or(file.server_tls_bootstrap)
            .unwrap_or(false)
        {
            let kept = certs::keep_serving(
                client.clone(),
                dir.clone(),
                node.clone(),
                ips,
                certificate.clone(),
            );
            renewals.push(Box::pin(kept));
        }
        let x509 = file
            .authentication
            .as_ref()
            .and_then(|a| a.x509.as_ref())
            .and_then(|x| x.client_ca_file.clone());
        let roots = match flags.client_ca_file.clone().or(x509) {
            Some(path) => roots(&path)?,
            None => Vec::new(),
        };
        let tls = listen::tls(certificate, roots)?;
        let address = flags
            .address
            .or(file.address)
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let port = agent.facts.port;
        let listener = TcpListener::bind((address, port))
            .await
            .with_context(|| format!("listening on {address}:{port}"))?;
        let health_port = flags.healthz_port.or(file.healthz_port).unwrap_or(10248);
        let health_address = file
            .healthz_bind_address
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let health = match health_port {
            0 => None,
            port => Some(
                TcpListener::bind((health_address, port))
                    .await
                    .with_context(|| format!("listening on {health_address}:{port}"))?,
            ),
        };
        let config = effective(flags, file, agent, &rules);
        let server = Arc::new(Server {
            pool: pool.clone(),
            access: Access::new(client.clone(), node, rules),
            pleg: agent.pleg.clone(),
            config,
        });
        Ok(Self {
            server,
            listener,
            health,
            tls,
            renewals,
        })
    }

    /// Starts serving.
    pub(crate) fn start(self, tasks: &mut JoinSet<()>, stop: &CancellationToken) {
        tasks.spawn(listen::serve(
            self.server.clone(),
            self.listener,
            self.tls,
            stop.clone(),
        ));
        if let Some(health) = self.health {
            tasks.spawn(listen::serve_health(self.server, health, stop.clone()));
        }
        for renewal in self.renewals {
            tasks.spawn(renewal);
        }
    }
}

fn roots(path: &PathBuf) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(path).with_context(|| format!("reading the client CA {}", path.display()))?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| {
            format!(
                "the client CA {} is not a PEM file of certificates",
                path.display()
            )
        })
}
