//! The watch cache over an engine: whatever happened, the list at any revision and the watch from it make the list now.

use crate::fixture::Fixture;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use rutter_storage::cache::{
    DecodeError, Decoder, Entry, EventType, From, Index, Interest, Interner, Options, Scope, Snapshot,
    Subscribe, WatchCache, splice_resource_version,
};
use rutter_storage::{Effect, Revision};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What lies at one key: its revision and what is served.
type List = BTreeMap<String, (Revision, Bytes)>;

/// Objects about which nothing is known but their keys.
struct Opaque(Interner);

impl Decoder for Opaque {
    fn decode(&self, key: &str, value: &Bytes, revision: Revision) -> Result<Entry, DecodeError> {
        let bytes = splice_resource_version(value, revision).map_err(|e| DecodeError(e.to_string()))?;
        let index = Index {
            namespace: self.0.atom("ns"),
            name: key.rsplit('/').next().unwrap_or_default().into(),
            uid: "u".into(),
            labels: self.0.pairs([]),
            fields: self.0.pairs([]),
            owners: Box::default(),
        };
        Ok(Entry::new(key.into(), bytes, index, revision))
    }
}

fn listed(snapshot: &Snapshot) -> List {
    let entries = snapshot.iter();
    entries
        .map(|entry| (entry.key.to_string(), (entry.revision, entry.bytes())))
        .collect()
}

/// One commit: keys to put (with a number) and to delete.
fn commit() -> impl Strategy<Value = BTreeMap<u8, Option<u8>>> {
    prop::collection::btree_map(0..6u8, prop::option::weighted(0.7, any::<u8>()), 1..4)
}

pub(crate) async fn a_list_and_the_watch_from_it_make_the_list_now(fixture: &mut Fixture) {
    // They share the engine, each below a prefix of its own.
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    let mut runner = TestRunner::default();
    for case in 0..cases.unwrap_or(12u32) {
        let histories = prop::collection::vec(commit(), 1..24);
        let history = histories.new_tree(&mut runner).unwrap().current();
        holds(fixture, case, &history).await;
    }
}

async fn holds(fixture: &Fixture, case: u32, history: &[BTreeMap<u8, Option<u8>>]) {
    let prefix = format!("/registry/case{case}/");
    let decoder = Arc::new(Opaque(Interner::default()));
    let cache = WatchCache::start(fixture.engine.clone(), "/registry/", decoder, Options::default());
    cache.register(&prefix, "", "things", &[]);
    cache.ready().await;
    let mut seen = BTreeMap::from([(cache.revision(), listed(&cache.snapshot(&prefix).unwrap()))]);
    for changes in history {
        let effects = changes.iter().map(|(key, change)| {
            let key = format!("{prefix}k{key}");
            match change {
                Some(n) => Effect::Put(
                    key,
                    format!(r#"{{"metadata":{{"name":"x"}},"n":{n}}}"#).into(),
                    None,
                ),
                None => Effect::Delete(key),
            }
        });
        let at = fixture.apply(effects.collect()).await;
        // A commit that only deletes what isn't there may have no revision of its own.
        cache.consistent().await.unwrap();
        assert!(cache.revision() >= at);
        seen.insert(cache.revision(), listed(&cache.snapshot(&prefix).unwrap()));
    }
    let now = listed(&cache.snapshot(&prefix).unwrap());
    for (at, list) in seen {
        let then = listed(&cache.snapshot_at(&prefix, at).unwrap());
        assert_eq!(then, list, "the list at {at} in {history:?}");
        let mut folded = then;
        let mut watch = cache
            .subscribe(Subscribe {
                scope: Scope::Prefix(prefix.as_str().into()),
                from: From::After(at),
                interest: Interest::Any,
                filter: None,
            })
            .unwrap();
        while let Some(delivery) = watch.try_next().unwrap() {
            let entry = delivery.entry().unwrap();
            let key = entry.key.to_string();
            let known = match delivery.kind {
                EventType::Deleted => folded.remove(&key),
                _ => folded.insert(key, (entry.revision, entry.bytes())),
            };
            assert_eq!(
                known.is_some(),
                delivery.kind != EventType::Added,
                "{:?} in {history:?}",
                delivery.kind
            );
        }
        assert_eq!(folded, now, "from {at} in {history:?}");
    }
}
