//! A container's mounts: its volumes, their sub-paths, `/etc/hosts` and the file for its last words.

use super::{Mounted, MountedVolumes, local, pod_dir};
use crate::env::expand;
use crate::pods::{PodExt, Uid};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use rutter_proto::cri::{ImageSpec, Mount, MountPropagation};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What mounts are made from, beside pod and container.
pub(crate) struct MountInputs<'a> {
    pub(crate) root: &'a Path,
    pub(crate) volumes: &'a MountedVolumes,
    /// The runtime's references of images that are mounted, by volume.
    pub(crate) images: &'a BTreeMap<String, String>,
    pub(crate) environment: &'a [(String, String)],
    pub(crate) pod_ips: &'a [String],
    pub(crate) cluster_domain: &'a str,
}

/// The container's mounts. Files and sub-paths that are needed are made.
pub(crate) fn container_mounts(
    pod: &Pod,
    container: &Container,
    inputs: &MountInputs<'_>,
) -> Result<Vec<Mount>, String> {
    let mut out = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        out.push(volume_mount(pod, container, mount, index, inputs)?);
    }
    let taken = |path: &str, list: &[Mount]| list.iter().any(|m| m.container_path == path);
    let has_address = !pod.is_host_network() || !inputs.pod_ips.is_empty();
    if has_address && !taken("/etc/hosts", &out) {
        let file = hosts_file(pod, inputs).map_err(|e| format!("writing the pod's hosts file: {e}"))?;
        out.push(Mount {
            container_path: "/etc/hosts".to_owned(),
            host_path: file.to_string_lossy().into_owned(),
            ..Mount::default()
        });
    }
    if let Some(path) = container
        .termination_message_path
        .as_deref()
        .filter(|p| !p.is_empty() && !taken(p, &out))
    {
        let file = termination_file(inputs.root, &pod.uid(), &container.name)
            .map_err(|e| format!("making the container's termination message file: {e}"))?;
        out.push(Mount {
            container_path: path.to_owned(),
            host_path: file.to_string_lossy().into_owned(),
            ..Mount::default()
        });
    }
    Ok(out)
}

fn volume_mount(
    pod: &Pod,
    container: &Container,
    mount: &VolumeMount,
    index: usize,
    inputs: &MountInputs<'_>,
) -> Result<Mount, String> {
    let volume = inputs.volumes.get(&mount.name).ok_or_else(|| {
        format!(
            "cannot find volume {:?} to mount into container {:?}",
            mount.name, container.name
        )
    })?;
    let sub_path = match mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
        Some(expression) => expand_fully(expression, inputs.environment)?,
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    let container_path = if mount.mount_path.starts_with('/') {
        mount.mount_path.clone()
    } else {
        format!("/{}", mount.mount_path)
    };
    let mut out = Mount {
        container_path,
        readonly: mount.read_only == Some(true),
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => MountPropagation::PropagationHostToContainer.into(),
            Some("Bidirectional") => MountPropagation::PropagationBidirectional.into(),
            _ => MountPropagation::PropagationPrivate.into(),
        },
        ..Mount::default()
    };
    match volume {
        Mounted::Image { reference, .. } => {
            out.readonly = true;
            out.image = Some(ImageSpec {
                image: inputs.images.get(&mount.name).unwrap_or(reference).clone(),
                user_specified_image: reference.clone(),
                ..ImageSpec::default()
            });
            out.image_sub_path = sub_path;
        }
        Mounted::Path { path, read_only } => {
            out.readonly |= read_only;
            let host = if sub_path.is_empty() {
                path.clone()
            } else {
                let at = SubPath {
                    root: inputs.root,
                    pod,
                    container: &container.name,
                    volume: &mount.name,
                    index,
                };
                at.bind(path, &sub_path, out.readonly)?
            };
            out.host_path = host.to_string_lossy().into_owned();
        }
    }
    Ok(out)
}

fn expand_fully(expression: &str, environment: &[(String, String)]) -> Result<String, String> {
    let missing = std::cell::RefCell::new(Vec::new());
    let text = expand(expression, &|name| {
        let found = environment
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone());
        if found.is_none() {
            missing.borrow_mut().push(name.to_owned());
        }
        found
    });
    let missing = missing.into_inner();
    if missing.is_empty() {
        Ok(text)
    } else {
        Err(format!(
            "missing value for {} in subPathExpr {expression:?}",
            missing.join(", ")
        ))
    }
}

struct SubPath<'a> {
    root: &'a Path,
    pod: &'a Pod,
    container: &'a str,
    volume: &'a str,
    index: usize,
}

impl SubPath<'_> {
    /// Binds what is at a path below a volume to a place of our own. The path is resolved by the kernel below the volume's
    /// root, and what was resolved is what is bound, so that nothing in the pod can point it elsewhere.
    fn bind(&self, volume: &Path, sub_path: &str, read_only: bool) -> Result<PathBuf, String> {
        let bad = |why: String| {
            format!(
                "failed to prepare subPath for volumeMount {:?} of container {:?}: {why}",
                self.volume, self.container
            )
        };
        if sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..") {
            return Err(bad(format!(
                "{sub_path:?} must be relative and not contain \"..\""
            )));
        }
        let opened = open_beneath(volume, sub_path, !read_only).map_err(|e| bad(e.to_string()))?;
        let place = pod_dir(self.root, &self.pod.uid())
            .join("volume-subpaths")
            .join(self.volume)
            .join(self.container)
            .join(self.index.to_string());
        let through = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        let make = || -> io::Result<()> {
            if local::is_mount_point(&place) {
                local::unmount(&place)?;
            }
            if let Some(parent) = place.parent() {
                fs::create_dir_all(parent)?;
            }
            if fs::metadata(&through)?.is_dir() {
                fs::create_dir_all(&place)?;
            } else {
                fs::OpenOptions::new().create(true).append(true).open(&place)?;
            }
            local::bind(&through, &place)
        };
        make().map_err(|e| bad(e.to_string()))?;
        Ok(place)
    }
}

fn open_beneath(root: &Path, path: &str, create: bool) -> io::Result<OwnedFd> {
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
    use nix::sys::stat::{Mode, mkdirat};
    let base = fs::File::open(root)?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH);
    let open = |path: &str| openat2(&base, path, how).map_err(io::Error::from);
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => {}
        other => return other,
    }
    let mode = fs::metadata(root)?.permissions().mode() & 0o7777;
    let mut at = openat2(&base, ".", how).map_err(io::Error::from)?;
    let mut so_far = String::new();
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        if !so_far.is_empty() {
            so_far.push('/');
        }
        so_far.push_str(part);
        match mkdirat(&at, part, Mode::from_bits_truncate(mode)) {
            Ok(()) => {
                let made = open(&so_far)?;
                fs::set_permissions(
                    format!("/proc/self/fd/{}", made.as_raw_fd()),
                    fs::Permissions::from_mode(mode),
                )?;
            }
            Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = open(&so_far)?;
    }
    Ok(at)
}

/// The text of a pod's `/etc/hosts`.
pub(crate) fn hosts_text(
    pod: &Pod,
    ips: &[String],
    cluster_domain: &str,
    node_hosts: Option<&str>,
) -> String {
    let mut out = String::new();
    match node_hosts {
        Some(text) => {
            out.push_str("# Kubernetes-managed hosts file (host network).\n");
            out.push_str(text);
        }
        None => {
            out.push_str("# Kubernetes-managed hosts file.\n");
            out.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
            out.push_str("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
            let (name, domain) = crate::runtime::sandbox::hostname(pod, cluster_domain);
            for ip in ips {
                if domain.is_empty() {
                    out.push_str(&format!("{ip}\t{name}\n"));
                } else {
                    out.push_str(&format!("{ip}\t{name}.{domain}\t{name}\n"));
                }
            }
        }
    }
    let aliases = pod.spec().host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            out.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    out
}

fn hosts_file(pod: &Pod, inputs: &MountInputs<'_>) -> io::Result<PathBuf> {
    let dir = pod_dir(inputs.root, &pod.uid());
    fs::create_dir_all(&dir)?;
    let path = dir.join("etc-hosts");
    let node = if pod.is_host_network() {
        Some(fs::read_to_string("/etc/hosts").unwrap_or_default())
    } else {
        None
    };
    let text = hosts_text(pod, inputs.pod_ips, inputs.cluster_domain, node.as_deref());
    // Written in place: the file is bound into running containers.
    if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(path)
}

fn termination_file(root: &Path, uid: &Uid, container: &str) -> io::Result<PathBuf> {
    let dir = pod_dir(root, uid).join("containers").join(container);
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{:08x}", rand::random::<u32>()));
    fs::File::create(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_hosts_file_names_the_pod_and_its_aliases() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": {
            "subdomain": "db", "containers": [], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}}))
        .expect("a pod");
        let text = hosts_text(&pod, &["10.1.0.5".into()], "cluster.local", None);
        assert!(
            text.contains("10.1.0.5\tweb-0.db.shop.svc.cluster.local\tweb-0\n"),
            "{text}"
        );
        assert!(
            text.ends_with("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"),
            "{text}"
        );
    }

    #[test]
    fn sub_paths_stay_in_their_volume() {
        let dir = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).expect("a link");
        assert!(open_beneath(dir.path(), "out/passwd", false).is_err());
        assert!(open_beneath(dir.path(), "a/b", true).is_ok());
        assert!(dir.path().join("a/b").is_dir());
        assert!(open_beneath(dir.path(), "none", false).is_err());
    }
}
