//! The endpoint that a kubeconfig file describes, as the files of webhook authenticators and authorizers and of admission do.

use crate::endpoint::{Authorization, Endpoint, EndpointError};
use crate::tls::{Identity, Trust};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The parts of a kubeconfig that a server's calls go by. Everything else in it is for people's clients.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Kubeconfig {
    current_context: String,
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
    contexts: Vec<NamedContext>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    #[serde(default)]
    cluster: Cluster,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: String,
    certificate_authority_data: String,
    insecure_skip_tls_verify: bool,
    tls_server_name: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: String,
    client_certificate_data: String,
    client_key: String,
    client_key_data: String,
    token: String,
    #[serde(rename = "tokenFile")]
    token_file: String,
    username: String,
    password: String,
    exec: Option<serde::de::IgnoredAny>,
    auth_provider: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    #[serde(default)]
    context: Context,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

fn unusable(file: &Path, why: String) -> EndpointError {
    EndpointError::Kubeconfig {
        file: file.to_owned(),
        why,
    }
}

fn read(file: &Path) -> Result<Kubeconfig, EndpointError> {
    let text = std::fs::read_to_string(file).map_err(|error| unusable(file, error.to_string()))?;
    serde_yaml_ng::from_str(&text).map_err(|error| unusable(file, error.to_string()))
}

/// Reads the current context's cluster and user. Files that it names are relative to its folder, and are read now.
pub fn endpoint_of_kubeconfig(file: &Path) -> Result<Endpoint, EndpointError> {
    let bad = |why: String| unusable(file, why);
    let config = read(file)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let (cluster, user) = current(&config).map_err(bad)?;
    if cluster.server.is_empty() {
        return Err(bad("its cluster has no server".to_owned()));
    }
    let mut endpoint = Endpoint::url(&cluster.server, trust(cluster, folder).map_err(bad)?)?;
    endpoint.server_name = Some(cluster.tls_server_name.clone()).filter(|name| !name.is_empty());
    if let Some(user) = user {
        endpoint.identity = identity(user, folder).map_err(bad)?;
        endpoint.authorization = authorization(user, folder).map_err(bad)?;
    }
    Ok(endpoint)
}

/// Who we are to which servers: the users of a kubeconfig file, each named after the servers it is for, as the files of admission
/// webhooks have it.
#[derive(Debug, Default)]
pub struct Users {
    named: HashMap<String, Credentials>,
    /// The current context's.
    other: Option<Credentials>,
}

#[derive(Clone, Debug)]
struct Credentials {
    identity: Option<Identity>,
    authorization: Option<Authorization>,
}

impl Users {
    /// Reads all users. Files that they name are relative to the file's folder, and are read now.
    pub fn of_kubeconfig(file: &Path) -> Result<Self, EndpointError> {
        let bad = |why: String| unusable(file, why);
        let config = read(file)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let mut users = Self::default();
        for NamedUser { name, user } in &config.users {
            let credentials = Credentials {
                identity: identity(user, folder).map_err(bad)?,
                authorization: authorization(user, folder).map_err(bad)?,
            };
            users.named.insert(name.clone(), credentials);
        }
        let context = config
            .contexts
            .iter()
            .find(|context| !config.current_context.is_empty() && context.name == config.current_context);
        users.other = context.and_then(|context| users.named.get(&context.context.user).cloned());
        Ok(users)
    }

    /// The endpoint with the credentials of the user that is named after it, if any: `host:port`, `*.domain:port`, the same without the
    /// port when that is 443, `*`, and last the current context's.
    pub(crate) fn introduce(&self, endpoint: &mut Endpoint) {
        let Some(credentials) = self.find(endpoint) else {
            return;
        };
        endpoint.identity.clone_from(&credentials.identity);
        endpoint.authorization.clone_from(&credentials.authorization);
    }

    fn find(&self, endpoint: &Endpoint) -> Option<&Credentials> {
        let host = endpoint.url.host().unwrap_or_default();
        let port = endpoint.url.port_u16().unwrap_or(443);
        let with_port = format!("{host}:{port}");
        let mut targets = vec![with_port.as_str()];
        if port == 443 {
            targets.push(host);
        }
        for target in targets {
            if let Some(found) = self.named.get(target) {
                return Some(found);
            }
            for (at, _) in target.match_indices('.') {
                let rest = target.get(at..).unwrap_or_default();
                if let Some(found) = self.named.get(&format!("*{rest}")) {
                    return Some(found);
                }
            }
        }
        self.named.get("*").or(self.other.as_ref())
    }
}

/// The cluster and the user that are meant: the current context's, or the only ones.
fn current(config: &Kubeconfig) -> Result<(&Cluster, Option<&User>), String> {
    let context = match config.current_context.as_str() {
        "" => config.contexts.first().filter(|_| config.contexts.len() == 1),
        name => {
            let found = config.contexts.iter().find(|context| context.name == name);
            Some(found.ok_or_else(|| format!("context {name:?} does not exist"))?)
        }
    };
    let Some(NamedContext { context, .. }) = context else {
        return match config.clusters.as_slice() {
            [only] => Ok((&only.cluster, None)),
            _ => Err("it has no current context".to_owned()),
        };
    };
    let cluster = config.clusters.iter().find(|found| found.name == context.cluster);
    let cluster = cluster.ok_or_else(|| format!("cluster {:?} does not exist", context.cluster))?;
    if context.user.is_empty() {
        return Ok((&cluster.cluster, None));
    }
    let user = config.users.iter().find(|found| found.name == context.user);
    let user = user.ok_or_else(|| format!("user {:?} does not exist", context.user))?;
    Ok((&cluster.cluster, Some(&user.user)))
}

fn trust(cluster: &Cluster, folder: &Path) -> Result<Trust, String> {
    if cluster.insecure_skip_tls_verify {
        return Ok(Trust::Anyone);
    }
    let (inline, file) = (
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
    );
    let pem = data(inline, file, "certificate-authority", folder)?;
    Ok(pem.map_or(Trust::System, Trust::Authorities))
}

fn identity(user: &User, folder: &Path) -> Result<Option<Identity>, String> {
    let (inline, file) = (&user.client_certificate_data, &user.client_certificate);
    let certificate = data(inline, file, "client-certificate", folder)?;
    let key = data(&user.client_key_data, &user.client_key, "client-key", folder)?;
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(Identity { certificate, key })),
        (None, None) => Ok(None),
        _ => Err("client-certificate and client-key belong together".to_owned()),
    }
}

fn authorization(user: &User, folder: &Path) -> Result<Option<Authorization>, String> {
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err("credential plugins are not run by the API server".to_owned());
    }
    Ok(if !user.token.is_empty() {
        Some(Authorization::Bearer(user.token.clone()))
    } else if !user.token_file.is_empty() {
        Some(Authorization::BearerFile(folder.join(&user.token_file)))
    } else if !user.username.is_empty() {
        Some(Authorization::Basic(user.username.clone(), user.password.clone()))
    } else {
        None
    })
}

/// What stands in the file as base64, or in another file.
fn data(inline: &str, file: &str, what: &str, folder: &Path) -> Result<Option<Arc<[u8]>>, String> {
    if !inline.is_empty() {
        let decoded = STANDARD.decode(inline.trim());
        let decoded = decoded.map_err(|error| format!("{what}-data is not valid base64: {error}"))?;
        return Ok(Some(Arc::from(decoded)));
    }
    if file.is_empty() {
        return Ok(None);
    }
    let read = std::fs::read(folder.join(file)).map_err(|error| format!("{what} {file:?}: {error}"))?;
    Ok(Some(Arc::from(read)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_named_most_closely_after_a_server_is_shown_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        let users = |names: &[&str]| {
            let list: Vec<String> = names
                .iter()
                .map(|name| format!("{{name: '{name}', user: {{token: '{name}'}}}}"))
                .collect();
            let text = format!(
                "users: [{}]\ncurrent-context: c\ncontexts: [{{name: c, context: {{user: own}}}}]",
                list.join(", ")
            );
            std::fs::write(&file, text).unwrap();
            Users::of_kubeconfig(&file).unwrap()
        };
        let service = "https://hook.ns.svc:443/x";
        for (names, url, want) in [
            (
                &["hook.ns.svc:443", "hook.ns.svc", "*"][..],
                service,
                Some("hook.ns.svc:443"),
            ),
            (&["hook.ns.svc", "*.ns.svc"], service, Some("hook.ns.svc")),
            (&["*.svc", "*.ns.svc", "*"], service, Some("*.ns.svc")),
            (&["*.svc", "*"], "https://hook.ns.svc:8443/", Some("*")),
            (
                &["*.svc:8443", "*"],
                "https://hook.ns.svc:8443/",
                Some("*.svc:8443"),
            ),
            (&["own"], "https://elsewhere.example/", Some("own")),
            (&["other"], "https://elsewhere.example/", None),
        ] {
            let mut endpoint = Endpoint::url(url, Trust::System).unwrap();
            users(names).introduce(&mut endpoint);
            let want = want.map(|name| Authorization::Bearer(name.to_owned()));
            assert!(endpoint.authorization == want, "{names:?} {url}");
        }
    }
}
