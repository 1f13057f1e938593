//! `apply view-last-applied`, `set-last-applied` and `edit-last-applied`: the manifest that `apply` remembers.

use super::common::{DryRun, LAST_APPLIED, last_applied_text};
use crate::cli::flags::{ALL, DRY_RUN, FILENAME, OUTPUT, SELECTOR, TEMPLATE};
use crate::cli::{Args, Call, Command, bool, text};
use crate::error::{Error, Result};
use crate::print::{Printer, json as print_json, yaml};
use crate::resource::builder::Query;
use crate::rest::{patch, with_query};
use rutter_api::codec::yaml::parse_text;
use serde_json::{Value, json};

/// `apply view-last-applied`
pub static VIEW: Command = Command {
    name: "view-last-applied",
    short: "View the latest last-applied-configuration annotations of a resource/object",
    usage: "(TYPE [NAME | -l label] | TYPE/NAME | -f FILENAME)",
    flags: &[
        ALL,
        FILENAME,
        SELECTOR,
        &[text("output", "yaml", "Output format. Must be one of (yaml, json)").short('o')],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(view(c))),
    ..Command::NEW
};

/// `apply set-last-applied`
pub static SET: Command = Command {
    name: "set-last-applied",
    short: "Set the last-applied-configuration annotation on a live object to match the contents of a file",
    usage: "-f FILENAME",
    flags: &[
        DRY_RUN,
        FILENAME,
        OUTPUT,
        TEMPLATE,
        &[bool(
            "create-annotation",
            "Will create 'last-applied-configuration' annotations if current objects doesn't have one",
        )],
    ],
    run: Some(|c| Box::pin(set(c))),
    ..Command::NEW
};

/// `apply edit-last-applied`
pub static EDIT: Command = Command {
    name: "edit-last-applied",
    short: "Edit latest last-applied-configuration annotations of a resource/object",
    usage: "(RESOURCE/NAME | -f FILENAME)",
    flags: &[
        FILENAME,
        &[text(
            "output",
            "yaml",
            "Output format of the edited manifest. One of: (json, yaml).",
        )
        .short('o')],
        &[bool(
            "windows-line-endings",
            "Defaults to the line ending native to your platform.",
        )],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(edit(c))),
    ..Command::NEW
};

async fn view(call: Call) -> Result<()> {
    let mut query = Query::from_call(&call);
    query.list_types = true;
    let (infos, errors) = query.latest(&call.ctx).await?;
    Error::collect(errors)?;
    for info in infos {
        let Some(text) = info.object["metadata"]["annotations"][LAST_APPLIED].as_str() else {
            return Err(Error::new(format!(
                "no last-applied-configuration annotation found on resource: {}\n",
                info.name
            )));
        };
        let value: Value = serde_json::from_str(text)?;
        match call.str("output") {
            "yaml" => crate::out::print(&yaml::to_string(&value)),
            "json" => crate::outln!("{}", print_json::indented(&value, "  ")),
            other => {
                return Err(call.usage(format!(
                    "Unexpected -o output mode: {other}, the flag 'output' must be one of yaml|json"
                )));
            }
        }
    }
    Ok(())
}

async fn set(call: Call) -> Result<()> {
    let query = Query::from_call(&call);
    let dry = DryRun::from_call(&call)?;
    let printer = Printer::from_call(&call)?;
    let (infos, errors) = query.infos(&call.ctx).await?;
    Error::collect(errors)?;
    let rest = call.ctx.rest().await?;
    for info in infos {
        let live = rest.get(&info.path()).await?;
        let had = &live["metadata"]["annotations"][LAST_APPLIED];
        if had.is_null() && !call.bool("create-annotation") {
            return Err(Error::new(format!(
                "no last-applied-configuration annotation found on resource: {}, to create the annotation, run the command with --create-annotation",
                info.name
            )));
        }
        let text = last_applied_text(&info.object);
        let mut object = live.clone();
        if had.as_str() != Some(&text) && dry != DryRun::Client {
            let mut params = Vec::new();
            if dry == DryRun::Server {
                params.push(("dryRun", "All".to_owned()));
            }
            let body = json!({"metadata": {"annotations": {LAST_APPLIED: text}}});
            object = rest
                .patch(
                    &with_query(&info.path(), &params),
                    patch::MERGE,
                    serde_json::to_vec(&body)?,
                )
                .await?;
        }
        printer.result(&info.with(object), &format!("configured{}", dry.suffix()))?;
    }
    Ok(())
}

async fn edit(call: Call) -> Result<()> {
    let query = Query::from_call(&call);
    let (infos, errors) = query.latest(&call.ctx).await?;
    Error::collect(errors)?;
    let rest = call.ctx.rest().await?;
    for info in infos {
        let Some(text) = info.object["metadata"]["annotations"][LAST_APPLIED].as_str() else {
            return Err(Error::new(format!(
                "no last-applied-configuration annotation found on resource: {}\n",
                info.name
            )));
        };
        let before: Value = serde_json::from_str(text)?;
        let as_json = call.str("output") == "json";
        let shown = if as_json {
            print_json::pretty(&before)
        } else {
            yaml::to_string(&before)
        };
        let edited = super::edit::in_editor(
            &shown,
            if as_json { "json" } else { "yaml" },
            call.bool("windows-line-endings"),
        )?;
        let after = parse_text(&edited).map_err(|e| Error::new(e.to_string()))?;
        if after == before {
            crate::errln!("Edit cancelled, no changes made.");
            continue;
        }
        let body = json!({"metadata": {"annotations": {LAST_APPLIED: last_applied_text(&after)}}});
        rest.patch(&info.path(), patch::MERGE, serde_json::to_vec(&body)?)
            .await?;
        crate::outln!("{} edited", info.display());
    }
    Ok(())
}
