//! `config set-cluster`, `set-context` and `set-credentials`.

use super::config::change;
use crate::cli::{Args, Call, Command, array, bool, text};
use crate::error::{Error, Result, io_text};
use base64::Engine;
use serde_json::{Value, json};

/// `config set-cluster`
pub static SET_CLUSTER: Command = Command {
    name: "set-cluster",
    short: "Set a cluster entry in kubeconfig",
    long: "Set a cluster entry in kubeconfig.\n\n Specifying a name that already exists will merge new fields on top of existing values for those fields.",
    examples:
        "
        # The server's address, and the authority written into the file
        {} config set-cluster dev --server=https://10.0.0.1:6443 --certificate-authority=ca.crt --embed-certs",
    usage: "NAME [--server=server] [--certificate-authority=path/to/certificate/authority] [--insecure-skip-tls-verify=true] [--tls-server-name=example.com]",
    flags: &[&[
        bool("embed-certs", "embed-certs for the cluster entry in kubeconfig"),
        text("proxy-url", "", "proxy-url for the cluster entry in kubeconfig"),
    ]],
    args: Args::Clusters,
    run: Some(|c| Box::pin(cluster(c))),
    ..Command::NEW
};

/// `config set-context`
pub static SET_CONTEXT: Command = Command {
    name: "set-context",
    short: "Set a context entry in kubeconfig",
    long: "Set a context entry in kubeconfig.\n\n Specifying a name that already exists will merge new fields on top of existing values for those fields.",
    examples: "
        # Another namespace for the current context
        {} config set-context --current --namespace=team-a",
    usage: "[NAME | --current] [--cluster=cluster_nickname] [--user=user_nickname] [--namespace=namespace]",
    flags: &[&[bool("current", "Modify the current context")]],
    args: Args::Contexts,
    run: Some(|c| Box::pin(context(c))),
    ..Command::NEW
};

/// `config set-credentials`
pub static SET_CREDENTIALS: Command = Command {
    name: "set-credentials",
    short: "Set a user entry in kubeconfig",
    long: "Set a user entry in kubeconfig.\n\n Specifying a name that already exists will merge new fields on top of existing values.",
    examples: "
        # A client certificate, written into the file
        {} config set-credentials ann --client-certificate=ann.crt --client-key=ann.key --embed-certs

        # A program that gets tokens
        {} config set-credentials ann --exec-api-version=client.authentication.k8s.io/v1 --exec-command=/usr/bin/login",
    usage: "NAME [--client-certificate=path/to/certfile] [--client-key=path/to/keyfile] [--token=bearer_token] [--username=basic_user] [--password=basic_password] [--auth-provider=provider_name] [--auth-provider-arg=key=value] [--exec-command=exec_command] [--exec-api-version=exec_api_version] [--exec-arg=arg] [--exec-env=key=value]",
    flags: &[&[
        text("auth-provider", "", "Auth provider for the user entry in kubeconfig"),
        array("auth-provider-arg", "'key=value' arguments for the auth provider"),
        bool("embed-certs", "Embed client cert/key for the user entry in kubeconfig"),
        text("exec-api-version", "", "API version of the exec credential plugin for the user entry in kubeconfig"),
        array("exec-arg", "New arguments for the exec credential plugin command for the user entry in kubeconfig"),
        text("exec-command", "", "Command for the exec credential plugin for the user entry in kubeconfig"),
        array("exec-env", "'key=value' environment values for the exec credential plugin"),
        text("exec-interactive-mode", "", "InteractiveMode of the exec credentials plugin for the user entry in kubeconfig"),
        bool("exec-provide-cluster-info", "ProvideClusterInfo of the exec credentials plugin for the user entry in kubeconfig"),
    ]],
    args: Args::Users,
    run: Some(|c| Box::pin(credentials(c))),
    ..Command::NEW
};

/// Puts a file's path, or its content, into an entry.
fn file(call: &Call, entry: &mut Value, key: &str, path: &str) -> Result<()> {
    let data_key = format!("{key}-data");
    if let Some(map) = entry.as_object_mut() {
        map.remove(&data_key);
        map.remove(key);
    }
    if call.bool("embed-certs") {
        let bytes = std::fs::read(path).map_err(|e| {
            Error::new(format!(
                "could not read {key} data from {path}: open {path}: {}",
                io_text(&e)
            ))
        })?;
        entry[data_key] = json!(base64::engine::general_purpose::STANDARD.encode(bytes));
    } else {
        let absolute = std::path::absolute(path)?;
        entry[key] = json!(absolute.to_string_lossy());
    }
    Ok(())
}

async fn cluster(call: Call) -> Result<()> {
    let name = call
        .one_arg("NAME")
        .map_err(|_| call.usage(format!("Unexpected args: [{}]", call.args.join(" "))))?
        .to_owned();
    if !call.str("certificate-authority").is_empty() && call.bool("insecure-skip-tls-verify") {
        return Err(Error::new(
            "you cannot specify a certificate authority and insecure mode at the same time",
        ));
    }
    if call.bool("embed-certs") && call.str("certificate-authority").is_empty() {
        return Err(Error::new("you must specify a --certificate-authority to embed"));
    }
    change(&call, "clusters", &name, |entry| {
        for key in ["server", "tls-server-name", "proxy-url"] {
            if let Some(v) = call.flags.given(key) {
                entry[key] = if v.is_empty() { Value::Null } else { json!(v) };
            }
        }
        for key in ["insecure-skip-tls-verify", "disable-compression"] {
            if call.changed(key) {
                entry[key] = if call.bool(key) { json!(true) } else { Value::Null };
                if key == "insecure-skip-tls-verify" && call.bool(key) {
                    entry["certificate-authority"] = Value::Null;
                    entry["certificate-authority-data"] = Value::Null;
                }
            }
        }
        if let Some(path) = call
            .flags
            .given("certificate-authority")
            .filter(|p| !p.is_empty())
        {
            entry["insecure-skip-tls-verify"] = Value::Null;
            file(&call, entry, "certificate-authority", path)?;
        }
        if entry["server"].is_null() {
            entry["server"] = json!("");
        }
        Ok(())
    })?;
    crate::outln!("Cluster {name:?} set.");
    Ok(())
}

async fn context(call: Call) -> Result<()> {
    let current = call.bool("current");
    let name = match (call.args.as_slice(), current) {
        ([one], false) => one.clone(),
        ([], true) => {
            let name = call.ctx.kubeconfig_or_empty()?.current;
            if name.is_empty() {
                return Err(Error::new("no current context is set"));
            }
            name
        }
        (_, true) => return Err(Error::new("you cannot specify both a context name and --current")),
        _ => {
            return Err(call
                .usage("you must specify a non-empty context name or --current")
                .clone());
        }
    };
    let existed = change(&call, "contexts", &name, |entry| {
        for key in ["cluster", "user", "namespace"] {
            if let Some(v) = call.flags.given(key) {
                entry[key] = if v.is_empty() && key == "namespace" {
                    Value::Null
                } else {
                    json!(v)
                };
            } else if key != "namespace" && entry[key].is_null() {
                entry[key] = json!("");
            }
        }
        Ok(())
    })?;
    crate::outln!(
        "Context {name:?} {}.",
        if existed { "modified" } else { "created" }
    );
    Ok(())
}

async fn credentials(call: Call) -> Result<()> {
    let name = call
        .one_arg("NAME")
        .map_err(|_| call.usage(format!("Unexpected args: [{}]", call.args.join(" "))))?
        .to_owned();
    if call.changed("token") && call.changed("username") {
        return Err(Error::new(
            "you cannot specify more than one authentication method at the same time: --token or --username/--password",
        ));
    }
    if call.bool("embed-certs")
        && call.str("client-certificate").is_empty()
        && call.str("client-key").is_empty()
    {
        return Err(Error::new(
            "you must specify a --client-certificate or --client-key to embed",
        ));
    }
    change(&call, "users", &name, |entry| {
        for key in ["client-certificate", "client-key"] {
            if let Some(path) = call.flags.given(key).filter(|p| !p.is_empty()) {
                file(&call, entry, key, path)?;
            }
        }
        for key in ["token", "username", "password"] {
            if let Some(v) = call.flags.given(key) {
                entry[key] = if v.is_empty() { Value::Null } else { json!(v) };
            }
        }
        if let Some(v) = call.flags.given("auth-provider") {
            entry["auth-provider"]["name"] = json!(v);
        }
        for pair in call.list("auth-provider-arg") {
            let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
            entry["auth-provider"]["config"][key] = json!(value);
        }
        exec(&call, entry);
        Ok(())
    })?;
    crate::outln!("User {name:?} set.");
    Ok(())
}

fn exec(call: &Call, entry: &mut Value) {
    for (flag, key) in [
        ("exec-command", "command"),
        ("exec-api-version", "apiVersion"),
        ("exec-interactive-mode", "interactiveMode"),
    ] {
        if let Some(v) = call.flags.given(flag) {
            entry["exec"][key] = json!(v);
        }
    }
    if call.changed("exec-arg") {
        entry["exec"]["args"] = json!(call.list("exec-arg"));
    }
    if call.changed("exec-provide-cluster-info") {
        entry["exec"]["provideClusterInfo"] = json!(call.bool("exec-provide-cluster-info"));
    }
    if call.changed("exec-env") {
        let env: Vec<Value> = call
            .list("exec-env")
            .iter()
            .map(|p| {
                let (n, v) = p.split_once('=').unwrap_or((p, ""));
                json!({"name": n, "value": v})
            })
            .collect();
        entry["exec"]["env"] = json!(env);
    }
    if entry["exec"].is_object() {
        for (key, default) in [
            ("interactiveMode", json!("IfAvailable")),
            ("provideClusterInfo", json!(false)),
            ("env", Value::Null),
            ("args", Value::Null),
        ] {
            if entry["exec"][key].is_null() {
                entry["exec"][key] = default;
            }
        }
    }
}
