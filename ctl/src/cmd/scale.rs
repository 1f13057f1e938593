//! `scale`: sets how many replicas a workload has.

use super::common::{CHANGE_CAUSE, DryRun, change_cause};
use crate::cli::flags::{ALL, DRY_RUN, FILENAME, OUTPUT, RECORD, SELECTOR, TEMPLATE};
use crate::cli::{Args, Call, Command, duration, int, text};
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::builder::Query;
use crate::rest::{patch, with_query};
use serde_json::json;

/// The command.
pub static COMMAND: Command = Command {
    name: "scale",
    short: "Set a new size for a deployment, replica set, or replication controller",
    long: "Set a new size for a deployment, replica set, replication controller, or stateful set.\n\n Scale also allows users to specify one or more preconditions for the scale action.\n\n If --current-replicas or --resource-version is specified, it is validated before the scale is attempted, and it is guaranteed that the precondition holds true when the scale is sent to the server.",
    examples: "
        # A deployment to three replicas
        {} scale deployment/web --replicas=3

        # Only if it has two now
        {} scale --current-replicas=2 --replicas=3 deployment/web",
    usage: "[--resource-version=version] [--current-replicas=count] --replicas=COUNT (-f FILENAME | TYPE NAME)",
    flags: &[
        ALL,
        DRY_RUN,
        FILENAME,
        OUTPUT,
        RECORD,
        SELECTOR,
        TEMPLATE,
        &[
            int(
                "current-replicas",
                "-1",
                "Precondition for current size. Requires that the current size of the resource match this value in order to scale. -1 (default) for no condition.",
            ),
            int("replicas", "0", "The new desired number of replicas. Required."),
            text(
                "resource-version",
                "",
                "Precondition for resource version. Requires that the current resource version match this value in order to scale.",
            ),
            duration(
                "timeout",
                "0s",
                "The length of time to wait before giving up on a scale operation, zero means don't wait. Any other values should contain a corresponding time unit (e.g. 1s, 2m, 3h).",
            ),
        ],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    let replicas = call.flags.int("replicas");
    if !call.changed("replicas") {
        return Err(Error::new("required flag(s) \"replicas\" not set"));
    }
    if replicas < 0 {
        return Err(Error::new(
            "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0",
        ));
    }
    let current = call.flags.int("current-replicas");
    if current < -1 {
        return Err(Error::new(
            "The --current-replicas must specify an integer of -1 or greater",
        ));
    }
    let dry = DryRun::from_call(&call)?;
    let printer = Printer::from_call(&call)?;
    let query = Query::from_call(&call);
    let (infos, errors) = query.infos(&call.ctx).await?;
    let version = call.str("resource-version");
    if !version.is_empty() && infos.len() > 1 {
        return Err(Error::new(
            "cannot use --resource-version with multiple resources",
        ));
    }
    if infos.is_empty() {
        Error::collect(errors)?;
        return Err(Error::new("no objects passed to scale"));
    }
    let rest = call.ctx.rest().await?;
    for mut info in infos {
        if dry != DryRun::Client {
            let mut params = Vec::new();
            if dry == DryRun::Server {
                params.push(("dryRun", "All".to_owned()));
            }
            let path = with_query(&info.sub_path("scale"), &params);
            if current >= 0 || !version.is_empty() {
                let mut scale = rest.get(&info.sub_path("scale")).await?;
                let now = scale["spec"]["replicas"].as_i64().unwrap_or(0);
                if current >= 0 && now != current {
                    return Err(Error::new(format!(
                        "Expected replicas to be {current}, was {now}"
                    )));
                }
                let held = scale["metadata"]["resourceVersion"]
                    .as_str()
                    .unwrap_or("")
                    .to_owned();
                if !version.is_empty() && held != version {
                    return Err(Error::new(format!(
                        "Expected resource version to be {version}, was {held}"
                    )));
                }
                scale["spec"]["replicas"] = json!(replicas);
                rest.put(&path, &scale).await?;
            } else {
                let body = json!({"spec": {"replicas": replicas}});
                rest.patch(&path, patch::MERGE, serde_json::to_vec(&body)?)
                    .await?;
            }
            let timeout = call.flags.duration("timeout");
            if !timeout.is_zero() && dry == DryRun::None {
                wait(&rest, &info, replicas, timeout).await?;
            }
            if call.bool("record") && dry == DryRun::None {
                let body = json!({"metadata": {"annotations": {CHANGE_CAUSE: change_cause()}}});
                rest.patch(&info.path(), patch::MERGE, serde_json::to_vec(&body)?)
                    .await?;
            }
        }
        info.object["spec"]["replicas"] = json!(replicas);
        printer.result(&info, &format!("scaled{}", dry.suffix()))?;
    }
    Error::collect(errors)
}

async fn wait(
    rest: &crate::rest::Rest,
    info: &crate::resource::Info,
    replicas: i64,
    timeout: std::time::Duration,
) -> Result<()> {
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        let scale = rest.get(&info.sub_path("scale")).await?;
        if scale["status"]["replicas"].as_i64().unwrap_or(0) == replicas {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Error::new("timed out waiting for the condition"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}
