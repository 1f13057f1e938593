//! The kubelet's control groups: one per quality of service class and one per pod, on cgroup v1 and v2, with the cgroupfs and
//! systemd drivers. Containers' own groups are the runtime's.
//!
//! A group is named by its parts, such as `["kubepods", "burstable", "podUID"]`; the driver decides what that is on disk.

use crate::pods::Uid;
use crate::resources::{CgroupSettings, QosClass};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Who makes groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Plain folders.
    Cgroupfs,
    /// Slices, named as systemd names them.
    Systemd,
}

/// A part of a group's settings that is changed on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The memory limit.
    Memory,
    /// CPU quota and period.
    CpuLimit,
    /// The share of CPU time.
    CpuShares,
}

impl Part {
    /// Only this part of the settings.
    pub(crate) fn only(self, settings: &CgroupSettings) -> CgroupSettings {
        let none = CgroupSettings::default();
        match self {
            Self::Memory => CgroupSettings {
                // None would leave a limit that is lifted.
                memory: Some(settings.memory.unwrap_or(-1)),
                ..none
            },
            Self::CpuLimit => CgroupSettings {
                cpu_quota: Some(settings.cpu_quota.unwrap_or(-1)),
                cpu_period: settings.cpu_period,
                ..none
            },
            Self::CpuShares => CgroupSettings {
                cpu_shares: settings.cpu_shares,
                ..none
            },
        }
    }
}

/// The controllers of v1 in which pods get groups.
const V1: [&str; 8] = [
    "cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio",
];
const V1_MORE: [&str; 4] = ["hugetlb", "net_cls", "net_prio", "perf_event"];

/// The node's groups.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    mount: PathBuf,
    root: Vec<String>,
    driver: Driver,
    unified: bool,
    /// Whether pods are put under the quality of service classes at all.
    per_qos: bool,
}

impl Cgroups {
    /// The groups below a mount point and a root group.
    pub(crate) fn new(mount: &Path, root: &str, driver: Driver, per_qos: bool) -> Self {
        let unified = mount.join("cgroup.controllers").exists();
        let root = root
            .split('/')
            .filter(|p| !p.is_empty())
            .map(str::to_owned)
            .collect();
        Self {
            mount: mount.to_owned(),
            root,
            driver,
            unified,
            per_qos,
        }
    }

    /// Whether this is cgroup v2.
    pub(crate) fn is_unified(&self) -> bool {
        self.unified
    }

    fn name(&self, parts: &[&str]) -> Vec<String> {
        self.root
            .iter()
            .cloned()
            .chain(parts.iter().map(|p| (*p).to_owned()))
            .collect()
    }

    fn class(&self, class: QosClass) -> Vec<String> {
        match class {
            QosClass::Guaranteed => self.name(&["kubepods"]),
            QosClass::Burstable => self.name(&["kubepods", "burstable"]),
            QosClass::BestEffort => self.name(&["kubepods", "besteffort"]),
        }
    }

    /// The name of a pod's group.
    pub(crate) fn pod(&self, uid: &Uid, class: QosClass) -> Vec<String> {
        let mut name = self.class(class);
        name.push(format!("pod{uid}"));
        name
    }

    /// The path below a controller's mount.
    pub(crate) fn path(&self, name: &[String]) -> String {
        match self.driver {
            Driver::Cgroupfs => format!("/{}", name.join("/")),
            Driver::Systemd => {
                let mut out = String::new();
                let mut so_far = String::new();
                for part in name {
                    let part = part.replace('-', "_");
                    let part = part.strip_suffix(".slice").unwrap_or(&part).to_owned();
                    if !so_far.is_empty() {
                        so_far.push('-');
                    }
                    so_far.push_str(&part);
                    out.push_str(&format!("/{so_far}.slice"));
                }
                out
            }
        }
    }

    /// What the runtime is told as the parent of a pod's containers.
    pub(crate) fn parent(&self, uid: &Uid, class: QosClass) -> String {
        if self.per_qos {
            self.path(&self.pod(uid, class))
        } else {
            String::new()
        }
    }

    fn folders(&self, path: &str) -> Vec<PathBuf> {
        let relative = path.trim_start_matches('/');
        if self.unified {
            return vec![self.mount.join(relative)];
        }
        let mut out: Vec<PathBuf> = Vec::new();
        for controller in V1.iter().chain(&V1_MORE) {
            let base = self.mount.join(controller);
            // Two controllers may share one mount through links.
            if let Ok(base) = base.canonicalize()
                && !out.iter().any(|o| o.starts_with(&base))
            {
                out.push(base.join(relative));
            }
        }
        // systemd's own hierarchy shows which processes belong to which unit.
        if self.driver == Driver::Systemd && self.mount.join("systemd").is_dir() {
            out.push(self.mount.join("systemd").join(relative));
        }
        out
    }

    /// Makes a group in every controller and applies its settings.
    pub(crate) fn ensure(&self, name: &[String], settings: &CgroupSettings) -> io::Result<()> {
        if !self.per_qos {
            return Ok(());
        }
        for length in 1..=name.len() {
            let path = self.path(name.get(..length).unwrap_or_default());
            for folder in self.folders(&path) {
                if !folder.is_dir() {
                    fs::create_dir_all(&folder)?;
                    self.prepare(&folder)?;
                }
            }
        }
        self.apply(name, settings)
    }

    /// What a fresh group needs before it can hold anything.
    fn prepare(&self, folder: &Path) -> io::Result<()> {
        if self.unified {
            if let Some(parent) = folder.parent() {
                let available = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
                for controller in available.split_whitespace() {
                    // One that can't be passed on doesn't keep the others from it.
                    let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
            return Ok(());
        }
        if folder.starts_with(self.mount.join("cpuset").canonicalize().unwrap_or_default())
            && let Some(parent) = folder.parent()
        {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let own = fs::read_to_string(folder.join(file)).unwrap_or_default();
                if own.trim().is_empty() {
                    let above = fs::read_to_string(parent.join(file)).unwrap_or_default();
                    fs::write(folder.join(file), above.trim())?;
                }
            }
        }
        Ok(())
    }

    /// Writes a group's settings.
    pub(crate) fn apply(&self, name: &[String], settings: &CgroupSettings) -> io::Result<()> {
        let path = self.path(name);
        let relative = path.trim_start_matches('/');
        for (controller, file, value) in files(settings, self.unified) {
            let folder = if self.unified {
                self.mount.join(relative)
            } else {
                self.mount.join(controller).join(relative)
            };
            if !folder.join(file).exists() {
                continue;
            }
            if fs::read_to_string(folder.join(file)).is_ok_and(|now| now.trim() == value) {
                continue;
            }
            fs::write(folder.join(file), &value).map_err(|e| {
                io::Error::new(
                    e.kind(),
                    format!("writing {value:?} to {}: {e}", folder.join(file).display()),
                )
            })?;
        }
        Ok(())
    }

    /// Removes a group and everything below it. What still holds processes stays, and is an error.
    pub(crate) fn remove(&self, name: &[String]) -> io::Result<()> {
        let mut first = Ok(());
        for folder in self.folders(&self.path(name)) {
            if let Err(error) = remove_tree(&folder)
                && first.is_ok()
            {
                first = Err(error);
            }
        }
        first
    }

    /// The pods that have groups.
    pub(crate) fn pods(&self) -> Vec<(Uid, QosClass)> {
        let mut out: Vec<(Uid, QosClass)> = Vec::new();
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            for folder in self.folders(&self.path(&self.class(class))) {
                for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    let Some(uid) = pod_uid(&name, self.driver) else {
                        continue;
                    };
                    let uid = Uid::new(&uid);
                    if entry.path().is_dir() && !out.iter().any(|(known, _)| *known == uid) {
                        out.push((uid, class));
                    }
                }
            }
        }
        out
    }

    /// Makes the groups of the classes.
    pub(crate) fn ensure_classes(
        &self,
        burstable_shares: i64,
        memory: Option<i64>,
        shares: i64,
    ) -> io::Result<()> {
        let all = CgroupSettings {
            cpu_shares: Some(shares),
            memory,
            ..CgroupSettings::default()
        };
        self.ensure(&self.class(QosClass::Guaranteed), &all)?;
        let burstable = CgroupSettings {
            cpu_shares: Some(burstable_shares.max(2)),
            ..CgroupSettings::default()
        };
        self.ensure(&self.class(QosClass::Burstable), &burstable)?;
        let best_effort = CgroupSettings {
            cpu_shares: Some(2),
            ..CgroupSettings::default()
        };
        self.ensure(&self.class(QosClass::BestEffort), &best_effort)
    }
}

/// The UID in the name of a pod's group.
fn pod_uid(folder: &str, driver: Driver) -> Option<String> {
    match driver {
        Driver::Cgroupfs => folder.strip_prefix("pod").map(str::to_owned),
        Driver::Systemd => {
            let own = folder.strip_suffix(".slice")?.rsplit('-').next()?;
            own.strip_prefix("pod").map(|uid| uid.replace('_', "-"))
        }
    }
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The files that a setting is written to: controller, file, value. Pure.
fn files(settings: &CgroupSettings, unified: bool) -> Vec<(&'static str, &'static str, String)> {
    let mut out = Vec::new();
    if unified {
        if let Some(shares) = settings.cpu_shares {
            out.push(("", "cpu.weight", weight(shares).to_string()));
        }
        if let Some(quota) = settings.cpu_quota {
            let period = settings.cpu_period.unwrap_or(100_000);
            let quota = if quota > 0 {
                quota.to_string()
            } else {
                "max".to_owned()
            };
            out.push(("", "cpu.max", format!("{quota} {period}")));
        }
        if let Some(memory) = settings.memory {
            out.push((
                "",
                "memory.max",
                if memory > 0 {
                    memory.to_string()
                } else {
                    "max".to_owned()
                },
            ));
        }
        if let Some(pids) = settings.pids {
            out.push((
                "",
                "pids.max",
                if pids > 0 {
                    pids.to_string()
                } else {
                    "max".to_owned()
                },
            ));
        }
        return out;
    }
    if let Some(shares) = settings.cpu_shares {
        out.push(("cpu", "cpu.shares", shares.to_string()));
    }
    if let Some(period) = settings.cpu_period {
        out.push(("cpu", "cpu.cfs_period_us", period.to_string()));
    }
    if let Some(quota) = settings.cpu_quota {
        out.push((
            "cpu",
            "cpu.cfs_quota_us",
            if quota > 0 { quota } else { -1 }.to_string(),
        ));
    }
    if let Some(memory) = settings.memory {
        out.push((
            "memory",
            "memory.limit_in_bytes",
            if memory > 0 { memory } else { -1 }.to_string(),
        ));
    }
    if let Some(pids) = settings.pids {
        out.push((
            "pids",
            "pids.max",
            if pids > 0 {
                pids.to_string()
            } else {
                "max".to_owned()
            },
        ));
    }
    out
}

/// The v2 weight for v1 shares.
fn weight(shares: i64) -> i64 {
    (1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142).clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroups(driver: Driver, root: &str) -> Cgroups {
        Cgroups {
            mount: PathBuf::from("/nowhere"),
            root: root
                .split('/')
                .filter(|p| !p.is_empty())
                .map(str::to_owned)
                .collect(),
            driver,
            unified: true,
            per_qos: true,
        }
    }

    #[test]
    fn drivers_name_groups_their_own_way() {
        let uid = Uid::new("12-34");
        let plain = cgroups(Driver::Cgroupfs, "/node");
        assert_eq!(
            plain.parent(&uid, QosClass::Burstable),
            "/node/kubepods/burstable/pod12-34"
        );
        assert_eq!(
            plain.parent(&uid, QosClass::Guaranteed),
            "/node/kubepods/pod12-34"
        );
        let systemd = cgroups(Driver::Systemd, "/");
        assert_eq!(
            systemd.parent(&uid, QosClass::BestEffort),
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod12_34.slice"
        );
        assert_eq!(
            pod_uid("kubepods-besteffort-pod12_34.slice", Driver::Systemd),
            Some("12-34".into())
        );
        assert_eq!(pod_uid("pod12-34", Driver::Cgroupfs), Some("12-34".into()));
        assert_eq!(pod_uid("besteffort", Driver::Cgroupfs), None);
    }

    #[test]
    fn settings_become_files_of_the_version() {
        let settings = CgroupSettings {
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            memory: Some(1 << 20),
            pids: None,
        };
        let v2: Vec<String> = files(&settings, true)
            .into_iter()
            .map(|(_, f, v)| format!("{f}={v}"))
            .collect();
        assert_eq!(
            v2,
            ["cpu.weight=39", "cpu.max=50000 100000", "memory.max=1048576"]
        );
        let v1: Vec<String> = files(&settings, false)
            .into_iter()
            .map(|(_, f, v)| format!("{f}={v}"))
            .collect();
        assert_eq!(
            v1,
            [
                "cpu.shares=1024",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "memory.limit_in_bytes=1048576"
            ]
        );
    }
}
