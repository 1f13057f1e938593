//! The pod network's agent on a node.

use clap::Parser as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    rutter_proxy::network::run(rutter_proxy::network::Options::parse()).await
}
