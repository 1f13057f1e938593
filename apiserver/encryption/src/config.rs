//! The file: `EncryptionConfiguration` of `apiserver.config.k8s.io/v1`, read strictly and checked as upstream checks it.
//!
//! Secrets are never part of an error.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

const KMS_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a file can't be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("error reading encryption provider configuration file {file:?}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no `EncryptionConfiguration`.
    #[error("error decoding encryption provider configuration file {file:?}: {why}")]
    Decode {
        /// The file.
        file: String,
        /// Where and why.
        why: String,
    },
    /// What it says can't be.
    #[error("invalid encryption configuration: {}", .0.join(", "))]
    Invalid(Vec<String>),
    /// A KMS plugin can't be used.
    #[error("KMS plugin {name:?}: {why}")]
    Plugin {
        /// The plugin's name in the file.
        name: String,
        /// Why.
        why: String,
    },
}

/// The file's contents.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncryptionConfiguration {
    kind: String,
    api_version: String,
    /// Which resources are kept how. Of several that name a resource, the providers of all are asked, in order.
    #[serde(default)]
    pub resources: Vec<ResourceConfiguration>,
}

/// How some resources are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceConfiguration {
    /// `resource`, `resource.group`, `*.group`, `*.` (the core group) or `*.*`.
    #[serde(default)]
    pub resources: Vec<String>,
    /// The first one writes; each may have written what is read.
    #[serde(default)]
    pub providers: Vec<ProviderConfiguration>,
}

/// One of the providers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfiguration {
    /// AES-GCM with local keys.
    pub aesgcm: Option<Keys>,
    /// AES-CBC with local keys.
    pub aescbc: Option<Keys>,
    /// XSalsa20 and Poly1305 with local keys.
    pub secretbox: Option<Keys>,
    /// Values as they are.
    #[serde(default, deserialize_with = "present")]
    pub identity: Option<Identity>,
    /// Keys of a plugin.
    pub kms: Option<KmsConfiguration>,
}

/// Values as they are; it has no settings.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {}

/// Local keys: the first one writes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The keys.
    #[serde(default)]
    pub keys: Vec<Key>,
}

/// A key.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its name, which is stored with each value.
    #[serde(default)]
    pub name: String,
    /// The key itself, in base64.
    #[serde(default)]
    pub secret: String,
}

/// A KMS plugin.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KmsConfiguration {
    /// `v2`. Version 1, which upstream has switched off too, is not spoken.
    #[serde(default = "first_version")]
    pub api_version: String,
    /// Its name, which is stored with each value.
    #[serde(default)]
    pub name: String,
    /// Of version 1 only.
    pub cachesize: Option<i32>,
    /// `unix://` and the path of its socket.
    #[serde(default)]
    pub endpoint: String,
    timeout: Option<String>,
}

impl KmsConfiguration {
    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
            .as_deref()
            .map_or(Some(KMS_TIMEOUT), positive)
            .unwrap_or(KMS_TIMEOUT)
    }
}

impl Key {
    /// The key itself; none when it is not base64.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        // Go's decoder passes over line ends.
        let text: String = self
            .secret
            .chars()
            .filter(|c| !matches!(c, '\r' | '\n'))
            .collect();
        STANDARD.decode(text).ok()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Name: {}, Secret: [REDACTED]", self.name)
    }
}

fn first_version() -> String {
    "v1".to_owned()
}

/// `identity:` with nothing behind it is no provider for upstream; `identity: {}` is.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Identity>, D::Error> {
    Option::deserialize(deserializer)
}

fn positive(text: &str) -> Option<Duration> {
    let nanos = rutter_api::duration::parse_go(text).ok()?;
    (nanos > 0).then(|| Duration::from_nanos(nanos.unsigned_abs()))
}

/// Reads the file.
pub fn read(file: &Path) -> Result<Vec<u8>, ConfigError> {
    let source = match std::fs::read(file) {
        Ok(bytes) if !bytes.is_empty() => return Ok(bytes),
        Ok(_) => std::io::Error::other("it is empty"),
        Err(error) => error,
    };
    Err(ConfigError::Read {
        file: file.display().to_string(),
        source,
    })
}

/// Parses and checks what was read.
pub fn parse(file: &Path, bytes: &[u8]) -> Result<EncryptionConfiguration, ConfigError> {
    let undecodable = |why: String| ConfigError::Decode {
        file: file.display().to_string(),
        why,
    };
    let config: EncryptionConfiguration =
        serde_yaml_ng::from_slice(bytes).map_err(|error| undecodable(error.to_string()))?;
    if config.kind != "EncryptionConfiguration" || config.api_version != "apiserver.config.k8s.io/v1" {
        return Err(undecodable(format!(
            "it is {} of {:?}, not EncryptionConfiguration of \"apiserver.config.k8s.io/v1\"",
            config.kind, config.api_version
        )));
    }
    let wrong = check(&config);
    if wrong.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Invalid(wrong))
    }
}

fn check(config: &EncryptionConfiguration) -> Vec<String> {
    let mut wrong = Vec::new();
    if config.resources.is_empty() {
        wrong.push("resources: Required value: at least one resources is required".to_owned());
    }
    let mut names = HashSet::new();
    for (at, entry) in config.resources.iter().enumerate() {
        let resources = format!("resources[{at}].resources");
        let providers = format!("resources[{at}].providers");
        for (path, empty) in [
            (&resources, entry.resources.is_empty()),
            (&providers, entry.providers.is_empty()),
        ] {
            if empty {
                wrong.push(format!("{path}: Required value: at least one {path} is required"));
            }
        }
        check_overlap(&resources, &entry.resources, &mut wrong);
        for (at, name) in entry.resources.iter().enumerate() {
            if let Some(why) = misnamed(name) {
                wrong.push(format!("{resources}[{at}]: Invalid value: {name:?}: {why}"));
            }
        }
        for (at, provider) in entry.providers.iter().enumerate() {
            check_provider(&format!("{providers}[{at}]"), provider, &mut names, &mut wrong);
        }
    }
    wrong
}

/// The resource and the group of a name in the file.
pub fn split(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}

fn check_overlap(path: &str, names: &[String], wrong: &mut Vec<String>) {
    let (mut twice, mut overlap) = (false, false);
    for (at, one) in names.iter().enumerate() {
        for other in names.iter().skip(at + 1) {
            let ((resource, group), (second, second_group)) = (split(one), split(other));
            let everything = one == "*.*" || other == "*.*";
            let within_group = group == second_group && (resource == "*" || second == "*");
            twice |= one == other;
            overlap |= one != other && (everything || within_group);
        }
    }
    if twice {
        wrong.push(format!(
            "{path}: Invalid value: {names:?}: the same resource cannot be specified multiple times"
        ));
    }
    if overlap {
        wrong.push(format!(
            "{path}: Invalid value: {names:?}: using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked"
        ));
    }
}

fn misnamed(name: &str) -> Option<&'static str> {
    let (resource, group) = split(name);
    if name.chars().any(char::is_uppercase) {
        return Some("resource name should not contain capital letters");
    }
    match (resource, group) {
        _ if name == "*" => {
            Some("use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources")
        }
        ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", "") => {
            Some("resources which do not have REST API/s cannot be encrypted")
        }
        (_, "events.k8s.io") => Some(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
        ),
        (_, "extensions") => Some("'extensions' group has been removed and cannot be used for encryption"),
        (resource, "*") if resource != "*" => {
            Some("encrypting the same resource across groups is not supported")
        }
        _ => None,
    }
}

fn check_provider<'c>(
    path: &str,
    provider: &'c ProviderConfiguration,
    names: &mut HashSet<&'c str>,
    wrong: &mut Vec<String>,
) {
    let given = [
        provider.kms.is_some(),
        provider.aesgcm.is_some(),
        provider.aescbc.is_some(),
        provider.secretbox.is_some(),
        provider.identity.is_some(),
    ];
    match given.iter().filter(|given| **given).count() {
        0 => wrong.push(format!(
            "{path}: Invalid value: provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity"
        )),
        1 => {}
        _ => wrong.push(format!(
            "{path}: Invalid value: more than one provider specified in a single element, should split into different list elements"
        )),
    }
    if let Some(keys) = &provider.aesgcm {
        check_keys(&format!("{path}.aesgcm.keys"), &keys.keys, &[16, 24, 32], wrong);
    }
    if let Some(keys) = &provider.aescbc {
        check_keys(&format!("{path}.aescbc.keys"), &keys.keys, &[16, 24, 32], wrong);
    }
    if let Some(keys) = &provider.secretbox {
        check_keys(&format!("{path}.secretbox.keys"), &keys.keys, &[32], wrong);
    }
    if let Some(kms) = &provider.kms {
        check_kms(&format!("{path}.kms"), kms, names, wrong);
    }
}

fn check_keys(path: &str, keys: &[Key], lengths: &[usize], wrong: &mut Vec<String>) {
    if keys.is_empty() {
        wrong.push(format!("{path}: Required value: at least one keys is required"));
    }
    for (at, key) in keys.iter().enumerate() {
        for (field, text) in [("name", &key.name), ("secret", &key.secret)] {
            if text.is_empty() {
                wrong.push(format!(
                    "{path}[{at}].{field}: Required value: {field} is a mandatory field for a key"
                ));
            }
        }
        if key.secret.is_empty() {
            continue;
        }
        let why = match key.bytes() {
            None => "secrets must be base64 encoded".to_owned(),
            Some(bytes) if !lengths.contains(&bytes.len()) => {
                format!(
                    "secret is not of the expected length, got {}, expected one of {lengths:?}",
                    bytes.len()
                )
            }
            Some(_) => continue,
        };
        wrong.push(format!("{path}[{at}].secret: Invalid value: \"REDACTED\": {why}"));
    }
}

fn check_kms<'c>(
    path: &str,
    kms: &'c KmsConfiguration,
    names: &mut HashSet<&'c str>,
    wrong: &mut Vec<String>,
) {
    let mut say = |field: &str, why: String| wrong.push(format!("{path}.{field}: {why}"));
    let name = &kms.name;
    if name.is_empty() {
        say(
            "name",
            "Required value: name is a mandatory field for a provider".to_owned(),
        );
    } else if name.contains(':') {
        say(
            "name",
            format!("Invalid value: {name:?}: invalid KMS provider name {name}, must not contain ':'"),
        );
    } else if !names.insert(name) {
        say(
            "name",
            format!("Invalid value: {name:?}: duplicate KMS provider name {name}, names must be unique"),
        );
    }
    if kms
        .timeout
        .as_deref()
        .is_some_and(|text| positive(text).is_none())
    {
        say(
            "timeout",
            "Invalid value: timeout should be a positive value".to_owned(),
        );
    }
    let endpoint = &kms.endpoint;
    if endpoint.is_empty() {
        say(
            "endpoint",
            "Required value: endpoint is a mandatory field for a kms".to_owned(),
        );
    } else if !endpoint.starts_with("unix://") {
        let scheme = endpoint.split(':').next().unwrap_or_default();
        say(
            "endpoint",
            format!(
                "Invalid value: {endpoint:?}: unsupported scheme {scheme:?} for KMS provider, only unix is supported"
            ),
        );
    }
    match kms.api_version.as_str() {
        "v2" => {
            if let Some(size) = kms.cachesize {
                say(
                    "cachesize",
                    format!("Invalid value: {size}: cachesize is not supported in v2"),
                );
            }
        }
        "v1" => say(
            "apiVersion",
            "Invalid value: \"v1\": version 1 of KMS is not spoken; use v2".to_owned(),
        ),
        other => say(
            "apiVersion",
            format!(
                "Invalid value: {other:?}: unsupported apiVersion {other} for KMS provider, only v2 is supported"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(resources: &str) -> Vec<String> {
        let text = format!(
            "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources: {resources}"
        );
        match parse(Path::new("file"), text.as_bytes()) {
            Ok(_) => Vec::new(),
            Err(ConfigError::Invalid(wrong)) => wrong,
            Err(other) => vec![other.to_string()],
        }
    }

    #[test]
    fn what_cannot_be_is_said_with_its_path_and_without_secrets() {
        let fine = "[{resources: [secrets, '*.apps'], providers: [{secretbox: {keys: [{name: a, secret: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=}]}}, {identity: {}}]}]";
        assert_eq!(complaints(fine), Vec::<String>::new());
        let kms = "[{resources: ['*.*'], providers: [{kms: {apiVersion: v2, name: k, endpoint: 'unix:///a', timeout: 5s}}]}]";
        assert_eq!(complaints(kms), Vec::<String>::new());
        let of = |resources: &str| format!("[{{resources: [{resources}], providers: [{{identity: {{}}}}]}}]");
        let by = |provider: &str| format!("[{{resources: [a], providers: [{provider}]}}]");
        let cases = [
            ("[]".to_owned(), "resources: Required value"),
            (
                "[{resources: [], providers: []}]".to_owned(),
                "resources[0].resources: Required value",
            ),
            (of("'*'"), "use '*.' to encrypt"),
            (of("Secrets"), "capital letters"),
            (of("secrets, secrets"), "specified multiple times"),
            (of("secrets, '*.'"), "overlapping resources"),
            (of("'*.*', a.b"), "overlapping resources"),
            (of("'secrets.*'"), "across groups"),
            (of("'*.events.k8s.io'"), "Use 'events' instead"),
            (of("a.extensions"), "has been removed"),
            (of("serviceipallocations"), "do not have REST API"),
            (by("{}"), "does not contain any of the expected providers"),
            (
                by("{identity: {}, secretbox: {keys: []}}"),
                "more than one provider",
            ),
            (
                by("{aesgcm: {keys: []}}"),
                "resources[0].providers[0].aesgcm.keys: Required value",
            ),
            (
                by("{aesgcm: {keys: [{secret: eA==}]}}"),
                "keys[0].name: Required value",
            ),
            (
                by("{aescbc: {keys: [{name: a, secret: eA==}]}}"),
                "\"REDACTED\": secret is not of the expected length, got 1",
            ),
            (
                by("{secretbox: {keys: [{name: a, secret: '!'}]}}"),
                "\"REDACTED\": secrets must be base64",
            ),
            (
                by("{kms: {apiVersion: v2, endpoint: 'unix:///a'}}"),
                "kms.name: Required",
            ),
            (
                by("{kms: {apiVersion: v2, name: 'a:b', endpoint: 'unix:///a'}}"),
                "must not contain ':'",
            ),
            (
                by("{kms: {apiVersion: v2, name: a, endpoint: 'http://a'}}"),
                "unsupported scheme \"http\"",
            ),
            (
                by("{kms: {name: a, endpoint: 'unix:///a'}}"),
                "version 1 of KMS is not spoken",
            ),
            (
                by("{kms: {apiVersion: v2, name: a, endpoint: 'unix:///a', timeout: 0s}}"),
                "kms.timeout: Invalid",
            ),
            (
                by("{kms: {apiVersion: v2, name: a, endpoint: 'unix:///a', cachesize: 1}}"),
                "not supported in v2",
            ),
            (by("{rot13: {}}"), "unknown field `rot13`"),
        ];
        for (text, expected) in cases {
            let said = complaints(&text);
            assert!(
                said.iter().any(|said| said.contains(expected)),
                "{text}: {said:?}"
            );
        }
    }
}
