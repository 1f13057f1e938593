//! The embedded engine against `kill -9`: every acknowledged write is there afterwards.
//!
//! The test runs itself as a child that writes from several tasks and reports each acknowledged write on its stdout.
#![allow(clippy::unwrap_used, reason = "a test")]

use rutter_storage::engine::{EmbeddedEngine, EmbeddedOptions};
use rutter_storage::{Commit, Effect, Engine, Outcome, StoreError};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const STORE: &str = "RUTTER_TEST_KILL_STORE";
const ROUND: &str = "RUTTER_TEST_KILL_ROUND";
const ROUNDS: usize = 12;
const WRITERS: usize = 8;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn open(path: &Path) -> Result<EmbeddedEngine, StoreError> {
    EmbeddedEngine::open(
        path,
        EmbeddedOptions {
            history_revisions: 500,
            ..EmbeddedOptions::default()
        },
    )
}

/// The child: does nothing unless told where to write.
#[test]
fn child_that_writes_until_killed() {
    let (Ok(path), Ok(round)) = (std::env::var(STORE), std::env::var(ROUND)) else {
        return;
    };
    runtime().block_on(async {
        let engine = Arc::new(open(Path::new(&path)).unwrap());
        let writers = (0..WRITERS).map(|writer| {
            let (engine, round) = (engine.clone(), round.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    let key = format!("/r/{writer}-{}", n % 50);
                    let value = format!("{round}.{n}");
                    let effects = vec![Effect::Put(key.clone(), value.clone().into(), None)];
                    let outcome = engine
                        .commit(Commit {
                            guards: vec![],
                            effects,
                        })
                        .await
                        .unwrap();
                    let Outcome::Applied(revision) = outcome else {
                        panic!("{outcome:?}")
                    };
                    let line = format!("ack {key} {value} {revision}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            })
        });
        futures::future::join_all(writers).await;
    });
}

#[test]
fn every_acknowledged_write_survives_kill_nine() {
    let directory = tempfile::Builder::new().prefix("storage-").tempdir().unwrap();
    let path = directory.path().join("store");
    let mut acknowledged: BTreeMap<String, (String, u64)> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_killed", "--nocapture"])
            .env(STORE, &path)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed after so many acknowledgements; what was said until then still comes out of the pipe.
        let enough = 100 + 77 * round;
        let mut count = 0;
        for line in lines.map_while(Result::ok) {
            let Some(ack) = line.find("ack ").and_then(|at| line.get(at..)) else {
                continue;
            };
            let parts: Vec<&str> = ack.split(' ').collect();
            let [_, key, value, revision] = parts[..] else {
                continue;
            };
            let Ok(revision) = revision.parse::<u64>() else {
                continue;
            };
            let latest = acknowledged.entry(key.to_owned()).or_default();
            if revision > latest.1 {
                *latest = (value.to_owned(), revision);
            }
            count += 1;
            if count == enough {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(count >= enough, "the child ended by itself in round {round}");
        let engine = open(&path).unwrap();
        runtime().block_on(async {
            for (key, (value, revision)) in &acknowledged {
                let found = engine
                    .get(key)
                    .await
                    .unwrap()
                    .unwrap_or_else(|| panic!("{key} is lost"));
                assert!(
                    found.modified.0 >= *revision,
                    "{key} went back from {revision} to {}",
                    found.modified
                );
                if found.modified.0 == *revision {
                    assert_eq!(found.value, value.as_bytes(), "{key}");
                }
            }
        });
    }
    assert!(acknowledged.len() > WRITERS);
}

#[test]
fn a_store_held_by_another_or_foreign_or_damaged_is_refused_with_a_reason() {
    let directory = tempfile::Builder::new().prefix("storage-").tempdir().unwrap();
    let path = directory.path().join("store");
    let reason = |path: &Path| match open(path) {
        Ok(_) => panic!("{} opened", path.display()),
        Err(error) => error.to_string(),
    };
    let first = open(&path).unwrap();
    assert!(
        reason(&path).contains("held by another process"),
        "{}",
        reason(&path)
    );
    drop(first);
    drop(open(&path).expect("free again"));
    let foreign = directory.path().join("foreign");
    std::fs::write(
        &foreign,
        "a text of somebody else, and a long one at that\n".repeat(500),
    )
    .unwrap();
    assert!(
        reason(&foreign).contains("not a store of ours"),
        "{}",
        reason(&foreign)
    );
    let other = directory.path().join("other");
    {
        let database = redb::Database::create(&other).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(redb::TableDefinition::<u64, u64>::new("theirs"))
            .unwrap();
        transaction.commit().unwrap();
    }
    assert!(
        reason(&other).contains("not a store of ours"),
        "{}",
        reason(&other)
    );
    let missing = directory.path().join("none").join("store");
    assert!(reason(&missing).contains("does not open"), "{}", reason(&missing));
}
