//! Runs the end-to-end tests: brings clusters up from built programs, does what a person would do, and checks what they would see.
//!
//! Each scenario is a list of steps that print what they do and how long they took. The first failure ends a scenario with its reason and
//! the state of the cluster; the cluster is taken down in any case.

mod cluster;
mod load;
mod plain_http;
mod report;
mod scenarios;
mod tool;

use clap::Parser;
use cluster::Cluster;
use report::say;
use scenarios::{Group, Stage};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

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

fn main() -> ExitCode {
    let options = Options::parse();
    let began = Instant::now();
    let (mut passed, mut failed) = (0, Vec::new());
    for group in scenarios::ALL {
        run(group, &options, &mut passed, &mut failed);
    }
    say(&format!(
        "{passed} passed, {} failed ({:.0} s)",
        failed.len(),
        began.elapsed().as_secs_f64()
    ));
    for Failure { name, reason } in &failed {
        say(&format!("FAILED: {name}: {reason}"));
    }
    if failed.is_empty() && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What failed and why. Told again at the very end, where a reader of a long log looks first.
struct Failure {
    name: &'static str,
    reason: String,
}

impl Failure {
    fn told(name: &'static str, reason: String) -> Self {
        say(&format!("--- FAILED: {name}: {reason}"));
        Self { name, reason }
    }
}

/// Runs the wanted scenarios of a group on one stage.
fn run(group: &Group, options: &Options, passed: &mut usize, failed: &mut Vec<Failure>) {
    let wanted: Vec<_> = group
        .scenarios
        .iter()
        .filter(|scenario| scenario.name.contains(&options.only))
        .collect();
    if wanted.is_empty() {
        return;
    }
    say(&format!("=== {}", group.name));
    let cluster = match group.stage {
        Stage::Programs => None,
        Stage::Cluster { nodes, flags } => match Cluster::up(&options.bin, nodes, flags) {
            Ok(cluster) => Some(cluster),
            Err(error) => {
                return failed.push(Failure::told(group.name, format!("{error:#}")));
            }
        },
    };
    for scenario in wanted {
        say(&format!("--- {}", scenario.name));
        let began = Instant::now();
        let outcome = match (&scenario.run, &cluster) {
            (scenarios::Run::OnCluster(run), Some(cluster)) => {
                run(cluster).inspect_err(|_| cluster.show_state())
            }
            (scenarios::Run::OfPrograms(run), _) => run(&options.bin),
            (scenarios::Run::OnCluster(_), None) => Err(anyhow::anyhow!("it needs a cluster")),
        };
        let seconds = began.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                *passed += 1;
                say(&format!("--- passed: {} ({seconds:.1} s)", scenario.name));
            }
            Err(error) => {
                failed.push(Failure::told(
                    scenario.name,
                    format!("{error:#} ({seconds:.1} s)"),
                ));
            }
        }
    }
    let Some(cluster) = cluster else { return };
    if options.keep {
        cluster.keep();
    } else if let Err(error) = step_down(&cluster) {
        failed.push(Failure::told(group.name, format!("{error:#}")));
    }
}

fn step_down(cluster: &Cluster) -> anyhow::Result<()> {
    report::step("the cluster is down", || cluster.down())
}
