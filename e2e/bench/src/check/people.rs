//! Who takes part in an epoch: writers with keys of their own, watchers that resume as informers do, and a lister.

use super::history::{Event, Facts, Key, Kind, Listing, Op, State, Watched, Write};
use crate::access::Access;
use crate::objects::NAMESPACE;
use crate::wire::{Call, Dialer, Wire, read};
use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Keys of one writer.
const KEYS: u32 = 12;
/// How long who lost the server tries to find it again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long watches may take to catch up at the end.
const CATCH_UP: Duration = Duration::from_secs(15);

/// A server to be checked, with its namespace.
pub(super) struct Stage {
    dialer: Arc<Dialer>,
}

/// Those who take part in one epoch.
pub(super) struct Cast {
    writers: JoinSet<Vec<Write>>,
    watchers: JoinSet<anyhow::Result<Seen>>,
    lister: JoinSet<Vec<Listing>>,
    base: Listing,
    stop_writing: watch::Sender<bool>,
    /// Where watches may stop.
    last: watch::Sender<Option<u64>>,
}

/// The watches that one watcher had, each with the list that it began with after a 410.
type Seen = Vec<(Watched, Option<Listing>)>;

/// A revision that was heard of lately, for those who begin at a random one.
type Heard = Arc<Mutex<Vec<u64>>>;

impl Stage {
    pub(super) async fn open(access: &Access) -> anyhow::Result<Self> {
        let dialer = Arc::new(Dialer::new(access)?);
        let wire = dialer.dial().await?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        let made = call(Method::POST, "/api/v1/namespaces", Some(namespace));
        let (status, _) = wire.fetch(&made).await?;
        anyhow::ensure!(matches!(status, 201 | 409), "no namespace: status {status}");
        Ok(Self { dialer })
    }

    /// A consistent list.
    pub(super) async fn settled(&self) -> anyhow::Result<Listing> {
        let wire = self.dialer.dial().await?;
        list(&wire, "").await?.context("the list was refused")
    }

    /// Begins an epoch.
    pub(super) fn begin(&self, base: &Listing, writers: usize, watchers: usize, random: &mut StdRng) -> Cast {
        let heard: Heard = Arc::new(Mutex::new(vec![base.revision]));
        let (stop_writing, stopped) = watch::channel(false);
        let (last, until) = watch::channel(None);
        let mut cast = Cast {
            writers: JoinSet::new(),
            watchers: JoinSet::new(),
            lister: JoinSet::new(),
            base: base.clone(),
            stop_writing,
            last,
        };
        for writer in 0..writers as u32 {
            let keys = writer * KEYS..(writer + 1) * KEYS;
            let known = keys
                .clone()
                .map(|key| (key, base.items.get(&key).map(|(_, number)| *number)));
            let writer = Writer {
                dialer: self.dialer.clone(),
                heard: heard.clone(),
                random: StdRng::seed_from_u64(random.random()),
                // Numbers go on rising over epochs.
                next: base.revision * 1000,
                there: known.collect(),
                writes: Vec::new(),
            };
            cast.writers.spawn(writer.run(stopped.clone()));
        }
        for _ in 0..watchers {
            let (dialer, heard, until) = (self.dialer.clone(), heard.clone(), until.clone());
            let random = StdRng::seed_from_u64(random.random());
            cast.watchers.spawn(watcher(dialer, heard, random, until));
        }
        let (dialer, random) = (self.dialer.clone(), StdRng::seed_from_u64(random.random()));
        cast.lister.spawn(lister(dialer, heard, random, stopped));
        cast
    }
}

impl Cast {
    /// Ends the epoch: writers stop, watches catch up, and all that was seen is handed over.
    pub(super) async fn end(mut self, stage: &Stage) -> anyhow::Result<Facts> {
        let mut facts = Facts {
            base: self.base.clone(),
            ..Facts::default()
        };
        self.stop_writing.send_replace(true);
        while let Some(writes) = self.writers.join_next().await {
            facts.writes.extend(writes?);
        }
        while let Some(lists) = self.lister.join_next().await {
            facts.lists.extend(lists?);
        }
        let end = stage.settled().await?;
        let told = facts.writes.iter().filter_map(|write| write.revision);
        let listed = end.items.values().map(|(revision, _)| *revision);
        let last = told.chain(listed).max().unwrap_or(self.base.revision);
        self.last.send_replace(Some(last));
        while let Some(watched) = self.watchers.join_next().await {
            for (mut watched, began_with) in watched?? {
                watched.through = watched.through.max(watched.after);
                facts.lists.extend(began_with);
                facts.watches.push(watched);
            }
        }
        facts.lists.push(end);
        Ok(facts)
    }
}

struct Writer {
    dialer: Arc<Dialer>,
    heard: Heard,
    random: StdRng,
    next: u64,
    /// What each key holds, as far as is known.
    there: Vec<(Key, Option<u64>)>,
    writes: Vec<Write>,
}

impl Writer {
    async fn run(mut self, stopped: watch::Receiver<bool>) -> Vec<Write> {
        let mut wire = dial(&self.dialer).await;
        while !*stopped.borrow() {
            let at = self.random.random_range(0..self.there.len());
            let Some((key, held)) = self.there.get(at).copied() else {
                break;
            };
            self.next += 1;
            let number = self.next;
            let op = match held {
                Some(_) if self.random.random_bool(0.2) => Op::Delete,
                _ => Op::Put,
            };
            let answer = match &wire {
                Some(wire) => wire.fetch(&request(key, number, op, held.is_some())).await.ok(),
                None => None,
            };
            let mut write = Write {
                key,
                number,
                op,
                acknowledged: false,
                revision: None,
            };
            match answer {
                Some((200 | 201, body)) => {
                    write.acknowledged = true;
                    if op == Op::Put {
                        write.revision = parsed(&body).and_then(|object| version(&object));
                        self.hear(write.revision);
                    }
                    self.know(at, (op == Op::Put).then_some(number));
                }
                // Refused: nothing happened, and we knew wrong.
                Some((404 | 409, _)) => {
                    self.look(at, &mut wire).await;
                    continue;
                }
                _ => {
                    self.writes.push(write);
                    wire = dial(&self.dialer).await;
                    self.look(at, &mut wire).await;
                    continue;
                }
            }
            self.writes.push(write);
        }
        self.writes
    }

    fn know(&mut self, at: usize, held: Option<u64>) {
        if let Some(known) = self.there.get_mut(at) {
            known.1 = held;
        }
    }

    fn hear(&self, revision: Option<u64>) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.extend(revision);
    }

    /// Reads what a key holds, after an answer was lost.
    async fn look(&mut self, at: usize, wire: &mut Option<Wire>) {
        let Some((key, _)) = self.there.get(at).copied() else {
            return;
        };
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(open) = wire {
                match open.fetch(&call(Method::GET, &path(key), None)).await {
                    Ok((200, body)) => {
                        let number = parsed(&body).and_then(|object| number(&object));
                        return self.know(at, number);
                    }
                    Ok((404, _)) => return self.know(at, None),
                    _ => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            *wire = dial(&self.dialer).await;
        }
    }
}

/// Watches from a random revision, resumes where it was after the server's end, and lists anew after a 410.
async fn watcher(
    dialer: Arc<Dialer>,
    heard: Heard,
    mut random: StdRng,
    until: watch::Receiver<Option<u64>>,
) -> anyhow::Result<Seen> {
    tokio::time::sleep(Duration::from_millis(random.random_range(0..3000))).await;
    let after = {
        let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard
            .get(random.random_range(0..heard.len()))
            .copied()
            .unwrap_or_default()
    };
    let mut all = Vec::new();
    let mut now = Watched {
        after,
        through: after,
        events: Vec::new(),
    };
    let mut began_with = None;
    let mut deadline = None;
    loop {
        if let Some(last) = *until.borrow() {
            if now.through >= last {
                break;
            }
            // From here on it has no excuse: what it doesn't see it was never told.
            if *deadline.get_or_insert_with(|| Instant::now() + CATCH_UP) < Instant::now() {
                now.through = last;
                break;
            }
        }
        let Some(wire) = dial(&dialer).await else { continue };
        match follow(&wire, &mut now, &until).await {
            Ok(()) => {}
            Err(Gone) => {
                let Ok(Some(listing)) = list(&wire, "").await else {
                    continue;
                };
                let revision = listing.revision;
                all.push((
                    std::mem::replace(
                        &mut now,
                        Watched {
                            after: revision,
                            through: revision,
                            events: Vec::new(),
                        },
                    ),
                    began_with.replace(listing),
                ));
            }
        }
    }
    all.push((now, began_with));
    Ok(all)
}

/// The revision is too old to watch from.
struct Gone;

/// Follows one watch to its end, or to the revision where all may stop.
async fn follow(wire: &Wire, now: &mut Watched, until: &watch::Receiver<Option<u64>>) -> Result<(), Gone> {
    let path = format!(
        "{}?watch=true&allowWatchBookmarks=true&resourceVersion={}",
        path_of_all(),
        now.through
    );
    let mut body = match wire.open(&call(Method::GET, &path, None)).await {
        Ok((200, body)) => body,
        Ok((410, _)) => return Err(Gone),
        _ => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Ok(());
        }
    };
    let mut text = Vec::new();
    loop {
        if until.borrow().is_some_and(|last| now.through >= last) {
            return Ok(());
        }
        let piece = match tokio::time::timeout(Duration::from_secs(1), read(&mut body)).await {
            Err(_) if until.borrow().is_none() => continue,
            Err(_) | Ok(Err(_) | Ok(None)) => return Ok(()),
            Ok(Ok(Some(piece))) => piece,
        };
        text.extend_from_slice(&piece);
        while let Some(end) = memchr::memchr(b'\n', &text) {
            let line: Vec<u8> = text.drain(..=end).collect();
            let Some(frame) = parsed(&line) else { continue };
            let object = &frame["object"];
            let kind = match frame["type"].as_str() {
                Some("ADDED") => Kind::Added,
                Some("MODIFIED") => Kind::Modified,
                Some("DELETED") => Kind::Deleted,
                Some("BOOKMARK") => {
                    now.through = now.through.max(version(object).unwrap_or_default());
                    continue;
                }
                _ if object["code"] == 410 => return Err(Gone),
                _ => return Ok(()),
            };
            if let (Some(revision), Some(key), Some(number)) = (version(object), key(object), number(object))
            {
                now.events.push(Event {
                    revision,
                    kind,
                    key,
                    number,
                });
                now.through = now.through.max(revision);
            }
        }
    }
}

/// Lists at revisions: the newest, not older than one, and exactly at one.
async fn lister(
    dialer: Arc<Dialer>,
    heard: Heard,
    mut random: StdRng,
    stopped: watch::Receiver<bool>,
) -> Vec<Listing> {
    let mut lists = Vec::new();
    let mut wire = None;
    while !*stopped.borrow() {
        let at = {
            let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let recent = heard.len().saturating_sub(500);
            heard
                .get(random.random_range(recent..heard.len()))
                .copied()
                .unwrap_or_default()
        };
        let query = match random.random_range(0..3) {
            0 => String::new(),
            1 => format!("?resourceVersion={at}&resourceVersionMatch=NotOlderThan"),
            _ => format!("?resourceVersion={at}&resourceVersionMatch=Exact"),
        };
        let open = match wire.take() {
            Some(open) => Some(open),
            None => dial(&dialer).await,
        };
        let Some(open) = open else { continue };
        if let Ok(listing) = list(&open, &query).await {
            lists.extend(listing);
            wire = Some(open);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lists
}

/// A list; none when the server refuses it (too old, not ready).
async fn list(wire: &Wire, query: &str) -> anyhow::Result<Option<Listing>> {
    let path = format!("{}{query}", path_of_all());
    let (status, body) = wire.fetch(&call(Method::GET, &path, None)).await?;
    if status != 200 {
        return Ok(None);
    }
    let value: Value = serde_json::from_slice(&body)?;
    let mut items = State::new();
    for item in value["items"].as_array().into_iter().flatten() {
        if let (Some(key), Some(revision), Some(number)) = (key(item), version(item), number(item)) {
            items.insert(key, (revision, number));
        }
    }
    Ok(Some(Listing {
        revision: version(&value).context("a list without resourceVersion")?,
        items,
    }))
}

async fn dial(dialer: &Dialer) -> Option<Wire> {
    match tokio::time::timeout(Duration::from_secs(5), dialer.dial()).await {
        Ok(Ok(wire)) => Some(wire),
        _ => {
            tokio::time::sleep(Duration::from_millis(30)).await;
            None
        }
    }
}

fn path_of_all() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

fn path(key: Key) -> String {
    format!("{}/key-{key}", path_of_all())
}

fn request(key: Key, number: u64, op: Op, exists: bool) -> Call {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("key-{key}"),
        "namespace": NAMESPACE}, "data": {"number": number.to_string()}});
    match (op, exists) {
        (Op::Delete, _) => call(Method::DELETE, &path(key), None),
        (Op::Put, true) => call(Method::PUT, &path(key), Some(object)),
        (Op::Put, false) => call(Method::POST, &path_of_all(), Some(object)),
    }
}

fn call(method: Method, path: &str, body: Option<Value>) -> Call {
    Call {
        method,
        path: path.to_owned(),
        content: "application/json",
        accept: "application/json",
        body: body.map_or_else(Bytes::new, |body| body.to_string().into()),
    }
}

fn parsed(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}

fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

/// None for objects that aren't ours, such as the namespace's CA bundle.
fn key(object: &Value) -> Option<Key> {
    object["metadata"]["name"]
        .as_str()?
        .strip_prefix("key-")?
        .parse()
        .ok()
}

fn number(object: &Value) -> Option<u64> {
    object["data"]["number"].as_str()?.parse().ok()
}
