//! Reading pods: the small questions that every part of the kubelet asks of a pod's object. Pure.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Where a static pod's object says it came from.
pub(crate) const CONFIG_SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";
/// The hash of the manifest that a static pod or its mirror was made from.
pub(crate) const CONFIG_HASH_ANNOTATION: &str = "kubernetes.io/config.hash";
/// On a mirror pod: the hash of the static pod that it shows.
pub(crate) const CONFIG_MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// When a static pod was first seen.
pub(crate) const CONFIG_SEEN_ANNOTATION: &str = "kubernetes.io/config.seen";

/// A pod's UID: what everything on a node is keyed by, since a name may be used again.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Uid(Arc<str>);

impl Uid {
    /// Wraps a UID.
    pub(crate) fn new(uid: &str) -> Self {
        Self(uid.into())
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

static NO_SPEC: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);
static NO_STATUS: LazyLock<PodStatus> = LazyLock::new(PodStatus::default);

/// What is asked of a pod.
pub(crate) trait PodExt {
    /// `metadata.uid`
    fn uid(&self) -> Uid;
    /// `metadata.name`
    fn name(&self) -> &str;
    /// `metadata.namespace`
    fn namespace(&self) -> &str;
    /// `namespace/name`
    fn full_name(&self) -> String;
    /// The specification.
    fn spec(&self) -> &PodSpec;
    /// The status.
    fn status(&self) -> &PodStatus;
    /// `metadata.generation`, zero when unknown.
    fn generation(&self) -> Option<i64>;
    /// Init containers, in order.
    fn init_containers(&self) -> &[Container];
    /// Ephemeral containers, in order.
    fn ephemeral_containers(&self) -> &[EphemeralContainer];
    /// The container of that name of any kind; ephemeral ones as plain containers.
    fn container(&self, name: &str) -> Option<Container>;
    /// Whether the pod uses the node's network.
    fn is_host_network(&self) -> bool;
    /// The pod's restart policy.
    fn restart_policy(&self) -> &str;
    /// Whether deletion was asked for.
    fn is_deleting(&self) -> bool;
    /// Whether the pod came from a file on this node.
    fn is_static(&self) -> bool;
    /// Whether the object is the apiserver's picture of a static pod.
    fn is_mirror(&self) -> bool;
    /// Whether the phase in the object is Succeeded or Failed.
    fn is_terminal(&self) -> bool;
    /// An annotation's value.
    fn annotation(&self, key: &str) -> Option<&str>;
}

impl PodExt for Pod {
    fn uid(&self) -> Uid {
        Uid::new(self.metadata.uid.as_deref().unwrap_or_default())
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn full_name(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }

    fn spec(&self) -> &PodSpec {
        self.spec.as_ref().unwrap_or(&NO_SPEC)
    }

    fn status(&self) -> &PodStatus {
        self.status.as_ref().unwrap_or(&NO_STATUS)
    }

    fn generation(&self) -> Option<i64> {
        self.metadata.generation
    }

    fn init_containers(&self) -> &[Container] {
        self.spec().init_containers.as_deref().unwrap_or_default()
    }

    fn ephemeral_containers(&self) -> &[EphemeralContainer] {
        self.spec().ephemeral_containers.as_deref().unwrap_or_default()
    }

    fn container(&self, name: &str) -> Option<Container> {
        self.spec()
            .containers
            .iter()
            .chain(self.init_containers())
            .find(|c| c.name == name)
            .cloned()
            .or_else(|| {
                self.ephemeral_containers()
                    .iter()
                    .find(|c| c.name == name)
                    .map(plain_container)
            })
    }

    fn is_host_network(&self) -> bool {
        self.spec().host_network == Some(true)
    }

    fn restart_policy(&self) -> &str {
        self.spec().restart_policy.as_deref().unwrap_or("Always")
    }

    fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn is_static(&self) -> bool {
        self.annotation(CONFIG_SOURCE_ANNOTATION)
            .is_some_and(|source| source != "api")
    }

    fn is_mirror(&self) -> bool {
        self.annotation(CONFIG_MIRROR_ANNOTATION).is_some()
    }

    fn is_terminal(&self) -> bool {
        matches!(self.status().phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// Whether an init container is a sidecar: restarted for as long as the pod lives.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// An ephemeral container as a container.
pub(crate) fn plain_container(e: &EphemeralContainer) -> Container {
    Container {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        name: e.name.clone(),
        resources: e.resources.clone(),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_devices: e.volume_devices.clone(),
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
        ..Container::default()
    }
}

/// The time as the API writes it: whole seconds.
pub(crate) fn api_time(at: jiff::Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// A time that the runtime gives as nanoseconds since 1970; zero means none.
pub(crate) fn from_nanos(nanos: i64) -> Option<jiff::Timestamp> {
    (nanos > 0)
        .then(|| jiff::Timestamp::from_nanosecond(i128::from(nanos)).ok())
        .flatten()
}

/// How many seconds the pod's containers get to end by themselves.
pub(crate) fn grace_seconds(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .or(pod.spec().termination_grace_period_seconds)
        .unwrap_or(30)
}

/// Whether a container that ended with this exit code is to be started again, by its own rules first and the pod's policy then.
pub(crate) fn should_restart_after(container: &Container, pod: &PodSpec, exit_code: i32) -> bool {
    if let Some(policy) = container.restart_policy.as_deref() {
        for rule in container.restart_policy_rules.iter().flatten() {
            let Some(codes) = &rule.exit_codes else { continue };
            let listed = codes.values.iter().flatten().any(|v| *v == exit_code);
            let matches = match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            };
            if matches {
                return rule.action == "Restart";
            }
        }
        return policy_restarts(policy, exit_code);
    }
    policy_restarts(pod.restart_policy.as_deref().unwrap_or("Always"), exit_code)
}

fn policy_restarts(policy: &str, exit_code: i32) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// `NAMESPACE_NAME_UID`, the name of a pod's log folder.
pub(crate) fn log_dir_name(namespace: &str, name: &str, uid: &Uid) -> String {
    format!("{namespace}_{name}_{uid}")
}
