//! The namespace controller: empties a namespace that is being deleted, pods first, and lets it go.

pub mod plan;

use crate::common::batch;
use crate::common::discovery::{Served, discover};
use crate::common::owners::name;
use crate::frame::{Context, Loop, Reconcile, ignore_not_found, is_conflict, is_not_found, message_of};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::PartialObjectMeta;
use parking_lot::Mutex;
use plan::{FINALIZER_SECONDS, Findings};
use rutter_client::{Requeue, Store};
use std::time::Duration;

const FINALIZER: &str = "kubernetes";
const PODS: &str = "pods";

/// Deletes namespaces' contents.
pub struct NamespaceController {
    client: kube::Client,
    namespaces: Store<Namespace>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<String>::new(&context);
    let namespaces = frame.watch::<Namespace>(|change, queue| {
        if let Some(space) = change
            .new
            .as_ref()
            .filter(|n| n.metadata.deletion_timestamp.is_some())
        {
            // A moment's grace lets writes that were accepted before the deletion become visible.
            queue.add_after(name(&space.metadata).to_owned(), Duration::from_millis(500));
        }
    });
    let workers = context.options.concurrent_namespace_syncs;
    frame
        .run(
            workers,
            NamespaceController {
                client: context.client,
                namespaces,
            },
        )
        .await;
}

#[async_trait]
impl Reconcile for NamespaceController {
    type Key = String;

    async fn reconcile(&self, key: String) -> anyhow::Result<Requeue> {
        if self.namespaces.get("", &key).is_none() {
            return Ok(Requeue::Done);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let Some(mut space) = ignore_not_found(api.get(&key).await).context("reading the namespace")? else {
            return Ok(Requeue::Done);
        };
        let Some(deleted_at) = space.metadata.deletion_timestamp.clone() else {
            return Ok(Requeue::Done);
        };
        let holds = space
            .spec
            .as_ref()
            .is_some_and(|s| s.finalizers.as_ref().is_some_and(|f| !f.is_empty()));
        if !holds {
            return Ok(Requeue::Done);
        }
        let params = PostParams::default();
        let status = space.status.get_or_insert_default();
        if status.phase.as_deref() != Some("Terminating") {
            status.phase = Some("Terminating".to_owned());
            space = api
                .replace_status(&key, &params, &space)
                .await
                .context("marking the namespace as terminating")?;
        }
        let findings = self.empty(&key, &deleted_at).await;
        if plan::set_conditions(space.status.get_or_insert_default(), &findings, Timestamp::now()) {
            match ignore_not_found(api.replace_status(&key, &params, &space).await) {
                Ok(Some(updated)) => space = updated,
                Ok(None) => return Ok(Requeue::Done),
                Err(error) if is_conflict(&error) => return Ok(Requeue::Backoff),
                Err(error) => return Err(error).context("updating the namespace's conditions"),
            }
        }
        if findings.estimate > 0 {
            // Half of it and a little more: things mostly go sooner than they must.
            return Ok(Requeue::After(Duration::from_secs(
                findings.estimate.unsigned_abs() / 2 + 1,
            )));
        }
        anyhow::ensure!(findings.failures.is_empty(), "{}", findings.failures.join(", "));
        if let Some(problem) = findings.discovery {
            anyhow::bail!("the namespace can't be known to be empty: {problem}");
        }
        if let Some(finalizers) = space.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
            finalizers.retain(|f| f != FINALIZER);
        }
        let finalized = ignore_not_found(api.replace_subresource("finalize", &key, &params, &space).await);
        finalized.context("finalizing the namespace")?;
        Ok(Requeue::Done)
    }
}

impl NamespaceController {
    /// Deletes what is in the namespace: pods first, everything else when they are gone.
    async fn empty(
        &self,
        namespace: &str,
        deleted_at: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time,
    ) -> Findings {
        let findings = Mutex::new(Findings::default());
        let found = match discover(&self.client).await {
            Ok(found) => found,
            Err(error) => {
                return Findings {
                    discovery: Some(format!("{error:#}")),
                    ..Findings::default()
                };
            }
        };
        if !found.unknown.is_empty() {
            let groups = found.unknown.join(", ");
            findings.lock().discovery = Some(format!(
                "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {groups}: stale GroupVersion discovery: {groups}",
                found.unknown.len()
            ));
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let estimate = match pods.list(&ListParams::default()).await {
            Ok(list) => plan::pod_estimate(&list.items, deleted_at, Timestamp::now()),
            Err(_) => 0,
        };
        if let Some(served) = found.resources.get(PODS) {
            self.empty_resource(namespace, served, estimate, &findings).await;
        }
        if findings.lock().remaining.contains_key(PODS) {
            return findings.into_inner();
        }
        let others: Vec<Served> = found
            .resources
            .into_iter()
            .filter(|(name, s)| s.namespaced && s.supports(&["delete"]) && name != PODS)
            .map(|(_, s)| s)
            .collect();
        let shared = &findings;
        let all = batch::each(others, |served| async move {
            self.empty_resource(namespace, &served, 0, shared).await;
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(()) = all.await;
        findings.into_inner()
    }

    async fn empty_resource(
        &self,
        namespace: &str,
        served: &Served,
        estimate: i64,
        findings: &Mutex<Findings>,
    ) {
        let resource = served.group_resource();
        let left = match self.delete_all(namespace, served).await {
            Ok(left) => left,
            Err(error) => {
                let mut findings = findings.lock();
                findings.estimate = findings.estimate.max(estimate);
                return findings
                    .failures
                    .push(format!("{resource}: {}", message_of(&error)));
            }
        };
        if left.is_empty() {
            return;
        }
        let mut findings = findings.lock();
        let mut held = false;
        for finalizer in left.iter().flat_map(|o| o.metadata.finalizers.iter().flatten()) {
            *findings.finalizers.entry(finalizer.clone()).or_default() += 1;
            held = true;
        }
        if estimate == 0 && !held {
            findings.failures.push(format!(
                "unexpected items still remain in namespace: {namespace} for gvr: {}/{}, Resource={}",
                served.resource.group, served.resource.version, served.resource.plural
            ));
        }
        let wait = if estimate > 0 {
            estimate
        } else if held {
            FINALIZER_SECONDS
        } else {
            0
        };
        findings.estimate = findings.estimate.max(wait);
        findings.remaining.insert(resource, left.len());
    }

    /// Deletes all objects of a resource and returns what is left.
    async fn delete_all(
        &self,
        namespace: &str,
        served: &Served,
    ) -> Result<Vec<PartialObjectMeta<DynamicObject>>, kube::Error> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &served.resource);
        let unsupported = |error: &kube::Error| {
            is_not_found(error) || matches!(error, kube::Error::Api(s) if s.code == 405)
        };
        let list = || async {
            match api.list_metadata(&ListParams::default()).await {
                Ok(list) => Ok(list.items),
                Err(error) if unsupported(&error) => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        };
        if !served.supports(&["list"]) {
            return Ok(Vec::new());
        }
        // Most resources have nothing here: one look saves a deletion and another look.
        let there = list().await?;
        if there.is_empty() {
            return Ok(there);
        }
        let params = DeleteParams::background();
        if served.supports(&["deletecollection"]) {
            match api.delete_collection(&params, &ListParams::default()).await {
                Err(error) if !unsupported(&error) => return Err(error),
                _ => {}
            }
        } else {
            for object in there {
                match ignore_not_found(api.delete(name(&object.metadata), &params).await) {
                    Err(error) if !unsupported(&error) => return Err(error),
                    _ => {}
                }
            }
        }
        list().await
    }
}
