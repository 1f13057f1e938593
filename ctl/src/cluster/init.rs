//! The first process of a node: makes the node's root file system, starts its services and keeps them running.
//!
//! It runs as PID 1 of a new PID namespace, in new mount, UTS, IPC and cgroup namespaces and in the node's network namespace. A service that
//! ends is started again, after a pause that grows while it keeps ending. SIGTERM ends the services in reverse order.

use super::services::{InitConfig, Service};
use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal as Kill, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pivot_root, sethostname};
use std::collections::HashMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A log larger than this is moved aside when its service starts.
const LOG_LIMIT: u64 = 32 << 20;

/// Becomes the node's init. Returns when the node was told to stop.
pub(super) async fn run(config_path: &Path) -> anyhow::Result<()> {
    let text = fs::read(config_path).with_context(|| format!("reading {}", config_path.display()))?;
    let config: InitConfig = serde_json::from_slice(&text)?;
    // Caught from the start, so that none is lost.
    let signals = Signals::new()?;
    make_root(&config).context("making the node's root file system")?;
    sethostname(&config.hostname)?;
    network_settings();
    Supervisor::new(config.services).run(signals).await
}

fn none<'a>() -> Option<&'a str> {
    None
}

fn bind(from: &Path, to: &Path, read_only: bool) -> anyhow::Result<()> {
    let describe = || format!("binding {} to {}", from.display(), to.display());
    if from.is_dir() {
        fs::create_dir_all(to).with_context(describe)?;
    } else {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(describe)?;
        }
        fs::write(to, "").with_context(describe)?;
    }
    mount(Some(from), to, none(), MsFlags::MS_BIND | MsFlags::MS_REC, none()).with_context(describe)?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none(), to, none(), flags, none()).with_context(describe)?;
    }
    Ok(())
}

fn mount_at(
    root: &Path,
    at: &str,
    kind: &str,
    source: &str,
    flags: MsFlags,
    data: &str,
) -> anyhow::Result<()> {
    let target = root.join(at);
    fs::create_dir_all(&target)?;
    let data = (!data.is_empty()).then_some(data);
    mount(Some(source), &target, Some(kind), flags, data).with_context(|| format!("mounting {kind} at /{at}"))
}

/// A cgroup hierarchy of this machine: its mount point's last part, file system type and options.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    at: PathBuf,
    kind: String,
    options: String,
}

fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let at = PathBuf::from(left.split(' ').nth(4)?);
            let mut right = right.split(' ');
            let (kind, _, options) = (right.next()?, right.next()?, right.next()?);
            if !at.starts_with("/sys/fs/cgroup") || !kind.starts_with("cgroup") {
                return None;
            }
            let options = options
                .split(',')
                .filter(|o| !matches!(*o, "rw" | "ro" | "nsdelegate" | "memory_recursiveprot"));
            let options = if kind == "cgroup" {
                options.collect::<Vec<_>>().join(",")
            } else {
                String::new()
            };
            Some(Hierarchy {
                at,
                kind: kind.to_owned(),
                options,
            })
        })
        .collect()
}

fn make_root(config: &InitConfig) -> anyhow::Result<()> {
    let dir = PathBuf::from(&config.dir);
    let hierarchies = hierarchies(&fs::read_to_string("/proc/self/mountinfo")?);
    mount(none(), "/", none(), MsFlags::MS_REC | MsFlags::MS_PRIVATE, none())?;
    let root = dir.join("root");
    fs::create_dir_all(&root)?;
    mount(
        Some("tmpfs"),
        &root,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755,size=64m"),
    )?;

    let base = Path::new(&config.root);
    bind(&base.join("usr"), &root.join("usr"), true)?;
    for link in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let from = base.join(link);
        if let Ok(target) = fs::read_link(&from) {
            std::os::unix::fs::symlink(target, root.join(link))?;
        } else if from.is_dir() {
            bind(&from, &root.join(link), true)?;
        }
    }
    make_etc(config, &root)?;
    for (kept, at) in [
        ("containerd", "var/lib/containerd"),
        ("kubelet", "var/lib/kubelet"),
        ("rutter", "var/lib/rutter"),
        ("etcd", "var/lib/etcd"),
        ("cni", "var/lib/cni"),
        ("log", "var/log"),
        ("kubernetes", "etc/kubernetes"),
        ("data", "data"),
    ] {
        let from = dir.join(kept);
        fs::create_dir_all(&from)?;
        bind(&from, &root.join(at), false)?;
    }
    fs::create_dir_all(root.join("etc/kubernetes/manifests"))?;
    fs::create_dir_all(root.join("var/log/rutter"))?;
    bind(Path::new(&config.bin), &root.join("opt/rutter/bin"), true)?;
    for plugins in super::up::CNI_PLUGINS.map(|dir| base.join(dir)) {
        if plugins.join("bridge").exists() {
            bind(&plugins, &root.join("opt/cni/bin"), true)?;
            break;
        }
    }
    std::os::unix::fs::symlink("/run", root.join("var/run"))?;
    fs::create_dir_all(root.join("root"))?;
    fs::create_dir_all(root.join("home"))?;

    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_at(&root, "proc", "proc", "proc", quiet, "")?;
    mount_at(&root, "sys", "sysfs", "sysfs", quiet, "")?;
    mount_at(&root, "dev", "devtmpfs", "devtmpfs", MsFlags::MS_NOSUID, "")?;
    mount_at(
        &root,
        "dev/pts",
        "devpts",
        "devpts",
        MsFlags::MS_NOSUID,
        "newinstance,ptmxmode=0666,mode=620,gid=5",
    )?;
    mount_at(
        &root,
        "dev/shm",
        "tmpfs",
        "tmpfs",
        MsFlags::MS_NOSUID,
        "mode=1777",
    )?;
    mount_at(&root, "dev/mqueue", "mqueue", "mqueue", quiet, "")?;
    mount_at(&root, "run", "tmpfs", "tmpfs", MsFlags::MS_NOSUID, "mode=755")?;
    mount_at(&root, "tmp", "tmpfs", "tmpfs", MsFlags::MS_NOSUID, "mode=1777")?;
    mount_cgroups(&root, &hierarchies)?;

    fs::create_dir_all(root.join("old"))?;
    pivot_root(&root, &root.join("old")).context("changing the root")?;
    std::env::set_current_dir("/")?;
    umount2("/old", MntFlags::MNT_DETACH)?;
    let _ = fs::remove_dir("/old");
    mount(none(), "/", none(), MsFlags::MS_REC | MsFlags::MS_SHARED, none())?;
    Ok(())
}

fn mount_cgroups(root: &Path, hierarchies: &[Hierarchy]) -> anyhow::Result<()> {
    let unified =
        matches!(hierarchies, [only] if only.kind == "cgroup2" && only.at == Path::new("/sys/fs/cgroup"));
    if !unified {
        mount_at(
            root,
            "sys/fs/cgroup",
            "tmpfs",
            "tmpfs",
            MsFlags::empty(),
            "mode=755",
        )?;
    }
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for hierarchy in hierarchies {
        let at = hierarchy
            .at
            .strip_prefix("/")
            .unwrap_or(&hierarchy.at)
            .to_string_lossy()
            .into_owned();
        mount_at(root, &at, &hierarchy.kind, "cgroup", quiet, &hierarchy.options)?;
    }
    if unified {
        delegate_controllers(&root.join("sys/fs/cgroup"))?;
    }
    Ok(())
}

/// On cgroup v2 a group with processes can't give controllers to its children: the init moves itself into a leaf first.
fn delegate_controllers(cgroup: &Path) -> anyhow::Result<()> {
    let leaf = cgroup.join("init");
    fs::create_dir_all(&leaf)?;
    fs::write(leaf.join("cgroup.procs"), "0")?;
    let available = fs::read_to_string(cgroup.join("cgroup.controllers"))?;
    for controller in available.split_whitespace() {
        let _ = fs::write(cgroup.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    Ok(())
}

fn make_etc(config: &InitConfig, root: &Path) -> anyhow::Result<()> {
    let (from_etc, etc) = (Path::new(&config.root).join("etc"), root.join("etc"));
    fs::create_dir_all(etc.join("cni/net.d"))?;
    for file in [
        "passwd",
        "group",
        "nsswitch.conf",
        "ld.so.cache",
        "ld.so.conf",
        "protocols",
        "services",
        "localtime",
        "ethertypes",
    ] {
        let from = from_etc.join(file);
        if from.exists() {
            fs::copy(&from, etc.join(file))?;
        }
    }
    for folder in [
        "alternatives",
        "ssl",
        "ca-certificates",
        "ld.so.conf.d",
        "iproute2",
        "xtables",
    ] {
        let from = from_etc.join(folder);
        if from.is_dir() {
            bind(&from, &etc.join(folder), true)?;
        }
    }
    // The configuration is this node's, so it is copied and not bound.
    copy_tree(
        &Path::new(&config.dir).join("etc-containerd"),
        &etc.join("containerd"),
    )?;
    fs::write(etc.join("hostname"), format!("{}\n", config.hostname))?;
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (address, name) in &config.hosts {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    fs::write(etc.join("hosts"), hosts)?;
    let resolv: String = config
        .nameservers
        .iter()
        .map(|n| format!("nameserver {n}\n"))
        .collect();
    fs::write(etc.join("resolv.conf"), resolv)?;
    fs::write(
        etc.join("machine-id"),
        format!("{:032x}\n", machine_id(&config.hostname, &config.dir)),
    )?;
    Ok(())
}

/// A stable 128-bit number for the machine's id.
fn machine_id(hostname: &str, dir: &str) -> u128 {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, format!("{dir}#{hostname}").as_bytes()).as_u128()
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn network_settings() {
    for (name, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/route_localnet", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/bridge/bridge-nf-call-iptables", "1"),
        ("net/bridge/bridge-nf-call-ip6tables", "1"),
    ] {
        // Not every kernel has all of them; what is missing shows in the proxy's own checks.
        let _ = fs::write(Path::new("/proc/sys").join(name), value);
    }
}

struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

struct Running {
    service: Service,
    pid: Option<Pid>,
    started: Instant,
    failures: u32,
    start_at: Option<Instant>,
}

struct Supervisor {
    services: Vec<Running>,
}

/// How long to wait before a service is started again: at once after a good while of running, else longer each time.
fn pause(ran: Duration, failures: u32) -> (Duration, u32) {
    if ran >= Duration::from_secs(10) {
        return (Duration::ZERO, 0);
    }
    let delay = Duration::from_millis(50 << failures.min(6));
    (delay, failures + 1)
}

impl Supervisor {
    fn new(services: Vec<Service>) -> Self {
        let now = Instant::now();
        let services = services
            .into_iter()
            .map(|service| Running {
                service,
                pid: None,
                started: now,
                failures: 0,
                start_at: Some(now),
            })
            .collect();
        Self { services }
    }

    async fn run(mut self, mut signals: Signals) -> anyhow::Result<()> {
        loop {
            self.start_due();
            let next = self.services.iter().filter_map(|s| s.start_at).min();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                _ = signals.child.recv() => self.reap(),
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
        }
        self.stop();
        Ok(())
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for running in &mut self.services {
            if running.start_at.is_none_or(|at| at > now) {
                continue;
            }
            running.start_at = None;
            running.started = now;
            match start(&running.service) {
                Ok(pid) => running.pid = Some(pid),
                Err(error) => {
                    eprintln!("{}: {error:#}", running.service.name);
                    let (delay, failures) = pause(Duration::ZERO, running.failures);
                    (running.failures, running.start_at) = (failures, Some(now + delay));
                }
            }
        }
    }

    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let pid = match status {
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _) => pid,
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            if let Some(running) = self.services.iter_mut().find(|s| s.pid == Some(pid)) {
                let (delay, failures) = pause(running.started.elapsed(), running.failures);
                eprintln!(
                    "{} ended ({status:?}); it starts again in {} ms",
                    running.service.name,
                    delay.as_millis()
                );
                running.pid = None;
                running.failures = failures;
                running.start_at = Some(Instant::now() + delay);
            }
        }
    }

    fn stop(&mut self) {
        for running in self.services.iter().rev() {
            let Some(pid) = running.pid else { continue };
            let _ = kill(pid, Kill::SIGTERM);
            let deadline = Instant::now() + Duration::from_secs(5);
            loop {
                match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::StillAlive) if Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(10))
                    }
                    Ok(WaitStatus::StillAlive) => {
                        let _ = kill(pid, Kill::SIGKILL);
                        break;
                    }
                    _ => break,
                }
            }
        }
    }
}

fn start(service: &Service) -> anyhow::Result<Pid> {
    let path = Path::new("/var/log/rutter").join(format!("{}.log", service.name));
    if fs::metadata(&path).is_ok_and(|m| m.len() > LOG_LIMIT) {
        let _ = fs::rename(&path, path.with_extension("log.1"));
    }
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    let (program, arguments) = service
        .command
        .split_first()
        .context("a service without a command")?;
    let env: HashMap<&str, &str> = [
        (
            "PATH",
            "/opt/rutter/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", "/root"),
    ]
    .into();
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(env)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_hierarchies_are_found_with_their_controllers() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                    40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n\
                    50 23 0:40 / /mnt rw - ext4 /dev/sda rw\n";
        let found: Vec<_> = hierarchies(text)
            .into_iter()
            .map(|h| (h.at.to_string_lossy().into_owned(), h.kind, h.options))
            .collect();
        let want = [
            ("/sys/fs/cgroup/cpu", "cgroup", "cpu,cpuacct"),
            ("/sys/fs/cgroup/systemd", "cgroup", "name=systemd"),
            ("/sys/fs/cgroup/unified", "cgroup2", ""),
        ];
        assert_eq!(
            found,
            want.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()))
        );
    }

    #[test]
    fn a_service_that_keeps_ending_waits_longer_and_one_that_ran_starts_at_once() {
        let (first, failures) = pause(Duration::ZERO, 0);
        let (second, _) = pause(Duration::ZERO, failures);
        assert!(second > first);
        assert!(pause(Duration::ZERO, 99).0 <= Duration::from_secs(4));
        assert_eq!(pause(Duration::from_secs(60), 5), (Duration::ZERO, 0));
    }
}
