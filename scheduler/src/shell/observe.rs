//! What is watched, and how it reaches the scheduler.
//!
//! Objects become the scheduler's own trimmed forms while they are parsed, so full objects are never kept.

use crate::framework::ClusterEvent;
use crate::model::selector::Selector;
use crate::model::template::OwnerKind;
use crate::model::volume::{Capacity, Claim, Class, CsiDriver, CsiNode, Volume};
use crate::model::{Labels, Node, Pod, Str};
use crate::queue::Millis;
use crate::scheduler::Scheduler;
use crate::snapshot::{Budget, OwnerSelectors};
use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::policy::v1 as policy;
use k8s_openapi::api::storage::v1 as storage;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Resource};
use rutter_client::{Change, Informer};
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

/// A form that the scheduler keeps of an object of the API.
pub trait Kept: Debug + Send + Sync + 'static {
    /// The object.
    type Raw: Resource<DynamicType = ()> + DeserializeOwned;
    /// Trims.
    fn keep(raw: &Self::Raw) -> Self;
    /// Tells the scheduler.
    fn observe(
        scheduler: &mut Scheduler,
        key: &Key,
        old: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        now: Millis,
    );
}

/// Namespace and name of what changed.
#[derive(Clone, Debug)]
pub struct Key {
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: Str,
    /// The name.
    pub name: Str,
}

/// An object as the informers hold it: its identity, and the trimmed form.
#[derive(Debug)]
pub struct Watched<T> {
    meta: ObjectMeta,
    kept: Arc<T>,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self {
            meta: self.meta.clone(),
            kept: self.kept.clone(),
        }
    }
}

impl<'de, T: Kept> Deserialize<'de> for Watched<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut raw = T::Raw::deserialize(deserializer)?;
        let kept = Arc::new(T::keep(&raw));
        let meta = raw.meta_mut();
        Ok(Self {
            meta: ObjectMeta {
                name: meta.name.take(),
                namespace: meta.namespace.take(),
                resource_version: meta.resource_version.take(),
                ..ObjectMeta::default()
            },
            kept,
        })
    }
}

impl<T: Kept> Resource for Watched<T> {
    type DynamicType = ();
    type Scope = <T::Raw as Resource>::Scope;

    fn kind(dt: &()) -> Cow<'_, str> {
        T::Raw::kind(dt)
    }
    fn group(dt: &()) -> Cow<'_, str> {
        T::Raw::group(dt)
    }
    fn version(dt: &()) -> Cow<'_, str> {
        T::Raw::version(dt)
    }
    fn plural(dt: &()) -> Cow<'_, str> {
        T::Raw::plural(dt)
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// A change to tell the scheduler.
pub type Observation = Box<dyn FnOnce(&mut Scheduler, Millis) + Send>;

/// All changes that concern scheduling, as one stream.
pub struct Observer {
    /// The changes.
    pub changes: SelectAll<BoxStream<'static, Observation>>,
    synced: Vec<BoxStream<'static, ()>>,
    // Watches end with their informers.
    informers: Vec<Box<dyn std::any::Any + Send>>,
}

fn observation<T: Kept>(change: Change<Watched<T>>) -> Option<Observation> {
    let meta = &change.object()?.meta;
    let key = Key {
        namespace: Str::new(meta.namespace.as_deref().unwrap_or_default()),
        name: Str::new(meta.name.as_deref().unwrap_or_default()),
    };
    let old = change.old.as_ref().map(|w| w.kept.clone());
    let new = change.new.as_ref().map(|w| w.kept.clone());
    Some(Box::new(move |scheduler, now| {
        T::observe(scheduler, &key, old.as_ref(), new.as_ref(), now);
    }))
}

impl Observer {
    /// Starts all watches.
    pub fn start(client: &kube::Client) -> Self {
        let mut observer = Self {
            changes: SelectAll::new(),
            synced: Vec::new(),
            informers: Vec::new(),
        };
        let all = watcher::Config::default().any_semantic();
        let unfinished = all.clone().fields("status.phase!=Succeeded,status.phase!=Failed");
        // Pods last: what they refer to is known by then as a rule.
        observer.watch::<Namespace>(client, &all);
        observer.watch::<Node>(client, &all);
        observer.watch::<Service>(client, &all);
        observer.watch::<Replication>(client, &all);
        observer.watch::<ReplicaSet>(client, &all);
        observer.watch::<StatefulSet>(client, &all);
        observer.watch::<Budget>(client, &all);
        observer.watch::<Class>(client, &all);
        observer.watch::<Volume>(client, &all);
        observer.watch::<Claim>(client, &all);
        observer.watch::<CsiNode>(client, &all);
        observer.watch::<CsiDriver>(client, &all);
        observer.watch::<Capacity>(client, &all);
        observer.watch::<Attachment>(client, &all);
        observer.watch::<Pod>(client, &unfinished);
        observer
    }

    fn watch<T: Kept>(&mut self, client: &kube::Client, config: &watcher::Config) {
        let api: Api<Watched<T>> = Api::all(client.clone());
        let informer = Informer::start_with(api, config.clone(), |_| {});
        let mut receiver = informer.subscribe();
        let changes = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        self.changes
            .push(changes.filter_map(|c| async { observation(c) }).boxed());
        let waited = informer.clone();
        let synced = futures::stream::once(async move { waited.synced().await });
        self.synced.push(synced.boxed());
        self.informers.push(Box::new(informer));
    }

    /// Waits until everything that there is has been listed. Then all of it is in `changes`.
    pub async fn synced(&mut self) {
        for mut synced in self.synced.drain(..) {
            synced.next().await;
        }
    }
}

impl Kept for Pod {
    type Raw = core::Pod;

    fn keep(raw: &core::Pod) -> Self {
        Self::new(raw)
    }

    fn observe(
        scheduler: &mut Scheduler,
        _: &Key,
        old: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        now: Millis,
    ) {
        if let Some(last) = old.or(new) {
            scheduler.pod_changed(last, new.cloned(), now);
        }
    }
}

impl Kept for Node {
    type Raw = core::Node;

    fn keep(raw: &core::Node) -> Self {
        Self::new(raw)
    }

    fn observe(
        scheduler: &mut Scheduler,
        _: &Key,
        old: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        now: Millis,
    ) {
        scheduler.node_changed(old.cloned(), new.cloned(), now);
    }
}

/// A namespace's labels.
#[derive(Debug)]
struct Namespace(Labels);

impl Kept for Namespace {
    type Raw = core::Namespace;

    fn keep(raw: &core::Namespace) -> Self {
        Self(Labels::new(raw.metadata.labels.as_ref()))
    }

    fn observe(
        scheduler: &mut Scheduler,
        key: &Key,
        _: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        _: Millis,
    ) {
        let labels = new.map(|n| n.0.clone());
        scheduler.snapshot_mut().set_namespace(key.name.clone(), labels);
    }
}

/// A Service's selector.
#[derive(Debug)]
struct Service(Labels);

impl Kept for Service {
    type Raw = core::Service;

    fn keep(raw: &core::Service) -> Self {
        Self(Labels::new(raw.spec.as_ref().and_then(|s| s.selector.as_ref())))
    }

    fn observe(
        scheduler: &mut Scheduler,
        key: &Key,
        _: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        _: Millis,
    ) {
        let selector = new.map(|s| s.0.clone());
        let owners = &mut scheduler.snapshot_mut().owners;
        owners.set_service(key.namespace.clone(), key.name.clone(), selector);
    }
}

macro_rules! controller {
    ($name:ident, $raw:ty, $kind:ident, $selectors:expr) => {
        #[derive(Debug)]
        struct $name(OwnerSelectors);

        impl Kept for $name {
            type Raw = $raw;

            fn keep(raw: &$raw) -> Self {
                let selectors: fn(&$raw) -> OwnerSelectors = $selectors;
                Self(selectors(raw))
            }

            fn observe(
                scheduler: &mut Scheduler,
                key: &Key,
                _: Option<&Arc<Self>>,
                new: Option<&Arc<Self>>,
                _: Millis,
            ) {
                let selectors = new.map(|c| c.0.clone());
                let (namespace, name) = (key.namespace.clone(), key.name.clone());
                let owners = &mut scheduler.snapshot_mut().owners;
                owners.set_controller(OwnerKind::$kind, namespace, name, selectors);
            }
        }
    };
}

controller!(
    Replication,
    core::ReplicationController,
    ReplicationController,
    |raw| { OwnerSelectors::Map(Labels::new(raw.spec.as_ref().and_then(|s| s.selector.as_ref()))) }
);
controller!(ReplicaSet, apps::ReplicaSet, ReplicaSet, |raw| {
    OwnerSelectors::Selector(Selector::new(raw.spec.as_ref().map(|s| &s.selector)))
});
controller!(StatefulSet, apps::StatefulSet, StatefulSet, |raw| {
    OwnerSelectors::Selector(Selector::new(raw.spec.as_ref().map(|s| &s.selector)))
});

impl Kept for Budget {
    type Raw = policy::PodDisruptionBudget;

    fn keep(raw: &policy::PodDisruptionBudget) -> Self {
        let status = raw.status.as_ref();
        let disrupted = status.and_then(|s| s.disrupted_pods.as_ref());
        Self::new(
            raw.metadata.namespace.as_deref().unwrap_or_default(),
            raw.spec.as_ref().and_then(|s| s.selector.as_ref()),
            status.map_or(0, |s| s.disruptions_allowed.unwrap_or(0)),
            disrupted
                .into_iter()
                .flat_map(|d| d.keys())
                .map(Str::from)
                .collect(),
        )
    }

    fn observe(
        scheduler: &mut Scheduler,
        key: &Key,
        _: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        _: Millis,
    ) {
        let key = (key.namespace.clone(), key.name.clone());
        match new {
            Some(budget) => {
                scheduler
                    .snapshot_mut()
                    .budgets
                    .insert(key, budget.as_ref().clone());
            }
            None => {
                scheduler.snapshot_mut().budgets.swap_remove(&key);
            }
        }
    }
}

macro_rules! stored {
    ($name:ident, $raw:ty, $event:ident, $set:expr) => {
        impl Kept for $name {
            type Raw = $raw;

            fn keep(raw: &$raw) -> Self {
                Self::new(raw)
            }

            fn observe(
                scheduler: &mut Scheduler,
                key: &Key,
                old: Option<&Arc<Self>>,
                new: Option<&Arc<Self>>,
                now: Millis,
            ) {
                let set: fn(&mut crate::snapshot::Storage, &Key, Option<$name>) = $set;
                let value = new.map(|v| v.as_ref().clone());
                set(&mut scheduler.snapshot_mut().storage, key, value);
                if let Some(new) = new
                    && old != Some(new)
                {
                    let old = old.map(Arc::as_ref);
                    scheduler.event(&ClusterEvent::$event(old, new), now);
                }
            }
        }
    };
}

stored!(Claim, core::PersistentVolumeClaim, Claim, |s, key, v| {
    s.set_claim((key.namespace.clone(), key.name.clone()), v);
});
stored!(Volume, core::PersistentVolume, Volume, |s, key, v| s
    .set_volume(key.name.clone(), v));
stored!(Class, storage::StorageClass, Class, |s, key, v| s
    .set_class(key.name.clone(), v));
stored!(CsiNode, storage::CSINode, CsiNode, |s, key, v| s
    .set_csi_node(key.name.clone(), v));
stored!(CsiDriver, storage::CSIDriver, CsiDriver, |s, key, v| s
    .set_driver(key.name.clone(), v));
stored!(Capacity, storage::CSIStorageCapacity, Capacity, |s, key, v| {
    s.set_capacity(Str::new(&format!("{}/{}", key.namespace, key.name)), v);
});

/// Which volume is attached to which node.
#[derive(Debug)]
struct Attachment {
    node: Str,
    volume: Option<Str>,
}

impl Kept for Attachment {
    type Raw = storage::VolumeAttachment;

    fn keep(raw: &storage::VolumeAttachment) -> Self {
        Self {
            node: Str::new(&raw.spec.node_name),
            volume: raw.spec.source.persistent_volume_name.as_ref().map(Str::from),
        }
    }

    fn observe(
        scheduler: &mut Scheduler,
        key: &Key,
        old: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        now: Millis,
    ) {
        let attached = new.and_then(|a| Some((a.node.clone(), a.volume.clone()?)));
        let storage = &mut scheduler.snapshot_mut().storage;
        storage.set_attachment(key.name.clone(), attached);
        if let (Some(old), None) = (old, new) {
            scheduler.event(&ClusterEvent::Detached(&old.node), now);
        }
    }
}
