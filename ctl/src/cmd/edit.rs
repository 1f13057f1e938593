//! `edit`: opens objects in an editor and sends what changed.

use super::apply::is_builtin;
use super::common::{Write, save_config};
use crate::cli::flags::{FILENAME, OUTPUT, RECORD, SAVE_CONFIG, SUBRESOURCE, TEMPLATE, VALIDATE};
use crate::cli::{Args, Call, Command, bool, text};
use crate::error::{Error, Result};
use crate::patch::{Schema, three_way};
use crate::print::{Printer, json as print_json, without_managed, yaml};
use crate::resource::builder::{self, Query};
use crate::resource::{Info, files};
use crate::rest::patch;
use serde_json::Value;
use std::io::Write as _;

/// The command.
pub static COMMAND: Command = Command {
    name: "edit",
    short: "Edit a resource on the server",
    long: "Edit a resource from the default editor.\n\n The editor is the one that KUBE_EDITOR or EDITOR names, or vi. What is saved is sent as a patch; if the server refuses it, the editor opens again with the reason on top. An unchanged or empty file cancels.",
    examples: "
        # A service, and a deployment as JSON
        {} edit svc/web
        KUBE_EDITOR=nano {} edit deployment/web -o json",
    usage: "(RESOURCE/NAME | -f FILENAME)",
    flags: &[
        FILENAME,
        OUTPUT,
        RECORD,
        SAVE_CONFIG,
        SUBRESOURCE,
        TEMPLATE,
        VALIDATE,
        &[
            text(
                "field-manager",
                "kubectl-edit",
                "Name of the manager used to track field ownership.",
            ),
            bool("output-patch", "Output the patch if the resource is edited."),
            bool(
                "windows-line-endings",
                "Defaults to the line ending native to your platform.",
            ),
        ],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

/// Opens text in the user's editor and gives what it became, lines ended as on Unix.
pub fn in_editor(text: &str, extension: &str, windows: bool) -> Result<String> {
    let mut file = tempfile::Builder::new()
        .prefix("rctl-edit-")
        .suffix(&format!(".{extension}"))
        .tempfile()?;
    if windows {
        file.write_all(text.replace('\n', "\r\n").as_bytes())?;
    } else {
        file.write_all(text.as_bytes())?;
    }
    file.flush()?;
    let editor = ["KUBE_EDITOR", "EDITOR"]
        .iter()
        .find_map(|v| std::env::var(v).ok().filter(|e| !e.is_empty()))
        .unwrap_or_else(|| "vi".to_owned());
    // Editors may come with arguments of their own, so a shell splits the words.
    let status = std::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(file.path())
        .status()
        .map_err(|e| Error::new(format!("unable to launch the editor {editor:?}: {e}")))?;
    if !status.success() {
        return Err(Error::new(format!(
            "there was a problem with the editor {editor:?}"
        )));
    }
    Ok(std::fs::read_to_string(file.path())?.replace("\r\n", "\n"))
}

const HEAD: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,\n# and an empty file will abort the edit. If an error occurs while saving this file will be\n# reopened with the relevant failures.\n#\n";

fn render(objects: &[Value], as_json: bool, reasons: &[String]) -> String {
    let mut out = String::from(HEAD);
    for reason in reasons {
        for line in reason.lines() {
            out.push_str(&format!("# {line}\n"));
        }
    }
    if !reasons.is_empty() {
        out.push_str("#\n");
    }
    let value = match objects {
        [one] => one.clone(),
        many => crate::print::list_of(many.to_vec()),
    };
    if as_json {
        out.push_str(&print_json::pretty(&value));
    } else {
        out.push_str(&yaml::to_string(&value));
    }
    out
}

fn strip(text: &str) -> String {
    text.lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| format!("{l}\n"))
        .collect()
}

async fn run(call: Call) -> Result<()> {
    let query = Query::from_call(&call);
    if query.args.is_empty() && !query.has_files() {
        return Err(Error::new(
            "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'",
        ));
    }
    let mut query = query;
    query.list_types = true;
    let (infos, errors) = query.latest(&call.ctx).await?;
    Error::collect(errors)?;
    if infos.is_empty() {
        return Err(Error::new("edit cancelled, no objects found"));
    }
    let write = Write::from_call(&call, "kubectl-edit")?;
    let printer = Printer::from_call(&call)?;
    let as_json = call.str("output") == "json";
    let mut originals: Vec<Info> = infos
        .into_iter()
        .map(|i| {
            let clean = without_managed(&i.object);
            i.with(clean)
        })
        .collect();
    let mut shown: Vec<Value> = originals.iter().map(|i| i.object.clone()).collect();
    let mut reasons: Vec<String> = Vec::new();
    let mut text = render(&shown, as_json, &reasons);
    let rest = call.ctx.rest().await?;
    loop {
        let edited = in_editor(
            &text,
            if as_json { "json" } else { "yaml" },
            call.bool("windows-line-endings"),
        )?;
        if strip(&edited).trim().is_empty() {
            crate::errln!("Edit cancelled, saved file was empty.");
            return Ok(());
        }
        if strip(&edited) == strip(&text) {
            if reasons.is_empty() {
                crate::errln!("Edit cancelled, no changes made.");
                return Ok(());
            }
            let kept = keep(&edited, as_json)?;
            crate::errln!("error: Edit cancelled, no valid changes were saved.");
            return Err(Error::Code(
                1,
                format!("A copy of your changes has been stored to \"{kept}\""),
            ));
        }
        let mut documents = Vec::new();
        if let Err(e) = files::documents(&edited, "edited-file", &mut documents) {
            reasons = vec![format!("The edited file had a syntax error: {}", e.message())];
            text = format!("{}{}", head_with(&reasons), strip(&edited));
            continue;
        }
        reasons.clear();
        shown = documents.iter().map(|d| d.value.clone()).collect();
        let mut done: Vec<usize> = Vec::new();
        for document in documents {
            let value = document.value;
            let Some(at) = originals.iter().position(|i| same(&i.object, &value)) else {
                reasons.push(format!(
                    "At least one of apiVersion, kind and name was changed: {}",
                    crate::print::object_name(&value)
                ));
                continue;
            };
            let Some(original) = originals.get(at) else {
                continue;
            };
            match send(&call, &rest, &write, original, value).await {
                Ok(Some(info)) => {
                    printer_result(&printer, &info)?;
                    done.push(at);
                }
                Ok(None) => {
                    crate::errln!("{} skipped", original.display());
                    done.push(at);
                }
                Err(e) => {
                    let told = Error::report(&e);
                    crate::errln!("{told}");
                    reasons.push(format!(
                        "{} {} was not valid:\n* {}",
                        original.mapping.plural,
                        crate::error::go_quote(&original.name),
                        told.replace('\n', "\n* ")
                    ));
                }
            }
        }
        if reasons.is_empty() {
            return Ok(());
        }
        shown.retain(|v| {
            !done
                .iter()
                .any(|at| originals.get(*at).is_some_and(|o| same(&o.object, v)))
        });
        done.sort_unstable();
        for at in done.into_iter().rev() {
            originals.remove(at);
        }
        text = render(&shown, as_json, &reasons);
    }
}

fn head_with(reasons: &[String]) -> String {
    let mut out = String::from(HEAD);
    for reason in reasons {
        for line in reason.lines() {
            out.push_str(&format!("# {line}\n"));
        }
    }
    out.push_str("#\n");
    out
}

fn printer_result(printer: &Printer, info: &Info) -> Result<()> {
    match printer.format {
        crate::print::Format::Json | crate::print::Format::Yaml => {
            crate::outln!("{} edited", info.display());
            Ok(())
        }
        _ => printer.result(info, "edited"),
    }
}

fn keep(text: &str, as_json: bool) -> Result<String> {
    let file = tempfile::Builder::new()
        .prefix("rctl-edit-")
        .suffix(if as_json { ".json" } else { ".yaml" })
        .tempfile()?;
    let (mut file, path) = file.keep().map_err(|e| Error::new(e.to_string()))?;
    file.write_all(text.as_bytes())?;
    Ok(path.to_string_lossy().into_owned())
}

fn same(a: &Value, b: &Value) -> bool {
    ["apiVersion", "kind"].iter().all(|k| a[*k] == b[*k])
        && ["name", "namespace"]
            .iter()
            .all(|k| a["metadata"][*k] == b["metadata"][*k])
}

/// Sends the change; None if there is none.
async fn send(
    call: &Call,
    rest: &crate::rest::Rest,
    write: &Write,
    original: &Info,
    mut edited: Value,
) -> Result<Option<Info>> {
    if edited == original.object {
        return Ok(None);
    }
    save_config(call, &mut edited);
    let (body, kind) = if is_builtin(&original.mapping.group) {
        let api = call.ctx.openapi().await?;
        let document = api.document(&original.mapping.api_version()).await?;
        let node = document.kind(&original.mapping.api_version(), &original.mapping.kind);
        let schema = node.map(|n| Schema::new(&document, n));
        let kind = if schema.is_some() {
            patch::STRATEGIC
        } else {
            patch::MERGE
        };
        (
            three_way(&original.object, &edited, &original.object, schema),
            kind,
        )
    } else {
        (
            three_way(&original.object, &edited, &original.object, None),
            patch::MERGE,
        )
    };
    if body.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(None);
    }
    if call.bool("output-patch") {
        crate::outln!("Patch: {}", print_json::compact(&body));
    }
    let object = write
        .patch(rest, original, call.str("subresource"), kind, &body)
        .await?;
    Ok(Some(original.with(object)))
}

/// `create --edit`: the manifest goes through the editor first.
pub async fn create(call: &Call, query: &Query) -> Result<()> {
    let documents = query.documents().await?;
    let objects: Vec<Value> = documents.iter().map(|d| d.value.clone()).collect();
    let as_json = call.str("output") == "json";
    let text = render(&objects, as_json, &[]);
    let edited = in_editor(
        &text,
        if as_json { "json" } else { "yaml" },
        call.bool("windows-line-endings"),
    )?;
    if strip(&edited).trim().is_empty() {
        crate::errln!("Edit cancelled, saved file was empty.");
        return Ok(());
    }
    let mut documents = Vec::new();
    files::documents(&edited, "edited-file", &mut documents)?;
    let discovery = call.ctx.discovery().await?;
    let rest = call.ctx.rest().await?;
    let write = Write::from_call(call, "kubectl-create")?;
    let namespace = call.ctx.namespace()?;
    for document in documents {
        let mut info = builder::info(&discovery, document, &namespace, call.ctx.explicit_namespace())?;
        save_config(call, &mut info.object);
        write.create(&rest, &info).await?;
        crate::outln!("{} created", info.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_editor_gets_reads_back() {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
        let text = render(std::slice::from_ref(&object), false, &["bad\nvery".into()]);
        assert!(text.contains("# bad\n# very\n"));
        assert_eq!(rutter_api::codec::yaml::parse_text(&text), Ok(object));
    }
}
