//! `diff`: what `apply` would change.

use super::apply::make_patch;
use super::common::{DryRun, Write, last_applied_text};
use crate::cli::flags::{FILENAME, SELECTOR};
use crate::cli::{Call, Command, bool, int, slice, text};
use crate::error::{Error, Result};
use crate::print::{without_managed, yaml};
use crate::resource::Info;
use crate::resource::builder::{Query, Target};
use crate::rest::{Rest, patch, with_query};
use futures::StreamExt;
use serde_json::{Value, json};

/// The command.
pub static COMMAND: Command = Command {
    name: "diff",
    short: "Diff the live version against a would-be applied version",
    long: "Diff configurations specified by file name or stdin between the current online configuration, and the configuration as it would be if applied.\n\n The output is always YAML.\n\n The RCTL_EXTERNAL_DIFF or KUBECTL_EXTERNAL_DIFF environment variable can be used to select your own diff command. Users can use external commands with params too.\n\n Exit status: 0 No differences were found. 1 Differences were found. >1 the command or diff failed with an error.",
    examples: "
        # Of a manifest, of what another program writes
        {} diff -f deployment.yaml
        cat deployment.yaml | {} diff -f -",
    usage: "-f FILENAME",
    flags: &[
        FILENAME,
        SELECTOR,
        &[
            int(
                "concurrency",
                "1",
                "Number of objects to process in parallel when diffing against the live version. Larger number = faster, but more memory, I/O and CPU over that shorter period of time.",
            ),
            text(
                "field-manager",
                "kubectl-client-side-apply",
                "Name of the manager used to track field ownership.",
            ),
            bool(
                "force-conflicts",
                "If true, server-side apply will force the changes against conflicts.",
            ),
            bool(
                "prune",
                "Include resources that would be deleted by pruning. Can be used with -l and default shows all resources would be pruned",
            ),
            slice(
                "prune-allowlist",
                "Overwrite the default allowlist with <group/version/kind> for --prune",
            ),
            bool(
                "server-side",
                "If true, apply runs in the server instead of the client.",
            ),
            bool(
                "show-managed-fields",
                "If true, include managed fields in the diff.",
            ),
        ],
    ],
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    match differences(&call).await {
        Ok(0) => Ok(()),
        Ok(code) => Err(Error::Exit(code)),
        // One means that there are differences, so failures are told by a larger code.
        Err(e) => Err(Error::Code(e.code().max(1) + 1, e.report())),
    }
}

/// The object after the change that apply would make.
async fn merged(call: &Call, rest: &Rest, info: &Info, live: Option<&Value>) -> Result<Value> {
    let write = Write {
        dry: DryRun::Server,
        manager: call
            .flags
            .given("field-manager")
            .unwrap_or("kubectl-client-side-apply")
            .to_owned(),
        validation: "",
    };
    if call.bool("server-side") {
        let mut params = write.params();
        params.retain(|(k, _)| *k != "fieldManager");
        params.push((
            "fieldManager",
            call.flags.given("field-manager").unwrap_or("kubectl").to_owned(),
        ));
        params.push(("force", call.bool("force-conflicts").to_string()));
        return rest
            .patch(
                &with_query(&info.path(), &params),
                patch::APPLY,
                serde_json::to_vec(&info.object)?,
            )
            .await;
    }
    match live {
        None => write.create(rest, info).await,
        Some(live) => {
            // As apply sends it, but for the annotation: what is applied is not remembered here.
            let manifest: Value = serde_json::from_str(&last_applied_text(&info.object))?;
            let (mut body, kind) = make_patch(call, info, &manifest, live).await?;
            body["metadata"]["resourceVersion"] = json!(live["metadata"]["resourceVersion"]);
            write.patch(rest, info, "", kind, &body).await
        }
    }
}

/// The object as it is shown: no noise, and secrets as stars that show only whether they changed.
fn shown(object: &Value, keep_managed: bool, hide: Option<&Value>) -> Value {
    let mut out = if keep_managed {
        object.clone()
    } else {
        without_managed(object)
    };
    if let Some(other) = hide {
        let other = other["data"].clone();
        if let Some(data) = out["data"].as_object_mut() {
            for (key, value) in data.iter_mut() {
                let changed = other.get(key).is_some_and(|o| o != value);
                *value = json!(if changed { "*** (changed)" } else { "***" });
            }
        }
        if let Some(annotations) = out["metadata"]["annotations"].as_object_mut() {
            annotations.remove(super::common::LAST_APPLIED);
        }
    }
    out
}

/// The name that an object's two files have.
fn file_name(info: &Info) -> String {
    format!(
        "{}.{}.{}.{}",
        info.mapping.api_version().replace('/', "."),
        info.mapping.kind,
        info.namespace,
        info.name
    )
}

/// An object as it is, if it is, and as it would be.
async fn compare<'i>(call: &Call, rest: &Rest, info: &'i Info) -> Result<(&'i Info, Option<Value>, Value)> {
    let live = match rest.get(&info.path()).await {
        Ok(o) => Some(o),
        Err(e) if e.is_not_found() => None,
        Err(e) => return Err(e),
    };
    let new = merged(call, rest, info, live.as_ref()).await?;
    Ok((info, live, new))
}

async fn differences(call: &Call) -> Result<i32> {
    if call.bool("force-conflicts") && !call.bool("server-side") {
        return Err(Error::new("--force-conflicts only works with --server-side"));
    }
    let query = Query::from_call(call);
    if !query.has_files() {
        return Err(Error::new("must specify one of -f and -k"));
    }
    let targets = query.targets(&call.ctx).await?;
    Error::collect(targets.errors)?;
    let selector = if query.selector.is_empty() {
        None
    } else {
        Some(rutter_api::LabelSelector::parse(&query.selector).map_err(|e| Error::new(e.to_string()))?)
    };
    let rest = call.ctx.rest().await?;
    let (before, after) = (
        tempfile::Builder::new().prefix("LIVE-").tempdir()?,
        tempfile::Builder::new().prefix("MERGED-").tempdir()?,
    );
    let infos: Vec<Info> = targets
        .items
        .into_iter()
        .filter_map(|t| match t {
            Target::Object(info) => Some(info),
            _ => None,
        })
        .filter(|i| selector.as_ref().is_none_or(|s| s.matches_object(&i.object)))
        .collect();
    let parallel = usize::try_from(call.flags.int("concurrency")).unwrap_or(1).max(1);
    let mut compared =
        futures::stream::iter(infos.iter().map(|info| compare(call, &rest, info))).buffered(parallel);
    let mut present: Vec<Info> = Vec::new();
    let keep = call.bool("show-managed-fields");
    while let Some((info, live, new)) = compared.next().await.transpose()? {
        let secret = info.mapping.is("", "secrets");
        let name = file_name(info);
        let old = live.as_ref().map_or_else(String::new, |old| {
            yaml::to_string(&shown(old, keep, secret.then_some(&new)))
        });
        std::fs::write(before.path().join(&name), old)?;
        let other = live.clone().unwrap_or(Value::Null);
        std::fs::write(
            after.path().join(&name),
            yaml::to_string(&shown(&new, keep, secret.then_some(&other))),
        )?;
        present.push(info.with(live.unwrap_or(Value::Null)));
    }
    if call.bool("prune") {
        for info in super::prune::candidates(call, &query.selector, &present).await? {
            let secret = info.mapping.is("", "secrets");
            let old = shown(&info.object, keep, secret.then_some(&Value::Null));
            std::fs::write(before.path().join(file_name(&info)), yaml::to_string(&old))?;
        }
    }
    let program = ["RCTL_EXTERNAL_DIFF", "KUBECTL_EXTERNAL_DIFF"]
        .iter()
        .find_map(|v| std::env::var(v).ok().filter(|p| !p.is_empty()))
        .unwrap_or_else(|| "diff -u -N".to_owned());
    let mut words = program.split_whitespace();
    let status = std::process::Command::new(words.next().unwrap_or("diff"))
        .args(words)
        .arg(before.path())
        .arg(after.path())
        .status()
        .map_err(|e| Error::new(format!("failed to run {:?}: {e}", program)))?;
    let code = status.code().unwrap_or(2);
    if code > 1 {
        return Err(Error::new(format!("exit status {code}")));
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_show_only_that_they_changed() {
        let (a, b) = (
            json!({"data": {"x": "1", "y": "1"}}),
            json!({"data": {"x": "2", "y": "1"}}),
        );
        assert_eq!(
            shown(&a, false, Some(&b))["data"],
            json!({"x": "*** (changed)", "y": "***"})
        );
    }
}
