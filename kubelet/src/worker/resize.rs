//! Applying what a pod was promised to what runs: limits grow from the pod's group inwards and shrink from the containers outwards, so that
//! the parts never exceed the whole. An error ends the attempt; what was applied is remembered, and the next sync goes on from there.

use super::Worker;
use crate::cgroups::Part;
use crate::pods::PodExt;
use crate::resize::plan::{Resize, Update, in_progress};
use crate::resize::{store, summary};
use crate::resources::{CgroupSettings, container_resources, pod_cgroup, qos};
use crate::runtime::observed::{ContainerState, Observed};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::HashMap;
use std::sync::Arc;

impl Worker {
    /// Brings running containers and the pod's group to what the pod was promised. What goes wrong is kept for the pod's status.
    pub(crate) async fn resize(&mut self, pod: &Arc<Pod>, resize: &Resize) {
        let outcome = self.apply_resize(pod, resize).await;
        let error = outcome.err();
        if let Some(error) = &error
            && self.resize_error.as_ref() != Some(error)
        {
            let text = summary("Pod resize error", pod, error);
            self.shared.event(pod, true, "ResizeError", text);
        }
        self.resize_error = error;
    }

    async fn apply_resize(&mut self, pod: &Arc<Pod>, resize: &Resize) -> Result<(), String> {
        let settings = &self.shared.settings;
        let cgroup = |pod: &Pod| pod_cgroup(pod, &settings.limits, settings.pod_pids_limit);
        let before = cgroup(&self.actuated.apply(pod));
        let after = cgroup(pod);
        self.check_memory(&before, &after, resize).await?;
        let memory = |s: &CgroupSettings| s.memory.filter(|m| *m > 0).unwrap_or(i64::MAX);
        let cpu = |s: &CgroupSettings| s.cpu_quota.filter(|q| *q > 0).unwrap_or(i64::MAX);
        let weight = |s: &CgroupSettings| s.cpu_shares.unwrap_or(0);
        let steps = [
            (Part::Memory, memory(&before), memory(&after)),
            (Part::CpuLimit, cpu(&before), cpu(&after)),
            (Part::CpuShares, weight(&before), weight(&after)),
        ];
        for stage in [Stage::Memory, Stage::Cpu] {
            let parts: Vec<_> = steps.iter().filter(|(part, ..)| stage.of(*part)).collect();
            for (part, _, _) in parts.iter().filter(|(_, before, after)| after > before) {
                self.set_group(pod, &after, *part)?;
            }
            let mut updates: Vec<&Update> = resize.updates.iter().filter(|u| stage.changes(u)).collect();
            // Those that give something back come first.
            updates.sort_by_key(|u| stage.grows(u));
            for update in updates {
                self.update_container(pod, update, stage).await?;
            }
            for (part, _, _) in parts.iter().filter(|(_, before, after)| after < before) {
                self.set_group(pod, &after, *part)?;
            }
        }
        self.actuated.pod.clone_from(&pod.spec().resources);
        for update in &resize.updates {
            self.mark(pod, &update.name);
        }
        self.save_actuated();
        Ok(())
    }

    fn set_group(&self, pod: &Pod, settings: &CgroupSettings, part: Part) -> Result<(), String> {
        let groups = &self.shared.cgroups;
        let name = groups.pod(&self.uid, qos(pod));
        groups
            .apply(&name, &part.only(settings))
            .map_err(|e| format!("failed to set the resources of the pod's control group: {e}"))
    }

    async fn update_container(&self, pod: &Arc<Pod>, update: &Update, stage: Stage) -> Result<(), String> {
        let Some(container) = pod.container(&update.name) else {
            return Ok(());
        };
        let rules = &self.shared.settings.limits;
        let mut resources = container_resources(pod, &container, rules);
        if stage == Stage::Memory {
            // CPU stays as it is until memory is done.
            let old = Container {
                resources: self.actuated.container(&update.name).cloned(),
                ..container
            };
            let old = container_resources(&self.actuated.apply(pod), &old, rules);
            resources.cpu_shares = old.cpu_shares;
            resources.cpu_quota = old.cpu_quota;
            resources.cpu_period = old.cpu_period;
        }
        self.shared
            .cri
            .update_container_resources(&update.id, resources)
            .await
            .map_err(|e| format!("failed to update the resources of container {}: {e}", update.name))
    }

    /// Refuses limits below what is in use now: the kernel would kill for them, or refuse half of the way.
    async fn check_memory(
        &self,
        before: &CgroupSettings,
        after: &CgroupSettings,
        resize: &Resize,
    ) -> Result<(), String> {
        let shrinks = |before: i64, after: i64| after > 0 && (before <= 0 || after < before);
        let pod_limit = after.memory.filter(|a| shrinks(before.memory.unwrap_or(0), *a));
        let containers: Vec<&Update> = resize
            .updates
            .iter()
            .filter(|u| shrinks(u.memory.0, u.memory.1))
            .collect();
        if pod_limit.is_none() && containers.is_empty() {
            return Ok(());
        }
        let stats = self
            .shared
            .cri
            .container_stats()
            .await
            .map_err(|e| format!("unable to read the pod's memory usage: {e}"))?;
        let usage: HashMap<String, i64> = stats
            .into_iter()
            .filter_map(|s| {
                let bytes = s.memory?.usage_bytes?.value;
                Some((s.attributes?.id, i64::try_from(bytes).unwrap_or(i64::MAX)))
            })
            .collect();
        let mut problems = Vec::new();
        if let Some(limit) = pod_limit {
            let observed = self.view.lock().observed.clone();
            let used: i64 = observed.containers.iter().filter_map(|c| usage.get(&c.id)).sum();
            if used >= limit {
                problems.push(format!(
                    "attempting to set pod memory limit ({limit}) below current usage ({used})"
                ));
            }
        }
        for update in containers {
            let used = usage.get(&update.id).copied().unwrap_or(0);
            if used >= update.memory.1 {
                problems.push(format!(
                    "attempting to set container {:?} memory limit ({}) below current usage ({used})",
                    update.name, update.memory.1
                ));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(format!("cannot decrease memory limits: {}", problems.join(", ")))
        }
    }

    fn mark(&mut self, pod: &Pod, name: &str) -> bool {
        let Some(container) = pod.container(name) else {
            return false;
        };
        let resources = container.resources.unwrap_or_default();
        let known = self.actuated.containers.get_mut(name);
        match known {
            Some(known) if *known == resources => false,
            _ => {
                self.actuated.containers.insert(name.to_owned(), resources);
                true
            }
        }
    }

    /// A container was started with what the pod was promised.
    pub(crate) fn applied(&mut self, pod: &Pod, name: &str) {
        if self.mark(pod, name) {
            self.save_actuated();
        }
    }

    /// What doesn't run has nothing applied to it: it will be started with what the pod was promised.
    pub(crate) fn settle_stopped(&mut self, pod: &Pod, observed: &Observed) {
        let runs = |name: &str| {
            observed
                .container(name)
                .is_some_and(|c| c.state == ContainerState::Running)
        };
        let stopped: Vec<&str> = pod
            .init_containers()
            .iter()
            .chain(&pod.spec().containers)
            .map(|c| c.name.as_str())
            .filter(|name| !runs(name))
            .collect();
        let mut changed = false;
        for name in stopped {
            changed |= self.mark(pod, name);
        }
        if !observed.has_running() && self.actuated.pod != pod.spec().resources {
            self.actuated.pod.clone_from(&pod.spec().resources);
            changed = true;
        }
        if changed {
            self.save_actuated();
        }
    }

    fn save_actuated(&self) {
        let root = &self.shared.settings.root;
        if let Err(error) = store::save_actuated(root, &self.uid, &self.actuated) {
            tracing::warn!(uid = %self.uid, %error, "remembering a pod's resources failed");
        }
    }

    /// Notices the end of a resize, and says so.
    pub(crate) fn watch_resize(&mut self, pod: &Pod, observed: &Observed) {
        let now = in_progress(pod, observed, &self.actuated);
        if !now && self.resizing {
            self.resize_error = None;
            let text = summary("Pod resize completed", pod, "");
            self.shared.event(pod, false, "ResizeCompleted", text);
        }
        self.resizing = now;
    }
}

/// Memory is applied before CPU; each has its own order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Memory,
    Cpu,
}

impl Stage {
    fn of(self, part: Part) -> bool {
        (self == Self::Memory) == (part == Part::Memory)
    }

    fn amounts(self, update: &Update) -> (i64, i64) {
        match self {
            Self::Memory => update.memory,
            Self::Cpu => update.cpu,
        }
    }

    fn changes(self, update: &Update) -> bool {
        let (before, after) = self.amounts(update);
        before != after
    }

    fn grows(self, update: &Update) -> bool {
        let (before, after) = self.amounts(update);
        before > 0 && (after > before || after == 0)
    }
}
