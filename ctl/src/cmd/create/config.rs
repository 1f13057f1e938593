//! `create namespace`, `serviceaccount`, `configmap` and `secret`.

use super::generate::{finish, hash, name, object};
use crate::cli::flags::{DRY_RUN, MANAGER_CREATE, OUTPUT, SAVE_CONFIG, TEMPLATE, VALIDATE};
use crate::cli::{Call, Command, array, bool, text};
use crate::error::{Error, Result, io_text};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::path::Path;

/// `create namespace`
pub static NAMESPACE: Command = Command {
    name: "namespace",
    aliases: &["ns"],
    short: "Create a namespace with the specified name",
    examples: "
        # A namespace
        {} create namespace team-a",
    usage: "NAME [--dry-run=server|client|none]",
    flags: &[DRY_RUN, MANAGER_CREATE, OUTPUT, SAVE_CONFIG, TEMPLATE, VALIDATE],
    run: Some(|c| Box::pin(namespace(c))),
    ..Command::NEW
};

/// `create serviceaccount`
pub static SERVICEACCOUNT: Command = Command {
    name: "serviceaccount",
    aliases: &["sa"],
    short: "Create a service account with the specified name",
    examples: "
        # A service account
        {} create serviceaccount builder",
    usage: "NAME [--dry-run=server|client|none]",
    flags: &[DRY_RUN, MANAGER_CREATE, OUTPUT, SAVE_CONFIG, TEMPLATE, VALIDATE],
    run: Some(|c| Box::pin(serviceaccount(c))),
    ..Command::NEW
};

const FROM: &[crate::cli::Flag] = &[
    bool("append-hash", "Append a hash of the object to its name."),
    array(
        "from-env-file",
        "Specify the path to a file to read lines of key=val pairs to create the object.",
    ),
    array(
        "from-file",
        "Key file can be specified using its file path, in which case file basename will be used as the key, or optionally with a key and file path, in which case the given key will be used.  Specifying a directory will iterate each named file in the directory whose basename is a valid key.",
    ),
    array(
        "from-literal",
        "Specify a key and literal value to insert (i.e. mykey=somevalue)",
    ),
];

/// `create configmap`
pub static CONFIGMAP: Command = Command {
    name: "configmap",
    aliases: &["cm"],
    short: "Create a config map from a local file, directory or literal value",
    examples: "
        # From files, each a key
        {} create configmap settings --from-file=conf/
        {} create configmap settings --from-file=app.ini=conf/prod.ini

        # From values on the command line or in a file of assignments
        {} create configmap settings --from-literal=level=debug --from-env-file=app.env",
    usage: "NAME [--from-file=[key=]source] [--from-literal=key1=value1] [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        FROM,
    ],
    run: Some(|c| Box::pin(configmap(c))),
    ..Command::NEW
};

/// `create secret`
pub static SECRET: Command = Command {
    name: "secret",
    short: "Create a secret using a specified subcommand",
    long: "Create a secret with specified type.\n\n A docker-registry type secret is for accessing a container registry.\n\n A generic type secret indicate an Opaque secret type.\n\n A tls type secret holds TLS certificate and its associated key.",
    usage: "(docker-registry | generic | tls)",
    subs: &[&DOCKER, &GENERIC, &TLS],
    ..Command::NEW
};

static DOCKER: Command = Command {
    name: "docker-registry",
    short: "Create a secret for use with a Docker registry",
    examples: "
        # Credentials of a registry
        {} create secret docker-registry reg --docker-server=registry.example.com --docker-username=u --docker-password=p",
    usage: "NAME --docker-username=user --docker-password=password --docker-email=email [--docker-server=string] [--from-file=[key=]source] [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN, MANAGER_CREATE, OUTPUT, SAVE_CONFIG, TEMPLATE, VALIDATE,
        &[
            bool("append-hash", "Append a hash of the secret to its name."),
            text("docker-email", "", "Email for Docker registry"),
            text("docker-password", "", "Password for Docker registry authentication"),
            text("docker-server", "https://index.docker.io/v1/", "Server location for Docker registry"),
            text("docker-username", "", "Username for Docker registry authentication"),
            array("from-file", "Key files can be specified using their file path, in which case a default name of .dockerconfigjson will be given to them, or optionally with a name and file path, in which case the given name will be used."),
        ],
    ],
    run: Some(|c| Box::pin(docker(c))),
    ..Command::NEW
};

static GENERIC: Command = Command {
    name: "generic",
    short: "Create a secret from a local file, directory, or literal value",
    examples: "
        # From a file and from a value
        {} create secret generic keys --from-file=id_rsa --from-literal=password=s3cret",
    usage: "NAME [--type=string] [--from-file=[key=]source] [--from-literal=key1=value1] [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        FROM,
        &[text("type", "", "The type of secret to create")],
    ],
    run: Some(|c| Box::pin(generic(c))),
    ..Command::NEW
};

static TLS: Command = Command {
    name: "tls",
    short: "Create a TLS secret",
    examples: "
        # A certificate with its key
        {} create secret tls web --cert=web.crt --key=web.key",
    usage: "NAME --cert=path/to/cert/file --key=path/to/key/file [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        &[
            bool("append-hash", "Append a hash of the secret to its name."),
            text("cert", "", "Path to PEM encoded public key certificate."),
            text(
                "key",
                "",
                "Path to private key associated with given certificate.",
            ),
        ],
    ],
    run: Some(|c| Box::pin(tls(c))),
    ..Command::NEW
};

async fn namespace(call: Call) -> Result<()> {
    let mut out = object("v1", "Namespace", &name(&call)?);
    out["spec"] = json!({});
    out["status"] = json!({});
    finish(&call, out, false, "").await
}

async fn serviceaccount(call: Call) -> Result<()> {
    let out = object("v1", "ServiceAccount", &name(&call)?);
    finish(&call, out, true, "failed to create serviceaccount:").await
}

/// Keys and contents that the `--from-*` flags name.
fn contents(call: &Call, default_key: Option<&str>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut out: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |key: String, value: Vec<u8>, what: &str| -> Result<()> {
        if key.is_empty()
            || key.len() > 253
            || !key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            || key == "."
            || key == ".."
        {
            return Err(Error::new(format!(
                "{key:?} is not valid key name for a {what}: a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
            )));
        }
        if out.iter().any(|(k, _)| *k == key) {
            return Err(Error::new(format!(
                "cannot add key \"{key}\", another key by that name already exists in Data"
            )));
        }
        out.push((key, value));
        Ok(())
    };
    let what = if call.path.contains("secret") {
        "Secret"
    } else {
        "ConfigMap"
    };
    if call.flags.has("from-literal") {
        for literal in call.list("from-literal") {
            let Some((key, value)) = literal.split_once('=').filter(|(k, _)| !k.is_empty()) else {
                return Err(Error::new(format!(
                    "invalid literal source {literal}, expected key=value"
                )));
            };
            let value = value
                .strip_prefix('"')
                .and_then(|v| v.strip_suffix('"'))
                .unwrap_or(value);
            add(key.to_owned(), value.as_bytes().to_vec(), what)?;
        }
    }
    for source in call.list("from-file") {
        let (key, path) = match source.split_once('=') {
            Some(("", p)) => return Err(Error::new(format!("key name for file path {p} missing"))),
            Some((k, "")) => return Err(Error::new(format!("file path for key name {k} missing"))),
            Some((_, p)) if p.contains('=') => {
                return Err(Error::new("key names or file paths cannot contain '='"));
            }
            Some((k, p)) => (Some(k.to_owned()), p.to_owned()),
            None => (None, source.clone()),
        };
        let path = Path::new(&path);
        let problem =
            |e: &std::io::Error| Error::new(format!("error reading {}: {}", path.display(), io_text(e)));
        let metadata = std::fs::metadata(path).map_err(|e| problem(&e))?;
        if metadata.is_dir() {
            if key.is_some() {
                return Err(Error::new("cannot give a key name for a directory path"));
            }
            let mut files: Vec<_> = std::fs::read_dir(path)
                .map_err(|e| problem(&e))?
                .filter_map(|e| e.ok())
                .collect();
            files.sort_by_key(std::fs::DirEntry::file_name);
            for file in files {
                let name = file.file_name().to_string_lossy().into_owned();
                let usable = name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
                if file.path().is_file() && usable {
                    add(name, std::fs::read(file.path())?, what)?;
                }
            }
            continue;
        }
        let key = key.or_else(|| default_key.map(str::to_owned)).unwrap_or_else(|| {
            path.file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default()
        });
        add(key, std::fs::read(path).map_err(|e| problem(&e))?, what)?;
    }
    if call.flags.has("from-env-file") {
        let files = call.list("from-env-file");
        if !files.is_empty() && (call.changed("from-file") || call.changed("from-literal")) {
            return Err(Error::new(
                "from-env-file cannot be combined with from-file or from-literal",
            ));
        }
        for path in files {
            let text = std::fs::read_to_string(&path)
                .map_err(|e| Error::new(format!("error reading {path}: {}", io_text(&e))))?;
            for line in text.trim_start_matches('\u{feff}').lines() {
                let line = line.trim_start();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let (key, value) = match line.split_once('=') {
                    Some((k, v)) => (k.to_owned(), v.to_owned()),
                    None => (line.to_owned(), std::env::var(line).unwrap_or_default()),
                };
                add(key, value.into_bytes(), what)?;
            }
        }
    }
    Ok(out)
}

async fn configmap(call: Call) -> Result<()> {
    let name = name(&call)?;
    let mut out = object("v1", "ConfigMap", &name);
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (key, value) in contents(&call, None)? {
        match String::from_utf8(value) {
            Ok(text) => data.insert(key, Value::from(text)),
            Err(e) => binary.insert(key, Value::from(STANDARD.encode(e.as_bytes()))),
        };
    }
    if call.bool("append-hash") {
        let mut hashed = json!({"kind": "ConfigMap", "name": name, "data": if data.is_empty() { Value::Null } else { json!(data) }});
        if !binary.is_empty() {
            hashed["binaryData"] = json!(binary);
        }
        out["metadata"]["name"] = Value::from(format!("{name}-{}", hash(&hashed)));
    }
    if !data.is_empty() {
        out["data"] = Value::Object(data);
    }
    if !binary.is_empty() {
        out["binaryData"] = Value::Object(binary);
    }
    finish(&call, out, true, "failed to create configmap:").await
}

async fn secret(call: &Call, name: String, data: Map<String, Value>, kind: &str) -> Result<()> {
    let mut out = object("v1", "Secret", &name);
    if call.bool("append-hash") {
        let hashed = json!({"kind": "Secret", "type": kind, "name": name, "data": if data.is_empty() { Value::Null } else { json!(data) }});
        out["metadata"]["name"] = Value::from(format!("{name}-{}", hash(&hashed)));
    }
    if !data.is_empty() {
        out["data"] = Value::Object(data);
    }
    if !kind.is_empty() {
        out["type"] = Value::from(kind);
    }
    finish(call, out, true, "failed to create secret").await
}

async fn generic(call: Call) -> Result<()> {
    let name = name(&call)?;
    let data = contents(&call, None)?
        .into_iter()
        .map(|(k, v)| (k, Value::from(STANDARD.encode(v))))
        .collect();
    let kind = call.str("type").to_owned();
    secret(&call, name, data, &kind).await
}

async fn tls(call: Call) -> Result<()> {
    let name = name(&call)?;
    let (cert, key) = (call.str("cert"), call.str("key"));
    if cert.is_empty() || key.is_empty() {
        return Err(Error::new("key and cert must be specified"));
    }
    let read = |path: &str| {
        std::fs::read(path)
            .map_err(|e| Error::new(format!("Cannot read file {path}, open {path}: {}", io_text(&e))))
    };
    let (cert_pem, key_pem) = (read(cert)?, read(key)?);
    check_pair(&cert_pem, &key_pem)?;
    let mut data = Map::new();
    data.insert("tls.crt".to_owned(), Value::from(STANDARD.encode(cert_pem)));
    data.insert("tls.key".to_owned(), Value::from(STANDARD.encode(key_pem)));
    secret(&call, name, data, "kubernetes.io/tls").await
}

/// The key must be the certificate's.
fn check_pair(cert: &[u8], key: &[u8]) -> Result<()> {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let certs: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert)
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Error::new("tls: failed to find any PEM data in certificate input"))?;
    if certs.is_empty() {
        return Err(Error::new(
            "tls: failed to find any PEM data in certificate input",
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| Error::new("tls: failed to find any PEM data in key input"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    rustls::sign::CertifiedKey::from_der(certs, key, &provider).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => Error::new("tls: private key does not match public key"),
        other => Error::new(format!("tls: {other}")),
    })?;
    Ok(())
}

async fn docker(call: Call) -> Result<()> {
    let name = name(&call)?;
    let mut data = Map::new();
    let files = call.list("from-file");
    if files.is_empty() {
        let (server, user, password, email) = (
            call.str("docker-server"),
            call.str("docker-username"),
            call.str("docker-password"),
            call.str("docker-email"),
        );
        if user.is_empty() || password.is_empty() {
            return Err(Error::new(
                "either --from-file or the combination of --docker-username, --docker-password and --docker-server is required",
            ));
        }
        let mut entry = format!(
            "{{\"username\":{},\"password\":{}",
            crate::print::json::compact(&json!(user)),
            crate::print::json::compact(&json!(password))
        );
        if !email.is_empty() {
            entry.push_str(&format!(
                ",\"email\":{}",
                crate::print::json::compact(&json!(email))
            ));
        }
        entry.push_str(&format!(
            ",\"auth\":\"{}\"}}",
            STANDARD.encode(format!("{user}:{password}"))
        ));
        let text = format!(
            "{{\"auths\":{{{}:{entry}}}}}",
            crate::print::json::compact(&json!(server))
        );
        data.insert(".dockerconfigjson".to_owned(), Value::from(STANDARD.encode(text)));
    } else {
        for (key, value) in contents(&call, Some(".dockerconfigjson"))? {
            data.insert(key, Value::from(STANDARD.encode(value)));
        }
    }
    secret(&call, name, data, "kubernetes.io/dockerconfigjson").await
}
