//! The Service proxy on a node.

use clap::Parser as _;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    rutter_proxy::run::run(rutter_proxy::run::Options::parse()).await
}
