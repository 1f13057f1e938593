//! Pods from manifests in a folder, and their mirrors in the apiserver.
//!
//! A static pod's UID is a digest of its manifest: a changed file is another pod, started when the old one has ended.

use crate::pods::{
    CONFIG_HASH_ANNOTATION, CONFIG_MIRROR_ANNOTATION, CONFIG_SEEN_ANNOTATION, CONFIG_SOURCE_ANNOTATION,
    PodExt, Uid,
};
use crate::worker::pool::{Admit, Pool};
use anyhow::{Context as _, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec, Probe, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use parking_lot::Mutex;
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Pods by namespace and name.
type ByName = BTreeMap<(String, String), Arc<Pod>>;

/// Lets a pod in beside others, or says why not.
pub(crate) type SharedAdmit =
    Arc<dyn Fn(&Pod, &[Arc<Pod>]) -> Result<(), crate::worker::Failure> + Send + Sync>;

/// The static pods by namespace and name. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct StaticPods {
    pods: Arc<Mutex<ByName>>,
    /// Told when the mirrors may have to be looked at.
    pub(crate) wake: Arc<Notify>,
}

impl StaticPods {
    /// The UID of the static pod of that name.
    pub(crate) fn uid(&self, namespace: &str, name: &str) -> Option<Uid> {
        self.pods
            .lock()
            .get(&(namespace.to_owned(), name.to_owned()))
            .map(|p| p.uid())
    }

    /// All UIDs.
    pub(crate) fn uids(&self) -> Vec<Uid> {
        self.pods.lock().values().map(|p| p.uid()).collect()
    }

    fn list(&self) -> Vec<Arc<Pod>> {
        self.pods.lock().values().cloned().collect()
    }

    /// Keeps the pool in step with a folder until cancelled.
    pub(crate) async fn follow(
        self,
        dir: PathBuf,
        every: Duration,
        node: String,
        pool: Pool,
        admit: SharedAdmit,
    ) {
        let watch = watch_dir(&dir);
        if let Err(error) = &watch {
            tracing::warn!(folder = %dir.display(), %error, "watching the folder of static pods failed; looking into it regularly");
        }
        let mut watch = watch.ok();
        loop {
            let found = read_dir(&dir, &node);
            let waiting = self.apply(found, &pool, &*admit);
            let pause = if waiting {
                Duration::from_millis(100)
            } else {
                every
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = changed(watch.as_mut()) => {
                    // Editors write in several steps.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Starts and ends pods as the folder says; returns whether some have to wait for their predecessors.
    fn apply(&self, found: BTreeMap<(String, String), Arc<Pod>>, pool: &Pool, admit: Admit<'_>) -> bool {
        let mut pods = self.pods.lock();
        let mut waiting = false;
        let mut touched = false;
        let gone: Vec<_> = pods
            .iter()
            .filter(|(k, p)| found.get(*k).map(|f| f.uid()) != Some(p.uid()))
            .map(|(k, p)| (k.clone(), p.uid()))
            .collect();
        for (key, uid) in gone {
            pool.remove(&uid);
            touched = true;
            if !pool.is_done(&uid) && found.contains_key(&key) {
                waiting = true;
                continue;
            }
            pods.remove(&key);
        }
        for (key, pod) in found {
            pods.entry(key).or_insert_with(|| {
                pool.put(pod.clone(), admit);
                touched = true;
                pod
            });
        }
        if touched {
            self.wake.notify_one();
        }
        waiting
    }

    /// Keeps the mirrors in step with the static pods until cancelled. `known` gives the objects of this node's pods.
    pub(crate) async fn mirror(
        self,
        client: kube::Client,
        node: Arc<arc_swap::ArcSwap<Node>>,
        known: rutter_client::Store<Pod>,
    ) {
        loop {
            let mut failed = false;
            if node.load().metadata.uid.is_some() {
                let mirrors: Vec<Arc<Pod>> = known.list().into_iter().filter(|p| p.is_mirror()).collect();
                failed = self.reconcile(&client, &node.load(), &mirrors).await;
            }
            let pause = Duration::from_secs(if failed || node.load().metadata.uid.is_none() {
                1
            } else {
                60
            });
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    async fn reconcile(&self, client: &kube::Client, node: &Node, mirrors: &[Arc<Pod>]) -> bool {
        let wanted = self.list();
        let mut failed = false;
        for mirror in mirrors {
            let own = wanted
                .iter()
                .find(|p| p.name() == mirror.name() && p.namespace() == mirror.namespace());
            let current = own.is_some_and(|p| {
                mirror.annotation(CONFIG_MIRROR_ANNOTATION) == p.annotation(CONFIG_HASH_ANNOTATION)
                    && !mirror.is_deleting()
            });
            if !current {
                failed |= delete(client, mirror).await.is_err();
            }
        }
        for pod in wanted {
            let there = mirrors.iter().any(|m| {
                m.name() == pod.name()
                    && m.namespace() == pod.namespace()
                    && m.annotation(CONFIG_MIRROR_ANNOTATION) == pod.annotation(CONFIG_HASH_ANNOTATION)
                    && !m.is_deleting()
            });
            if there {
                continue;
            }
            let api: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
            match api.create(&PostParams::default(), &mirror_of(&pod, node)).await {
                Ok(_) => {}
                Err(kube::Error::Api(answer)) if answer.code == 409 => failed = true,
                Err(error) => {
                    tracing::warn!(pod = %pod.full_name(), error = %crate::objects::describe(&error), "making a mirror pod failed");
                    failed = true;
                }
            }
        }
        failed
    }
}

async fn delete(client: &kube::Client, mirror: &Pod) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), mirror.namespace());
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: mirror.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(mirror.name(), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Ok(()),
        Err(error) => {
            tracing::warn!(pod = %mirror.full_name(), error = %crate::objects::describe(&error), "removing a mirror pod failed");
            Err(error)
        }
    }
}

/// The object that shows a static pod in the apiserver. Pure.
fn mirror_of(pod: &Pod, node: &Node) -> Pod {
    let mut mirror = pod.clone();
    mirror.status = None;
    mirror.metadata.uid = None;
    mirror.metadata.resource_version = None;
    let hash = pod
        .annotation(CONFIG_HASH_ANNOTATION)
        .unwrap_or_default()
        .to_owned();
    mirror
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(CONFIG_MIRROR_ANNOTATION.to_owned(), hash);
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror
}

/// Starts a thread that tells of every change in a folder. It ends at the first change that nobody hears of.
fn watch_dir(dir: &Path) -> anyhow::Result<mpsc::Receiver<()>> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_CREATE;
    inotify.add_watch(dir, flags)?;
    let (sender, receiver) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("static-pods".to_owned())
        .spawn(move || {
            while inotify.read_events().is_ok() {
                // A full channel says that a look into the folder is due already.
                if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                    return;
                }
            }
        })?;
    Ok(receiver)
}

async fn changed(watch: Option<&mut mpsc::Receiver<()>>) {
    let seen = match watch {
        Some(watch) => watch.recv().await,
        None => None,
    };
    if seen.is_none() {
        std::future::pending().await
    }
}

fn read_dir(dir: &Path, node: &str) -> BTreeMap<(String, String), Arc<Pod>> {
    let mut out = BTreeMap::new();
    let mut paths: Vec<PathBuf> = if dir.is_file() {
        vec![dir.to_owned()]
    } else {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect()
    };
    paths.sort();
    for path in paths {
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        if name.starts_with('.') || !path.is_file() {
            continue;
        }
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "reading a static pod's manifest failed");
                continue;
            }
        };
        match static_pod(&text, &path.to_string_lossy(), node) {
            Ok(pod) => {
                out.entry((pod.namespace().to_owned(), pod.name().to_owned()))
                    .or_insert(Arc::new(pod));
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), error = %format!("{error:#}"), "a static pod's manifest can't be used")
            }
        }
    }
    out
}

/// A pod from the text of a manifest. Pure but for the time of its first sight.
fn static_pod(text: &str, file: &str, node: &str) -> anyhow::Result<Pod> {
    let value: serde_json::Value = serde_yaml_ng::from_str(text)?;
    if value["kind"] != "Pod" || value["apiVersion"] != "v1" {
        bail!(
            "it is a {} of {}, and a Pod of v1 is needed",
            value["kind"],
            value["apiVersion"]
        );
    }
    let mut pod: Pod = serde_json::from_value(value)?;
    let spec = pod.spec.as_mut().context("it has no spec")?;
    if spec.containers.is_empty() {
        bail!("it has no containers");
    }
    if spec.service_account_name.is_some() {
        bail!("a static pod can't have a service account");
    }
    let mut digest = sha2::Sha256::new();
    digest.update(format!("{node}\0{file}\0{text}"));
    let hash: String = digest
        .finalize()
        .iter()
        .take(16)
        .map(|b| format!("{b:02x}"))
        .collect();
    fill(spec, node);
    let meta = &mut pod.metadata;
    let name = meta
        .name
        .clone()
        .filter(|n| !n.is_empty())
        .context("it has no name")?;
    meta.name = Some(format!("{name}-{node}"));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    meta.uid = Some(hash.clone());
    meta.creation_timestamp = None;
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(CONFIG_HASH_ANNOTATION.to_owned(), hash);
    annotations.insert(CONFIG_SOURCE_ANNOTATION.to_owned(), "file".to_owned());
    annotations.insert(CONFIG_SEEN_ANNOTATION.to_owned(), Timestamp::now().to_string());
    Ok(pod)
}

/// The values that the apiserver would have filled in.
fn fill(spec: &mut PodSpec, node: &str) {
    spec.node_name = Some(node.to_owned());
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.scheduler_name
        .get_or_insert_with(|| "default-scheduler".to_owned());
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    if let Some(class) = &spec.priority_class_name {
        let priority = match class.as_str() {
            "system-node-critical" => 2_000_001_000,
            "system-cluster-critical" => 2_000_000_000,
            _ => 0,
        };
        spec.priority.get_or_insert(priority);
    }
    let everything = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&everything) {
        tolerations.push(everything);
    }
    let host_network = spec.host_network == Some(true);
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        fill_container(container, host_network);
    }
}

fn fill_container(container: &mut Container, host_network: bool) {
    container
        .termination_message_path
        .get_or_insert_with(|| "/dev/termination-log".to_owned());
    container
        .termination_message_policy
        .get_or_insert_with(|| "File".to_owned());
    let policy = crate::images::default_policy(container.image.as_deref().unwrap_or_default());
    container
        .image_pull_policy
        .get_or_insert_with(|| policy.to_owned());
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        if host_network && port.host_port.is_none() {
            port.host_port = Some(port.container_port);
        }
    }
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    for probe in probes.into_iter().flatten() {
        fill_probe(probe);
    }
    if let Some(resources) = &mut container.resources {
        for (name, limit) in resources.limits.clone().into_iter().flatten() {
            resources
                .requests
                .get_or_insert_default()
                .entry(name)
                .or_insert(limit);
        }
    }
}

fn fill_probe(probe: &mut Probe) {
    probe.timeout_seconds.get_or_insert(1);
    probe.period_seconds.get_or_insert(10);
    probe.success_threshold.get_or_insert(1);
    probe.failure_threshold.get_or_insert(3);
    if let Some(get) = &mut probe.http_get {
        get.path.get_or_insert_with(|| "/".to_owned());
        get.scheme.get_or_insert_with(|| "HTTP".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: kube-system}\nspec:\n  containers:\n  - {name: a, image: 'x:1', resources: {limits: {cpu: 1}}}\n";

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let pod = static_pod(MANIFEST, "/m/web.yaml", "n1").expect("a pod");
        assert_eq!(pod.full_name(), "kube-system/web-n1");
        assert!(pod.is_static() && !pod.is_mirror());
        let container = &pod.spec().containers[0];
        assert_eq!(container.image_pull_policy.as_deref(), Some("IfNotPresent"));
        assert!(
            container
                .resources
                .as_ref()
                .and_then(|r| r.requests.as_ref())
                .is_some_and(|r| r.contains_key("cpu"))
        );
        let again = static_pod(MANIFEST, "/m/web.yaml", "n1").expect("a pod");
        assert_eq!(pod.uid(), again.uid());
        let changed = static_pod(&MANIFEST.replace("x:1", "x:2"), "/m/web.yaml", "n1").expect("a pod");
        assert_ne!(pod.uid(), changed.uid());
    }

    #[test]
    fn the_mirror_belongs_to_the_node_and_carries_the_hash() {
        let pod = static_pod(MANIFEST, "/m/web.yaml", "n1").expect("a pod");
        let mut node = Node::default();
        node.metadata.uid = Some("node-uid".into());
        let mirror = mirror_of(&pod, &node);
        assert!(mirror.is_mirror() && mirror.metadata.uid.is_none());
        assert_eq!(
            mirror.annotation(CONFIG_MIRROR_ANNOTATION),
            pod.annotation(CONFIG_HASH_ANNOTATION)
        );
        assert_eq!(
            mirror
                .metadata
                .owner_references
                .as_ref()
                .map(|o| o[0].uid.as_str()),
            Some("node-uid")
        );
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        for text in [
            "",
            "kind: Service\napiVersion: v1",
            "kind: Pod\napiVersion: v1\nmetadata: {name: a}",
            "- x",
        ] {
            assert!(static_pod(text, "f", "n").is_err(), "{text:?}");
        }
    }
}
