//! The kubelet's settings: upstream's flags and `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1). Flags win over the file. A
//! field or flag that isn't honoured isn't accepted.

use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// The node agent: runs pods through a container runtime and reports on them and the node.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "rutter-kubelet", version = rutter_client::component::version_text(), disable_version_flag = false)]
pub struct Flags {
    /// A KubeletConfiguration file. Flags win over what it says.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to reach the apiserver, and as whom. Written by the kubelet when it bootstraps.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// How to reach the apiserver to get the first client certificate, when the kubeconfig isn't there yet.
    #[arg(long, value_name = "FILE")]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// The container runtime's socket.
    #[arg(long, value_name = "URL")]
    pub container_runtime_endpoint: Option<String>,
    /// The image service's socket, when it isn't the runtime's.
    #[arg(long, value_name = "URL")]
    pub image_service_endpoint: Option<String>,
    /// The node's name; the host's name when not given.
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// The node's addresses, one per family, separated by commas.
    #[arg(long, value_name = "IP,...", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Labels that the node gets when it registers.
    #[arg(long, value_name = "KEY=VALUE,...", value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// Taints that the node gets when it registers.
    #[arg(long, value_name = "KEY=VALUE:EFFECT,...", value_delimiter = ',')]
    pub register_with_taints: Vec<String>,
    /// Whether the node makes its own Node object.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub register_node: Option<bool>,
    /// The provider's id of the machine.
    #[arg(long, value_name = "ID")]
    pub provider_id: Option<String>,
    /// Where pods' volumes and the kubelet's own files are.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// Where certificates are kept.
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// A folder of manifests of static pods.
    #[arg(long, value_name = "DIR")]
    pub pod_manifest_path: Option<PathBuf>,
    /// Addresses of the cluster's DNS service.
    #[arg(long, value_name = "IP,...", value_delimiter = ',')]
    pub cluster_dns: Vec<String>,
    /// The cluster's DNS domain.
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// The file with the node's name servers and search domains.
    #[arg(long, value_name = "FILE")]
    pub resolv_conf: Option<String>,
    /// Who makes cgroups: cgroupfs or systemd. The runtime's answer wins where it gives one.
    #[arg(long, value_name = "DRIVER")]
    pub cgroup_driver: Option<String>,
    /// The cgroup below which pods are put.
    #[arg(long, value_name = "PATH")]
    pub cgroup_root: Option<String>,
    /// How many pods may run here.
    #[arg(long, value_name = "N")]
    pub max_pods: Option<i64>,
    /// The address that the HTTPS server listens on.
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// The port that the HTTPS server listens on.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// The port of the plain health server on loopback; 0 for none.
    #[arg(long, value_name = "PORT")]
    pub healthz_port: Option<u16>,
    /// Certificates of those who sign the client certificates that callers may present.
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// The HTTPS server's certificate.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// The HTTPS server's key.
    #[arg(long, value_name = "FILE")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Whether callers without credentials are let in as system:anonymous.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub anonymous_auth: Option<bool>,
    /// Whether bearer tokens are checked by TokenReview.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub authentication_token_webhook: Option<bool>,
    /// Who decides what callers may do: Webhook or AlwaysAllow.
    #[arg(long, value_name = "MODE")]
    pub authorization_mode: Option<String>,
    /// Whether the client certificate is renewed before it ends.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub rotate_certificates: Option<bool>,
    /// Whether the HTTPS server's certificate is asked for from the cluster and renewed.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub rotate_server_certificates: Option<bool>,
    /// What the system keeps for itself, such as cpu=200m,memory=150Mi.
    #[arg(long, value_name = "NAME=AMOUNT,...", value_delimiter = ',')]
    pub system_reserved: Vec<String>,
    /// What Kubernetes' own components keep for themselves.
    #[arg(long, value_name = "NAME=AMOUNT,...", value_delimiter = ',')]
    pub kube_reserved: Vec<String>,
    /// What the node has, where it can't be found out (as in a container): cpu=2,memory=4Gi,ephemeral-storage=20Gi.
    #[arg(long, value_name = "NAME=AMOUNT,...", value_delimiter = ',')]
    pub capacity: Vec<String>,
    /// Thresholds below which pods are evicted, such as memory.available<100Mi,nodefs.available<10%.
    #[arg(long, value_name = "SIGNAL<AMOUNT,...", value_delimiter = ',')]
    pub eviction_hard: Option<Vec<String>>,
    /// Whether the runtime's default seccomp profile applies where a pod names none.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub seccomp_default: Option<bool>,
    /// Sysctls that pods may have besides the safe ones; a * at the end stands for anything.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// How verbose the log is, and its format.
    #[command(flatten)]
    pub log: rutter_client::component::LogArgs,
}

/// The fields of a KubeletConfiguration that are honoured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct FileConfig {
    api_version: String,
    kind: String,
    pub(crate) static_pod_path: Option<PathBuf>,
    pub(crate) file_check_frequency: Option<String>,
    pub(crate) sync_frequency: Option<String>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: Option<u16>,
    pub(crate) tls_cert_file: Option<PathBuf>,
    pub(crate) tls_private_key_file: Option<PathBuf>,
    pub(crate) rotate_certificates: Option<bool>,
    #[serde(rename = "serverTLSBootstrap")]
    pub(crate) server_tls_bootstrap: Option<bool>,
    pub(crate) authentication: Option<Authentication>,
    pub(crate) authorization: Option<Authorization>,
    pub(crate) healthz_port: Option<u16>,
    pub(crate) healthz_bind_address: Option<IpAddr>,
    pub(crate) cluster_domain: Option<String>,
    #[serde(rename = "clusterDNS")]
    pub(crate) cluster_dns: Option<Vec<String>>,
    pub(crate) node_status_update_frequency: Option<String>,
    pub(crate) node_status_report_frequency: Option<String>,
    pub(crate) node_lease_duration_seconds: Option<i32>,
    #[serde(rename = "imageMinimumGCAge")]
    pub(crate) image_minimum_gc_age: Option<String>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub(crate) image_gc_high_threshold_percent: Option<u8>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub(crate) image_gc_low_threshold_percent: Option<u8>,
    pub(crate) cgroup_root: Option<String>,
    #[serde(rename = "cgroupsPerQOS")]
    pub(crate) cgroups_per_qos: Option<bool>,
    pub(crate) cgroup_driver: Option<String>,
    pub(crate) runtime_request_timeout: Option<String>,
    pub(crate) max_pods: Option<i64>,
    #[serde(rename = "podCIDR")]
    pub(crate) pod_cidr: Option<String>,
    pub(crate) pod_pids_limit: Option<i64>,
    pub(crate) resolv_conf: Option<String>,
    #[serde(rename = "cpuCFSQuota")]
    pub(crate) cpu_cfs_quota: Option<bool>,
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub(crate) cpu_cfs_quota_period: Option<String>,
    pub(crate) node_status_max_images: Option<i32>,
    pub(crate) serialize_image_pulls: Option<bool>,
    pub(crate) max_parallel_image_pulls: Option<i32>,
    pub(crate) eviction_hard: Option<BTreeMap<String, String>>,
    pub(crate) container_log_max_size: Option<String>,
    pub(crate) container_log_max_files: Option<i32>,
    pub(crate) system_reserved: Option<BTreeMap<String, String>>,
    pub(crate) kube_reserved: Option<BTreeMap<String, String>>,
    pub(crate) register_with_taints: Option<Vec<k8s_openapi::api::core::v1::Taint>>,
    pub(crate) register_node: Option<bool>,
    pub(crate) seccomp_default: Option<bool>,
    /// Sysctls that pods may have besides the safe ones; a `*` at the end stands for anything.
    pub(crate) allowed_unsafe_sysctls: Option<Vec<String>>,
    pub(crate) single_process_oom_kill: Option<bool>,
    pub(crate) container_runtime_endpoint: Option<String>,
    pub(crate) image_service_endpoint: Option<String>,
    pub(crate) provider_id: Option<String>,
    pub(crate) pod_logs_dir: Option<PathBuf>,
    pub(crate) crash_loop_back_off: Option<CrashLoop>,
}

/// `authentication`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Authentication {
    pub(crate) x509: Option<X509>,
    pub(crate) webhook: Option<WebhookAuthentication>,
    pub(crate) anonymous: Option<Anonymous>,
}

/// `authentication.x509`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct X509 {
    #[serde(rename = "clientCAFile")]
    pub(crate) client_ca_file: Option<PathBuf>,
}

/// `authentication.webhook`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct WebhookAuthentication {
    pub(crate) enabled: Option<bool>,
    #[serde(rename = "cacheTTL")]
    pub(crate) cache_ttl: Option<String>,
}

/// `authentication.anonymous`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Anonymous {
    pub(crate) enabled: Option<bool>,
}

/// `authorization`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Authorization {
    pub(crate) mode: Option<String>,
    pub(crate) webhook: Option<WebhookAuthorization>,
}

/// `authorization.webhook`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WebhookAuthorization {
    #[serde(rename = "cacheAuthorizedTTL")]
    pub(crate) cache_authorized_ttl: Option<String>,
    #[serde(rename = "cacheUnauthorizedTTL")]
    pub(crate) cache_unauthorized_ttl: Option<String>,
}

/// `crashLoopBackOff`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct CrashLoop {
    pub(crate) max_container_restart_period: Option<String>,
}

impl FileConfig {
    /// Reads a configuration from text.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = serde_yaml_ng::from_str(text)?;
        if config.api_version != "kubelet.config.k8s.io/v1beta1" || config.kind != "KubeletConfiguration" {
            bail!(
                "it is {} {:?}, and a KubeletConfiguration of kubelet.config.k8s.io/v1beta1 is needed",
                config.api_version,
                config.kind
            );
        }
        Ok(config)
    }
}

/// A duration as Go writes it (`1h30m`, `500ms`, `0s`).
pub(crate) fn duration(text: &str) -> anyhow::Result<std::time::Duration> {
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        bail!("a duration is empty");
    }
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let number: f64 = number
            .parse()
            .with_context(|| format!("{text:?} is no duration"))?;
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        seconds += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                "" if number == 0.0 => 0.0,
                _ => bail!("{text:?} is no duration: use units such as 10s or 5m"),
            };
        rest = tail;
    }
    Ok(std::time::Duration::try_from_secs_f64(seconds)?)
}

/// `NAME=AMOUNT` pairs as a map.
pub(crate) fn amounts(flag: &str, list: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    list.iter()
        .map(|pair| {
            let (name, amount) = pair
                .split_once('=')
                .with_context(|| format!("--{flag}: {pair:?} is not NAME=AMOUNT"))?;
            Ok((name.trim().to_owned(), amount.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let good = FileConfig::parse(&format!("{head}maxPods: 50\nclusterDNS: [10.96.0.10]\n"))
            .expect("a configuration");
        assert_eq!(good.max_pods, Some(50));
        let error =
            FileConfig::parse(&format!("{head}topologyManagerPolicy: restricted\n")).expect_err("refused");
        assert!(error.to_string().contains("topologyManagerPolicy"), "{error}");
        assert!(FileConfig::parse("kind: Other\napiVersion: v1\n").is_err());
    }

    #[test]
    fn durations_are_gos() {
        for (text, seconds) in [
            ("10s", 10.0),
            ("1h30m", 5400.0),
            ("100ms", 0.1),
            ("0", 0.0),
            ("0s", 0.0),
        ] {
            assert_eq!(duration(text).expect(text).as_secs_f64(), seconds, "{text}");
        }
        assert!(duration("5").is_err() && duration("").is_err() && duration("x").is_err());
    }
}
