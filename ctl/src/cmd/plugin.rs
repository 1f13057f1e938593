//! `plugin`, and running programs named `rctl-*` or `kubectl-*` as commands.

use crate::cli::{Call, Command, PROGRAM, bool};
use crate::error::{Error, Result};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

/// The command.
pub static COMMAND: Command = Command {
    name: "plugin",
    short: "Provides utilities for interacting with plugins",
    long: "Provides utilities for interacting with plugins.\n\n Plugins provide extended functionality that is not part of the major command-line distribution: any executable on the path whose name begins with rctl- or kubectl- is one.",
    subs: &[&LIST],
    ..Command::NEW
};

static LIST: Command = Command {
    name: "list",
    short: "List all visible plugin executables on a user's PATH",
    examples: "
        # All plugins
        {} plugin list",
    flags: &[&[bool(
        "name-only",
        "If true, display only the binary name of each plugin, rather than its full path",
    )]],
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

const PREFIXES: [&str; 2] = ["rctl-", "kubectl-"];

fn executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn directories() -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = Vec::new();
    for dir in std::env::var_os("PATH").iter().flat_map(std::env::split_paths) {
        if !out.contains(&dir) {
            out.push(dir);
        }
    }
    out
}

/// All plugins: the command each provides and its file.
pub fn list() -> Vec<(String, PathBuf)> {
    let mut out: Vec<(String, PathBuf)> = Vec::new();
    for dir in directories() {
        let mut found: Vec<(String, PathBuf)> = std::fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok())
            .filter_map(|e| {
                let name = e.file_name().to_string_lossy().into_owned();
                let plain = PREFIXES.iter().find_map(|p| name.strip_prefix(p))?;
                executable(&e.path()).then(|| (plain.replace('-', " ").replace('_', "-"), e.path()))
            })
            .collect();
        found.sort();
        for (name, path) in found {
            if !out.iter().any(|(n, _)| *n == name) {
                out.push((name, path));
            }
        }
    }
    out
}

async fn run(call: Call) -> Result<()> {
    let found = list();
    if found.is_empty() {
        return Err(Error::new(format!(
            "unable to find any {PROGRAM} plugins in your PATH"
        )));
    }
    crate::outln!("The following compatible plugins are available:\n");
    for (_, path) in found {
        if call.bool("name-only") {
            crate::outln!(
                "{}",
                path.file_name()
                    .map(|n| n.to_string_lossy().into_owned())
                    .unwrap_or_default()
            );
        } else {
            crate::outln!("{}", path.display());
        }
    }
    Ok(())
}

/// Becomes the plugin that the arguments name, the longest name first; returns if there is none.
pub fn execute(args: &[String]) -> Result<()> {
    let words: Vec<String> = args
        .iter()
        .take_while(|a| !a.starts_with('-'))
        .map(|a| a.replace('-', "_"))
        .collect();
    for take in (1..=words.len()).rev() {
        let name = words.get(..take).unwrap_or(&[]).join("-");
        for prefix in PREFIXES {
            for dir in directories() {
                let path = dir.join(format!("{prefix}{name}"));
                if executable(&path) {
                    let error = std::process::Command::new(&path)
                        .args(args.get(take..).unwrap_or(&[]))
                        .exec();
                    return Err(Error::from(error));
                }
            }
        }
    }
    Ok(())
}
