//! `delete`: removes objects and waits until they are gone.

use super::common::DryRun;
use crate::cli::flags::{ALL, ALL_NAMESPACES, DRY_RUN, FIELD_SELECTOR, FILENAME, SELECTOR};
use crate::cli::{Args, Call, Command, bool, duration, int, text};
use crate::error::{Error, Result};
use crate::resource::Info;
use crate::resource::builder::{Query, Target, info_of, list};
use crate::rest::{Rest, with_query};
use serde_json::{Value, json};
use std::time::Duration;

/// The command.
pub static COMMAND: Command = Command {
    name: "delete",
    short: "Delete resources by file names, stdin, resources and names, or by resources and label selector",
    long: "Delete resources by file names, stdin, resources and names, or by resources and label selector.\n\n Objects end gracefully: the command waits until they are gone. With --force --grace-period=0 an object is removed from the API at once, whether or not what it stands for has ended.",
    examples: "
        # What a manifest names
        {} delete -f pod.yaml

        # By name, by label, everything of a type
        {} delete pod web-0 web-1
        {} delete pods,services -l app=web
        {} delete pods --all

        # At once
        {} delete pod web-0 --grace-period=0 --force",
    usage: "([-f FILENAME] | [-k DIRECTORY] | TYPE [(NAME | -l label | --all)])",
    flags: &[ALL, ALL_NAMESPACES, DRY_RUN, FIELD_SELECTOR, FILENAME, SELECTOR, &[
        text("cascade", "background", "Must be \"background\", \"orphan\", or \"foreground\". Selects the deletion cascading strategy for the dependents (e.g. Pods created by a ReplicationController). Defaults to background.").bare("background"),
        bool("force", "If true, immediately remove resources from API and bypass graceful deletion. Note that immediate deletion of some resources may result in inconsistency or data loss and requires confirmation."),
        int("grace-period", "-1", "Period of time in seconds given to the resource to terminate gracefully. Ignored if negative. Set to 1 for immediate shutdown. Can only be set to 0 when --force is true (force deletion)."),
        bool("ignore-not-found", "Treat \"resource not found\" as a successful delete. Defaults to \"true\" when --all is specified."),
        bool("interactive", "If true, delete resource only when user confirms.").short('i'),
        bool("now", "If true, resources are signaled for immediate shutdown (same as --grace-period=1)."),
        text("output", "", "Output mode. Use \"-o name\" for shorter output (resource/name).").short('o'),
        text("raw", "", "Raw URI to DELETE to the server.  Uses the transport specified by the kubeconfig file."),
        duration("timeout", "0s", "The length of time to wait before giving up on a delete, zero means determine a timeout from the size of the object"),
        bool("wait", "If true, wait for resources to be gone before returning. This waits for finalizers.").on(),
    ]],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

/// How to delete.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Seconds; negative is the object's own.
    pub grace: i64,
    /// Propagation policy.
    pub policy: &'static str,
    /// Dry run.
    pub dry: DryRun,
}

impl Options {
    /// From `--cascade`.
    pub fn cascade(text: &str) -> Result<&'static str> {
        match text {
            "background" | "true" => Ok("Background"),
            "foreground" => Ok("Foreground"),
            "orphan" | "false" => Ok("Orphan"),
            other => Err(Error::new(format!(
                "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
            ))),
        }
    }

    fn body(self) -> Value {
        let mut out = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": self.policy});
        if self.grace >= 0 {
            out["gracePeriodSeconds"] = json!(self.grace);
        }
        if self.dry == DryRun::Server {
            out["dryRun"] = json!(["All"]);
        }
        out
    }

    /// Deletes one object; gives its UID if the server told it.
    pub async fn delete(self, rest: &Rest, info: &Info) -> Result<Option<String>> {
        let answer = rest
            .delete(&info.path(), &self.body())
            .await
            .map_err(|e| e.when("deleting", &info.source))?;
        let uid = if answer["kind"] == "Status" {
            &answer["details"]["uid"]
        } else {
            &answer["metadata"]["uid"]
        };
        Ok(uid.as_str().map(str::to_owned))
    }
}

/// What the flags of a deletion say.
pub(super) fn options(call: &Call) -> Result<Options> {
    let mut grace = call.flags.int("grace-period");
    let force = call.bool("force");
    if call.flags.opt_bool("now") {
        if grace != -1 {
            return Err(Error::new(
                "--now and --grace-period cannot be specified together",
            ));
        }
        grace = 1;
    }
    if grace == 0 && !force {
        grace = 1;
    }
    if force && grace < 0 {
        grace = 0;
    }
    if force && grace > 0 {
        return Err(Error::new(
            "--force and --grace-period greater than 0 cannot be specified together",
        ));
    }
    if force {
        crate::errln!(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely."
        );
    }
    Ok(Options {
        grace,
        policy: Options::cascade(call.str("cascade"))?,
        dry: DryRun::from_call(call)?,
    })
}

async fn run(call: Call) -> Result<()> {
    let raw = call.str("raw");
    if !raw.is_empty() {
        let rest = call.ctx.rest().await?;
        let bytes = rest.bytes(http::Method::DELETE, raw, "*/*", None).await?;
        crate::out::bytes(&bytes);
        return Ok(());
    }
    let output = call.str("output");
    if !matches!(output, "" | "name") {
        return Err(Error::new(format!(
            "unexpected -o output mode: {output}. We only support '-o name'"
        )));
    }
    let mut query = Query::from_call(&call);
    let selecting = query.all || !query.selector.is_empty() || !query.field_selector.is_empty();
    if query.all && !query.selector.is_empty() {
        return Err(Error::new("cannot set --all and --selector at the same time"));
    }
    if query.all && !query.field_selector.is_empty() {
        return Err(Error::new(
            "cannot set --all and --field-selector at the same time",
        ));
    }
    let options = options(&call)?;
    query.all |= selecting;
    let ignore = if call.changed("ignore-not-found") {
        call.bool("ignore-not-found")
    } else {
        selecting
    };
    let targets = query.targets(&call.ctx).await?;
    let rest = call.ctx.rest().await?;
    let mut errors = targets.errors;
    let mut infos = Vec::new();
    for target in targets.items {
        match target {
            Target::Object(i) | Target::Named(i) => infos.push(i),
            Target::List { mapping, namespace } => {
                match list(&rest, &mapping, &namespace, &query.params(), query.chunk).await {
                    Ok(items) => infos.extend(items.into_iter().map(|o| info_of(&mapping, o))),
                    Err(e) => errors.push(e),
                }
            }
        }
    }
    if call.bool("interactive") && !confirm(&infos)? {
        crate::outln!("deletion is cancelled");
        return Ok(());
    }
    let warn_scope = call.ctx.explicit_namespace() && !query.all_namespaces;
    if warn_scope && infos.iter().any(|i| !i.mapping.namespaced) {
        crate::errln!("Warning: deleting cluster-scoped resources, not scoped to the provided namespace");
    }
    let mut deleted: Vec<(Info, Option<String>)> = Vec::new();
    for info in infos {
        if options.dry != DryRun::Client {
            match options.delete(&rest, &info).await {
                Ok(uid) => {
                    report(&info, options, output);
                    deleted.push((info, uid));
                }
                Err(e) if ignore && e.is_not_found() => {}
                Err(e) => errors.push(e),
            }
        } else {
            report(&info, options, output);
            deleted.push((info, None));
        }
    }
    Error::collect(errors)?;
    if deleted.is_empty() {
        if !ignore || selecting {
            crate::outln!("No resources found");
        }
        return Ok(());
    }
    if call.bool("wait") && options.dry == DryRun::None {
        let timeout = call.flags.duration("timeout");
        wait_gone(
            &rest,
            &deleted,
            if timeout.is_zero() {
                Duration::from_secs(7 * 86_400)
            } else {
                timeout
            },
        )
        .await?;
    }
    Ok(())
}

fn report(info: &Info, options: Options, output: &str) {
    if output == "name" {
        crate::outln!("{}", info.display());
        return;
    }
    let mut operation = if options.grace == 0 {
        "force deleted".to_owned()
    } else {
        "deleted".to_owned()
    };
    if info.mapping.namespaced {
        operation.push_str(&format!(" from {} namespace", info.namespace));
    }
    crate::outln!(
        "{} {} {operation}{}",
        info.mapping.kind_name(),
        crate::error::go_quote(&info.name),
        options.dry.suffix()
    );
}

fn confirm(infos: &[Info]) -> Result<bool> {
    crate::outln!(
        "You are about to delete the following {} resource(s):",
        infos.len()
    );
    for info in infos {
        crate::outln!("{}", info.display());
    }
    crate::out::print("Do you want to continue? (y/N): ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y"))
}

/// Waits until objects are gone, or others with the same names have taken their place.
pub async fn wait_gone(rest: &Rest, deleted: &[(Info, Option<String>)], timeout: Duration) -> Result<()> {
    let deadline = tokio::time::Instant::now() + timeout;
    let mut errors = Vec::new();
    for (info, uid) in deleted {
        match tokio::time::timeout_at(deadline, gone(rest, info, uid.as_deref())).await {
            Ok(Ok(())) => {}
            // Who may delete but not look has done what there is to do.
            Ok(Err(e)) if matches!(e.reason(), "Forbidden" | "MethodNotAllowed") => {}
            Ok(Err(e)) => errors.push(e),
            Err(_) => errors.push(Error::new(format!(
                "timed out waiting for the condition on {}/{}",
                info.mapping.plural, info.name
            ))),
        }
    }
    Error::collect(errors)
}

async fn gone(rest: &Rest, info: &Info, uid: Option<&str>) -> Result<()> {
    loop {
        let object = match rest.get(&info.path()).await {
            Ok(o) => o,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e),
        };
        if uid.is_some_and(|u| object["metadata"]["uid"].as_str() != Some(u)) {
            return Ok(());
        }
        let version = object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or("")
            .to_owned();
        let query = [
            ("fieldSelector", format!("metadata.name={}", info.name)),
            ("resourceVersion", version),
        ];
        let mut stream = match rest.watch(&info.collection(), &query, "application/json").await {
            Ok(s) => s,
            Err(e) if e.reason() == "Expired" => continue,
            Err(e) => return Err(e),
        };
        loop {
            match stream.event().await {
                Ok(Some((kind, _))) if kind == "DELETED" => return Ok(()),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
}

/// Deletes one object and waits until it is gone.
pub async fn delete_and_wait(
    rest: &Rest,
    info: &Info,
    grace: i64,
    policy: &'static str,
    timeout: Duration,
) -> Result<()> {
    let options = Options {
        grace,
        policy,
        dry: DryRun::None,
    };
    let uid = match options.delete(rest, info).await {
        Ok(uid) => uid,
        Err(e) if e.is_not_found() => return Ok(()),
        Err(e) => return Err(e),
    };
    wait_gone(rest, &[(info.clone(), uid)], timeout).await
}

/// Whether an object is there.
pub async fn exists(rest: &Rest, info: &Info) -> Result<bool> {
    match rest.get(&with_query(&info.path(), &[])).await {
        Ok(_) => Ok(true),
        Err(e) if e.is_not_found() => Ok(false),
        Err(e) => Err(e),
    }
}
