//! `describe`.
use crate::cli::Command;
/// The command.
pub static COMMAND: Command = Command { name: "describe", ..Command::NEW };
