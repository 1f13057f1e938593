//! Carrying out adoptions and releases.

use crate::common::batch;
use crate::common::owners::{
    Claim, adoption_patch, controller_reference, name, namespace, release_patch, uid,
};
use crate::frame::{ignore_not_found, is_conflict};
use anyhow::Context as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use std::fmt::Debug;
use std::sync::Arc;

/// Adopts and releases, and returns what is owned then. Before the first adoption the owner is read again, because one that
/// is being deleted must adopt nothing and the store may not know yet.
pub async fn settle<O, K>(client: &kube::Client, owner: &O, claim: Claim<K>) -> anyhow::Result<Vec<Arc<K>>>
where
    O: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let Claim {
        mut owned,
        adopt,
        release,
    } = claim;
    let (owner_uid, space) = (uid(owner.meta()), namespace(owner.meta()));
    let api: Api<K> = Api::namespaced(client.clone(), space);
    batch::each(release, |object| {
        let patch = Patch::Strategic(release_patch(owner_uid, uid(object.meta())));
        let api = api.clone();
        async move {
            match ignore_not_found(
                api.patch(name(object.meta()), &PatchParams::default(), &patch)
                    .await,
            ) {
                // Of another UID, or without that reference: it is released already.
                Err(error)
                    if is_conflict(&error)
                        || matches!(&error, kube::Error::Api(s) if s.reason == "Invalid") =>
                {
                    Ok(())
                }
                other => other.map(|_| ()),
            }
        }
    })
    .await
    .context("releasing a dependent that is no longer selected")?;
    if adopt.is_empty() {
        return Ok(owned);
    }
    let fresh = Api::<O>::namespaced(client.clone(), space)
        .get(name(owner.meta()))
        .await
        .context("reading the owner again")?;
    anyhow::ensure!(
        uid(fresh.meta()) == owner_uid && fresh.meta().deletion_timestamp.is_none(),
        "can't adopt: {} is gone or being deleted",
        name(owner.meta())
    );
    let reference = controller_reference(owner);
    let adopted: parking_lot::Mutex<Vec<Arc<K>>> = parking_lot::Mutex::default();
    batch::each(adopt, |object| {
        let patch = Patch::Strategic(adoption_patch(&reference, uid(object.meta())));
        let (api, adopted) = (api.clone(), &adopted);
        async move {
            if let Some(now) = ignore_not_found(
                api.patch(name(object.meta()), &PatchParams::default(), &patch)
                    .await,
            )? {
                adopted.lock().push(Arc::new(now));
            }
            Ok::<(), kube::Error>(())
        }
    })
    .await
    .context("adopting a dependent")?;
    owned.append(&mut adopted.into_inner());
    Ok(owned)
}
