//! How to reach a server: what a kubeconfig file says of it and of the user.
//!
//! Known are embedded and named certificates, tokens and token files, commands that give credentials, other server names, and
//! servers that aren't to be verified. Proxies, passwords and renewal of what runs out aren't: a run is short.

use anyhow::Context as _;
use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Certificates with the key of the first.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// An address and credentials.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What comes before each path: empty, or with a slash before it and none after it.
    pub(crate) prefix: String,
    /// Whom the server's certificate must name, where that isn't the host.
    pub(crate) server_name: Option<String>,
    /// None for any server, whoever vouches for it.
    pub(crate) authorities: Option<Vec<CertificateDer<'static>>>,
    pub(crate) identity: Option<Identity>,
    pub(crate) token: Option<String>,
}

impl Access {
    /// From the current context of a kubeconfig file.
    pub(crate) fn of_kubeconfig(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder).with_context(|| format!("using {}", path.display()))
    }

    fn parse(text: &str, folder: &Path) -> anyhow::Result<Self> {
        let config: Value = serde_yaml_ng::from_str(text)?;
        let context = named(&config, "contexts", &config["current-context"])?["context"].clone();
        let cluster = named(&config, "clusters", &context["cluster"])?["cluster"].clone();
        let user = named(&config, "users", &context["user"])?["user"].clone();
        let server = cluster["server"].as_str().context("the cluster has no server")?;
        let uri: http::Uri = server.parse()?;
        anyhow::ensure!(uri.scheme_str() == Some("https"), "{server} is not https");
        let host = uri.host().context("the server has no host")?;
        let authorities = match (
            material(&cluster, "certificate-authority", folder)?,
            cluster["insecure-skip-tls-verify"].as_bool(),
        ) {
            (_, Some(true)) => None,
            (Some(ca), _) => Some(CertificateDer::pem_slice_iter(&ca).collect::<Result<_, _>>()?),
            (None, _) => Some(rustls_native_certs::load_native_certs().certs),
        };
        let (identity, token) = credentials(&user, folder)?;
        Ok(Self {
            // Brackets are of the address's text, not of the address.
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(443),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            server_name: cluster["tls-server-name"].as_str().map(str::to_owned),
            authorities,
            identity,
            token,
        })
    }
}

fn named<'a>(config: &'a Value, list: &str, name: &Value) -> anyhow::Result<&'a Value> {
    config[list]
        .as_array()
        .into_iter()
        .flatten()
        .find(|entry| &entry["name"] == name)
        .with_context(|| format!("{list} have no {name}"))
}

/// Certificates or a key, given in place or as a file.
fn material(of: &Value, name: &str, folder: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    if let Some(text) = of[format!("{name}-data")].as_str() {
        return Ok(Some(base64::engine::general_purpose::STANDARD.decode(text)?));
    }
    let Some(file) = of[name].as_str() else {
        return Ok(None);
    };
    let path: PathBuf = folder.join(file);
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(bytes))
}

fn credentials(user: &Value, folder: &Path) -> anyhow::Result<(Option<Identity>, Option<String>)> {
    if user["exec"].is_object() {
        return by_command(&user["exec"], folder);
    }
    let certificate = material(user, "client-certificate", folder)?;
    let key = material(user, "client-key", folder)?;
    let token = match (user["token"].as_str(), user["tokenFile"].as_str()) {
        (Some(token), _) => Some(token.to_owned()),
        (None, Some(file)) => {
            let token =
                std::fs::read_to_string(folder.join(file)).with_context(|| format!("reading {file}"))?;
            Some(token.trim().to_owned())
        }
        (None, None) => None,
    };
    Ok((identity(certificate, key)?, token))
}

fn identity(certificate: Option<Vec<u8>>, key: Option<Vec<u8>>) -> anyhow::Result<Option<Identity>> {
    let (Some(certificate), Some(key)) = (certificate, key) else {
        return Ok(None);
    };
    let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>()?;
    Ok(Some((chain, PrivateKeyDer::from_pem_slice(&key)?)))
}

/// What a command says as an `ExecCredential` of `client.authentication.k8s.io`.
fn by_command(exec: &Value, folder: &Path) -> anyhow::Result<(Option<Identity>, Option<String>)> {
    let texts = |list: &str| -> Vec<String> {
        let all = exec[list].as_array().into_iter().flatten();
        all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let command = exec["command"].as_str().context("exec names no command")?;
    // A name with a slash is a file beside the kubeconfig; one without is looked for in PATH.
    let program = match command.contains('/') {
        true => folder.join(command),
        false => PathBuf::from(command),
    };
    let asked =
        json!({"apiVersion": exec["apiVersion"], "kind": "ExecCredential", "spec": {"interactive": false}});
    let mut process = Command::new(&program);
    for variable in exec["env"].as_array().into_iter().flatten() {
        if let (Some(name), Some(value)) = (variable["name"].as_str(), variable["value"].as_str()) {
            process.env(name, value);
        }
    }
    let output = process
        .args(texts("args"))
        .env("KUBERNETES_EXEC_INFO", asked.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {command}"))?;
    anyhow::ensure!(output.status.success(), "{command} ended with {}", output.status);
    let answer: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("reading what {command} says"))?;
    let status = &answer["status"];
    let pem = |name: &str| status[name].as_str().map(|text| text.as_bytes().to_vec());
    let identity = identity(pem("clientCertificateData"), pem("clientKeyData"))?;
    let token = status["token"].as_str().map(str::to_owned);
    anyhow::ensure!(
        identity.is_some() || token.is_some(),
        "{command} gives no credentials"
    );
    Ok((identity, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(cluster: &Value, user: &Value, folder: &Path) -> anyhow::Result<Access> {
        let config = json!({
            "contexts": [
                {"name": "other", "context": {"cluster": "none", "user": "none"}},
                {"name": "this", "context": {"cluster": "c", "user": "u"}},
            ],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "current-context": "this",
        });
        Access::parse(&config.to_string(), folder)
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["someone".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn addresses_have_their_parts() {
        let folder = Path::new("/");
        let insecure = |server: &str| json!({"server": server, "insecure-skip-tls-verify": true, "tls-server-name": "n"});
        let access = parse(&insecure("https://[::1]:6443/proxy/a/"), &json!({}), folder).unwrap();
        assert_eq!((access.host.as_str(), access.port), ("::1", 6443));
        assert_eq!(
            (access.prefix.as_str(), access.server_name.as_deref()),
            ("/proxy/a", Some("n"))
        );
        assert!(access.authorities.is_none() && access.identity.is_none() && access.token.is_none());
        let plain = parse(&insecure("https://host"), &json!({}), folder).unwrap();
        assert_eq!((plain.port, plain.prefix.as_str()), (443, ""));
        assert!(parse(&insecure("http://host"), &json!({}), folder).is_err());
    }

    #[test]
    fn credentials_are_read_in_place_from_files_and_from_commands() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair();
        for (name, text) in [("c.pem", &certificate), ("k.pem", &key)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::fs::write(folder.path().join("token"), "from-a-file\n").unwrap();
        let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let cluster = json!({"server": "https://host", "certificate-authority-data": encoded(&certificate)});
        let read = |user: Value| parse(&cluster, &user, folder.path());
        let in_files = read(json!({"client-certificate": "c.pem", "client-key": "k.pem"})).unwrap();
        let in_place =
            read(json!({"client-certificate-data": encoded(&certificate), "client-key-data": encoded(&key)}))
                .unwrap();
        assert_eq!(in_files.identity.unwrap().0, in_place.identity.unwrap().0);
        assert_eq!(in_place.authorities.unwrap().len(), 1);
        let by_file = read(json!({"tokenFile": "token"})).unwrap();
        assert_eq!(by_file.token.as_deref(), Some("from-a-file"));
        let told = r#"echo "{\"status\": {\"token\": \"$WHOSE-$1\"}}""#;
        let by_command = read(
            json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh",
            "args": ["-c", told, "sh", "token"], "env": [{"name": "WHOSE", "value": "my"}]}}),
        )
        .unwrap();
        assert_eq!(by_command.token.as_deref(), Some("my-token"));
        for script in ["exit 1", "echo nothing", "echo '{\"status\": {}}'"] {
            let user = json!({"exec": {"command": "sh", "args": ["-c", script]}});
            assert!(read(user).is_err(), "{script}");
        }
        assert!(read(json!({"client-certificate": "none", "client-key": "k.pem"})).is_err());
    }
}
