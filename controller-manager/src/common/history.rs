//! Writing ControllerRevisions.

use crate::common::owners::{claim, name, namespace};
use crate::common::revisions::{self, Change};
use crate::common::selector::Matcher;
use crate::common::{batch, claiming};
use crate::frame::{ignore_not_found, is_already_exists};
use anyhow::Context as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Resource};
use rutter_client::Store;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;

/// Brings an owner's history up to date: returns the current revision and all of them, or `None` when the name of a new revision is taken
/// by another content, so that the owner must count a collision.
pub async fn sync<K>(
    client: &kube::Client,
    store: &Store<ControllerRevision>,
    owner: &K,
    selector: &Matcher,
    template: &PodTemplateSpec,
    collisions: Option<i32>,
    hash_label: &str,
) -> anyhow::Result<Option<(Arc<ControllerRevision>, Vec<Arc<ControllerRevision>>)>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let space = namespace(owner.meta());
    let claimed = claim(owner.meta(), selector, store.list_in(space));
    let mut history = claiming::settle(client, owner, claimed).await?;
    let (mut current, change) = revisions::current(owner, template, collisions, hash_label, &mut history);
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), space);
    match change {
        Change::Nothing => {}
        Change::Renumber(revision) => {
            let written = api
                .replace(name(&revision.metadata), &PostParams::default(), &revision)
                .await
                .context("renumbering a revision")?;
            current = Arc::new(written);
        }
        Change::Create(revision) => match api.create(&PostParams::default(), &revision).await {
            Ok(written) => {
                current = Arc::new(written);
                history.push(current.clone());
            }
            Err(error) if is_already_exists(&error) => {
                let there = api
                    .get(name(&revision.metadata))
                    .await
                    .context("reading the revision that is in the way")?;
                if !revisions::owned_by(&there, owner.meta())
                    || revisions::template_of(&there).as_ref() != Some(template)
                {
                    return Ok(None);
                }
                current = Arc::new(there);
                history.push(current.clone());
            }
            Err(error) => return Err(error).context("creating a revision"),
        },
    }
    Ok(Some((current, history)))
}

/// Deletes revisions.
pub async fn delete(client: &kube::Client, doomed: Vec<Arc<ControllerRevision>>) -> anyhow::Result<()> {
    batch::each(doomed, |revision| async move {
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace(&revision.metadata));
        ignore_not_found(
            api.delete(name(&revision.metadata), &DeleteParams::default())
                .await,
        )
        .map(|_| ())
    })
    .await
    .context("deleting an old revision")
}
