//! Wiring: flags to clients, leader election, health, and one task for each controller.

use crate::frame::Context;
use crate::options::Options;
use crate::{
    bootstrap, certificates, cluster_role_aggregation, cronjob, daemonset, deployment, disruption, endpoints,
    endpointslice, endpointslice_mirroring, ephemeral_volume, garbage_collector, horizontal_pod_autoscaler,
    identity, job, namespace, node_ipam, node_lifecycle, persistent_volume, pod_gc, replicaset,
    resource_quota, root_ca, service_account_tokens, service_cidr, serviceaccount, statefulset,
    taint_eviction, ttl, ttl_after_finished, volume_protection,
};
use anyhow::Context as _;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use rutter_client::Informers;
use rutter_client::component::{Health, serve, shutdown_signal};
use rutter_client::election::LeaderElector;
use rutter_client::events::Recorder;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The name under which the process elects a leader and names itself.
pub const NAME: &str = "kube-controller-manager";

type Start = fn(Context) -> BoxFuture<'static, ()>;

/// One controller that can be run.
pub struct Registration {
    /// Its upstream name, by which `--controllers` knows it.
    pub name: &'static str,
    /// The service account that it acts as; empty for the controller manager's own identity.
    pub account: &'static str,
    /// The component that its events come from.
    pub component: &'static str,
    /// Whether it runs unless told otherwise.
    pub by_default: bool,
    start: Start,
}

macro_rules! controller {
    ($name:literal, $account:literal, $component:literal, $start:expr) => {
        Registration {
            name: $name,
            account: $account,
            component: $component,
            by_default: true,
            start: |c| Box::pin($start(c)),
        }
    };
    ($name:literal, $account:literal, $component:literal, $start:expr, off) => {
        Registration {
            name: $name,
            account: $account,
            component: $component,
            by_default: false,
            start: |c| Box::pin($start(c)),
        }
    };
}

/// All controllers there are.
pub fn controllers() -> Vec<Registration> {
    vec![
        controller!(
            "deployment-controller",
            "deployment-controller",
            "deployment-controller",
            deployment::run
        ),
        controller!(
            "replicaset-controller",
            "replicaset-controller",
            "replicaset-controller",
            |c: Context| {
                let workers = c.options.concurrent_replicaset_syncs;
                replicaset::run::<ReplicaSet>(c, workers)
            }
        ),
        controller!(
            "replicationcontroller-controller",
            "replication-controller",
            "replication-controller",
            |c: Context| {
                let workers = c.options.concurrent_rc_syncs;
                replicaset::run::<ReplicationController>(c, workers)
            }
        ),
        controller!(
            "endpoints-controller",
            "endpoint-controller",
            "endpoint-controller",
            endpoints::run
        ),
        controller!(
            "endpointslice-controller",
            "endpointslice-controller",
            "endpoint-slice-controller",
            endpointslice::run
        ),
        controller!(
            "serviceaccount-controller",
            "service-account-controller",
            "service-account-controller",
            serviceaccount::run
        ),
        controller!(
            "root-ca-certificate-publisher-controller",
            "root-ca-cert-publisher",
            "root-ca-cert-publisher",
            root_ca::run
        ),
        controller!(
            "namespace-controller",
            "namespace-controller",
            "namespace-controller",
            namespace::run
        ),
        controller!(
            "garbage-collector-controller",
            "generic-garbage-collector",
            "garbage-collector-controller",
            garbage_collector::run
        ),
        controller!(
            "horizontal-pod-autoscaler-controller",
            "horizontal-pod-autoscaler",
            "horizontal-pod-autoscaler",
            horizontal_pod_autoscaler::run
        ),
        controller!("job-controller", "job-controller", "job-controller", job::run),
        controller!(
            "disruption-controller",
            "disruption-controller",
            "controllermanager",
            disruption::run
        ),
        controller!(
            "clusterrole-aggregation-controller",
            "clusterrole-aggregation-controller",
            "clusterrole-aggregation-controller",
            cluster_role_aggregation::run
        ),
        controller!("ttl-controller", "ttl-controller", "ttl-controller", ttl::run),
        controller!(
            "bootstrap-signer-controller",
            "bootstrap-signer",
            "bootstrap-signer",
            bootstrap::run_signer,
            off
        ),
        controller!(
            "token-cleaner-controller",
            "token-cleaner",
            "token-cleaner",
            bootstrap::run_cleaner,
            off
        ),
        controller!(
            "persistentvolumeclaim-protection-controller",
            "pvc-protection-controller",
            "pvc-protection-controller",
            volume_protection::run_claims
        ),
        controller!(
            "persistentvolume-protection-controller",
            "pv-protection-controller",
            "pv-protection-controller",
            volume_protection::run_volumes
        ),
        controller!(
            "volumeattributesclass-protection-controller",
            "volumeattributesclass-protection-controller",
            "volumeattributesclass-protection-controller",
            volume_protection::run_classes
        ),
        controller!(
            "ephemeral-volume-controller",
            "ephemeral-volume-controller",
            "ephemeral_volume",
            ephemeral_volume::run
        ),
        controller!(
            "persistentvolume-binder-controller",
            "persistent-volume-binder",
            "persistentvolume-controller",
            persistent_volume::run
        ),
        controller!(
            "endpointslice-mirroring-controller",
            "endpointslicemirroring-controller",
            "endpoint-slice-mirroring-controller",
            endpointslice_mirroring::run
        ),
        controller!(
            "resourcequota-controller",
            "resourcequota-controller",
            "resourcequota-controller",
            resource_quota::run
        ),
        controller!(
            "serviceaccount-token-controller",
            "",
            "serviceaccount-token-controller",
            service_account_tokens::run
        ),
        controller!(
            "service-cidr-controller",
            "service-cidrs-controller",
            "service-cidr-controller",
            service_cidr::run
        ),
        controller!(
            "cronjob-controller",
            "cronjob-controller",
            "cronjob-controller",
            cronjob::run
        ),
        controller!(
            "statefulset-controller",
            "statefulset-controller",
            "statefulset-controller",
            statefulset::run
        ),
        controller!(
            "ttl-after-finished-controller",
            "ttl-after-finished-controller",
            "ttl-after-finished-controller",
            ttl_after_finished::run
        ),
        controller!(
            "daemonset-controller",
            "daemon-set-controller",
            "daemonset-controller",
            daemonset::run
        ),
        controller!(
            "node-ipam-controller",
            "node-controller",
            "cidrAllocator",
            node_ipam::run
        ),
        controller!(
            "node-lifecycle-controller",
            "node-controller",
            "node-controller",
            node_lifecycle::run
        ),
        controller!(
            "taint-eviction-controller",
            "node-controller",
            "taint-eviction-controller",
            taint_eviction::run
        ),
        controller!(
            "pod-garbage-collector-controller",
            "pod-garbage-collector",
            "pod-garbage-collector-controller",
            pod_gc::run
        ),
        controller!(
            "certificatesigningrequest-approving-controller",
            "certificate-controller",
            "certificate-controller",
            certificates::run_approver
        ),
        controller!(
            "certificatesigningrequest-signing-controller",
            "certificate-controller",
            "certificate-controller",
            certificates::run_signer
        ),
        controller!(
            "certificatesigningrequest-cleaner-controller",
            "certificate-controller",
            "certificate-controller",
            certificates::run_cleaner
        ),
    ]
}

/// Runs the controller manager until it is told to stop or loses its leadership.
///
/// # Errors
/// When flags don't fit, the apiserver can't be reached as told, or leadership was lost: another replica leads then, and this process must
/// start anew.
pub async fn run(options: Options) -> anyhow::Result<()> {
    check(&options)?;
    let options = Arc::new(options);
    let stop = shutdown_signal();
    let config = options.connection.config().await?;
    let client = rutter_client::connect::client(config.clone(), NAME)?;
    let health = Health::new();
    let leading = health.ready_flag("leaderElection");
    serve(
        &options.serving,
        options.secure_port,
        health,
        Some(client.clone()),
        stop.clone(),
    )
    .await?;
    if !options.election.leader_elect {
        leading.store(true, std::sync::atomic::Ordering::Release);
        return start_all(options, config, client, stop).await;
    }
    let mut elector = LeaderElector::new(client.clone(), &options.election, NAME)?;
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = elector.acquire() => {}
    }
    leading.store(true, std::sync::atomic::Ordering::Release);
    let work = stop.child_token();
    tokio::select! {
        ended = start_all(options, config, client, work.clone()) => {
            elector.release().await;
            ended
        }
        () = elector.hold() => {
            work.cancel();
            anyhow::bail!("the leadership is lost; ending so as not to work against the new leader")
        }
    }
}

fn check(options: &Options) -> anyhow::Result<()> {
    let known = controllers();
    for name in &options.controllers {
        let plain = name.strip_prefix('-').unwrap_or(name);
        anyhow::ensure!(
            plain == "*" || known.iter().any(|c| c.name == plain),
            "--controllers: {plain:?} is not a controller"
        );
    }
    certificates::check_options(&options.certificates)
}

async fn start_all(
    options: Arc<Options>,
    config: kube::Config,
    client: kube::Client,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut plain = config;
    plain.auth_info = kube::config::AuthInfo::default();
    let anonymous = rutter_client::connect::client(plain, NAME)?;
    let informers = Informers::new(client.clone());
    let mut tasks = JoinSet::new();
    for controller in controllers()
        .into_iter()
        .filter(|c| options.enables(c.name, c.by_default))
    {
        let (options, informers, stop) = (options.clone(), informers.clone(), stop.clone());
        let (root, anonymous) = (client.clone(), anonymous.clone());
        tasks.spawn(async move {
            let own = if options.use_service_account_credentials && !controller.account.is_empty() {
                match own_client(&root, &anonymous, controller.account, &stop).await {
                    Some(own) => own,
                    None => return,
                }
            } else {
                root
            };
            let recorder = Recorder::new(own.clone(), controller.component, None);
            (controller.start)(Context {
                name: controller.name,
                client: own,
                informers,
                recorder,
                options,
                stop,
            })
            .await;
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a controller broke down")?;
    }
    stop.cancelled().await;
    Ok(())
}

/// The client of a controller's own identity, tried for until it is there or there is no need any more.
async fn own_client(
    root: &kube::Client,
    anonymous: &kube::Client,
    account: &'static str,
    stop: &CancellationToken,
) -> Option<kube::Client> {
    loop {
        match identity::client(root, anonymous, account, stop.clone()).await {
            Ok(client) => return Some(client),
            Err(error) => tracing::warn!(account, "a controller's identity is not to be had yet: {error:#}"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}
