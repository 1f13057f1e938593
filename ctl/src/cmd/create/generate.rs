//! What all generators share: sending or printing the object they made.

use crate::cli::Call;
use crate::cmd::common::{DryRun, Write, annotate_applied, mapping_of};
use crate::discovery::Mapping;
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::Info;
use serde_json::{Value, json};
use std::rc::Rc;

/// The name, the only argument.
pub(super) fn name(call: &Call) -> Result<String> {
    let args = call.before_dash();
    match args {
        [one] => Ok(one.clone()),
        _ => Err(call.usage(format!("exactly one NAME is required, got {}", args.len()))),
    }
}

/// Fails unless the flags were given.
pub(super) fn required(call: &Call, flags: &[&str]) -> Result<()> {
    let missing: Vec<String> = flags
        .iter()
        .filter(|f| !call.changed(f))
        .map(|f| format!("\"{f}\""))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "required flag(s) {} not set",
        missing.join(", ")
    )))
}

/// Sends the object, or prints it for a dry run. `failing` is what a refusal is introduced with.
pub(super) async fn finish(call: &Call, mut object: Value, namespaced: bool, failing: &str) -> Result<()> {
    let write = Write::from_call(call, "kubectl-create")?;
    let printer = Printer::from_call(call)?;
    let namespace = if namespaced {
        call.ctx.namespace()?
    } else {
        String::new()
    };
    if namespaced && (call.ctx.explicit_namespace() || write.dry != DryRun::Client) {
        object["metadata"]["namespace"] = Value::from(namespace.clone());
    }
    if call.flags.opt_bool("save-config") {
        annotate_applied(&mut object);
    }
    let api_version = object["apiVersion"].as_str().unwrap_or("").to_owned();
    let kind = object["kind"].as_str().unwrap_or("").to_owned();
    // A dry run in the client needs no server to name the kind.
    let mapping = if write.dry == DryRun::Client {
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        Rc::new(Mapping {
            group: group.to_owned(),
            version: version.to_owned(),
            kind,
            namespaced,
            ..Mapping::default()
        })
    } else {
        mapping_of(&*call.ctx.discovery().await?, &api_version, &kind)?
    };
    let mut info = Info {
        mapping,
        namespace,
        name: object["metadata"]["name"].as_str().unwrap_or("").to_owned(),
        object,
        source: String::new(),
    };
    if write.dry != DryRun::Client {
        let rest = call.ctx.rest().await?;
        info.object = write
            .create(&rest, &info)
            .await
            .map_err(|e| refusal(e, failing))?;
    }
    printer.result(&info, &format!("created{}", write.dry.suffix()))
}

fn refusal(e: Error, failing: &str) -> Error {
    match e {
        Error::Status(s) if !failing.is_empty() => Error::new(format!("{failing} {}", s.message)),
        other => other,
    }
}

/// Object and type metadata.
pub(super) fn object(api_version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}})
}

/// The hash that `--append-hash` adds to a name.
pub(super) fn hash(value: &Value) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(crate::print::json::compact(value).as_bytes());
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    hex.chars()
        .take(10)
        .map(|c| match c {
            '0' => 'g',
            '1' => 'h',
            '3' => 'k',
            'a' => 'm',
            'e' => 't',
            c => c,
        })
        .collect()
}
