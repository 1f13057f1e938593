//! The Kubernetes controllers.

use clap::Parser as _;
use rutter_controller_manager::{options::Options, run};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let options = Options::parse();
    rutter_client::component::init_logging(&options.log);
    match run::run(options).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
