//! Runs the end-to-end tests: brings a cluster up from built programs, does what a person would do, and checks what they would see.
//!
//! Each scenario is a list of steps that print what they do. The first failure ends the run with its reason, the state of the cluster and the
//! logs, and the cluster is taken down in any case.

mod cluster;
mod scenarios;

use clap::Parser;
use std::path::PathBuf;

/// Flags of the end-to-end tests.
#[derive(Debug, Parser)]
struct Options {
    /// The folder of the built programs.
    #[arg(long, value_name = "DIR")]
    bin: PathBuf,
    /// Run only scenarios whose names contain this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Leave the last cluster up.
    #[arg(long)]
    keep: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut failed = Vec::new();
    let mut passed = 0;
    for scenario in scenarios::ALL.iter().filter(|s| s.name.contains(&options.only)) {
        cluster::say(&format!("=== {}", scenario.name));
        let began = std::time::Instant::now();
        match cluster::with(
            &options.bin,
            scenario.nodes,
            scenario.flags,
            options.keep,
            scenario.run,
        ) {
            Ok(()) => {
                passed += 1;
                cluster::say(&format!(
                    "--- passed: {} ({:.1} s)",
                    scenario.name,
                    began.elapsed().as_secs_f64()
                ));
            }
            Err(error) => {
                cluster::say(&format!("--- FAILED: {}: {error:#}", scenario.name));
                failed.push(scenario.name);
            }
        }
    }
    cluster::say(&format!("{passed} passed, {} failed", failed.len()));
    anyhow::ensure!(
        failed.is_empty() && passed > 0,
        "end-to-end tests failed: {}",
        failed.join("; ")
    );
    Ok(())
}
