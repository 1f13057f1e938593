//! `convert`: manifests of older eras, rewritten for the versions that are served now.

use crate::cli::flags::{FILENAME, OUTPUT, TEMPLATE};
use crate::cli::{Call, Command, text};
use crate::convert::convert;
use crate::error::{Error, Result};
use crate::print::{Format, Printer};
use crate::resource::builder::Query;

/// The command.
pub static COMMAND: Command = Command {
    name: "convert",
    short: "Rewrite manifests of older API versions for those that are served now",
    long: "Rewrite manifests of older API versions (extensions/v1beta1, apps/v1beta1, batch/v1beta1, ...) for the versions that are served now.\n\n Objects of current versions are printed as they are, so whole directories can be converted. Defaults that changed between the versions are written out, so that objects mean what they meant. What can't be carried over, and what was decided on the way, is told on standard error. No cluster is needed.",
    examples: "
        # Look at what becomes of a manifest, bring it up
        {} convert -f ingress.yaml
        {} convert -f old-manifests/ -R | {} apply -f -

        # Move an autoscaler to metrics
        {} convert -f hpa.yaml --output-version=autoscaling/v2",
    usage: "-f FILENAME",
    flags: &[
        FILENAME,
        OUTPUT,
        TEMPLATE,
        &[text(
            "output-version",
            "",
            "The group and version to convert to, such as apps/v1. Left out, each object gets the version that replaced its own.",
        )],
    ],
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    if let Some(arg) = call.args.first() {
        return Err(call.usage(format!("Unexpected args: [{arg}]")));
    }
    let query = Query::from_call(&call);
    if !query.has_files() {
        return Err(Error::new("must specify one of -f and -k"));
    }
    let mut printer = Printer::from_call(&call)?;
    if printer.is_human() {
        printer.format = Format::Yaml;
    }
    let wanted = Some(call.str("output-version")).filter(|v| !v.is_empty());
    let mut errors = Vec::new();
    for document in query.documents().await? {
        if let Err(e) = document.check(false) {
            errors.push(e);
            continue;
        }
        let kind = document.value["kind"].as_str().unwrap_or("").to_owned();
        let name = document.value["metadata"]["name"]
            .as_str()
            .unwrap_or("")
            .to_owned();
        let place = format!("{}: {kind} {name}", document.source);
        match convert(document.value, wanted) {
            Ok(done) => {
                for note in &done.notes {
                    crate::errln!("Warning: {place}: {note}");
                }
                printer.print(&done.object)?;
            }
            Err(why) => errors.push(Error::new(format!("{place}: {why}"))),
        }
    }
    Error::collect(errors)
}
