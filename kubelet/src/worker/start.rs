//! Starting one container: back-off, image, environment, mounts, create, start, postStart.

use super::Worker;
use crate::backoff::go_duration;
use crate::env::{Sources, environment};
use crate::hooks;
use crate::images::ReadyImage;
use crate::plan::container_hash;
use crate::pods::{PodExt, grace_seconds};
use crate::runtime::container::{ContainerInputs, container_config, log_path};
use crate::runtime::observed::{ContainerState, Observed};
use crate::runtime::security;
use crate::volumes::mounts::{MountInputs, container_mounts};
use crate::volumes::{Mounted, MountedVolumes};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use rutter_proto::cri::PodSandboxConfig;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Which list of the pod a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// `initContainers`
    Init,
    /// `containers`
    Regular,
    /// `ephemeralContainers`
    Ephemeral,
}

impl Group {
    /// As metrics name it.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Init => "init_container",
            Self::Regular => "container",
            Self::Ephemeral => "ephemeral_container",
        }
    }

    /// The field's name.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Regular => "containers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

/// Why a container isn't running: what its status says, and when to try again.
pub(crate) struct StartError {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) retry: Duration,
    /// Whether a container was made on the way.
    pub(crate) made: bool,
}

fn failed(reason: &str, message: impl Into<String>) -> StartError {
    StartError {
        reason: reason.to_owned(),
        message: message.into(),
        retry: Duration::from_secs(10),
        made: false,
    }
}

impl Worker {
    /// Starts a container.
    #[allow(clippy::too_many_arguments)]
    pub(crate) async fn start_container(
        &mut self,
        pod: &Pod,
        container: &Container,
        group: Group,
        target: Option<String>,
        observed: &Observed,
        sandbox_id: &str,
        config: &PodSandboxConfig,
        sources: &Sources,
    ) -> Result<(), StartError> {
        let shared = self.shared.clone();
        self.check_backoff(pod, container, group, observed)?;
        let image = container.image.clone().unwrap_or_default();
        let policy = container.image_pull_policy.as_deref();
        let ready = self
            .ready_image(pod, container, group, &image, policy, config)
            .await?;
        let fail = |reason: &str, message: String| {
            shared.container_event(
                pod,
                group.field(),
                &container.name,
                true,
                "Failed",
                format!("Error: {message}"),
            );
            failed(reason, message)
        };
        let effective = security::effective(pod, container);
        security::check_non_root(&effective, &ready.user, pod, &container.name)
            .map_err(|message| fail("CreateContainerConfigError", message))?;
        let variables = environment(pod, container, sources)
            .map_err(|error| fail("CreateContainerConfigError", error.to_string()))?;
        let restarts = self.next_restart(pod, container, observed);
        let ids = self
            .ids(pod)
            .map_err(|message| fail("CreateContainerConfigError", message))?;
        let images = self.image_volumes(pod, container, group, config).await?;
        let equipment = shared
            .devices
            .equip(&self.uid, &container.name)
            .await
            .map_err(|message| fail("CreateContainerConfigError", message))?;
        let empty = MountedVolumes::new();
        let mounts = container_mounts(
            pod,
            container,
            &MountInputs {
                root: &shared.settings.root,
                volumes: self.mounted.as_ref().unwrap_or(&empty),
                images: &images,
                environment: &variables,
                pod_ips: &sources.pod_ips,
                cluster_domain: &shared.settings.dns.cluster_domain,
            },
        )
        .map_err(|message| fail("CreateContainerConfigError", message))?;
        let target_id = match &target {
            Some(name) => Some(observed.container(name).map(|c| c.id.clone()).ok_or_else(|| {
                fail(
                    "CreateContainerConfigError",
                    format!("unable to find target container {name}"),
                )
            })?),
            None => None,
        };
        let container_config = container_config(
            pod,
            container,
            ContainerInputs {
                restarts,
                image_ref: ready.reference,
                image_user: ready.user,
                environment: variables,
                mounts,
                equipment,
                target: target_id.as_deref(),
                ids,
                rules: &shared.settings.limits,
                seccomp_default: shared.settings.seccomp_default,
            },
        );
        let log_dir = Path::new(&config.log_directory).join(&container.name);
        std::fs::create_dir_all(&log_dir).map_err(|e| {
            fail(
                "CreateContainerError",
                format!("create container log directory: {e}"),
            )
        })?;
        let id = shared
            .cri
            .create_container(sandbox_id, container_config, config.clone())
            .await
            .map_err(|error| fail("CreateContainerError", error.status.message().to_owned()))?;
        shared.container_event(
            pod,
            group.field(),
            &container.name,
            false,
            "Created",
            "Container created",
        );
        if let Err(error) = shared.cri.start_container(&id).await {
            let message = error.status.message().to_owned();
            return Err(StartError {
                made: true,
                ..fail("RunContainerError", message)
            });
        }
        shared.container_event(
            pod,
            group.field(),
            &container.name,
            false,
            "Started",
            "Container started",
        );
        self.link_log(pod, container, &id, restarts);
        if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) {
            let pod_ip = sources.pod_ips.first().map(String::as_str);
            if let Err(problem) = hooks::run(&shared.cri, pod, container, &id, hook, pod_ip).await {
                let message = format!("PostStartHook failed: {problem}");
                shared.container_event(
                    pod,
                    group.field(),
                    &container.name,
                    true,
                    "FailedPostStartHook",
                    message.clone(),
                );
                shared.container_event(
                    pod,
                    group.field(),
                    &container.name,
                    false,
                    "Killing",
                    "FailedPostStartHook",
                );
                let _ = shared.cri.stop_container(&id, grace_seconds(pod)).await;
                return Err(StartError {
                    made: true,
                    retry: Duration::from_secs(1),
                    ..failed("PostStartHookError", message)
                });
            }
        }
        Ok(())
    }

    /// Has an image on the node.
    async fn ready_image(
        &mut self,
        pod: &Pod,
        container: &Container,
        group: Group,
        image: &str,
        policy: Option<&str>,
        config: &PodSandboxConfig,
    ) -> Result<ReadyImage, StartError> {
        let shared = self.shared.clone();
        let began = std::time::Instant::now();
        let ready = shared.images.ensure(pod, image, policy, config).await;
        self.pulling += began.elapsed();
        ready.map_err(|problem| {
            if matches!(
                problem.reason,
                "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName"
            ) {
                let text = format!("Error: {}", problem.reason);
                shared.container_event(pod, group.field(), &container.name, true, "Failed", text);
            }
            let retry = problem
                .retry_seconds
                .map_or(10, |s| u64::try_from(s).unwrap_or(10));
            StartError {
                retry: Duration::from_secs(retry),
                ..failed(problem.reason, problem.message)
            }
        })
    }

    /// Has the images on the node that the container mounts; gives the runtime's references by volume.
    async fn image_volumes(
        &mut self,
        pod: &Pod,
        container: &Container,
        group: Group,
        config: &PodSandboxConfig,
    ) -> Result<BTreeMap<String, String>, StartError> {
        let mut out = BTreeMap::new();
        let mounted: Vec<(String, String, Option<String>)> = container
            .volume_mounts
            .iter()
            .flatten()
            .filter_map(|mount| match self.mounted.as_ref()?.get(&mount.name)? {
                Mounted::Image { reference, policy } => {
                    Some((mount.name.clone(), reference.clone(), policy.clone()))
                }
                Mounted::Path { .. } => None,
            })
            .collect();
        for (volume, reference, policy) in mounted {
            if let Some(why) = &self.shared.settings.no_image_volumes {
                let message = format!("volume {volume:?}: {why}");
                let text = format!("Error: {message}");
                self.shared
                    .container_event(pod, group.field(), &container.name, true, "Failed", text);
                return Err(failed("CreateContainerConfigError", message));
            }
            let ready = self
                .ready_image(pod, container, group, &reference, policy.as_deref(), config)
                .await?;
            out.insert(volume, ready.reference);
        }
        Ok(out)
    }

    /// Holds a container back that ended a short while ago.
    fn check_backoff(
        &self,
        pod: &Pod,
        container: &Container,
        group: Group,
        observed: &Observed,
    ) -> Result<(), StartError> {
        let Some(last) = observed
            .container(&container.name)
            .filter(|c| c.state == ContainerState::Exited)
        else {
            return Ok(());
        };
        let Some(ended) = last.finished_at else {
            return Ok(());
        };
        let now = Timestamp::now();
        let key = format!("{}/{}/{:x}", self.uid, container.name, container_hash(container));
        let mut backoff = self.shared.crash_backoff.lock();
        if let Some((delay, left)) = backoff.remaining(&key, ended, now) {
            let delay = go_duration(delay);
            let at = format!("{}_{}({})", pod.name(), pod.namespace(), pod.uid());
            let shared = &self.shared;
            shared.container_event(
                pod,
                group.field(),
                &container.name,
                true,
                "BackOff",
                format!(
                    "Back-off restarting failed container {} in pod {at}",
                    container.name
                ),
            );
            let message = format!(
                "back-off {delay} restarting failed container={} pod={at}",
                container.name
            );
            let retry = Duration::try_from(left).unwrap_or_default() + Duration::from_millis(5);
            return Err(StartError {
                retry,
                ..failed("CrashLoopBackOff", message)
            });
        }
        backoff.lengthen(&key, ended, now);
        Ok(())
    }

    /// The number of restarts that the next container of that name carries.
    fn next_restart(&self, pod: &Pod, container: &Container, observed: &Observed) -> i32 {
        if let Some(last) = observed.container(&container.name) {
            return last.restart_count + 1;
        }
        let logs = crate::runtime::sandbox::log_directory(&self.shared.settings.pod_logs, pod);
        let numbers = std::fs::read_dir(Path::new(&logs).join(&container.name))
            .into_iter()
            .flatten()
            .flatten();
        numbers
            .filter_map(|e| {
                e.file_name()
                    .to_string_lossy()
                    .split('.')
                    .next()?
                    .parse::<i32>()
                    .ok()
            })
            .max()
            .map_or(0, |n| n + 1)
    }

    /// The link by which log shippers find a container's log.
    fn link_log(&self, pod: &Pod, container: &Container, id: &str, restarts: i32) {
        let settings = &self.shared.settings;
        let logs = crate::runtime::sandbox::log_directory(&settings.pod_logs, pod);
        let target = Path::new(&logs).join(log_path(&container.name, restarts));
        let name = format!("{}_{}_{}-{id}.log", pod.name(), pod.namespace(), container.name);
        let link = settings.container_logs.join(name);
        if let Err(error) = std::os::unix::fs::symlink(&target, &link)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            tracing::debug!(link = %link.display(), %error, "linking a container's log failed");
        }
    }
}
