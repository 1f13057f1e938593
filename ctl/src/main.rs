//! rctl: the command line of the cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    rutter_ctl::main(
        std::env::args_os()
            .map(|a| a.to_string_lossy().into_owned())
            .collect(),
    )
}
