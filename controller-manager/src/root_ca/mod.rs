//! The root CA publisher: every namespace has the ConfigMap by which its pods trust the apiserver.

use crate::common::owners::{annotation, name, namespace};
use crate::frame::{Context, Loop, Reconcile, is_already_exists, is_namespace_terminating, is_not_found};
use crate::serviceaccount::is_active;
use anyhow::Context as _;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::watcher;
use rutter_client::informer::Informer;
use rutter_client::{Requeue, Store};

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service \
    IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// Publishes the CA.
pub struct RootCaPublisher {
    client: kube::Client,
    ca: String,
    namespaces: Store<Namespace>,
    // Only the published maps are watched: all ConfigMaps of a cluster would be many.
    maps: Store<ConfigMap>,
}

/// Runs the controller until stopped. Without a CA to publish there is nothing to do.
pub async fn run(context: Context) {
    let Some(path) = context.options.certificates.root_ca_file.clone() else {
        return;
    };
    let ca = match std::fs::read_to_string(&path) {
        Ok(ca) => ca,
        Err(error) => return tracing::error!("--root-ca-file {}: {error}", path.display()),
    };
    let mut frame = Loop::<String>::new(&context);
    let namespaces = frame.watch::<Namespace>(|change, queue| {
        if let Some(space) = &change.new {
            queue.add(name(&space.metadata).to_owned());
        }
    });
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let informer = Informer::start(Api::<ConfigMap>::all(context.informers.client().clone()), config);
    let maps = frame.watch_with(informer, |change, queue| {
        if let Some(map) = change.object() {
            queue.add(namespace(&map.metadata).to_owned());
        }
    });
    frame
        .run(
            1,
            RootCaPublisher {
                client: context.client,
                ca,
                namespaces,
                maps,
            },
        )
        .await;
}

/// The map as it should be when it differs from the one there is.
fn plan(current: Option<&ConfigMap>, ca: &str) -> Option<ConfigMap> {
    let mut map = current.cloned().unwrap_or_default();
    let data = [("ca.crt".to_owned(), ca.to_owned())].into();
    if map.data.as_ref() == Some(&data)
        && annotation(&map.metadata, DESCRIPTION).is_some_and(|d| !d.is_empty())
    {
        return None;
    }
    map.metadata.name = Some(NAME.to_owned());
    map.data = Some(data);
    map.metadata
        .annotations
        .get_or_insert_default()
        .insert(DESCRIPTION.to_owned(), TEXT.to_owned());
    Some(map)
}

#[async_trait]
impl Reconcile for RootCaPublisher {
    type Key = String;

    async fn reconcile(&self, key: String) -> anyhow::Result<Requeue> {
        if !self.namespaces.get("", &key).is_some_and(|n| is_active(&n)) {
            return Ok(Requeue::Done);
        }
        let current = self.maps.get(&key, NAME);
        let Some(map) = plan(current.as_deref(), &self.ca) else {
            return Ok(Requeue::Done);
        };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key);
        let params = PostParams::default();
        let written = match current {
            None => api.create(&params, &map).await,
            Some(_) => api.replace(NAME, &params, &map).await,
        };
        match written {
            Err(error)
                if !is_already_exists(&error)
                    && !is_namespace_terminating(&error)
                    && !is_not_found(&error) =>
            {
                Err(error).context("publishing the root CA")
            }
            _ => Ok(Requeue::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_written_when_missing_or_changed_and_left_alone_otherwise() {
        let made = plan(None, "CA").unwrap();
        assert_eq!(plan(Some(&made), "CA"), None);
        assert!(plan(Some(&made), "another CA").is_some());
        let mut edited = made.clone();
        edited
            .data
            .as_mut()
            .unwrap()
            .insert("x".to_owned(), "y".to_owned());
        assert_eq!(plan(Some(&edited), "CA").unwrap().data, made.data);
    }
}
