//! `options` and `help`: the pages about flags and commands.

use crate::cli::{Command, help, parse, root};
use crate::error::Error;

/// `options`
pub static COMMAND: Command = Command {
    name: "options",
    short: "Print the list of flags inherited by all commands",
    hidden: true,
    run: Some(|_| {
        Box::pin(async {
            crate::out::print(&help::options());
            Ok(())
        })
    }),
    ..Command::NEW
};

/// `help`
pub static HELP: Command = Command {
    name: "help",
    short: "Help about any command",
    usage: "[command]",
    hidden: true,
    run: Some(|c| {
        Box::pin(async move {
            let (path, rest) = parse::find(&root::ROOT, crate::cli::flags::GLOBAL, &c.args);
            if let Some(word) = rest.first() {
                return Err(Error::new(format!("unknown help topic {word:?}")));
            }
            match path.as_slice() {
                [_, .., last] => {
                    let name = path.iter().skip(1).map(|c| c.name).collect::<Vec<_>>().join(" ");
                    crate::out::print(&help::page(last, &name));
                }
                _ => crate::out::print(&help::root(&root::ROOT)),
            }
            Ok(())
        })
    }),
    ..Command::NEW
};
