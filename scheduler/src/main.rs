//! The Kubernetes scheduler.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    rutter_scheduler::run(rutter_scheduler::Args::parse()).await
}
