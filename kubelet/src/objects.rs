//! ConfigMaps and Secrets that pods of this node use: fetched when first needed, then watched one by one (which is all that a
//! node may do), and dropped when no pod uses them any more.

use crate::pods::{PodExt, Uid};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Resource;
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher;
use parking_lot::Mutex;
use rutter_client::Informer;
use serde::de::DeserializeOwned;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Namespace and name.
type Key = (String, String);

struct Watched<K> {
    informer: Informer<K>,
    users: HashSet<Uid>,
}

/// Objects of one kind that are in use.
struct Cache<K> {
    client: kube::Client,
    watched: Mutex<HashMap<Key, Watched<K>>>,
    changed: mpsc::UnboundedSender<Uid>,
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    async fn get(
        self: &Arc<Self>,
        namespace: &str,
        name: &str,
        user: &Uid,
    ) -> Result<Option<Arc<K>>, kube::Error> {
        let key = (namespace.to_owned(), name.to_owned());
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let known = {
            let mut watched = self.watched.lock();
            match watched.get_mut(&key) {
                Some(entry) => {
                    entry.users.insert(user.clone());
                    entry
                        .informer
                        .is_synced()
                        .then(|| entry.informer.store().get(namespace, name))
                }
                None => {
                    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
                    let informer = Informer::start(api.clone(), config);
                    self.clone().forward(key.clone(), &informer);
                    let users = [user.clone()].into();
                    watched.insert(key, Watched { informer, users });
                    None
                }
            }
        };
        match known {
            Some(Some(object)) => Ok(Some(object)),
            // The watch may lag behind an object that was made a moment ago.
            _ => Ok(api.get_opt(name).await?.map(Arc::new)),
        }
    }

    /// Tells the users of an object whenever it changes.
    fn forward(self: Arc<Self>, key: Key, informer: &Informer<K>) {
        let mut changes = informer.subscribe();
        let weak = Arc::downgrade(&self);
        tokio::spawn(async move {
            let mut first = true;
            while let Some(change) = changes.recv().await {
                // The first one is what the user has just read.
                if std::mem::take(&mut first) && change.old.is_none() {
                    continue;
                }
                let Some(cache) = weak.upgrade() else { return };
                let users: Vec<Uid> = cache
                    .watched
                    .lock()
                    .get(&key)
                    .map(|w| w.users.iter().cloned().collect())
                    .unwrap_or_default();
                for user in users {
                    let _ = cache.changed.send(user);
                }
            }
        });
    }

    fn release(&self, user: &Uid, keep: &BTreeSet<Key>) {
        self.watched.lock().retain(|key, entry| {
            if !keep.contains(key) {
                entry.users.remove(user);
            }
            !entry.users.is_empty()
        });
    }
}

/// ConfigMaps and Secrets in use on this node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Objects {
    config_maps: Arc<Cache<ConfigMap>>,
    secrets: Arc<Cache<Secret>>,
}

impl Objects {
    /// Objects behind a client, and the pods whose objects change, as it happens.
    pub(crate) fn new(client: &kube::Client) -> (Self, mpsc::UnboundedReceiver<Uid>) {
        let (changed, receiver) = mpsc::unbounded_channel();
        let objects = Self {
            config_maps: Arc::new(Cache {
                client: client.clone(),
                watched: Mutex::default(),
                changed: changed.clone(),
            }),
            secrets: Arc::new(Cache {
                client: client.clone(),
                watched: Mutex::default(),
                changed,
            }),
        };
        (objects, receiver)
    }

    /// A ConfigMap for a pod; none when there is none.
    pub(crate) async fn config_map(
        &self,
        pod: &Pod,
        name: &str,
    ) -> Result<Option<Arc<ConfigMap>>, kube::Error> {
        self.config_maps.get(pod.namespace(), name, &pod.uid()).await
    }

    /// A Secret for a pod; none when there is none.
    pub(crate) async fn secret(&self, pod: &Pod, name: &str) -> Result<Option<Arc<Secret>>, kube::Error> {
        self.secrets.get(pod.namespace(), name, &pod.uid()).await
    }

    /// Forgets what a pod used.
    pub(crate) fn release(&self, uid: &Uid) {
        self.config_maps.release(uid, &BTreeSet::new());
        self.secrets.release(uid, &BTreeSet::new());
    }
}

/// Whether an error means that the apiserver answered no, rather than not at all.
pub(crate) fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(answer) => answer.message.clone(),
        other => other.to_string(),
    }
}
