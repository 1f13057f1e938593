//! Which values are kept how: the providers of each resource, with wildcards.

use crate::ciphers::Cipher;
use crate::config::{ConfigError, EncryptionConfiguration, Key, ProviderConfiguration, split};
use crate::kms::{Envelope, Plugin};
use crate::metrics::Metrics;
use bytes::Bytes;
use rutter_storage::engine::Plain;
use std::collections::HashMap;
use std::sync::Arc;

/// A resource with its group, both of which may be `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    name: String,
    group: String,
}

impl Resource {
    /// `pods` and an empty group, say.
    pub fn new(name: &str, group: &str) -> Self {
        Self {
            name: name.to_owned(),
            group: group.to_owned(),
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.group.as_str() {
            "" => f.write_str(&self.name),
            group => write!(f, "{}.{group}", self.name),
        }
    }
}

/// The providers of all resources.
#[derive(Default)]
pub struct Rules(HashMap<Resource, Providers>);

/// A value's form: its prefix in the store, and how it is made and read.
enum Form {
    Identity,
    Local(Cipher),
    Kms(Envelope),
}

struct Provider {
    prefix: Vec<u8>,
    form: Form,
}

/// The providers of a resource. The first one writes.
#[derive(Clone, Default)]
pub struct Providers(Vec<Arc<Provider>>);

/// What came of a value: with the prefix under which it is counted.
pub type Done<T> = (String, Result<T, String>);

impl Rules {
    /// What a file says, and the plugins that it names.
    pub fn new(
        config: &EncryptionConfiguration,
        metrics: &Metrics,
        server: &str,
    ) -> Result<(Self, Vec<Arc<Plugin>>), ConfigError> {
        let mut rules: HashMap<Resource, Providers> = HashMap::new();
        let mut plugins = Vec::new();
        for entry in &config.resources {
            let mut providers = Vec::new();
            for provider in &entry.providers {
                add(provider, metrics, server, &mut providers, &mut plugins)?;
            }
            for name in &entry.resources {
                let (resource, group) = split(name);
                let resource = Resource::new(resource, group);
                for mask in [Resource::new("*", group), Resource::new("*", "*")] {
                    if rules.contains_key(&mask) {
                        return Err(ConfigError::Invalid(vec![format!(
                            "resource {name:?} is masked by earlier rule \"{}.{}\"",
                            mask.name, mask.group
                        )]));
                    }
                }
                rules
                    .entry(resource)
                    .or_default()
                    .0
                    .extend(providers.iter().cloned());
            }
        }
        Ok((Self(rules), plugins))
    }

    /// Whether nothing is said of any resource.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The providers of a resource; none when nothing is said of it.
    pub fn of(&self, resource: &Resource) -> Option<&Providers> {
        let group = || self.0.get(&Resource::new("*", &resource.group));
        let all = || self.0.get(&Resource::new("*", "*"));
        self.0.get(resource).or_else(group).or_else(all)
    }
}

fn add(
    config: &ProviderConfiguration,
    metrics: &Metrics,
    server: &str,
    providers: &mut Vec<Arc<Provider>>,
    plugins: &mut Vec<Arc<Plugin>>,
) -> Result<(), ConfigError> {
    type Make = fn(&[u8]) -> Result<Cipher, String>;
    let local: [(&str, &Option<_>, Make); 3] = [
        ("aesgcm", &config.aesgcm, Cipher::gcm),
        ("aescbc", &config.aescbc, Cipher::cbc),
        ("secretbox", &config.secretbox, Cipher::secretbox),
    ];
    for (name, keys, make) in local {
        for key in keys.iter().flat_map(|keys| &keys.keys) {
            providers.push(Arc::new(Provider {
                prefix: format!("k8s:enc:{name}:v1:{}:", key.name).into_bytes(),
                form: Form::Local(cipher(key, make)?),
            }));
        }
    }
    if let Some(kms) = &config.kms {
        let plugin = Arc::new(Plugin::new(kms, metrics.clone(), server));
        plugins.push(plugin.clone());
        providers.push(Arc::new(Provider {
            prefix: format!("k8s:enc:kms:v2:{}:", kms.name).into_bytes(),
            form: Form::Kms(Envelope::new(plugin)),
        }));
    }
    if config.identity.is_some() {
        providers.push(Arc::new(Provider {
            prefix: Vec::new(),
            form: Form::Identity,
        }));
    }
    Ok(())
}

fn cipher(key: &Key, make: fn(&[u8]) -> Result<Cipher, String>) -> Result<Cipher, ConfigError> {
    let made = make(&key.bytes().unwrap_or_default());
    made.map_err(|why| ConfigError::Invalid(vec![format!("key {}: {why}", key.name)]))
}

impl Providers {
    /// The form in which a value is stored.
    pub async fn seal(&self, key: &str, value: Bytes) -> Done<Bytes> {
        let Some(first) = self.0.first() else {
            return (String::new(), Ok(value));
        };
        let mut out = first.prefix.clone();
        let sealed = match &first.form {
            Form::Identity => return ("identity".to_owned(), Ok(value)),
            Form::Local(cipher) => cipher.seal(key, &value, &mut out),
            Form::Kms(envelope) => envelope
                .seal(key, &value)
                .map(|sealed| out.extend_from_slice(&sealed)),
        };
        (first.label(), sealed.map(|()| out.into()))
    }

    /// The value of a stored form.
    pub async fn open(&self, key: &str, stored: Bytes) -> Done<Plain> {
        let mut wrong: Vec<String> = Vec::new();
        let mut label = String::new();
        for (at, provider) in self.0.iter().enumerate() {
            let Some(sealed) = stored.strip_prefix(provider.prefix.as_slice()) else {
                continue;
            };
            let opened = match &provider.form {
                Form::Identity if stored.starts_with(crate::PREFIX) => continue,
                Form::Identity => Ok((stored.clone(), false)),
                Form::Local(cipher) => cipher.open(key, sealed).map(|value| (value.into(), false)),
                Form::Kms(envelope) => envelope.open(key, sealed).await,
            };
            label = provider.label();
            match opened {
                Ok((value, stale)) => {
                    let stale = stale || at != 0;
                    return (label, Ok(Plain { value, stale }));
                }
                Err(why) => wrong.push(why),
            }
        }
        if wrong.is_empty() {
            return ("unknown".to_owned(), Err(self.unmatched(&stored)));
        }
        wrong.dedup();
        (label, Err(wrong.join(", ")))
    }

    /// Why no provider takes a value: its key or its whole provider is missing.
    fn unmatched(&self, stored: &[u8]) -> String {
        for (prefix, name) in [
            (&b"k8s:enc:aesgcm:v1:"[..], "AES"),
            (b"k8s:enc:aescbc:v1:", "AES"),
            (b"k8s:enc:secretbox:v1:", "Secretbox"),
        ] {
            let has = self.0.iter().any(|provider| provider.prefix.starts_with(prefix));
            if has && stored.starts_with(prefix) {
                return format!("no matching key was found for the provided {name} transformer");
            }
        }
        "no matching prefix found".to_owned()
    }
}

impl Provider {
    fn label(&self) -> String {
        match self.form {
            Form::Identity => "identity".to_owned(),
            Form::Local(_) => {
                let text = String::from_utf8_lossy(&self.prefix);
                // Up to the version: names of keys are no labels.
                text.splitn(5, ':').take(4).collect::<Vec<_>>().join(":") + ":"
            }
            Form::Kms(_) => String::from_utf8_lossy(&self.prefix).into_owned(),
        }
    }
}
