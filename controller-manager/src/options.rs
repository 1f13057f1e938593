//! The flags, under upstream's names and with upstream's meanings and defaults.

use clap::{ArgAction, Args};
use ipnet::IpNet;
use rutter_client::component::{LogArgs, ServingArgs};
use rutter_client::connect::ConnectionArgs;
use rutter_client::election::{ElectionArgs, duration};
use std::path::PathBuf;
use std::time::Duration;

/// All flags of the controller manager.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "rutter-controller-manager", about = "Runs the Kubernetes controllers.", version = rutter_client::component::version_text())]
pub struct Options {
    /// Connection
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Election
    #[command(flatten)]
    pub election: ElectionArgs,
    /// Serving
    #[command(flatten)]
    pub serving: ServingArgs,
    /// Logging
    #[command(flatten)]
    pub log: LogArgs,
    /// The port for health and metrics; 0 serves none.
    #[arg(long, value_name = "PORT", default_value_t = 10257)]
    pub secure_port: u16,
    /// Which controllers run: `*` all that are on by default, `name` this one, `-name` not this one.
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        default_value = "*",
        allow_hyphen_values = true
    )]
    pub controllers: Vec<String>,
    /// Give each controller the identity of its own service account in kube-system.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub use_service_account_credentials: bool,
    /// Network
    #[command(flatten)]
    pub network: NetworkOptions,
    /// Certificates
    #[command(flatten)]
    pub certificates: CertificateOptions,
    /// Nodes
    #[command(flatten)]
    pub nodes: NodeOptions,
    /// Autoscaling
    #[command(flatten)]
    pub autoscaling: AutoscalingOptions,
    /// The key that signs tokens of service accounts in Secrets.
    #[arg(long, value_name = "FILE")]
    pub service_account_private_key_file: Option<PathBuf>,
    /// How many ended pods stay before the oldest are deleted; 0 keeps all.
    #[arg(long, value_name = "N", default_value_t = 12500)]
    pub terminated_pod_gc_threshold: i32,
    /// How often volume claims and volumes are looked at even without changes.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub pvclaimbinder_sync_period: Duration,
    /// How often quotas are counted anew even without changes.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub resource_quota_sync_period: Duration,
    /// Collect garbage.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub enable_garbage_collector: bool,

    /// How many endpoints an EndpointSlice holds at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max_endpoints_per_slice: usize,
    /// How many endpoints a mirrored EndpointSlice holds at most, for each subset.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub mirroring_max_endpoints_per_subset: usize,
    /// How long changes of pods are collected before Endpoints are written.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    pub endpoint_updates_batch_period: Duration,
    /// How long changes of pods are collected before EndpointSlices are written.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    pub endpointslice_updates_batch_period: Duration,
    /// How long changes of Endpoints are collected before they are mirrored.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    pub mirroring_endpointslice_updates_batch_period: Duration,

    /// How many CronJobs are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_cron_job_syncs: usize,
    /// How many DaemonSets are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub concurrent_daemonset_syncs: usize,
    /// How many Deployments are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_deployment_syncs: usize,
    /// How many Endpoints are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_endpoint_syncs: usize,
    /// How many volumes of pods are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_ephemeralvolume_syncs: usize,
    /// How many objects the garbage collector works on at once.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub concurrent_gc_syncs: usize,
    /// How many Jobs are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_job_syncs: usize,
    /// How many namespaces are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub concurrent_namespace_syncs: usize,
    /// How many ReplicationControllers are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_rc_syncs: usize,
    /// How many ReplicaSets are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_replicaset_syncs: usize,
    /// How many quotas are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_resource_quota_syncs: usize,
    /// How many Services' EndpointSlices are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_service_endpoint_syncs: usize,
    /// How many service accounts' tokens are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_serviceaccount_token_syncs: usize,
    /// How many StatefulSets are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_statefulset_syncs: usize,
    /// How many ended Jobs are looked at at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_ttl_after_finished_syncs: usize,
    /// How many Endpoints are mirrored at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub mirroring_concurrent_service_endpoint_syncs: usize,
}

/// Flags of addresses.
#[derive(Clone, Debug, Args)]
pub struct NetworkOptions {
    /// The range of pod addresses; two, one of each family, for dual stack.
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNet>,
    /// The range of Service addresses; left out of the pods'.
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<IpNet>,
    /// Give each node a part of the pods' range.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub allocate_node_cidrs: bool,
    /// The size of a node's part; 24 for IPv4 and 64 for IPv6 unless told.
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size: Option<u8>,
    /// The size of a node's IPv4 part in dual stack.
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    /// The size of a node's IPv6 part in dual stack.
    #[arg(long, value_name = "BITS")]
    pub node_cidr_mask_size_ipv6: Option<u8>,
}

/// Flags of certificates.
#[derive(Clone, Debug, Args)]
pub struct CertificateOptions {
    /// The CA that signs certificates for the cluster.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_key_file")]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// The CA's key.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_cert_file")]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// The CA that signs kubelets' serving certificates, instead of one for all.
    #[arg(
        long,
        value_name = "FILE",
        requires = "cluster_signing_kubelet_serving_key_file"
    )]
    pub cluster_signing_kubelet_serving_cert_file: Option<PathBuf>,
    /// That CA's key.
    #[arg(
        long,
        value_name = "FILE",
        requires = "cluster_signing_kubelet_serving_cert_file"
    )]
    pub cluster_signing_kubelet_serving_key_file: Option<PathBuf>,
    /// The CA that signs kubelets' client certificates, instead of one for all.
    #[arg(
        long,
        value_name = "FILE",
        requires = "cluster_signing_kubelet_client_key_file"
    )]
    pub cluster_signing_kubelet_client_cert_file: Option<PathBuf>,
    /// That CA's key.
    #[arg(
        long,
        value_name = "FILE",
        requires = "cluster_signing_kubelet_client_cert_file"
    )]
    pub cluster_signing_kubelet_client_key_file: Option<PathBuf>,
    /// The CA that signs client certificates of the apiserver, instead of one for all.
    #[arg(
        long,
        value_name = "FILE",
        requires = "cluster_signing_kube_apiserver_client_key_file"
    )]
    pub cluster_signing_kube_apiserver_client_cert_file: Option<PathBuf>,
    /// That CA's key.
    #[arg(
        long,
        value_name = "FILE",
        requires = "cluster_signing_kube_apiserver_client_cert_file"
    )]
    pub cluster_signing_kube_apiserver_client_key_file: Option<PathBuf>,
    /// The CA that signs requests of `kubernetes.io/legacy-unknown`, instead of one for all.
    #[arg(
        long,
        value_name = "FILE",
        requires = "cluster_signing_legacy_unknown_key_file"
    )]
    pub cluster_signing_legacy_unknown_cert_file: Option<PathBuf>,
    /// That CA's key.
    #[arg(
        long,
        value_name = "FILE",
        requires = "cluster_signing_legacy_unknown_cert_file"
    )]
    pub cluster_signing_legacy_unknown_key_file: Option<PathBuf>,
    /// How long signed certificates last unless the request asks for less.
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = duration)]
    pub cluster_signing_duration: Duration,
    /// The CA certificate that pods trust the apiserver by.
    #[arg(long, value_name = "FILE")]
    pub root_ca_file: Option<PathBuf>,
}

/// Flags of nodes.
#[derive(Clone, Debug, Args)]
pub struct NodeOptions {
    /// How often nodes are looked at.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub node_monitor_period: Duration,
    /// How long a node may be silent before it counts as unhealthy.
    #[arg(long, value_name = "DURATION", default_value = "50s", value_parser = duration)]
    pub node_monitor_grace_period: Duration,
    /// How long a starting node may be silent before it counts as unhealthy.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub node_startup_grace_period: Duration,
    /// How many nodes a second lose their pods when they fail.
    #[arg(long, value_name = "RATE", default_value_t = 0.1)]
    pub node_eviction_rate: f32,
    /// The same when most nodes of a zone have failed.
    #[arg(long, value_name = "RATE", default_value_t = 0.01)]
    pub secondary_node_eviction_rate: f32,
    /// From this part of failed nodes on, most nodes of a zone count as failed.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.55)]
    pub unhealthy_zone_threshold: f32,
    /// Up to this size a zone in which most nodes have failed loses no pods at all.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub large_cluster_size_threshold: usize,
}

/// Flags of horizontal pod autoscaling.
#[derive(Clone, Debug, Args)]
pub struct AutoscalingOptions {
    /// How often each autoscaler's metrics are read.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub horizontal_pod_autoscaler_sync_period: Duration,
    /// How long the highest recommendation holds against a lower one.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub horizontal_pod_autoscaler_downscale_stabilization: Duration,
    /// By which fraction of the target usage may be off before anything changes.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.1)]
    pub horizontal_pod_autoscaler_tolerance: f64,
    /// How long after a pod's start its CPU samples may be left out.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub horizontal_pod_autoscaler_cpu_initialization_period: Duration,
    /// How long after a pod's start changes of its readiness count as its first ones.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub horizontal_pod_autoscaler_initial_readiness_delay: Duration,
    /// How many autoscalers are worked on at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub concurrent_horizontal_pod_autoscaler_syncs: usize,
}

impl Options {
    /// Whether a controller is to run, given whether it runs by default.
    pub fn enables(&self, name: &str, by_default: bool) -> bool {
        let says = |text: &str| self.controllers.iter().any(|c| c == text);
        if says(name) {
            return true;
        }
        !says(&format!("-{name}")) && says("*") && by_default
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn upstreams_usual_command_line_is_understood() {
        let line = "kcm --allocate-node-cidrs=true --authorization-always-allow-paths=/healthz --bind-address=127.0.0.1 \
            --cluster-cidr=10.244.0.0/16 --cluster-signing-cert-file=/ca.crt --cluster-signing-key-file=/ca.key --controllers=*,-x,y \
            --kubeconfig=/k --leader-elect=false --root-ca-file=/ca.crt --service-account-private-key-file=/sa.key \
            --service-cluster-ip-range=10.96.0.0/12 --use-service-account-credentials=true --v=4";
        let options = Options::try_parse_from(line.split_whitespace()).unwrap();
        assert!(
            options.network.allocate_node_cidrs
                && options.use_service_account_credentials
                && !options.election.leader_elect
        );
        for (name, by_default, want) in [
            ("x", true, false),
            ("y", false, true),
            ("z", true, true),
            ("z", false, false),
        ] {
            assert_eq!(options.enables(name, by_default), want, "{name}");
        }
    }
}
