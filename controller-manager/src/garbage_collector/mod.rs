//! The garbage collector: deletes what has lost all its owners, and carries out foreground and orphaning deletions, for every resource that
//! can be listed, watched and deleted, custom ones included.
//!
//! Watches carry metadata alone. Work begins only when all resources were listed once, because an owner that was not listed yet looks absent;
//! even so, the server is asked before an owner that was never seen counts as gone.

pub mod graph;
mod monitors;
#[cfg(test)]
mod tests;

use crate::common::batch;
use crate::frame::{Context, Loop, Reconcile, ignore_not_found, is_conflict, is_not_found};
use anyhow::Context as _;
use async_trait::async_trait;
use graph::{Decision, FOREGROUND, Graph, Identity, Node, ORPHAN, Owner, OwnerState, Propagation, Uid, Work};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use monitors::Monitors;
use parking_lot::Mutex;
use rutter_client::{Requeue, WorkQueue};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// Collects garbage.
pub struct GarbageCollector {
    client: kube::Client,
    graph: Arc<Mutex<Graph>>,
    monitors: Arc<Monitors>,
    queue: WorkQueue<Work>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    if !context.options.enable_garbage_collector {
        return;
    }
    let mut frame = Loop::named(&context, "garbage_collector_attempt_to_delete");
    let graph = Arc::new(Mutex::new(Graph::default()));
    let monitors = Monitors::start(&context, graph.clone(), frame.queue());
    let ready = monitors.clone();
    frame.wait(async move { ready.synced().await });
    let workers = context.options.concurrent_gc_syncs;
    let queue = frame.queue();
    frame
        .run(
            workers,
            GarbageCollector {
                client: context.client,
                graph,
                monitors,
                queue,
            },
        )
        .await;
}

#[async_trait]
impl Reconcile for GarbageCollector {
    type Key = Work;

    async fn reconcile(&self, work: Work) -> anyhow::Result<Requeue> {
        match work {
            Work::Delete(uid) => self.consider(&uid).await,
            Work::Orphan(uid) => self.orphan(&uid).await,
        }
    }
}

impl GarbageCollector {
    async fn consider(&self, uid: &Uid) -> anyhow::Result<Requeue> {
        let mut answers: HashMap<Uid, OwnerState> = HashMap::new();
        loop {
            let (decision, node) = {
                let graph = self.graph.lock();
                (graph.decide(uid, &answers), graph.node(uid).cloned())
            };
            let Some(node) = node else {
                return Ok(Requeue::Done);
            };
            match decision {
                Decision::Nothing => {}
                Decision::Ask(at) => {
                    let Some(owner) = node.owners.get(at) else {
                        return Ok(Requeue::Done);
                    };
                    let state = self.ask(&node, owner).await?;
                    answers.insert(owner.uid.clone(), state);
                    continue;
                }
                Decision::LookAt(dependents) => dependents
                    .into_iter()
                    .for_each(|d| self.queue.add(Work::Delete(d))),
                Decision::FinishForeground => {
                    self.edit(uid, &node.identity, |meta| remove_finalizer(meta, FOREGROUND))
                        .await?
                }
                Decision::DropReferences(owners) => {
                    self.edit(uid, &node.identity, |meta| {
                        drop_references(meta, &|r| owners.iter().any(|o| **o == *r))
                    })
                    .await?;
                }
                Decision::Delete { propagation, unblock } => {
                    if unblock {
                        self.edit(uid, &node.identity, unblock_owners).await?;
                    }
                    return self.delete(uid, &node, propagation, unblock).await;
                }
            }
            return Ok(Requeue::Done);
        }
    }

    /// Looks an owner up as the reference is written.
    async fn ask(&self, dependent: &Node, owner: &Owner) -> anyhow::Result<OwnerState> {
        let served = self.monitors.of_kind(&owner.group, &owner.kind);
        let served = served.with_context(|| {
            format!(
                "the kind {} of group {:?} of an owner is not known",
                owner.kind, owner.group
            )
        })?;
        let namespace = if served.namespaced {
            &*dependent.identity.namespace
        } else {
            ""
        };
        if served.namespaced && namespace.is_empty() {
            // A cluster-scoped object can't belong to one in some namespace.
            return Ok(OwnerState::Absent);
        }
        let api = dynamic(&self.client, &served.resource, namespace);
        let found = ignore_not_found(api.get_metadata(&owner.name).await).context("looking an owner up")?;
        Ok(match found {
            Some(found) if found.metadata.uid.as_deref() == Some(&*owner.uid) => {
                let foreground = found
                    .metadata
                    .finalizers
                    .iter()
                    .flatten()
                    .any(|f| f == FOREGROUND);
                if found.metadata.deletion_timestamp.is_some() && foreground {
                    OwnerState::Waiting
                } else {
                    OwnerState::Solid
                }
            }
            // The name is free, or another object's by now.
            _ => {
                if self.graph.lock().node(&owner.uid).is_none() {
                    self.graph.lock().remember_gone(owner.uid.clone());
                }
                OwnerState::Absent
            }
        })
    }

    fn api(&self, identity: &Identity) -> anyhow::Result<Api<DynamicObject>> {
        let served = self
            .monitors
            .of(&identity.resource)
            .with_context(|| format!("{} is no longer served", identity.resource))?;
        Ok(dynamic(&self.client, &served.resource, &identity.namespace))
    }

    async fn delete(
        &self,
        uid: &Uid,
        node: &Node,
        propagation: Propagation,
        changed: bool,
    ) -> anyhow::Result<Requeue> {
        let params = DeleteParams {
            propagation_policy: Some(match propagation {
                Propagation::Background => PropagationPolicy::Background,
                Propagation::Foreground => PropagationPolicy::Foreground,
                Propagation::Orphan => PropagationPolicy::Orphan,
            }),
            // The version too: an owner that was added meanwhile must save the object.
            preconditions: Some(Preconditions {
                uid: Some(uid.to_string()),
                resource_version: (!changed).then(|| node.version.to_string()),
            }),
            ..DeleteParams::default()
        };
        let api = self.api(&node.identity)?;
        match api.delete(&node.identity.name, &params).await {
            Ok(_) => Ok(Requeue::Done),
            Err(error) if is_not_found(&error) => Ok(Requeue::Done),
            Err(error) if is_conflict(&error) => Ok(Requeue::Backoff),
            Err(error) => Err(error)
                .with_context(|| format!("deleting {} {}", node.identity.resource, node.identity.name)),
        }
    }

    async fn orphan(&self, uid: &Uid) -> anyhow::Result<Requeue> {
        let (owner, dependents): (Option<Node>, Vec<(Uid, Identity)>) = {
            let graph = self.graph.lock();
            let dependents = graph.dependents(uid);
            let found = dependents
                .into_iter()
                .filter_map(|d| graph.node(&d).map(|n| (d.clone(), n.identity.clone())));
            (graph.node(uid).cloned(), found.collect())
        };
        let Some(owner) = owner else {
            return Ok(Requeue::Done);
        };
        batch::each(dependents, |(dependent, identity)| async move {
            self.edit(&dependent, &identity, |meta| {
                drop_references(meta, &|r| *r == **uid)
            })
            .await
        })
        .await
        .context("orphaning a dependent")?;
        self.edit(uid, &owner.identity, |meta| remove_finalizer(meta, ORPHAN))
            .await?;
        Ok(Requeue::Done)
    }

    /// Changes an object's owner references and finalizers; `change` says whether there is anything to write. An object that is gone is no error.
    async fn edit(
        &self,
        uid: &Uid,
        identity: &Identity,
        change: impl Fn(&mut ObjectMeta) -> bool,
    ) -> anyhow::Result<()> {
        let api = self.api(identity)?;
        for _ in 0..5 {
            let Some(found) =
                ignore_not_found(api.get_metadata(&identity.name).await).context("reading metadata")?
            else {
                return Ok(());
            };
            let mut meta = found.metadata;
            if meta.uid.as_deref() != Some(uid) || !change(&mut meta) {
                return Ok(());
            }
            let patch = json!({"metadata": {
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
                "ownerReferences": meta.owner_references,
                "finalizers": meta.finalizers,
            }});
            match ignore_not_found(
                api.patch_metadata(&identity.name, &PatchParams::default(), &Patch::Merge(patch))
                    .await,
            ) {
                Err(error) if is_conflict(&error) => {}
                other => {
                    return other
                        .map(|_| ())
                        .with_context(|| format!("changing {} {}", identity.resource, identity.name));
                }
            }
        }
        anyhow::bail!("{} {} keeps changing", identity.resource, identity.name)
    }
}

fn dynamic(
    client: &kube::Client,
    resource: &kube::discovery::ApiResource,
    namespace: &str,
) -> Api<DynamicObject> {
    if namespace.is_empty() {
        Api::all_with(client.clone(), resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, resource)
    }
}

fn remove_finalizer(meta: &mut ObjectMeta, name: &str) -> bool {
    let Some(finalizers) = &mut meta.finalizers else {
        return false;
    };
    let before = finalizers.len();
    finalizers.retain(|f| f != name);
    finalizers.len() != before
}

fn drop_references(meta: &mut ObjectMeta, drop: &dyn Fn(&str) -> bool) -> bool {
    let Some(owners) = &mut meta.owner_references else {
        return false;
    };
    let before = owners.len();
    owners.retain(|r| !drop(&r.uid));
    owners.len() != before
}

fn unblock_owners(meta: &mut ObjectMeta) -> bool {
    let mut changed = false;
    for owner in meta
        .owner_references
        .iter_mut()
        .flatten()
        .filter(|o| o.block_owner_deletion == Some(true))
    {
        owner.block_owner_deletion = Some(false);
        changed = true;
    }
    changed
}
