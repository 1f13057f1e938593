//! The service account controller: every namespace has the service account `default`.

use crate::common::owners::{name, namespace};
use crate::frame::{Context, Loop, Reconcile, is_already_exists, is_namespace_terminating, is_not_found};
use anyhow::Context as _;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use rutter_client::{Requeue, Store};

const NAME: &str = "default";

/// Makes what is missing.
pub struct ServiceAccountController {
    context: Context,
    namespaces: Store<Namespace>,
    accounts: Store<ServiceAccount>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<String>::new(&context);
    let namespaces = frame.watch::<Namespace>(|change, queue| {
        if let Some(space) = &change.new {
            queue.add(name(&space.metadata).to_owned());
        }
    });
    let accounts = frame.watch::<ServiceAccount>(|change, queue| {
        if let (Some(old), None) = (&change.old, &change.new) {
            queue.add(namespace(&old.metadata).to_owned());
        }
    });
    frame
        .run(
            1,
            ServiceAccountController {
                context,
                namespaces,
                accounts,
            },
        )
        .await;
}

/// Whether a namespace accepts new objects.
pub(crate) fn is_active(space: &Namespace) -> bool {
    let phase = space.status.as_ref().and_then(|s| s.phase.as_deref());
    space.metadata.deletion_timestamp.is_none() && matches!(phase, None | Some("Active" | ""))
}

#[async_trait]
impl Reconcile for ServiceAccountController {
    type Key = String;

    async fn reconcile(&self, key: String) -> anyhow::Result<Requeue> {
        let active = self.namespaces.get("", &key).is_some_and(|n| is_active(&n));
        if !active || self.accounts.get(&key, NAME).is_some() {
            return Ok(Requeue::Done);
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.context.client.clone(), &key);
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(NAME.to_owned());
        match api.create(&PostParams::default(), &account).await {
            Err(error)
                if !is_already_exists(&error)
                    && !is_namespace_terminating(&error)
                    && !is_not_found(&error) =>
            {
                Err(error).context("creating the default service account")
            }
            _ => Ok(Requeue::Done),
        }
    }
}
