//! WATCH: events from the cache, each encoded once for all who watch in the same format.

use super::list::Selection;
use super::{Call, cache_error};
use crate::answer::{self, Answer};
use crate::cache::parse;
use crate::corridor::Passage;
use crate::request::params::ListOptions;
use crate::request::{Format, Shape};
use crate::streaming::BoxError;
use crate::streaming::websocket::Socket;
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use rutter_api::object::ObjectExt;
use rutter_api::{StatusError, Value, codec, table};
use rutter_storage::Revision;
use rutter_storage::cache::{
    CacheError, Delivery, Entry, EventType, Filter, From, Interest, Scope, Snapshot, Subscribe, Subscription,
};
use serde_json::json;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

/// How often a watcher that wants bookmarks gets one.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// A watch in progress: a small state machine that gives one frame after the other.
struct Watcher {
    call: Arc<Call>,
    /// What is still to be sent of the initial state.
    initial: std::vec::IntoIter<Arc<Entry>>,
    /// The bookmark that ends the initial state.
    initial_end: Option<Revision>,
    subscription: Option<Subscription>,
    error: Option<StatusError>,
    bookmarks: Option<Interval>,
    /// What can be selected only after conversion.
    late: Option<Arc<Selection>>,
    /// Its seats, until the initial state is sent, and its place among the watchers.
    passage: Passage,
    /// The end that was asked for. Like the next one it is registered once, not for each event.
    deadline: Pin<Box<Sleep>>,
    /// The server's end.
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whether the columns of a table were sent.
    columns_sent: bool,
    over: bool,
    /// Whether large frames go out whole, too.
    whole: bool,
    /// What is left of a large frame that goes out in pieces.
    rest: VecDeque<Bytes>,
}

/// An object at least so large is sent as it lies in the cache, and not copied into a frame.
const WHOLE: usize = 16 * 1024;

impl Call {
    /// WATCH
    pub async fn watch(self: Arc<Self>) -> Answer {
        let frames = self.clone().frames().await?;
        let mut response = Response::new(answer::stream(frames));
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static(self.accept.format.stream_media_type()),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        Ok(response)
    }

    /// WATCH over a WebSocket: a message per event.
    pub async fn watch_messages(self: Arc<Self>, socket: Socket) -> Answer {
        let format = self.accept.format;
        let frames = self.events(true).await?;
        socket.send(
            frames
                .filter_map(move |frame| std::future::ready(frame.ok().map(|frame| message(format, frame)))),
        )
    }

    /// The frames of a watch.
    pub async fn frames(
        self: Arc<Self>,
    ) -> Result<impl futures::Stream<Item = Result<Bytes, BoxError>> + Send + 'static, StatusError> {
        self.events(false).await
    }

    /// The frames of a watch; each the whole of an event when `whole`, and perhaps a piece of one otherwise.
    async fn events(
        self: Arc<Self>,
        whole: bool,
    ) -> Result<impl futures::Stream<Item = Result<Bytes, BoxError>> + Send + 'static, StatusError> {
        let options = ListOptions::read(&self.query, true)?;
        let mut watcher = self.watcher(&options).await?;
        watcher.whole = whole;
        Ok(futures::stream::unfold(watcher, |mut watcher| async {
            // What turned out not to be selected has no frame.
            let mut frame = watcher.next().await?;
            while frame.is_empty() {
                frame = watcher.next().await?;
            }
            Some((Ok(frame), watcher))
        })
        .fuse())
    }

    async fn watcher(self: Arc<Self>, options: &ListOptions) -> Result<Watcher, StatusError> {
        let selection = Arc::new(self.selection(options)?);
        let (folder, range) = (self.folder()?, self.range()?);
        let version = options.revision()?;
        let initial_events = options
            .initial_events
            .unwrap_or(matches!(version, None | Some(0)));
        let seconds = options
            .timeout_seconds
            .filter(|seconds| *seconds > 0)
            .unwrap_or_else(|| {
                let least = self.server.bounds.watch.as_secs().max(1);
                least + rand::random_range(0..least)
            });
        let mut bookmarks = None;
        if options.bookmarks {
            let mut interval = tokio::time::interval_at(Instant::now() + BOOKMARKS, BOOKMARKS);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            bookmarks = Some(interval);
        }
        let mut watcher = Watcher {
            call: self.clone(),
            initial: Vec::new().into_iter(),
            initial_end: None,
            subscription: None,
            error: None,
            bookmarks,
            late: self.selects_late(&selection).then(|| selection.clone()),
            passage: std::mem::take(&mut *self.passage.lock()),
            deadline: Box::pin(tokio::time::sleep(Duration::from_secs(seconds))),
            stopping: Box::pin(parting(self.server.health.stopping(), self.server.bounds.parting)),
            columns_sent: false,
            over: false,
            whole: false,
            rest: VecDeque::new(),
        };
        let started = self
            .start(&folder, &range, version, initial_events, &selection)
            .await;
        match started {
            Ok((snapshot, subscription)) => {
                if let Some(snapshot) = snapshot {
                    let wanted = snapshot
                        .range_with(&range, None, selection.signature())
                        .filter(|entry| self.wants(&selection, entry));
                    watcher.initial = wanted.cloned().collect::<Vec<_>>().into_iter();
                    let ends = options.initial_events == Some(true) && options.bookmarks;
                    watcher.initial_end = ends.then(|| snapshot.revision());
                }
                watcher.subscription = Some(subscription);
            }
            Err(error @ (CacheError::Expired { .. } | CacheError::TooSlow)) => {
                watcher.error = Some(cache_error(&error));
            }
            Err(error) => return Err(cache_error(&error)),
        }
        Ok(watcher)
    }

    /// The initial state, where it is wanted, and the subscription that goes on from it.
    async fn start(
        self: &Arc<Self>,
        folder: &str,
        range: &str,
        version: Option<u64>,
        initial_events: bool,
        selection: &Arc<Selection>,
    ) -> Result<(Option<Snapshot>, Subscription), CacheError> {
        let cache = &self.server.cache;
        match version {
            None => drop(cache.consistent().await?),
            Some(0) => {}
            Some(at) => drop(cache.wait_for(Revision(at)).await?),
        }
        let snapshot = if initial_events {
            Some(self.current(folder, selection)?)
        } else {
            None
        };
        let from = match (&snapshot, version) {
            (Some(snapshot), _) => From::After(snapshot.revision()),
            (None, None | Some(0)) => From::Now,
            (None, Some(at)) => From::After(Revision(at)),
        };
        let filter: Option<Filter> = if selection.is_everything() {
            None
        } else {
            let (call, selection) = (self.clone(), selection.clone());
            Some(Arc::new(move |entry: &Entry| call.wants(&selection, entry)))
        };
        let single = selection
            .fields
            .exact("metadata.name")
            .filter(|_| !self.resource.namespaced || !self.info.namespace.is_empty());
        let scope = match single {
            Some(name) => Scope::Key(format!("{range}{name}")),
            None => Scope::Prefix(range.to_owned()),
        };
        let indexed = selection
            .indexed()
            .filter(|_| self.resource.strategy.served_is_stored());
        let interest = indexed.map_or(Interest::Any, |(name, value)| Interest::Field {
            name: name.to_owned(),
            value: value.to_owned(),
        });
        let subscription = cache.subscribe(Subscribe {
            scope,
            from,
            interest,
            filter,
        })?;
        Ok((snapshot, subscription))
    }
}

/// Waits until the server stops, and then for some part of a time, which is another one for each who waits.
async fn parting(stopping: CancellationToken, over: Duration) {
    stopping.cancelled().await;
    tokio::time::sleep(over.mul_f64(rand::random())).await;
}

impl Watcher {
    /// The next frame, or piece of one; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.rest.pop_front() {
            return Some(piece);
        }
        if self.over {
            return None;
        }
        if let Some(entry) = self.initial.next() {
            return Some(self.seen_frame(EventType::Added, &entry).await);
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(self.bookmark(revision, true));
        }
        // What others wait for is free from now on.
        self.passage.seat = None;
        let Some(subscription) = &mut self.subscription else {
            self.over = true;
            return self.error.take().map(|error| self.failure(&error));
        };
        let woken = tokio::select! {
            biased;
            () = &mut self.deadline => Woken::End,
            () = &mut self.stopping => Woken::End,
            event = subscription.next() => Woken::Event(event),
            () = tick(&mut self.bookmarks) => Woken::Bookmark(subscription.progress()),
        };
        match woken {
            Woken::Event(Ok(delivery)) => Some(self.frame(&delivery).await),
            Woken::Event(Err(error)) => {
                self.over = true;
                Some(self.failure(&cache_error(&error)))
            }
            Woken::Bookmark(revision) => Some(self.bookmark(revision, false)),
            Woken::End => {
                self.over = true;
                let revision = self.subscription.as_mut().map(Subscription::progress)?;
                self.bookmarks.is_some().then(|| self.bookmark(revision, false))
            }
        }
    }

    /// An event's frame: shared where it looks the same to everybody.
    async fn frame(&mut self, delivery: &Delivery) -> Bytes {
        let Some(entry) = delivery.entry().cloned() else {
            return Bytes::new();
        };
        if self.call.served.converted(&self.call.resource).is_some() && !self.call.is_verbatim() {
            return match self.late.clone() {
                None => self.seen_frame(delivery.kind, &entry).await,
                Some(selection) => self.late_frame(&selection, delivery).await,
            };
        }
        let slot = match (self.call.accept.shape, self.call.accept.format) {
            (Shape::Object, Format::Json) if self.call.is_verbatim() && entry.size() < WHOLE => 0,
            (Shape::Object, Format::Protobuf) if self.call.resource.strategy.served_is_stored() => 3,
            _ => return self.encode(delivery.kind, &entry),
        };
        let slot = slot
            + match delivery.kind {
                EventType::Added => 0,
                EventType::Modified => 1,
                EventType::Deleted => 2,
            };
        delivery.event.frame(slot, || self.encode(delivery.kind, &entry))
    }

    /// The frame of an object that a webhook may have to convert first; empty when it turns out not to be selected.
    async fn seen_frame(&mut self, kind: EventType, entry: &Entry) -> Bytes {
        if self.call.is_verbatim() || self.call.served.converted(&self.call.resource).is_none() {
            return self.encode(kind, entry);
        }
        let object = match self.call.to_served(&entry.bytes()).await {
            Ok(object) => object,
            Err(error) => {
                self.over = true;
                return self.failure(&error);
            }
        };
        if self
            .late
            .as_ref()
            .is_some_and(|selection| !self.call.selects(selection, &object))
        {
            return Bytes::new();
        }
        self.object_frame(kind_name(kind), &object)
    }

    /// The frame of an event whose object is selected after conversion, before the change and after it.
    async fn late_frame(&mut self, selection: &Selection, delivery: &Delivery) -> Bytes {
        let event = &delivery.event;
        let states = [
            event
                .previous
                .is_some()
                .then(|| event.entry(EventType::Deleted))
                .flatten(),
            event.current.as_ref(),
        ];
        let present = states.iter().flatten().map(|entry| entry.bytes());
        let mut objects = match self.call.all_to_served(present).await {
            Ok(objects) => objects.into_iter(),
            Err(error) => {
                self.over = true;
                return self.failure(&error);
            }
        };
        let [before, now] = states.map(|entry| {
            let object = entry.and_then(|_| objects.next());
            let labels = entry.is_some_and(|entry| self.call.wants(selection, entry));
            object.filter(|object| labels && self.call.selects(selection, object))
        });
        let (kind, object) = match (before, now) {
            (None, None) => return Bytes::new(),
            (None, Some(now)) => (EventType::Added, now),
            (Some(_), Some(now)) => (EventType::Modified, now),
            (Some(before), None) => (EventType::Deleted, before),
        };
        self.object_frame(kind_name(kind), &object)
    }

    fn encode(&mut self, kind: EventType, entry: &Entry) -> Bytes {
        let name = kind_name(kind);
        if self.call.is_verbatim() {
            if entry.size() < WHOLE || self.whole {
                return json_frame(name, &entry.bytes());
            }
            self.rest.extend([entry.bytes(), Bytes::from_static(JSON_END)]);
            return format!("{{\"type\":\"{name}\",\"object\":").into();
        }
        match parse(&entry.bytes()) {
            Ok(object) => {
                let object = self.call.served_form(object);
                self.object_frame(name, &object)
            }
            Err(error) => self.failure(&error),
        }
    }

    fn object_frame(&mut self, name: &str, object: &Value) -> Bytes {
        let call = &self.call;
        let (shown, type_name) = match call.accept.shape {
            Shape::Object => (object.clone(), &*call.resource.schema),
            Shape::Partial => (table::partial_metadata(object), super::PARTIAL_TYPE),
            Shape::Table => {
                let headers = !std::mem::replace(&mut self.columns_sent, true);
                (call.table([object], None, headers), super::TABLE_TYPE)
            }
        };
        self.value_frame(name, &shown, type_name)
    }

    fn value_frame(&self, name: &str, value: &Value, type_name: &str) -> Bytes {
        match self.call.accept.format {
            Format::Protobuf => {
                let kind = answer::kind_of(value);
                codec::protobuf::watch_frame(self.call.types(), name, &kind, type_name, value).into()
            }
            Format::Json => json_frame(name, &codec::json::to_vec(value)),
            Format::Yaml => {
                let text = serde_yaml_ng::to_string(&json!({"type": name, "object": value}));
                format!("---\n{}", text.unwrap_or_default()).into()
            }
        }
    }

    fn bookmark(&mut self, revision: Revision, initial_end: bool) -> Bytes {
        let mut object = json!({
            "kind": &*self.call.resource.kind,
            "apiVersion": self.call.resource.group_version.to_string(),
            "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null},
        });
        if initial_end {
            object.set(
                "metadata.annotations",
                json!({"k8s.io/initial-events-end": "true"}),
            );
        }
        self.object_frame("BOOKMARK", &object)
    }

    fn failure(&self, error: &StatusError) -> Bytes {
        self.value_frame("ERROR", &error.to_value(), answer::STATUS_TYPE)
    }
}

/// A frame as a message: text where the format is text.
fn message(format: Format, frame: Bytes) -> Message {
    match format {
        // A message has its length by itself.
        Format::Protobuf => Message::Binary(frame.slice(frame.len().min(4)..)),
        Format::Json | Format::Yaml => match Utf8Bytes::try_from(frame) {
            Ok(text) => Message::Text(text),
            Err(error) => {
                tracing::error!(%error, "an event is no text");
                Message::text("")
            }
        },
    }
}

fn kind_name(kind: EventType) -> &'static str {
    match kind {
        EventType::Added => "ADDED",
        EventType::Modified => "MODIFIED",
        EventType::Deleted => "DELETED",
    }
}

enum Woken {
    Event(Result<Delivery, CacheError>),
    Bookmark(Revision),
    End,
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

const JSON_END: &[u8] = b"}\n";

fn json_frame(name: &str, object: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(object.len() + name.len() + 24);
    for part in [
        b"{\"type\":\"".as_slice(),
        name.as_bytes(),
        b"\",\"object\":",
        object,
        JSON_END,
    ] {
        frame.extend_from_slice(part);
    }
    frame.into()
}
