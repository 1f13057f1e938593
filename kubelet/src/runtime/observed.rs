//! What the runtime says about one pod, in the shape that plans and statuses are made from.

use crate::pods::Uid;
use jiff::Timestamp;
use std::collections::HashMap;

/// A container's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerState {
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// The runtime doesn't know.
    Unknown,
}

impl ContainerState {
    /// As upstream's messages name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Unknown => "unknown",
        }
    }
}

/// The user that a container runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerUser {
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    pub(crate) supplemental_groups: Vec<i64>,
}

/// Limits that the runtime says are in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ActualResources {
    pub(crate) cpu_shares: i64,
    pub(crate) cpu_quota: i64,
    pub(crate) cpu_period: i64,
    pub(crate) memory_limit: i64,
}

/// One container as the runtime sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObservedContainer {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) sandbox_id: String,
    pub(crate) state: ContainerState,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) image: String,
    pub(crate) image_ref: String,
    pub(crate) hash: u64,
    pub(crate) restart_count: i32,
    pub(crate) log_path: String,
    pub(crate) user: Option<ContainerUser>,
    pub(crate) resources: Option<ActualResources>,
    pub(crate) stop_signal: Option<String>,
    pub(crate) annotations: HashMap<String, String>,
}

/// One sandbox as the runtime sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObservedSandbox {
    pub(crate) id: String,
    pub(crate) ready: bool,
    pub(crate) attempt: u32,
    pub(crate) created_at: i64,
    pub(crate) host_network: bool,
    pub(crate) ips: Vec<String>,
}

/// All of one pod, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) sandboxes: Vec<ObservedSandbox>,
    pub(crate) containers: Vec<ObservedContainer>,
}

impl Observed {
    /// The newest container of that name.
    pub(crate) fn container(&self, name: &str) -> Option<&ObservedContainer> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The addresses of the newest sandbox, as long as it is ready.
    pub(crate) fn ips(&self) -> &[String] {
        self.sandboxes
            .first()
            .filter(|s| s.ready)
            .map(|s| s.ips.as_slice())
            .unwrap_or_default()
    }

    /// Whether any container may still be running.
    pub(crate) fn has_running(&self) -> bool {
        self.containers
            .iter()
            .any(|c| matches!(c.state, ContainerState::Running | ContainerState::Unknown))
    }

    /// Whether nothing of the pod runs, its sandboxes included.
    pub(crate) fn is_stopped(&self) -> bool {
        !self.has_running() && self.sandboxes.iter().all(|s| !s.ready)
    }
}

/// A pod found in the runtime, whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundPod {
    pub(crate) uid: Uid,
    pub(crate) name: String,
    pub(crate) namespace: String,
}

#[cfg(test)]
impl ObservedContainer {
    /// A container that was made and of which nothing else is known.
    pub(crate) fn example(name: &str, sandbox: &str) -> Self {
        Self {
            id: format!("id-{name}"),
            name: name.to_owned(),
            sandbox_id: sandbox.to_owned(),
            state: ContainerState::Created,
            created_at: None,
            started_at: None,
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_ref: String::new(),
            hash: 0,
            restart_count: 0,
            log_path: String::new(),
            user: None,
            resources: None,
            stop_signal: None,
            annotations: HashMap::new(),
        }
    }
}
