//! Events: what a component tells people about an object, with repeats counted, look-alikes combined and floods dropped, as
//! client-go's recorder does.
//!
//! Recording never waits and never fails the caller: what can't be written is logged and dropped.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use std::collections::{HashMap, HashSet};
use tokio::sync::mpsc;

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// All is as it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// About what.
    pub regarding: ObjectReference,
    /// Normal or Warning.
    pub kind: EventType,
    /// Machine-readable, CamelCase.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// Tells people about objects. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Note>,
}

impl Recorder {
    /// Starts a recorder for a component, on a host where that matters (the kubelet's).
    pub fn new(client: kube::Client, component: &str, host: Option<&str>) -> Self {
        let (sender, receiver) = mpsc::channel(1000);
        let source = EventSource {
            component: Some(component.to_owned()),
            host: host.map(str::to_owned),
        };
        tokio::spawn(run(client, source, receiver));
        Self { sender }
    }

    /// A recorder whose notes come out of the receiver, for tests.
    pub fn to_channel() -> (Self, mpsc::Receiver<Note>) {
        let (sender, receiver) = mpsc::channel(1000);
        (Self { sender }, receiver)
    }

    /// Tells about an object of a built-in kind.
    pub fn event<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.about(reference(object), kind, reason, message);
    }

    /// Tells about whatever the reference names.
    pub fn about(
        &self,
        regarding: ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let note = Note {
            regarding,
            kind,
            reason: reason.to_owned(),
            message: message.into(),
        };
        if self.sender.try_send(note).is_err() {
            tracing::debug!(reason, "too many events are waiting; one was dropped");
        }
    }
}

/// The reference to an object that an event carries.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// What to write for a note.
#[derive(Debug, PartialEq)]
enum Write {
    Create {
        message: String,
    },
    Count {
        name: String,
        count: i32,
        message: String,
    },
    Nothing,
}

const SIMILAR_MAX: usize = 10;
const SIMILAR_WINDOW: SignedDuration = SignedDuration::from_secs(600);
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;
const REMEMBERED: usize = 4096;

type Identity = (
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

fn identity(note: &Note) -> Identity {
    let r = &note.regarding;
    (
        r.kind.clone(),
        r.namespace.clone(),
        r.name.clone(),
        r.uid.clone(),
        r.field_path.clone(),
    )
}

/// What was written: about what, type, reason and message.
type Written = (Identity, EventType, String, String);
/// What counts as similar: about what, type and reason.
type Similar = (Identity, EventType, String);

#[derive(Default)]
struct Correlator {
    written: HashMap<Written, (String, i32, Timestamp)>,
    similar: HashMap<Similar, (HashSet<String>, Timestamp)>,
    budget: HashMap<Identity, (f64, Timestamp)>,
}

impl Correlator {
    fn decide(&mut self, note: &Note, now: Timestamp) -> Write {
        self.trim(now);
        let about = identity(note);
        let (tokens, since) = self.budget.entry(about.clone()).or_insert((BURST, now));
        *tokens = (*tokens + now.duration_since(*since).as_secs_f64() * REFILL_PER_SECOND).min(BURST);
        *since = now;
        if *tokens < 1.0 {
            return Write::Nothing;
        }
        *tokens -= 1.0;

        let (messages, seen) = self
            .similar
            .entry((about.clone(), note.kind, note.reason.clone()))
            .or_insert_with(|| (HashSet::new(), now));
        if now.duration_since(*seen) > SIMILAR_WINDOW {
            messages.clear();
        }
        *seen = now;
        messages.insert(note.message.clone());
        let combined = messages.len() >= SIMILAR_MAX;
        let (key_message, message) = if combined {
            (
                String::new(),
                format!("(combined from similar events): {}", note.message),
            )
        } else {
            (note.message.clone(), note.message.clone())
        };
        match self
            .written
            .get_mut(&(about, note.kind, note.reason.clone(), key_message))
        {
            Some((name, count, last)) => {
                *count += 1;
                *last = now;
                Write::Count {
                    name: name.clone(),
                    count: *count,
                    message,
                }
            }
            None => Write::Create { message },
        }
    }

    fn remember(&mut self, note: &Note, message: &str, name: String, now: Timestamp) {
        let key_message = if message == note.message {
            note.message.clone()
        } else {
            String::new()
        };
        self.written.insert(
            (identity(note), note.kind, note.reason.clone(), key_message),
            (name, 1, now),
        );
    }

    fn forget(&mut self, note: &Note, message: &str) {
        let key_message = if message == note.message {
            note.message.clone()
        } else {
            String::new()
        };
        self.written
            .remove(&(identity(note), note.kind, note.reason.clone(), key_message));
    }

    fn trim(&mut self, now: Timestamp) {
        if self.written.len().max(self.similar.len()).max(self.budget.len()) <= REMEMBERED {
            return;
        }
        let old = |at: Timestamp| now.duration_since(at) > SIMILAR_WINDOW;
        self.written.retain(|_, (_, _, at)| !old(*at));
        self.similar.retain(|_, (_, at)| !old(*at));
        self.budget.retain(|_, (_, at)| !old(*at));
        if self.written.len().max(self.similar.len()).max(self.budget.len()) > 2 * REMEMBERED {
            *self = Self::default();
        }
    }
}

async fn run(client: kube::Client, source: EventSource, mut notes: mpsc::Receiver<Note>) {
    let mut correlator = Correlator::default();
    while let Some(note) = notes.recv().await {
        let now = Timestamp::now();
        let namespace = note
            .regarding
            .namespace
            .clone()
            .unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let mut decision = correlator.decide(&note, now);
        if let Write::Count { name, count, message } = &decision {
            let patch = serde_json::json!({"count": count, "message": message, "lastTimestamp": Time(now)});
            match api
                .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await
            {
                Ok(_) => continue,
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    let message = message.clone();
                    correlator.forget(&note, &message);
                    decision = Write::Create { message };
                }
                Err(error) => {
                    tracing::debug!(reason = note.reason, %error, "an event could not be counted");
                    continue;
                }
            }
        }
        if let Write::Create { message } = decision {
            let event = event(&note, &source, &namespace, &message, now);
            let name = event.metadata.name.clone().unwrap_or_default();
            match api.create(&PostParams::default(), &event).await {
                Ok(_) => correlator.remember(&note, &message, name, now),
                Err(error) => tracing::debug!(reason = note.reason, %error, "an event could not be written"),
            }
        }
    }
}

fn event(note: &Note, source: &EventSource, namespace: &str, message: &str, now: Timestamp) -> Event {
    let about = note.regarding.name.as_deref().unwrap_or_default();
    let mut event = Event {
        involved_object: note.regarding.clone(),
        reason: Some(note.reason.clone()),
        message: Some(message.to_owned()),
        source: Some(source.clone()),
        type_: Some(note.kind.as_str().to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        reporting_component: source.component.clone(),
        reporting_instance: source.host.clone(),
        ..Event::default()
    };
    event.metadata.namespace = Some(namespace.to_owned());
    event.metadata.name = Some(format!("{about}.{:x}", now.as_nanosecond()));
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(reason: &str, message: &str) -> Note {
        let regarding = ObjectReference {
            name: Some("web".to_owned()),
            ..ObjectReference::default()
        };
        Note {
            regarding,
            kind: EventType::Normal,
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_repeat_is_counted() {
        let (mut correlator, now) = (Correlator::default(), Timestamp::UNIX_EPOCH);
        let first = note("Pulled", "pulled it");
        assert_eq!(
            correlator.decide(&first, now),
            Write::Create {
                message: "pulled it".to_owned()
            }
        );
        correlator.remember(&first, "pulled it", "web.1".to_owned(), now);
        let want = Write::Count {
            name: "web.1".to_owned(),
            count: 2,
            message: "pulled it".to_owned(),
        };
        assert_eq!(correlator.decide(&first, now), want);
    }

    #[test]
    fn many_look_alikes_are_combined() {
        let (mut correlator, now) = (Correlator::default(), Timestamp::UNIX_EPOCH);
        let mut last = Write::Nothing;
        for i in 0..SIMILAR_MAX {
            last = correlator.decide(&note("BackOff", &format!("try {i}")), now);
        }
        assert_eq!(
            last,
            Write::Create {
                message: "(combined from similar events): try 9".to_owned()
            }
        );
    }

    #[test]
    fn a_flood_about_one_object_is_dropped_and_the_budget_refills() {
        let (mut correlator, mut now) = (Correlator::default(), Timestamp::UNIX_EPOCH);
        let writes = (0..30)
            .filter(|_| correlator.decide(&note("X", "y"), now) != Write::Nothing)
            .count();
        assert_eq!(writes, 25);
        now += SignedDuration::from_secs(301);
        assert_ne!(correlator.decide(&note("X", "y"), now), Write::Nothing);
    }
}
