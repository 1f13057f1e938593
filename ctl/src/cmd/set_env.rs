//! `set env`: changes and lists environment variables of containers.

use super::set::{containers, pod_spec, update};
use crate::cli::flags::{ALL, DRY_RUN, FILENAME, OUTPUT, RECORD, SELECTOR, TEMPLATE};
use crate::cli::{Args, Call, Command, array, bool, slice, text};
use crate::error::{Error, Result};
use crate::resource::Info;
use crate::resource::builder::Query;
use serde_json::{Value, json};
use std::io::Read;

/// The command.
pub static COMMAND: Command = Command {
    name: "env",
    short: "Update environment variables on a pod template",
    examples: "
        # Set, remove, list
        {} set env deployment/web LEVEL=debug
        {} set env deployment/web LEVEL-
        {} set env pods --all --list

        # Everything in a config map, with a prefix
        {} set env --from=configmap/settings --prefix=APP_ deployment/web",
    usage: "RESOURCE/NAME KEY_1=VAL_1 ... KEY_N=VAL_N",
    flags: &[ALL, DRY_RUN, FILENAME, OUTPUT, RECORD, SELECTOR, TEMPLATE, &[
        text("containers", "*", "The names of containers in the selected pod templates to change - may use wildcards").short('c'),
        array("env", "Specify a key-value pair for an environment variable to set into each container.").short('e'),
        text("field-manager", "kubectl-set", "Name of the manager used to track field ownership."),
        text("from", "", "The name of a resource from which to inject environment variables"),
        slice("keys", "Comma-separated list of keys to import from specified resource"),
        bool("list", "If true, display the environment and any changes in the standard format. this flag will removed when we have kubectl view env."),
        bool("local", "If true, the command will NOT contact api-server but run locally."),
        bool("overwrite", "If true, allow environment to be overwritten, otherwise reject updates that overwrite existing environment.").on(),
        text("prefix", "", "Prefix to append to variable names"),
        bool("resolve", "If true, show secret or configmap references when listing variables"),
    ]],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

fn is_change(arg: &str) -> bool {
    arg.contains('=') || (arg.ends_with('-') && !arg.contains('/')) || arg == "-"
}

/// A name for a variable from a key.
fn variable(prefix: &str, key: &str) -> String {
    let name: String = key
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            }
        })
        .collect();
    format!("{prefix}{}", name.to_uppercase())
}

async fn run(call: Call) -> Result<()> {
    let at = call
        .args
        .iter()
        .position(|a| is_change(a))
        .unwrap_or(call.args.len());
    let resources = call.args.get(..at).unwrap_or(&[]).to_vec();
    let mut words: Vec<String> = call.args.get(at..).unwrap_or(&[]).to_vec();
    words.extend(call.list("env"));
    if resources.is_empty() && call.list("filename").is_empty() {
        return Err(Error::new(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        ));
    }
    let from = call.str("from");
    if words.is_empty() && from.is_empty() && !call.bool("list") {
        return Err(Error::new("at least one environment variable must be provided"));
    }
    let (mut set, mut remove): (Vec<Value>, Vec<String>) = (Vec::new(), Vec::new());
    for word in words {
        if word == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            for line in text
                .lines()
                .filter(|l| !l.trim().is_empty() && !l.starts_with('#'))
            {
                let (k, v) = line
                    .split_once('=')
                    .ok_or_else(|| Error::new(format!("invalid parameter assignment in {line:?}")))?;
                set.push(json!({"name": k, "value": v}));
            }
        } else if let Some((k, v)) = word.split_once('=') {
            set.push(json!({"name": k, "value": v}));
        } else if let Some(k) = word.strip_suffix('-') {
            remove.push(k.to_owned());
        } else {
            return Err(Error::new(format!(
                "environment variables must be of the form key=value, saw {word:?}"
            )));
        }
    }
    if !from.is_empty() {
        set.extend(imported(&call, from).await?);
    }
    if call.bool("list") {
        return list(&call, resources).await;
    }
    let pattern = call.str("containers").to_owned();
    let overwrite = call.bool("overwrite");
    update(&call, resources, "env updated", &mut |object| {
        let name = crate::print::object_name(object);
        let Some(spec) = pod_spec(object) else {
            return Err(Error::new(format!("{name} does not have a pod template")));
        };
        let found = containers(spec, &pattern);
        if found.is_empty() {
            crate::errln!("warning: {name} does not have any containers matching {pattern:?}");
            return Ok(false);
        }
        for c in found {
            if !c["env"].is_array() {
                c["env"] = json!([]);
            }
            let Some(env) = c["env"].as_array_mut() else {
                continue;
            };
            if !overwrite && let Some(clash) = set.iter().find(|s| env.iter().any(|e| e["name"] == s["name"]))
            {
                return Err(Error::new(format!(
                    "'{}' already has a value ({}), and --overwrite is false",
                    clash["name"].as_str().unwrap_or(""),
                    env.iter()
                        .find(|e| e["name"] == clash["name"])
                        .map_or("", |e| e["value"].as_str().unwrap_or(""))
                )));
            }
            env.retain(|e| !remove.iter().any(|r| e["name"] == r.as_str()));
            for new in &set {
                match env.iter_mut().find(|e| e["name"] == new["name"]) {
                    Some(e) => *e = new.clone(),
                    None => env.push(new.clone()),
                }
            }
        }
        Ok(true)
    })
    .await
}

/// Variables that refer to the keys of a config map or a secret.
async fn imported(call: &Call, from: &str) -> Result<Vec<Value>> {
    let source = Query {
        args: vec![from.to_owned()],
        ..Query::default()
    }
    .one(&call.ctx)
    .await?;
    let reference = match source.mapping.kind.as_str() {
        "ConfigMap" => "configMapKeyRef",
        "Secret" => "secretKeyRef",
        other => {
            return Err(Error::new(format!(
                "unsupported resource specified in --from: {other}"
            )));
        }
    };
    let wanted = call.list("keys");
    let prefix = call.str("prefix");
    Ok(source.object["data"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(k, _)| wanted.is_empty() || wanted.contains(k))
        .map(|(k, _)| json!({"name": variable(prefix, k), "valueFrom": {reference: {"key": k, "name": source.name}}}))
        .collect())
}

async fn list(call: &Call, resources: Vec<String>) -> Result<()> {
    let mut query = Query::from_call(call);
    query.args = resources;
    let infos = if call.bool("local") {
        query.local().await?
    } else {
        let (infos, errors) = query.latest(&call.ctx).await?;
        Error::collect(errors)?;
        infos
    };
    let pattern = call.str("containers");
    for Info {
        mapping,
        name,
        mut object,
        namespace,
        ..
    } in infos
    {
        let Some(spec) = pod_spec(&mut object) else {
            continue;
        };
        for c in containers(spec, pattern) {
            crate::outln!(
                "# {} {name}, container {}",
                mapping.kind,
                c["name"].as_str().unwrap_or("")
            );
            for e in c["env"].as_array().into_iter().flatten() {
                let variable = e["name"].as_str().unwrap_or("");
                if e["valueFrom"].is_null() {
                    crate::outln!("{variable}={}", e["value"].as_str().unwrap_or(""));
                    continue;
                }
                let shown = reference(&e["valueFrom"]);
                if call.bool("resolve")
                    && let Some(value) = resolved(call, &namespace, &e["valueFrom"]).await
                {
                    crate::outln!("{variable}={value}");
                } else {
                    crate::outln!("# {variable} from {shown}");
                }
            }
        }
    }
    Ok(())
}

fn reference(from: &Value) -> String {
    let text = |a: &str, b: &str| from[a][b].as_str().unwrap_or("").to_owned();
    if from["configMapKeyRef"].is_object() {
        format!(
            "configmap {}, key {}",
            text("configMapKeyRef", "name"),
            text("configMapKeyRef", "key")
        )
    } else if from["secretKeyRef"].is_object() {
        format!(
            "secret {}, key {}",
            text("secretKeyRef", "name"),
            text("secretKeyRef", "key")
        )
    } else if from["fieldRef"].is_object() {
        format!("field path {}", text("fieldRef", "fieldPath"))
    } else {
        format!("resource field {}", text("resourceFieldRef", "resource"))
    }
}

async fn resolved(call: &Call, namespace: &str, from: &Value) -> Option<String> {
    let rest = call.ctx.rest().await.ok()?;
    let (kind, r) = if from["configMapKeyRef"].is_object() {
        ("configmaps", &from["configMapKeyRef"])
    } else {
        ("secrets", &from["secretKeyRef"])
    };
    let object = rest
        .get(&format!(
            "/api/v1/namespaces/{namespace}/{kind}/{}",
            r["name"].as_str()?
        ))
        .await
        .ok()?;
    let value = object["data"][r["key"].as_str()?].as_str()?.to_owned();
    if kind == "configmaps" {
        return Some(value);
    }
    use base64::Engine;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(value).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_variables() {
        assert_eq!(variable("APP_", "log.level-x"), "APP_LOG_LEVEL_X");
    }
}
