//! Encryption at rest, by an `EncryptionConfiguration` (`apiserver.config.k8s.io/v1`).
//!
//! [`config`] reads and checks the file, [`ciphers`] hold the local keys, [`kms`] asks a plugin for them, [`rules`] say which values
//! are kept how, and [`Encryption`] is all of that as the store's [`rutter_storage::engine::Transform`].
//!
//! Guarantee: stored values are those of upstream, to the byte: `k8s:enc:`, the provider, `v1:` or `v2:`, the key's name, and the sealed
//! value, which the store's key authenticates where the cipher can. What upstream wrote is read, and the other way round.
//! It keeps no history of keys: a value of a key that the file no longer has is an error of its reads.

pub mod ciphers;
pub mod config;
pub mod kms;
pub mod metrics;
pub mod rules;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use config::ConfigError;
use kms::Plugin;
use metrics::Metrics;
use rules::{Resource, Rules};
use rutter_storage::engine::{Plain, Transform};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// Every encrypted value begins with this.
pub const PREFIX: &[u8] = b"k8s:enc:";

/// The folders that resources are stored in, such as `/registry/secrets`. Custom resources, in folders by group and name, needn't be listed.
pub type Folders = HashMap<String, Resource>;

/// What is encrypted, and how.
pub struct Encryption {
    folders: Folders,
    metrics: Metrics,
    server: String,
    current: ArcSwap<Current>,
}

struct Current {
    rules: Rules,
    plugins: Vec<Arc<Plugin>>,
    bytes: Vec<u8>,
    /// Ends the plugins' watchdogs.
    stop: CancellationToken,
}

impl Drop for Current {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Encryption {
    /// Encrypts nothing; what is encrypted all the same can't be read.
    pub fn none(folders: Folders, metrics: Metrics) -> Self {
        Self {
            folders,
            metrics,
            server: String::new(),
            current: ArcSwap::from_pointee(Current {
                rules: Rules::default(),
                plugins: Vec::new(),
                bytes: Vec::new(),
                stop: CancellationToken::new(),
            }),
        }
    }

    /// Encrypts as the file says. Plugins are asked for their first keys; one that doesn't answer yet is asked again later. `server` is the
    /// server's identity, for metrics.
    pub async fn load(
        file: &Path,
        folders: Folders,
        metrics: Metrics,
        server: &str,
    ) -> Result<Self, ConfigError> {
        let mut made = Self::none(folders, metrics);
        made.server = server.to_owned();
        let bytes = config::read(file)?;
        let current = made.current_of(file, bytes).await?;
        made.metrics.configured(&made.server, &current.bytes);
        made.current.store(Arc::new(current));
        Ok(made)
    }

    async fn current_of(&self, file: &Path, bytes: Vec<u8>) -> Result<Current, ConfigError> {
        let config = config::parse(file, &bytes)?;
        let stop = CancellationToken::new();
        let (rules, plugins) = Rules::new(&config, &self.metrics, &self.server)?;
        for plugin in &plugins {
            plugin.check().await.unwrap_or_else(
                |why| tracing::warn!(plugin = plugin.name(), %why, "a KMS plugin is not healthy"),
            );
            tokio::spawn(kms::watch_over(plugin.clone(), stop.clone()));
        }
        Ok(Current {
            rules,
            plugins,
            bytes,
            stop,
        })
    }

    /// Takes over changes of the file until `stop`. A file that can't be used is counted and told; the old one stays.
    pub async fn follow(self: Arc<Self>, file: PathBuf, stop: CancellationToken) {
        let mut complained = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            if let Err(error) = self.reload(&file).await {
                let text = error.to_string().into_bytes();
                if text != complained {
                    tracing::error!(%error, "the changed encryption configuration cannot be used; the old one stays");
                    complained = text;
                }
            }
        }
    }

    /// Takes over the file if it changed: whether it did. Plugins of a new file must be healthy at once.
    pub async fn reload(&self, file: &Path) -> Result<bool, ConfigError> {
        let loaded = async {
            let bytes = config::read(file)?;
            if bytes == self.current.load().bytes {
                return Ok(None);
            }
            let next = self.current_of(file, bytes).await?;
            for plugin in &next.plugins {
                plugin.check().await.map_err(|why| ConfigError::Plugin {
                    name: plugin.name().to_owned(),
                    why,
                })?;
            }
            Ok(Some(next))
        };
        match loaded.await {
            Ok(None) => Ok(false),
            Ok(Some(next)) => {
                self.metrics.reloaded(&self.server, true);
                self.metrics.configured(&self.server, &next.bytes);
                self.current.store(Arc::new(next));
                tracing::info!("encryption configuration reloaded");
                Ok(true)
            }
            Err(error) => {
                self.metrics.reloaded(&self.server, false);
                Err(error)
            }
        }
    }

    /// Whether plugins are in use; they are checked then.
    pub fn has_plugins(&self) -> bool {
        !self.current.load().plugins.is_empty()
    }

    /// Whether every plugin is healthy, and which isn't for what reason. The answer is up to 20 s old.
    pub async fn check(&self) -> Result<(), String> {
        let current = self.current.load_full();
        let mut wrong = Vec::new();
        for (at, plugin) in current.plugins.iter().enumerate() {
            if let Err(why) = plugin.check().await {
                wrong.push(format!("kms-provider-{at}: {why}"));
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join(", "))
        }
    }

    /// The resource that a key belongs to: a built-in one by its folder, a custom one by the parts of the key.
    fn resource(&self, key: &str) -> Option<Resource> {
        let mut ends = key.match_indices('/').map(|(at, _)| at);
        ends.next()?;
        let (_, second, third) = (ends.next()?, ends.next(), ends.next());
        for end in [second, third].into_iter().flatten() {
            if let Some(found) = key.get(..end).and_then(|folder| self.folders.get(folder)) {
                return Some(found.clone());
            }
        }
        let mut parts = key.split('/').skip(2);
        let group = parts.next().filter(|group| group.contains('.'))?;
        Some(Resource::new(parts.next()?, group))
    }
}

#[async_trait]
impl Transform for Encryption {
    fn concerns(&self, key: &str) -> bool {
        let current = self.current.load();
        !current.rules.is_empty()
            && self
                .resource(key)
                .is_some_and(|resource| current.rules.of(&resource).is_some())
    }

    fn is_plain(&self, key: &str, stored: &[u8]) -> bool {
        !stored.starts_with(PREFIX) && !self.concerns(key)
    }

    async fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, String> {
        let current = self.current.load_full();
        let resource = self.resource(key);
        match resource.as_ref().and_then(|resource| current.rules.of(resource)) {
            Some(providers) => {
                let resource = resource.as_ref().map(Resource::to_string).unwrap_or_default();
                self.metrics
                    .timed(&resource, "to_storage", providers.seal(key, value))
                    .await
            }
            None => Ok(value),
        }
    }

    async fn open(&self, key: &str, stored: Bytes) -> Result<Plain, String> {
        let current = self.current.load_full();
        let resource = self.resource(key);
        match resource.as_ref().and_then(|resource| current.rules.of(resource)) {
            Some(providers) => {
                let resource = resource.as_ref().map(Resource::to_string).unwrap_or_default();
                self.metrics
                    .timed(&resource, "from_storage", providers.open(key, stored))
                    .await
            }
            None if stored.starts_with(PREFIX) => {
                Err("identity transformer tried to read encrypted data".to_owned())
            }
            None => Ok(Plain {
                value: stored,
                stale: false,
            }),
        }
    }
}

/// What is shown in place of what must not be: its hash.
fn hash(text: &[u8]) -> String {
    if text.is_empty() {
        return String::new();
    }
    let hash = digest(&SHA256, text);
    hash.as_ref()
        .iter()
        .fold("sha256:".to_owned(), |out, byte| out + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests;
