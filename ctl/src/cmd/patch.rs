//! `patch`: changes fields of an object.

use super::common::{DryRun, Write, record};
use crate::cli::flags::{DRY_RUN, FILENAME, OUTPUT, RECORD, SUBRESOURCE, TEMPLATE};
use crate::cli::{Args, Call, Command, bool, text};
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::Info;
use crate::resource::builder::Query;
use crate::rest::{patch, with_query};
use rutter_api::codec::yaml::parse_text;
use serde_json::Value;

/// The command.
pub static COMMAND: Command = Command {
    name: "patch",
    short: "Update fields of a resource",
    long: "Update fields of a resource using strategic merge patch, a JSON merge patch, or a JSON patch.\n\n JSON and YAML formats are accepted.",
    examples: "
        # A field of a node
        {} patch node worker-1 -p '{\"spec\":{\"unschedulable\":true}}'

        # A container by its name, then by its place
        {} patch deployment web -p '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"web\",\"image\":\"web:2\"}]}}}}'
        {} patch deployment web --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/template/spec/containers/0/image\",\"value\":\"web:2\"}]'

        # The scale subresource
        {} patch deployment web --subresource=scale --type=merge -p '{\"spec\":{\"replicas\":2}}'",
    usage: "(-f FILENAME | TYPE NAME) [-p PATCH|--patch-file FILE]",
    flags: &[DRY_RUN, FILENAME, OUTPUT, RECORD, SUBRESOURCE, TEMPLATE, &[
        text("field-manager", "kubectl-patch", "Name of the manager used to track field ownership."),
        bool("local", "If true, patch will operate on the content of the file, not the server-side resource."),
        text("patch", "", "The patch to be applied to the resource JSON file.").short('p'),
        text("patch-file", "", "A file containing a patch to be applied to the resource."),
        text("type", "strategic", "The type of patch being provided; one of [json merge strategic]"),
    ]],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    let (inline, file) = (call.str("patch"), call.str("patch-file"));
    if inline.is_empty() == file.is_empty() {
        return Err(Error::new(if inline.is_empty() {
            "must specify --patch or --patch-file containing the contents of the patch"
        } else {
            "cannot specify --patch and --patch-file together"
        }));
    }
    let kind = match call.str("type").to_lowercase().as_str() {
        "json" => patch::JSON,
        "merge" => patch::MERGE,
        "strategic" | "" => patch::STRATEGIC,
        _ => {
            return Err(Error::new(format!(
                "--type must be one of [json merge strategic], not {:?}",
                call.str("type")
            )));
        }
    };
    let text = if file.is_empty() {
        inline.to_owned()
    } else {
        std::fs::read_to_string(file).map_err(|e| {
            Error::new(format!(
                "unable to read patch file: open {file}: {}",
                crate::error::io_text(&e)
            ))
        })?
    };
    // JSON goes to the server as it stands, which says what is wrong with it.
    let body = if text.trim_start().starts_with('{') {
        text.into_bytes()
    } else {
        let parsed = parse_text(&text).map_err(|e| Error::new(format!("unable to parse {text:?}: {e}")))?;
        serde_json::to_vec(&parsed)?
    };
    let write = Write::from_call(&call, "kubectl-patch")?;
    let printer = Printer::from_call(&call)?;
    let query = Query::from_call(&call);
    if query.args.is_empty() && !query.has_files() {
        return Err(Error::new(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        ));
    }
    if call.bool("local") || write.dry == DryRun::Client {
        let body = serde_json::from_slice(&body)?;
        return local(&call, &query, &write, &body, kind, &printer).await;
    }
    let targets = query.targets(&call.ctx).await?;
    let rest = call.ctx.rest().await?;
    let mut errors = targets.errors;
    for target in targets.items {
        let (crate::resource::builder::Target::Object(info) | crate::resource::builder::Target::Named(info)) =
            target
        else {
            continue;
        };
        let before = rest.get(&info.sub_path(call.str("subresource"))).await;
        let outcome = match before {
            Ok(b) => {
                let path = with_query(&info.sub_path(call.str("subresource")), &write.params());
                rest.patch(&path, kind, body.clone()).await.map(|o| (b, o))
            }
            Err(e) => Err(e),
        };
        match outcome {
            Ok((before, mut object)) => {
                let same = without_noise(&before) == without_noise(&object);
                record(&call, &mut object);
                let word = if same { "patched (no change)" } else { "patched" };
                if printer.is_human() && !call.str("subresource").is_empty() {
                    // A subresource may be of a kind of its own.
                    crate::outln!(
                        "{} {word}{}",
                        crate::print::object_name(&object),
                        write.dry.suffix()
                    );
                } else {
                    printer.result(&info.with(object), &format!("{word}{}", write.dry.suffix()))?;
                }
            }
            Err(e) => errors.push(e),
        }
    }
    Error::collect(errors)
}

fn without_noise(object: &Value) -> Value {
    let mut out = object.clone();
    if let Some(meta) = out["metadata"].as_object_mut() {
        meta.remove("managedFields");
        meta.remove("resourceVersion");
    }
    out
}

async fn local(
    call: &Call,
    query: &Query,
    write: &Write,
    body: &Value,
    kind: &str,
    printer: &Printer,
) -> Result<()> {
    let infos: Vec<Info> = if call.bool("local") {
        query.local().await?
    } else {
        let (infos, errors) = query.latest(&call.ctx).await?;
        Error::collect(errors)?;
        infos
    };
    for info in infos {
        let mut object = info.object.clone();
        match kind {
            patch::JSON => {
                object =
                    rutter_api::patch::json_patch(&object, body).map_err(|e| Error::new(e.to_string()))?;
            }
            patch::MERGE => crate::patch::merge(&mut object, body),
            _ => {
                let text = |key: &str| object[key].as_str().unwrap_or("").to_owned();
                let (version, kind) = (text("apiVersion"), text("kind"));
                let (group, short) = version.split_once('/').unwrap_or(("", &version));
                let types = rutter_api::schema::builtin();
                let Some(name) = types.name_of_kind(group, short, &kind) else {
                    return Err(Error::new(format!(
                        "strategic merge patch is not supported for {version}, Kind={kind} locally, try --type merge"
                    )));
                };
                object = rutter_api::patch::strategic::merge(types, name, object, body.clone())
                    .map_err(|e| Error::new(e.to_string()))?;
            }
        }
        printer.result(&info.with(object), &format!("patched{}", write.dry.suffix()))?;
    }
    Ok(())
}
