//! Ending containers and pods: hooks, grace, the order of sidecars, and cleaning up.

use super::{Failure, Worker};
use crate::hooks;
use crate::plan::{Kill, KillReason};
use crate::pods::{PodExt, grace_seconds, is_sidecar, log_dir_name};
use crate::runtime::labels;
use crate::runtime::observed::{ContainerState, Observed, ObservedContainer};
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A container gets at least this long, unless told otherwise.
const MINIMUM_GRACE: i64 = 2;
/// The pause between tries to end a pod that the runtime won't end.
const RETRY: Duration = Duration::from_secs(1);
/// How often the removal of a dead sandbox is tried in a row.
const REMOVE_ATTEMPTS: u32 = 5;

impl Worker {
    /// Kills one container.
    pub(crate) async fn kill_container(
        &self,
        pod: &Pod,
        observed: &Observed,
        kill: &Kill,
    ) -> Result<(), String> {
        let Some(seen) = observed.containers.iter().find(|c| c.id == kill.id) else {
            return Ok(());
        };
        let spec = pod.container(&kill.name);
        let probe = |pick: fn(&Container) -> Option<&Probe>| {
            spec.as_ref()
                .and_then(pick)
                .and_then(|p| p.termination_grace_period_seconds)
        };
        let grace = match kill.reason {
            KillReason::Liveness => probe(|c| c.liveness_probe.as_ref()),
            KillReason::Startup => probe(|c| c.startup_probe.as_ref()),
            _ => None,
        };
        let grace = grace.unwrap_or_else(|| grace_seconds(pod));
        self.end_container(pod, spec.as_ref(), seen, &kill.message, grace, None, observed)
            .await
    }

    #[allow(clippy::too_many_arguments)]
    async fn end_container(
        &self,
        pod: &Pod,
        spec: Option<&Container>,
        seen: &ObservedContainer,
        message: &str,
        grace: i64,
        turn: Option<Turn>,
        observed: &Observed,
    ) -> Result<(), String> {
        let shared = &self.shared;
        // An orphan's object is gone; what it asked for is written on its containers.
        let grace = match spec {
            None => labels::grace(&seen.annotations).unwrap_or(grace),
            Some(_) => grace,
        };
        let started = Instant::now();
        let left = |started: Instant| grace - i64::try_from(started.elapsed().as_secs()).unwrap_or(grace);
        let text = if message.is_empty() {
            format!("Stopping container {}", seen.name)
        } else {
            message.to_owned()
        };
        let group = if pod.init_containers().iter().any(|c| c.name == seen.name) {
            "initContainers"
        } else {
            "containers"
        };
        shared.container_event(pod, group, &seen.name, false, "Killing", text);
        let stored = labels::pre_stop(&seen.annotations);
        let hook = match spec {
            Some(spec) => spec.lifecycle.as_ref().and_then(|l| l.pre_stop.clone()),
            None => stored,
        };
        if let Some(hook) = hook.filter(|_| grace > 0) {
            let fallback = Container {
                name: seen.name.clone(),
                ..Container::default()
            };
            let ip = observed.ips().first().map(String::as_str);
            let running = hooks::run(&shared.cri, pod, spec.unwrap_or(&fallback), &seen.id, &hook, ip);
            let limit = Duration::from_secs(grace.unsigned_abs());
            match tokio::time::timeout(limit, running).await {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => {
                    shared.container_event(
                        pod,
                        group,
                        &seen.name,
                        true,
                        "FailedPreStopHook",
                        format!("PreStopHook failed: {problem}"),
                    );
                }
                Err(_) => tracing::debug!(container = %seen.name, "a preStop hook didn't end in time"),
            }
        }
        if let Some(turn) = &turn {
            let limit = Duration::from_secs(left(started).max(0).unsigned_abs());
            turn.wait(limit).await;
        }
        let remaining = if grace <= 0 {
            grace
        } else {
            left(started).max(MINIMUM_GRACE)
        };
        let result = shared.cri.stop_container(&seen.id, remaining).await;
        drop(turn);
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(format!("killing container {}: {error}", seen.name)),
        }
    }

    /// Kills all containers of the pod, sidecars after the others in reverse order, and its sandboxes.
    pub(crate) async fn kill_pod(
        &self,
        pod: &Pod,
        observed: &Observed,
        grace: Option<i64>,
    ) -> Result<(), String> {
        let grace = grace.unwrap_or_else(|| grace_seconds(pod));
        let running: Vec<&ObservedContainer> = observed
            .containers
            .iter()
            .filter(|c| {
                matches!(
                    c.state,
                    ContainerState::Running | ContainerState::Unknown | ContainerState::Created
                )
            })
            .collect();
        let turns = Turns::new(pod, &running);
        let ending = running.iter().map(|seen| {
            let turn = turns.take(&seen.name);
            async move {
                if seen.state == ContainerState::Created {
                    return Ok(());
                }
                let spec = pod.container(&seen.name);
                self.end_container(pod, spec.as_ref(), seen, "", grace, Some(turn), observed)
                    .await
            }
        });
        let mut problems: Vec<String> = futures::future::join_all(ending)
            .await
            .into_iter()
            .filter_map(Result::err)
            .collect();
        for sandbox in &observed.sandboxes {
            if let Err(error) = self.shared.cri.stop_sandbox(&sandbox.id).await
                && !error.is_not_found()
            {
                problems.push(error.to_string());
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("; "))
        }
    }

    /// Removes dead containers that nobody asks about any more: all but the newest dead one of each name, and all that was in
    /// sandboxes which are given up.
    pub(crate) async fn remove_dead(&self, pod: &Pod, observed: &Observed) {
        let mut kept: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
        for seen in &observed.containers {
            if seen.state != ContainerState::Exited || kept.insert(&seen.name) {
                continue;
            }
            if let Err(error) = self.shared.cri.remove_container(&seen.id).await {
                tracing::debug!(container = %seen.id, %error, "removing a dead container failed");
                continue;
            }
            remove_logs(&self.shared.settings.container_logs, pod, seen);
        }
        let in_use: Vec<&str> = observed
            .containers
            .iter()
            .map(|c| c.sandbox_id.as_str())
            .collect();
        for sandbox in observed.sandboxes.iter().skip(1) {
            if !sandbox.ready
                && !in_use.contains(&sandbox.id.as_str())
                && let Err(error) = self.shared.cri.remove_sandbox(&sandbox.id).await
            {
                tracing::debug!(sandbox = %sandbox.id, %error, "removing a dead sandbox failed");
            }
        }
    }

    /// Removes what init containers left, before they run again in a new sandbox.
    pub(crate) async fn remove_init_containers(&self, pod: &Pod, observed: &Observed) {
        for seen in &observed.containers {
            let init = pod.init_containers().iter().any(|c| c.name == seen.name);
            if init && seen.state != ContainerState::Running {
                let _ = self.shared.cri.remove_container(&seen.id).await;
            }
        }
    }

    /// Ends the pod and stays until its object is gone, too.
    pub(crate) async fn terminate(&mut self, failure: Option<Failure>) {
        self.stop_everything(failure.as_ref()).await;
        let observed = self.view.lock().observed.clone();
        self.view.lock().terminated = true;
        self.probes
            .sync(&self.input.borrow().pod.clone(), &Observed::default(), true);
        self.release().await;
        loop {
            let input = self.input.borrow_and_update().clone();
            let failure = input.failure.clone().or_else(|| failure.clone());
            self.publish(&input, &observed, true, failure.as_ref());
            if input.removed {
                self.remove_traces(&input.pod).await;
                return;
            }
            if input.pod.is_deleting() {
                self.remove_traces(&input.pod).await;
                if input.pod.is_static() {
                    return;
                }
                self.writer.delete();
            }
            if self.input.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tries until nothing of the pod runs. A shorter grace that arrives on the way takes effect at once.
    async fn stop_everything(&mut self, failure: Option<&Failure>) {
        loop {
            let input = self.input.borrow_and_update().clone();
            let observed = match self.look().await {
                Ok(observed) => observed,
                Err(error) => {
                    tracing::warn!(uid = %self.uid, %error, "asking the container runtime about an ending pod failed");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            if observed.is_stopped() {
                return;
            }
            self.probes.sync(&input.pod, &observed, true);
            self.publish(&input, &observed, false, failure);
            let grace = failure
                .and_then(|f| f.grace)
                .unwrap_or_else(|| grace_seconds(&input.pod));
            let grace = if input.removed && !input.pod.is_deleting() && !input.pod.is_static() {
                grace.min(30)
            } else {
                grace
            };
            let mut changes = self.input.clone();
            let shorter = changes.wait_for(|i| i.pod.is_deleting() && grace_seconds(&i.pod) < grace);
            let ended = tokio::select! {
                ended = self.kill_pod(&input.pod, &observed, Some(grace)) => Some(ended),
                _ = shorter => None,
            };
            match ended {
                None | Some(Ok(())) => {}
                Some(Err(problem)) => {
                    self.shared.event(
                        &input.pod,
                        true,
                        "FailedKillPod",
                        format!("error killing pod: {problem}"),
                    );
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Gives back what only a running pod needs.
    async fn release(&self) {
        let shared = self.shared.clone();
        let uid = self.uid.clone();
        shared.id_maps.release(&uid);
        shared.devices.release(&uid);
        let work = tokio::task::spawn_blocking(move || {
            if let Err(error) = shared.volumes.tear_down(&uid) {
                tracing::warn!(%uid, %error, "taking a pod's volumes down failed");
            }
            for (owner, class) in shared.cgroups.pods() {
                if owner == uid
                    && let Err(error) = shared.cgroups.remove(&shared.cgroups.pod(&uid, class))
                {
                    tracing::warn!(%uid, %error, "removing a pod's cgroup failed");
                }
            }
        });
        let _ = work.await;
    }

    /// Removes sandboxes, containers and logs of a pod that nobody can ask about any more.
    async fn remove_traces(&self, pod: &Pod) {
        let observed = self.view.lock().observed.clone();
        for sandbox in &observed.sandboxes {
            for attempt in 1..=REMOVE_ATTEMPTS {
                match self.shared.cri.remove_sandbox(&sandbox.id).await {
                    Ok(()) => break,
                    Err(error) if error.is_not_found() => break,
                    // What still can't be removed is found by the search for orphans later.
                    Err(error) if attempt == REMOVE_ATTEMPTS => {
                        tracing::warn!(uid = %self.uid, %error, "removing a sandbox failed");
                    }
                    Err(_) => tokio::time::sleep(RETRY).await,
                }
            }
        }
        let settings = &self.shared.settings;
        for container in &observed.containers {
            let link = format!(
                "{}_{}_{}-{}.log",
                pod.name(),
                pod.namespace(),
                container.name,
                container.id
            );
            let _ = std::fs::remove_file(settings.container_logs.join(link));
        }
        let logs = settings
            .pod_logs
            .join(log_dir_name(pod.namespace(), pod.name(), &self.uid));
        if let Err(error) = std::fs::remove_dir_all(&logs)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(folder = %logs.display(), %error, "removing a pod's logs failed");
        }
    }
}

/// Removes a container's logs, rotated ones included, and the link to them.
fn remove_logs(links: &std::path::Path, pod: &Pod, seen: &ObservedContainer) {
    let link = format!("{}_{}_{}-{}.log", pod.name(), pod.namespace(), seen.name, seen.id);
    let _ = std::fs::remove_file(links.join(link));
    let path = std::path::Path::new(&seen.log_path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return;
    };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(name) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Who waits for whom: a sidecar for all regular containers and for the sidecars after it.
struct Turns {
    done: BTreeMap<String, Arc<watch::Sender<bool>>>,
    before: BTreeMap<String, Vec<watch::Receiver<bool>>>,
}

/// A container's place in the order; whoever waits for it goes on when this is dropped.
struct Turn {
    done: Arc<watch::Sender<bool>>,
    before: Vec<watch::Receiver<bool>>,
}

impl Turns {
    fn new(pod: &Pod, running: &[&ObservedContainer]) -> Self {
        let done: BTreeMap<String, Arc<watch::Sender<bool>>> = running
            .iter()
            .map(|c| (c.name.clone(), Arc::new(watch::Sender::new(false))))
            .collect();
        let mut before = BTreeMap::new();
        let mut later: Vec<String> = pod.spec().containers.iter().map(|c| c.name.clone()).collect();
        for container in pod.init_containers().iter().rev().filter(|c| is_sidecar(c)) {
            let waits = later
                .iter()
                .filter_map(|n| done.get(n))
                .map(|s| s.subscribe())
                .collect();
            before.insert(container.name.clone(), waits);
            later.push(container.name.clone());
        }
        Self { done, before }
    }

    fn take(&self, name: &str) -> Turn {
        Turn {
            done: self
                .done
                .get(name)
                .cloned()
                .unwrap_or_else(|| Arc::new(watch::Sender::new(false))),
            before: self.before.get(name).cloned().unwrap_or_default(),
        }
    }
}

impl Turn {
    async fn wait(&self, limit: Duration) {
        let all = async {
            for receiver in &self.before {
                let _ = receiver.clone().wait_for(|done| *done).await;
            }
        };
        let _ = tokio::time::timeout(limit, all).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.done.send_replace(true);
    }
}
