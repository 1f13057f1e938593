//! Keys of a plugin: `KeyManagementService` of version 2 over a Unix socket.
//!
//! Values are sealed with keys made here of a [`Seed`], which the plugin seals; its sealed form is stored beside each value, so that a
//! plugin is asked once per seed and not per value. A seed is good for writing as long as the plugin names the key that sealed
//! it, and for 3 minutes when the plugin doesn't answer. Reading needs the plugin only for seeds of others.

use crate::ciphers::{Cipher, SEED, Seed};
use crate::config::KmsConfiguration;
use crate::hash;
use crate::metrics::Metrics;
use arc_swap::ArcSwapOption;
use aws_lc_rs::rand::fill;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message as _;
use rutter_api::field::Path;
use rutter_api::validation::fully_qualified_domain;
use rutter_proto::kms::key_management_service_client::KeyManagementServiceClient;
use rutter_proto::kms::{DecryptRequest, EncryptRequest, StatusRequest, StatusResponse};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status};

/// How often a healthy plugin is asked for its key, and one that isn't.
const HEALTHY: Duration = Duration::from_secs(60);
const UNHEALTHY: Duration = Duration::from_secs(10);
/// How long writing goes on after the plugin was last healthy.
const COAST: Duration = Duration::from_secs(180);
/// How long the answer of a check is good.
const GOOD: Duration = Duration::from_secs(20);
const BAD: Duration = Duration::from_secs(3);
/// How long a seed is known that no value needed.
const KNOWN: Duration = Duration::from_secs(24 * 60 * 60);
const MOST_KEY_ID: usize = 1024;
const MOST_SEED: usize = 1024;
const MOST_ANNOTATIONS: usize = 32 * 1024;

/// A sealed value with what is needed to open it. The numbers are upstream's (`kmsv2/v2/api.proto`).
#[derive(Clone, PartialEq, prost::Message)]
struct EncryptedObject {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(bytes = "vec", tag = "3")]
    source: Vec<u8>,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
    /// 0: the source is the key; 1: it is the seed of keys.
    #[prost(int32, tag = "5")]
    source_type: i32,
}

const KEY: i32 = 0;
const SEED_OF_KEYS: i32 = 1;

impl EncryptedObject {
    fn check(&self) -> Result<(), String> {
        if !matches!(self.source_type, KEY | SEED_OF_KEYS) {
            return Err(format!("unknown encryptedDEKSourceType: {}", self.source_type));
        }
        if self.data.is_empty() {
            return Err("encrypted data is empty".to_owned());
        }
        check_source(&self.source)?;
        check_key_id(&self.key_id).map_err(|(_, why)| why)?;
        check_annotations(&self.annotations)
    }

    /// What makes seeds the same.
    fn identity(&self) -> Identity {
        (
            self.source_type,
            self.source.clone(),
            self.key_id.clone(),
            self.annotations.clone(),
        )
    }
}

type Identity = (i32, Vec<u8>, String, BTreeMap<String, Vec<u8>>);

fn check_source(source: &[u8]) -> Result<(), String> {
    match source.len() {
        0 => Err("encrypted DEK source is empty".to_owned()),
        size if size > MOST_SEED => Err(format!(
            "encrypted DEK source is {size} bytes, which exceeds the max size of {MOST_SEED}"
        )),
        _ => Ok(()),
    }
}

fn check_key_id(id: &str) -> Result<(), (&'static str, String)> {
    match id.len() {
        0 => Err(("empty", "keyID is empty".to_owned())),
        size if size > MOST_KEY_ID => Err((
            "too_long",
            format!("keyID is {size} bytes, which exceeds the max size of {MOST_KEY_ID}"),
        )),
        _ => Ok(()),
    }
}

fn check_annotations(annotations: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let size: usize = annotations
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if size > MOST_ANNOTATIONS {
        return Err(format!(
            "total size of annotations is {size}, which exceeds the max size of {MOST_ANNOTATIONS}"
        ));
    }
    let path = Path::new("annotations");
    let bad = annotations
        .keys()
        .find(|key| !fully_qualified_domain(&path, key).is_empty());
    bad.map_or(Ok(()), |key| {
        Err(format!(
            "annotations: {key:?} is not a fully qualified domain name"
        ))
    })
}

/// A seed that is written with.
struct State {
    seed: Arc<Seed>,
    /// All of a value but the value.
    object: EncryptedObject,
    until: Instant,
}

/// A plugin.
pub struct Plugin {
    name: String,
    timeout: Duration,
    client: KeyManagementServiceClient<Channel>,
    metrics: Metrics,
    server: String,
    state: ArcSwapOption<State>,
    checked: AsyncMutex<Option<Checked>>,
}

struct Checked {
    at: Instant,
    answer: Result<(), String>,
    version: String,
}

impl Plugin {
    /// Nothing is asked yet.
    pub fn new(config: &KmsConfiguration, metrics: Metrics, server: &str) -> Self {
        let path = config
            .endpoint
            .strip_prefix("unix://")
            .unwrap_or_default()
            .to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is a name only; the connector knows the socket.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        Self {
            name: config.name.clone(),
            timeout: config.timeout(),
            client: KeyManagementServiceClient::new(channel),
            metrics,
            server: server.to_owned(),
            state: ArcSwapOption::empty(),
            checked: AsyncMutex::new(None),
        }
    }

    /// Its name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is healthy. Asked anew when the last answer is older than 20 s (3 s for a bad one); a new key is taken over then.
    pub async fn check(&self) -> Result<(), String> {
        let mut checked = self.checked.lock().await;
        let mut version = String::new();
        if let Some(last) = &*checked {
            let good = if last.answer.is_ok() { GOOD } else { BAD };
            if last.at.elapsed() < good {
                return last.answer.clone();
            }
            version.clone_from(&last.version);
        }
        let answer = self.ask(&mut version).await;
        *checked = Some(Checked {
            at: Instant::now(),
            answer: answer.clone(),
            version,
        });
        answer
    }

    async fn ask(&self, version: &mut String) -> Result<(), String> {
        let mut client = self.client.clone();
        let status = self
            .call("/v2.KeyManagementService/Status", client.status(StatusRequest {}))
            .await
            .map_err(|why| {
                format!(
                    "failed to perform status section of the healthz check for KMS Provider {}, error: {why}",
                    self.name
                )
            })?;
        let mut wrong = Vec::new();
        if status.healthz != "ok" {
            wrong.push(format!("got unexpected healthz status: {}", status.healthz));
        }
        self.check_version(&status, version, &mut wrong);
        if let Err((code, why)) = check_key_id(&status.key_id) {
            self.metrics.misnamed(&self.name, code);
            wrong.push(format!(
                "got invalid KMSv2 KeyID hash {:?}: {why}",
                hash(status.key_id.as_bytes())
            ));
        } else {
            self.metrics.named(&self.name, &status.key_id, &self.server);
            if let Err(why) = self.rotate(&status.key_id).await {
                wrong.push(why);
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!(
            "kmsv2 Provider {} is not healthy, error: {}",
            self.name,
            wrong.join(", ")
        ))
    }

    fn check_version(&self, status: &StatusResponse, version: &mut String, wrong: &mut Vec<String>) {
        let is = &status.version;
        if is != "v2" && is != "v2beta1" {
            wrong.push(format!("expected KMSv2 API version v2, got {is}"));
        } else if version.is_empty() {
            version.clone_from(is);
        } else if version != is {
            wrong.push(format!(
                "KMSv2 API version should not change after the initial status response version {version}, got {is}"
            ));
        }
    }

    /// Goes on with the seed while the key that sealed it is the plugin's; has a new one sealed otherwise.
    async fn rotate(&self, key_id: &str) -> Result<(), String> {
        let until = Instant::now() + COAST;
        if let Some(state) = self.state.load_full()
            && state.object.key_id == key_id
        {
            self.state.store(Some(Arc::new(State {
                seed: state.seed.clone(),
                object: state.object.clone(),
                until,
            })));
            return Ok(());
        }
        let mut seed = vec![0; SEED];
        fill(&mut seed).map_err(|_| "no randomness".to_owned())?;
        let made = Arc::new(Seed::new(&seed)?);
        let request = EncryptRequest {
            plaintext: seed,
            uid: uuid::Uuid::new_v4().to_string(),
        };
        let mut client = self.client.clone();
        let sealed = self
            .call("/v2.KeyManagementService/Encrypt", client.encrypt(request))
            .await
            .map_err(|why| format!("failed to encrypt DEK, error: {why}"))?;
        let object = EncryptedObject {
            data: Bytes::from_static(&[0]),
            key_id: sealed.key_id,
            source: sealed.ciphertext,
            annotations: sealed.annotations.into_iter().collect(),
            source_type: SEED_OF_KEYS,
        };
        object.check()?;
        if object.key_id != key_id {
            return Err(format!(
                "failed to rotate DEK, statusKeyIDHash={:?}, encryptKeyIDHash={:?}",
                hash(key_id.as_bytes()),
                hash(object.key_id.as_bytes())
            ));
        }
        self.state.store(Some(Arc::new(State {
            seed: made,
            object,
            until,
        })));
        Ok(())
    }

    async fn call<T>(
        &self,
        method: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, String> {
        let since = Instant::now();
        let answer = tokio::time::timeout(self.timeout, call).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("context deadline exceeded")));
        let code = match &answer {
            Ok(_) => "OK".to_owned(),
            Err(status) => format!("{:?}", status.code()),
        };
        self.metrics.asked(&self.name, method, &code, since.elapsed());
        match answer {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(format!("rpc error: code = {code} desc = {}", status.message())),
        }
    }

    async fn decrypt(&self, object: &EncryptedObject) -> Result<Vec<u8>, String> {
        let request = DecryptRequest {
            ciphertext: object.source.clone(),
            uid: uuid::Uuid::new_v4().to_string(),
            key_id: object.key_id.clone(),
            annotations: object.annotations.clone().into_iter().collect(),
        };
        let mut client = self.client.clone();
        let opened = self
            .call("/v2.KeyManagementService/Decrypt", client.decrypt(request))
            .await;
        opened
            .map(|opened| opened.plaintext)
            .map_err(|why| format!("failed to decrypt DEK, error: {why}"))
    }
}

/// Keeps a plugin's key up to date until `stop`.
pub async fn watch_over(plugin: Arc<Plugin>, stop: CancellationToken) {
    let mut healthy = plugin.state.load().is_some();
    loop {
        let pause = if healthy { HEALTHY } else { UNHEALTHY };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        match plugin.check().await {
            Ok(()) => healthy = true,
            Err(why) => {
                healthy = false;
                tracing::error!(plugin = plugin.name, why, "a KMS plugin is not healthy");
            }
        }
    }
}

/// Opens what a source's owner sealed.
enum Opener {
    Seed(Arc<Seed>),
    Key(Cipher),
}

/// Seals and opens values by the seeds of a plugin.
pub struct Envelope {
    plugin: Arc<Plugin>,
    known: Mutex<HashMap<Identity, (Arc<Opener>, Instant)>>,
    /// Several readers of one unknown seed ask the plugin once.
    asking: AsyncMutex<()>,
}

impl Envelope {
    /// Over a plugin.
    pub fn new(plugin: Arc<Plugin>) -> Self {
        Self {
            plugin,
            known: Mutex::default(),
            asking: AsyncMutex::default(),
        }
    }

    /// The sealed value with its envelope.
    pub fn seal(&self, key: &str, value: &[u8]) -> Result<Vec<u8>, String> {
        let Some(state) = self.plugin.state.load_full() else {
            return Err("got unexpected nil transformer".to_owned());
        };
        if Instant::now() > state.until {
            return Err(format!(
                "encryptedDEKSource with keyID hash {:?} expired: the KMS plugin {} was not healthy for too long",
                hash(state.object.key_id.as_bytes()),
                self.plugin.name
            ));
        }
        let mut object = state.object.clone();
        object.data = state.seed.seal(key, value)?.into();
        self.know(object.identity(), Arc::new(Opener::Seed(state.seed.clone())));
        self.used("to_storage", &object.key_id);
        Ok(object.encode_to_vec())
    }

    /// The value, and whether another key is to be written with now.
    pub async fn open(&self, key: &str, sealed: &[u8]) -> Result<(Bytes, bool), String> {
        let object = EncryptedObject::decode(sealed).map_err(|error| format!("proto: {error}"))?;
        object.check()?;
        let opener = self.opener(&object).await?;
        self.used("from_storage", &object.key_id);
        let value = match &*opener {
            Opener::Seed(seed) => seed.open(key, &object.data)?,
            Opener::Key(cipher) => cipher.open(key, &object.data)?,
        };
        let state = self.plugin.state.load();
        let stale = state
            .as_ref()
            .is_none_or(|state| state.object.key_id != object.key_id)
            || object.source_type != SEED_OF_KEYS;
        Ok((value.into(), stale))
    }

    async fn opener(&self, object: &EncryptedObject) -> Result<Arc<Opener>, String> {
        let identity = object.identity();
        if let Some(known) = self.recall(&identity) {
            return Ok(known);
        }
        let _asking = self.asking.lock().await;
        if let Some(known) = self.recall(&identity) {
            return Ok(known);
        }
        self.plugin.metrics.missed();
        let plain = self.plugin.decrypt(object).await?;
        let opener = Arc::new(match object.source_type {
            KEY => Opener::Key(Cipher::gcm(&plain)?),
            _ => Opener::Seed(Arc::new(Seed::new(&plain)?)),
        });
        self.know(identity, opener.clone());
        Ok(opener)
    }

    fn recall(&self, identity: &Identity) -> Option<Arc<Opener>> {
        let mut known = self.known.lock();
        let (opener, used) = known.get_mut(identity)?;
        *used = Instant::now();
        Some(opener.clone())
    }

    fn know(&self, identity: Identity, opener: Arc<Opener>) {
        let mut known = self.known.lock();
        let now = Instant::now();
        if known.insert(identity, (opener, now)).is_none() {
            known.retain(|_, (_, used)| now.duration_since(*used) < KNOWN);
            self.plugin.metrics.cached(&self.plugin.name, known.len());
        }
    }

    fn used(&self, direction: &str, key_id: &str) {
        let plugin = &self.plugin;
        plugin
            .metrics
            .used(direction, &plugin.name, key_id, &plugin.server);
    }
}
