//! Acknowledged is durable: writers, watchers and lists while what keeps the objects is killed over and over.
//!
//! The work is `rutter-bench check`'s: what each writer was told, each watch delivered and each list showed must be one history.

use crate::report::{say, step};
use anyhow::{Context as _, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// The API server on its embedded store.
pub(super) fn server(bin: &Path) -> anyhow::Result<()> {
    check(bin, &["--store=embedded", "--kill=server", "--kills=100"])
}

/// etcd, while the API server stays.
pub(super) fn etcd(bin: &Path) -> anyhow::Result<()> {
    check(bin, &["--store=etcd", "--kill=etcd", "--kills=25"])
}

fn check(bin: &Path, flags: &[&str]) -> anyhow::Result<()> {
    let program = bin.join("rutter-bench");
    let output = step("writers, watchers and lists", || {
        Command::new(&program)
            .arg("check")
            .arg("--binary")
            .arg(bin.join("rutter-apiserver"))
            .args(["--writers=6", "--watchers=6"])
            .args(flags)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("starting {}", program.display()))
    })?;
    let (told, progress) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "{progress}\n{told}");
    say(&format!("  {}", told.trim()));
    Ok(())
}
