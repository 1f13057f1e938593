//! A watcher: a filter and a position in a shared ring of events.
//!
//! Guarantee: after `from`, every event that touches the scope and passes the filter is delivered once, in revision order, or the
//! subscription ends with an error. The filter runs on the watcher's own task; a slow watcher costs nobody anything and is cut
//! off when the ring has moved past it.

use super::entry::Entry;
use super::event::{Event, EventType};
use super::resource::{Read, Resource, Topic};
use super::watch_cache::CacheError;
use super::{CacheMetrics, feed::Clock};
use crate::Revision;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// How many events are taken from the ring at once.
const TAKE: usize = 128;

/// Whether a watcher wants an object: selectors, on the index.
pub type Filter = Arc<dyn Fn(&Entry) -> bool + Send + Sync>;

/// Which keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that start with this: a resource's prefix, or a namespace's below it (ending in `/`).
    Prefix(String),
    /// This one.
    Key(String),
}

/// From where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// What happens from now on.
    Now,
    /// Everything strictly after this revision: the one a list was exact at.
    After(Revision),
}

/// What the filter is known to demand, so that other events needn't be looked at. Only a hint: the filter must say the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Interest {
    /// Nothing in particular.
    #[default]
    Any,
    /// A field to have this value. Events are routed by it when the resource indexes the field.
    Field {
        /// The field's path.
        name: String,
        /// Its value.
        value: String,
    },
}

/// A request to watch.
#[derive(Clone)]
pub struct Subscribe {
    /// Which keys.
    pub scope: Scope,
    /// From where.
    pub from: From,
    /// What narrows the filter.
    pub interest: Interest,
    /// Which objects; all when none.
    pub filter: Option<Filter>,
}

/// An event as one watcher sees it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What happened, from this watcher's point of view.
    pub kind: EventType,
    /// The shared event.
    pub event: Arc<Event>,
}

impl Delivery {
    /// The object to send: for `Deleted` the last state with the change's resource version in it.
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        self.event.entry(self.kind)
    }

    /// The revision of the change.
    pub fn revision(&self) -> Revision {
        self.event.revision
    }
}

/// A running watch. Dropping it ends it.
pub struct Subscription {
    resource: Arc<Resource>,
    topic: Topic,
    scope: Scope,
    filter: Option<Filter>,
    position: u64,
    wake: watch::Receiver<()>,
    clock: Clock,
    taken: VecDeque<Arc<Event>>,
    progress: Revision,
    metrics: CacheMetrics,
}

impl Subscription {
    pub(crate) fn open(
        resource: Arc<Resource>,
        request: Subscribe,
        clock: Clock,
        metrics: CacheMetrics,
    ) -> Result<Self, CacheError> {
        let Subscribe {
            scope,
            from,
            interest,
            filter,
        } = request;
        let now = clock.now();
        let after = match from {
            From::Now => None,
            From::After(revision) => Some(revision),
        };
        let mut state = resource.state.write();
        if !state.served {
            return Err(CacheError::NotServed(resource.prefix.to_string()));
        }
        let topic = match (&scope, interest) {
            (Scope::Key(key), _) => Topic::Key(key.as_str().into()),
            (_, Interest::Field { name, value }) if state.is_indexed(&name) => {
                Topic::Field(name.as_str().into(), value.into())
            }
            (Scope::Prefix(prefix), _) if prefix.len() > resource.prefix.len() && prefix.ends_with('/') => {
                Topic::Folder(prefix.as_str().into())
            }
            _ => Topic::All,
        };
        let (position, wake) = state.join(&topic, after).map_err(|oldest| CacheError::Expired {
            asked: after.unwrap_or_default(),
            oldest,
        })?;
        let progress = after.unwrap_or_else(|| state.revision(now));
        drop(state);
        metrics.subscribed(&resource.group, &resource.name);
        Ok(Self {
            resource,
            topic,
            scope,
            filter,
            position,
            wake,
            clock,
            taken: VecDeque::new(),
            progress,
            metrics,
        })
    }

    /// The next event. Safe to cancel: nothing is lost. After an error the subscription is over.
    pub async fn next(&mut self) -> Result<Delivery, CacheError> {
        loop {
            if let Some(delivery) = self.try_next()? {
                return Ok(delivery);
            }
            if self.wake.changed().await.is_err() {
                return Err(CacheError::NotServed(self.resource.prefix.to_string()));
            }
        }
    }

    /// The next event if there is one now.
    pub fn try_next(&mut self) -> Result<Option<Delivery>, CacheError> {
        loop {
            while let Some(event) = self.taken.pop_front() {
                if let Some(kind) = event.seen_by(|entry| self.wants(entry)) {
                    return Ok(Some(Delivery { kind, event }));
                }
            }
            self.wake.borrow_and_update();
            let read = self.resource.state.read().read(&self.topic, self.position, TAKE);
            match read {
                Read::Events(events) => {
                    self.position += events.len() as u64;
                    self.taken = events.into();
                }
                Read::Drained => return Ok(None),
                Read::Overrun => {
                    self.metrics.cut_off(&self.resource.group, &self.resource.name);
                    return Err(CacheError::TooSlow);
                }
                Read::Closed => return Err(CacheError::NotServed(self.resource.prefix.to_string())),
            }
        }
    }

    /// A revision this watcher has seen everything up to: for bookmarks. Never goes back. It stands while events wait to be taken.
    pub fn progress(&mut self) -> Revision {
        let now = self.clock.now();
        if self.taken.is_empty()
            && matches!(
                self.resource.state.read().read(&self.topic, self.position, 1),
                Read::Drained
            )
        {
            self.progress = self.progress.max(now);
        }
        self.progress
    }

    fn wants(&self, entry: &Entry) -> bool {
        let inside = match &self.scope {
            Scope::Prefix(prefix) => entry.key.starts_with(prefix.as_str()),
            Scope::Key(key) => *entry.key == **key,
        };
        inside && self.filter.as_ref().is_none_or(|filter| filter(entry))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.resource.state.write().leave(&self.topic);
        self.metrics
            .unsubscribed(&self.resource.group, &self.resource.name);
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("scope", &self.scope)
            .field("position", &self.position)
            .finish()
    }
}
