//! The etcd engine: a store shared by several apiservers, on etcd 3.4 to 3.6.
//!
//! Guarantee: the whole contract, as durable as the etcd cluster. Keys are whole; no prefix is added. A commit whose effect is
//! unknown (timeout, lost connection) returns [`StoreError::Unavailable`]; commits are never repeated by the engine, reads are.
//! Watches ([`watch`]) come back by themselves without a lost or repeated change. It deliberately doesn't start or manage etcd.

mod compactor;
mod errors;
mod leases;
mod watch;

use crate::{
    Commit, Effect, Engine, Guard, KeyValue, Outcome, RangeRequest, RangeResponse, Revision, StoreError,
    Watch,
};
use async_trait::async_trait;
use bytes::Bytes;
use errors::{Asked, mapped};
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, KvClient, PutOptions,
    TlsOptions, Txn, TxnOp, TxnOpResponse,
};
use leases::Leases;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A read is tried so often while etcd is unavailable.
const READS: usize = 3;
/// A key no object has: asking for it tells the clock and nothing else.
const NO_KEY: &str = "rutter.io/no-key";

/// Where etcd is and how to talk to it.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// URLs such as `https://10.0.0.1:2379`; one suffices, all members is better.
    pub endpoints: Vec<String>,
    /// PEM: who may sign etcd's certificates. The system's roots when none.
    pub ca: Option<Vec<u8>>,
    /// PEM: our certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// How long one request may take. Default: 10 s.
    pub timeout: Duration,
    /// The largest value taken, in bytes; not above etcd's own limit. Default: 1.5 MiB.
    pub max_value: usize,
    /// How often history older than that is compacted, coordinated with other apiservers; zero for never. Default: 5 minutes.
    pub compaction_interval: Duration,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:2379".into()],
            ca: None,
            identity: None,
            timeout: Duration::from_secs(10),
            max_value: 3 << 19,
            compaction_interval: Duration::from_secs(300),
        }
    }
}

/// A client of an etcd cluster.
pub struct EtcdEngine {
    connection: Arc<Connection>,
    leases: Leases,
    _stop: DropGuard,
}

/// What the engine, its watches and its compactor share.
struct Connection {
    client: Client,
    options: EtcdOptions,
    /// The newest revision somebody was told of: watches see to it that they get there.
    told: tokio::sync::watch::Sender<Revision>,
}

impl EtcdEngine {
    /// Prepares to talk to etcd; etcd itself may come later. Must be called within a tokio runtime.
    pub async fn connect(options: EtcdOptions) -> Result<Self, StoreError> {
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(Duration::from_secs(3))
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if options.ca.is_some()
            || options.identity.is_some()
            || options.endpoints.iter().any(|e| e.starts_with("https:"))
        {
            connect = connect.with_tls(tls(&options));
        }
        let refused = |error| StoreError::Fatal(format!("etcd at {}: {error}", options.endpoints.join(",")));
        let client = Client::connect(&options.endpoints, Some(connect))
            .await
            .map_err(refused)?;
        let stop = CancellationToken::new();
        let told = tokio::sync::watch::Sender::new(Revision(0));
        let connection = Arc::new(Connection {
            client,
            options,
            told,
        });
        if !connection.options.compaction_interval.is_zero() {
            tokio::spawn(compactor::run(connection.clone(), stop.clone()));
        }
        Ok(Self {
            leases: Leases::new(connection.clone()),
            connection,
            _stop: stop.drop_guard(),
        })
    }

    /// Tries a commit once.
    async fn commit_once(&self, commit: &Commit) -> Result<Outcome, etcd_client::Error> {
        let compares: Vec<Compare> = commit.guards.iter().map(compare).collect();
        let mut effects = Vec::with_capacity(commit.effects.len());
        for effect in &commit.effects {
            effects.push(match effect {
                Effect::Put(key, value, life) => {
                    let lease = match life {
                        Some(life) => Some(PutOptions::new().with_lease(self.leases.lease(*life).await?)),
                        None => None,
                    };
                    TxnOp::put(key.as_str(), value.as_ref(), lease)
                }
                Effect::Delete(key) => TxnOp::delete(key.as_str(), None),
            });
        }
        let otherwise: Vec<TxnOp> = commit
            .guards
            .iter()
            .map(|guard| TxnOp::get(key_of(guard), None))
            .collect();
        let txn = Txn::new().when(compares).and_then(effects).or_else(otherwise);
        let response = self.connection.kv().txn(txn).await?;
        if response.succeeded() {
            return Ok(Outcome::Applied(revision_of(response.header())));
        }
        let found = response.op_responses().into_iter().map(|found| match found {
            TxnOpResponse::Get(mut found) => found.take_kvs().into_iter().next().and_then(key_value),
            _ => None,
        });
        Ok(Outcome::Refused(found.collect()))
    }
}

impl Connection {
    fn kv(&self) -> KvClient {
        self.client
            .kv_client()
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// Bounds a request in time.
    async fn bounded<T>(
        &self,
        asked: Asked<'_>,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.options.timeout, request).await {
            Ok(answer) => answer.map_err(|error| mapped(error, asked)),
            Err(_) => Err(StoreError::Unavailable(format!(
                "etcd did not answer within {:?}",
                self.options.timeout
            ))),
        }
    }

    /// Reads, trying again while etcd is unavailable.
    async fn read<T, F>(&self, asked: Asked<'_>, mut request: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.bounded(asked, request()).await {
                Err(StoreError::Unavailable(_)) if tries < READS => {
                    tokio::time::sleep(Duration::from_millis(50 * tries as u64)).await;
                }
                answer => return answer,
            }
        }
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        let ask = || async {
            let options = GetOptions::new().with_count_only();
            Ok(revision_of(self.kv().get(NO_KEY, Some(options)).await?.header()))
        };
        self.read(Asked::Nothing, ask).await
    }
}

#[async_trait]
impl Engine for EtcdEngine {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        let ask = || async { self.connection.kv().get(key, None).await };
        let mut found = self.connection.read(Asked::Nothing, ask).await?;
        Ok(found.take_kvs().into_iter().next().and_then(key_value))
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let low = match request.after {
            Some(after) if after >= request.prefix => format!("{after}\0"),
            _ if request.prefix.is_empty() => "\0".to_owned(),
            _ => request.prefix.clone(),
        };
        let mut options = GetOptions::new()
            .with_range(end_of(&request.prefix))
            .with_limit(request.limit as i64);
        if request.count_only {
            options = options.with_count_only();
        }
        let asked = match request.revision {
            Some(at) => {
                options = options.with_revision(at.0 as i64);
                Asked::Revision(at)
            }
            None => Asked::Nothing,
        };
        let ask = || async {
            self.connection
                .kv()
                .get(low.as_str(), Some(options.clone()))
                .await
        };
        let answer = self.connection.read(asked, ask).await;
        let mut found = match answer {
            Err(StoreError::Future { asked, .. }) => {
                return Err(StoreError::Future {
                    asked,
                    current: self.connection.revision().await?,
                });
            }
            answer => answer?,
        };
        let revision = revision_of(found.header());
        let (more, count) = (found.more(), found.count() as u64);
        let items = found.take_kvs().into_iter().filter_map(key_value).collect();
        Ok(RangeResponse {
            items,
            more: more && !request.count_only,
            count,
            revision,
        })
    }

    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        super::check_sizes(&commit, self.connection.options.max_value)?;
        let asked = Asked::Commit(&commit);
        match self.connection.bounded(asked, self.commit_once(&commit)).await {
            // The lease ended between being handed out and being used: nothing was applied.
            Err(StoreError::Fatal(why)) if why.contains(errors::NO_LEASE) => {
                self.leases.forget();
                self.connection.bounded(asked, self.commit_once(&commit)).await
            }
            answer => answer,
        }
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        Ok(Box::new(
            watch::EtcdWatch::open(self.connection.clone(), prefix, from).await?,
        ))
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        let revision = self.connection.revision().await?;
        self.connection.told.send_if_modified(|told| {
            let ahead = revision > *told;
            *told = revision.max(*told);
            ahead
        });
        Ok(revision)
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        let compact = async { self.connection.kv().compact(at.0 as i64, None).await };
        match self.connection.bounded(Asked::Revision(at), compact).await {
            Ok(_) | Err(StoreError::Compacted { .. }) => Ok(()),
            Err(StoreError::Future { asked, .. }) => Err(StoreError::Future {
                asked,
                current: self.connection.revision().await?,
            }),
            Err(error) => Err(error),
        }
    }
}

fn tls(options: &EtcdOptions) -> TlsOptions {
    let mut tls = TlsOptions::new();
    if let Some(ca) = &options.ca {
        tls = tls.ca_certificate(Certificate::from_pem(ca));
    }
    if let Some((certificate, key)) = &options.identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    tls
}

fn compare(guard: &Guard) -> Compare {
    match guard {
        Guard::Unchanged(key, at) => Compare::mod_revision(key.as_str(), CompareOp::Equal, at.0 as i64),
        Guard::Absent(key) => Compare::mod_revision(key.as_str(), CompareOp::Equal, 0),
    }
}

fn key_of(guard: &Guard) -> &str {
    match guard {
        Guard::Unchanged(key, _) | Guard::Absent(key) => key,
    }
}

fn revision_of(header: Option<&etcd_client::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision() as u64))
}

/// None for a key that isn't text: nothing of ours.
fn key_value(found: etcd_client::KeyValue) -> Option<KeyValue> {
    let (modified, created) = (
        Revision(found.mod_revision() as u64),
        Revision(found.create_revision() as u64),
    );
    let (key, value) = found.into_key_value();
    Some(KeyValue {
        key: String::from_utf8(key).ok()?,
        value: Bytes::from(value),
        modified,
        created,
    })
}

/// The end of the range of keys that start with a prefix.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        // Text holds no byte of 255.
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end
}
