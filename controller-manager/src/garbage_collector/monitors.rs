//! One metadata watch for each resource, started and stopped as discovery finds resources coming and going.

use super::graph::{Graph, Identity, Work};
use crate::common::discovery::{Served, discover};
use crate::frame::Context;
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use parking_lot::Mutex;
use rutter_client::{Reconnect, WorkQueue};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
// Events have no owners and no dependents, and come in masses.
const IGNORED: [&str; 2] = ["events", "events.events.k8s.io"];
// Resources whose objects bring and take other resources.
const DEFINITIONS: [&str; 2] = [
    "customresourcedefinitions.apiextensions.k8s.io",
    "apiservices.apiregistration.k8s.io",
];

struct Monitor {
    served: Served,
    synced: watch::Receiver<bool>,
    task: AbortHandle,
}

/// The running watches.
pub(super) struct Monitors {
    graph: Arc<Mutex<Graph>>,
    queue: WorkQueue<Work>,
    running: Mutex<BTreeMap<String, Monitor>>,
    all: Mutex<BTreeMap<String, Served>>,
    started: watch::Sender<bool>,
    rediscover: Notify,
}

impl Drop for Monitors {
    fn drop(&mut self) {
        for monitor in self.running.lock().values() {
            monitor.task.abort();
        }
    }
}

impl Monitors {
    /// Starts watching what discovery finds, and goes on doing so until stopped.
    pub(super) fn start(context: &Context, graph: Arc<Mutex<Graph>>, queue: WorkQueue<Work>) -> Arc<Self> {
        let monitors = Arc::new(Self {
            graph,
            queue,
            running: Mutex::default(),
            all: Mutex::default(),
            started: watch::Sender::new(false),
            rediscover: Notify::new(),
        });
        let (this, client, stop) = (monitors.clone(), context.client.clone(), context.stop.clone());
        tokio::spawn(async move {
            loop {
                let found = this.follow(&client).await;
                let pause = if found {
                    DISCOVERY_PERIOD
                } else {
                    Duration::from_secs(1)
                };
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                    () = this.rediscover.notified() => {
                        // A definition is served a moment after it was made.
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            for monitor in this.running.lock().values() {
                monitor.task.abort();
            }
        });
        monitors
    }

    /// A served resource by `resource.group`.
    pub(super) fn of(&self, group_resource: &str) -> Option<Served> {
        self.all.lock().get(group_resource).cloned()
    }

    /// A served resource by kind.
    pub(super) fn of_kind(&self, group: &str, kind: &str) -> Option<Served> {
        self.all
            .lock()
            .values()
            .find(|s| s.resource.group == group && s.resource.kind == kind)
            .cloned()
    }

    /// Waits until discovery has succeeded and every resource that it found first was listed.
    pub(super) async fn synced(&self) {
        let _ = self.started.subscribe().wait_for(|started| *started).await;
        let waits: Vec<watch::Receiver<bool>> =
            self.running.lock().values().map(|m| m.synced.clone()).collect();
        for mut wait in waits {
            // A resource that can't be listed (a custom one whose conversion fails, say) must not hold up all the others.
            let _ = tokio::time::timeout(Duration::from_secs(30), wait.wait_for(|synced| *synced)).await;
        }
    }

    async fn follow(self: &Arc<Self>, client: &kube::Client) -> bool {
        let found = match discover(client).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("discovery for the garbage collector failed: {error:#}");
                return false;
            }
        };
        let wanted: BTreeMap<String, Served> = found
            .resources
            .iter()
            .filter(|(name, served)| {
                served.supports(&["delete", "list", "watch"]) && !IGNORED.contains(&name.as_str())
            })
            .map(|(name, served)| (name.clone(), served.clone()))
            .collect();
        *self.all.lock() = found.resources;
        let mut gone = Vec::new();
        {
            let mut running = self.running.lock();
            running.retain(|name, monitor| {
                let group_unknown = found
                    .unknown
                    .iter()
                    .any(|u| u.split('/').next() == Some(monitor.served.resource.group.as_str()));
                let keep = wanted
                    .get(name)
                    .is_some_and(|s| s.resource == monitor.served.resource)
                    || group_unknown;
                if !keep {
                    monitor.task.abort();
                    gone.push(name.clone());
                }
                keep
            });
            for (name, served) in wanted {
                running.entry(name).or_insert_with(|| self.watch(client, served));
            }
        }
        for resource in gone {
            let uids = self.graph.lock().of_resource(&resource);
            for uid in uids {
                let work = self.graph.lock().forget(&uid);
                self.enqueue(work);
            }
        }
        self.started.send_replace(true);
        true
    }

    fn enqueue(&self, work: Vec<Work>) {
        for work in work {
            self.queue.add(work);
        }
    }

    fn watch(self: &Arc<Self>, client: &kube::Client, served: Served) -> Monitor {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client.clone(), &served.resource);
        let (this, resource) = (Arc::downgrade(self), served.clone());
        let (sender, synced) = watch::channel(false);
        let task = tokio::spawn(async move {
            let group_resource: Arc<str> = resource.group_resource().into();
            let kind: Arc<str> = resource.resource.kind.as_str().into();
            let config = watcher::Config::default().any_semantic().page_size(500);
            let mut stream = std::pin::pin!(watcher(api, config).backoff(Reconnect::default()));
            let mut listed: Option<BTreeSet<String>> = None;
            while let Some(event) = stream.next().await {
                let Some(this) = this.upgrade() else { return };
                let observe = |meta: &ObjectMeta| this.observe(&group_resource, &kind, meta);
                match event {
                    Ok(watcher::Event::Init) => listed = Some(BTreeSet::new()),
                    Ok(watcher::Event::InitApply(object)) => {
                        if let (Some(listed), Some(uid)) = (&mut listed, &object.metadata.uid) {
                            listed.insert(uid.clone());
                        }
                        observe(&object.metadata);
                    }
                    Ok(watcher::Event::InitDone) => {
                        this.relisted(&group_resource, listed.take().unwrap_or_default());
                        sender.send_replace(true);
                    }
                    Ok(watcher::Event::Apply(object)) => observe(&object.metadata),
                    Ok(watcher::Event::Delete(object)) => this.deleted(&group_resource, &object.metadata),
                    Err(error) => {
                        tracing::debug!(resource = %group_resource, %error, "a metadata watch failed; trying again")
                    }
                }
            }
        });
        Monitor {
            served,
            synced,
            task: task.abort_handle(),
        }
    }

    fn observe(&self, resource: &Arc<str>, kind: &Arc<str>, meta: &ObjectMeta) {
        let identity = Identity {
            resource: resource.clone(),
            kind: kind.clone(),
            namespace: meta.namespace.as_deref().unwrap_or_default().into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
        };
        let work = self.graph.lock().observe(identity, meta);
        self.enqueue(work);
        if DEFINITIONS.contains(&&**resource) && *self.started.borrow() {
            self.rediscover.notify_one();
        }
    }

    fn deleted(&self, resource: &str, meta: &ObjectMeta) {
        let work = self.graph.lock().forget(meta.uid.as_deref().unwrap_or_default());
        self.enqueue(work);
        if DEFINITIONS.contains(&resource) {
            self.rediscover.notify_one();
        }
    }

    fn relisted(&self, resource: &str, listed: BTreeSet<String>) {
        let known = self.graph.lock().of_resource(resource);
        for uid in known.into_iter().filter(|uid| !listed.contains(&**uid)) {
            let work = self.graph.lock().forget(&uid);
            self.enqueue(work);
        }
    }
}
