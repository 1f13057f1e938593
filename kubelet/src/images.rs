//! Having an image before a container needs it: pull policies, credentials, back-off.

use crate::backoff::Backoff;
use crate::credentials;
use crate::objects::Objects;
use crate::pods::PodExt;
use crate::runtime::cri::Cri;
use crate::runtime::security::ImageUser;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use rutter_client::events::{EventType, Recorder};
use rutter_proto::cri::{AuthConfig, Image, ImageSpec, PodSandboxConfig};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Why there is no image: the reason that the container's status carries, and the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageProblem {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// When it is worth another try, if waiting helps.
    pub(crate) retry_seconds: Option<i64>,
}

/// An image that is on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadyImage {
    pub(crate) reference: String,
    pub(crate) user: ImageUser,
}

/// When and why pulls failed last, by pod and image.
type Failures = HashMap<String, (Timestamp, String)>;

/// Pulls images. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Images {
    cri: Cri,
    objects: Objects,
    recorder: Recorder,
    backoff: Arc<Mutex<(Backoff, Failures)>>,
    slots: Arc<Semaphore>,
    node_credentials: Vec<PathBuf>,
    /// When each image was last used or seen in use, for the collection of unused ones.
    pub(crate) last_used: Arc<Mutex<HashMap<String, Timestamp>>>,
}

/// The policy that is meant when none is said.
pub(crate) fn default_policy(image: &str) -> &'static str {
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        _ if image.contains('@') => "IfNotPresent",
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

/// The image's name with the tag that is meant when none is said; refused when it can't be one.
pub(crate) fn normalized(image: &str) -> Result<String, String> {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let tag_at = name[slash..].find(':').map(|at| slash + at);
    let (repository, tag) = match tag_at {
        Some(at) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    };
    let path = match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => repository,
    };
    let good_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
            && part.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
            && part.as_bytes().last().is_some_and(u8::is_ascii_alphanumeric)
    };
    let good_tag = |tag: &str| {
        (1..=128).contains(&tag.len())
            && tag
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            && !tag.starts_with(['.', '-'])
    };
    if !path.split('/').all(good_part) || tag.is_some_and(|t| !good_tag(t)) {
        return Err(format!(
            "couldn't parse image name {image:?}: invalid reference format"
        ));
    }
    Ok(if tag.is_none() && digest.is_none() {
        format!("{image}:latest")
    } else {
        image.to_owned()
    })
}

fn ready(image: &Image, reference: String) -> ReadyImage {
    ReadyImage {
        reference,
        user: ImageUser {
            uid: image.uid.as_ref().map(|u| u.value),
            username: image.username.clone(),
        },
    }
}

impl Images {
    /// An image puller; `parallel` limits how many pulls run at once.
    pub(crate) fn new(
        cri: Cri,
        objects: Objects,
        recorder: Recorder,
        parallel: usize,
        node_credentials: Vec<PathBuf>,
    ) -> Self {
        Self {
            cri,
            objects,
            recorder,
            backoff: Arc::new(Mutex::new((Backoff::new(10, 300), HashMap::new()))),
            slots: Arc::new(Semaphore::new(parallel.max(1))),
            node_credentials,
            last_used: Arc::default(),
        }
    }

    /// Has the image on the node as its policy wants.
    pub(crate) async fn ensure(
        &self,
        pod: &Pod,
        image: &str,
        policy: Option<&str>,
        sandbox: &PodSandboxConfig,
    ) -> Result<ReadyImage, ImageProblem> {
        let problem = |reason, message: String| ImageProblem {
            reason,
            message,
            retry_seconds: None,
        };
        let name = normalized(image).map_err(|why| {
            let message = format!("Failed to apply default image tag {image:?}: {why}");
            self.recorder
                .event(pod, EventType::Warning, "InspectFailed", message.clone());
            problem("InvalidImageName", message)
        })?;
        let spec = ImageSpec {
            image: name.clone(),
            user_specified_image: image.to_owned(),
            ..ImageSpec::default()
        };
        let found = self.cri.image_status(spec.clone()).await.map_err(|error| {
            let message = format!("Failed to inspect image {image:?}: {error}");
            self.recorder
                .event(pod, EventType::Warning, "InspectFailed", message.clone());
            problem("ImageInspectError", message)
        })?;
        let policy = policy.unwrap_or_else(|| default_policy(image));
        match (policy, found) {
            ("Never", None) => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                self.recorder
                    .event(pod, EventType::Warning, "ErrImageNeverPull", message.clone());
                return Err(problem("ErrImageNeverPull", message));
            }
            ("Never" | "IfNotPresent", Some(found)) => {
                let message = format!(
                    "Container image {image:?} already present on machine and can be accessed by the pod"
                );
                self.recorder.event(pod, EventType::Normal, "Pulled", message);
                self.last_used.lock().insert(found.id.clone(), Timestamp::now());
                return Ok(ready(&found, found.id.clone()));
            }
            _ => {}
        }
        self.pull(pod, image, spec, sandbox).await
    }

    async fn pull(
        &self,
        pod: &Pod,
        image: &str,
        spec: ImageSpec,
        sandbox: &PodSandboxConfig,
    ) -> Result<ReadyImage, ImageProblem> {
        let key = format!("{}_{image}", pod.uid());
        let now = Timestamp::now();
        let waiting = {
            let state = self.backoff.lock();
            state.1.get(&key).and_then(|(at, error)| {
                state
                    .0
                    .remaining(&key, *at, now)
                    .map(|(_, left)| (left, error.clone()))
            })
        };
        if let Some((left, error)) = waiting {
            self.recorder.event(
                pod,
                EventType::Normal,
                "BackOff",
                format!("Back-off pulling image {image:?}"),
            );
            return Err(ImageProblem {
                reason: "ImagePullBackOff",
                message: format!("Back-off pulling image {image:?}: {error}"),
                retry_seconds: Some(left.as_secs().max(0) + 1),
            });
        }
        self.recorder.event(
            pod,
            EventType::Normal,
            "Pulling",
            format!("Pulling image {image:?}"),
        );
        let started = std::time::Instant::now();
        let _slot = self.slots.acquire().await;
        let pulling = std::time::Instant::now();
        match self.try_credentials(pod, &spec, sandbox).await {
            Ok(reference) => {
                {
                    let mut state = self.backoff.lock();
                    state.0.reset(&key);
                    state.1.remove(&key);
                }
                let by_ref = ImageSpec {
                    image: reference.clone(),
                    ..ImageSpec::default()
                };
                let status = self
                    .cri
                    .image_status(by_ref)
                    .await
                    .ok()
                    .flatten()
                    .unwrap_or_default();
                self.last_used.lock().insert(status.id.clone(), Timestamp::now());
                let message = format!(
                    "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {} bytes.",
                    millis(pulling.elapsed()),
                    millis(started.elapsed()),
                    status.size
                );
                self.recorder.event(pod, EventType::Normal, "Pulled", message);
                Ok(ready(&status, reference))
            }
            Err(error) => {
                let now = Timestamp::now();
                {
                    let mut state = self.backoff.lock();
                    state.0.lengthen(&key, now, now);
                    state.1.insert(key, (now, format!("ErrImagePull: {error}")));
                }
                let message = format!("Failed to pull image {image:?}: {error}");
                self.recorder.event(pod, EventType::Warning, "Failed", message);
                Err(ImageProblem {
                    reason: "ErrImagePull",
                    message: error,
                    retry_seconds: Some(1),
                })
            }
        }
    }

    async fn try_credentials(
        &self,
        pod: &Pod,
        spec: &ImageSpec,
        sandbox: &PodSandboxConfig,
    ) -> Result<String, String> {
        let mut options: Vec<Option<AuthConfig>> =
            credentials::for_image(&spec.image, &self.keyring(pod).await)
                .into_iter()
                .map(Some)
                .collect();
        if options.is_empty() {
            options.push(None);
        }
        let mut problems = Vec::new();
        for auth in options {
            match self
                .cri
                .pull_image(spec.clone(), auth, Some(sandbox.clone()))
                .await
            {
                Ok(reference) => return Ok(reference),
                Err(error) => problems.push(error.status.message().to_owned()),
            }
        }
        problems.dedup();
        Err(problems.join(", "))
    }

    async fn keyring(&self, pod: &Pod) -> Vec<credentials::Entry> {
        let mut out = Vec::new();
        for reference in pod.spec().image_pull_secrets.iter().flatten() {
            match self.objects.secret(pod, &reference.name).await {
                Ok(Some(secret)) => out.extend(credentials::from_secret(&secret)),
                Ok(None) => {
                    let message = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                        reference.name
                    );
                    self.recorder.event(
                        pod,
                        EventType::Warning,
                        "FailedToRetrieveImagePullSecret",
                        message,
                    );
                }
                Err(error) => {
                    tracing::warn!(pod = %pod.full_name(), %error, "reading an image pull secret failed")
                }
            }
        }
        for path in &self.node_credentials {
            if let Ok(text) = std::fs::read_to_string(path) {
                out.extend(credentials::from_config(&text));
            }
        }
        out
    }
}

fn millis(duration: std::time::Duration) -> String {
    let ms = duration.as_millis();
    if ms < 1000 {
        format!("{ms}ms")
    } else {
        format!("{:.3}s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_depends_on_the_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("reg:5000/nginx", "Always"),
            ("reg:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(default_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn names_get_the_tag_latest_and_bad_ones_are_refused() {
        assert_eq!(normalized("reg:5000/a/b"), Ok("reg:5000/a/b:latest".into()));
        assert_eq!(normalized("a:1"), Ok("a:1".into()));
        assert_eq!(normalized("a@sha256:00"), Ok("a@sha256:00".into()));
        for bad in ["", "A", "a:", "a//b", "a:b:c", "-x"] {
            assert!(normalized(bad).is_err(), "{bad:?}");
        }
    }
}
