//! `events`: what happened.

use crate::cli::flags::{ALL_NAMESPACES, CHUNK, OUTPUT, TEMPLATE};
use crate::cli::{Call, Command, bool, slice, text};
use crate::describe::writer::{interval, text as field};
use crate::error::{Error, Result};
use crate::print::tab::Columns;
use crate::print::{Printer, list_of};
use crate::resource::builder::list_whole;
use serde_json::Value;

/// The command.
pub static COMMAND: Command = Command {
    name: "events",
    short: "List events",
    long: "Display events.\n\n Prints a table of the most important information about events. You can request events for a namespace, for all namespace, or filtered to only those pertaining to a specified resource.",
    examples: "
        # Of this namespace, the latest last, and those to come
        {} events
        {} events --watch

        # Of one pod, warnings only
        {} events --for pod/web-0 --types=Warning",
    usage: "[(-o|--output=)json|yaml|kyaml|name|go-template|go-template-file|template|templatefile|jsonpath|jsonpath-as-json|jsonpath-file] [--for TYPE/NAME] [--watch] [--types=Normal,Warning]",
    flags: &[
        ALL_NAMESPACES,
        CHUNK,
        OUTPUT,
        TEMPLATE,
        &[
            text(
                "for",
                "",
                "Filter events to only those pertaining to the specified resource.",
            ),
            bool(
                "no-headers",
                "When using the default output format, don't print headers.",
            ),
            slice("types", "Output only events of given types."),
            bool(
                "watch",
                "After listing the requested events, watch for more events.",
            )
            .short('w'),
        ],
    ],
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

fn time(e: &Value) -> String {
    for at in [
        &e["series"]["lastObservedTime"],
        &e["lastTimestamp"],
        &e["eventTime"],
        &e["firstTimestamp"],
    ] {
        if let Some(t) = at.as_str() {
            return t.to_owned();
        }
    }
    String::new()
}

fn row(e: &Value, with_namespace: bool) -> Vec<String> {
    let o = &e["involvedObject"];
    let mut out = Vec::new();
    if with_namespace {
        out.push(field(&e["metadata"]["namespace"]));
    }
    out.extend([
        interval(e),
        field(&e["type"]),
        field(&e["reason"]),
        format!("{}/{}", field(&o["kind"]), field(&o["name"])),
        field(&e["message"]).trim().to_owned(),
    ]);
    out
}

async fn run(call: Call) -> Result<()> {
    let everywhere = call.bool("all-namespaces");
    let namespace = if everywhere {
        String::new()
    } else {
        call.ctx.namespace()?
    };
    let types = call.list("types");
    for t in &types {
        if !["normal", "warning"].contains(&t.to_lowercase().as_str()) {
            return Err(Error::new("valid --types are Normal or Warning"));
        }
    }
    let printer = Printer::from_call(&call)?;
    let discovery = call.ctx.discovery().await?;
    let mapping = discovery
        .find("events.v1.")
        .or_else(|| discovery.find("events"))
        .ok_or_else(|| Error::new("the server has no events"))?;
    let mut params = Vec::new();
    let target = call.str("for");
    if !target.is_empty() {
        let Some((kind, name)) = target.split_once('/') else {
            return Err(Error::new("--for must be in resource/name form"));
        };
        let m = discovery.resolve(kind)?;
        let mut fields = vec![
            format!("involvedObject.kind={}", m.kind),
            format!("involvedObject.name={name}"),
        ];
        fields.push(format!("involvedObject.apiVersion={}", m.api_version()));
        params.push(("fieldSelector", fields.join(",")));
    }
    let rest = call.ctx.rest().await?;
    let wanted = |e: &Value| {
        types.is_empty()
            || types
                .iter()
                .any(|t| e["type"].as_str().is_some_and(|k| k.eq_ignore_ascii_case(t)))
    };
    let (mut all, version) =
        list_whole(&rest, &mapping, &namespace, &params, call.flags.int("chunk-size")).await?;
    all.retain(wanted);
    all.sort_by_key(time);
    let watching = call.bool("watch");
    let mut columns = Columns::default();
    if printer.is_human() {
        if all.is_empty() && !watching {
            if everywhere {
                crate::errln!("No events found.");
            } else {
                crate::errln!("No events found in {namespace} namespace.");
            }
            return Ok(());
        }
        let mut rows: Vec<Vec<String>> = Vec::new();
        if !call.bool("no-headers") {
            let mut head = if everywhere { vec!["NAMESPACE"] } else { vec![] };
            head.extend(["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
            rows.push(head.into_iter().map(str::to_owned).collect());
        }
        rows.extend(all.iter().map(|e| row(e, everywhere)));
        crate::out::print(&columns.format(&rows));
    } else {
        printer.print(&list_of(all))?;
    }
    if !watching {
        return Ok(());
    }
    params.push(("resourceVersion", version));
    let mut stream = rest
        .watch(&mapping.collection(&namespace), &params, "application/json")
        .await?;
    while let Some((kind, event)) = stream.event().await? {
        if !wanted(&event) || kind == "DELETED" {
            continue;
        }
        if printer.is_human() {
            crate::out::print(&columns.format(&[row(&event, everywhere)]));
        } else {
            printer.print(&event)?;
        }
    }
    Ok(())
}
