//! A pod's volumes: fetched, written below the kubelet's root, handed to containers as mounts, and torn down.
//!
//! `ROOT/pods/UID/volumes/kubernetes.io~KIND/NAME` is a volume, as other tools on the node expect it.

pub(crate) mod atomic;
pub(crate) mod local;
pub(crate) mod mounts;
pub(crate) mod payload;

use crate::env::Sources;
use crate::objects::{Objects, describe};
use crate::pods::{PodExt, Uid};
use crate::resources;
use crate::tokens::Tokens;
use atomic::Payload;
use k8s_openapi::api::core::v1::{Pod, ProjectedVolumeSource, Volume};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why a volume isn't there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// What it is made from is missing or wrong.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {reason}")]
    SetUp { volume: String, reason: String },
    /// A kind that this node has no support for.
    #[error("volume {volume:?} is of a kind that this node doesn't support: {kind}")]
    Unsupported { volume: String, kind: &'static str },
}

/// A volume that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mounted {
    /// A path on the node.
    Path { path: PathBuf, read_only: bool },
    /// An image that the runtime mounts, once it is on the node.
    Image {
        reference: String,
        policy: Option<String>,
    },
}

/// Ready volumes by name.
pub(crate) type MountedVolumes = BTreeMap<String, Mounted>;

/// What volumes are made with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Volumes {
    root: PathBuf,
    objects: Objects,
    tokens: Tokens,
    client: kube::Client,
}

/// A pod's folder.
pub(crate) fn pod_dir(root: &Path, uid: &Uid) -> PathBuf {
    root.join("pods").join(uid.as_str())
}

fn volume_dir(root: &Path, uid: &Uid, kind: &str, name: &str) -> PathBuf {
    pod_dir(root, uid)
        .join("volumes")
        .join(format!("kubernetes.io~{kind}"))
        .join(name)
}

enum Files {
    Plain {
        kind: &'static str,
        payload: Payload,
        memory: bool,
    },
}

impl Volumes {
    /// Volumes below a root folder.
    pub(crate) fn new(root: PathBuf, objects: Objects, tokens: Tokens, client: kube::Client) -> Self {
        Self {
            root,
            objects,
            tokens,
            client,
        }
    }

    /// Sets all of a pod's volumes up, or brings them up to date.
    pub(crate) async fn set_up(&self, pod: &Pod, sources: &Sources) -> Result<MountedVolumes, VolumeError> {
        let list = pod.spec().volumes.as_deref().unwrap_or_default();
        let done = futures::future::join_all(list.iter().map(|v| self.set_up_one(pod, v, sources))).await;
        let mut out = MountedVolumes::new();
        for (volume, result) in list.iter().zip(done) {
            out.insert(volume.name.clone(), result?);
        }
        Ok(out)
    }

    async fn set_up_one(
        &self,
        pod: &Pod,
        volume: &Volume,
        sources: &Sources,
    ) -> Result<Mounted, VolumeError> {
        let name = &volume.name;
        let failed = |reason: String| VolumeError::SetUp {
            volume: name.clone(),
            reason,
        };
        if let Some(source) = &volume.empty_dir {
            return self
                .empty_dir(pod, name, source)
                .map_err(|e| failed(e.to_string()));
        }
        if let Some(source) = &volume.host_path {
            let path = PathBuf::from(&source.path);
            local::host_path(&path, source.type_.as_deref().unwrap_or_default()).map_err(failed)?;
            return Ok(Mounted::Path {
                path,
                read_only: false,
            });
        }
        if let Some(source) = &volume.image {
            return Ok(Mounted::Image {
                reference: source.reference.clone().unwrap_or_default(),
                policy: source.pull_policy.clone(),
            });
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            let read_only = claim.read_only == Some(true);
            return self.claimed(pod, name, &claim.claim_name, read_only).await;
        }
        if let Some(nfs) = &volume.nfs {
            let source = format!("{}:{}", nfs.server, nfs.path);
            let read_only = nfs.read_only == Some(true);
            return self.nfs(pod, name, &source, read_only, &[]).map_err(failed);
        }
        if volume.ephemeral.is_some() {
            let claim = format!("{}-{name}", pod.name());
            return self.claimed(pod, name, &claim, false).await;
        }
        let Some(Files::Plain {
            kind,
            payload,
            memory,
        }) = self.files(pod, volume, sources).await.map_err(failed)?
        else {
            return Err(VolumeError::Unsupported {
                volume: name.clone(),
                kind: kind_of(volume),
            });
        };
        let path = volume_dir(&self.root, &pod.uid(), kind, name);
        let group = fs_group(pod);
        write_files(&path, &payload, memory, group).map_err(|e| failed(e.to_string()))?;
        Ok(Mounted::Path {
            path,
            read_only: false,
        })
    }

    fn empty_dir(
        &self,
        pod: &Pod,
        name: &str,
        source: &k8s_openapi::api::core::v1::EmptyDirVolumeSource,
    ) -> std::io::Result<Mounted> {
        let path = volume_dir(&self.root, &pod.uid(), "empty-dir", name);
        let fresh = !path.is_dir();
        let memory = source.medium.as_deref() == Some("Memory");
        let size = source.size_limit.as_ref().and_then(resources::value);
        local::empty_dir(&path, memory, size)?;
        if let Some(group) = fs_group(pod).filter(|_| fresh) {
            local::own_by_group(&path, group, false, false)?;
        }
        Ok(Mounted::Path {
            path,
            read_only: false,
        })
    }

    /// The files of a volume that is made of objects; none for other kinds.
    async fn files(&self, pod: &Pod, volume: &Volume, sources: &Sources) -> Result<Option<Files>, String> {
        let mode = |m: Option<i32>| m.and_then(|m| u32::try_from(m).ok()).unwrap_or(0o644);
        if let Some(source) = &volume.config_map {
            let optional = source.optional == Some(true);
            let object = self
                .objects
                .config_map(pod, &source.name)
                .await
                .map_err(|e| describe(&e))?;
            let items = source.items.as_deref();
            let payload = payload::config_map(
                &source.name,
                object.as_deref(),
                items,
                mode(source.default_mode),
                optional,
            )
            .map_err(|e| e.to_string())?;
            return Ok(Some(Files::Plain {
                kind: "configmap",
                payload,
                memory: false,
            }));
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let optional = source.optional == Some(true);
            let object = self.objects.secret(pod, name).await.map_err(|e| describe(&e))?;
            let items = source.items.as_deref();
            let payload = payload::secret(
                name,
                object.as_deref(),
                items,
                mode(source.default_mode),
                optional,
            )
            .map_err(|e| e.to_string())?;
            return Ok(Some(Files::Plain {
                kind: "secret",
                payload,
                memory: true,
            }));
        }
        if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            let payload = payload::downward(pod, items, mode(source.default_mode), sources)
                .map_err(|e| e.to_string())?;
            return Ok(Some(Files::Plain {
                kind: "downward-api",
                payload,
                memory: true,
            }));
        }
        if let Some(source) = &volume.projected {
            let payload = self
                .projected(pod, source, mode(source.default_mode), sources)
                .await?;
            return Ok(Some(Files::Plain {
                kind: "projected",
                payload,
                memory: true,
            }));
        }
        Ok(None)
    }

    async fn projected(
        &self,
        pod: &Pod,
        source: &ProjectedVolumeSource,
        mode: u32,
        sources: &Sources,
    ) -> Result<Payload, String> {
        let mut out = Payload::new();
        let mut problems = Vec::new();
        for part in source.sources.iter().flatten() {
            let files = if let Some(s) = &part.config_map {
                let object = self
                    .objects
                    .config_map(pod, &s.name)
                    .await
                    .map_err(|e| describe(&e))?;
                let optional = s.optional == Some(true);
                payload::config_map(&s.name, object.as_deref(), s.items.as_deref(), mode, optional)
                    .map_err(|e| e.to_string())
            } else if let Some(s) = &part.secret {
                let object = self
                    .objects
                    .secret(pod, &s.name)
                    .await
                    .map_err(|e| describe(&e))?;
                let optional = s.optional == Some(true);
                payload::secret(&s.name, object.as_deref(), s.items.as_deref(), mode, optional)
                    .map_err(|e| e.to_string())
            } else if let Some(s) = &part.downward_api {
                payload::downward(pod, s.items.as_deref().unwrap_or_default(), mode, sources)
                    .map_err(|e| e.to_string())
            } else if let Some(s) = &part.service_account_token {
                let seconds = s.expiration_seconds.unwrap_or(3600);
                match self.tokens.get(pod, s.audience.as_deref(), seconds).await {
                    Ok(token) => Ok(payload::token(pod, s, &token, mode)),
                    Err(e) => Err(format!("failed to fetch token: {}", describe(&e))),
                }
            } else if let Some(s) = &part.cluster_trust_bundle {
                self.trust_bundle(s, mode).await
            } else {
                Err("a source of a projected volume is of a kind that this node doesn't support".to_owned())
            };
            match files {
                Ok(files) => out.extend(files),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(out)
        } else {
            Err(problems.join(", "))
        }
    }

    async fn trust_bundle(
        &self,
        source: &k8s_openapi::api::core::v1::ClusterTrustBundleProjection,
        mode: u32,
    ) -> Result<Payload, String> {
        let optional = source.optional == Some(true);
        let selector = source.label_selector.as_ref();
        let text = crate::trust::bundle(
            &self.client,
            source.name.as_deref(),
            source.signer_name.as_deref(),
            selector,
        )
        .await?;
        match text {
            Some(text) => {
                let entry = atomic::FileEntry {
                    data: text.into_bytes(),
                    mode,
                    owner: None,
                };
                Ok([(source.path.clone(), entry)].into())
            }
            None if optional => Ok(Payload::new()),
            None => Err(format!(
                "no ClusterTrustBundle matches (name {:?}, signer {:?})",
                source.name.as_deref().unwrap_or_default(),
                source.signer_name.as_deref().unwrap_or_default()
            )),
        }
    }

    /// A volume behind a claim.
    async fn claimed(
        &self,
        pod: &Pod,
        volume: &str,
        claim: &str,
        read_only: bool,
    ) -> Result<Mounted, VolumeError> {
        let failed = |reason: String| VolumeError::SetUp {
            volume: volume.to_owned(),
            reason,
        };
        let bound = crate::claims::resolve(&self.client, pod, claim)
            .await
            .map_err(failed)?;
        let spec = bound.spec.unwrap_or_default();
        let options = spec.mount_options.unwrap_or_default();
        let group = fs_group(pod);
        let own = |path: &Path| -> Result<(), String> {
            match group.filter(|_| !read_only) {
                Some(group) => {
                    local::own_by_group(path, group, false, on_root_mismatch(pod)).map_err(|e| e.to_string())
                }
                None => Ok(()),
            }
        };
        if let Some(source) = &spec.host_path {
            let path = PathBuf::from(&source.path);
            local::host_path(&path, source.type_.as_deref().unwrap_or_default()).map_err(failed)?;
            if !path.exists() {
                return Err(failed(format!("hostPath {:?} does not exist", source.path)));
            }
            return Ok(Mounted::Path { path, read_only });
        }
        if let Some(source) = &spec.local {
            let path = PathBuf::from(&source.path);
            if !path.exists() {
                return Err(failed(format!("path {:?} does not exist", source.path)));
            }
            own(&path).map_err(failed)?;
            return Ok(Mounted::Path { path, read_only });
        }
        if let Some(source) = &spec.nfs {
            let read_only = read_only || source.read_only == Some(true);
            let from = format!("{}:{}", source.server, source.path);
            return self.nfs(pod, volume, &from, read_only, &options).map_err(failed);
        }
        Err(VolumeError::Unsupported {
            volume: volume.to_owned(),
            kind: "this kind of PersistentVolume",
        })
    }

    fn nfs(
        &self,
        pod: &Pod,
        name: &str,
        source: &str,
        read_only: bool,
        options: &[String],
    ) -> Result<Mounted, String> {
        let path = volume_dir(&self.root, &pod.uid(), "nfs", name);
        std::fs::create_dir_all(&path).map_err(|e| e.to_string())?;
        if !local::is_mount_point(&path) {
            let mut list: Vec<String> = options.to_vec();
            if read_only {
                list.push("ro".to_owned());
            }
            let mut command = std::process::Command::new("mount");
            command.args(["-t", "nfs"]);
            if !list.is_empty() {
                command.arg("-o").arg(list.join(","));
            }
            let output = command
                .arg(source)
                .arg(&path)
                .output()
                .map_err(|e| format!("running mount: {e}"))?;
            if !output.status.success() {
                return Err(format!(
                    "mount failed: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                ));
            }
        }
        Ok(Mounted::Path { path, read_only })
    }

    /// Takes a pod's volumes down and removes its folder. Goes on past failures and returns the first.
    pub(crate) fn tear_down(&self, uid: &Uid) -> std::io::Result<()> {
        self.objects.release(uid);
        self.tokens.release(uid);
        let dir = pod_dir(&self.root, uid);
        if !dir.exists() {
            return Ok(());
        }
        let mut first = Ok(());
        let mut points: Vec<PathBuf> = local::mount_points()?
            .into_iter()
            .filter(|p| p.starts_with(&dir))
            .collect();
        points.sort_by_key(|p| std::cmp::Reverse(p.as_os_str().len()));
        for point in points {
            if let Err(error) = local::unmount(&point)
                && first.is_ok()
            {
                first = Err(error);
            }
        }
        // Nothing is removed as long as something foreign may be mounted below.
        first?;
        std::fs::remove_dir_all(&dir)
    }
}

/// The group that owns the pod's volumes.
pub(crate) fn fs_group(pod: &Pod) -> Option<u32> {
    pod.spec()
        .security_context
        .as_ref()
        .and_then(|s| s.fs_group)
        .and_then(|g| u32::try_from(g).ok())
}

fn on_root_mismatch(pod: &Pod) -> bool {
    let policy = pod
        .spec()
        .security_context
        .as_ref()
        .and_then(|s| s.fs_group_change_policy.as_deref());
    policy == Some("OnRootMismatch")
}

fn write_files(path: &Path, payload: &Payload, memory: bool, group: Option<u32>) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if !path.is_dir() {
        std::fs::create_dir_all(path)?;
    }
    if memory {
        local::mount_tmpfs(path, None, 0o777)?;
    }
    if path.metadata()?.permissions().mode() & 0o777 != 0o777 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    }
    atomic::write(path, payload, group).map(|_| ())
}

fn kind_of(volume: &Volume) -> &'static str {
    match volume {
        v if v.csi.is_some() => "csi",
        v if v.iscsi.is_some() => "iscsi",
        v if v.fc.is_some() => "fc",
        v if v.git_repo.is_some() => "gitRepo",
        v if v.flex_volume.is_some() => "flexVolume",
        v if v.portworx_volume.is_some() => "portworxVolume",
        _ => "removed from Kubernetes",
    }
}
