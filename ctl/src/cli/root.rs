//! The tree of commands.

use super::Command;
use crate::cmd;

/// The program.
pub static ROOT: Command = Command {
    name: "",
    subs: &[
        &cmd::api_resources::RESOURCES,
        &cmd::api_resources::VERSIONS,
        &cmd::apply::COMMAND,
        &cmd::config::COMMAND,
        &cmd::create::COMMAND,
        &cmd::delete::COMMAND,
        &cmd::describe::COMMAND,
        &cmd::edit::COMMAND,
        &cmd::get::COMMAND,
        &cmd::logs::COMMAND,
        &cmd::options::COMMAND,
        &cmd::options::HELP,
        &cmd::plugin::COMMAND,
        &cmd::rollout::COMMAND,
        &cmd::scale::COMMAND,
        &cmd::version::COMMAND,
    ],
    ..Command::NEW
};
