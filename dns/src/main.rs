//! Cluster DNS.

use clap::Parser as _;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    rutter_dns::run(rutter_dns::Options::parse()).await
}
