//! Registry credentials: read from pull secrets and Docker configuration files, and matched to images. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use rutter_proto::cri::AuthConfig;
use serde_json::Value;

/// Credentials for the registries that a pattern names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pattern: String,
    auth: AuthConfig,
}

/// What a pull secret holds.
pub(crate) fn from_secret(secret: &Secret) -> Vec<Entry> {
    let data = |key: &str| {
        secret
            .data
            .as_ref()?
            .get(key)
            .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
    };
    if let Some(text) = data(".dockerconfigjson") {
        return from_config(&text);
    }
    data(".dockercfg")
        .and_then(|text| serde_json::from_str(&text).ok())
        .map(|v| entries(&v))
        .unwrap_or_default()
}

/// What a Docker configuration file holds.
pub(crate) fn from_config(text: &str) -> Vec<Entry> {
    serde_json::from_str::<Value>(text)
        .map(|v| entries(v.get("auths").unwrap_or(&Value::Null)))
        .unwrap_or_default()
}

fn entries(auths: &Value) -> Vec<Entry> {
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    auths
        .as_object()
        .into_iter()
        .flatten()
        .map(|(registry, own)| {
            let mut auth = AuthConfig {
                username: text(own, "username"),
                password: text(own, "password"),
                identity_token: text(own, "identitytoken"),
                registry_token: text(own, "registrytoken"),
                ..AuthConfig::default()
            };
            let combined = STANDARD
                .decode(text(own, "auth"))
                .ok()
                .and_then(|b| String::from_utf8(b).ok());
            if let Some((user, password)) = combined.as_deref().and_then(|c| c.split_once(':')) {
                auth.username = user.to_owned();
                auth.password = password.trim_end_matches('\0').to_owned();
            }
            let pattern = registry
                .trim_start_matches("https://")
                .trim_start_matches("http://")
                .trim_end_matches('/');
            let pattern = pattern
                .strip_suffix("/v1")
                .or_else(|| pattern.strip_suffix("/v2"))
                .unwrap_or(pattern);
            Entry {
                pattern: pattern.to_owned(),
                auth,
            }
        })
        .collect()
}

/// The credentials to try for an image, the closest match first.
pub(crate) fn for_image(image: &str, keyring: &[Entry]) -> Vec<AuthConfig> {
    let name = image.split('@').next().unwrap_or_default();
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => ("docker.io", name),
    };
    let mut found: Vec<(usize, &AuthConfig)> = keyring
        .iter()
        .filter(|e| matches(&e.pattern, host, path))
        .map(|e| (e.pattern.len(), &e.auth))
        .collect();
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth.clone()).collect()
}

fn matches(pattern: &str, host: &str, path: &str) -> bool {
    let (own_host, own_path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let own_host = if matches!(own_host, "index.docker.io" | "registry-1.docker.io") {
        "docker.io"
    } else {
        own_host
    };
    let (own_name, own_port) = own_host.split_once(':').unwrap_or((own_host, ""));
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let own_parts: Vec<&str> = own_name.split('.').collect();
    let parts: Vec<&str> = name.split('.').collect();
    own_port == port
        && own_parts.len() == parts.len()
        && own_parts.iter().zip(&parts).all(|(own, part)| glob(own, part))
        && (own_path.is_empty() || path.starts_with(own_path))
}

/// Matches one part of a host name, where `*` stands for anything.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        last = Some(part);
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    match last {
        None => rest.is_empty(),
        Some(part) => text.ends_with(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_registry_wins() {
        let auth = STANDARD.encode("me:secret");
        let config = format!(
            r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{auth}"}}, "*.example.com": {{"username": "a"}},
                "reg.example.com/team": {{"username": "b"}}, "localhost:5000": {{"username": "c"}}}}}}"#
        );
        let ring = from_config(&config);
        let users = |image: &str| {
            for_image(image, &ring)
                .into_iter()
                .map(|a| a.username)
                .collect::<Vec<_>>()
        };
        assert_eq!(users("nginx"), ["me"]);
        assert_eq!(users("reg.example.com/team/app:1"), ["b", "a"]);
        assert_eq!(users("reg.example.com/other"), ["a"]);
        assert_eq!(users("localhost:5000/x"), ["c"]);
        assert!(users("example.org/x").is_empty());
    }
}
