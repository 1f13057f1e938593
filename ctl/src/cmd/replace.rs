//! `replace`: puts manifests in the place of what is there.

use super::common::{DryRun, Write, record, save_config};
use crate::cli::flags::{DRY_RUN, FILENAME, OUTPUT, RECORD, SAVE_CONFIG, SUBRESOURCE, TEMPLATE, VALIDATE};
use crate::cli::{Call, Command, bool, duration, int, text};
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::builder::{Query, Target};
use serde_json::json;
use std::time::Duration;

/// The command.
pub static COMMAND: Command = Command {
    name: "replace",
    short: "Replace a resource by file name or stdin",
    long: "Replace a resource by file name or stdin.\n\n JSON and YAML formats are accepted. If replacing an existing resource, the complete resource spec must be provided, as 'get -o yaml' gives it.",
    examples: "
        # From a file, from another program
        {} replace -f pod.json
        {} get pod web-0 -o yaml | sed 's/web:1/web:2/' | {} replace -f -

        # Delete and create anew
        {} replace --force -f pod.json",
    usage: "-f FILENAME",
    flags: &[DRY_RUN, FILENAME, OUTPUT, RECORD, SAVE_CONFIG, SUBRESOURCE, TEMPLATE, VALIDATE, &[
        text("cascade", "background", "Must be \"background\", \"orphan\", or \"foreground\". Selects the deletion cascading strategy for the dependents.").bare("background"),
        text("field-manager", "kubectl-replace", "Name of the manager used to track field ownership."),
        bool("force", "If true, immediately remove resources from API and bypass graceful deletion. Note that immediate deletion of some resources may result in inconsistency or data loss and requires confirmation."),
        int("grace-period", "-1", "Period of time in seconds given to the resource to terminate gracefully. Ignored if negative."),
        text("raw", "", "Raw URI to PUT to the server.  Uses the transport specified by the kubeconfig file."),
        duration("timeout", "0s", "The length of time to wait before giving up on a delete, zero means determine a timeout from the size of the object"),
    ]],
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    let query = Query::from_call(&call);
    if !call.args.is_empty() {
        return Err(call.usage(format!("Unexpected args: [{}]", call.args.join(" "))));
    }
    if !query.has_files() {
        return Err(Error::new("must specify one of -f and -k"));
    }
    let force = call.bool("force");
    let policy = super::delete::Options::cascade(call.str("cascade"))?;
    let grace = call.flags.int("grace-period");
    let timeout = call.flags.duration("timeout");
    if !force && grace >= 0 {
        return Err(Error::new("--grace-period must have --force specified"));
    }
    if !force && !timeout.is_zero() {
        return Err(Error::new("--timeout must have --force specified"));
    }
    let rest = call.ctx.rest().await?;
    let raw = call.str("raw");
    if !raw.is_empty() {
        let documents = query.documents().await?;
        let [one] = documents.as_slice() else {
            return Err(Error::new("--raw can only use a single local file or stdin"));
        };
        let answer = rest.put(raw, &one.value).await?;
        crate::outln!("{}", crate::print::json::compact(&answer));
        return Ok(());
    }
    let write = Write::from_call(&call, "kubectl-replace")?;
    let printer = Printer::from_call(&call)?;
    let targets = query.targets(&call.ctx).await?;
    let mut errors = targets.errors;
    for target in targets.items {
        let Target::Object(mut info) = target else {
            continue;
        };
        save_config(&call, &mut info.object);
        record(&call, &mut info.object);
        if write.dry == DryRun::Client {
            printer.result(&info, &format!("replaced{}", write.dry.suffix()))?;
            continue;
        }
        if force {
            let wait = if timeout.is_zero() {
                Duration::from_secs(300)
            } else {
                timeout
            };
            let outcome = async {
                if super::delete::exists(&rest, &info).await? {
                    crate::outln!(
                        "{} {} deleted from {} namespace",
                        info.mapping.kind_name(),
                        crate::error::go_quote(&info.name),
                        info.namespace
                    );
                }
                super::delete::delete_and_wait(&rest, &info, grace.max(0), policy, wait).await?;
                if let Some(meta) = info.object["metadata"].as_object_mut() {
                    meta.remove("resourceVersion");
                    meta.remove("uid");
                }
                write.create(&rest, &info).await
            };
            match outcome.await {
                Ok(object) => printer.result(&info.with(object), "replaced")?,
                Err(e) => errors.push(e),
            }
            continue;
        }
        if info.object["metadata"]["resourceVersion"].is_null() {
            // Without a version of its own the manifest takes the place of whatever is there.
            match rest.get(&info.sub_path(call.str("subresource"))).await {
                Ok(live) => {
                    info.object["metadata"]["resourceVersion"] = json!(live["metadata"]["resourceVersion"])
                }
                Err(e) => {
                    errors.push(e.when("replacing", &info.source));
                    continue;
                }
            }
        }
        match write.update(&rest, &info, call.str("subresource")).await {
            Ok(object) => printer.result(&info.with(object), &format!("replaced{}", write.dry.suffix()))?,
            Err(e) => errors.push(e.when("replacing", &info.source)),
        }
    }
    Error::collect(errors)
}
