//! Shared informers: one watch for each kind in a process, a store that anybody may read, and a stream of changes for each subscriber.
//!
//! The store is eventually what the apiserver holds. A change is delivered after the store shows it. After a lost watch, the
//! difference to the new list is delivered as changes, so a subscriber that folds changes ends with what the store has. Not promised: every
//! intermediate state of an object.

use crate::reconnect::Reconnect;
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

/// Namespace (empty when cluster-scoped) and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// Makes a key.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }
}

/// `namespace/name`, or the name alone.
impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// One object's change: added (no old), updated (both) or deleted (no new).
#[derive(Debug)]
pub struct Change<K> {
    /// What the store held before.
    pub old: Option<Arc<K>>,
    /// What it holds now.
    pub new: Option<Arc<K>>,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        Self {
            old: self.old.clone(),
            new: self.new.clone(),
        }
    }
}

impl<K> Change<K> {
    /// The newest state there is: the new one, or the last one of a deleted object.
    pub fn object(&self) -> Option<&Arc<K>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

type IndexFn<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

struct Index<K> {
    values: IndexFn<K>,
    entries: HashMap<String, BTreeSet<ObjectKey>>,
}

struct Contents<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    indexes: HashMap<&'static str, Index<K>>,
}

impl<K> Contents<K> {
    fn index(&mut self, key: &ObjectKey, old: Option<&K>, new: Option<&K>) {
        for index in self.indexes.values_mut() {
            for value in old.map(&index.values).unwrap_or_default() {
                if let Some(keys) = index.entries.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        index.entries.remove(&value);
                    }
                }
            }
            for value in new.map(&index.values).unwrap_or_default() {
                index.entries.entry(value).or_default().insert(key.clone());
            }
        }
    }

    fn put(&mut self, key: ObjectKey, object: Option<Arc<K>>) -> Option<Arc<K>> {
        let old = match &object {
            Some(new) => self.objects.insert(key.clone(), new.clone()),
            None => self.objects.remove(&key),
        };
        self.index(&key, old.as_deref(), object.as_deref());
        old
    }
}

/// A readable view of all objects of a kind, kept current by an informer. Cheap to clone.
pub struct Store<K> {
    contents: Arc<RwLock<Contents<K>>>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self {
            contents: self.contents.clone(),
        }
    }
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self {
            contents: Arc::new(RwLock::new(Contents {
                objects: BTreeMap::new(),
                indexes: HashMap::new(),
            })),
        }
    }
}

impl<K> Store<K> {
    /// One object; namespace is empty for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.contents
            .read()
            .objects
            .get(&ObjectKey::new(namespace, name))
            .cloned()
    }

    /// All objects, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.contents.read().objects.values().cloned().collect()
    }

    /// All objects of a namespace, ordered by name.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        let start = ObjectKey::new(namespace, "");
        let contents = self.contents.read();
        contents
            .objects
            .range(start..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// The objects for which the index called `index` gave `value`; nothing when no such index was added.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        let contents = self.contents.read();
        let Some(keys) = contents.indexes.get(index).and_then(|i| i.entries.get(value)) else {
            return Vec::new();
        };
        keys.iter()
            .filter_map(|key| contents.objects.get(key).cloned())
            .collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.contents.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts (or removes) an object, for tests that need a store without a server.
    pub fn put(&self, key: ObjectKey, object: Option<K>) {
        self.contents.write().put(key, object.map(Arc::new));
    }

    fn add_index(&self, name: &'static str, values: IndexFn<K>) {
        let mut contents = self.contents.write();
        if contents.indexes.contains_key(name) {
            return;
        }
        let mut entries: HashMap<String, BTreeSet<ObjectKey>> = HashMap::new();
        for (key, object) in &contents.objects {
            for value in values(object) {
                entries.entry(value).or_default().insert(key.clone());
            }
        }
        contents.indexes.insert(name, Index { values, entries });
    }
}

struct Inner<K> {
    store: Store<K>,
    // Held while a change enters the store and is sent, so that a new subscriber sees each change exactly once.
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Change<K>>>>,
    synced: watch::Sender<bool>,
    task: Mutex<Option<AbortHandle>>,
}

impl<K> Drop for Inner<K> {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

/// A running watch of one kind. Cheap to clone; the watch ends with the last clone.
pub struct Informer<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<K> Informer<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Starts a watch of `api` with the given selectors. Managed fields are dropped on the way in.
    pub fn start(api: Api<K>, config: watcher::Config) -> Self {
        Self::start_with(api, config, |object| object.meta_mut().managed_fields = None)
    }

    /// Starts a watch that changes each object before it enters the store, to keep only what is needed.
    pub fn start_with(
        api: Api<K>,
        config: watcher::Config,
        trim: impl Fn(&mut K) + Send + Sync + 'static,
    ) -> Self {
        let informer = Self::idle();
        // The task must not keep its own informer alive: it holds the parts weakly.
        let weak = Arc::downgrade(&informer.inner);
        let task = tokio::spawn(async move {
            let stream = watcher(api, config).backoff(Reconnect::default());
            let mut stream = std::pin::pin!(stream);
            let mut listed: Option<BTreeSet<ObjectKey>> = None;
            while let Some(event) = stream.next().await {
                let Some(inner) = weak.upgrade() else { return };
                match event {
                    Ok(event) => inner.apply(event, &mut listed, &trim),
                    Err(error) => {
                        tracing::debug!(kind = std::any::type_name::<K>(), %error, "watch failed; trying again");
                    }
                }
            }
        });
        *informer.inner.task.lock() = Some(task.abort_handle());
        informer
    }

    /// An informer without a server, for tests: fill it with [`Informer::inject`].
    pub fn idle() -> Self {
        Self {
            inner: Arc::new(Inner {
                store: Store::default(),
                subscribers: Mutex::new(Vec::new()),
                synced: watch::Sender::new(false),
                task: Mutex::new(None),
            }),
        }
    }

    /// Puts a change in as if the server had sent it, and counts as synced; for tests.
    pub fn inject(&self, key: ObjectKey, object: Option<K>) {
        self.inner.change(key, object.map(Arc::new));
        self.inner.synced.send_replace(true);
    }

    /// The objects.
    pub fn store(&self) -> Store<K> {
        self.inner.store.clone()
    }

    /// Adds an index to the store; adding one of the same name again does nothing.
    pub fn add_index(&self, name: &'static str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        self.inner.store.add_index(name, Box::new(values));
    }

    /// All objects there are, as additions, and then every change. The queue is unbounded: read it promptly, into a work queue.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Change<K>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut subscribers = self.inner.subscribers.lock();
        for object in self.inner.store.list() {
            let _ = sender.send(Change {
                old: None,
                new: Some(object),
            });
        }
        subscribers.push(sender);
        receiver
    }

    /// Waits until the first list is in the store.
    pub async fn synced(&self) {
        let mut synced = self.inner.synced.subscribe();
        // The sender lives in `inner`, which `self` holds.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Whether the first list is in the store.
    pub fn is_synced(&self) -> bool {
        *self.inner.synced.borrow()
    }
}

impl<K> Inner<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    fn apply(
        &self,
        event: watcher::Event<K>,
        listed: &mut Option<BTreeSet<ObjectKey>>,
        trim: &impl Fn(&mut K),
    ) {
        match event {
            watcher::Event::Init => *listed = Some(BTreeSet::new()),
            watcher::Event::InitApply(mut object) => {
                trim(&mut object);
                let key = ObjectKey::of(&object);
                if let Some(listed) = listed {
                    listed.insert(key.clone());
                }
                self.change(key, Some(Arc::new(object)));
            }
            watcher::Event::InitDone => {
                if let Some(listed) = listed.take() {
                    let gone: Vec<ObjectKey> = {
                        let contents = self.store.contents.read();
                        contents
                            .objects
                            .keys()
                            .filter(|key| !listed.contains(key))
                            .cloned()
                            .collect()
                    };
                    for key in gone {
                        self.change(key, None);
                    }
                }
                self.synced.send_replace(true);
            }
            watcher::Event::Apply(mut object) => {
                trim(&mut object);
                self.change(ObjectKey::of(&object), Some(Arc::new(object)));
            }
            watcher::Event::Delete(mut object) => {
                trim(&mut object);
                let key = ObjectKey::of(&object);
                // The last state, which a deletion carries, is worth more than the one before.
                self.store
                    .contents
                    .write()
                    .put(key.clone(), Some(Arc::new(object)));
                self.change(key, None);
            }
        }
    }

    fn change(&self, key: ObjectKey, new: Option<Arc<K>>) {
        let mut subscribers = self.subscribers.lock();
        let old = self.store.contents.write().put(key, new.clone());
        let same = match (&old, &new) {
            (None, None) => true,
            (Some(old), Some(new)) => {
                old.meta().resource_version.is_some()
                    && old.meta().resource_version == new.meta().resource_version
            }
            _ => false,
        };
        if !same {
            subscribers.retain(|s| {
                s.send(Change {
                    old: old.clone(),
                    new: new.clone(),
                })
                .is_ok()
            });
        }
    }
}

/// The shared informers of a process: each kind is watched once, whoever asks for it and however often.
#[derive(Clone)]
pub struct Informers {
    client: kube::Client,
    running: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send>>>>,
}

impl Informers {
    /// Informers over all namespaces, through `client`.
    pub fn new(client: kube::Client) -> Self {
        Self {
            client,
            running: Arc::default(),
        }
    }

    /// The informer of a kind, started on first use.
    pub fn of<K>(&self) -> Informer<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let mut running = self.running.lock();
        if let Some(informer) = running
            .get(&TypeId::of::<K>())
            .and_then(|i| i.downcast_ref::<Informer<K>>())
        {
            return informer.clone();
        }
        let config = watcher::Config::default().any_semantic();
        let informer = Informer::start(Api::<K>::all(self.client.clone()), config);
        running.insert(TypeId::of::<K>(), Box::new(informer.clone()));
        informer
    }

    /// The client behind them.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn map(name: &str, version: &str, label: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        map.metadata.namespace = Some("default".to_owned());
        map.metadata.resource_version = Some(version.to_owned());
        map.metadata.labels = Some([("app".to_owned(), label.to_owned())].into());
        map
    }

    fn labels(map: &ConfigMap) -> Vec<String> {
        map.metadata
            .labels
            .iter()
            .flat_map(|l| l.values().cloned())
            .collect()
    }

    fn names(maps: &[Arc<ConfigMap>]) -> Vec<String> {
        maps.iter().filter_map(|m| m.metadata.name.clone()).collect()
    }

    #[tokio::test]
    async fn a_relist_delivers_the_difference() {
        let informer = Informer::<ConfigMap>::idle();
        let mut listed = None;
        let mut feed = |event| informer.inner.apply(event, &mut listed, &|_: &mut ConfigMap| {});
        use watcher::Event::{Apply, Init, InitApply, InitDone};
        feed(Init);
        feed(InitApply(map("a", "1", "x")));
        feed(InitApply(map("b", "2", "x")));
        feed(InitDone);
        assert!(informer.is_synced());
        let mut changes = informer.subscribe();
        for _ in 0..2 {
            assert!(changes.try_recv().is_ok_and(|c| c.old.is_none()));
        }
        feed(Init);
        feed(InitApply(map("b", "2", "x")));
        feed(InitApply(map("c", "3", "y")));
        feed(InitDone);
        feed(Apply(map("c", "4", "x")));
        let mut seen = Vec::new();
        while let Ok(change) = changes.try_recv() {
            let name = change
                .object()
                .and_then(|o| o.metadata.name.clone())
                .unwrap_or_default();
            seen.push((name, change.old.is_some(), change.new.is_some()));
        }
        let want = [("c", false, true), ("a", true, false), ("c", true, true)];
        assert_eq!(seen, want.map(|(n, o, w)| (n.to_owned(), o, w)));
    }

    #[tokio::test]
    async fn an_index_follows_changes() {
        let informer = Informer::<ConfigMap>::idle();
        informer.inject(ObjectKey::new("default", "a"), Some(map("a", "1", "x")));
        informer.add_index("label", labels);
        informer.inject(ObjectKey::new("default", "b"), Some(map("b", "2", "x")));
        let store = informer.store();
        assert_eq!(names(&store.by_index("label", "x")), ["a", "b"]);
        informer.inject(ObjectKey::new("default", "a"), Some(map("a", "3", "y")));
        informer.inject(ObjectKey::new("default", "b"), None);
        assert!(store.by_index("label", "x").is_empty());
        assert_eq!(names(&store.by_index("label", "y")), ["a"]);
        assert_eq!(names(&store.list_in("default")), ["a"]);
    }
}
