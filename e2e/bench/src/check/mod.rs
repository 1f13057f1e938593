//! `rutter-bench check`: concurrent writers, lists at revisions, watches from random revisions, kills and restarts of the server;
//! then everything that was seen must fit.
//!
//! Time is cut into epochs. In each, the server is killed with SIGKILL once and started again; at its end writers pause, watches
//! catch up, and the facts are checked and forgotten.

mod history;
mod people;

use crate::options::Check;
use crate::report::say;
use crate::server::Folder;
use anyhow::Context as _;
use history::{Facts, violations};
use people::Stage;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::time::{Duration, Instant};

/// How long an epoch is.
const EPOCH: Duration = Duration::from_secs(15);

/// Checks a server for some minutes.
pub(crate) async fn check(options: &Check) -> anyhow::Result<()> {
    let seed = options.seed.unwrap_or_else(rand::random);
    say(&format!("seed {seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let folder = Folder::of(options.serve.dir.as_deref())?;
    let mut running = folder.plan(&options.serve).start().await?;
    let stage = Stage::open(&running.access()?).await?;
    let until = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let survives = options.serve.store != crate::options::Store::Memory;
    let (mut events, mut writes, mut epoch, mut kills) = (0, 0, 0, 0);
    let mut base = stage.settled().await.context("the first list")?;
    while Instant::now() < until {
        epoch += 1;
        let cast = stage.begin(&base, options.writers, options.watchers, &mut random);
        if survives {
            tokio::time::sleep(EPOCH.mul_f64(random.random_range(0.2..0.7))).await;
            running.kill().await?;
            kills += 1;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
            running.revive().await.context("the server did not come back")?;
            tokio::time::sleep(EPOCH.mul_f64(0.3)).await;
        } else {
            tokio::time::sleep(EPOCH).await;
        }
        let facts: Facts = cast.end(&stage).await?;
        let seen: usize = facts.watches.iter().map(|watched| watched.events.len()).sum();
        events += seen;
        writes += facts.writes.len();
        let found = violations(&facts);
        say(&format!(
            "epoch {epoch}: {} writes ({} without an answer), {} watches with {seen} events, {} lists, {} violations",
            facts.writes.len(),
            facts.writes.iter().filter(|write| !write.acknowledged).count(),
            facts.watches.len(),
            facts.lists.len(),
            found.len()
        ));
        if !found.is_empty() {
            for violation in &found {
                println!("{violation}");
            }
            anyhow::bail!("{} violations in epoch {epoch} of seed {seed}", found.len());
        }
        base = facts
            .lists
            .into_iter()
            .max_by_key(|list| list.revision)
            .unwrap_or(base);
    }
    println!(
        "{epoch} epochs, {kills} kills: {writes} writes and {events} watch events, nothing lost, repeated or reordered"
    );
    Ok(())
}
