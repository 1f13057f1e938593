//! `rutter-bench`: loads an API server, compares it with others, and checks that what it tells is consistent.
//!
//! Requests are encoded before they are timed and answers are counted, not parsed, so that on shared cores the load costs far less
//! than serving it. What it reports is what it saw: errors, short lists and lost watch events are counted and end it with a failure.

// A benchmark's table is its output.
#![allow(clippy::print_stdout)]

mod access;
mod check;
mod objects;
mod options;
mod record;
mod report;
mod run;
mod server;
mod usage;
mod wire;
mod workloads;

use clap::Parser as _;
use options::{Command, Options};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut builder = match options.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        many => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(many);
            builder
        }
    };
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async {
        match options.command {
            Command::Run(options) => run::run(&options).await,
            Command::Serve(options) => server::serve(&options).await,
            Command::Check(options) => check::check(&options).await,
        }
    })
}
