//! One sync of a pod that should run: look, report, plan, act, look again.

use super::start::{Group, StartError};
use super::{Failure, Input, Next, Worker};
use crate::env::{Sources, service_variables};
use crate::plan::{PodActions, pod_actions};
use crate::pods::{PodExt, plain_container};
use crate::resize;
use crate::resources::{pod_cgroup, qos};
use crate::runtime::observed::Observed;
use crate::runtime::sandbox;
use crate::userns::IdMap;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use rutter_proto::cri::PodSandboxConfig;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often objects and tokens in volumes are brought up to date when nothing else says so.
const VOLUME_REFRESH: Duration = Duration::from_secs(60);
/// How soon a resize that failed is tried again.
const RESIZE_RETRY: Duration = Duration::from_secs(5);
/// How soon the runtime is asked again after it didn't answer.
const RETRY: Duration = Duration::from_secs(2);

/// How soon a failed sync is tried again: at once after the first failure, later and later then.
fn retry_after(failures: u32) -> Duration {
    Duration::from_millis(500)
        .saturating_mul(1 << failures.saturating_sub(1).min(6))
        .min(Duration::from_secs(20))
}

impl Worker {
    /// Brings the pod one step further.
    pub(crate) async fn sync(&mut self, input: &Input) -> Next {
        let pod = input.pod.clone();
        let observed = match self.look().await {
            Ok(observed) => observed,
            Err(error) => {
                tracing::warn!(pod = %pod.full_name(), uid = %self.uid, %error, "asking the container runtime about a pod failed");
                return Next::In(RETRY);
            }
        };
        if let Some(failure) = deadline_exceeded(&pod, Timestamp::now()) {
            self.shared
                .event(&pod, false, "DeadlineExceeded", failure.message.clone());
            return Next::Failed(failure);
        }
        self.settle_stopped(&pod, &observed);
        self.watch_resize(&pod, &observed);
        self.probes.sync(&pod, &observed, false);
        let status = self.publish(input, &observed, false, None);
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return Next::Ended;
        }
        let resync = Duration::from_secs(self.shared.settings.resync_seconds);
        let resync = match seconds_to_deadline(&pod, Timestamp::now()) {
            Some(left) => resync.min(Duration::from_secs(left.max(1))),
            None => resync,
        };
        match self.act(&pod, &observed).await {
            Ok(acted) => {
                self.failures = 0;
                if acted.did_something {
                    match self.look().await {
                        Ok(observed) => {
                            self.watch_resize(&pod, &observed);
                            self.probes.sync(&pod, &observed, false);
                            let status = self.publish(input, &observed, false, None);
                            if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
                                return Next::Ended;
                            }
                            self.remove_dead(&pod, &observed).await;
                        }
                        Err(error) => tracing::debug!(%error, "looking after acting failed"),
                    }
                } else if acted.retry.is_some() {
                    self.publish(input, &observed, false, None);
                }
                if acted.again {
                    return Next::In(Duration::ZERO);
                }
                Next::In(acted.retry.map_or(resync, |r| r.min(resync)))
            }
            Err(problem) => {
                tracing::warn!(pod = %pod.full_name(), uid = %self.uid, problem, "syncing a pod failed; trying again");
                let observed = self.look().await.unwrap_or(observed);
                self.publish(input, &observed, false, None);
                self.failures = self.failures.saturating_add(1);
                Next::In(retry_after(self.failures))
            }
        }
    }

    async fn act(&mut self, pod: &Arc<Pod>, observed: &Observed) -> Result<Acted, String> {
        let shared = self.shared.clone();
        if let Some(why) = shared.network_ready.load().as_ref()
            && !pod.is_host_network()
        {
            if !self.complained {
                shared.event(
                    pod,
                    true,
                    "NetworkNotReady",
                    format!("network is not ready: {why}"),
                );
                self.complained = true;
            }
            return Err(format!("network is not ready: {why}"));
        }
        self.complained = false;
        let mut actions = pod_actions(pod, observed, &self.probes.results());
        resize::plan::add(pod, observed, &self.actuated, &mut actions);
        let needs_volumes = actions.create_sandbox || actions.starts_something();
        let stale = self.objects.swap(false, Ordering::Relaxed)
            || self
                .volumes_for
                .as_ref()
                .is_none_or(|last| shows_otherwise(last, pod))
            || self.volumes_at.is_none_or(|at| at.elapsed() >= VOLUME_REFRESH);
        let mut sources = None;
        if needs_volumes || stale || self.mounted.is_none() {
            let ready = self.prepare(pod, observed).await;
            match ready {
                Ok(ready) => sources = Some(ready),
                Err(problem) if needs_volumes => return Err(problem),
                Err(problem) => {
                    tracing::warn!(pod = %pod.full_name(), problem, "refreshing a pod's volumes failed")
                }
            }
        }
        self.perform(pod, observed, &actions, sources).await
    }

    /// Has the cgroup and the volumes ready.
    async fn prepare(&mut self, pod: &Arc<Pod>, observed: &Observed) -> Result<Sources, String> {
        let shared = self.shared.clone();
        let settings = &shared.settings;
        let group = shared.cgroups.pod(&self.uid, qos(pod));
        // What is promised and not applied yet is applied in its own order, by `resize`.
        let limits = pod_cgroup(
            &self.actuated.apply(pod),
            &settings.limits,
            settings.pod_pids_limit,
        );
        shared.cgroups.ensure(&group, &limits).map_err(|e| {
            let message = format!(
                "unable to ensure pod container exists: failed to create container for {group:?} : {e}"
            );
            shared.event(pod, true, "FailedToCreatePodContainer", message.clone());
            message
        })?;
        let mut sources = self.sources(pod, observed);
        match shared.volumes.set_up(pod, &sources).await {
            Ok(mounted) => {
                self.mounted = Some(mounted);
                self.volumes_at = Some(tokio::time::Instant::now());
                self.volumes_for = Some(pod.clone());
            }
            Err(error) => {
                shared.event(pod, true, "FailedMount", error.to_string());
                return Err(error.to_string());
            }
        }
        self.add_objects(pod, &mut sources).await?;
        Ok(sources)
    }

    fn sources(&self, pod: &Pod, observed: &Observed) -> Sources {
        let shared = &self.shared;
        let mut pod_ips = observed.ips().to_vec();
        if pod.is_host_network() && pod_ips.is_empty() {
            pod_ips = shared.host_ips().to_vec();
        }
        Sources {
            services: service_variables(
                &shared.services.list(),
                pod.namespace(),
                pod.spec().enable_service_links != Some(false),
            ),
            node_name: shared.settings.node_name.clone(),
            host_ips: shared.host_ips().to_vec(),
            pod_ips,
            allocatable: shared.settings.allocatable.clone(),
            ..Sources::default()
        }
    }

    /// Fetches what the environments of the pod's containers name. Objects that aren't there are left out.
    async fn add_objects(&self, pod: &Pod, sources: &mut Sources) -> Result<(), String> {
        let objects = &self.shared.objects;
        let ephemeral: Vec<_> = pod.ephemeral_containers().iter().map(plain_container).collect();
        let all = pod
            .spec()
            .containers
            .iter()
            .chain(pod.init_containers())
            .chain(&ephemeral);
        let (mut maps, mut secrets) = (
            std::collections::BTreeSet::new(),
            std::collections::BTreeSet::new(),
        );
        for container in all {
            for source in container.env_from.iter().flatten() {
                maps.extend(source.config_map_ref.as_ref().map(|r| r.name.clone()));
                secrets.extend(source.secret_ref.as_ref().map(|r| r.name.clone()));
            }
            for from in container
                .env
                .iter()
                .flatten()
                .filter_map(|e| e.value_from.as_ref())
            {
                maps.extend(from.config_map_key_ref.as_ref().map(|r| r.name.clone()));
                secrets.extend(from.secret_key_ref.as_ref().map(|r| r.name.clone()));
                if let Some(file) = &from.file_key_ref {
                    let volume = self.mounted.as_ref().and_then(|m| m.get(&file.volume_name));
                    if let Some(crate::volumes::Mounted::Path { path, .. }) = volume
                        && let Ok(text) = std::fs::read_to_string(path.join(&file.path))
                    {
                        sources
                            .files
                            .insert((file.volume_name.clone(), file.path.clone()), text);
                    }
                }
            }
        }
        for name in maps {
            if let Some(map) = objects
                .config_map(pod, &name)
                .await
                .map_err(|e| crate::objects::describe(&e))?
            {
                sources.config_maps.insert(name, map);
            }
        }
        for name in secrets {
            if let Some(secret) = objects
                .secret(pod, &name)
                .await
                .map_err(|e| crate::objects::describe(&e))?
            {
                sources.secrets.insert(name, secret);
            }
        }
        Ok(())
    }

    async fn perform(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        actions: &PodActions,
        sources: Option<Sources>,
    ) -> Result<Acted, String> {
        let mut acted = Acted::default();
        if actions.kill_pod {
            let running = observed.has_running();
            let had_sandbox = !observed.sandboxes.is_empty();
            if actions.create_sandbox && had_sandbox {
                self.shared.event(
                    pod,
                    false,
                    "SandboxChanged",
                    "Pod sandbox changed, it will be killed and re-created.",
                );
            }
            if running || observed.sandboxes.iter().any(|s| s.ready) {
                self.kill_pod(pod, observed, None).await?;
                acted.did_something = true;
            }
            if actions.create_sandbox && had_sandbox {
                self.remove_init_containers(pod, observed).await;
            }
            if !actions.create_sandbox {
                return Ok(acted);
            }
        }
        for kill in &actions.to_kill {
            self.kill_container(pod, observed, kill).await?;
            acted.did_something = true;
        }
        if !actions.resize.is_empty() {
            self.resize(pod, &actions.resize).await;
            acted.did_something = true;
            if self.resize_error.is_some() {
                acted.retry = Some(RESIZE_RETRY);
            }
        }
        let mut sandbox_id = actions.sandbox_id.clone().filter(|_| !actions.create_sandbox);
        let config = self.sandbox_config(pod, actions.attempt)?;
        let mut current = observed.clone();
        if actions.create_sandbox {
            let id = self.create_sandbox(pod, config.clone()).await?;
            acted.did_something = true;
            sandbox_id = Some(id);
            current = self.look().await.map_err(|e| e.to_string())?;
        }
        let (Some(sandbox_id), true) = (sandbox_id, actions.starts_something()) else {
            return Ok(acted);
        };
        let Some(mut sources) = sources else {
            return Ok(acted);
        };
        if !pod.is_host_network() {
            sources.pod_ips = current.ips().to_vec();
        }
        self.start_all(pod, &current, actions, &sandbox_id, &config, &sources, &mut acted)
            .await;
        Ok(acted)
    }

    #[allow(clippy::too_many_arguments)]
    async fn start_all(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        actions: &PodActions,
        sandbox_id: &str,
        config: &PodSandboxConfig,
        sources: &Sources,
        acted: &mut Acted,
    ) {
        let ephemeral: Vec<_> = pod.ephemeral_containers().iter().map(plain_container).collect();
        let targets: Vec<Option<String>> = pod
            .ephemeral_containers()
            .iter()
            .map(|e| e.target_container_name.clone())
            .collect();
        let groups = [
            (
                Group::Ephemeral,
                &actions.ephemeral_to_start,
                ephemeral.as_slice(),
            ),
            (Group::Init, &actions.init_to_start, pod.init_containers()),
            (
                Group::Regular,
                &actions.to_start,
                pod.spec().containers.as_slice(),
            ),
        ];
        for (group, indexes, list) in groups {
            for index in indexes {
                let Some(container) = list.get(*index) else {
                    continue;
                };
                let target = match group {
                    Group::Ephemeral => targets.get(*index).cloned().flatten(),
                    _ => None,
                };
                match self
                    .start_container(
                        pod, container, group, target, observed, sandbox_id, config, sources,
                    )
                    .await
                {
                    Ok(()) => {
                        if let Some(metrics) = crate::metrics::get() {
                            metrics
                                .started_containers
                                .with_label_values(&[group.kind()])
                                .inc();
                        }
                        self.reasons.remove(&container.name);
                        if group != Group::Ephemeral {
                            self.applied(pod, &container.name);
                        }
                        acted.did_something = true;
                        // The next init container waits for what this one does.
                        if group == Group::Init && crate::pods::is_sidecar(container) {
                            acted.again = container.startup_probe.is_none();
                        }
                    }
                    Err(StartError {
                        reason,
                        message,
                        retry,
                        made,
                    }) => {
                        if let Some(metrics) = crate::metrics::get() {
                            let labels = [group.kind(), reason.as_str()];
                            metrics.started_containers_errors.with_label_values(&labels).inc();
                        }
                        acted.did_something |= made;
                        self.reasons.insert(container.name.clone(), (reason, message));
                        acted.retry = Some(acted.retry.map_or(retry, |r: Duration| r.min(retry)));
                        if group == Group::Init {
                            return;
                        }
                    }
                }
            }
        }
    }

    fn sandbox_config(&mut self, pod: &Pod, attempt: u32) -> Result<PodSandboxConfig, String> {
        let shared = self.shared.clone();
        let settings = &shared.settings;
        let (dns, missing) = sandbox::pod_dns(pod, &settings.dns);
        if missing && attempt == 0 && self.view.lock().observed.sandboxes.is_empty() {
            shared.event(pod, true, "MissingClusterDNS", format!(
                "pod: {:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.",
                format!("{}_{}({})", pod.name(), pod.namespace(), pod.uid())
            ));
        }
        let hostname = sandbox::kernel_hostname(pod, &settings.dns.cluster_domain)?;
        let logs = sandbox::log_directory(&settings.pod_logs, pod);
        let parent = shared.cgroups.parent(&self.uid, qos(pod));
        let ids = self.ids(pod)?;
        Ok(sandbox::sandbox_config(
            pod, attempt, dns, hostname, logs, parent, ids,
        ))
    }

    /// The ids of the pod's user namespace; none when it uses the node's.
    pub(crate) fn ids(&self, pod: &Pod) -> Result<Option<IdMap>, String> {
        if pod.spec().host_users != Some(false) || !self.shared.user_namespaces.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.shared.id_maps.of(&self.uid).map(Some)
    }

    async fn create_sandbox(&mut self, pod: &Pod, config: PodSandboxConfig) -> Result<String, String> {
        let shared = self.shared.clone();
        if pod.spec().host_users == Some(false) && !shared.user_namespaces.load(Ordering::Relaxed) {
            let message = "the container runtime of this node does not report support for user namespaces, and the pod asks for one (hostUsers: false)".to_owned();
            shared.event(pod, true, "FailedCreatePodSandBox", message.clone());
            return Err(message);
        }
        let handler = crate::handlers::of(&shared.client, pod)
            .await
            .inspect_err(|message| {
                shared.event(pod, true, "FailedCreatePodSandBox", message.clone());
            })?;
        tokio::fs::create_dir_all(&config.log_directory)
            .await
            .map_err(|e| format!("making the log folder {}: {e}", config.log_directory))?;
        match shared.cri.run_sandbox(config, handler).await {
            Ok(id) => {
                if let Some(metrics) = crate::metrics::get() {
                    metrics.started_pods.inc();
                }
                Ok(id)
            }
            Err(error) => {
                if let Some(metrics) = crate::metrics::get() {
                    metrics.started_pods_errors.inc();
                }
                let message = format!("Failed to create pod sandbox: {}", error.status.message());
                shared.event(pod, true, "FailedCreatePodSandBox", message.clone());
                Err(message)
            }
        }
    }
}

/// What a sync did.
#[derive(Default)]
pub(crate) struct Acted {
    did_something: bool,
    again: bool,
    retry: Option<Duration>,
}

impl PodActions {
    fn starts_something(&self) -> bool {
        self.create_sandbox
            || !(self.to_start.is_empty()
                && self.init_to_start.is_empty()
                && self.ephemeral_to_start.is_empty())
    }
}

/// Whether volumes that tell a pod about itself may say something else for the newer object.
fn shows_otherwise(last: &Pod, pod: &Pod) -> bool {
    last.metadata.labels != pod.metadata.labels
        || last.metadata.annotations != pod.metadata.annotations
        || last.spec != pod.spec
}

fn seconds_to_deadline(pod: &Pod, now: Timestamp) -> Option<u64> {
    let limit = pod.spec().active_deadline_seconds?;
    let start = pod.status().start_time.as_ref()?;
    u64::try_from(limit - now.duration_since(start.0).as_secs()).ok()
}

fn deadline_exceeded(pod: &Pod, now: Timestamp) -> Option<Failure> {
    let limit = pod.spec().active_deadline_seconds?;
    let start = pod.status().start_time.as_ref()?;
    (now.duration_since(start.0).as_secs() >= limit).then(|| Failure {
        reason: "DeadlineExceeded".to_owned(),
        message: "Pod was active on the node longer than the specified deadline".to_owned(),
        grace: None,
        rejected: false,
        disruption: None,
    })
}
