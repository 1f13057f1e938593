//! Engines to test, started in a temporary directory and ended with the test.

use bytes::Bytes;
use rutter_storage::engine::{
    EmbeddedEngine, EmbeddedOptions, EtcdEngine, EtcdOptions, MemoryEngine, Plain, Transform,
    TransformingEngine,
};
use rutter_storage::{Commit, Effect, Engine, Guard, Outcome, Revision, StoreError, Watch, WatchEvent};
use std::future::Future;
use std::net::TcpListener;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Memory,
    Embedded,
    /// Embedded, with all values in another form.
    Transformed,
    Etcd,
}

/// Stores a value behind its key and a mark.
struct Marked;

#[async_trait::async_trait]
impl Transform for Marked {
    fn concerns(&self, _key: &str) -> bool {
        true
    }

    fn is_plain(&self, _key: &str, _stored: &[u8]) -> bool {
        false
    }

    async fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, String> {
        Ok([b"mark:", key.as_bytes(), b":", &value].concat().into())
    }

    async fn open(&self, key: &str, stored: Bytes) -> Result<Plain, String> {
        let value = stored
            .strip_prefix(format!("mark:{key}:").as_bytes())
            .ok_or("not stored through the transform")?;
        Ok(Plain {
            value: stored.slice_ref(value),
            stale: false,
        })
    }
}

/// A running engine that can be restarted.
pub(crate) struct Fixture {
    pub(crate) kind: Kind,
    pub(crate) engine: Arc<dyn Engine>,
    directory: tempfile::TempDir,
    etcd: Option<Etcd>,
}

struct Etcd {
    child: Child,
    client: u16,
    peer: u16,
}

/// Runs a case on a fresh engine, within a generous limit of time.
pub(crate) fn run(
    kind: Kind,
    case: impl for<'f> FnOnce(&'f mut Fixture) -> Pin<Box<dyn Future<Output = ()> + 'f>>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut fixture = Fixture::start(kind).await;
        tokio::time::timeout(Duration::from_secs(120), case(&mut fixture))
            .await
            .expect("the case ends");
    });
}

impl Fixture {
    async fn start(kind: Kind) -> Self {
        let directory = tempfile::Builder::new().prefix("storage-").tempdir().unwrap();
        let etcd = (kind == Kind::Etcd).then(|| Etcd::start(directory.path(), free_port(), free_port()));
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let mut fixture = Self {
            kind,
            engine,
            directory,
            etcd,
        };
        fixture.open().await;
        fixture
    }

    async fn open(&mut self) {
        match self.kind {
            Kind::Memory => {}
            Kind::Embedded | Kind::Transformed => {
                let path = self.directory.path().join("store");
                self.engine = Arc::new(EmbeddedEngine::open(&path, EmbeddedOptions::default()).unwrap());
                if self.kind == Kind::Transformed {
                    self.engine = Arc::new(TransformingEngine::new(self.engine.clone(), Arc::new(Marked)));
                }
            }
            Kind::Etcd => {
                let port = self.etcd.as_ref().unwrap().client;
                let options = EtcdOptions {
                    endpoints: vec![format!("http://127.0.0.1:{port}")],
                    ..EtcdOptions::default()
                };
                self.engine = Arc::new(EtcdEngine::connect(options).await.unwrap());
                while self.engine.revision().await.is_err() {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Ends the store the hard way where it has a process, and opens it again.
    pub(crate) async fn restart(&mut self) {
        self.engine = Arc::new(MemoryEngine::new());
        if let Some(Etcd { client, peer, .. }) = &self.etcd {
            let (client, peer) = (*client, *peer);
            self.etcd = None;
            self.etcd = Some(Etcd::start(self.directory.path(), client, peer));
        }
        self.open().await;
    }

    /// Ends and starts etcd below a client that stays.
    pub(crate) fn restart_below(&mut self) {
        if let Some(Etcd { client, peer, .. }) = &self.etcd {
            let (client, peer) = (*client, *peer);
            self.etcd = None;
            self.etcd = Some(Etcd::start(self.directory.path(), client, peer));
        }
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> Revision {
        self.apply(vec![Effect::Put(key.into(), value.to_owned().into(), None)])
            .await
    }

    pub(crate) async fn delete(&self, key: &str) -> Revision {
        self.apply(vec![Effect::Delete(key.into())]).await
    }

    pub(crate) async fn apply(&self, effects: Vec<Effect>) -> Revision {
        match self
            .engine
            .commit(Commit {
                guards: vec![],
                effects,
            })
            .await
            .unwrap()
        {
            Outcome::Applied(revision) => revision,
            refused => panic!("refused without guards: {refused:?}"),
        }
    }

    pub(crate) async fn guarded(
        &self,
        guards: Vec<Guard>,
        effects: Vec<Effect>,
    ) -> Result<Outcome, StoreError> {
        self.engine.commit(Commit { guards, effects }).await
    }
}

impl Etcd {
    fn start(directory: &std::path::Path, client: u16, peer: u16) -> Self {
        let (client_url, peer_url) = (
            format!("http://127.0.0.1:{client}"),
            format!("http://127.0.0.1:{peer}"),
        );
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(directory.join("etcd"))
            .args([
                "--listen-client-urls",
                &client_url,
                "--advertise-client-urls",
                &client_url,
            ])
            .args([
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
            ])
            .args([
                "--initial-cluster",
                &format!("default={peer_url}"),
                "--log-level",
                "error",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts: install etcd-server so that `etcd` is on PATH");
        Self { child, client, peer }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Reads a watch until it is complete through a revision: each change as `key=value@revision`, a delete as `key@revision`.
pub(crate) async fn read_through(watch: &mut Box<dyn Watch>, through: Revision) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let reached = match watch.next().await.expect("the watch goes on") {
            WatchEvent::Progress(reached) => reached,
            WatchEvent::Changes { changes, through } => {
                for change in changes {
                    seen.push(match change.value {
                        Some(value) => {
                            format!(
                                "{}={}@{}",
                                change.key,
                                String::from_utf8_lossy(&value),
                                change.revision
                            )
                        }
                        None => format!("{}@{}", change.key, change.revision),
                    });
                }
                through
            }
        };
        if reached >= through {
            return seen;
        }
    }
}
