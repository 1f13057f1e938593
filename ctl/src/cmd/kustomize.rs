//! `kustomize`: prints what a kustomization builds.

use crate::cli::{Call, Command, text};
use crate::error::Result;
use crate::print::yaml;

/// The command.
pub static COMMAND: Command = Command {
    name: "kustomize",
    short: "Build a kustomization target from a directory or URL",
    long: "Build a set of KRM resources using a 'kustomization.yaml' file. The DIR argument must be a path to a directory containing 'kustomization.yaml'. If DIR is omitted, '.' is assumed.",
    examples: "
        # This directory, another one
        {} kustomize
        {} kustomize overlays/production",
    usage: "DIR",
    flags: &[&[text("output", "", "If specified, write output to this path.").short('o')]],
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    let directory = match call.args.as_slice() {
        [] => ".",
        [one] => one,
        _ => return Err(crate::error::Error::new("specify one path to kustomization.yaml")),
    };
    let built = crate::kustomize::build(directory).await?;
    let text = built
        .iter()
        .map(yaml::to_string)
        .collect::<Vec<_>>()
        .join("---\n");
    let output = call.str("output");
    if output.is_empty() {
        crate::out::print(&text);
    } else {
        std::fs::write(output, text)?;
    }
    Ok(())
}
