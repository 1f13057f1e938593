//! `rutter-bench check`: concurrent writers, lists at revisions, watches from random revisions, kills and restarts of the server;
//! then everything that was seen must fit.
//!
//! Time is cut into epochs. In each, the server (or its etcd) is killed with SIGKILL once, or several times, and started again; at its end writers pause, watches
//! catch up, and the facts are checked and forgotten.

mod history;
mod people;

use crate::options::{Check, Store, Victim};
use crate::report::say;
use crate::server::{Folder, Running};
use anyhow::Context as _;
use history::{Facts, violations};
use people::Stage;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::time::{Duration, Instant};

/// How long an epoch is.
const EPOCH: Duration = Duration::from_secs(15);
/// Kills in an epoch when their number is given.
const KILLS: usize = 10;
/// How long the server may be up between two of them, in milliseconds.
const UP: std::ops::Range<u64> = 50..500;

/// Checks a server for some minutes, or for so many kills.
pub(crate) async fn check(options: &Check) -> anyhow::Result<()> {
    let seed = options.seed.unwrap_or_else(rand::random);
    say(&format!("seed {seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let folder = Folder::of(options.serve.dir.as_deref())?;
    let mut running = folder.plan(&options.serve).start().await?;
    let stage = Stage::open(&running.access()?).await?;
    let until = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let goes_on = |kills: usize| match options.kills {
        Some(wanted) => kills < wanted,
        None => Instant::now() < until,
    };
    let (mut events, mut writes, mut epoch, mut kills) = (0, 0, 0, 0);
    let mut base = stage.settled().await.context("the first list")?;
    while goes_on(kills) {
        epoch += 1;
        let cast = stage.begin(&base, options.writers, options.watchers, &mut random);
        kills += go_on(&mut running, options, kills, &mut random).await?;
        let facts: Facts = cast.end(&stage).await?;
        let seen: usize = facts.watches.iter().map(|watched| watched.events.len()).sum();
        events += seen;
        writes += facts.writes.len();
        let found = violations(&facts);
        say(&format!(
            "epoch {epoch}: {kills} kills, {} writes ({} without an answer), {} watches with {seen} events, {} lists, {} violations",
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

/// What happens to the server while an epoch's people are at work. Gives the number of kills.
async fn go_on(
    running: &mut Running,
    options: &Check,
    before: usize,
    random: &mut StdRng,
) -> anyhow::Result<usize> {
    if options.serve.store == Store::Memory {
        tokio::time::sleep(EPOCH).await;
        return Ok(0);
    }
    let Some(wanted) = options.kills else {
        tokio::time::sleep(EPOCH.mul_f64(random.random_range(0.2..0.7))).await;
        let away = Duration::from_millis(random.random_range(0..500));
        kill(running, options.kill, away).await?;
        tokio::time::sleep(EPOCH.mul_f64(0.3)).await;
        return Ok(1);
    };
    let kills = wanted.saturating_sub(before).min(KILLS);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(UP))).await;
        kill(running, options.kill, Duration::ZERO).await?;
    }
    tokio::time::sleep(Duration::from_millis(UP.end)).await;
    Ok(kills)
}

/// Kills, and starts again after a while.
async fn kill(running: &mut Running, victim: Victim, away: Duration) -> anyhow::Result<()> {
    match victim {
        Victim::Server => {
            running.kill().await?;
            tokio::time::sleep(away).await;
            running.revive().await.context("the server did not come back")
        }
        Victim::Etcd => {
            running.kill_etcd().await?;
            tokio::time::sleep(away).await;
            running.revive_etcd().await.context("etcd did not come back")
        }
    }
}
