//! The flags: upstream's names and meanings where upstream has the flag.

use clap::{Args, Parser, ValueEnum};
use ipnet::IpNet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The Kubernetes API server.
#[derive(Clone, Debug, Parser)]
#[command(name = "rutter-apiserver", version = rutter_client::component::version_text())]
pub struct Options {
    /// Logging.
    #[command(flatten)]
    pub logging: rutter_client::component::LogArgs,
    /// Where objects are kept: `embedded` on one machine, `etcd` for several, `memory` for tests. `etcd` when `--etcd-servers` is given.
    #[arg(long, value_enum)]
    pub storage: Option<Storage>,
    /// The folder of the embedded store.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/rutter/apiserver")]
    pub data_dir: PathBuf,
    /// etcd servers, comma separated.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// The certificate authority of etcd's certificates.
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// The certificate to show etcd.
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,
    /// How often etcd's history is compacted, in seconds; 0 for never.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub etcd_compaction_interval: u64,
    /// A file that says which resources are encrypted in the store, and how.
    #[arg(long, value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
    /// Whether that file is read again when it changes.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", requires = "encryption_provider_config")]
    pub encryption_provider_config_automatic_reload: bool,
    /// The port.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// The address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// The address that the cluster reaches this server at; by default that of the default route, or the one listened on.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// The serving certificate, with its intermediates.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: PathBuf,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub tls_private_key_file: PathBuf,
    /// Certificates for some names: `certificate,key:name,name`.
    #[arg(long, value_name = "CERT,KEY:NAMES")]
    pub tls_sni_cert_key: Vec<String>,
    /// The oldest version of TLS that is spoken: `VersionTLS12` or `VersionTLS13`.
    #[arg(long, value_name = "VERSION", default_value = "VersionTLS12")]
    pub tls_min_version: String,
    /// The cipher suites of TLS 1.2 and 1.3 that are spoken, by Go's names; all safe ones when not given.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub tls_cipher_suites: Vec<String>,
    /// The certificate to show aggregated servers, which they believe the names of users by.
    #[arg(long, value_name = "FILE", requires = "proxy_client_key_file")]
    pub proxy_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "proxy_client_cert_file")]
    pub proxy_client_key_file: Option<PathBuf>,
    /// Who calls.
    #[command(flatten)]
    pub oidc: OidcOptions,
    /// A file of issuers of tokens and of who may come without credentials, instead of the `--oidc-*` flags and
    /// `--anonymous-auth`. It is read again when it changes.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["oidc_issuer_url", "oidc_client_id", "oidc_ca_file"])]
    pub authentication_config: Option<PathBuf>,
    /// A kubeconfig file of the webhook that knows tokens.
    #[arg(long, value_name = "FILE")]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// The version of TokenReview that it is sent: `v1` or `v1beta1`.
    #[arg(long, value_name = "VERSION", default_value = "v1beta1")]
    pub authentication_token_webhook_version: String,
    /// How long its answers are remembered.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = go_duration)]
    pub authentication_token_webhook_cache_ttl: Duration,
    /// The authorities of client certificates.
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// A file of static tokens.
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// Whether callers without credentials are `system:anonymous`; they are when nothing is said, unless everything is allowed.
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub anonymous_auth: Option<bool>,
    /// Whether Secrets of type `bootstrap.kubernetes.io/token` authenticate.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_bootstrap_token_auth: bool,
    /// The issuers of service account tokens; the first one signs.
    #[arg(long, required = true)]
    pub service_account_issuer: Vec<String>,
    /// Keys that verify service account tokens; the signing key when not given.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    pub service_account_key_file: Vec<PathBuf>,
    /// The key that signs service account tokens.
    #[arg(long, value_name = "FILE")]
    pub service_account_signing_key_file: PathBuf,
    /// The audiences of tokens; the issuer by default.
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    /// Where others find the keys of service account tokens.
    #[arg(long, value_name = "URL")]
    pub service_account_jwks_uri: Option<String>,
    /// Whether tokens are good only while their service account and Secret exist.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub service_account_lookup: bool,
    /// Whether pods' tokens live longer than asked, for clients that don't read them again.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub service_account_extend_token_expiration: bool,
    /// The longest life of a token, in seconds; 0 for no bound.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub service_account_max_token_expiration: i64,
    /// The authorities of authenticating proxies.
    #[arg(long, value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// The names that proxies' certificates may have; any when empty.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    /// Headers that name the user.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-User")]
    pub requestheader_username_headers: Vec<String>,
    /// Headers that give the uid.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_uid_headers: Vec<String>,
    /// Headers that name groups.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Group")]
    pub requestheader_group_headers: Vec<String>,
    /// The prefix of headers with extra facts.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Extra-")]
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// Who decides, in order: `Node`, `RBAC`, `ABAC`, `Webhook`, `AlwaysAllow`, `AlwaysDeny`.
    #[arg(long, value_delimiter = ',', default_value = "Node,RBAC")]
    pub authorization_mode: Vec<String>,
    /// The policies of `ABAC`.
    #[arg(long, value_name = "FILE")]
    pub authorization_policy_file: Option<PathBuf>,
    /// A file that says who decides, instead of the flags. It is read again when it changes.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["authorization_mode", "authorization_webhook_config_file"])]
    pub authorization_config: Option<PathBuf>,
    /// A kubeconfig file of the webhook that decides.
    #[arg(long, value_name = "FILE")]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// The version of SubjectAccessReview that it is sent: `v1` or `v1beta1`.
    #[arg(long, value_name = "VERSION", default_value = "v1beta1")]
    pub authorization_webhook_version: String,
    /// How long it is remembered that it allowed something.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = go_duration)]
    pub authorization_webhook_cache_authorized_ttl: Duration,
    /// How long it is remembered that it did not.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = go_duration)]
    pub authorization_webhook_cache_unauthorized_ttl: Duration,
    /// Admission plugins to use besides the default ones.
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// A file that tells admission plugins more.
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,
    /// Default admission plugins not to use.
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// How long pods stay on nodes that aren't ready, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub default_not_ready_toleration_seconds: i64,
    /// How long pods stay on nodes that can't be reached, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub default_unreachable_toleration_seconds: i64,
    /// The addresses of Services: one range, or two of different families.
    #[arg(
        long,
        value_name = "CIDR",
        value_delimiter = ',',
        default_value = "10.96.0.0/16"
    )]
    pub service_cluster_ip_range: Vec<IpNet>,
    /// The node ports of Services.
    #[arg(long, value_name = "RANGE", default_value = "30000-32767", value_parser = port_range)]
    pub service_node_port_range: PortRange,
    /// The certificate to show kubelets.
    #[arg(long, value_name = "FILE", requires = "kubelet_client_key")]
    pub kubelet_client_certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "kubelet_client_certificate")]
    pub kubelet_client_key: Option<PathBuf>,
    /// The authority of kubelets' certificates.
    #[arg(long, value_name = "FILE")]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Which of a node's addresses are tried, in order.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP"
    )]
    pub kubelet_preferred_address_types: Vec<String>,
    /// Whether Services that the server calls (webhooks, aggregated servers) are reached at their endpoints instead of their
    /// cluster address, for servers on machines without a proxy.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_aggregator_routing: bool,
    /// How long a request may take that is no watch or stream; 0 is not allowed.
    #[arg(long, value_name = "DURATION", default_value = "1m0s", value_parser = positive_duration)]
    pub request_timeout: Duration,
    /// How long watches last at least that don't say it themselves, in seconds; each lasts up to twice as long.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub min_request_timeout: u64,
    /// How likely a request makes its HTTP/2 client connect anew, so that clients spread over servers: 0 (never) to 0.02.
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, value_parser = goaway_chance)]
    pub goaway_chance: f64,
    /// Whether requests are queued fairly. The seats are those of both bounds below together; without it, each bound holds by itself.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_priority_and_fairness: bool,
    /// How many reading requests are served at once; 0 for no bound.
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// How many mutating requests are served at once; 0 for no bound.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// How much memory all requests hold together at most, in MiB: bodies, objects that are worked on, large answers. Requests wait for
    /// room and are then refused with 429; one that needs more than there is comes alone. 0 for no bound.
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub max_requests_memory_mb: u32,
    /// The audit log.
    #[command(flatten)]
    pub audit: crate::audit::Flags,
    /// How long the server goes on serving after it says it isn't ready any longer.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = go_duration)]
    pub shutdown_delay_duration: Duration,
    /// Whether new requests are answered `429` after that, until those that are being served are done; the listener is closed at once
    /// otherwise.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub shutdown_send_retry_after: bool,
    /// How long watches may go on after that: they end one after the other over this time, so that their clients don't all turn to the
    /// next server at once.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = go_duration)]
    pub shutdown_watch_termination_grace_period: Duration,
}

/// Flags of an OpenID Connect issuer.
#[derive(Clone, Debug, Default, Args)]
pub struct OidcOptions {
    /// The issuer of tokens, an https URL.
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    pub oidc_issuer_url: Option<String>,
    /// The audience that its tokens must have.
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    pub oidc_client_id: Option<String>,
    /// The authorities of its server's certificate; the machine's when not given.
    #[arg(long, value_name = "FILE", requires = "oidc_issuer_url")]
    pub oidc_ca_file: Option<PathBuf>,
    /// The claim that is the user's name.
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub oidc_username_claim: String,
    /// What is put before names; `-` for nothing. When not given, the issuer's URL and `#` for all claims but `email`.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub oidc_username_prefix: String,
    /// The claim that lists the user's groups.
    #[arg(long, value_name = "CLAIM", default_value = "")]
    pub oidc_groups_claim: String,
    /// What is put before groups.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub oidc_groups_prefix: String,
    /// How its tokens may be signed.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "RS256")]
    pub oidc_signing_algs: Vec<String>,
    /// Claims that its tokens must have, with their values.
    #[arg(long, value_name = "CLAIM=VALUE", value_delimiter = ',')]
    pub oidc_required_claim: Vec<String>,
}

/// A duration as Go writes it.
fn go_duration(text: &str) -> Result<Duration, String> {
    match rutter_api::duration::parse_go(text) {
        Ok(nanos) if nanos >= 0 => Ok(Duration::from_nanos(nanos.unsigned_abs())),
        _ => Err(format!("{text:?} is not a duration such as 2m or 30s")),
    }
}

/// The store's engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Storage {
    /// One file on this machine.
    Embedded,
    /// etcd.
    Etcd,
    /// Nothing survives the process.
    Memory,
}

/// A range of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange(pub RangeInclusive<u16>);

fn port_range(text: &str) -> Result<PortRange, String> {
    let bad = || format!("{text:?} is not a range of ports such as 30000-32767 or 30000+100");
    let port = |text: &str| text.trim().parse::<u16>().map_err(|_| bad());
    let (low, high) = if let Some((low, high)) = text.split_once('-') {
        (port(low)?, port(high)?)
    } else if let Some((low, more)) = text.split_once('+') {
        let low = port(low)?;
        (low, low.checked_add(port(more)?).ok_or_else(bad)?)
    } else {
        let one = port(text)?;
        (one, one)
    };
    if low == 0 || low > high {
        return Err(bad());
    }
    Ok(PortRange(low..=high))
}

/// A duration as Go writes it, longer than none.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match go_duration(text)? {
        Duration::ZERO => Err(format!("{text:?} must be longer than 0")),
        duration => Ok(duration),
    }
}

fn goaway_chance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(chance) if (0.0..=0.02).contains(&chance) => Ok(chance),
        _ => Err(format!("{text:?} must be between 0 and 0.02")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_parse() {
        assert_eq!(port_range("30000-32767").unwrap().0, 30000..=32767);
        assert_eq!(port_range("30000+10").unwrap().0, 30000..=30010);
        for text in ["", "0-1", "5-4", "x-y", "65535+1"] {
            assert!(port_range(text).is_err(), "{text}");
        }
    }
}
