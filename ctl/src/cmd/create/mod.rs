//! `create`: makes objects, from manifests or from arguments.

pub mod config;
pub mod generate;
pub mod policy;
pub mod rbac;
pub mod service;
pub mod token;
pub mod workload;

use super::common::{DryRun, Write, record, save_config};
use crate::cli::flags::{
    DRY_RUN, FILENAME, MANAGER_CREATE, OUTPUT, RECORD, SAVE_CONFIG, SELECTOR, TEMPLATE, VALIDATE,
};
use crate::cli::{Call, Command, bool, text};
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::builder::{Query, Target};

/// The command.
pub static COMMAND: Command = Command {
    name: "create",
    short: "Create a resource from a file or from stdin",
    long: "Create a resource from a file or from stdin.\n\n JSON and YAML formats are accepted.",
    examples: "
        # Create what a manifest describes
        {} create -f pod.yaml

        # From standard input
        cat pod.yaml | {} create -f -

        # Change the manifest in an editor first
        {} create -f pod.yaml --edit -o json",
    usage: "-f FILENAME",
    flags: &[
        DRY_RUN,
        FILENAME,
        MANAGER_CREATE,
        OUTPUT,
        RECORD,
        SAVE_CONFIG,
        SELECTOR,
        TEMPLATE,
        VALIDATE,
        &[
            bool("edit", "Edit the API resource before creating"),
            text(
                "raw",
                "",
                "Raw URI to POST to the server.  Uses the transport specified by the kubeconfig file.",
            ),
            bool(
                "windows-line-endings",
                "Only relevant if --edit=true. Defaults to the line ending native to your platform.",
            ),
        ],
    ],
    subs: &[
        &rbac::CLUSTERROLE,
        &rbac::CLUSTERROLEBINDING,
        &config::CONFIGMAP,
        &workload::CRONJOB,
        &workload::DEPLOYMENT,
        &service::INGRESS,
        &workload::JOB,
        &config::NAMESPACE,
        &policy::PDB,
        &policy::PRIORITYCLASS,
        &policy::QUOTA,
        &rbac::ROLE,
        &rbac::ROLEBINDING,
        &config::SECRET,
        &service::SERVICE,
        &config::SERVICEACCOUNT,
        &token::COMMAND,
    ],
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    let query = Query::from_call(&call);
    if let Some(arg) = call.args.first() {
        return Err(call.usage(format!("Unexpected args: [{arg}]")));
    }
    if !query.has_files() {
        return Err(Error::new("must specify one of -f and -k\n"));
    }
    let rest_raw = call.str("raw");
    if !rest_raw.is_empty() {
        return raw(&call, &query, rest_raw).await;
    }
    if call.bool("edit") {
        return super::edit::create(&call, &query).await;
    }
    let printer = Printer::from_call(&call)?;
    let write = Write::from_call(&call, "kubectl-create")?;
    let targets = query.targets(&call.ctx).await?;
    let rest = call.ctx.rest().await?;
    let mut errors = targets.errors;
    let mut count = 0;
    for target in targets.items {
        let Target::Object(mut info) = target else {
            continue;
        };
        save_config(&call, &mut info.object);
        record(&call, &mut info.object);
        count += 1;
        if write.dry != DryRun::Client {
            match write.create(&rest, &info).await {
                Ok(object) => {
                    info.name = object["metadata"]["name"]
                        .as_str()
                        .unwrap_or(&info.name)
                        .to_owned();
                    info.object = object;
                }
                Err(e) => {
                    errors.push(e.when("creating", &info.source));
                    continue;
                }
            }
        }
        printer.result(&info, &format!("created{}", write.dry.suffix()))?;
    }
    if count == 0 && errors.is_empty() {
        return Err(Error::new("no objects passed to create"));
    }
    Error::collect(errors)
}

async fn raw(call: &Call, query: &Query, path: &str) -> Result<()> {
    let documents = query.documents().await?;
    let [one] = documents.as_slice() else {
        return Err(call.usage("--raw can only use a single local file or stdin"));
    };
    let rest = call.ctx.rest().await?;
    let answer = rest.post(path, &one.value).await?;
    crate::outln!("{}", crate::print::json::compact(&answer));
    Ok(())
}
