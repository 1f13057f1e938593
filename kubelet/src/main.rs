//! The node agent.

use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    rutter_kubelet::run(rutter_kubelet::Flags::parse()).await
}
