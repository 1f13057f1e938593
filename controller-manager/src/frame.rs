//! The one frame that runs every controller: informers feed keys into a work queue, and workers reconcile one key at a time.
//!
//! A controller says which kinds it watches and how a change becomes keys, and gives a reconcile function; spans, retries, waiting for the
//! first lists and stopping are the frame's. A key is reconciled only after all kinds that the controller reads were listed. Periodic work
//! is a key that asks to come again.

use crate::options::Options;
use async_trait::async_trait;
use futures::future::BoxFuture;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::Resource;
use rutter_client::events::Recorder;
use rutter_client::informer::ObjectKey;
use rutter_client::{Change, Informer, Informers, Requeue, Store, WorkQueue, workqueue};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// What a controller is given to live on.
#[derive(Clone)]
pub struct Context {
    /// The controller's upstream name, such as `deployment-controller`.
    pub name: &'static str,
    /// A client under the controller's identity.
    pub client: kube::Client,
    /// The informers that all controllers share.
    pub informers: Informers,
    /// Writes events in the controller's name.
    pub recorder: Recorder,
    /// The flags.
    pub options: Arc<Options>,
    /// Cancelled when the process ends or no longer leads.
    pub stop: CancellationToken,
}

/// A controller's reaction to a key.
#[async_trait]
pub trait Reconcile: Send + Sync + 'static {
    /// What the work queue holds; mostly an [`ObjectKey`].
    type Key: Hash + Eq + Clone + Debug + Send + Sync + 'static;

    /// Brings the world nearer to what the object asks for. An error brings the key back with growing delay.
    async fn reconcile(&self, key: Self::Key) -> anyhow::Result<Requeue>;
}

/// A controller being put together: its queue and the kinds it watches.
pub struct Loop<Key> {
    context: Context,
    queue: WorkQueue<Key>,
    synced: Vec<BoxFuture<'static, ()>>,
}

impl<Key: Hash + Eq + Clone + Debug + Send + Sync + 'static> Loop<Key> {
    /// A loop with an empty queue.
    pub fn new(context: &Context) -> Self {
        Self::named(context, context.name)
    }

    /// A loop whose queue has a name of its own, for controllers with several queues.
    pub fn named(context: &Context, name: &str) -> Self {
        Self {
            context: context.clone(),
            queue: WorkQueue::new(name),
            synced: Vec::new(),
        }
    }

    /// The queue.
    pub fn queue(&self) -> WorkQueue<Key> {
        self.queue.clone()
    }

    /// Reads a kind: reconciling starts only after its first list.
    pub fn read<K>(&mut self) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let informer = self.context.informers.of::<K>();
        let store = informer.store();
        self.synced.push(Box::pin(async move { informer.synced().await }));
        store
    }

    /// Makes reconciling wait for something else, too.
    pub fn wait(&mut self, for_this: impl Future<Output = ()> + Send + 'static) {
        self.synced.push(Box::pin(for_this));
    }

    /// Reads a kind and turns its changes into keys.
    pub fn watch<K>(&mut self, enqueue: impl Fn(&Change<K>, &WorkQueue<Key>) + Send + 'static) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        self.watch_with(self.context.informers.of::<K>(), enqueue)
    }

    /// The same with an informer of the controller's own, for kinds of which it needs a few objects only.
    pub fn watch_with<K>(
        &mut self,
        informer: Informer<K>,
        enqueue: impl Fn(&Change<K>, &WorkQueue<Key>) + Send + 'static,
    ) -> Store<K>
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let store = informer.store();
        let mut changes = informer.subscribe();
        let (queue, stop) = (self.queue.clone(), self.context.stop.clone());
        let first = informer.clone();
        self.synced.push(Box::pin(async move { first.synced().await }));
        tokio::spawn(async move {
            // The watch lives as long as somebody listens to it.
            let _informer = informer;
            loop {
                let change = tokio::select! {
                    () = stop.cancelled() => return,
                    change = changes.recv() => change,
                };
                let Some(change) = change else { return };
                enqueue(&change, &queue);
            }
        });
        store
    }

    /// Waits for the first lists and reconciles until stopped.
    pub async fn run<R: Reconcile<Key = Key>>(self, workers: usize, controller: R) {
        let stop = self.context.stop.clone();
        tokio::select! {
            () = stop.cancelled() => return,
            _ = futures::future::join_all(self.synced) => {}
        }
        tracing::info!(controller = self.context.name, "controller started");
        let controller = Arc::new(controller);
        let name = self.context.name;
        workqueue::run_workers(self.queue, workers, stop, move |key: Key| {
            let controller = controller.clone();
            let span = tracing::info_span!("reconcile", controller = name, ?key);
            async move { settle(controller.reconcile(key).await) }.instrument(span)
        })
        .await;
    }
}

/// A write that lost a race is no failure: the newer object is on its way here, so the key only comes again.
fn settle(result: anyhow::Result<Requeue>) -> anyhow::Result<Requeue> {
    match result {
        Err(error)
            if error
                .chain()
                .any(|e| e.downcast_ref::<kube::Error>().is_some_and(is_conflict)) =>
        {
            tracing::debug!("lost a race with another write: {error:#}");
            Ok(Requeue::Backoff)
        }
        other => other,
    }
}

/// Adds the changed object's own key.
pub fn own_key<K: Resource>(change: &Change<K>, queue: &WorkQueue<ObjectKey>) {
    if let Some(object) = change.object() {
        queue.add(ObjectKey::of(&**object));
    }
}

/// Whether the apiserver refused a write because the object has changed.
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == "Conflict")
}

/// Whether the apiserver says that the object is not there.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether the apiserver says that the object is there already.
pub fn is_already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == "AlreadyExists")
}

/// Whether a creation was refused because the namespace is going away: nothing can be done about it, and nothing has to.
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status)
        if status.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating")))
}

/// The apiserver's message without the client library's decoration, as conditions and events show it.
pub fn message_of(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Takes "not there" as success.
pub fn ignore_not_found<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
