//! The Kubernetes API server.

mod allocator;

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    let options = rutter_apiserver::options::Options::parse();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(rutter_apiserver::run::run(options))
}
