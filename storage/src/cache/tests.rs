//! Tests of the cache over the memory engine.

use super::*;
use crate::engine::MemoryEngine;
use crate::{
    Commit, Effect, Engine, KeyValue, Outcome, RangeRequest, RangeResponse, Revision, StoreError, Watch,
    WatchEvent,
};
use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const PODS: &str = "/registry/pods/";

/// Decodes `{"metadata":{"name","uid","labels"},"spec":{"nodeName"}}`.
struct Json {
    interner: Interner,
}

impl Decoder for Json {
    fn decode(&self, key: &str, value: &Bytes, revision: Revision) -> Result<Entry, DecodeError> {
        let json: serde_json::Value =
            serde_json::from_slice(value).map_err(|e| DecodeError(e.to_string()))?;
        let text = |path: &str| {
            json.pointer(path)
                .and_then(|v| v.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let labels = json
            .pointer("/metadata/labels")
            .and_then(|v| v.as_object())
            .cloned()
            .unwrap_or_default();
        let labels: Vec<_> = labels
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default()))
            .collect();
        let bytes = splice_resource_version(value, revision).map_err(|e| DecodeError(e.to_string()))?;
        let index = Index {
            namespace: self.interner.atom(key.split('/').nth(3).unwrap_or_default()),
            name: text("/metadata/name").into(),
            uid: text("/metadata/uid").into(),
            labels: self.interner.pairs(labels),
            fields: self
                .interner
                .pairs([("spec.nodeName", text("/spec/nodeName").as_str())]),
            owners: Box::default(),
        };
        Ok(Entry::new(key.into(), bytes, index, revision))
    }
}

/// The memory engine with a wire that can be cut.
#[derive(Clone)]
struct Wire {
    store: MemoryEngine,
    down: tokio::sync::watch::Sender<bool>,
    questions: Arc<AtomicUsize>,
    held: Arc<AtomicBool>,
}

struct WiredWatch {
    inner: Box<dyn Watch>,
    down: tokio::sync::watch::Receiver<bool>,
}

#[async_trait]
impl Watch for WiredWatch {
    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        tokio::select! {
            biased;
            _ = self.down.wait_for(|down| *down) => Err(StoreError::Unavailable("cut".into())),
            event = self.inner.next() => event,
        }
    }
}

#[async_trait]
impl Engine for Wire {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.store.get(key).await
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.store.range(request).await
    }

    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.store.commit(commit).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let mut down = self.down.subscribe();
        if *down.borrow_and_update() {
            return Err(StoreError::Unavailable("cut".into()));
        }
        Ok(Box::new(WiredWatch {
            inner: self.store.watch(prefix, from).await?,
            down,
        }))
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        while self.held.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        self.store.revision().await
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        self.store.compact(at).await
    }
}

struct Bench {
    wire: Wire,
    cache: WatchCache,
}

fn pod(name: &str, uid: &str, app: &str, node: &str) -> String {
    format!(
        r#"{{"kind":"Pod","metadata":{{"name":"{name}","uid":"{uid}","labels":{{"app":"{app}"}}}},"spec":{{"nodeName":"{node}"}}}}"#
    )
}

impl Bench {
    async fn start(options: Options) -> Self {
        let wire = Wire {
            store: MemoryEngine::new(),
            down: tokio::sync::watch::Sender::new(false),
            questions: Arc::default(),
            held: Arc::default(),
        };
        let backoff = (Duration::from_millis(1), Duration::from_millis(5));
        let options = Options {
            backoff,
            page: 3,
            wait: Duration::from_secs(30),
            ..options
        };
        let decoder = Arc::new(Json {
            interner: Interner::default(),
        });
        let cache = WatchCache::start(Arc::new(wire.clone()), "/registry/", decoder, options);
        cache.register(PODS, "", "pods", &["spec.nodeName"]);
        cache.ready().await;
        Self { wire, cache }
    }

    async fn put(&self, key: &str, value: &str) -> Revision {
        self.apply(vec![Effect::Put(key.into(), value.to_owned().into(), None)])
            .await
    }

    async fn delete(&self, key: &str) -> Revision {
        self.apply(vec![Effect::Delete(key.into())]).await
    }

    async fn apply(&self, effects: Vec<Effect>) -> Revision {
        match self
            .wire
            .commit(Commit {
                guards: vec![],
                effects,
            })
            .await
            .unwrap()
        {
            Outcome::Applied(revision) => revision,
            refused => panic!("{refused:?}"),
        }
    }

    fn subscribe(&self, from: From, filter: Option<Filter>) -> Result<Subscription, CacheError> {
        let scope = Scope::Prefix(PODS.into());
        self.cache.subscribe(Subscribe {
            scope,
            from,
            interest: Interest::Any,
            filter,
        })
    }
}

fn app(want: &'static str) -> Option<Filter> {
    Some(Arc::new(move |entry: &Entry| {
        entry.index.label("app") == Some(want)
    }))
}

/// All there is now, as `kind name@revision-in-the-served-bytes`.
fn drain(subscription: &mut Subscription) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(delivery) = subscription.try_next().unwrap() {
        let entry = delivery.entry().unwrap();
        let served: serde_json::Value = serde_json::from_slice(&entry.bytes()).unwrap();
        assert_eq!(
            served["metadata"]["resourceVersion"],
            delivery.revision().to_string()
        );
        seen.push(format!(
            "{:?} {}@{}",
            delivery.kind,
            entry.index.name,
            delivery.revision()
        ));
    }
    seen
}

#[tokio::test]
async fn objects_enter_and_leave_a_filter_as_added_and_deleted() {
    let bench = Bench::start(Options::default()).await;
    let mut red = bench.subscribe(From::Now, app("red")).unwrap();
    let mut all = bench.subscribe(From::Now, None).unwrap();
    let key = "/registry/pods/default/a";
    let mut at = Vec::new();
    for color in ["blue", "red", "red", "blue", "red"] {
        at.push(bench.put(key, &pod("a", "u1", color, "")).await);
    }
    at.push(bench.delete(key).await);
    bench.cache.consistent().await.unwrap();
    assert_eq!(
        drain(&mut red),
        [
            format!("Added a@{}", at[1]),
            format!("Modified a@{}", at[2]),
            format!("Deleted a@{}", at[3]),
            format!("Added a@{}", at[4]),
            format!("Deleted a@{}", at[5]),
        ]
    );
    assert_eq!(drain(&mut all).len(), 6);
    assert_eq!(red.progress(), at[5]);
    assert!(bench.cache.get(key).is_none());
}

#[tokio::test]
async fn narrow_watches_get_their_own_events_and_the_past_too() {
    let bench = Bench::start(Options::default()).await;
    let start = bench.cache.revision();
    for (n, node) in ["n1", "n2", "n1", "n2"].iter().enumerate() {
        bench
            .put(
                &format!("/registry/pods/ns{}/p{n}", n % 2),
                &pod(&format!("p{n}"), "u", "x", node),
            )
            .await;
    }
    bench.cache.consistent().await.unwrap();
    let field = |value: &str| Interest::Field {
        name: "spec.nodeName".into(),
        value: value.into(),
    };
    let on = |node: &'static str| -> Option<Filter> {
        Some(Arc::new(move |entry: &Entry| {
            entry.index.field("spec.nodeName") == Some(node)
        }))
    };
    let open = |scope, interest, filter| {
        bench
            .cache
            .subscribe(Subscribe {
                scope,
                from: From::After(start),
                interest,
                filter,
            })
            .unwrap()
    };
    let mut n1 = open(Scope::Prefix(PODS.into()), field("n1"), on("n1"));
    let mut ns1 = open(Scope::Prefix("/registry/pods/ns1/".into()), Interest::Any, None);
    let mut one = open(Scope::Key("/registry/pods/ns0/p0".into()), Interest::Any, None);
    assert_eq!(
        (drain(&mut n1).len(), drain(&mut ns1).len(), drain(&mut one).len()),
        (2, 2, 1)
    );
    let moved = bench
        .put("/registry/pods/ns0/p0", &pod("p0", "u", "x", "n2"))
        .await;
    bench.cache.wait_for(moved).await.unwrap();
    assert_eq!(drain(&mut n1), [format!("Deleted p0@{moved}")]);
    assert_eq!(drain(&mut ns1), [""; 0]);
    assert_eq!(drain(&mut one), [format!("Modified p0@{moved}")]);
    assert_eq!((n1.progress(), ns1.progress()), (moved, moved));
    let on_n2 = bench.cache.lookup(PODS, "spec.nodeName", "n2").unwrap();
    assert_eq!(
        on_n2.iter().map(|entry| &*entry.index.name).collect::<Vec<_>>(),
        ["p0", "p1", "p3"]
    );
    assert_eq!(bench.cache.lookup(PODS, "metadata.name", "p2").unwrap().len(), 1);
    let list = bench.cache.snapshot(PODS).unwrap();
    let page: Vec<_> = list
        .range("/registry/pods/ns0/", Some("/registry/pods/ns0/p0"))
        .collect();
    assert_eq!(page.len(), 1);
    assert_eq!(list.range("/registry/pods/ns1/", None).count(), 2);
}

#[tokio::test]
async fn a_narrow_watch_that_begins_further_back_has_what_an_earlier_one_did_not_need() {
    let bench = Bench::start(Options::default()).await;
    let mut at = vec![bench.cache.revision()];
    let key = |n: usize| format!("/registry/pods/ns{}/p", n % 2);
    for n in 0..6 {
        at.push(bench.put(&key(n), &pod("p", "u", &n.to_string(), "")).await);
    }
    bench.cache.consistent().await.unwrap();
    let open = |from| {
        bench
            .cache
            .subscribe(Subscribe {
                scope: Scope::Prefix("/registry/pods/ns0/".into()),
                from,
                interest: Interest::Any,
                filter: None,
            })
            .unwrap()
    };
    let revisions = |watch: &mut Subscription| -> Vec<Revision> {
        let mut seen = Vec::new();
        while let Some(delivery) = watch.try_next().unwrap() {
            seen.push(delivery.revision());
        }
        seen
    };
    let mut now = open(From::Now);
    let mut late = open(From::After(at[4]));
    let mut early = open(From::After(at[0]));
    let mut middle = open(From::After(at[2]));
    assert_eq!(revisions(&mut now), []);
    assert_eq!(revisions(&mut late), [at[5]]);
    assert_eq!(revisions(&mut early), [at[1], at[3], at[5]]);
    assert_eq!(revisions(&mut middle), [at[3], at[5]]);
    let last = bench.put(&key(0), &pod("p", "u", "last", "")).await;
    bench.cache.wait_for(last).await.unwrap();
    for watch in [&mut now, &mut late, &mut early, &mut middle] {
        assert_eq!(revisions(watch), [last]);
    }
}

#[tokio::test]
async fn a_watcher_behind_the_history_is_cut_off_and_others_are_not() {
    let bench = Bench::start(Options {
        history_events: 4,
        ..Options::default()
    })
    .await;
    let start = bench.cache.revision();
    let mut slow = bench.subscribe(From::Now, None).unwrap();
    let mut quick = bench.subscribe(From::Now, None).unwrap();
    for n in 0..6 {
        let at = bench
            .put("/registry/pods/default/a", &pod("a", "u", &n.to_string(), ""))
            .await;
        bench.cache.wait_for(at).await.unwrap();
        assert_eq!(quick.next().await.unwrap().revision(), at);
    }
    assert!(matches!(slow.next().await, Err(CacheError::TooSlow)));
    assert!(matches!(
        bench.subscribe(From::After(start), None),
        Err(CacheError::Expired { .. })
    ));
    assert!(matches!(
        bench.cache.snapshot_at(PODS, start),
        Err(CacheError::Expired { .. })
    ));
    let ahead = Revision(bench.cache.revision().0 + 5);
    assert!(matches!(
        bench.subscribe(From::After(ahead), None),
        Err(CacheError::Future { .. })
    ));
    assert!(matches!(
        bench.cache.snapshot_at(PODS, ahead),
        Err(CacheError::Future { .. })
    ));
}

#[tokio::test]
async fn after_a_compaction_the_difference_arrives_as_events() {
    let bench = Bench::start(Options::default()).await;
    let key = |name: &str| format!("/registry/pods/default/{name}");
    for name in ["gone", "kept", "changed", "replaced"] {
        bench.put(&key(name), &pod(name, "u1", "x", "")).await;
    }
    bench.cache.consistent().await.unwrap();
    let before = bench.cache.revision();
    let mut watcher = bench.subscribe(From::Now, None).unwrap();
    bench.wire.down.send_replace(true);
    bench.delete(&key("gone")).await;
    let changed = bench.put(&key("changed"), &pod("changed", "u1", "y", "")).await;
    bench.delete(&key("replaced")).await;
    let replaced = bench.put(&key("replaced"), &pod("replaced", "u2", "x", "")).await;
    let new = bench.put(&key("new"), &pod("new", "u1", "x", "")).await;
    let last = bench.put("/registry/other/a", "{}").await;
    bench.wire.compact(last).await.unwrap();
    bench.wire.down.send_replace(false);
    bench.cache.consistent().await.unwrap();
    assert_eq!(
        drain(&mut watcher),
        [
            format!("Modified changed@{changed}"),
            format!("Deleted replaced@{}", replaced.0 - 1),
            format!("Added replaced@{replaced}"),
            format!("Added new@{new}"),
            format!("Deleted gone@{last}"),
        ]
    );
    let names = |list: Snapshot| {
        list.iter()
            .map(|entry| entry.index.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(bench.cache.snapshot(PODS).unwrap()),
        ["changed", "kept", "new", "replaced"]
    );
    assert_eq!(
        names(bench.cache.snapshot_at(PODS, before).unwrap()),
        ["changed", "gone", "kept", "replaced"]
    );
    assert!(
        matches!(
            bench.cache.snapshot_at(PODS, changed),
            Err(CacheError::Expired { .. })
        ),
        "never seen"
    );
}

#[tokio::test]
async fn an_undecodable_object_is_quarantined_and_stops_nothing() {
    let bench = Bench::start(Options::default()).await;
    bench.put("/registry/pods/default/bad", "{not json").await;
    let good = bench
        .put("/registry/pods/default/good", &pod("good", "u", "x", ""))
        .await;
    bench.cache.wait_for(good).await.unwrap();
    assert_eq!(bench.cache.snapshot(PODS).unwrap().len(), 1);
    assert_eq!(bench.cache.quarantined()[0].key, "/registry/pods/default/bad");
    let spoiled = bench.put("/registry/pods/default/good", "nor this").await;
    bench.cache.wait_for(spoiled).await.unwrap();
    assert_eq!(
        bench.cache.get("/registry/pods/default/good").unwrap().revision,
        good,
        "the last good state stays"
    );
    let mended = bench
        .put("/registry/pods/default/bad", &pod("bad", "u", "x", ""))
        .await;
    bench.delete("/registry/pods/default/good").await;
    bench.cache.consistent().await.unwrap();
    assert_eq!(
        bench.cache.get("/registry/pods/default/bad").unwrap().revision,
        mended
    );
    assert!(bench.cache.quarantined().is_empty());
}

#[tokio::test]
async fn a_resource_registered_late_has_its_objects_and_one_taken_out_ends_its_watchers() {
    let bench = Bench::start(Options::default()).await;
    let at = bench
        .put("/registry/example.com/widgets/ns/w", &pod("w", "u", "x", ""))
        .await;
    bench.cache.wait_for(at).await.unwrap();
    let widgets = "/registry/example.com/widgets/";
    assert!(matches!(
        bench.cache.snapshot(widgets),
        Err(CacheError::NotServed(_))
    ));
    bench.cache.register(widgets, "example.com", "widgets", &[]);
    assert_eq!(bench.cache.snapshot(widgets).unwrap().len(), 1);
    let scope = Scope::Prefix(widgets.into());
    let request = Subscribe {
        scope,
        from: From::After(at),
        interest: Interest::Any,
        filter: None,
    };
    let mut watcher = bench.cache.subscribe(request).unwrap();
    bench.cache.deregister(widgets);
    assert!(matches!(watcher.next().await, Err(CacheError::NotServed(_))));
    let later = bench.delete("/registry/example.com/widgets/ns/w").await;
    bench.cache.wait_for(later).await.unwrap();
    bench.cache.register(widgets, "example.com", "widgets", &[]);
    assert!(
        bench.cache.snapshot(widgets).unwrap().is_empty(),
        "it was followed all the while"
    );
}

#[tokio::test]
async fn readers_that_arrive_while_a_question_is_asked_share_the_next_one() {
    let bench = Bench::start(Options::default()).await;
    bench.wire.held.store(true, Ordering::SeqCst);
    let first = bench.cache.consistent();
    tokio::pin!(first);
    while bench.wire.questions.load(Ordering::SeqCst) == 0 {
        tokio::select! {
            biased;
            _ = &mut first => panic!("answered while held"),
            () = tokio::task::yield_now() => {}
        }
    }
    let written = bench
        .put("/registry/pods/default/a", &pod("a", "u", "x", ""))
        .await;
    let mut many = Box::pin(futures::future::join_all(
        (0..100).map(|_| bench.cache.consistent()),
    ));
    assert!(futures::poll!(&mut many).is_pending());
    bench.wire.held.store(false, Ordering::SeqCst);
    let (first, many) = tokio::join!(first, many);
    first.unwrap();
    assert!(many.into_iter().all(|reached| reached.unwrap() >= written));
    assert_eq!(bench.wire.questions.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn frames_are_encoded_once_while_young() {
    let bench = Bench::start(Options::default()).await;
    let mut watcher = bench.subscribe(From::Now, None).unwrap();
    bench
        .put("/registry/pods/default/a", &pod("a", "u", "x", ""))
        .await;
    let event = watcher.next().await.unwrap().event;
    let frame = event.frame(2, || Bytes::from_static(b"frame"));
    assert_eq!(event.frame(2, || panic!("encoded twice")), frame);
    event.retire_frames();
    assert_eq!(event.frame(2, || Bytes::from_static(b"anew")), "anew");
    assert_eq!(event.frame(FRAME_SLOTS, || Bytes::from_static(b"none")), "none");
}

#[derive(Clone, Debug)]
enum Op {
    Put { key: u8, app: bool },
    Delete { key: u8 },
    Both { put: u8, delete: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..6u8, any::<bool>()).prop_map(|(key, app)| Op::Put { key, app }),
        2 => (0..6u8).prop_map(|key| Op::Delete { key }),
        1 => (0..3u8, 3..6u8).prop_map(|(put, delete)| Op::Both { put, delete }),
    ]
}

/// Key to the revision of its state.
type Model = BTreeMap<String, u64>;

fn model(list: &Snapshot, filter: &Option<Filter>) -> Model {
    let wanted = list
        .iter()
        .filter(|entry| filter.as_ref().is_none_or(|filter| filter(entry)));
    wanted
        .map(|entry| (entry.key.to_string(), entry.revision.0))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The list at any revision, plus the watch from it, is the list now; with a filter too.
    #[test]
    fn a_list_and_the_watch_from_it_make_the_list_now(ops in prop::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::start(Options::default()).await;
            let key = |n: u8| format!("/registry/pods/ns{}/p{n}", n % 2);
            let value = |n: u8, app: bool| pod(&format!("p{n}"), "u", if app { "red" } else { "blue" }, "");
            let mut exact = BTreeMap::from([(bench.cache.revision(), bench.cache.snapshot(PODS).unwrap())]);
            for op in &ops {
                let put = |n: u8, app: bool| Effect::Put(key(n), value(n, app).into(), None);
                let effects = match op {
                    Op::Put { key, app } => vec![put(*key, *app)],
                    Op::Delete { key: n } => vec![Effect::Delete(key(*n))],
                    Op::Both { put: a, delete } => vec![put(*a, true), Effect::Delete(key(*delete))],
                };
                let at = bench.apply(effects).await;
                bench.cache.wait_for(at).await.unwrap();
                exact.insert(at, bench.cache.snapshot(PODS).unwrap());
            }
            let now = bench.cache.snapshot(PODS).unwrap();
            for filter in [None, app("red")] {
                for (at, seen) in &exact {
                    let then = bench.cache.snapshot_at(PODS, *at).unwrap();
                    assert_eq!(model(&then, &None), model(seen, &None), "the snapshot at {at}");
                    let mut state = model(&then, &filter);
                    let mut watch = bench.subscribe(From::After(*at), filter.clone()).unwrap();
                    while let Some(delivery) = watch.try_next().unwrap() {
                        let entry = delivery.entry().unwrap();
                        let known = match delivery.kind {
                            EventType::Deleted => state.remove(&*entry.key),
                            _ => state.insert(entry.key.to_string(), entry.revision.0),
                        };
                        assert_eq!(known.is_some(), delivery.kind != EventType::Added, "{:?}", delivery.kind);
                    }
                    assert_eq!(state, model(&now, &filter), "from {at}");
                }
            }
        });
    }
}
