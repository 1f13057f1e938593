//! Asking the runtime about one pod.

use super::cri::{Cri, CriResult};
use super::labels;
use super::observed::{
    ActualResources, ContainerState, ContainerUser, FoundPod, Observed, ObservedContainer, ObservedSandbox,
};
use crate::pods::{Uid, from_nanos};
use futures::future::join_all;
use rutter_proto::cri;
use std::collections::HashMap;
use std::path::Path;

const MAX_MESSAGE_BYTES: usize = 4096;
const MAX_LOG_FALLBACK_BYTES: usize = 2048;
const MAX_LOG_FALLBACK_LINES: usize = 80;

fn by_uid(uid: &Uid) -> HashMap<String, String> {
    [(labels::POD_UID.to_owned(), uid.to_string())].into()
}

/// Everything that the runtime knows about a pod. Things that vanish while being asked for are left out.
pub(crate) async fn observe(cri: &Cri, uid: &Uid) -> CriResult<Observed> {
    let sandbox_filter = cri::PodSandboxFilter {
        label_selector: by_uid(uid),
        ..Default::default()
    };
    let container_filter = cri::ContainerFilter {
        label_selector: by_uid(uid),
        ..Default::default()
    };
    let (sandboxes, containers) = tokio::try_join!(
        cri.list_sandboxes(sandbox_filter),
        cri.list_containers(container_filter)
    )?;
    let (sandboxes, containers) = tokio::join!(
        join_all(sandboxes.iter().map(|s| cri.sandbox_status(&s.id))),
        join_all(
            containers
                .iter()
                .map(|c| async move { (c, cri.container_status(&c.id).await) })
        ),
    );
    let mut out = Observed::default();
    for status in sandboxes {
        match status {
            Ok(status) => out.sandboxes.push(sandbox(&status)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    for (listed, status) in containers {
        match status {
            Ok(status) => out.containers.push(container(listed, status)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    out.sandboxes
        .sort_by_key(|s| std::cmp::Reverse((s.created_at, s.attempt)));
    out.containers
        .sort_by_key(|c| std::cmp::Reverse((c.created_at, c.restart_count)));
    Ok(out)
}

fn sandbox(status: &cri::PodSandboxStatus) -> ObservedSandbox {
    let host_network = status
        .linux
        .as_ref()
        .and_then(|l| l.namespaces.as_ref())
        .and_then(|n| n.options.as_ref())
        .is_some_and(|o| o.network == i32::from(cri::NamespaceMode::Node));
    let mut ips = Vec::new();
    if let Some(network) = status.network.as_ref().filter(|_| !host_network) {
        ips.extend((!network.ip.is_empty()).then(|| network.ip.clone()));
        ips.extend(network.additional_ips.iter().map(|i| i.ip.clone()));
    }
    ObservedSandbox {
        id: status.id.clone(),
        ready: status.state == i32::from(cri::PodSandboxState::SandboxReady),
        attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
        created_at: status.created_at,
        host_network,
        ips,
    }
}

fn container(listed: &cri::Container, status: cri::ContainerStatus) -> ObservedContainer {
    let state = match cri::ContainerState::try_from(status.state) {
        Ok(cri::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(cri::ContainerState::ContainerRunning) => ContainerState::Running,
        Ok(cri::ContainerState::ContainerExited) => ContainerState::Exited,
        _ => ContainerState::Unknown,
    };
    let exited = state == ContainerState::Exited;
    let user = status
        .user
        .as_ref()
        .and_then(|u| u.linux.as_ref())
        .map(|u| ContainerUser {
            uid: u.uid,
            gid: u.gid,
            supplemental_groups: u.supplemental_groups.clone(),
        });
    let resources = status
        .resources
        .as_ref()
        .and_then(|r| r.linux.as_ref())
        .map(|l| ActualResources {
            cpu_shares: l.cpu_shares,
            cpu_quota: l.cpu_quota,
            cpu_period: l.cpu_period,
            memory_limit: l.memory_limit_in_bytes,
        });
    let stop_signal = cri::Signal::try_from(status.stop_signal)
        .ok()
        .filter(|s| *s != cri::Signal::RuntimeDefault)
        .map(|s| s.as_str_name().to_owned());
    let mut out = ObservedContainer {
        id: status.id.clone(),
        name: status
            .labels
            .get(labels::CONTAINER_NAME)
            .cloned()
            .unwrap_or_default(),
        sandbox_id: listed.pod_sandbox_id.clone(),
        state,
        created_at: from_nanos(status.created_at),
        started_at: from_nanos(status.started_at),
        finished_at: from_nanos(status.finished_at),
        exit_code: status.exit_code,
        reason: if exited {
            status.reason.clone()
        } else {
            String::new()
        },
        message: if exited {
            status.message.clone()
        } else {
            String::new()
        },
        image: status.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
        image_ref: status.image_ref.clone(),
        hash: labels::hash(&status.annotations),
        restart_count: labels::restart_count(&status.annotations),
        log_path: status.log_path.clone(),
        user,
        resources,
        stop_signal,
        annotations: status.annotations.clone(),
    };
    if exited {
        add_last_words(&mut out, &status);
    }
    out
}

/// Takes a container's last words from its termination message file or the end of its log.
fn add_last_words(out: &mut ObservedContainer, status: &cri::ContainerStatus) {
    let path = labels::termination_path(&status.annotations);
    let fallback = labels::falls_back_to_logs(&status.annotations)
        && out.exit_code != 0
        && out.reason != "ContainerCannotRun";
    let host_path = status
        .mounts
        .iter()
        .find(|m| !path.is_empty() && m.container_path == path)
        .map(|m| &m.host_path);
    let mut words = host_path
        .and_then(|p| read_head(Path::new(p), MAX_MESSAGE_BYTES))
        .unwrap_or_default();
    if words.is_empty() && fallback {
        words = crate::logs::last_lines(
            Path::new(&status.log_path),
            MAX_LOG_FALLBACK_LINES,
            MAX_LOG_FALLBACK_BYTES,
        );
    }
    if words.is_empty() {
        return;
    }
    out.message = if out.message.is_empty() {
        words
    } else {
        format!("{}: {words}", out.message)
    };
}

fn read_head(path: &Path, limit: usize) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(limit as u64).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// All pods that the runtime has anything of, with a digest of their states that changes whenever something happens to them.
pub(crate) async fn list_pods(cri: &Cri) -> CriResult<HashMap<Uid, (FoundPod, u64)>> {
    use std::hash::{Hash as _, Hasher as _};
    let (sandboxes, containers) = tokio::try_join!(
        cri.list_sandboxes(cri::PodSandboxFilter::default()),
        cri.list_containers(cri::ContainerFilter::default())
    )?;
    let mut states: HashMap<Uid, (FoundPod, Vec<(String, i32)>)> = HashMap::new();
    let things = sandboxes
        .into_iter()
        .map(|s| (s.labels, s.id, s.state))
        .chain(containers.into_iter().map(|c| (c.labels, c.id, c.state + 16)));
    for (labels, id, state) in things {
        let Some(uid) = labels::uid(&labels) else { continue };
        let text = |key: &str| labels.get(key).cloned().unwrap_or_default();
        states
            .entry(uid.clone())
            .or_insert_with(|| {
                let found = FoundPod {
                    uid,
                    name: text(labels::POD_NAME),
                    namespace: text(labels::POD_NAMESPACE),
                };
                (found, Vec::new())
            })
            .1
            .push((id, state));
    }
    Ok(states
        .into_iter()
        .map(|(uid, (found, mut states))| {
            states.sort();
            let mut hasher = std::hash::DefaultHasher::new();
            states.hash(&mut hasher);
            (uid, (found, hasher.finish()))
        })
        .collect())
}
