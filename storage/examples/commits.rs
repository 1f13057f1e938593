//! Creates per second on the embedded engine: `cargo run --release -p rutter-storage --example commits -- FOLDER`.
//!
//! Prints a table by number of concurrent writers, for values of 4 KB.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that measures")]

use rutter_storage::engine::{EmbeddedEngine, EmbeddedOptions};
use rutter_storage::{Commit, Effect, Engine, Guard, Revision};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

#[tokio::main]
async fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("a folder to write in"));
    println!("{:>8} {:>10} {:>12}", "writers", "creates/s", "mean ms");
    for writers in [1, 8, 32, 128, 512] {
        let path = folder.join(format!("commits-{writers}"));
        let engine = Arc::new(EmbeddedEngine::open(&path, EmbeddedOptions::default()).unwrap());
        let each = 4096 / writers;
        let value = bytes::Bytes::from(vec![b'x'; 4096]);
        let start = Instant::now();
        let tasks = (0..writers).map(|writer| {
            let (engine, value) = (engine.clone(), value.clone());
            tokio::spawn(async move {
                for n in 0..each {
                    let key = format!("/registry/pods/default/pod-{writer}-{n}");
                    let guards = vec![Guard::Absent(key.clone())];
                    let effects = vec![Effect::Put(key, value.clone(), None)];
                    engine.commit(Commit { guards, effects }).await.unwrap();
                }
            })
        });
        futures::future::join_all(tasks).await;
        let took = start.elapsed().as_secs_f64();
        assert!(engine.revision().await.unwrap() > Revision(1));
        let total = (each * writers) as f64;
        println!(
            "{writers:>8} {:>10.0} {:>12.2}",
            total / took,
            took * 1000.0 / each as f64
        );
        drop(engine);
        std::fs::remove_file(path).unwrap();
    }
}
