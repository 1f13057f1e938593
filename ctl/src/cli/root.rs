//! The tree of commands.

use super::Command;
use crate::cmd;

/// The program.
pub static ROOT: Command = Command {
    name: "",
    subs: &[
        &cmd::auth::COMMAND,
        &cmd::certificate::COMMAND,
        &cmd::cluster_info::COMMAND,
        &cmd::drain::CORDON,
        &cmd::drain::UNCORDON,
        &cmd::drain::DRAIN,
        &cmd::events::COMMAND,
        &cmd::explain::COMMAND,
        &cmd::taint::COMMAND,
        &cmd::top::COMMAND,
        &cmd::label::ANNOTATE,
        &cmd::label::LABEL,
        &cmd::attach::COMMAND,
        &cmd::autoscale::COMMAND,
        &cmd::cp::COMMAND,
        &cmd::exec::COMMAND,
        &cmd::expose::COMMAND,
        &cmd::patch::COMMAND,
        &cmd::port_forward::COMMAND,
        &cmd::replace::COMMAND,
        &cmd::run::COMMAND,
        &cmd::set::COMMAND,
        &cmd::wait::COMMAND,
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
