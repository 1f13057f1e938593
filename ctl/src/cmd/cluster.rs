//! Mounts `rctl cluster`, whose arguments are a program's own.

use crate::cli::{Call, Command, PROGRAM};
use crate::cluster::ClusterArgs;
use crate::error::{Error, Result};
use clap::{Args, FromArgMatches};

/// The command.
pub static COMMAND: Command = Command {
    name: "cluster",
    short: "Create, show and remove a cluster of node sandboxes on this machine",
    raw: true,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    let command =
        ClusterArgs::augment_args(clap::Command::new("cluster").bin_name(format!("{PROGRAM} cluster")));
    let mut words = vec!["cluster".to_owned()];
    words.extend(call.args);
    let parsed = command
        .try_get_matches_from(words)
        .and_then(|m| ClusterArgs::from_arg_matches(&m));
    let args = match parsed {
        Ok(args) => args,
        Err(e) if e.use_stderr() => return Err(Error::Code(e.exit_code(), e.render().to_string())),
        Err(e) => {
            crate::out::print(&e.render().to_string());
            return Ok(());
        }
    };
    crate::cluster::run(args)
        .await
        .map_err(|e| Error::Plain(format!("{e:#}")))
}
