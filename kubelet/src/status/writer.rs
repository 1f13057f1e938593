//! Writes one pod's status to the apiserver: newest wins, one write at a time, again and again until it is there. The last
//! act for a pod that was deleted is to remove its object.

use super::patch::status_patch;
use crate::pods::PodExt;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

#[derive(Clone, Default)]
struct Wanted {
    /// The newest object that the apiserver is known to have.
    object: Option<Arc<Pod>>,
    status: Option<PodStatus>,
    delete: bool,
}

/// The handle of a pod's writer. The writer ends when the handle is dropped, after what was wanted last is written or refused.
pub(crate) struct StatusWriter {
    wanted: watch::Sender<Wanted>,
}

impl StatusWriter {
    /// Starts a writer.
    pub(crate) fn start(client: kube::Client) -> Self {
        let (wanted, receiver) = watch::channel(Wanted::default());
        tokio::spawn(write_loop(client, receiver));
        Self { wanted }
    }

    /// Tells the newest object in the apiserver.
    pub(crate) fn object(&self, object: Arc<Pod>) {
        self.wanted.send_if_modified(|w| {
            w.object = Some(object);
            w.status.is_some()
        });
    }

    /// Wants this status.
    pub(crate) fn set(&self, status: PodStatus) {
        self.wanted.send_if_modified(|w| {
            let changed = w.status.as_ref() != Some(&status);
            w.status = Some(status);
            changed
        });
    }

    /// Wants the object gone, once the status is written.
    pub(crate) fn delete(&self) {
        self.wanted
            .send_if_modified(|w| !std::mem::replace(&mut w.delete, true));
    }
}

enum Outcome {
    Done,
    Gone,
    Retry,
}

async fn write_loop(client: kube::Client, mut receiver: watch::Receiver<Wanted>) {
    let mut known: Option<Pod> = None;
    let mut delay = Duration::from_millis(100);
    loop {
        let closed = receiver.changed().await.is_err();
        loop {
            let wanted = receiver.borrow_and_update().clone();
            match write(&client, &wanted, &mut known).await {
                Outcome::Gone => return,
                Outcome::Done => {
                    delay = Duration::from_millis(100);
                    break;
                }
                Outcome::Retry => {
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        _ = receiver.changed(), if !closed => {}
                    }
                    delay = (delay * 2).min(Duration::from_secs(10));
                }
            }
        }
        if closed {
            return;
        }
    }
}

/// The newer of two views of the same object.
fn newer<'a>(a: Option<&'a Pod>, b: Option<&'a Pod>) -> Option<&'a Pod> {
    let version = |p: &Pod| {
        p.metadata
            .resource_version
            .as_deref()
            .and_then(|v| v.parse::<u64>().ok())
    };
    match (a, b) {
        (Some(a), Some(b)) if a.metadata.uid == b.metadata.uid => {
            Some(if version(a) > version(b) { a } else { b })
        }
        (a, b) => b.or(a),
    }
}

async fn write(client: &kube::Client, wanted: &Wanted, known: &mut Option<Pod>) -> Outcome {
    let Some(current) = newer(known.as_ref(), wanted.object.as_deref()) else {
        return Outcome::Done;
    };
    let uid = current.metadata.uid.clone().unwrap_or_default();
    let name = current.name().to_owned();
    let api: Api<Pod> = Api::namespaced(client.clone(), current.namespace());
    if let Some(status) = &wanted.status {
        let before = serde_json::to_value(current.status()).unwrap_or_default();
        let after = serde_json::to_value(status).unwrap_or_default();
        if let Some(patch) = status_patch(&uid, &before, &after) {
            match api
                .patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch))
                .await
            {
                Ok(pod) => *known = Some(pod),
                Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {
                    // Not there, or another pod of that name: this one is gone.
                    tracing::debug!(pod = %name, uid, reason = answer.reason, "the pod to report on is gone");
                    return Outcome::Gone;
                }
                Err(kube::Error::Api(answer)) if answer.code == 422 || answer.code == 400 => {
                    tracing::warn!(pod = %name, uid, message = answer.message, "the apiserver refused a pod's status");
                    return Outcome::Done;
                }
                Err(error) => {
                    tracing::debug!(pod = %name, uid, %error, "writing a pod's status failed; trying again");
                    return Outcome::Retry;
                }
            }
        }
    }
    if !wanted.delete {
        return Outcome::Done;
    }
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: Some(uid),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&name, &params).await {
        Ok(_) => Outcome::Gone,
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Outcome::Gone,
        Err(error) => {
            tracing::debug!(pod = %name, %error, "removing a deleted pod's object failed; trying again");
            Outcome::Retry
        }
    }
}
